/* All-to-all(-v): every member has its own bytes for every other.
 *
 * Where GPUs share inner links (a PCIe server) the flows are the n (n - 1) pairs themselves.
 * Where only the GPUs' own ports can be short (one switch; nodes of one switch that a network joins
 * with an adapter per GPU), the same load is put on the ports by at most 2 n flows. Within its
 * node, member i sends to the next member the larger of what i sends to the node's others and what
 * that member receives from them; to the member of the same place in the next node likewise what
 * crosses the network. Alone, the collective ends when its most loaded port is done, exactly as the
 * pairwise flows would on ports that are never idle; where other traffic shares a port, each
 * member's flow takes one share, as one NCCL kernel per GPU does. Both engines use this rule.
 * Without counts, `bytes` is the send buffer of one member, cut into n equal parts, its own
 * included. Source: NVIDIA/nccl 2.28.9 src/enqueue.cc (send/receive pairs grouped in one kernel,
 * served concurrently). */
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
    (void)topology;
    return size < 2 ? 0 : size * (size - 1); /* groups spread unevenly over nodes need them all */
}

/* The members [first, first + n) of a node. */
typedef struct node_run {
    uint32_t first, n;
} node_run;

static bool holds(node_run node, uint32_t member)
{
    return member >= node.first && member < node.first + node.n;
}

/* Bytes that a member sends to the members inside or outside of its node. */
static uint64_t sent_bytes(const tdm_collective_call *call, uint32_t member, node_run node,
                           bool inside)
{
    uint64_t bytes = 0;
    for (uint32_t j = 0; j < call->group.size; j++)
        if (j != member && holds(node, j) == inside)
            bytes += pair_bytes(call, member, j);
    return bytes;
}

static uint64_t received_bytes(const tdm_collective_call *call, uint32_t member, node_run node,
                               bool inside)
{
    uint64_t bytes = 0;
    for (uint32_t j = 0; j < call->group.size; j++)
        if (j != member && holds(node, j) == inside)
            bytes += pair_bytes(call, j, member);
    return bytes;
}

/* How many members each node holds, they being consecutive; 0 when nodes differ in that. */
static uint32_t members_per_node(const tdm_collective_call *call)
{
    const tdm_plane *plane = &call->topology->planes[0];
    const tdm_group *group = &call->group;
    uint32_t n = 1;
    int32_t root = plane->parent[group->rank0];
    while (n < group->size && plane->parent[tdm_group_member(group, n)] == root)
        n++;
    if (group->size % n != 0)
        return 0;
    for (uint32_t i = 0; i < group->size; i++) {
        int32_t own = plane->parent[tdm_group_member(group, i)];
        bool as_first = own == plane->parent[tdm_group_member(group, i / n * n)];
        bool as_before = i >= n && own == plane->parent[tdm_group_member(group, i - n)];
        if (!as_first || as_before)
            return 0;
    }
    return n;
}

static void add_flow(const tdm_collective_call *call, tdm_flow *flow, uint32_t src, uint32_t dst,
                     uint64_t sent, uint64_t received)
{
    *flow = (tdm_flow){.src = tdm_group_member(&call->group, src),
                       .dst = tdm_group_member(&call->group, dst),
                       .bytes = sent > received ? sent : received};
}

static uint32_t port_flows(const tdm_collective_call *call, uint32_t per_node, tdm_flow *flows)
{
    uint32_t n = call->group.size, n_flows = 0;
    for (uint32_t i = 0; i < n; i++) {
        node_run node = {i / per_node * per_node, per_node};
        uint32_t beside = node.first + (i + 1 - node.first) % per_node;
        uint32_t across = (i + per_node) % n;
        node_run far = {across / per_node * per_node, per_node};
        if (per_node > 1)
            add_flow(call, &flows[n_flows++], i, beside, sent_bytes(call, i, node, true),
                     received_bytes(call, beside, node, true));
        if (per_node < n)
            add_flow(call, &flows[n_flows++], i, across, sent_bytes(call, i, node, false),
                     received_bytes(call, across, far, false));
    }
    return n_flows;
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
 * other node's, so one member's routes show all kinds of pairs, unless single links differ. */
static double worst_latency_s(const tdm_collective_call *call)
{
    const tdm_group *group = &call->group;
    uint32_t n_src = call->topology->uneven_latency ? group->size : 1;
    double worst = 0;
    for (uint32_t i = 0; i < n_src; i++)
        for (uint32_t j = 0; j < group->size; j++) {
            tdm_route route;
            uint32_t src = tdm_group_member(group, i);
            uint32_t dst = tdm_group_member(group, j);
            if (tdm_topology_route(call->topology, src, dst, &route) && route.latency_s > worst)
                worst = route.latency_s;
        }
    return worst;
}

/* Whether all that can be short is the members' own ports. */
static bool on_ports(const tdm_collective_call *call)
{
    for (uint32_t p = 0; p < call->topology->n_planes; p++) {
        const int32_t *parent = call->topology->planes[p].parent;
        for (uint32_t i = 0; i < call->group.size; i++) {
            int32_t above = parent[tdm_group_member(&call->group, i)];
            if (above >= 0 && parent[above] >= 0)
                return false;
        }
    }
    return true;
}

static uint32_t all_to_all(const tdm_collective_call *call, tdm_flow *flows, double *latency_s)
{
    *latency_s = worst_latency_s(call);
    if (call->group.size < 2)
        return 0;
    uint32_t per_node = on_ports(call) ? members_per_node(call) : 0;
    return per_node > 0 ? port_flows(call, per_node, flows) : pair_flows(call, flows);
}

const tdm_collective tdm_collective_all_to_all = {
    .name = "all-to-all",
    .summary = "pairwise, even or by counts; as port loads where GPUs share no inner links",
    .kind = TDM_OP_ALL_TO_ALL,
    .max_flows = all_to_all_max_flows,
    .flows = all_to_all,
};
