/* executor_queue.c: a device whose work is queued. A rank's ops are issued in program order, each
 * onto its stream, behind waits for events of other streams; the marks around it become its times.
 *
 * Where members of a communicator find each other on the device (NCCL) every rank has its own
 * thread, as it would have its own process. Where an op is put on the streams of all its members at
 * once (`together`), one thread issues for all ranks, each stream as far as it can go: so whatever
 * is put on a stream waits only for what is on its own already, and ranks that share one GPU, whose
 * streams may share its queues, cannot wait for each other in a circle.
 *
 * A watcher looks at the marks: an op that has begun and does not end within the deadline is
 * reported, and the run ends. */
#include "executor_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

typedef struct queue_rank {
    exec_rank *of;
    atomic_uint begun[TDM_N_STREAMS], ended[TDM_N_STREAMS]; /* ops whose start, end is marked */
    bool held[TDM_N_STREAMS]; /* the stream's next op waits for other members */
    uint32_t waited[TDM_N_STREAMS][TDM_N_STREAMS]; /* [stream][other]: for so many of its ops */
    /* Of the watcher. */
    uint32_t seen[TDM_N_STREAMS];  /* ops that have ended */
    double since_s[TDM_N_STREAMS]; /* when the next was first seen running; 0: not yet */
} queue_rank;

typedef struct conductor {
    executor *e;
    queue_rank *ranks; /* [n_ranks] that it issues for */
    uint32_t n_ranks;
    pthread_t thread;
    bool started;
} conductor;

typedef struct queue_state {
    queue_rank *ranks;     /* [n_ranks] */
    conductor *conductors; /* [n_conductors] */
    uint32_t n_conductors;
    pthread_t watcher;
    bool watches;
    pthread_mutex_t mutex; /* of n_working */
    pthread_cond_t done;   /* n_working is 0 */
    uint32_t n_working;
} queue_state;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- issuing ---- */

/* What the op waits for has been issued. */
static bool may_go(queue_rank *r, uint32_t op)
{
    const tdm_program *p = r->of->program;
    for (uint32_t w = p->first_wait[op]; w < p->first_wait[op + 1]; w++)
        if (r->ended[p->waits[w].stream] < p->waits[w].number)
            return false;
    return true;
}

/* The first op in program order that can be issued; TDM_NO_OP: none can now. */
static uint32_t next_op(queue_rank *r)
{
    const tdm_program *p = r->of->program;
    uint32_t best = TDM_NO_OP;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        uint32_t n = r->ended[s];
        if (r->held[s] || n == p->n_on_stream[s])
            continue;
        uint32_t op = p->on_stream[s][n];
        if (op < best && may_go(r, op))
            best = op;
    }
    return best;
}

/* Puts the op's waits and its start on its stream. */
static tdm_code begin_op(queue_rank *r, uint32_t op, tdm_error *err)
{
    const exec_rank *rank = r->of;
    const tdm_program *p = rank->program;
    const tdm_exec_device *device = rank->e->job->device;
    tdm_stream stream = (tdm_stream)p->stream[op];
    tdm_code code = TDM_OK;
    for (uint32_t w = p->first_wait[op]; w < p->first_wait[op + 1] && code == TDM_OK; w++) {
        const tdm_program_wait *wait = &p->waits[w];
        uint32_t *waited = &r->waited[stream][wait->stream];
        if (wait->number <= *waited)
            continue;
        *waited = wait->number;
        code = device->queue->await(device->self, rank->rank, stream, wait->op, err);
    }
    if (code == TDM_OK)
        code = device->queue->mark(device->self, rank->rank, stream, op, false, err);
    if (code == TDM_OK)
        atomic_fetch_add(&r->begun[stream], 1);
    return code;
}

static tdm_code communicate(const exec_rank *rank, const tdm_exec_op *op, bool *issued,
                            tdm_error *err)
{
    const tdm_exec_job *job = rank->e->job;
    const tdm_program *p = rank->program;
    tdm_exec_transfer transfer = {0};
    tdm_code code = job->device->transfer(job->device->self, op, &transfer, err);
    if (code != TDM_OK)
        return code;
    uint32_t user = p->comm_user[p->comm[op->instance->index]];
    return job->transport->issue(job->transport->self, op, user, &transfer, issued, err);
}

