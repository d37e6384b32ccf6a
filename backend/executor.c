/* executor.c: the threads of the ranks, see executor.h.
 *
 * A stream's thread takes its ops in issue order. An op starts when it has been issued and the ops
 * it waits for have ended; the ends of a stream are a counter under the rank's mutex. Beside the
 * clock, an op carries the time at which it was ready: on a device that keeps planned times, what a
 * thread wakes up too late by does not add up. */
#include "executor.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>

typedef struct executor executor;
typedef struct exec_rank exec_rank;

typedef struct exec_stream {
    exec_rank *rank;
    tdm_stream id;
    pthread_t thread;
    bool started;
    pthread_cond_t issued, moved; /* n_issued grew; n_done grew */
    uint32_t n_issued, n_done;
    uint32_t wanted; /* the least n_done that somebody waits for */
} exec_stream;

struct exec_rank {
    executor *e;
    uint32_t rank;
    const tdm_program *program;
    pthread_mutex_t mutex; /* of the counters of its streams */
    pthread_t host;
    bool started; /* its host thread */
    exec_stream streams[TDM_N_STREAMS];
    tdm_span *spans;
    double *done_s; /* [n_ops] */
    tdm_exec_memory *memory;
};

struct executor {
    const tdm_exec_job *job;
    exec_rank *ranks; /* [n_ranks] */
    uint32_t n_ranks, step;
    tdm_exec_clock clock;
    pthread_attr_t attributes;
    pthread_mutex_t gate_mutex;
    pthread_cond_t gate;
    bool open; /* the step has begun */
    atomic_bool failed;
    pthread_mutex_t error_mutex;
    tdm_code code;
    tdm_error *err;
};

double tdm_exec_now(const tdm_exec_clock *clock)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(now.tv_sec - clock->origin.tv_sec) +
                     1e-9 * (double)(now.tv_nsec - clock->origin.tv_nsec);
    return seconds / clock->pace;
}

void tdm_exec_sleep_until(const tdm_exec_clock *clock, double time_s)
{
    double real_s = time_s * clock->pace;
    struct timespec until = clock->origin;
    long long ns = (long long)until.tv_nsec + (long long)(real_s * 1e9);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* ---- failure ---- */

static void wake_all(executor *e)
{
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        exec_rank *rank = &e->ranks[r];
        pthread_mutex_lock(&rank->mutex);
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            pthread_cond_broadcast(&rank->streams[s].issued);
            pthread_cond_broadcast(&rank->streams[s].moved);
        }
        pthread_mutex_unlock(&rank->mutex);
    }
    e->job->transport->stop(e->job->transport->self);
}

/* Keeps the first failure and ends all threads. what NULL: there was no memory to say. */
static void fail(executor *e, tdm_code code, const tdm_error *what)
{
    pthread_mutex_lock(&e->error_mutex);
    bool first = e->code == TDM_OK;
    if (first) {
        e->code = code;
        if (what && what->length > 0)
            tdm_error_add(e->err, code, "%.*s", (int)what->length - 1, what->text); /* no newline */
        else
            tdm_error_add(e->err, code, "out of memory");
    }
    pthread_mutex_unlock(&e->error_mutex);
    if (first) {
        atomic_store(&e->failed, true);
        wake_all(e);
    }
}

/* ---- streams ---- */

/* Waits until the stream has done so many ops. The rank's mutex is held. */
static bool await(exec_stream *s, uint32_t number)
{
    const executor *e = s->rank->e;
    while (s->n_done < number && !atomic_load(&e->failed)) {
        s->wanted = number < s->wanted ? number : s->wanted;
        pthread_cond_wait(&s->moved, &s->rank->mutex);
    }
    return s->n_done >= number;
}

