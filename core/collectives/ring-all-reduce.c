/* Ring all-reduce: a reduce-scatter, then an all-gather around the same ring.
 * Every directed edge carries 2 (n - 1) / n x bytes.
 * Source: Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of
 * workstations. */
#include "ring.h"

static uint32_t ring_all_reduce(const tdm_collective_call *call, tdm_flow *flows, double *latency_s)
{
    *latency_s = tdm_ring_latency_s(call, 2);
    return tdm_ring_flows(call, 2 * ((uint64_t)call->group.size - 1), flows);
}

const tdm_collective tdm_collective_ring_all_reduce = {
    .name = "ring-all-reduce",
    .summary = "ring; each edge carries 2(n-1)/n x bytes",
    .kind = TDM_OP_ALL_REDUCE,
    .max_flows = tdm_ring_max_flows,
    .flows = ring_all_reduce,
};
