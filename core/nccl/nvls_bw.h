/* nvls_bw.h: what NVLS and NVLSTree share: the switch adds and distributes within a node. */
#ifndef TDM_NCCL_NVLS_BW_H
#define TDM_NCCL_NVLS_BW_H

#include "core/nccl/tuning.h"

/* GB/s of the algorithm; per_channel caps a head's share, INFINITY: nothing does. */
double tdm_nccl_nvls_bw(const tdm_nccl_case *it, double inter_factor, double per_channel);

/* One node: the switch adds what comes up from all GPUs and gives each head its part; each head
 * sends its part up and the switch gives it to all. Up and down as the function has both halves or
 * one. */
void tdm_nccl_load_nvls(tdm_nccl_loads *loads, uint32_t place);

const tdm_nccl_graph *tdm_nccl_nvls_graph(const tdm_nccl_comm *comm);

#endif
