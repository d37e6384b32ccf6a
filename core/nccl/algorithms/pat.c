/* PAT: parallel trees for all-gather and reduce-scatter with one GPU per node.
 * Source: NCCL 2.28.9, src/graph/tuning.cc (ncclPatEnable and the model). */
#include "core/nccl/tuning.h"

#include <math.h>

static const tdm_nccl_graph *graph(const tdm_nccl_comm *comm)
{
    return &comm->ring;
}

static double bandwidth(const tdm_nccl_case *it)
{
    const tdm_nccl_comm *comm = it->comm;
    bool enabled = comm->settings.pat_enable == 1 ||
                   (comm->settings.pat_enable == 2 && comm->n_nodes == comm->n_ranks);
    if (!enabled || comm->min_sm < 60 || it->proto != TDM_NCCL_SIMPLE ||
        (it->func != TDM_NCCL_ALL_GATHER && it->func != TDM_NCCL_REDUCE_SCATTER))
        return 0;
    const tdm_nccl_graph *ring = &comm->ring;
    return .75 * ring->n_channels * (comm->n_nodes <= 2 ? ring->bw_intra : ring->bw_inter);
}

static double latency(const tdm_nccl_case *it)
{
    return floor(log2(it->comm->n_nodes)) * it->inter_us / 3.5 + 2.8 * it->comm->n_ranks;
}

/* Step k goes to the rank 2^k on, with as many parts as it has gathered so far. */
static void load(tdm_nccl_loads *loads)
{
    uint32_t n = tdm_nccl_loads_comm(loads)->n_ranks;
    for (uint32_t distance = 1; distance < n; distance *= 2) {
        uint32_t parts = distance < n - distance ? distance : n - distance;
        for (uint32_t i = 0; i < n; i++)
            tdm_nccl_load_message(loads, i, (i + distance) % n, (double)parts / n);
    }
}

const tdm_nccl_algorithm tdm_nccl_algorithm_pat = {
    .name = "PAT",
    .algo = TDM_NCCL_PAT,
    .base_us = {8, 8, 8},
    .nvlink_us = {4, 4, 4},
    .pcie_us = {4, 4, 4},
    .net_us = {14, 14, 14},
    .graph = graph,
    .bandwidth = bandwidth,
    .latency = latency,
    .load = load,
};
