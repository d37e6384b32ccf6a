/* Ring broadcast from member 0: the buffer is cut into slices that follow each other round the
 * ring, so every edge but the one back into the root carries the whole buffer, and all are busy at
 * the same time. Source: NVIDIA/nccl 2.28.9 src/device/broadcast.h (root first, the rank before it
 * last). */
#include "ring.h"

static uint32_t ring_broadcast(const tdm_collective_call *call, tdm_flow *flows, double *latency_s)
{
    *latency_s = tdm_ring_latency_s(call, 1);
    uint32_t n = tdm_ring_flows(call, call->group.size, flows);
    uint32_t root = tdm_group_member(&call->group, 0);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (flows[i].dst != root)
            flows[kept++] = flows[i];
    return kept;
}

const tdm_collective tdm_collective_ring_broadcast = {
    .name = "ring-broadcast",
    .summary = "pipelined ring from the first member; each edge carries the whole buffer",
    .kind = TDM_OP_BROADCAST,
    .max_flows = tdm_ring_max_flows,
    .flows = ring_broadcast,
};
