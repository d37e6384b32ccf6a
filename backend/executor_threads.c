/* executor_threads.c: a thread per stream in use, and one per rank that issues.
 *
 * A stream's thread takes its ops in issue order. An op starts when it has been issued and the ops
 * it waits for have ended; the ends of a stream are a counter under the rank's mutex. Beside the
 * clock, an op carries the time at which it was ready: on a device that keeps planned times, what a
 * thread wakes up too late by does not add up. */
#include "executor_parts.h"

#include <stdlib.h>

typedef struct thread_rank thread_rank;

typedef struct exec_stream {
    thread_rank *rank;
    tdm_stream id;
    pthread_t thread;
    bool started;
    pthread_cond_t issued, moved; /* n_issued grew; n_done grew */
    uint32_t n_issued, n_done;
    uint32_t wanted; /* the least n_done that somebody waits for */
} exec_stream;

struct thread_rank {
    exec_rank *of;
    pthread_mutex_t mutex; /* of the counters of its streams */
    pthread_t host;
    bool started; /* its host thread */
    exec_stream streams[TDM_N_STREAMS];
    double *done_s; /* [n_ops] */
};

/* ---- streams ---- */

/* Waits until the stream has done so many ops. The rank's mutex is held. */
static bool await(exec_stream *s, uint32_t number)
{
    const executor *e = s->rank->of->e;
    while (s->n_done < number && !atomic_load(&e->failed)) {
        s->wanted = number < s->wanted ? number : s->wanted;
        pthread_cond_wait(&s->moved, &s->rank->mutex);
    }
    return s->n_done >= number;
}

/* Waits for the op's turn; false when the run has failed. */
static bool await_turn(exec_stream *s, uint32_t op, uint32_t number, double *ready_s)
{
    thread_rank *rank = s->rank;
    const executor *e = rank->of->e;
    const tdm_program *p = rank->of->program;
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
    thread_rank *rank = s->rank;
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
        exec_fail(e, code, err);
    return goes;
}

static void *stream_main(void *argument)
{
    exec_stream *s = argument;
    exec_rank *rank = s->rank->of;
    executor *e = rank->e;
    const tdm_program *p = rank->program;
    tdm_error *err = calloc(1, sizeof *err);
    exec_await_gate(e);
    if (!err)
        exec_fail(e, TDM_E_INTERNAL, NULL);
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
    thread_rank *rank = argument;
    executor *e = rank->of->e;
    const tdm_program *p = rank->of->program;
    exec_await_gate(e);
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

static tdm_code open_streams(tdm_arena *arena, executor *e, tdm_error *err)
{
    (void)err;
    thread_rank *ranks = TDM_ALLOC(arena, thread_rank, e->n_ranks);
    e->of_way = ranks;
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        ranks[r].of = &e->ranks[r];
        ranks[r].done_s = TDM_ALLOC(arena, double, e->ranks[r].program->n_ops);
        pthread_mutex_init(&ranks[r].mutex, NULL);
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            ranks[r].streams[s].rank = &ranks[r];
            ranks[r].streams[s].id = (tdm_stream)s;
            pthread_cond_init(&ranks[r].streams[s].issued, NULL);
            pthread_cond_init(&ranks[r].streams[s].moved, NULL);
        }
    }
    return TDM_OK;
}

static void close_streams(executor *e)
{
    thread_rank *ranks = e->of_way;
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            pthread_cond_destroy(&ranks[r].streams[s].issued);
            pthread_cond_destroy(&ranks[r].streams[s].moved);
        }
        pthread_mutex_destroy(&ranks[r].mutex);
    }
}

static void wake(executor *e)
{
    thread_rank *ranks = e->of_way;
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        pthread_mutex_lock(&ranks[r].mutex);
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            pthread_cond_broadcast(&ranks[r].streams[s].issued);
            pthread_cond_broadcast(&ranks[r].streams[s].moved);
        }
        pthread_mutex_unlock(&ranks[r].mutex);
    }
}

static bool start_rank(thread_rank *rank)
{
    const pthread_attr_t *how = &rank->of->e->attributes;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        exec_stream *stream = &rank->streams[s];
        stream->n_issued = stream->n_done = 0;
        stream->wanted = UINT32_MAX;
        if (rank->of->program->n_on_stream[s] == 0)
            continue;
        if (pthread_create(&stream->thread, how, stream_main, stream) != 0)
            return false;
        stream->started = true;
    }
    rank->started = pthread_create(&rank->host, how, host_main, rank) == 0;
    return rank->started;
}

static bool start(executor *e)
{
    thread_rank *ranks = e->of_way;
    bool started = true;
    for (uint32_t r = 0; r < e->n_ranks && started; r++)
        started = start_rank(&ranks[r]);
    return started;
}

static void join(executor *e)
{
    thread_rank *ranks = e->of_way;
    for (uint32_t r = 0; r < e->n_ranks; r++) {
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            if (ranks[r].streams[s].started)
                pthread_join(ranks[r].streams[s].thread, NULL);
            ranks[r].streams[s].started = false;
        }
        if (ranks[r].started)
            pthread_join(ranks[r].host, NULL);
        ranks[r].started = false;
    }
}

const exec_way exec_threads = {
    .open = open_streams, .start = start, .wake = wake, .join = join, .close = close_streams};
