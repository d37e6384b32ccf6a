/* verify_match.c: operations of one communicator run in issue order on all its members, so the k-th
 * op of one member meets the k-th op of every other: they must be the same call. */
#include "verify_comm.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* One member's ops on the communicator. */
typedef struct side {
    const tdm_verify_comms *comms;
    const tdm_verify_comm_role *role;
    const tdm_verify_channel *channel;
    uint32_t rank;
} side;

static side side_of(const tdm_verify_comms *comms, tdm_verify_member member)
{
    const tdm_verify_comm_role *role = tdm_verify_role(comms, member.rank);
    return (side){comms, role, &role->channels[member.channel], member.rank};
}

static const tdm_instance *nth(const side *s, uint32_t k)
{
    return &s->role->ops[s->channel->ops[k]].instance;
}

/* The routing table says how many times so many bytes. */
static bool is_by_token(const tdm_op *op)
{
    return op->kind == TDM_OP_ALL_TO_ALL || tdm_op_is_routed_gather(op);
}

static uint64_t bytes_of(const tdm_op *op)
{
    if (tdm_op_is_p2p(op->kind))
        return op->u.p2p.bytes;
    return is_by_token(op) ? op->u.collective.token_bytes : op->u.collective.bytes;
}

/* bf16 all-reduce of 4096 bytes, op "proj.reduce" (F mb 0, layer 3) */
static tdm_verify_text call_text(const tdm_instance *in)
{
    tdm_verify_text t;
    const tdm_op *op = in->op;
    bool by_token = tdm_op_is_comm(op) && is_by_token(op);
    const char *way = op->kind != TDM_OP_ALL_TO_ALL              ? ""
                      : op->u.collective.a2a == TDM_A2A_DISPATCH ? "dispatching "
                                                                 : "combining ";
    snprintf(t.s, sizeof t.s, "%s %s%s of %" PRIu64 " bytes%s, %.120s", tdm_dtype_name(op->dtype),
             way, tdm_op_kind_name(op->kind), bytes_of(op), by_token ? " a token" : "",
             tdm_verify_op_text(in).s);
    return t;
}

static bool same_pass(const tdm_instance *a, const tdm_instance *b)
{
    return a->op->pass == b->op->pass && a->pass.microbatch == b->pass.microbatch;
}

static uint32_t virtual_stage(const side *s, const tdm_instance *in)
{
    const tdm_plan *plan = s->comms->plan;
    return plan->roles[plan->role_of[s->rank]].chunks[in->pass.chunk].virtual_stage;
}

/* What is wrong with a send and a receive that meet; NULL when nothing is. */
static const char *p2p_fault(const side *a, const tdm_instance *x, const side *b,
                             const tdm_instance *y)
{
    if (x->op->kind == y->op->kind)
        return x->op->kind == TDM_OP_SEND ? "opposing sends (a deadlock)"
                                          : "opposing receives (a deadlock)";
    if (!same_pass(x, y))
        return "not the same pass";
    bool up = x->op->u.p2p.peer == TDM_PEER_NEXT;
    uint32_t low = virtual_stage(up ? a : b, up ? x : y),
             high = virtual_stage(up ? b : a, up ? y : x);
    if (x->op->u.p2p.peer == y->op->u.p2p.peer || low + 1 != high)
        return "not neighbours";
    if (x->op->u.p2p.bytes != y->op->u.p2p.bytes)
        return "not the same bytes";
    return x->op->dtype != y->op->dtype ? "not the same dtype" : NULL;
}

/* The same for two members of a collective. Only ranks of one stage have the same layers. */
static const char *collective_fault(const side *a, const tdm_instance *x, const side *b,
                                    const tdm_instance *y)
{
    const tdm_mesh *mesh = &a->comms->plan->mesh;
    if (x->op->kind != y->op->kind)
        return "not the same kind";
    bool one_stage = tdm_mesh_stage(mesh, a->rank) == tdm_mesh_stage(mesh, b->rank);
    if (!same_pass(x, y) || strcmp(x->op->name, y->op->name) != 0 ||
        (one_stage && (x->layer != y->layer || x->pass.chunk != y->pass.chunk)))
        return "not the same order";
    if (bytes_of(x->op) != bytes_of(y->op) || is_by_token(x->op) != is_by_token(y->op))
        return "not the same bytes";
    if (x->op->dtype != y->op->dtype)
        return "not the same dtype";
    return x->op->u.collective.a2a != y->op->u.collective.a2a ? "not the same direction" : NULL;
}

