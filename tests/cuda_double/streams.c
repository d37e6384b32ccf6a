/* streams.c: streams as queues with a thread each, and events. */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

extern const char __executable_start; /* of the linker; addr2line -f takes what lies behind it */

typedef struct task {
    struct task *next;
    void (*run)(operation *op, struct task *task);
    operation op;
    vector_clock host; /* what the host knew */
    cuda_double_kernel kernel;
    void (*function)(void *data);
    void *data, *copy; /* copy: of the host's memory, freed after the task */
    char *to;
    const char *from;
    size_t bytes;
    int value;
    cudaEvent_t event;
    uint64_t number; /* of the event's recording */
} task;

struct CUstream_st {
    struct CUstream_st *next;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    task *first, **last;
    uint64_t n_enqueued, n_done;
    bool closing;
    int device;
    uint32_t slot, number;
    vector_clock clock;
};

struct CUevent_st {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t n_recorded, n_done; /* recordings enqueued, and reached */
    uint32_t n_users;
    bool destroyed, timed;
    double time_s;
    vector_clock clock;
};

static struct {
    pthread_mutex_t mutex;
    cudaStream_t streams;
    struct CUstream_st *default_of[MAX_DEVICES];
    uint64_t n_kernels;
} all = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- a stream's thread ---- */

static void carry_out(cudaStream_t s, task *t)
{
    pthread_mutex_lock(&cuda_double_lock);
    clock_join(&s->clock, &t->host);
    s->clock.at[s->slot] = ++s->number;
    all.n_kernels += t->kernel.thread != NULL;
    pthread_mutex_unlock(&cuda_double_lock);
    t->op.id = s->slot << NUMBER_BITS | s->number;
    t->op.clock = &s->clock;
    operation_set(&t->op);
    t->run(&t->op, t);
    operation_set(NULL);
}

static void *work(void *argument)
{
    cudaStream_t s = argument;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->first && !s->closing)
            pthread_cond_wait(&s->changed, &s->mutex);
        task *t = s->first;
        if (!t)
            break;
        pthread_mutex_unlock(&s->mutex);
        carry_out(s, t);
        pthread_mutex_lock(&s->mutex);
        s->first = t->next;
        if (!s->first)
            s->last = &s->first;
        s->n_done++;
        pthread_cond_broadcast(&s->changed);
        free(t->copy);
        free(t->kernel.closure);
        free(t);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

static cudaError_t open_stream(cudaStream_t *stream)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess)
        return cudaErrorNoDevice;
    cudaStream_t s = calloc(1, sizeof *s);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->last = &s->first;
    s->device = device_now();
    pthread_mutex_lock(&cuda_double_lock);
    s->slot = slot_take(&s->number);
    pthread_mutex_unlock(&cuda_double_lock);
    pthread_create(&s->thread, NULL, work, s);
    pthread_mutex_lock(&all.mutex);
    s->next = all.streams;
    all.streams = s;
    pthread_mutex_unlock(&all.mutex);
    *stream = s;
    return cudaSuccess;
}

/* The default stream is a stream like others: it waits for nobody. */
static cudaError_t stream_of(cudaStream_t *stream)
{
    if (*stream)
        return cudaSuccess;
    int device = device_now();
    pthread_mutex_lock(&all.mutex);
    cudaStream_t s = all.default_of[device];
    pthread_mutex_unlock(&all.mutex);
    if (!s) {
        cudaError_t error = open_stream(&s);
        if (error != cudaSuccess)
            return error;
        pthread_mutex_lock(&all.mutex);
        all.default_of[device] = s;
        pthread_mutex_unlock(&all.mutex);
    }
    *stream = s;
    return cudaSuccess;
}

static cudaError_t noted(cudaError_t error)
{
    error_note(error);
    return error;
}

static cudaError_t enqueue(cudaStream_t stream, const char *name, task *t)
{
    cudaError_t error = stream_of(&stream);
    if (error == cudaSuccess && fault_pending())
        error = cudaErrorLaunchFailure;
    if (error != cudaSuccess) {
        free(t->copy);
        free(t->kernel.closure);
        free(t);
        return noted(error);
    }
    t->op.name = name;
    t->op.device = stream->device;
    pthread_mutex_lock(&cuda_double_lock);
    host_knows(&t->host);
    pthread_mutex_unlock(&cuda_double_lock);
    pthread_mutex_lock(&stream->mutex);
    *stream->last = t;
    stream->last = &t->next;
    stream->n_enqueued++;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
    return cudaSuccess;
}

static task *new_task(void (*run)(operation *op, task *t))
{
    task *t = calloc(1, sizeof *t);
    t->run = run;
    return t;
}

