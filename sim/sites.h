/* sites.h: where flows run in the simulation. Each flow of a communicator crosses the links of its
 * path between two hosts of its own, behind a link of its own that limits it: SimGrid's C API can
 * move bytes only over the route between two hosts, and limits a flow only by links. A communicator
 * has one operation under way at a time, so nothing else crosses the limiting link. */
#ifndef TDM_SIM_SITES_H
#define TDM_SIM_SITES_H

#include "core/engine.h"

typedef struct tdm_site {
    uint64_t communicator;
    uint32_t path; /* of the net */
    bool limited;  /* some flow has a limit */
} tdm_site;

typedef struct tdm_sites {
    const tdm_net *net;
    uint32_t n, capacity;
    tdm_site *items; /* [n] */
    uint32_t *slots; /* [n_slots] number + 1, open addressing */
    uint32_t n_slots;
    uint32_t max_flows; /* of one operation */
} tdm_sites;

/* Lists the sites of all communication of the plan. Fails when two ranks that must talk are not
 * joined, naming the op, or NCCL has no way to carry one out. */
tdm_code tdm_sites_list(tdm_arena *arena, const tdm_plan *plan, tdm_net *net, tdm_sites *sites,
                        tdm_error *err);
/* The site of a communicator's flow; UINT32_MAX: there is none. */
uint32_t tdm_sites_find(const tdm_sites *sites, uint64_t communicator, uint32_t path);

#endif
