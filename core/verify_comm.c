/* verify_comm.c: reduces every role's program to its communication ops and finds the plan's
 * communicators. */
#include "verify_comm.h"

#include <stdio.h>
#include <string.h>

/* ---- the ops of a role ---- */

typedef struct reduction {
    const tdm_plan *plan;
    tdm_verify_comm_role *role;
    const tdm_op *lonely; /* last op that was reported to have no neighbour */
    /* [stream][position]: communication ops among the stream's first ones. */
    uint32_t *n_before[TDM_N_STREAMS];
} reduction;

/* The channel of an op, entered on first use. */
static uint32_t find_channel(reduction *r, const tdm_instance *in, uint32_t peer)
{
    tdm_verify_comm_role *role = r->role;
    const tdm_op *op = in->op;
    bool p2p = tdm_op_is_p2p(op->kind);
    bool shared = p2p && op->u.p2p.p2p == TDM_P2P_SHARED;
    bool outgoing = op->kind == TDM_OP_SEND && !shared;
    bool forward = p2p && (op->kind == TDM_OP_SEND) == (op->u.p2p.peer == TDM_PEER_NEXT);
    bool gradients = p2p && !shared && !forward;
    for (uint32_t i = 0; i < role->n_channels; i++) {
        const tdm_verify_channel *c = &role->channels[i];
        bool same = p2p ? c->peer == peer && c->shared == shared && c->outgoing == outgoing &&
                              c->gradients == gradients
                        : c->group == op->u.collective.group;
        if (c->p2p == p2p && same)
            return i;
    }
    role->channels[role->n_channels] =
        (tdm_verify_channel){.p2p = p2p,
                             .group = p2p ? TDM_N_GROUP_KINDS : op->u.collective.group,
                             .shared = shared,
                             .outgoing = outgoing,
                             .gradients = gradients,
                             .peer = peer,
                             .same_role = UINT32_MAX};
    return role->n_channels++;
}

/* Told once, not for every microbatch. */
static tdm_code no_neighbour(reduction *r, const tdm_instance *in, tdm_error *err)
{
    if (r->lonely == in->op)
        return TDM_E_INVALID;
    r->lonely = in->op;
    return tdm_error_add(
        err, TDM_E_INVALID,
        "rank %u: %s has no neighbour to talk to: its stage is at the end of the pipeline",
        r->role->rank, tdm_verify_op_text(in).s);
}

static tdm_code add_op(reduction *r, const tdm_instance *in, const tdm_clock *before, uint32_t own,
                       tdm_error *err)
{
    tdm_verify_comm_role *role = r->role;
    uint32_t peer = tdm_op_is_p2p(in->op->kind) ? tdm_plan_peer(r->plan, role->rank, in) : 0;
    if (peer == UINT32_MAX)
        return no_neighbour(r, in, err);
    tdm_verify_comm_op *op = &role->ops[role->n_ops++];
    *op = (tdm_verify_comm_op){.instance = *in, .channel = find_channel(r, in, peer)};
    op->turn = role->channels[op->channel].n_ops++;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        op->need[s] = r->n_before[s][before->seen[s]];
    op->on_stream = r->n_before[in->op->stream][own - 1];
    return TDM_OK;
}

/* Lists the ops by channel and by stream. */
static void index_ops(tdm_arena *scratch, tdm_verify_comm_role *role)
{
    for (uint32_t c = 0; c < role->n_channels; c++)
        role->channels[c].ops = TDM_ALLOC(scratch, uint32_t, role->channels[c].n_ops);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        role->streams[s] = TDM_ALLOC(scratch, uint32_t, role->n_ops);
    for (uint32_t i = 0; i < role->n_ops; i++) {
        const tdm_verify_comm_op *op = &role->ops[i];
        tdm_stream s = op->instance.op->stream;
        role->channels[op->channel].ops[op->turn] = i;
        role->streams[s][role->n_on_stream[s]++] = i;
    }
}

static tdm_code reduce_role(tdm_arena *scratch, const tdm_plan *plan, const tdm_program *program,
                            tdm_verify_comm_role *role, tdm_error *err)
{
    *role = (tdm_verify_comm_role){.rank = program->rank,
                                   .ops = TDM_ALLOC(scratch, tdm_verify_comm_op, program->n_comms)};
    reduction r = {.plan = plan, .role = role};
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        uint32_t *n_before = TDM_ALLOC(scratch, uint32_t, program->n_on_stream[s] + 1);
        for (uint32_t i = 0; i < program->n_on_stream[s]; i++)
            n_before[i + 1] =
                n_before[i] + tdm_op_is_comm(program->ops[program->on_stream[s][i]].op);
        r.n_before[s] = n_before;
    }
    tdm_code code = TDM_OK;
    for (uint32_t c = 0; c < program->n_comms; c++) {
        uint32_t i = program->comm_op[c];
        code = tdm_verify_worst(
            code, add_op(&r, &program->ops[i], &program->before[i], program->number[i], err));
    }
    index_ops(scratch, role);
    return code;
}

