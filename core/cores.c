/* cores.c: see cores.h. Time passes only where a thread has a core, so the next event is always the
 * end of a burst on one of the cores. */
#include "cores.h"

#include <assert.h>
#include <math.h>

typedef enum phase {
    PHASE_TAKE, /* looks at its next op; it may have to wait */
    PHASE_WORK, /* computes */
    PHASE_MOVE, /* all members have come: moves its share */
    PHASE_LEAVE /* all members have moved */
} phase;

enum { ISSUE = TDM_N_STREAMS, N_THREADS }; /* of a rank: its streams, and one that issues */

typedef struct thread {
    struct thread *next; /* in the queue of ready threads */
    uint32_t rank, stream;
    uint32_t n_done;    /* ops */
    uint32_t next_wait; /* of its op: those before are over */
    phase phase;
    bool asleep;
    double left_s;  /* of its burst */
    double start_s; /* of its op */
    double used_s;  /* core time, as its turn is found by */
} thread;

typedef struct meeting {
    uint64_t id;
    uint32_t n_members, n_here;
    thread **here; /* [n_members] */
} meeting;

typedef struct core {
    thread *thread; /* NULL: idle */
    double since_s; /* it has the core */
    double until_s; /* the burst, or its slice, ends */
} core;

typedef struct engine {
    tdm_arena *arena;
    const tdm_plan *plan;
    const tdm_cores *cores;
    const tdm_costs *costs;
    tdm_trace *trace;
    thread *threads;    /* [world][N_THREADS] */
    meeting ***seats;   /* [world][users of the role's program] */
    meeting **meetings; /* [n_meetings] */
    uint32_t n_meetings;
    core *on;       /* [n_cores] */
    core *at;       /* that whose thread is at the end of a burst */
    thread *ready;  /* a list */
    double least_s; /* core time used by the thread that got a core last */
    double now_s;
} engine;

static thread *thread_of(const engine *e, uint32_t rank, uint32_t stream)
{
    return &e->threads[rank * N_THREADS + stream];
}

static const tdm_program *program_of(const engine *e, uint32_t rank)
{
    return &e->costs->programs[e->plan->role_of[rank]];
}

/* ---- what there is to do ---- */

/* Bytes that come to a member of an all-to-all. */
static double received_bytes(const tdm_plan *plan, uint32_t rank, const tdm_instance *in)
{
    tdm_group group = tdm_mesh_group(&plan->mesh, in->op->u.collective.group, rank);
    if (plan->routing.n_layers == 0 || in->op->u.collective.group != TDM_GROUP_EP)
        return (double)in->op->u.collective.bytes;
    const uint32_t *sent = tdm_plan_sent(plan, rank, in->layer, in->pass.microbatch);
    uint32_t me = tdm_group_index(&group, rank);
    uint64_t tokens = 0;
    for (uint32_t peer = 0; peer < group.size; peer++)
        tokens += in->op->u.collective.a2a == TDM_A2A_DISPATCH ? sent[peer * group.size + me]
                                                               : sent[me * group.size + peer];
    return (double)(tokens * in->op->u.collective.token_bytes);
}

/* Core time of a member's share. */
static double move_s(const engine *e, uint32_t rank, const tdm_instance *in)
{
    const tdm_plan *plan = e->plan;
    const tdm_op *op = in->op;
    double copy = e->cores->copy_bytes_per_s, reduce = e->cores->reduce_bytes_per_s;
    if (plan->pass_times)
        return 0;
    switch (op->kind) {
    case TDM_OP_ALL_REDUCE:
        return (double)op->u.collective.bytes * (1 / reduce + 1 / copy);
    case TDM_OP_REDUCE_SCATTER:
        return (double)tdm_plan_op_bytes(plan, rank, in) / reduce;
    case TDM_OP_ALL_GATHER:
        return (double)tdm_plan_op_bytes(plan, rank, in) / copy;
    case TDM_OP_ALL_TO_ALL:
        return received_bytes(plan, rank, in) / copy;
    case TDM_OP_BROADCAST: {
        tdm_group group = tdm_mesh_group(&plan->mesh, op->u.collective.group, rank);
        return tdm_group_index(&group, rank) > 0 ? (double)op->u.collective.bytes / copy : 0;
    }
    case TDM_OP_RECV:
        return (double)op->u.p2p.bytes / copy;
    default:
        return 0;
    }
}

