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

tdm_code tdm_platform_open(const tdm_topology *topology, tdm_platform *platform, tdm_error *err);
void tdm_platform_close(tdm_platform *platform);

#endif
