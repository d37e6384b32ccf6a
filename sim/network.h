/* network.h: transfers of flows over the simulated links. Only network.c and simgrid_api.c see
 * SimGrid.
 *
 * SimGrid has one engine per process and cannot be restarted, so a network is opened once, in a
 * child process of its own (child.h). SimGrid reports bad input by aborting. */
#ifndef TDM_SIM_NETWORK_H
#define TDM_SIM_NETWORK_H

#include "platform.h"

typedef struct tdm_network tdm_network;

/* A flow on a site of the platform. */
typedef struct tdm_site_flow {
    uint32_t site;
    uint64_t bytes;         /* whole bytes: SimGrid truncates */
    double max_bytes_per_s; /* INFINITY: none */
} tdm_site_flow;

/* Called in simulated time when all flows of a transfer have ended; may start other transfers. */
typedef void tdm_network_ended(void *context, void *transfer, double end_s);

/* Flows that can be under way at the same time: each is an actor, whose stack takes two of the
 * 65,530 memory maps of a process. Source: vm.max_map_count, Linux; 32,000 measured to run, 34,000
 * to abort. */
enum { TDM_NETWORK_MAX_FLOWS = 32000 };

/* Loads the platform of the sites. The caller has seen tdm_simgrid_open succeed. */
tdm_network *tdm_network_open(tdm_arena *arena, const char *platform_path, const tdm_sites *sites);

/* Lets the flows [n_flows] start together at begin_s, or now if that has passed; with no flows the
 * transfer ends as it begins. `transfer` comes back in the ended call. */
void tdm_network_transfer(tdm_network *network, const tdm_site_flow *flows, uint32_t n_flows,
                          double begin_s, void *transfer);

/* Simulated time. */
double tdm_network_now_s(void);

/* Runs until nothing can happen any more. */
void tdm_network_run(tdm_network *network, tdm_network_ended *ended, void *context);

#endif
