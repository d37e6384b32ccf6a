/* executor.c: steps, memory and failures of an executor, see executor.h; how the ops of a step are
 * carried out is a way of executor_parts.h. */
#include "executor_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/prctl.h>

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

void exec_fail(executor *e, tdm_code code, const tdm_error *what)
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
        e->way->wake(e);
        e->job->transport->stop(e->job->transport->self);
    }
}

/* ---- steps ---- */

void exec_await_gate(executor *e)
{
    /* Sleeps end when they should, not up to 50 us later. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    pthread_mutex_lock(&e->gate_mutex);
    while (!e->open)
        pthread_cond_wait(&e->gate, &e->gate_mutex);
    pthread_mutex_unlock(&e->gate_mutex);
}

/* Small stacks are kept by the C library for the next step's threads; kernels need little. */
enum { STACK_BYTES = 512 * 1024 };

static void let_go(executor *e)
{
    const tdm_exec_transport *transport = e->job->transport;
    tdm_code code = TDM_OK;
    struct timespec origin;
    clock_gettime(CLOCK_MONOTONIC, &origin);
    if (transport->begin_step && !e->rehearses && !atomic_load(&e->failed)) {
        tdm_error *err = calloc(1, sizeof *err);
        code = err ? transport->begin_step(transport->self, &origin, err) : TDM_E_INTERNAL;
        if (code != TDM_OK)
            exec_fail(e, code, err);
        free(err);
    }
    pthread_mutex_lock(&e->gate_mutex);
    e->clock.origin = origin;
    if (transport->begin_step && !e->rehearses && code == TDM_OK)
        tdm_exec_sleep_until(&e->clock, 0);
    e->open = true;
    pthread_cond_broadcast(&e->gate);
    pthread_mutex_unlock(&e->gate_mutex);
}

static tdm_code run_step(executor *e, const tdm_trace *trace, tdm_exec_count *counts)
{
    e->open = false;
    for (uint32_t r = 0; r < e->n_ranks; r++)
        e->ranks[r].spans = trace->ranks[e->ranks[r].rank].spans;
    if (!e->way->start(e) && e->code == TDM_OK) {
        e->code = tdm_error_add(e->err, TDM_E_INTERNAL, "this machine allows no more threads");
        atomic_store(&e->failed, true);
        e->job->transport->stop(e->job->transport->self);
    }
    let_go(e);
    e->way->join(e);
    for (uint32_t r = 0; r < e->n_ranks && e->code == TDM_OK; r++)
        if (e->ranks[r].memory)
            e->code = tdm_exec_memory_settle(e->ranks[r].memory, e->ranks[r].program,
                                             counts ? &counts[e->ranks[r].rank] : NULL, e->err);
    return e->code;
}

static tdm_code begin_rank(const executor *e, const exec_rank *rank)
{
    const tdm_exec_device *device = e->job->device;
    void *statics = rank->memory ? tdm_exec_memory_statics(rank->memory) : NULL;
    return device->begin(device->self, rank->rank, statics, e->err);
}

/* A step that leaves nothing behind: libraries load and choose what they need on first use, which
 * takes long, and may wait for a device that waits for other ranks. */
static void rehearse(tdm_arena *arena, executor *e, tdm_trace *trace)
{
    e->rehearses = true;
    tdm_trace_init(arena, e->job->plan, e->job->device->name, e->job->launch_s, trace);
    run_step(e, trace, NULL);
    e->rehearses = false;
    for (uint32_t r = 0; r < e->n_ranks && e->code == TDM_OK; r++)
        e->code = begin_rank(e, &e->ranks[r]);
}

static tdm_code open_rank(tdm_arena *arena, executor *e, uint32_t index)
{
    const tdm_exec_job *job = e->job;
    exec_rank *rank = &e->ranks[index];
    uint32_t r = job->first_rank + index;
    rank->e = e;
    rank->rank = r;
    rank->program = &job->programs[job->plan->role_of[r]];
    tdm_code code = TDM_OK;
    if (job->device->has_memory)
        code = tdm_exec_memory_open(arena, job, r, &rank->memory, e->err);
    return code == TDM_OK ? begin_rank(e, rank) : code;
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
                  .way = job->device->queue ? &exec_queue : &exec_threads,
                  .n_ranks = job->n_ranks > 0 ? job->n_ranks : job->plan->mesh.world,
                  .clock.pace = job->pace,
                  .code = TDM_OK,
                  .err = err};
    e.ranks = TDM_ALLOC(arena, exec_rank, e.n_ranks);
    atomic_init(&e.failed, false);
    atomic_init(&e.hangs, false);
    pthread_attr_init(&e.attributes);
    pthread_attr_setstacksize(&e.attributes, STACK_BYTES);
    pthread_mutex_init(&e.gate_mutex, NULL);
    pthread_cond_init(&e.gate, NULL);
    pthread_mutex_init(&e.error_mutex, NULL);
    uint32_t n_open = 0;
    for (; n_open < e.n_ranks && e.code == TDM_OK; n_open++)
        e.code = open_rank(arena, &e, n_open);
    if (e.code == TDM_OK)
        e.code = e.way->open(arena, &e, err);
    bool ready = e.code == TDM_OK;
    if (ready && job->rehearse && job->device->queue)
        rehearse(arena, &e, &traces[0]);
    for (; e.step < job->n_steps && e.code == TDM_OK; e.step++) {
        tdm_trace_init(arena, job->plan, job->device->name, job->launch_s, &traces[e.step]);
        run_step(&e, &traces[e.step], counts);
    }
    if (ready)
        e.way->close(&e);
    for (uint32_t r = 0; r < n_open; r++)
        if (e.ranks[r].memory && !atomic_load(&e.hangs))
            tdm_exec_memory_close(e.ranks[r].memory);
    pthread_attr_destroy(&e.attributes);
    pthread_mutex_destroy(&e.error_mutex);
    pthread_cond_destroy(&e.gate);
    pthread_mutex_destroy(&e.gate_mutex);
    return e.code;
}
