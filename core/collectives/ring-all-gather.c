/* Ring all-gather: each member's share travels once round the ring, all but its last edge.
 * Every directed edge carries (n - 1) / n x bytes, bytes being the whole output; of uneven shares,
 * all but that of the member it leads to.
 * Source: NVIDIA/nccl-tests doc/PERFORMANCE.md (factor of all-gather). */
#include "ring.h"

static uint32_t ring_all_gather(const tdm_collective_call *call, tdm_flow *flows, double *latency_s)
{
    *latency_s = tdm_ring_latency_s(call, 1);
    return tdm_ring_flows_of_shares(call, false, flows);
}

const tdm_collective tdm_collective_ring_all_gather = {
    .name = "ring-all-gather",
    .summary = "ring; each edge carries (n-1)/n x the whole output",
    .kind = TDM_OP_ALL_GATHER,
    .max_flows = tdm_ring_max_flows,
    .flows = ring_all_gather,
};
