/* Ring: every GPU passes on to the next, over all channels at once.
 * Source: NCCL 2.28.9, src/graph/tuning.cc. */
#include "core/nccl/tuning.h"

#include <math.h>

static const tdm_nccl_graph *graph(const tdm_nccl_comm *comm)
{
    return &comm->ring;
}

static double bandwidth(const tdm_nccl_case *it)
{
    static const double ll128_per_channel[TDM_NCCL_N_GENERATIONS][3] = {
        {20, 20, 20}, {20, 20, 20}, {36.7, 36.7, 36.7}, {73.4, 34.6, 73.4}};
    const tdm_nccl_graph *ring = &it->comm->ring;
    double bw = ring->n_channels * (it->comm->n_nodes <= 2 ? ring->bw_intra : ring->bw_inter);
    if (it->proto == TDM_NCCL_LL)
        bw = fmin(it->ll_max_bw, bw / 2);
    if (it->proto == TDM_NCCL_LL128)
        bw = fmin(.92 * bw, ring->n_channels * ll128_per_channel[it->generation][it->by_nodes]);
    return bw * it->comm->n_ranks / it->n_steps;
}

static double latency(const tdm_nccl_case *it)
{
    const tdm_nccl_comm *comm = it->comm;
    uint32_t n_inter =
        it->func == TDM_NCCL_ALL_REDUCE ? 2 * (comm->n_nodes - 1) : comm->n_nodes - 1;
    if (it->func == TDM_NCCL_BROADCAST || it->func == TDM_NCCL_REDUCE) {
        double step = comm->n_nodes == 1 ? it->intra_us : it->inter_us;
        if (comm->ring.same_channels)
            return step;
        if (it->proto == TDM_NCCL_SIMPLE) {
            const tdm_nccl_algorithm *tree = tdm_nccl_algorithm_find(TDM_NCCL_TREE);
            step = comm->n_nodes > 1                  ? tree->net_us[it->proto]
                   : comm->ring.intra == TDM_NCCL_NVL ? tree->nvlink_us[it->proto]
                                                      : tree->pcie_us[it->proto];
        }
        return it->n_steps * step;
    }
    return (it->n_steps - n_inter) * fmax(it->intra_us, it->net_overhead_us) +
           n_inter * it->inter_us;
}

/* One channel: node after node, each from the GPU that receives to the one that sends. A broadcast
 * does not come back to its root, a reduction does not leave it; both pass all of the buffer. */
static void load_channel(tdm_nccl_loads *loads, uint32_t channel, double share)
{
    const tdm_nccl_comm *comm = tdm_nccl_loads_comm(loads);
    tdm_nccl_func func = tdm_nccl_loads_func(loads);
    for (uint32_t p = 0; p < comm->n_nodes; p++) {
        const tdm_nccl_place *place = &comm->places[p],
                             *next = &comm->places[(p + 1) % comm->n_nodes];
        uint32_t n = place->view.n_of[TDM_NCCL_GPU];
        const uint16_t *order = place->ring.order + (size_t)channel * n;
        for (uint32_t i = 0; i < n; i++) {
            bool leaves = i + 1 == n && comm->n_nodes > 1;
            uint32_t to = leaves ? next->ring.order[(size_t)channel * next->view.n_of[TDM_NCCL_GPU]]
                                 : order[(i + 1) % n];
            uint32_t sender = place->members[order[i]],
                     receiver = (leaves ? next : place)->members[to];
            if ((func == TDM_NCCL_BROADCAST && receiver == 0) ||
                (func == TDM_NCCL_REDUCE && sender == 0))
                continue;
            if (leaves)
                tdm_nccl_load_across(loads, p, order[i], place->ring.adapters[2 * channel + 1],
                                     (p + 1) % comm->n_nodes, next->ring.adapters[2 * channel], to,
                                     share);
            else
                tdm_nccl_load_gpus(loads, p, order[i], to, share);
        }
    }
}

static void load(tdm_nccl_loads *loads)
{
    const tdm_nccl_comm *comm = tdm_nccl_loads_comm(loads);
    tdm_nccl_func func = tdm_nccl_loads_func(loads);
    double n = comm->n_ranks, n_channels = comm->ring.n_channels;
    double share = func == TDM_NCCL_ALL_REDUCE                             ? 2 * (n - 1) / n
                   : func == TDM_NCCL_BROADCAST || func == TDM_NCCL_REDUCE ? 1
                                                                           : (n - 1) / n;
    for (uint32_t c = 0; c < comm->ring.n_channels; c++)
        load_channel(loads, c, share / n_channels);
}

const tdm_nccl_algorithm tdm_nccl_algorithm_ring = {
    .name = "Ring",
    .algo = TDM_NCCL_RING,
    .base_us = {6.6, 14, 8.4},
    .nvlink_us = {.6, 1.9, 3.4},
    .pcie_us = {1, 2.5, 5.7},
    .net_us = {2.7, 4, 14},
    .graph = graph,
    .bandwidth = bandwidth,
    .latency = latency,
    .load = load,
};