/* Until all that was enqueued so far is done. */
static void wait_for(cudaStream_t s)
{
    pthread_mutex_lock(&s->mutex);
    uint64_t until = s->n_enqueued;
    while (s->n_done < until)
        pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
    pthread_mutex_lock(&cuda_double_lock);
    host_learns(&s->clock);
    pthread_mutex_unlock(&cuda_double_lock);
}

static cudaError_t result(void)
{
    return noted(fault_pending() ? cudaErrorLaunchFailure : cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return noted(flags <= cudaStreamNonBlocking ? open_stream(stream) : cudaErrorInvalidValue);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!stream)
        return noted(cudaErrorInvalidResourceHandle);
    wait_for(stream);
    pthread_mutex_lock(&stream->mutex);
    stream->closing = true;
    pthread_cond_broadcast(&stream->changed);
    pthread_mutex_unlock(&stream->mutex);
    pthread_join(stream->thread, NULL);
    pthread_mutex_lock(&all.mutex);
    cudaStream_t *link = &all.streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    pthread_mutex_unlock(&all.mutex);
    pthread_mutex_lock(&cuda_double_lock);
    slot_give(stream->slot, stream->number);
    pthread_mutex_unlock(&cuda_double_lock);
    pthread_cond_destroy(&stream->changed);
    pthread_mutex_destroy(&stream->mutex);
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t error = stream_of(&stream);
    if (error != cudaSuccess)
        return noted(error);
    wait_for(stream);
    return result();
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t error = stream_of(&stream);
    if (error != cudaSuccess)
        return noted(error);
    pthread_mutex_lock(&stream->mutex);
    bool done = stream->n_done == stream->n_enqueued;
    pthread_mutex_unlock(&stream->mutex);
    if (!done)
        return cudaErrorNotReady;
    wait_for(stream);
    return result();
}

cudaError_t cudaDeviceSynchronize(void)
{
    pthread_mutex_lock(&all.mutex);
    for (cudaStream_t s = all.streams; s; s = s->next)
        if (s->device == device_now())
            wait_for(s);
    pthread_mutex_unlock(&all.mutex);
    return result();
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    cudaEvent_t e = calloc(1, sizeof *e);
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->changed, NULL);
    e->timed = !(flags & cudaEventDisableTiming);
    *event = e;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

/* Under the event's mutex, which it gives back. */
static void release(cudaEvent_t e)
{
    bool last = e->destroyed && e->n_users == 0;
    pthread_mutex_unlock(&e->mutex);
    if (!last)
        return;
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->mutex);
    free(e);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    pthread_mutex_lock(&event->mutex);
    event->destroyed = true;
    release(event);
    return cudaSuccess;
}

static void record(operation *op, task *t)
{
    cudaEvent_t e = t->event;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&e->mutex);
    e->time_s = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    pthread_mutex_lock(&cuda_double_lock);
    memcpy(&e->clock, op->clock, sizeof e->clock);
    pthread_mutex_unlock(&cuda_double_lock);
    if (t->number > e->n_done)
        e->n_done = t->number;
    pthread_cond_broadcast(&e->changed);
    e->n_users--;
    release(e);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    task *t = new_task(record);
    t->event = event;
    pthread_mutex_lock(&event->mutex);
    t->number = ++event->n_recorded;
    event->n_users++;
    pthread_mutex_unlock(&event->mutex);
    return enqueue(stream, "the recording of an event", t);
}

static void await(operation *op, task *t)
{
    cudaEvent_t e = t->event;
    pthread_mutex_lock(&e->mutex);
    while (e->n_done < t->number)
        pthread_cond_wait(&e->changed, &e->mutex);
    pthread_mutex_lock(&cuda_double_lock);
    clock_join(op->clock, &e->clock);
    pthread_mutex_unlock(&cuda_double_lock);
    e->n_users--;
    release(e);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    if (flags != 0)
        return noted(cudaErrorInvalidValue);
    task *t = new_task(await);
    t->event = event;
    pthread_mutex_lock(&event->mutex);
    t->number = event->n_recorded;
    event->n_users++;
    pthread_mutex_unlock(&event->mutex);
    return enqueue(stream, "the wait for an event", t);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    pthread_mutex_lock(&event->mutex);
    bool done = event->n_done == event->n_recorded;
    if (done) {
        pthread_mutex_lock(&cuda_double_lock);
        host_learns(&event->clock);
        pthread_mutex_unlock(&cuda_double_lock);
    }
    pthread_mutex_unlock(&event->mutex);
    return done ? result() : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    pthread_mutex_lock(&event->mutex);
    uint64_t until = event->n_recorded;
    while (event->n_done < until)
        pthread_cond_wait(&event->changed, &event->mutex);
    pthread_mutex_lock(&cuda_double_lock);
    host_learns(&event->clock);
    pthread_mutex_unlock(&cuda_double_lock);
    pthread_mutex_unlock(&event->mutex);
    return result();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    if (!start->timed || !end->timed || start->n_recorded == 0 || end->n_recorded == 0)
        return noted(cudaErrorInvalidResourceHandle);
    if (cudaEventQuery(start) == cudaErrorNotReady || cudaEventQuery(end) == cudaErrorNotReady)
        return cudaErrorNotReady;
    *ms = (float)(1e3 * (end->time_s - start->time_s));
    return result();
}

