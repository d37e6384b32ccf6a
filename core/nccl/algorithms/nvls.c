/* NVLS: the NVSwitch adds and distributes; one node, since several need CollNet.
 * Source: NCCL 2.28.9, src/graph/tuning.cc. */
#include "core/nccl/nvls_bw.h"

#include <math.h>

static double bandwidth(const tdm_nccl_case *it)
{
    bool served = it->func == TDM_NCCL_ALL_REDUCE || it->func == TDM_NCCL_REDUCE_SCATTER ||
                  (it->func == TDM_NCCL_ALL_GATHER && it->comm->max_local <= 32);
    return served && it->comm->n_nodes == 1 ? tdm_nccl_nvls_bw(it, 1, INFINITY) : 0;
}

static double latency(const tdm_nccl_case *it)
{
    return it->intra_us;
}

static void load(tdm_nccl_loads *loads)
{
    tdm_nccl_load_nvls(loads, 0);
}

const tdm_nccl_algorithm tdm_nccl_algorithm_nvls = {
    .name = "NVLS",
    .algo = TDM_NCCL_NVLS,
    .nvlink_us = {25, 25, 25},
    .net_us = {18, 18, 18},
    .graph = tdm_nccl_nvls_graph,
    .bandwidth = bandwidth,
    .latency = latency,
    .load = load,
};
