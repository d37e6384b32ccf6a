/* Ring reduce-scatter: partial sums travel round the ring, each member keeps one share.
 * Every directed edge carries (n - 1) / n x bytes, bytes being the whole input; of uneven shares,
 * all but that of the member it leaves from. Source: NVIDIA/nccl-tests doc/PERFORMANCE.md (factor
 * of reduce-scatter). */
#include "ring.h"

static uint32_t ring_reduce_scatter(const tdm_collective_call *call, tdm_flow *flows,
                                    double *latency_s)
{
    *latency_s = tdm_ring_latency_s(call, 1);
    return tdm_ring_flows_of_shares(call, true, flows);
}

const tdm_collective tdm_collective_ring_reduce_scatter = {
    .name = "ring-reduce-scatter",
    .summary = "ring; each edge carries (n-1)/n x the whole input",
    .kind = TDM_OP_REDUCE_SCATTER,
    .max_flows = tdm_ring_max_flows,
    .flows = ring_reduce_scatter,
};
