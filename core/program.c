/* program.c: lays the programs of roles out flat, see program.h. */
#include "program.h"

#include <string.h>

/* The arrays of a program while it is put together; marks and last_shared serve to find waits. */
typedef struct builder {
    const tdm_plan *plan;
    tdm_program *program;
    tdm_instance *ops, *users;
    uint8_t *stream, *phase, *comm_key;
    uint32_t *number, *comm, *first_wait, *comm_op, *routed;
    uint16_t *comm_user;
    tdm_program_wait *waits;
    uint32_t n_waits;
    uint32_t *on_stream[TDM_N_STREAMS];
    uint32_t *forwards, *backwards;   /* [chunk x microbatch] index of the F and B pass */
    uint32_t (*marks)[TDM_N_STREAMS]; /* [n_passes] ops issued when a pass began */
    uint32_t n_begun;
    uint32_t *last_shared; /* [pp] last op (index + 1) on the communicator shared with a stage */
} builder;

/* Place of a pass's chunk and microbatch in an array of all of them. */
static uint32_t work_of(const tdm_plan *plan, const tdm_pass *pass)
{
    return pass->chunk * plan->num_microbatches + pass->microbatch;
}

/* Where each chunk and microbatch has its F and its B pass; the number of passes where it has none.
 * Passes that verify would refuse are left out. */
static void find_passes(tdm_arena *arena, builder *b)
{
    const tdm_role *role = b->program->role;
    uint32_t n = role->n_chunks * b->plan->num_microbatches;
    b->forwards = TDM_ALLOC(arena, uint32_t, n);
    b->backwards = TDM_ALLOC(arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        b->forwards[i] = b->backwards[i] = role->n_passes;
    for (uint32_t i = 0; i < role->n_passes; i++) {
        const tdm_pass *pass = &role->passes[i];
        if (work_of(b->plan, pass) >= n)
            continue;
        if (pass->kind == TDM_PASS_F)
            b->forwards[work_of(b->plan, pass)] = i;
        else if (pass->kind == TDM_PASS_B)
            b->backwards[work_of(b->plan, pass)] = i;
    }
}

/* Allocates what one op takes, for all ops. */
static void allocate_ops(tdm_arena *arena, builder *b)
{
    tdm_program *p = b->program;
    p->ops = b->ops = TDM_ALLOC(arena, tdm_instance, p->n_ops);
    p->stream = b->stream = TDM_ALLOC(arena, uint8_t, p->n_ops);
    p->phase = b->phase = TDM_ALLOC(arena, uint8_t, p->n_ops);
    p->number = b->number = TDM_ALLOC(arena, uint32_t, p->n_ops);
    p->comm = b->comm = TDM_ALLOC(arena, uint32_t, p->n_ops);
    p->first_wait = b->first_wait = TDM_ALLOC(arena, uint32_t, (size_t)p->n_ops + 1);
    b->marks = tdm_arena_alloc(arena, sizeof *b->marks * p->role->n_passes);
    find_passes(arena, b);
    b->last_shared = TDM_ALLOC(arena, uint32_t, b->plan->mesh.pp);
}

/* Allocates what the ops turned out to need: at most so many waits, so many ops of each sort. */
static void allocate_lists(tdm_arena *arena, builder *b, uint32_t n_waits)
{
    tdm_program *p = b->program;
    p->waits = b->waits = TDM_ALLOC(arena, tdm_program_wait, n_waits);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        p->on_stream[s] = b->on_stream[s] = TDM_ALLOC(arena, uint32_t, p->n_on_stream[s]);
    p->comm_op = b->comm_op = TDM_ALLOC(arena, uint32_t, p->n_comms);
    p->comm_key = b->comm_key = TDM_ALLOC(arena, uint8_t, p->n_comms);
    p->comm_user = b->comm_user = TDM_ALLOC(arena, uint16_t, p->n_comms);
    p->routed = b->routed = TDM_ALLOC(arena, uint32_t, p->n_routed);
    /* One user per group kind; per chunk: send or receive, two neighbours, two ways to share a
     * communicator. */
    p->users = b->users =
        TDM_ALLOC(arena, tdm_instance, TDM_N_GROUP_KINDS + 8u * p->role->n_chunks);
}

/* Expands the ops and counts them by sort; returns the most waits they can have. */
static uint32_t expand(builder *b)
{
    tdm_program *p = b->program;
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, b->plan, p->rank);
    uint32_t n_waits = 0;
    for (tdm_instance *in = b->ops; tdm_cursor_next(&cursor, in); in++) {
        const tdm_op *op = in->op;
        n_waits += op->n_waits + tdm_op_is_p2p(op->kind);
        p->n_on_stream[op->stream]++;
        p->n_comms += tdm_op_is_comm(op);
        p->n_routed += tdm_op_is_routed(op);
    }
    return n_waits;
}