/* Waits for the op's turn; false when the run has failed. */
static bool await_turn(exec_stream *s, uint32_t op, uint32_t number, double *ready_s)
{
    exec_rank *rank = s->rank;
    executor *e = rank->e;
    const tdm_program *p = rank->program;
    double ready = (double)(op + 1) * e->job->launch_s;
    pthread_mutex_lock(&rank->mutex);
    while (s->n_issued < number && !atomic_load(&e->failed))
        pthread_cond_wait(&s->issued, &rank->mutex);
    bool goes = s->n_issued >= number;
    for (uint32_t w = p->first_wait[op]; goes && w < p->first_wait[op + 1]; w++) {
        const tdm_program_wait *wait = &p->waits[w];
        goes = await(&rank->streams[wait->stream], wait->number);
        if (goes && rank->done_s[wait->op] > ready)
            ready = rank->done_s[wait->op];
    }
    pthread_mutex_unlock(&rank->mutex);
    if (number > 1) {
        double before = rank->done_s[p->on_stream[s->id][number - 2]];
        ready = before > ready ? before : ready;
    }
    *ready_s = ready;
    return goes && !atomic_load(&e->failed);
}

static void publish(exec_stream *s, uint32_t op, const tdm_exec_op *done)
{
    exec_rank *rank = s->rank;
    rank->done_s[op] = done->done_s;
    pthread_mutex_lock(&rank->mutex);
    bool tell = ++s->n_done >= s->wanted;
    if (tell)
        s->wanted = UINT32_MAX; /* who still waits says so again */
    pthread_mutex_unlock(&rank->mutex);
    if (tell) /* those who wake up find the mutex free */
        pthread_cond_broadcast(&s->moved);
}

/* False without a message: the transport was stopped, since another thread failed. */
static bool communicate(exec_rank *rank, tdm_exec_op *op, tdm_code *code, tdm_error *err)
{
    const tdm_exec_job *job = rank->e->job;
    const tdm_program *p = rank->program;
    tdm_exec_transfer transfer = {0};
    if (job->device->transfer)
        *code = job->device->transfer(job->device->self, op, &transfer, err);
    if (*code != TDM_OK)
        return false;
    double latest_s = 0;
    uint32_t user = p->comm_user[p->comm[op->instance->index]];
    if (!job->transport->carry(job->transport->self, op, user,
                               job->device->transfer ? &transfer : NULL, &latest_s, err)) {
        *code = err->n_messages > 0 ? err->code : TDM_OK;
        return false;
    }
    job->device->moved(job->device->self, op, latest_s);
    return true;
}

static bool carry_out(exec_rank *rank, tdm_exec_op *op, tdm_error *err)
{
    executor *e = rank->e;
    const tdm_exec_device *device = e->job->device;
    tdm_code code = rank->memory ? tdm_exec_memory_enter(rank->memory, op, err) : TDM_OK;
    bool goes = code == TDM_OK;
    if (goes && tdm_op_is_comm(op->instance->op)) {
        goes = communicate(rank, op, &code, err);
    } else if (goes) {
        code = device->compute(device->self, op, err);
        goes = code == TDM_OK;
    }
    if (goes && rank->memory) {
        code = tdm_exec_memory_leave(rank->memory, op, err);
        goes = code == TDM_OK;
    }
    if (code != TDM_OK)
        fail(e, code, err);
    return goes;
}

static void await_gate(executor *e)
{
    /* Sleeps end when they should, not up to 50 us later. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    pthread_mutex_lock(&e->gate_mutex);
    while (!e->open)
        pthread_cond_wait(&e->gate, &e->gate_mutex);
    pthread_mutex_unlock(&e->gate_mutex);
}

static void *stream_main(void *argument)
{
    exec_stream *s = argument;
    exec_rank *rank = s->rank;
    executor *e = rank->e;
    const tdm_program *p = rank->program;
    tdm_error *err = calloc(1, sizeof *err);
    await_gate(e);
    if (!err)
        fail(e, TDM_E_INTERNAL, NULL);
    for (uint32_t i = 0; err && i < p->n_on_stream[s->id]; i++) {
        uint32_t index = p->on_stream[s->id][i];
        tdm_exec_op op = {
            .clock = &e->clock, .rank = rank->rank, .step = e->step, .instance = &p->ops[index]};
        if (!await_turn(s, index, i + 1, &op.ready_s))
            break;
        if (e->job->launch_s > 0 && tdm_exec_now(&e->clock) < op.ready_s)
            tdm_exec_sleep_until(&e->clock, op.ready_s); /* issued ahead */
        rank->spans[index].start_s = tdm_exec_now(&e->clock);
        if (!carry_out(rank, &op, err))
            break;
        rank->spans[index].end_s = tdm_exec_now(&e->clock);
        publish(s, index, &op);
    }
    free(err);
    return NULL;
}

