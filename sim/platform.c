/* platform.c: the sites of a plan as a SimGrid 4.1 platform. Plain text output, no SimGrid needed.
 * Links have no latency: CM02 shares a link inversely to route latency, which hardware does not do,
 * so latencies are slept by the engine. Every site has a route of its own between its two hosts,
 * over the links of its path; sites are gathered in zones, because a zone keeps a table of all
 * pairs of its hosts and every zone has a price: with 6,000 sites 1, 8, 32 and 128 of them in a
 * zone load in 1.6, 0.5, 0.3 and 0.4 s (SimGrid 3.32). */
#define _GNU_SOURCE /* memfd_create */
#include "sim/platform.h"
#include "sim/sim.h"

#include "core/fold.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SITES_OF_ZONE = 32 };

void tdm_site_host_name(uint32_t site, int to, char name[TDM_HOST_NAME_SIZE])
{
    snprintf(name, TDM_HOST_NAME_SIZE, "site-%" PRIu32 "-%s", site, to ? "to" : "from");
}

void tdm_site_limit_name(uint32_t site, char name[TDM_HOST_NAME_SIZE])
{
    snprintf(name, TDM_HOST_NAME_SIZE, "site-%" PRIu32 "-limit", site);
}

/* The speed is never used: the engine sleeps what the cost model says. */
static void write_host(const char *name, FILE *file)
{
    fprintf(file, "    <host id=\"%s\" speed=\"1Gf\"/>\n", name);
}

static void write_link(const char *name, double bytes_per_s, FILE *file)
{
    fprintf(file, "    <link id=\"%s\" bandwidth=\"%.17gBps\" latency=\"0s\"/>\n", name,
            bytes_per_s);
}

/* The links that some site crosses. */
static tdm_code write_links(const tdm_sites *sites, FILE *file, tdm_error *err)
{
    const tdm_topology *topology = tdm_net_topology(sites->net);
    bool *used = calloc(topology->n_links + 1, sizeof *used);
    if (!used)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    for (uint32_t i = 0; i < sites->n; i++) {
        const tdm_path *path = tdm_net_path(sites->net, sites->items[i].path);
        for (uint32_t l = 0; l < path->n_links; l++)
            used[path->links[l]] = true;
    }
    fprintf(file, "  <zone id=\"links\" routing=\"None\">\n");
    for (uint32_t l = 0; l < topology->n_links; l++)
        if (used[l])
            write_link(topology->links[l].name, topology->links[l].bytes_per_s, file);
    write_host(TDM_HOME_HOST, file);
    fprintf(file, "  </zone>\n");
    free(used);
    return TDM_OK;
}

static void write_route(const tdm_sites *sites, uint32_t site, FILE *file)
{
    const tdm_topology *topology = tdm_net_topology(sites->net);
    const tdm_path *path = tdm_net_path(sites->net, sites->items[site].path);
    char from[TDM_HOST_NAME_SIZE], to[TDM_HOST_NAME_SIZE], limit[TDM_HOST_NAME_SIZE];
    tdm_site_host_name(site, 0, from);
    tdm_site_host_name(site, 1, to);
    tdm_site_limit_name(site, limit);
    fprintf(file, "    <route src=\"%s\" dst=\"%s\" symmetrical=\"NO\">", from, to);
    if (sites->items[site].limited)
        fprintf(file, "<link_ctn id=\"%s\"/>", limit);
    for (uint32_t l = 0; l < path->n_links; l++)
        fprintf(file, "<link_ctn id=\"%s\"/>", topology->links[path->links[l]].name);
    fprintf(file, "</route>\n");
}

