/* comm.c: what a communication op of the plan means to the network: which communicator, which
 * flows, what latency. Both predicting engines take it from here, so that they differ in contention
 * only. */
#include "engine.h"

#include <assert.h>

/* Communicator ids: the top bits tell the families apart, the rest numbers within one. */
enum { ID_SHIFT = 48 };
enum {
    FAMILY_SINGLE = 0x100,
    FAMILY_DIRECTED = 0x200,
    FAMILY_GRADIENTS = 0x201,
    FAMILY_SHARED = 0x202
};

static uint64_t make_id(uint64_t family, uint64_t number)
{
    assert(number < (uint64_t)1 << ID_SHIFT);
    return family << ID_SHIFT | number;
}

/* Source and destination of a send or receive, the same seen from both sides. */
static bool ends_of(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance,
                    uint32_t *src, uint32_t *dst)
{
    uint32_t peer = tdm_plan_peer(plan, rank, instance);
    bool sends = instance->op->kind == TDM_OP_SEND;
    *src = sends ? rank : peer;
    *dst = sends ? peer : rank;
    return peer != UINT32_MAX;
}

tdm_comm_id tdm_comm_identify(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    if (tdm_op_is_p2p(op->kind)) {
        uint32_t src, dst;
        if (!ends_of(plan, rank, instance, &src, &dst))
            return (tdm_comm_id){.id = make_id(FAMILY_SINGLE, rank), .n_members = 1};
        bool shared = op->u.p2p.p2p == TDM_P2P_SHARED;
        bool swap = shared && dst < src;
        uint64_t first = swap ? dst : src;
        uint64_t second = swap ? src : dst;
        /* With two stages and several chunks, activations go round the corner in the direction of
         * the gradients, and in a V every pair has both in both directions, on streams of their
         * own: they need communicators of their own. */
        bool forward = (op->kind == TDM_OP_SEND) == (op->u.p2p.peer == TDM_PEER_NEXT);
        uint64_t family = shared ? FAMILY_SHARED : forward ? FAMILY_DIRECTED : FAMILY_GRADIENTS;
        return (tdm_comm_id){.id = make_id(family, first * plan->mesh.world + second),
                             .n_members = 2};
    }
    assert(tdm_op_is_collective(op->kind));
    tdm_group_kind kind = op->u.collective.group;
    tdm_group group = tdm_mesh_group(&plan->mesh, kind, rank);
    if (group.size < 2)
        return (tdm_comm_id){.id = make_id(FAMILY_SINGLE, rank), .n_members = 1};
    return (tdm_comm_id){.id = make_id((uint64_t)kind + 1, group.id), .n_members = group.size};
}

/* own: of a collective that a folded plan has in part, that part. */
static uint32_t template_max_flows(const tdm_plan *plan, const tdm_topology *topology,
                                   const tdm_template *template, bool own)
{
    uint32_t most = 1;
    tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    for (uint32_t i = 0; i < template->n_ops; i++) {
        const tdm_op *op = &template->ops[i];
        if (!tdm_op_is_collective(op->kind))
            continue;
        /* Rank 0 is on the first stage, so its group is the largest of every kind. */
        uint32_t size = tdm_mesh_group(&whole, op->u.collective.group, 0).size;
        uint32_t part = tdm_mesh_group(&plan->mesh, op->u.collective.group, 0).size;
        uint32_t n = tdm_collective_for(op->kind)->max_flows(topology, size);
        n = own && part < size ? n / plan->mesh.copies : n;
        most = n > most ? n : most;
    }
    return most;
}

static uint32_t max_flows(const tdm_plan *plan, const tdm_topology *topology, bool own)
{
    uint32_t most = 1;
    if (plan->pass_times)
        return most;
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++) {
            uint32_t n = template_max_flows(plan, topology, &plan->kinds[k].templates[p], own);
            most = n > most ? n : most;
        }
    for (uint32_t r = 0; r < plan->n_roles; r++) {
        uint32_t n = template_max_flows(plan, topology, &plan->roles[r].optimizer, own);
        most = n > most ? n : most;
    }
    return most;
}

uint32_t tdm_comm_max_flows(const tdm_plan *plan, const tdm_topology *topology)
{
    return max_flows(plan, topology, false);
}

uint32_t tdm_comm_max_own_flows(const tdm_plan *plan, const tdm_topology *topology)
{
    return max_flows(plan, topology, true);
}

static uint32_t p2p_flows(const tdm_plan *plan, const tdm_topology *topology, uint32_t rank,
                          const tdm_instance *instance, tdm_flow *flows, double *latency_s)
{
    *latency_s = 0;
    uint32_t src, dst;
    if (!ends_of(plan, rank, instance, &src, &dst) || src == dst)
        return 0;
    src = tdm_mesh_whole_rank(&plan->mesh, src);
    dst = tdm_mesh_whole_rank(&plan->mesh, dst);
    if (plan->pass_times) {
        *latency_s = plan->send_s;
        return 0;
    }
    tdm_route route = {0};
    tdm_topology_route(topology, src, dst, &route); /* none: the flow itself tells */
    *latency_s = route.latency_s + topology->p2p_launch_s.value;
    flows[0] = (tdm_flow){.src = src, .dst = dst, .bytes = instance->op->u.p2p.bytes};
    return 1;
}

/* Of a folded plan's collective those flows count that start on a rank of the plan: the others are
 * their images, on links for which theirs stand. */
static uint32_t keep_own(const tdm_mesh *mesh, const tdm_mesh *whole, tdm_flow *flows, uint32_t n)
{
    if (!tdm_mesh_is_folded(mesh))
        return n;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (flows[i].src % whole->per_stage < mesh->per_stage)
            flows[kept++] = flows[i];
    return kept;
}

uint32_t tdm_comm_flows(const tdm_plan *plan, const tdm_topology *topology, uint32_t rank,
                        const tdm_instance *instance, tdm_flow *flows, double *latency_s)
{
    const tdm_op *op = instance->op;
    if (tdm_op_is_p2p(op->kind))
        return p2p_flows(plan, topology, rank, instance, flows, latency_s);
    assert(tdm_op_is_collective(op->kind));
    *latency_s = 0;
    tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    uint32_t whole_rank = tdm_mesh_whole_rank(&plan->mesh, rank);
    tdm_collective_call call = {
        .topology = topology,
        .group = tdm_mesh_group(&whole, op->u.collective.group, whole_rank),
        .bytes = op->u.collective.bytes,
        .token_bytes = op->u.collective.token_bytes,
        .a2a = op->u.collective.a2a,
    };
    if (call.group.size < 2 || plan->pass_times)
        return 0; /* nothing to move; with pass times all of it is inside the passes */
    if (op->kind == TDM_OP_ALL_TO_ALL && op->u.collective.group == TDM_GROUP_EP &&
        plan->routing.n_layers > 0)
        call.counts = tdm_plan_sent(plan, rank, instance->layer, instance->pass.microbatch);
    if (tdm_op_is_routed_gather(op)) {
        call.received = tdm_plan_received(plan, rank, instance->layer, instance->pass.microbatch);
        call.bytes = tdm_plan_op_bytes(plan, rank, instance);
    }
    uint32_t n = tdm_collective_for(op->kind)->flows(&call, flows, latency_s);
    *latency_s += topology->collective_launch_s.value;
    return keep_own(&plan->mesh, &whole, flows, n);
}