/* Ops are issued so much (real time) ahead, many at once: sleeping for each of them takes a core of
 * its own. Their streams wait for the time of issue itself. */
static const double ISSUE_AHEAD_S = 2e-3;

/* Issues the ops in program order. */
static void *host_main(void *argument)
{
    exec_rank *rank = argument;
    executor *e = rank->e;
    const tdm_program *p = rank->program;
    await_gate(e);
    double awake_s = 0;
    for (uint32_t op = 0; op < p->n_ops && !atomic_load(&e->failed); op++) {
        double issue_s = (double)(op + 1) * e->job->launch_s;
        if (issue_s > awake_s + ISSUE_AHEAD_S / e->clock.pace) {
            tdm_exec_sleep_until(&e->clock, issue_s);
            awake_s = issue_s;
        }
        exec_stream *s = &rank->streams[p->stream[op]];
        pthread_mutex_lock(&rank->mutex);
        s->n_issued++;
        pthread_mutex_unlock(&rank->mutex);
        pthread_cond_signal(&s->issued);
    }
    return NULL;
}

/* ---- steps ---- */

/* Small stacks are kept by the C library for the next step's threads; kernels need little. */
enum { STACK_BYTES = 512 * 1024 };

static bool start_rank(exec_rank *rank)
{
    const pthread_attr_t *how = &rank->e->attributes;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        exec_stream *stream = &rank->streams[s];
        stream->n_issued = stream->n_done = 0;
        stream->wanted = UINT32_MAX;
        if (rank->program->n_on_stream[s] == 0)
            continue;
        if (pthread_create(&stream->thread, how, stream_main, stream) != 0)
            return false;
        stream->started = true;
    }
    rank->started = pthread_create(&rank->host, how, host_main, rank) == 0;
    return rank->started;
}

static void let_go(executor *e)
{
    const tdm_exec_transport *transport = e->job->transport;
    tdm_code code = TDM_OK;
    struct timespec origin;
    clock_gettime(CLOCK_MONOTONIC, &origin);
    if (transport->begin_step && !atomic_load(&e->failed)) {
        tdm_error *err = calloc(1, sizeof *err);
        code = err ? transport->begin_step(transport->self, &origin, err) : TDM_E_INTERNAL;
        if (code != TDM_OK)
            fail(e, code, err);
        free(err);
    }
    pthread_mutex_lock(&e->gate_mutex);
    e->clock.origin = origin;
    if (transport->begin_step && code == TDM_OK)
        tdm_exec_sleep_until(&e->clock, 0);
    e->open = true;
    pthread_cond_broadcast(&e->gate);
    pthread_mutex_unlock(&e->gate_mutex);
}

static void join(executor *e)
{
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        exec_rank *rank = &e->ranks[r];
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            if (rank->streams[s].started)
                pthread_join(rank->streams[s].thread, NULL);
            rank->streams[s].started = false;
        }
        if (rank->started)
            pthread_join(rank->host, NULL);
        rank->started = false;
    }
}

static tdm_code run_step(executor *e, const tdm_trace *trace, tdm_exec_count *counts)
{
    bool started = true;
    e->open = false;
    for (uint32_t r = 0; r < e->n_ranks && started; r++) {
        e->ranks[r].spans = trace->ranks[e->ranks[r].rank].spans;
        started = start_rank(&e->ranks[r]);
    }
    if (!started) {
        e->code = tdm_error_add(e->err, TDM_E_INTERNAL, "this machine allows no more threads");
        atomic_store(&e->failed, true);
        e->job->transport->stop(e->job->transport->self);
    }
    let_go(e);
    join(e);
    for (uint32_t r = 0; r < e->n_ranks && e->code == TDM_OK; r++)
        if (e->ranks[r].memory)
            e->code = tdm_exec_memory_settle(e->ranks[r].memory, e->ranks[r].program,
                                             counts ? &counts[e->ranks[r].rank] : NULL, e->err);
    return e->code;
}

