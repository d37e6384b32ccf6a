/* Tree: all-reduce up and down two trees over the nodes, chains within them.
 * Source: NCCL 2.28.9, src/graph/tuning.cc. */
#include "core/nccl/tuning.h"

#include <math.h>

static const tdm_nccl_graph *graph(const tdm_nccl_comm *comm)
{
    return &comm->tree;
}

static double bandwidth(const tdm_nccl_case *it)
{
    static const double per_channel[TDM_NCCL_N_GENERATIONS][3] = {
        {26.5, 18.5, 10}, {24, 23.6, 17.8}, {38.7, 41.4, 36}, {70, 42.8, 24}};
    static const double ll128_per_channel[TDM_NCCL_N_GENERATIONS][3] = {
        {20, 20, 20}, {20, 20, 20}, {36.7, 36.7, 29}, {55.6, 31.67, 20}};
    const tdm_nccl_graph *tree = &it->comm->tree;
    double n = tree->n_channels;
    if (it->func != TDM_NCCL_ALL_REDUCE)
        return 0;
    double bw = n * (it->comm->n_nodes <= 2 ? tree->bw_intra : tree->bw_inter);
    bw = fmin(.92 * bw, n * per_channel[it->generation][it->by_nodes]);
    if (it->proto == TDM_NCCL_LL)
        bw = fmin(bw / 3.8, it->ll_max_bw);
    if (it->proto == TDM_NCCL_LL128)
        bw = fmin(bw * (it->comm->n_nodes == 1 ? 7.0 / 9 : 120.0 / 128),
                  n * ll128_per_channel[it->generation][it->by_nodes]);
    if (tree->pattern == TDM_NCCL_PATTERN_TREE)
        bw *= .85;
    return bw / 2;
}

static double latency(const tdm_nccl_case *it)
{
    const tdm_nccl_comm *comm = it->comm;
    return 2 * ((comm->n_ranks / comm->n_nodes - 1) * it->intra_us +
                floor(log2(comm->n_nodes)) * it->inter_us);
}

static const tdm_nccl_graph *tree_of(const tdm_nccl_place *place)
{
    return &place->tree;
}

static void load(tdm_nccl_loads *loads)
{
    const tdm_nccl_comm *comm = tdm_nccl_loads_comm(loads);
    double share = 1.0 / comm->tree.n_channels;
    for (uint32_t c = 0; c < comm->tree.n_channels; c++) {
        for (uint32_t p = 0; p < comm->n_nodes; p++) {
            uint32_t n = comm->places[p].view.n_of[TDM_NCCL_GPU];
            const uint16_t *chain = comm->places[p].tree.order + (size_t)c * n;
            for (uint32_t i = 0; i + 1 < n; i++) {
                tdm_nccl_load_gpus(loads, p, chain[i + 1], chain[i], share);
                tdm_nccl_load_gpus(loads, p, chain[i], chain[i + 1], share);
            }
        }
        tdm_nccl_load_trees(loads, tree_of, c, share);
    }
}

const tdm_nccl_algorithm tdm_nccl_algorithm_tree = {
    .name = "Tree",
    .algo = TDM_NCCL_TREE,
    .base_us = {6.8, 14, 8.4},
    .nvlink_us = {.6, 1.25, 4},
    .pcie_us = {1, 1.9, 4},
    .net_us = {5, 8.5, 14},
    .graph = graph,
    .bandwidth = bandwidth,
    .latency = latency,
    .load = load,
};
