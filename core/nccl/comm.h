/* comm.h: a communicator as NCCL sets it up: nodes, channels found by search, and how many of them
 * it will use. */
#ifndef TDM_NCCL_COMM_H
#define TDM_NCCL_COMM_H

#include "core/nccl/search.h"
#include "core/nccl/settings.h"
#include "core/nccl/site.h"

/* One node of a communicator: what its ways are made of. */
typedef struct tdm_nccl_place {
    tdm_nccl_view view;
    tdm_nccl_graph ring, tree, nvls; /* as found on this node */
    const uint32_t *members;         /* [GPUs of the view] numbers within the communicator */
} tdm_nccl_place;

typedef struct tdm_nccl_comm {
    const char *name; /* of the machine */
    const tdm_graph *graph;
    const tdm_nccl_place *places; /* [n_nodes], by their first rank */
    uint32_t n_ranks, n_nodes;
    uint32_t min_local, max_local; /* ranks of a node */
    uint32_t min_sm, max_sm;
    tdm_cpu_vendor vendor; /* UNKNOWN also when they differ */
    bool has_multicast;    /* NVLS can be used */
    tdm_nccl_graph ring, tree, nvls;
    uint32_t n_channels, nvls_channels;
    uint32_t p2p_channels, p2p_per_peer;
    /* For sends and receives, GB/s: between the slowest pair of a node; of all pairs of a node at
     * once, per GPU; from a GPU into the network with all GPUs sending. 0: there are none. */
    double pair_bw, all_pairs_bw, network_bw;
    double network_latency_us;
    tdm_nccl_reach local_reach;
    tdm_nccl_settings settings;
    const tdm_nccl_site *site; /* set by the caller; NULL: nothing was measured */
    /* Filled by tuning: GB/s (0: not available) and us. */
    double bw[TDM_NCCL_N_TUNED][TDM_NCCL_N_ALGOS][TDM_NCCL_N_PROTOS];
    double latency_us[TDM_NCCL_N_TUNED][TDM_NCCL_N_ALGOS][TDM_NCCL_N_PROTOS];
} tdm_nccl_comm;

/* Nodes that were searched for channels, so that equal ones are not searched again. All zero with
 * an arena: none. Of one graph and settings. */
typedef struct tdm_nccl_known {
    tdm_arena *arena;
    struct tdm_nccl_searched *first;
} tdm_nccl_known;

/* The communicator of some GPUs of the graph (ranks [n_ranks], in any order). Fails where the
 * search cannot be made (see tdm_nccl_view_build) and where the settings leave no algorithm for any
 * function. */
tdm_code tdm_nccl_comm_build(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                             uint32_t n_ranks, const tdm_nccl_settings *settings,
                             tdm_nccl_comm *comm, tdm_error *err);
/* The same, for many communicators of one machine. */
tdm_code tdm_nccl_comm_build_known(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                                   uint32_t n_ranks, const tdm_nccl_settings *settings,
                                   tdm_nccl_known *known, tdm_nccl_comm *comm, tdm_error *err);

#endif
