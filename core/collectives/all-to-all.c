/* All-to-all(-v): every member has its own bytes for every other.
 *
 * On a topology with several links between GPUs the flows are the n (n - 1) pairs themselves.
 * On a single switch only the GPUs' ports can be short, so the same load is put on them by n flows:
 * member i sends to member i + 1 the larger of what i sends to others and what i + 1 receives from
 * others. Alone, the collective ends when its most loaded port is done, exactly as the pairwise
 * flows would on ports that are never idle; where other traffic shares a port, each member's flow
 * takes one share, as one NCCL kernel per GPU does. Both engines use this rule. Without counts,
 * `bytes` is the send buffer of one member, cut into n equal parts, its own included. Source:
 * NVIDIA/nccl 2.28.9 src/enqueue.cc (send/receive pairs grouped in one kernel, served
 * concurrently). */
#include "collective.h"

static uint64_t pair_bytes(const tdm_collective_call *call, uint32_t src, uint32_t dst)
{
    uint32_t n = call->group.size;
    if (!call->counts)
        return tdm_ceil_div(call->bytes, n);
    bool combine = call->a2a == TDM_A2A_COMBINE; /* the way back: the transpose */
    uint32_t row = combine ? dst : src;
    uint32_t column = combine ? src : dst;
    return call->counts[(size_t)row * n + column] * call->token_bytes;
}

static uint32_t all_to_all_max_flows(const tdm_topology *topology, uint32_t size)
{
    if (size < 2)
        return 0;
    return tdm_topology_is_single_switch(topology) ? size : size * (size - 1);
}

/* What member i sends to others, or (received) gets from them. */
static uint64_t port_bytes(const tdm_collective_call *call, uint32_t i, bool received)
{
    uint32_t n = call->group.size;
    if (!call->counts)
        return (n - 1) * tdm_ceil_div(call->bytes, n);
    /* Combine is the way back: the transpose. */
    bool column = received != (call->a2a == TDM_A2A_COMBINE);
    const uint32_t *counts = call->counts + (column ? i : (size_t)i * n);
    size_t stride = column ? n : 1;
    uint64_t tokens = 0;
    for (uint32_t j = 0; j < n; j++)
        tokens += counts[j * stride];
    return (tokens - counts[i * stride]) * call->token_bytes;
}

static uint32_t port_flows(const tdm_collective_call *call, tdm_flow *flows)
{
    const tdm_group *group = &call->group;
    uint32_t n = group->size;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t next = (i + 1) % n;
        uint64_t sent = port_bytes(call, i, false);
        uint64_t received = port_bytes(call, next, true);
        flows[i] = (tdm_flow){.src = tdm_group_member(group, i),
                              .dst = tdm_group_member(group, next),
                              .bytes = sent > received ? sent : received};
    }
    return n;
}

static uint32_t pair_flows(const tdm_collective_call *call, tdm_flow *flows)
{
    const tdm_group *group = &call->group;
    uint32_t n_flows = 0;
    for (uint32_t i = 0; i < group->size; i++)
        for (uint32_t j = 0; j < group->size; j++)
            if (i != j)
                flows[n_flows++] = (tdm_flow){.src = tdm_group_member(group, i),
                                              .dst = tdm_group_member(group, j),
                                              .bytes = pair_bytes(call, i, j)};
    return n_flows;
}

/* Latency of the slowest pair: the pairs proceed at the same time. Node-local index i meets every
 * other node's, so one member's routes show all kinds of pairs. */
static double worst_latency_s(const tdm_collective_call *call)
{
    const tdm_group *group = &call->group;
    double worst = 0;
    for (uint32_t j = 1; j < group->size; j++) {
        tdm_route route;
        uint32_t src = tdm_group_member(group, 0);
        uint32_t dst = tdm_group_member(group, j);
        if (tdm_topology_route(call->topology, src, dst, &route) && route.latency_s > worst)
            worst = route.latency_s;
    }
    return worst;
}

static uint32_t all_to_all(const tdm_collective_call *call, tdm_flow *flows, double *latency_s)
{
    *latency_s = worst_latency_s(call);
    if (call->group.size < 2)
        return 0;
    bool ports = tdm_topology_is_single_switch(call->topology);
    return ports ? port_flows(call, flows) : pair_flows(call, flows);
}

const tdm_collective tdm_collective_all_to_all = {
    .name = "all-to-all",
    .summary = "pairwise, even or by counts; on a single switch as port loads",
    .kind = TDM_OP_ALL_TO_ALL,
    .max_flows = all_to_all_max_flows,
    .flows = all_to_all,
};