/* *issued is false when the op waits for other members. */
static tdm_code issue(queue_rank *r, uint32_t index, bool *issued, tdm_error *err)
{
    const exec_rank *rank = r->of;
    executor *e = rank->e;
    const tdm_exec_device *device = e->job->device;
    tdm_stream stream = (tdm_stream)rank->program->stream[index];
    tdm_exec_op op = {.clock = &e->clock,
                      .rank = rank->rank,
                      .step = e->step,
                      .instance = &rank->program->ops[index],
                      .stream = device->queue->stream(device->self, rank->rank, stream),
                      .rehearses = e->rehearses};
    *issued = true;
    tdm_code code = tdm_exec_memory_enter(rank->memory, &op, err);
    if (code == TDM_OK && r->begun[stream] == r->ended[stream])
        code = begin_op(r, index, err);
    if (code == TDM_OK && !tdm_op_is_comm(op.instance->op))
        code = device->compute(device->self, &op, err);
    else if (code == TDM_OK && !e->rehearses)
        code = communicate(rank, &op, issued, err);
    if (code != TDM_OK || !*issued)
        return code;
    code = device->queue->mark(device->self, rank->rank, stream, index, true, err);
    if (code == TDM_OK)
        atomic_fetch_add(&r->ended[stream], 1);
    return code;
}

/* Issues what can be; how much that was. */
static uint32_t advance(queue_rank *r, tdm_error *err)
{
    executor *e = r->of->e;
    uint32_t n = 0;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        r->held[s] = false;
    while (!atomic_load(&e->failed)) {
        uint32_t op = next_op(r);
        if (op == TDM_NO_OP)
            break;
        bool issued;
        tdm_code code = issue(r, op, &issued, err);
        if (code != TDM_OK)
            exec_fail(e, code, err);
        r->held[r->of->program->stream[op]] = !issued;
        n += code == TDM_OK && issued;
    }
    return n;
}

static void issue_all(conductor *c, tdm_error *err)
{
    uint64_t left = 0;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        left += c->ranks[r].of->program->n_ops;
    while (left > 0 && !atomic_load(&c->e->failed)) {
        uint64_t n = 0;
        for (uint32_t r = 0; r < c->n_ranks; r++)
            n += advance(&c->ranks[r], err);
        left -= n;
        if (n == 0 && !atomic_load(&c->e->failed)) {
            tdm_error_add(err, TDM_E_INTERNAL, "ranks wait for each other in a circle");
            exec_fail(c->e, TDM_E_INTERNAL, err);
        }
    }
}

/* ---- ending ---- */

/* After a failure the device gets so long to end what it was given. */
static const double LONGEST_END_S = 10, FIRST_PAUSE_S = 20e-6, LONGEST_PAUSE_S = 1e-3;

/* Waits until the rank's streams are done; false when they do not end. */
static bool drain(const exec_rank *rank, tdm_error *err)
{
    executor *e = rank->e;
    const tdm_exec_device *device = e->job->device;
    double pause_s = FIRST_PAUSE_S, failed_s = 0;
    for (;;) {
        bool done = false;
        tdm_code code = device->queue->poll(device->self, rank->rank, &done, err);
        if (code != TDM_OK) {
            exec_fail(e, code, err);
            return true; /* the device takes nothing any more */
        }
        if (done)
            return true;
        if (atomic_load(&e->failed) && failed_s <= 0)
            failed_s = now_s();
        if (failed_s > 0 && now_s() - failed_s > LONGEST_END_S)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * pause_s)}, NULL);
        pause_s = 2 * pause_s < LONGEST_PAUSE_S ? 2 * pause_s : LONGEST_PAUSE_S;
    }
}