static tdm_code open_rank(tdm_arena *arena, executor *e, uint32_t index)
{
    const tdm_exec_job *job = e->job;
    exec_rank *rank = &e->ranks[index];
    uint32_t r = job->first_rank + index;
    rank->e = e;
    rank->rank = r;
    rank->program = &job->programs[job->plan->role_of[r]];
    rank->done_s = TDM_ALLOC(arena, double, rank->program->n_ops);
    pthread_mutex_init(&rank->mutex, NULL);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        rank->streams[s].rank = rank;
        rank->streams[s].id = (tdm_stream)s;
        pthread_cond_init(&rank->streams[s].issued, NULL);
        pthread_cond_init(&rank->streams[s].moved, NULL);
    }
    tdm_code code = TDM_OK;
    if (job->device->has_memory)
        code = tdm_exec_memory_open(arena, job->plan, &job->layouts[r], job->placement,
                                    &rank->memory, e->err);
    if (code == TDM_OK)
        code =
            job->device->begin(job->device->self, r,
                               rank->memory ? tdm_exec_memory_statics(rank->memory) : NULL, e->err);
    return code;
}

static void close_ranks(executor *e, uint32_t n)
{
    for (uint32_t r = 0; r < n; r++) {
        exec_rank *rank = &e->ranks[r];
        if (rank->memory)
            tdm_exec_memory_close(rank->memory);
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            pthread_cond_destroy(&rank->streams[s].issued);
            pthread_cond_destroy(&rank->streams[s].moved);
        }
        pthread_mutex_destroy(&rank->mutex);
    }
}

/* A plan read from text may have ops with more refs than there is room for. */
static tdm_code check_refs(const tdm_exec_job *job, tdm_error *err)
{
    for (uint32_t r = 0; r < job->plan->n_roles; r++)
        for (uint32_t i = 0; i < job->programs[r].n_ops; i++)
            if (job->programs[r].ops[i].op->n_refs > TDM_EXEC_MAX_REFS)
                return tdm_error_add(err, TDM_E_INVALID, "op %s has %u refs, more than %d",
                                     job->programs[r].ops[i].op->name,
                                     job->programs[r].ops[i].op->n_refs, TDM_EXEC_MAX_REFS);
    return TDM_OK;
}

tdm_code tdm_execute(tdm_arena *arena, const tdm_exec_job *job, tdm_trace *traces,
                     tdm_exec_count *counts, tdm_error *err)
{
    tdm_code code = check_refs(job, err);
    if (code != TDM_OK)
        return code;
    executor e = {.job = job,
                  .n_ranks = job->n_ranks > 0 ? job->n_ranks : job->plan->mesh.world,
                  .clock.pace = job->pace,
                  .code = TDM_OK,
                  .err = err};
    e.ranks = TDM_ALLOC(arena, exec_rank, e.n_ranks);
    atomic_init(&e.failed, false);
    pthread_attr_init(&e.attributes);
    pthread_attr_setstacksize(&e.attributes, STACK_BYTES);
    pthread_mutex_init(&e.gate_mutex, NULL);
    pthread_cond_init(&e.gate, NULL);
    pthread_mutex_init(&e.error_mutex, NULL);
    uint32_t n_open = 0;
    for (; n_open < e.n_ranks && e.code == TDM_OK; n_open++)
        e.code = open_rank(arena, &e, n_open);
    for (; e.step < job->n_steps && e.code == TDM_OK; e.step++) {
        tdm_trace_init(arena, job->plan, job->device->name, job->launch_s, &traces[e.step]);
        run_step(&e, &traces[e.step], counts);
    }
    close_ranks(&e, n_open);
    pthread_attr_destroy(&e.attributes);
    pthread_mutex_destroy(&e.error_mutex);
    pthread_cond_destroy(&e.gate);
    pthread_mutex_destroy(&e.gate_mutex);
    return e.code;
}