static void write_zone(const tdm_sites *sites, uint32_t first, uint32_t end, FILE *file)
{
    char name[TDM_HOST_NAME_SIZE];
    fprintf(file, "  <zone id=\"sites-%" PRIu32 "\" routing=\"Full\">\n", first);
    for (uint32_t i = first; i < end; i++)
        for (int to = 0; to < 2; to++) {
            tdm_site_host_name(i, to, name);
            write_host(name, file);
        }
    for (uint32_t i = first; i < end; i++) {
        tdm_site_limit_name(i, name);
        if (sites->items[i].limited) /* every flow sets it before it starts */
            write_link(name, 1e9, file);
    }
    for (uint32_t i = first; i < end; i++)
        write_route(sites, i, file);
    fprintf(file, "  </zone>\n");
}

static tdm_code write_platform(const tdm_sites *sites, FILE *file, tdm_error *err)
{
    fprintf(file,
            "<?xml version=\"1.0\"?>\n"
            "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n"
            "<!-- %s: latencies are not in here, the engine adds them -->\n"
            "<platform version=\"4.1\">\n"
            " <zone id=\"all\" routing=\"None\">\n",
            tdm_net_topology(sites->net)->name);
    tdm_code code = write_links(sites, file, err);
    for (uint32_t first = 0; first < sites->n; first += SITES_OF_ZONE)
        write_zone(sites, first,
                   sites->n - first < SITES_OF_ZONE ? sites->n : first + SITES_OF_ZONE, file);
    fprintf(file, " </zone>\n</platform>\n");
    return code;
}

tdm_code tdm_platform_write(const tdm_sites *sites, const char *path, tdm_error *err)
{
    size_t size = strlen(path) + sizeof ".tmp";
    char *temporary = malloc(size);
    if (!temporary)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", path);
    snprintf(temporary, size, "%s.tmp", path);
    FILE *file = fopen(temporary, "w");
    if (!file) {
        tdm_code code = tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", temporary, strerror(errno));
        free(temporary);
        return code;
    }
    tdm_code code = write_platform(sites, file, err);
    int failed = ferror(file);
    if ((fclose(file) != 0 || failed) && code == TDM_OK)
        code = tdm_error_add(err, TDM_E_INTERNAL, "%s: could not be written: %s", temporary,
                             strerror(errno));
    if (code == TDM_OK && rename(temporary, path) != 0)
        code = tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    if (code != TDM_OK)
        remove(temporary);
    free(temporary);
    return code;
}

tdm_code tdm_platform_open(const tdm_sites *sites, tdm_platform *platform, tdm_error *err)
{
    int fd = memfd_create("tandem-platform", MFD_CLOEXEC);
    int copy = fd < 0 ? -1 : dup(fd); /* closing the stream closes one of them */
    FILE *file = copy < 0 ? NULL : fdopen(copy, "w");
    tdm_code code = TDM_OK;
    if (file)
        code = write_platform(sites, file, err);
    bool failed = !file || ferror(file) != 0;
    if (file ? fclose(file) != 0 : copy >= 0 && close(copy) != 0)
        failed = true;
    if (failed && code == TDM_OK)
        code =
            tdm_error_add(err, TDM_E_INTERNAL, "platform for the simulation: %s", strerror(errno));
    if (code == TDM_OK) {
        platform->fd = fd;
        snprintf(platform->path, sizeof platform->path, "/proc/self/fd/%d", fd);
    } else if (fd >= 0) {
        close(fd);
    }
    return code;
}

void tdm_platform_close(tdm_platform *platform)
{
    close(platform->fd);
    platform->fd = -1;
}

tdm_code tdm_sim_write_platform(const tdm_plan *plan, const tdm_topology *topology,
                                const char *path, tdm_error *err)
{
    tdm_arena scratch = {0};
    tdm_topology folded;
    tdm_sites sites;
    tdm_code code = tdm_topology_fold(&scratch, topology, &plan->mesh, &folded, err);
    if (code == TDM_OK)
        code = tdm_sites_list(&scratch, plan, tdm_net_new(&scratch, &folded), &sites, err);
    if (code == TDM_OK)
        code = tdm_platform_write(&sites, path, err);
    tdm_arena_free(&scratch);
    return code;
}