static void finish(conductor *c, tdm_error *err)
{
    executor *e = c->e;
    const tdm_exec_device *device = e->job->device;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (!drain(c->ranks[r].of, err))
            atomic_store(&e->hangs, true);
    for (uint32_t r = 0; r < c->n_ranks && !atomic_load(&e->failed); r++) {
        const exec_rank *rank = c->ranks[r].of;
        tdm_code code =
            device->queue->end_step(device->self, rank->rank, e->step, &e->clock, rank->spans, err);
        if (code != TDM_OK)
            exec_fail(e, code, err);
    }
}

static void *conduct(void *argument)
{
    conductor *c = argument;
    queue_state *q = c->e->of_way;
    tdm_error *err = calloc(1, sizeof *err);
    exec_await_gate(c->e);
    if (err) {
        issue_all(c, err);
        finish(c, err);
    } else {
        exec_fail(c->e, TDM_E_INTERNAL, NULL);
    }
    free(err);
    pthread_mutex_lock(&q->mutex);
    if (--q->n_working == 0)
        pthread_cond_broadcast(&q->done);
    pthread_mutex_unlock(&q->mutex);
    return NULL;
}

/* ---- watching ---- */

static void complain(const exec_rank *rank, uint32_t index, double waited_s, tdm_error *err)
{
    const tdm_exec_transport *transport = rank->e->job->transport;
    const tdm_program *p = rank->program;
    const tdm_instance *in = &p->ops[index];
    const tdm_exec_op op = {.rank = rank->rank, .step = rank->e->step, .instance = in};
    if (tdm_op_is_comm(in->op) && transport->stuck)
        transport->stuck(transport->self, &op, p->comm_user[p->comm[index]], waited_s, err);
    else
        tdm_error_add(err, TDM_E_DEVICE,
                      "rank %u: %s %s, step %u, pass %s, microbatch %u: has not ended after %g s "
                      "(--timeout)",
                      rank->rank, tdm_op_kind_name(in->op->kind), in->op->name, op.step + 1,
                      tdm_pass_kind_name(in->pass.kind), in->pass.microbatch, waited_s);
}

/* False when the stream's op runs for too long; err then says so. */
static bool look(queue_rank *r, tdm_stream s, tdm_error *err)
{
    const exec_rank *rank = r->of;
    const tdm_exec_job *job = rank->e->job;
    const uint32_t *ops = rank->program->on_stream[s];
    while (r->seen[s] < r->ended[s] &&
           job->device->queue->reached(job->device->self, rank->rank, ops[r->seen[s]], true)) {
        r->seen[s]++;
        r->since_s[s] = 0;
    }
    if (r->seen[s] == r->begun[s] ||
        !job->device->queue->reached(job->device->self, rank->rank, ops[r->seen[s]], false))
        return true;
    if (r->since_s[s] <= 0)
        r->since_s[s] = now_s();
    if (now_s() - r->since_s[s] <= job->deadline_s)
        return true;
    complain(rank, ops[r->seen[s]], job->deadline_s, err);
    return false;
}

static tdm_code look_at_all(executor *e, tdm_error *err)
{
    queue_state *q = e->of_way;
    const tdm_exec_transport *transport = e->job->transport;
    tdm_code code = transport->check ? transport->check(transport->self, err) : TDM_OK;
    for (uint32_t r = 0; r < e->n_ranks && code == TDM_OK && e->job->deadline_s > 0; r++)
        for (uint32_t s = 0; s < TDM_N_STREAMS && code == TDM_OK; s++)
            code = look(&q->ranks[r], (tdm_stream)s, err) ? TDM_OK : err->code;
    return code;
}

static const double WATCHES_A_DEADLINE = 20, LONGEST_WATCH_S = 0.2;

static double watch_pause(const executor *e)
{
    double pause_s = e->job->deadline_s / WATCHES_A_DEADLINE;
    return pause_s > 0 && pause_s < LONGEST_WATCH_S ? pause_s : LONGEST_WATCH_S;
}