static tdm_code mismatch(const side *a, const side *b, tdm_verify_member at, uint32_t k,
                         const char *fault, tdm_error *err)
{
    return tdm_error_add(
        err, TDM_E_INVALID,
        "rank %u and rank %u: %s on %s, operation %u: rank %u has %s; rank %u has %s", a->rank,
        b->rank, fault, tdm_verify_channel_text(a->comms, at.rank, at.channel).s, k + 1, a->rank,
        call_text(nth(a, k)).s, b->rank, call_text(nth(b, k)).s);
}

static tdm_code unequal(const side *more, const side *less, tdm_verify_member at, tdm_error *err)
{
    uint32_t k = less->channel->n_ops;
    return tdm_error_add(
        err, TDM_E_INVALID,
        "rank %u: %s has no counterpart on rank %u: on %s they issue %u and %u operations",
        more->rank, call_text(nth(more, k)).s, less->rank,
        tdm_verify_channel_text(more->comms, at.rank, at.channel).s, more->channel->n_ops, k);
}

static tdm_code match_pair(const side *a, const side *b, tdm_verify_member at, tdm_error *err)
{
    uint32_t n = a->channel->n_ops < b->channel->n_ops ? a->channel->n_ops : b->channel->n_ops;
    for (uint32_t k = 0; k < n; k++) {
        const tdm_instance *x = nth(a, k), *y = nth(b, k);
        const char *fault = a->channel->p2p ? p2p_fault(a, x, b, y) : collective_fault(a, x, b, y);
        if (fault)
            return mismatch(a, b, at, k, fault, err);
    }
    if (a->channel->n_ops == b->channel->n_ops)
        return TDM_OK;
    return a->channel->n_ops > n ? unequal(a, b, at, err) : unequal(b, a, at, err);
}

/* A member that issues nothing at all on the communicator. */
static tdm_code absent(const tdm_verify_comms *comms, const tdm_verify_communicator *c,
                       tdm_error *err)
{
    side a = side_of(comms, c->members[0]);
    uint32_t missing = UINT32_MAX;
    if (a.channel->p2p) {
        missing = tdm_plan_peer(comms->plan, a.rank, nth(&a, 0));
    } else {
        tdm_group group = tdm_mesh_group(&comms->plan->mesh, a.channel->group, a.rank);
        for (uint32_t i = 0, m = 0; i < group.size && missing == UINT32_MAX; i++) {
            uint32_t rank = tdm_group_member(&group, i);
            while (m < c->n_members && c->members[m].rank < rank)
                m++;
            if (m == c->n_members || c->members[m].rank != rank)
                missing = rank;
        }
    }
    return tdm_error_add(err, TDM_E_INVALID,
                         "rank %u: %s has no counterpart on rank %u, which issues nothing on %s",
                         a.rank, call_text(nth(&a, 0)).s, missing,
                         tdm_verify_channel_text(comms, a.rank, c->members[0].channel).s);
}

/* Ranks of a role differ in nothing that is compared, so a pair of roles is compared once. */
static tdm_code match_members(const tdm_verify_comms *comms, const tdm_verify_communicator *c,
                              tdm_error *err)
{
    side a = side_of(comms, c->members[0]);
    tdm_code code = TDM_OK;
    for (uint32_t i = 1; i < c->n_members && code == TDM_OK; i++) {
        side b = side_of(comms, c->members[i]);
        if (a.role == b.role && a.channel == b.channel)
            continue;
        uint32_t role = comms->plan->role_of[b.rank];
        tdm_verify_channel *memo =
            &comms->roles[comms->plan->role_of[a.rank]].channels[c->members[0].channel];
        if (memo->same_role == role && memo->same_channel == c->members[i].channel)
            continue;
        code = match_pair(&a, &b, c->members[0], err);
        memo->same_role = role;
        memo->same_channel = c->members[i].channel;
    }
    return code;
}

tdm_code tdm_verify_comms_match(const tdm_verify_comms *comms, tdm_error *err)
{
    enum { MAX_MESSAGES = 8 };
    tdm_code code = TDM_OK;
    uint32_t n_bad = 0;
    for (uint32_t i = 0; i < comms->n_communicators && n_bad < MAX_MESSAGES; i++) {
        const tdm_verify_communicator *c = &comms->communicators[i];
        tdm_code one =
            c->n_members < c->size ? absent(comms, c, err) : match_members(comms, c, err);
        n_bad += one != TDM_OK;
        code = tdm_verify_worst(code, one);
    }
    return code;
}