static double compute_s(const engine *e, uint32_t rank, uint32_t op)
{
    const tdm_instance *in = &program_of(e, rank)->ops[op];
    double seconds = e->costs->seconds[e->plan->role_of[rank]][op];
    if (isnan(seconds))
        seconds = tdm_cost_op(e->costs->device, e->plan, in->op,
                              tdm_plan_tokens(e->plan, rank, in->layer, in->pass.microbatch));
    if (e->costs->perturbed)
        seconds *= tdm_perturbed_kernel(e->costs->perturbed, rank, op);
    return seconds;
}

/* ---- cores ---- */

static void start_burst(engine *e, core *c)
{
    double slice_end_s = c->since_s + e->cores->slice_s;
    double end_s = e->now_s + c->thread->left_s;
    c->until_s = end_s <= slice_end_s ? end_s : fmax(slice_end_s, e->now_s);
}

static void put_on(engine *e, core *c, thread *t)
{
    c->thread = t;
    c->since_s = e->now_s;
    start_burst(e, c);
}

static void queue(engine *e, thread *t)
{
    t->next = e->ready;
    e->ready = t;
}

/* Of the cores that may change hands, the one whose thread has used most. */
static core *most_used(const engine *e)
{
    core *found = NULL;
    for (uint32_t i = 0; i < e->cores->n_cores; i++) {
        core *c = &e->on[i];
        if (c != e->at && e->now_s - c->since_s > e->cores->hold_s &&
            (!found || c->thread->used_s > found->thread->used_s))
            found = c;
    }
    return found;
}

/* Lets a thread that waited go on with `phase`: on an idle core, or in the place of one that has
 * used more and has had its core for a while, or later. */
static void wake(engine *e, thread *t, phase next)
{
    assert(t->asleep);
    t->asleep = false;
    t->phase = next;
    t->used_s = fmax(t->used_s, e->least_s - e->cores->slice_s);
    for (uint32_t c = 0; c < e->cores->n_cores; c++)
        if (!e->on[c].thread) {
            t->left_s = fmax(e->cores->wake_s, e->cores->switch_s);
            put_on(e, &e->on[c], t);
            return;
        }
    t->left_s = e->cores->switch_s;
    core *c = most_used(e);
    if (!c || c->thread->used_s <= t->used_s) {
        queue(e, t);
        return;
    }
    queue(e, c->thread);
    put_on(e, c, t);
}

/* ---- ops ---- */

/* Whether nothing is left to wait for before the stream's next op; what is not over is waited for
 * one by one, as next_wait says. */
static bool may_take(const engine *e, thread *t)
{
    const tdm_program *p = program_of(e, t->rank);
    if (t->n_done == p->n_on_stream[t->stream])
        return false;
    uint32_t op = p->on_stream[t->stream][t->n_done];
    if (op >= thread_of(e, t->rank, ISSUE)->n_done)
        return false;
    for (; p->first_wait[op] + t->next_wait < p->first_wait[op + 1]; t->next_wait++) {
        const tdm_program_wait *wait = &p->waits[p->first_wait[op] + t->next_wait];
        if (thread_of(e, t->rank, wait->stream)->n_done < wait->number)
            return false;
    }
    return true;
}

/* Whether what the sleeping thread waits for is over. */
static bool is_called(const engine *e, const thread *t)
{
    const tdm_program *p = program_of(e, t->rank);
    if (!t->asleep || t->phase != PHASE_TAKE || t->n_done == p->n_on_stream[t->stream])
        return false;
    uint32_t op = p->on_stream[t->stream][t->n_done], wait = p->first_wait[op] + t->next_wait;
    if (op >= thread_of(e, t->rank, ISSUE)->n_done)
        return false;
    return wait == p->first_wait[op + 1] ||
           thread_of(e, t->rank, p->waits[wait].stream)->n_done >= p->waits[wait].number;
}

