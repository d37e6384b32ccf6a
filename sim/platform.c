/* platform.c: the topology as a SimGrid 4.1 platform. Plain text output, no SimGrid needed.
 * Links have no latency: CM02 shares a link inversely to route latency, which hardware does not do,
 * so latencies are slept by the engine. A plane of depth 1 becomes a Cluster zone, where routes
 * follow from the hosts' links: its size grows with the GPUs, not with their pairs. A flow knows
 * its plane, so a GPU has a host in each. Deeper trees become a Full zone with explicit routes. */
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

/* Whether the GPU hangs on something in some plane. */
static bool has_port(const tdm_topology *topology, uint32_t gpu)
{
    for (uint32_t p = 0; p < topology->n_planes; p++)
        if (topology->planes[p].parent[gpu] >= 0)
            return true;
    return false;
}

tdm_hosts tdm_hosts_of(const tdm_topology *topology)
{
    bool ports = tdm_topology_has_ports_only(topology);
    for (uint32_t g = 0; g < topology->n_gpus && ports; g++)
        ports = has_port(topology, g);
    return (tdm_hosts){topology, ports, topology->n_gpus * (ports ? topology->n_planes : 1)};
}

bool tdm_host_name(const tdm_hosts *hosts, uint32_t host, char *name)
{
    const tdm_topology *topology = hosts->topology;
    uint32_t gpu = host % topology->n_gpus;
    const tdm_plane *plane = hosts->ports ? &topology->planes[host / topology->n_gpus] : NULL;
    if (plane && topology->n_planes > 1)
        snprintf(name, TDM_HOST_NAME_SIZE, "gpu-%" PRIu32 "-%.40s", gpu, plane->name);
    else
        snprintf(name, TDM_HOST_NAME_SIZE, "gpu-%" PRIu32, gpu);
    return tdm_topology_folded_gpu(topology, gpu) == gpu && (!plane || plane->parent[gpu] >= 0);
}

bool tdm_host_ends(const tdm_hosts *hosts, uint32_t src, uint32_t dst, uint32_t *from, uint32_t *to)
{
    const tdm_topology *topology = hosts->topology;
    tdm_route route;
    if (!tdm_topology_route(topology, src, dst, &route))
        return false;
    uint32_t first = hosts->ports ? route.plane * topology->n_gpus : 0;
    *from = first + tdm_topology_folded_gpu(topology, src);
    *to = first + tdm_topology_folded_gpu(topology, dst);
    return true;
}

static void write_host(const tdm_hosts *hosts, uint32_t host, FILE *file)
{
    char name[TDM_HOST_NAME_SIZE];
    /* The speed is never used: the engine sleeps what the cost model says. */
    if (tdm_host_name(hosts, host, name))
        fprintf(file, "    <host id=\"%s\" speed=\"1Gf\"/>\n", name);
}

static void write_link(const tdm_topology *topology, uint32_t link, FILE *file)
{
    fprintf(file, "    <link id=\"%s\" bandwidth=\"%.17gBps\" latency=\"0s\"/>\n",
            topology->links[link].name, topology->links[link].bytes_per_s);
}

/* A plane of ports. */
static void write_cluster(const tdm_hosts *hosts, uint32_t p, FILE *file)
{
    const tdm_topology *topology = hosts->topology;
    const tdm_plane *plane = &topology->planes[p];
    uint32_t first = p * topology->n_gpus;
    char name[TDM_HOST_NAME_SIZE];
    fprintf(file, "  <zone id=\"%s\" routing=\"Cluster\">\n", plane->name);
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        write_host(hosts, first + g, file);
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        if (tdm_host_name(hosts, first + g, name)) {
            write_link(topology, plane->up[g], file);
            write_link(topology, plane->down[g], file);
        }
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        if (tdm_host_name(hosts, first + g, name))
            fprintf(file, "    <host_link id=\"%s\" up=\"%s\" down=\"%s\"/>\n", name,
                    topology->links[plane->up[g]].name, topology->links[plane->down[g]].name);
    fprintf(file, "  </zone>\n");
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

/* GPUs with inner links between them, or with none at all: stages of given pass times, whose
 * transfers take a given time. */
static tdm_code write_full(const tdm_hosts *hosts, FILE *file, tdm_error *err)
{
    const tdm_topology *topology = hosts->topology;
    fprintf(file, "  <zone id=\"fabric\" routing=\"Full\">\n");
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        write_host(hosts, g, file);
    for (uint32_t l = 0; l < topology->n_links; l++)
        write_link(topology, l, file);
    tdm_code code = topology->n_planes > 0 ? write_routes(topology, file, err) : TDM_OK;
    fprintf(file, "  </zone>\n");
    return code;
}

static tdm_code write_platform(const tdm_topology *topology, FILE *file, tdm_error *err)
{
    tdm_hosts hosts = tdm_hosts_of(topology);
    tdm_code code = TDM_OK;
    fprintf(file,
            "<?xml version=\"1.0\"?>\n"
            "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n"
            "<!-- %s: latencies are not in here, the engine adds them -->\n"
            "<platform version=\"4.1\">\n",
            topology->name);
    bool several = hosts.ports && topology->n_planes > 1;
    if (several)
        fprintf(file, "  <zone id=\"fabric\" routing=\"Full\">\n");
    for (uint32_t p = 0; hosts.ports && p < topology->n_planes; p++)
        write_cluster(&hosts, p, file);
    if (!hosts.ports)
        code = write_full(&hosts, file, err);
    if (several)
        fprintf(file, "  </zone>\n");
    fprintf(file, "</platform>\n");
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