/* ---- waits ---- */

/* Passes without ops begin with the next one that has some. */
static void begin_passes(builder *b, uint32_t pass_index)
{
    for (; b->n_begun <= pass_index; b->n_begun++)
        memcpy(b->marks[b->n_begun], b->program->n_on_stream, sizeof b->program->n_on_stream);
}

/* Number of the stream's last op in an earlier pass of the current chunk and microbatch; 0: none.
 */
static uint32_t last_in_pass(const builder *b, uint32_t current, const tdm_wait *wait)
{
    const tdm_pass *now = &b->program->role->passes[current];
    bool forward = wait->kind == TDM_WAIT_FORWARD;
    uint32_t pass = (forward ? b->forwards : b->backwards)[work_of(b->plan, now)];
    if (pass >= current) /* none, or still to come */
        return 0;
    uint32_t before = b->marks[pass][wait->stream], after = b->marks[pass + 1][wait->stream];
    return after > before ? after : 0;
}

/* Number of the op on wait->stream that a wait means; 0: none. */
static uint32_t wait_number(const builder *b, const tdm_wait *wait)
{
    uint32_t issued = b->program->n_on_stream[wait->stream];
    if (wait->kind == TDM_WAIT_TAIL)
        return issued > wait->n ? issued - wait->n : 0;
    uint32_t current = b->n_begun - 1;
    if (wait->kind != TDM_WAIT_PASS)
        return last_in_pass(b, current, wait);
    return wait->n > current ? 0 : b->marks[current - wait->n][wait->stream];
}

/* Operations of one communicator run in issue order, also from different streams. Only sends and
 * receives that share a communicator both ways come from two. */
static void add_turn(builder *b, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    if (!tdm_op_is_p2p(op->kind) || op->u.p2p.p2p != TDM_P2P_SHARED)
        return;
    uint32_t peer = tdm_plan_peer(b->plan, b->program->rank, instance);
    if (peer == UINT32_MAX)
        return;
    uint32_t *last = &b->last_shared[tdm_mesh_stage(&b->plan->mesh, peer)];
    if (*last > 0 && b->stream[*last - 1] != op->stream)
        b->waits[b->n_waits++] = (tdm_program_wait){.op = *last - 1,
                                                    .number = b->number[*last - 1],
                                                    .stream = (tdm_stream)b->stream[*last - 1],
                                                    .turn = true};
    *last = instance->index + 1;
}

static void add_waits(builder *b, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    if (instance->first_of_pass)
        begin_passes(b, instance->pass_index);
    b->first_wait[instance->index] = b->n_waits;
    for (uint32_t i = 0; i < op->n_waits; i++) {
        uint32_t number = wait_number(b, &op->waits[i]);
        if (number > 0)
            b->waits[b->n_waits++] =
                (tdm_program_wait){.op = b->on_stream[op->waits[i].stream][number - 1],
                                   .number = number,
                                   .stream = op->waits[i].stream};
    }
    add_turn(b, instance);
    b->first_wait[instance->index + 1] = b->n_waits;
}

/* ---- communication ---- */

/* Ops that agree in what this compares use the same communicator on every rank of the role. */
static bool same_user(const tdm_instance *a, const tdm_instance *b)
{
    if (tdm_op_is_p2p(a->op->kind) != tdm_op_is_p2p(b->op->kind))
        return false;
    if (!tdm_op_is_p2p(a->op->kind))
        return a->op->u.collective.group == b->op->u.collective.group;
    return a->op->kind == b->op->kind && a->pass.chunk == b->pass.chunk &&
           a->op->u.p2p.peer == b->op->u.p2p.peer && a->op->u.p2p.p2p == b->op->u.p2p.p2p;
}

static uint16_t find_user(builder *b, const tdm_instance *instance)
{
    tdm_program *p = b->program;
    uint32_t i = 0;
    while (i < p->n_users && !same_user(&b->users[i], instance))
        i++;
    if (i == p->n_users)
        b->users[p->n_users++] = *instance;
    return (uint16_t)i;
}

