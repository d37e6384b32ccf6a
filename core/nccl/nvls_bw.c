/* nvls_bw.c: bandwidth of in-switch reduction. Source: NCCL 2.28.9, src/graph/tuning.cc. */
#include "core/nccl/nvls_bw.h"

#include <math.h>

double tdm_nccl_nvls_bw(const tdm_nccl_case *it, double inter_factor, double per_channel)
{
    static const double efficiency[TDM_NCCL_N_GENERATIONS] = {0, 0, .85, .74};
    const tdm_nccl_graph *nvls = &it->comm->nvls;
    double n = nvls->n_channels, local = it->comm->min_local;
    if (n < 2 || it->proto != TDM_NCCL_SIMPLE)
        return 0;
    double intra = nvls->bw_intra * efficiency[it->generation] * (n - 1) / n;
    intra *= it->func == TDM_NCCL_ALL_REDUCE ? 2 : (local - 1) / local;
    double bw = n * fmin(fmin(intra, nvls->bw_inter * inter_factor), per_channel);
    return it->func == TDM_NCCL_ALL_REDUCE ? bw * it->comm->n_ranks / it->n_steps : bw;
}

void tdm_nccl_load_nvls(tdm_nccl_loads *loads, uint32_t place)
{
    tdm_nccl_func func = tdm_nccl_loads_func(loads);
    uint32_t n = tdm_nccl_loads_comm(loads)->places[place].view.n_of[TDM_NCCL_GPU];
    double up = 0, down = 0;
    if (func != TDM_NCCL_ALL_GATHER) {
        up += 1;
        down += 1.0 / n;
    }
    if (func != TDM_NCCL_REDUCE_SCATTER) {
        up += 1.0 / n;
        down += 1;
    }
    for (uint32_t g = 0; g < n; g++)
        tdm_nccl_load_switch(loads, place, g, up, down);
}

const tdm_nccl_graph *tdm_nccl_nvls_graph(const tdm_nccl_comm *comm)
{
    return &comm->nvls;
}
