/* platform.c: the topology as a SimGrid 4.1 platform. Plain text output, no SimGrid needed.
 * Links have no latency: CM02 shares a link inversely to route latency, which hardware does not do,
 * so latencies are slept by the engine. One switch becomes a Cluster zone (routes follow from the
 * hosts' links, loads in linear time); everything else a Full zone with explicit routes. */
#define _GNU_SOURCE /* memfd_create */
#include "sim/platform.h"
#include "sim/sim.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_links(const tdm_topology *topology, FILE *file)
{
    for (uint32_t l = 0; l < topology->n_links; l++)
        fprintf(file, "    <link id=\"%s\" bandwidth=\"%.17gBps\" latency=\"0s\"/>\n",
                topology->links[l].name, topology->links[l].bytes_per_s);
}

static void write_hosts(const tdm_topology *topology, FILE *file)
{
    /* The speed is never used: the engine sleeps what the cost model says. */
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        fprintf(file, "    <host id=\"gpu-%" PRIu32 "\" speed=\"1Gf\"/>\n", g);
}

static void write_host_links(const tdm_topology *topology, FILE *file)
{
    const tdm_plane *plane = &topology->planes[0];
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        fprintf(file, "    <host_link id=\"gpu-%" PRIu32 "\" up=\"%s\" down=\"%s\"/>\n", g,
                topology->links[plane->up[g]].name, topology->links[plane->down[g]].name);
}

static tdm_code write_routes(const tdm_topology *topology, FILE *file, tdm_error *err)
{
    for (uint32_t src = 0; src < topology->n_gpus; src++)
        for (uint32_t dst = 0; dst < topology->n_gpus; dst++) {
            if (src == dst)
                continue;
            tdm_route route;
            if (!tdm_topology_route(topology, src, dst, &route))
                return tdm_error_add(err, TDM_E_INVALID,
                                     "topology %s: GPU %" PRIu32 " has no route to GPU %" PRIu32,
                                     topology->name, src, dst);
            fprintf(file,
                    "    <route src=\"gpu-%" PRIu32 "\" dst=\"gpu-%" PRIu32
                    "\" symmetrical=\"NO\">",
                    src, dst);
            for (uint32_t l = 0; l < route.n_links; l++)
                fprintf(file, "<link_ctn id=\"%s\"/>", topology->links[route.links[l]].name);
            fprintf(file, "</route>\n");
        }
    return TDM_OK;
}

static tdm_code write_platform(const tdm_topology *topology, FILE *file, tdm_error *err)
{
    bool single = topology->n_gpus > 1 && tdm_topology_is_single_switch(topology);
    fprintf(file,
            "<?xml version=\"1.0\"?>\n"
            "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n"
            "<!-- %s: latencies are not in here, the engine adds them -->\n"
            "<platform version=\"4.1\">\n"
            "  <zone id=\"fabric\" routing=\"%s\">\n",
            topology->name, single ? "Cluster" : "Full");
    write_hosts(topology, file);
    write_links(topology, file);
    if (single)
        write_host_links(topology, file);
    /* Stages of given pass times have no links: their transfers take a given time. */
    bool linked = topology->n_planes > 0;
    tdm_code code = single || !linked ? TDM_OK : write_routes(topology, file, err);
    fprintf(file, "  </zone>\n</platform>\n");
    return code;
}

tdm_code tdm_sim_write_platform(const tdm_topology *topology, const char *path, tdm_error *err)
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
    tdm_code code = write_platform(topology, file, err);
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

tdm_code tdm_platform_open(const tdm_topology *topology, tdm_platform *platform, tdm_error *err)
{
    int fd = memfd_create("tandem-platform", MFD_CLOEXEC);
    int copy = fd < 0 ? -1 : dup(fd); /* closing the stream closes one of them */
    FILE *file = copy < 0 ? NULL : fdopen(copy, "w");
    tdm_code code = TDM_OK;
    if (file)
        code = write_platform(topology, file, err);
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
