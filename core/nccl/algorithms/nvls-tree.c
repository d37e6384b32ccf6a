/* NVLSTree: in-switch reduction in the nodes, trees of their heads between them.
 * Source: NCCL 2.28.9, src/graph/tuning.cc. */
#include "core/nccl/nvls_bw.h"

#include <math.h>

static double bandwidth(const tdm_nccl_case *it)
{
    static const double per_channel[TDM_NCCL_N_GENERATIONS][3] = {
        {26.5, 18.5, 10}, {24, 23.6, 17.8}, {0, 57.7, 45.5}, {0, 96, 43.8}};
    if (it->func != TDM_NCCL_ALL_REDUCE || it->comm->n_nodes == 1)
        return 0;
    return tdm_nccl_nvls_bw(it, it->comm->n_nodes <= 2 ? 2 : 1,
                            per_channel[it->generation][it->by_nodes]);
}

static double latency(const tdm_nccl_case *it)
{
    return it->intra_us + 2 * floor(log2(it->comm->n_nodes)) * it->inter_us;
}

static const tdm_nccl_graph *heads_of(const tdm_nccl_place *place)
{
    return &place->nvls;
}

static void load(tdm_nccl_loads *loads)
{
    const tdm_nccl_comm *comm = tdm_nccl_loads_comm(loads);
    for (uint32_t p = 0; p < comm->n_nodes; p++)
        tdm_nccl_load_nvls(loads, p);
    for (uint32_t c = 0; c < comm->nvls.n_channels; c++)
        tdm_nccl_load_trees(loads, heads_of, c, 1.0 / comm->nvls.n_channels);
}

const tdm_nccl_algorithm tdm_nccl_algorithm_nvls_tree = {
    .name = "NVLSTree",
    .algo = TDM_NCCL_NVLS_TREE,
    .nvlink_us = {25, 25, 25},
    .net_us = {20.9, 20.9, 20.9},
    .graph = tdm_nccl_nvls_graph,
    .bandwidth = bandwidth,
    .latency = latency,
    .load = load,
};