/* Until the conductors are done, or something has failed. */
static void *watch(void *argument)
{
    executor *e = argument;
    queue_state *q = e->of_way;
    tdm_error *err = calloc(1, sizeof *err);
    exec_await_gate(e);
    pthread_mutex_lock(&q->mutex);
    while (err && q->n_working > 0 && !atomic_load(&e->failed)) {
        double until_s = now_s() + watch_pause(e);
        struct timespec until = {.tv_sec = (time_t)until_s};
        until.tv_nsec = (long)(1e9 * (until_s - (double)until.tv_sec));
        pthread_cond_timedwait(&q->done, &q->mutex, &until);
        pthread_mutex_unlock(&q->mutex);
        tdm_code code = look_at_all(e, err);
        if (code != TDM_OK)
            exec_fail(e, code, err);
        pthread_mutex_lock(&q->mutex);
    }
    pthread_mutex_unlock(&q->mutex);
    free(err);
    return NULL;
}

/* ---- steps ---- */

static tdm_code open_queue(tdm_arena *arena, executor *e, tdm_error *err)
{
    (void)err;
    bool together = e->job->transport->together;
    queue_state *q = TDM_ALLOC(arena, queue_state, 1);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&q->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&q->mutex, NULL);
    q->ranks = TDM_ALLOC(arena, queue_rank, e->n_ranks);
    q->n_conductors = together ? 1 : e->n_ranks;
    q->conductors = TDM_ALLOC(arena, conductor, q->n_conductors);
    for (uint32_t r = 0; r < e->n_ranks; r++)
        q->ranks[r].of = &e->ranks[r];
    for (uint32_t i = 0; i < q->n_conductors; i++)
        q->conductors[i] =
            (conductor){.e = e, .ranks = &q->ranks[i], .n_ranks = together ? e->n_ranks : 1};
    e->of_way = q;
    return TDM_OK;
}

static void close_queue(executor *e)
{
    queue_state *q = e->of_way;
    pthread_cond_destroy(&q->done);
    pthread_mutex_destroy(&q->mutex);
}

static void reset(queue_rank *r)
{
    exec_rank *of = r->of;
    *r = (queue_rank){.of = of};
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        atomic_init(&r->begun[s], 0);
        atomic_init(&r->ended[s], 0);
    }
}

static tdm_code align_clocks(executor *e)
{
    const tdm_exec_device *device = e->job->device;
    tdm_error *err = calloc(1, sizeof *err);
    tdm_code code = err ? TDM_OK : TDM_E_INTERNAL;
    for (uint32_t r = 0; r < e->n_ranks && code == TDM_OK; r++)
        code = device->queue->begin_step(device->self, e->ranks[r].rank, e->step, err);
    if (code != TDM_OK)
        exec_fail(e, code, err);
    free(err);
    return code;
}

static bool start(executor *e)
{
    queue_state *q = e->of_way;
    for (uint32_t r = 0; r < e->n_ranks; r++)
        reset(&q->ranks[r]);
    if (align_clocks(e) != TDM_OK)
        return false;
    q->n_working = q->n_conductors;
    for (uint32_t i = 0; i < q->n_conductors; i++) {
        conductor *c = &q->conductors[i];
        c->started = pthread_create(&c->thread, NULL, conduct, c) == 0;
        if (!c->started)
            return false;
    }
    if (e->job->deadline_s > 0 || e->job->transport->check)
        q->watches = pthread_create(&q->watcher, NULL, watch, e) == 0;
    return true;
}

/* Whoever issues or watches looks by itself whether something has failed. */
static void wake(executor *e)
{
    (void)e;
}

static void join(executor *e)
{
    queue_state *q = e->of_way;
    for (uint32_t i = 0; i < q->n_conductors; i++) {
        if (q->conductors[i].started)
            pthread_join(q->conductors[i].thread, NULL);
        q->conductors[i].started = false;
    }
    if (q->watches)
        pthread_join(q->watcher, NULL);
    q->watches = false;
}

const exec_way exec_queue = {
    .open = open_queue, .start = start, .wake = wake, .join = join, .close = close_queue};
