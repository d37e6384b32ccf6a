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
    if (group.size < 2 && !tdm_mesh_is_folded(&plan->mesh))
        return (tdm_comm_id){.id = make_id(FAMILY_SINGLE, rank), .n_members = 1};
    /* Of a folded plan a group may be left with one member, which still talks to its images. */
    return (tdm_comm_id){.id = make_id((uint64_t)kind + 1, group.id), .n_members = group.size};
}

static tdm_transfer message(const tdm_plan *plan, tdm_net *net, uint32_t rank,
                            const tdm_instance *instance)
{
    uint32_t src, dst;
    if (!ends_of(plan, rank, instance, &src, &dst) || src == dst)
        return (tdm_transfer){0};
    if (plan->pass_times)
        return (tdm_transfer){.latency_s = plan->send_s};
    return tdm_net_message(net, tdm_mesh_whole_rank(&plan->mesh, src),
                           tdm_mesh_whole_rank(&plan->mesh, dst), instance->op->u.p2p.bytes);
}

tdm_transfer tdm_comm_transfer(const tdm_plan *plan, tdm_net *net, uint32_t rank,
                               const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    if (tdm_op_is_p2p(op->kind))
        return message(plan, net, rank, instance);
    assert(tdm_op_is_collective(op->kind));
    tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    uint32_t whole_rank = tdm_mesh_whole_rank(&plan->mesh, rank);
    tdm_collective_call call = {
        .topology = tdm_net_topology(net),
        .group = tdm_mesh_group(&whole, op->u.collective.group, whole_rank),
        .bytes = op->u.collective.bytes,
        .token_bytes = op->u.collective.token_bytes,
        .a2a = op->u.collective.a2a,
    };
    if (call.group.size < 2 || plan->pass_times)
        return (tdm_transfer){0}; /* nothing to move; with pass times all of it is inside them */
    if (op->kind == TDM_OP_ALL_TO_ALL && op->u.collective.group == TDM_GROUP_EP &&
        plan->routing.n_layers > 0)
        call.counts = tdm_plan_sent(plan, rank, instance->layer, instance->pass.microbatch);
    if (tdm_op_is_routed_gather(op)) {
        call.received = tdm_plan_received(plan, rank, instance->layer, instance->pass.microbatch);
        call.bytes = tdm_plan_op_bytes(plan, rank, instance);
    }
    return tdm_net_collective(net, op->kind, &call);
}