/* ---- communicators ---- */

typedef struct table {
    uint64_t *keys; /* + 1; 0: free */
    uint32_t *values;
    uint64_t mask;
} table;

/* Number of the communicator with this key; *fresh when it is seen for the first time. */
static uint32_t table_enter(table *t, uint64_t key, uint32_t next, bool *fresh)
{
    /* Fibonacci hashing. Source: Knuth, The Art of Computer Programming vol. 3, section 6.4. */
    uint64_t i = (key * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & t->mask;
    while (t->keys[i] != 0 && t->keys[i] != key + 1)
        i = (i + 1) & t->mask;
    *fresh = t->keys[i] == 0;
    if (*fresh) {
        t->keys[i] = key + 1;
        t->values[i] = next;
    }
    return t->values[i];
}

/* The rank's neighbour on a channel. */
static uint32_t peer_of(const tdm_verify_comms *comms, uint32_t rank,
                        const tdm_verify_channel *channel)
{
    const tdm_verify_comm_role *role = tdm_verify_role(comms, rank);
    return tdm_plan_peer(comms->plan, rank, &role->ops[channel->ops[0]].instance);
}

static uint64_t communicator_key(const tdm_verify_comms *comms, uint32_t rank,
                                 const tdm_verify_channel *channel, uint32_t *size)
{
    enum { FAMILY_SHIFT = 56 };
    enum { FAMILY_DIRECTED = TDM_N_GROUP_KINDS, FAMILY_GRADIENTS, FAMILY_SHARED };
    if (!channel->p2p) {
        tdm_group group = tdm_mesh_group(&comms->plan->mesh, channel->group, rank);
        *size = group.size;
        return (uint64_t)channel->group << FAMILY_SHIFT | group.id;
    }
    *size = 2;
    uint32_t peer = peer_of(comms, rank, channel);
    bool first = channel->shared ? rank < peer : channel->outgoing;
    uint64_t pair = (uint64_t)(first ? rank : peer) << 28 | (first ? peer : rank);
    uint64_t family = channel->shared      ? FAMILY_SHARED
                      : channel->gradients ? FAMILY_GRADIENTS
                                           : FAMILY_DIRECTED;
    return family << FAMILY_SHIFT | pair;
}

static void enter_rank(tdm_verify_comms *comms, table *t, uint32_t rank)
{
    const tdm_verify_comm_role *role = tdm_verify_role(comms, rank);
    for (uint32_t c = 0; c < role->n_channels; c++) {
        uint32_t size;
        bool fresh;
        uint64_t key = communicator_key(comms, rank, &role->channels[c], &size);
        uint32_t id = table_enter(t, key, comms->n_communicators, &fresh);
        if (fresh)
            comms->communicators[comms->n_communicators++] =
                (tdm_verify_communicator){.key = key, .size = size};
        comms->communicators[id].n_members++;
        comms->of_rank[(size_t)rank * TDM_MAX_CHANNELS + c] = id;
    }
}

static void fill_members(tdm_arena *scratch, tdm_verify_comms *comms)
{
    for (uint32_t i = 0; i < comms->n_communicators; i++) {
        tdm_verify_communicator *c = &comms->communicators[i];
        c->members = TDM_ALLOC(scratch, tdm_verify_member, c->n_members);
        c->n_members = 0;
    }
    for (uint32_t rank = 0; rank < comms->plan->mesh.world; rank++)
        for (uint32_t c = 0; c < tdm_verify_role(comms, rank)->n_channels; c++) {
            tdm_verify_communicator *comm =
                &comms->communicators[tdm_verify_communicator_of(comms, rank, c)];
            comm->members[comm->n_members++] = (tdm_verify_member){rank, c};
        }
}

static void find_communicators(tdm_arena *scratch, tdm_verify_comms *comms)
{
    size_t most = 0;
    for (uint32_t rank = 0; rank < comms->plan->mesh.world; rank++)
        most += tdm_verify_role(comms, rank)->n_channels;
    size_t capacity = 16;
    while (capacity < 2 * most)
        capacity *= 2;
    table t = {TDM_ALLOC(scratch, uint64_t, capacity), TDM_ALLOC(scratch, uint32_t, capacity),
               capacity - 1};
    comms->communicators = TDM_ALLOC(scratch, tdm_verify_communicator, most);
    comms->of_rank =
        TDM_ALLOC(scratch, uint32_t, (size_t)comms->plan->mesh.world * TDM_MAX_CHANNELS);
    for (uint32_t rank = 0; rank < comms->plan->mesh.world; rank++)
        enter_rank(comms, &t, rank);
    fill_members(scratch, comms);
}

tdm_code tdm_verify_comms_collect(tdm_arena *scratch, const tdm_plan *plan,
                                  const tdm_program *programs, tdm_verify_comms *comms,
                                  tdm_error *err)
{
    *comms = (tdm_verify_comms){.plan = plan,
                                .roles = TDM_ALLOC(scratch, tdm_verify_comm_role, plan->n_roles)};
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        if (programs[r].role)
            code = tdm_verify_worst(
                code, reduce_role(scratch, plan, &programs[r], &comms->roles[r], err));
    if (code == TDM_OK)
        find_communicators(scratch, comms);
    return code;
}

tdm_verify_text tdm_verify_channel_text(const tdm_verify_comms *comms, uint32_t rank,
                                        uint32_t channel)
{
    const tdm_verify_channel *c = &tdm_verify_role(comms, rank)->channels[channel];
    tdm_verify_text t;
    if (!c->p2p) {
        tdm_group group = tdm_mesh_group(&comms->plan->mesh, c->group, rank);
        snprintf(t.s, sizeof t.s, "the %s group of ranks %u..%u", tdm_group_kind_name(c->group),
                 tdm_group_member(&group, 0), tdm_group_member(&group, group.size - 1));
        return t;
    }
    uint32_t peer = peer_of(comms, rank, c);
    if (c->shared)
        snprintf(t.s, sizeof t.s, "the communicator of ranks %u and %u, both directions",
                 rank < peer ? rank : peer, rank < peer ? peer : rank);
    else
        snprintf(t.s, sizeof t.s, "the communicator from rank %u to rank %u",
                 c->outgoing ? rank : peer, c->outgoing ? peer : rank);
    return t;
}

/* ---- how many at once ---- */

/* a must have ended before b starts: by streams and waits, or because they share a communicator. */
static bool ordered(const tdm_verify_comm_op *a, const tdm_verify_comm_op *b)
{
    return b->need[a->instance.op->stream] > a->on_stream ||
           (a->channel == b->channel && a->turn < b->turn);
}

/* Looks for one op per stream of the set, none ordered before another: an op ordered before another
 * stream's candidate is before all that follow there too, so it can be dropped. Source: Garg and
 * Waldecker 1994, Detection of weak unstable predicates in distributed programs. */
static bool all_at_once(const tdm_verify_comm_role *role, uint32_t set)
{
    uint32_t at[TDM_N_STREAMS] = {0};
    for (uint32_t a = 0; a < TDM_N_STREAMS; a++)
        if ((set >> a & 1) && role->n_on_stream[a] == 0)
            return false;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t a = 0; a < TDM_N_STREAMS; a++)
            for (uint32_t b = 0; b < TDM_N_STREAMS; b++) {
                if (a == b || !(set >> a & 1) || !(set >> b & 1))
                    continue;
                while (ordered(&role->ops[role->streams[a][at[a]]],
                               &role->ops[role->streams[b][at[b]]])) {
                    moved = true;
                    if (++at[a] == role->n_on_stream[a])
                        return false;
                }
            }
    }
    return true;
}

uint32_t tdm_verify_resident(const tdm_verify_comm_role *role)
{
    uint32_t most = 0;
    for (uint32_t set = 1; set < 1u << TDM_N_STREAMS; set++) {
        uint32_t size = (uint32_t)__builtin_popcount(set);
        if (size > most && all_at_once(role, set))
            most = size;
    }
    return most;
}

/* ---- all of it ---- */

tdm_code tdm_verify_comm(const tdm_plan *plan, const tdm_program *programs, uint32_t *resident,
                         tdm_error *err)
{
    tdm_arena scratch = {0};
    tdm_verify_comms comms;
    tdm_code code = tdm_verify_comms_collect(&scratch, plan, programs, &comms, err);
    if (code == TDM_OK)
        code = tdm_verify_comms_match(&comms, err);
    if (code == TDM_OK)
        code = tdm_verify_comms_run(&comms, err);
    for (uint32_t r = 0; r < plan->n_roles && code == TDM_OK; r++) {
        uint32_t n = programs[r].role ? tdm_verify_resident(&comms.roles[r]) : 0;
        *resident = n > *resident ? n : *resident;
    }
    tdm_arena_free(&scratch);
    return code;
}