/* Wakes streams of the rank that waited for an op to end, or to be issued. */
static void tell(engine *e, uint32_t rank)
{
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (is_called(e, thread_of(e, rank, s)))
            wake(e, thread_of(e, rank, s), PHASE_TAKE);
}

static meeting *meeting_of(engine *e, uint32_t rank, const tdm_program *p, uint32_t op)
{
    meeting **seat = &e->seats[rank][p->comm_user[p->comm[op]]];
    if (*seat)
        return *seat;
    tdm_comm_id id = tdm_comm_identify(e->plan, rank, &p->ops[op]);
    for (uint32_t i = 0; i < e->n_meetings && id.n_members > 1 && !*seat; i++)
        if (e->meetings[i]->id == id.id)
            *seat = e->meetings[i];
    if (*seat)
        return *seat;
    meeting *made = TDM_ALLOC(e->arena, meeting, 1);
    *made = (meeting){.id = id.id,
                      .n_members = id.n_members,
                      .here = TDM_ALLOC(e->arena, thread *, id.n_members)};
    e->meetings[e->n_meetings++] = made;
    return *seat = made;
}

/* Joins; true when the thread is the last to come, and the others have been woken. */
static bool meet(engine *e, thread *t, meeting *m, phase next)
{
    m->here[m->n_here++] = t;
    if (m->n_here < m->n_members) {
        t->asleep = true;
        return false;
    }
    m->n_here = 0;
    for (uint32_t i = 0; i + 1 < m->n_members; i++)
        wake(e, m->here[i], next);
    t->phase = next;
    return true;
}

static void finish(engine *e, thread *t, uint32_t op)
{
    e->trace->ranks[t->rank].spans[op] = (tdm_span){t->start_s, e->now_s};
    t->n_done++;
    t->next_wait = 0;
    t->phase = PHASE_TAKE;
    t->left_s = e->cores->turn_s;
    tell(e, t->rank);
}

/* The thread's burst is over: what it does next, until it needs time or waits. */
static void go_on(engine *e, thread *t)
{
    const tdm_program *p = program_of(e, t->rank);
    if (t->stream == ISSUE) {
        t->n_done++;
        t->left_s = e->costs->launch_s;
        t->asleep = t->n_done == p->n_ops;
        tell(e, t->rank);
        return;
    }
    if (t->phase == PHASE_TAKE && !may_take(e, t)) {
        t->asleep = true;
        return;
    }
    uint32_t op = p->on_stream[t->stream][t->n_done];
    bool is_comm = p->stream[op] != TDM_STREAM_COMPUTE;
    meeting *m = is_comm ? meeting_of(e, t->rank, p, op) : NULL;
    switch (t->phase) {
    case PHASE_TAKE:
        t->start_s = e->now_s;
        t->phase = PHASE_WORK;
        if (!is_comm)
            t->left_s = compute_s(e, t->rank, op);
        else if (m->n_members < 2)
            t->left_s = 0;
        else if (meet(e, t, m, PHASE_MOVE))
            t->left_s = 0;
        return;
    case PHASE_MOVE: /* it runs: now for its share */
        t->phase = PHASE_LEAVE;
        t->left_s = move_s(e, t->rank, &p->ops[op]);
        return;
    case PHASE_LEAVE:
        if (meet(e, t, m, PHASE_WORK))
            finish(e, t, op);
        return;
    case PHASE_WORK:
        finish(e, t, op);
        return;
    }
}

/* The core whose burst ends first; NULL: all are idle. */
static core *next_core(const engine *e)
{
    core *found = NULL;
    for (uint32_t c = 0; c < e->cores->n_cores; c++)
        if (e->on[c].thread && (!found || e->on[c].until_s < found->until_s))
            found = &e->on[c];
    return found;
}

/* Whoever has used least goes first; of equals who came first. */
static void fill(engine *e, core *c)
{
    thread **least = &e->ready;
    c->thread = NULL;
    if (!e->ready)
        return;
    for (thread **t = least; *t; t = &(*t)->next)
        if ((*t)->used_s <= (*least)->used_s)
            least = t;
    thread *t = *least;
    *least = t->next;
    e->least_s = fmax(e->least_s, t->used_s);
    put_on(e, c, t);
}