static void add_op(builder *b, const tdm_instance *instance)
{
    tdm_program *p = b->program;
    const tdm_op *op = instance->op;
    uint32_t i = instance->index;
    b->stream[i] = (uint8_t)op->stream;
    /* An op of a BW pass says itself whether it is B or W; BW as an op's own pass counts as B. */
    b->phase[i] = (uint8_t)(op->pass == TDM_PASS_BW ? TDM_PASS_B : op->pass);
    b->on_stream[op->stream][p->n_on_stream[op->stream]++] = i;
    b->number[i] = p->n_on_stream[op->stream];
    if (tdm_op_is_comm(op)) {
        b->comm[i] = p->n_comms;
        b->comm_op[p->n_comms] = i;
        b->comm_key[p->n_comms] = tdm_comm_key(op);
        b->comm_user[p->n_comms++] = find_user(b, instance);
    }
    if (tdm_op_is_routed(op))
        b->routed[p->n_routed++] = i;
    if (b->phase[i] == TDM_PASS_O)
        p->first_o = p->first_o == TDM_NO_OP ? i : p->first_o;
    else if (op->stream == TDM_STREAM_COMPUTE)
        p->last_compute = i;
}

/* ---- happens-before ---- */

/* What has ended when the op starts, given the same for the ops before it; ended: for each stream,
 * when its last op has ended. */
static tdm_clock clock_of(const tdm_program *p, uint32_t op, const tdm_clock *before,
                          const tdm_clock *ended)
{
    tdm_clock clock = ended[p->stream[op]];
    for (uint32_t w = p->first_wait[op]; w < p->first_wait[op + 1]; w++) {
        const tdm_program_wait *wait = &p->waits[w];
        if (wait->turn || clock.seen[wait->stream] >= wait->number)
            continue;
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            uint32_t other = before[wait->op].seen[s];
            clock.seen[s] = clock.seen[s] > other ? clock.seen[s] : other;
        }
        clock.seen[wait->stream] = wait->number;
    }
    return clock;
}

static void find_clocks(tdm_arena *arena, tdm_program *p)
{
    tdm_clock *before = TDM_ALLOC(arena, tdm_clock, p->n_ops);
    tdm_clock ended[TDM_N_STREAMS] = {0};
    for (uint32_t i = 0; i < p->n_ops; i++) {
        before[i] = clock_of(p, i, before, ended);
        ended[p->stream[i]] = before[i];
        ended[p->stream[i]].seen[p->stream[i]] = p->number[i];
    }
    p->before = before;
}

static tdm_program lay_out(tdm_arena *arena, const tdm_plan *plan, uint32_t rank)
{
    tdm_program program = {.role = &plan->roles[plan->role_of[rank]],
                           .rank = rank,
                           .n_ops = tdm_plan_n_ops(plan, rank),
                           .first_o = TDM_NO_OP,
                           .last_compute = TDM_NO_OP};
    builder b = {.plan = plan, .program = &program};
    allocate_ops(arena, &b);
    uint32_t n_waits = expand(&b);
    allocate_lists(arena, &b, n_waits);
    memset(program.n_on_stream, 0, sizeof program.n_on_stream); /* from here on: issued so far */
    program.n_comms = program.n_routed = 0;
    for (uint32_t i = 0; i < program.n_ops; i++) {
        add_waits(&b, &b.ops[i]);
        add_op(&b, &b.ops[i]);
    }
    find_clocks(arena, &program);
    return program;
}

const tdm_program *tdm_program_of(tdm_arena *arena, const tdm_plan *plan, uint32_t rank)
{
    if (plan->programs)
        return &plan->programs[plan->role_of[rank]];
    tdm_program *program = TDM_ALLOC(arena, tdm_program, 1);
    *program = lay_out(arena, plan, rank);
    return program;
}

const tdm_program *tdm_programs_of(tdm_arena *arena, const tdm_plan *plan)
{
    if (plan->programs)
        return plan->programs;
    tdm_program *programs = TDM_ALLOC(arena, tdm_program, plan->n_roles);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        if (!programs[plan->role_of[rank]].role)
            programs[plan->role_of[rank]] = lay_out(arena, plan, rank);
    return programs;
}
