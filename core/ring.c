/* ring.c: edges of one ring in member order, or of one ring per network port. */
#include "ring.h"

/* ceil(bytes * numerator / denominator) without overflow of the product. */
static uint64_t scale_up(uint64_t bytes, uint64_t numerator, uint64_t denominator)
{
    uint64_t whole = bytes / denominator * numerator;
    return whole + tdm_ceil_div(bytes % denominator * numerator, denominator);
}

/* Members per node when the group fills several nodes evenly, node after node, with two or more
 * each; otherwise 0: one ring. */
static uint32_t members_per_node(const tdm_collective_call *call)
{
    const tdm_topology *topology = call->topology;
    const tdm_group *group = &call->group;
    uint32_t per_node = topology->gpus_per_node;
    if (topology->n_planes < 2 || per_node == 0 || per_node >= topology->n_gpus)
        return 0;
    uint32_t node = tdm_group_member(group, 0) / per_node;
    uint32_t k = 0;
    while (k < group->size && tdm_group_member(group, k) / per_node == node)
        k++;
    if (k < 2 || k == group->size || group->size % k != 0)
        return 0;
    for (uint32_t i = 0; i < group->size; i++) {
        uint32_t here = tdm_group_member(group, i) / per_node;
        if (i % k == 0 && i > 0 && here <= node)
            return 0; /* a node met twice, or out of order */
        if (i % k == 0)
            node = here;
        else if (here != node)
            return 0;
    }
    return k;
}

uint32_t tdm_ring_max_flows(const tdm_topology *topology, uint32_t size)
{
    if (size < 2)
        return 0;
    return topology->n_planes < 2 ? size : 2 * size;
}

/* Share of a member in bytes. */
static uint64_t share_bytes(const tdm_collective_call *call, uint32_t member)
{
    return tdm_received_by(&call->received, member) * call->token_bytes;
}

uint32_t tdm_ring_flows_of_shares(const tdm_collective_call *call, bool sums, tdm_flow *flows)
{
    uint32_t n = call->group.size;
    uint32_t n_flows = tdm_ring_flows(call, n > 0 ? (uint64_t)n - 1 : 0, flows);
    if (!call->received.sent || n_flows == 0)
        return n_flows;
    uint32_t k = members_per_node(call);
    for (uint32_t f = 0; f < n_flows; f++) {
        uint32_t member = tdm_group_index(&call->group, sums ? flows[f].src : flows[f].dst);
        uint64_t bytes = call->bytes - share_bytes(call, member);
        /* Of k rings, k - 1 go on within the node: the even flows, see tdm_ring_flows. */
        if (k > 0)
            bytes = tdm_ceil_div(bytes, k) * (f % 2 == 0 ? k - 1 : 1);
        flows[f].bytes = bytes;
    }
    return n_flows;
}

uint32_t tdm_ring_flows(const tdm_collective_call *call, uint64_t numerator, tdm_flow *flows)
{
    const tdm_group *group = &call->group;
    uint32_t n = group->size;
    if (n < 2)
        return 0;
    uint32_t n_flows = 0;
    uint32_t k = members_per_node(call);
    if (k == 0) {
        uint64_t bytes = scale_up(call->bytes, numerator, n);
        for (uint32_t i = 0; i < n; i++)
            flows[n_flows++] = (tdm_flow){.src = tdm_group_member(group, i),
                                          .dst = tdm_group_member(group, (i + 1) % n),
                                          .bytes = bytes};
        return n_flows;
    }
    uint64_t one_ring = scale_up(call->bytes, numerator, (uint64_t)n * k);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t node = i / k;
        uint32_t local = i % k;
        uint32_t next = node * k + (local + 1) % k;
        uint32_t across = ((node + 1) * k + (local + 1) % k) % n;
        /* Of the k rings, the one that enters at `next` does not come from here within the node. */
        flows[n_flows++] = (tdm_flow){.src = tdm_group_member(group, i),
                                      .dst = tdm_group_member(group, next),
                                      .bytes = (k - 1) * one_ring};
        flows[n_flows++] = (tdm_flow){.src = tdm_group_member(group, i),
                                      .dst = tdm_group_member(group, across),
                                      .bytes = one_ring};
    }
    return n_flows;
}

double tdm_ring_latency_s(const tdm_collective_call *call, uint32_t laps)
{
    const tdm_group *group = &call->group;
    uint32_t n = group->size;
    if (n < 2)
        return 0;
    double sum = 0;
    double least = 0;
    for (uint32_t i = 0; i < n; i++) {
        tdm_route route;
        uint32_t src = tdm_group_member(group, i);
        uint32_t dst = tdm_group_member(group, (i + 1) % n);
        if (!tdm_topology_route(call->topology, src, dst, &route))
            continue; /* the flows of this edge make the call fail */
        sum += route.latency_s;
        if (i == 0 || route.latency_s < least)
            least = route.latency_s;
    }
    return laps * (sum - least);
}
