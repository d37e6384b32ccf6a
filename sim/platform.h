/* platform.h: the platform of one simulation as a file in memory. It has a path that SimGrid can
 * open, also in a forked child, and needs no folder to write to; a process that is killed leaves
 * nothing behind. */
#ifndef TDM_PLATFORM_H
#define TDM_PLATFORM_H

#include "core/topology.h"

typedef struct tdm_platform {
    int fd;
    char path[32]; /* valid in this process and its children until closed */
} tdm_platform;

/* Hosts: where flows begin and end. Where all contention is at the GPUs' own ports, a GPU has one
 * in every plane, number plane * n_gpus + GPU; elsewhere it has one, number GPU. */
typedef struct tdm_hosts {
    const tdm_topology *topology;
    bool ports; /* tdm_topology_has_ports_only, and every GPU has one */
    uint32_t n; /* numbers below this; not every number has a host */
} tdm_hosts;

enum { TDM_HOST_NAME_SIZE = 64 };

tdm_hosts tdm_hosts_of(const tdm_topology *topology);
/* Writes the host's name [TDM_HOST_NAME_SIZE]; false when there is no host of that number. */
bool tdm_host_name(const tdm_hosts *hosts, uint32_t host, char *name);
/* The hosts that a flow from GPU src to GPU dst runs between; false when no route joins the two. */
bool tdm_host_ends(const tdm_hosts *hosts, uint32_t src, uint32_t dst, uint32_t *from,
                   uint32_t *to);

tdm_code tdm_platform_open(const tdm_topology *topology, tdm_platform *platform, tdm_error *err);
void tdm_platform_close(tdm_platform *platform);

#endif
