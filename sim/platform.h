/* platform.h: the platform of one simulation as a file in memory. It has a path that SimGrid can
 * open, also in a forked child, and needs no folder to write to; a process that is killed leaves
 * nothing behind. */
#ifndef TDM_PLATFORM_H
#define TDM_PLATFORM_H

#include "sites.h"

typedef struct tdm_platform {
    int fd;
    char path[32]; /* valid in this process and its children until closed */
} tdm_platform;

enum { TDM_HOST_NAME_SIZE = 32 };

/* The host on which actors sleep, the two hosts of a site (to: 0 or 1), and the link that limits
 * its flow. */
#define TDM_HOME_HOST "home"
void tdm_site_host_name(uint32_t site, int to, char name[TDM_HOST_NAME_SIZE]);
void tdm_site_limit_name(uint32_t site, char name[TDM_HOST_NAME_SIZE]);

tdm_code tdm_platform_open(const tdm_sites *sites, tdm_platform *platform, tdm_error *err);
/* The same in a file, written whole or not at all. */
tdm_code tdm_platform_write(const tdm_sites *sites, const char *path, tdm_error *err);
void tdm_platform_close(tdm_platform *platform);

#endif