static void ride(engine *e)
{
    for (core *c = next_core(e); c; c = next_core(e)) {
        thread *t = c->thread;
        double before_s = e->now_s;
        e->now_s = fmax(c->until_s, before_s);
        for (uint32_t i = 0; i < e->cores->n_cores; i++)
            if (e->on[i].thread) {
                e->on[i].thread->left_s -= e->now_s - before_s;
                e->on[i].thread->used_s += e->now_s - before_s;
            }
        if (t->left_s > 1e-12) { /* its slice is over */
            c->since_s = e->now_s;
            if (e->ready) {
                queue(e, t);
                fill(e, c);
            } else {
                start_burst(e, c);
            }
            continue;
        }
        t->left_s = 0;
        e->at = c;
        go_on(e, t);
        e->at = NULL;
        if (t->asleep)
            fill(e, c);
        else
            start_burst(e, c);
    }
}

/* All threads wait for the step to begin, and are let go together. */
static void start(engine *e)
{
    uint32_t world = e->plan->mesh.world;
    for (uint32_t rank = 0; rank < world; rank++)
        for (uint32_t s = 0; s < N_THREADS; s++) {
            thread *t = thread_of(e, rank, s);
            *t = (thread){.rank = rank, .stream = s, .asleep = true};
            if (s == ISSUE || program_of(e, rank)->n_on_stream[s] > 0)
                wake(e, t, PHASE_TAKE);
        }
}

static tdm_code report_stuck(const engine *e, tdm_error *err)
{
    for (uint32_t rank = 0; rank < e->plan->mesh.world; rank++)
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            const tdm_program *p = program_of(e, rank);
            const thread *t = thread_of(e, rank, s);
            if (t->n_done < p->n_on_stream[s])
                return tdm_error_add(
                    err, TDM_E_INTERNAL, "deadlock: rank %u never ends '%s' on stream %s", rank,
                    p->ops[p->on_stream[s][t->n_done]].op->name, tdm_stream_name((tdm_stream)s));
        }
    return TDM_OK;
}

double tdm_cores_transfer_s(const tdm_cores *cores, tdm_op_kind kind, uint32_t n, uint64_t bytes)
{
    double copy = (double)bytes / cores->copy_bytes_per_s;
    double reduce = (double)bytes / cores->reduce_bytes_per_s;
    double share = kind == TDM_OP_ALL_REDUCE       ? copy + reduce
                   : kind == TDM_OP_REDUCE_SCATTER ? reduce
                   : kind == TDM_OP_ALL_TO_ALL     ? copy / n
                                                   : copy;
    return n * (share + 2 * cores->switch_s) / (n < cores->n_cores ? n : cores->n_cores);
}

tdm_code tdm_cores_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                       const char *engine_name, tdm_trace *trace, tdm_error *err)
{
    tdm_arena scratch = {0};
    uint32_t world = plan->mesh.world, n_users = 0;
    tdm_trace out;
    engine e = {.arena = &scratch,
                .plan = plan,
                .cores = machine->topology->cores,
                .costs = tdm_costs_new(&scratch, plan, machine),
                .trace = &out};
    tdm_trace_init(arena, plan, engine_name, 0, &out);
    e.threads = TDM_ALLOC(&scratch, thread, (size_t)world * N_THREADS);
    e.seats = TDM_ALLOC(&scratch, meeting **, world);
    for (uint32_t rank = 0; rank < world; rank++) {
        e.seats[rank] = TDM_ALLOC(&scratch, meeting *, program_of(&e, rank)->n_users);
        n_users += program_of(&e, rank)->n_users;
    }
    e.meetings = TDM_ALLOC(&scratch, meeting *, n_users + 1);
    e.on = TDM_ALLOC(&scratch, core, e.cores->n_cores);
    start(&e);
    ride(&e);
    tdm_code code = report_stuck(&e, err);
    tdm_arena_free(&scratch);
    if (code == TDM_OK)
        *trace = out;
    return code;
}