/* ---- copies ---- */

static void copy(operation *op, task *t)
{
    (void)op;
    if (is_device_address(t->from))
        check_access(t->from, t->bytes, false, false);
    if (is_device_address(t->to))
        check_access(t->to, t->bytes, true, false);
    if (!op->failed)
        memmove(t->to, t->copy ? t->copy : t->from, t->bytes);
}

static bool fits(enum cudaMemcpyKind kind, const void *dst, const void *src)
{
    if (kind == cudaMemcpyDefault)
        return true;
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return is_device_address(dst) == to_device && is_device_address(src) == from_device;
}

/* What pageable memory of the host holds is taken at once, as CUDA does. */
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    if (!fits(kind, dst, src))
        return noted(cudaErrorInvalidMemcpyDirection);
    task *t = new_task(copy);
    t->to = dst;
    t->from = src;
    t->bytes = count;
    if (!is_device_address(src) && !is_pinned(src)) {
        t->copy = malloc(count);
        memcpy(t->copy, src, count);
    }
    cudaError_t error = enqueue(stream, "a copy", t);
    if (error == cudaSuccess && !is_device_address(dst) && !is_pinned(dst))
        return cudaStreamSynchronize(stream);
    return error;
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t count, enum cudaMemcpyKind kind)
{
    cudaError_t error = cudaMemcpyAsync(dst, src, count, kind, NULL);
    return error == cudaSuccess ? cudaStreamSynchronize(NULL) : error;
}

static void set(operation *op, task *t)
{
    check_access(t->to, t->bytes, true, false);
    if (!op->failed)
        memset(t->to, t->value, t->bytes);
}

cudaError_t cudaMemsetAsync(void *devPtr, int value, size_t count, cudaStream_t stream)
{
    if (count == 0)
        return cudaSuccess;
    task *t = new_task(set);
    t->to = devPtr;
    t->value = value;
    t->bytes = count;
    return enqueue(stream, "a memset", t);
}

cudaError_t cudaMemset(void *devPtr, int value, size_t count)
{
    cudaError_t error = cudaMemsetAsync(devPtr, value, count, NULL);
    return error == cudaSuccess ? cudaStreamSynchronize(NULL) : error;
}

/* ---- functions and kernels ---- */

static void call(operation *op, task *t)
{
    (void)op;
    t->function(t->data);
}

cudaError_t cuda_double_enqueue(cudaStream_t stream, void (*fn)(void *data), void *data,
                                const char *name)
{
    task *t = new_task(call);
    t->function = fn;
    t->data = data;
    return enqueue(stream, name, t);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *userData)
{
    return cuda_double_enqueue(stream, fn, userData, "a function of the host");
}

static void run(operation *op, task *t)
{
    run_kernel(op, &t->kernel);
}

cudaError_t cuda_double_launch(cudaStream_t stream, const cuda_double_kernel *kernel)
{
    const cuda_double_vector *b = &kernel->block, *g = &kernel->grid;
    uint64_t threads = (uint64_t)b->x * b->y * b->z;
    if (threads == 0 || threads > MOST_THREADS || b->z > 64 || g->x == 0 || g->y == 0 ||
        g->z == 0 || g->x > 2147483647u || g->y > 65535 || g->z > 65535 ||
        kernel->shared_bytes > shared_limit(kernel->function)) {
        free(kernel->closure);
        return noted(kernel->shared_bytes > shared_limit(kernel->function)
                         ? cudaErrorInvalidValue
                         : cudaErrorInvalidConfiguration);
    }
    task *t = new_task(run);
    t->kernel = *kernel;
    snprintf(t->op.room, sizeof t->op.room, "the kernel at image + 0x%lx",
             (unsigned long)((const char *)kernel->function - &__executable_start));
    return enqueue(stream, t->op.room, t);
}

uint64_t cuda_double_n_kernels(void)
{
    pthread_mutex_lock(&cuda_double_lock);
    uint64_t n = all.n_kernels;
    pthread_mutex_unlock(&cuda_double_lock);
    return n;
}
