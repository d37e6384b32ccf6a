/* outline.c: expands the program of a role once into flat arrays. */
#include "outline.h"

/* Where the waits of an op point: counts of ops issued so far, by stream. */
typedef struct issue_state {
    uint32_t n[TDM_N_STREAMS];          /* issued so far */
    uint32_t (*at_pass)[TDM_N_STREAMS]; /* issued when each pass began, [n_passes] */
} issue_state;

static void count_ops(const tdm_plan *plan, uint32_t rank, tdm_outline *outline, uint32_t *n_waits)
{
    tdm_cursor cursor;
    tdm_instance instance;
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &instance)) {
        const tdm_op *op = instance.op;
        outline->n_ops++;
        outline->n_stream[op->stream]++;
        outline->n_comms += op->stream != TDM_STREAM_COMPUTE;
        outline->n_routed += op->kind == TDM_OP_GROUPED_GEMM || op->kind == TDM_OP_ALL_TO_ALL;
        *n_waits += op->n_waits;
    }
}

static void allocate(tdm_arena *arena, tdm_outline *outline, uint32_t n_waits)
{
    outline->ops = TDM_ALLOC(arena, const tdm_op *, outline->n_ops);
    outline->stream = TDM_ALLOC(arena, uint8_t, outline->n_ops);
    outline->phase = TDM_ALLOC(arena, uint8_t, outline->n_ops);
    outline->pass = TDM_ALLOC(arena, uint32_t, outline->n_ops);
    outline->ordinal = TDM_ALLOC(arena, uint32_t, outline->n_ops);
    outline->comm = TDM_ALLOC(arena, uint32_t, outline->n_ops);
    outline->first_wait = TDM_ALLOC(arena, uint32_t, outline->n_ops + 1);
    outline->waits = TDM_ALLOC(arena, uint32_t, n_waits);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        outline->stream_ops[s] = TDM_ALLOC(arena, uint32_t, outline->n_stream[s]);
    outline->comm_op = TDM_ALLOC(arena, uint32_t, outline->n_comms);
    outline->comm_key = TDM_ALLOC(arena, uint8_t, outline->n_comms);
    outline->comm_user = TDM_ALLOC(arena, uint16_t, outline->n_comms);
    /* One user per group kind; per chunk: send or receive, two neighbours, two ways to share a
     * communicator. */
    outline->users =
        TDM_ALLOC(arena, tdm_instance, TDM_N_GROUP_KINDS + 8u * outline->role->n_chunks);
    outline->routed = TDM_ALLOC(arena, tdm_instance, outline->n_routed);
}

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

static uint16_t find_user(tdm_outline *outline, const tdm_instance *instance)
{
    uint32_t i = 0;
    while (i < outline->n_users && !same_user(&outline->users[i], instance))
        i++;
    if (i == outline->n_users)
        outline->users[outline->n_users++] = *instance;
    return (uint16_t)i;
}

/* The op a wait points at; TDM_NO_OP when there is none yet. */
static uint32_t resolve_wait(const tdm_outline *outline, const issue_state *state,
                             const tdm_instance *instance, const tdm_wait *wait)
{
    uint32_t issued = state->n[wait->stream], back = wait->n;
    if (wait->kind == TDM_WAIT_PASS) {
        if (wait->n > instance->pass_index)
            return TDM_NO_OP;
        issued = state->at_pass[instance->pass_index - wait->n][wait->stream];
        back = 0;
    }
    return back < issued ? outline->stream_ops[wait->stream][issued - 1 - back] : TDM_NO_OP;
}

static void add_waits(tdm_outline *outline, const issue_state *state, const tdm_instance *instance,
                      uint32_t *n_waits)
{
    outline->first_wait[instance->index] = *n_waits;
    for (uint32_t w = 0; w < instance->op->n_waits; w++) {
        uint32_t target = resolve_wait(outline, state, instance, &instance->op->waits[w]);
        if (target != TDM_NO_OP)
            outline->waits[(*n_waits)++] = target;
    }
    outline->first_wait[instance->index + 1] = *n_waits;
}

static void add_work(const tdm_plan *plan, uint32_t rank, tdm_outline *outline,
                     const tdm_instance *instance, uint32_t *n_routed)
{
    const tdm_op *op = instance->op;
    if (op->kind == TDM_OP_GROUPED_GEMM || op->kind == TDM_OP_ALL_TO_ALL) {
        outline->routed[(*n_routed)++] = *instance;
        return;
    }
    double flops = tdm_op_flops(plan, rank, instance);
    outline->hardware_flops += flops;
    outline->model_flops += op->recompute ? 0 : flops;
}

static void add_op(tdm_outline *outline, issue_state *state, const tdm_instance *instance,
                   uint32_t *n_comms)
{
    const tdm_op *op = instance->op;
    uint32_t i = instance->index;
    outline->ops[i] = op;
    outline->stream[i] = (uint8_t)op->stream;
    /* An op of a BW pass says itself whether it is B or W; BW as an op's own pass counts as B. */
    outline->phase[i] = (uint8_t)(op->pass == TDM_PASS_BW ? TDM_PASS_B : op->pass);
    outline->pass[i] = instance->pass_index;
    outline->ordinal[i] = state->n[op->stream];
    outline->stream_ops[op->stream][state->n[op->stream]++] = i;
    if (op->stream != TDM_STREAM_COMPUTE) {
        outline->comm[i] = *n_comms;
        outline->comm_op[*n_comms] = i;
        outline->comm_key[*n_comms] = tdm_comm_key(op);
        outline->comm_user[(*n_comms)++] = find_user(outline, instance);
    }
    if (outline->phase[i] == TDM_PASS_O)
        outline->first_o = outline->first_o == TDM_NO_OP ? i : outline->first_o;
    else if (op->stream == TDM_STREAM_COMPUTE)
        outline->last_compute = i;
}

void tdm_outline_build(tdm_arena *arena, const tdm_plan *plan, uint32_t rank, tdm_outline *outline)
{
    *outline = (tdm_outline){.role = &plan->roles[plan->role_of[rank]]};
    uint32_t n_waits = 0, n_comms = 0, n_routed = 0, begun = 0;
    count_ops(plan, rank, outline, &n_waits);
    allocate(arena, outline, n_waits);
    outline->first_o = outline->last_compute = TDM_NO_OP;
    issue_state state = {
        {0}, tdm_arena_alloc(arena, sizeof *state.at_pass * (outline->role->n_passes + 1u))};
    tdm_cursor cursor;
    tdm_instance instance;
    n_waits = 0;
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &instance)) {
        /* Passes without ops begin together with the next one that has some. */
        for (; begun <= instance.pass_index; begun++)
            for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
                state.at_pass[begun][s] = state.n[s];
        add_waits(outline, &state, &instance, &n_waits);
        add_work(plan, rank, outline, &instance, &n_routed);
        add_op(outline, &state, &instance, &n_comms);
    }
}
