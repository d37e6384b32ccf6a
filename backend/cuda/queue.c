/* queue.c: streams and events of a rank: order, times, memory. */
#include "parts.h"

#include <float.h>
#include <inttypes.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static cuda_rank *rank_of(void *self, uint32_t rank)
{
    const tdm_cuda *cuda = self;
    return &cuda->ranks[rank];
}

/* ---- order ---- */

static void *stream_of(void *self, uint32_t rank, tdm_stream stream)
{
    return rank_of(self, rank)->streams[stream];
}

/* Each thread has a current GPU; a thread that issues for ranks of several comes by here before
 * every op. */
static tdm_code await(void *self, uint32_t rank, tdm_stream stream, uint32_t op, tdm_error *err)
{
    const cuda_rank *r = rank_of(self, rank);
    cudaError_t error = cudaSetDevice(r->gpu);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(r->streams[stream], r->ends[op], cudaEventWaitDefault);
    return cuda_rank_ok(r, "waiting for an op", error, err);
}

static tdm_code mark(void *self, uint32_t rank, tdm_stream stream, uint32_t op, bool end,
                     tdm_error *err)
{
    const cuda_rank *r = rank_of(self, rank);
    cudaError_t error = cudaSetDevice(r->gpu);
    if (error == cudaSuccess)
        error = cudaEventRecord(end ? r->ends[op] : r->starts[op], r->streams[stream]);
    return cuda_rank_ok(r, "marking an op", error, err);
}

static bool reached(void *self, uint32_t rank, uint32_t op, bool end)
{
    const cuda_rank *r = rank_of(self, rank);
    return cudaEventQuery(end ? r->ends[op] : r->starts[op]) == cudaSuccess;
}

/* ---- times ---- */

/* A base event happened between two looks at the clock; that of the closest looks is believed. */
static tdm_code align(cuda_rank *r, tdm_error *err)
{
    double least_s = DBL_MAX;
    cudaStream_t stream = r->streams[TDM_STREAM_COMPUTE];
    cudaError_t error = cudaStreamSynchronize(stream);
    for (uint32_t i = 0; i < CUDA_N_BASES && error == cudaSuccess; i++) {
        double before_s = now_s();
        error = cudaEventRecord(r->bases[i], stream);
        if (error == cudaSuccess)
            error = cudaEventSynchronize(r->bases[i]);
        double after_s = now_s();
        if (after_s - before_s >= least_s)
            continue;
        least_s = after_s - before_s;
        r->base = i;
        r->base_s = (before_s + after_s) / 2;
        r->uncertainty_s = least_s / 2;
    }
    return cuda_rank_ok(r, "reading its clock", error, err);
}

static tdm_code begin_step(void *self, uint32_t rank, uint32_t step, tdm_error *err)
{
    tdm_cuda *cuda = self;
    cuda_rank *r = rank_of(self, rank);
    tdm_code code = cuda_rank_ok(r, "choosing the GPU", cudaSetDevice(r->gpu), err);
    if (code == TDM_OK)
        code = cuda_tables_step(r, step, err);
    if (code == TDM_OK)
        code = align(r, err);
    if (code == TDM_OK && r->uncertainty_s > cuda->uncertainty_s)
        cuda->uncertainty_s = r->uncertainty_s;
    return code;
}

static tdm_code poll(void *self, uint32_t rank, bool *done, tdm_error *err)
{
    const cuda_rank *r = rank_of(self, rank);
    cudaError_t error = cudaSuccess;
    for (uint32_t s = 0; s < TDM_N_STREAMS && error == cudaSuccess; s++)
        if (r->streams[s])
            error = cudaStreamQuery(r->streams[s]);
    *done = error == cudaSuccess;
    return error == cudaErrorNotReady ? TDM_OK : cuda_rank_ok(r, "a kernel", error, err);
}

/* Seconds of the step at an event. */
static cudaError_t time_of(const cuda_rank *r, const tdm_exec_clock *clock, cudaEvent_t event,
                           double *time_s)
{
    float ms = 0;
    cudaError_t error = cudaEventElapsedTime(&ms, r->bases[r->base], event);
    double origin_s = (double)clock->origin.tv_sec + 1e-9 * (double)clock->origin.tv_nsec;
    *time_s = r->base_s - origin_s + 1e-3 * (double)ms;
    return error;
}

static tdm_code end_step(void *self, uint32_t rank, uint32_t step, const tdm_exec_clock *clock,
                         tdm_span *spans, tdm_error *err)
{
    cuda_rank *r = rank_of(self, rank);
    const cuda_tables *t = &r->tables;
    cudaError_t error = cudaSetDevice(r->gpu);
    for (uint32_t op = 0; op < r->program->n_ops && error == cudaSuccess; op++) {
        error = time_of(r, clock, r->starts[op], &spans[op].start_s);
        if (error == cudaSuccess)
            error = time_of(r, clock, r->ends[op], &spans[op].end_s);
    }
    if (error == cudaSuccess)
        error =
            cudaMemcpy(&r->losses[step], t->loss + step, sizeof(double), cudaMemcpyDeviceToHost);
    if (error == cudaSuccess && r->cuda->plan->train && r->cuda->plan->training.clip_grad > 0)
        error = cudaMemcpy(&r->grad_norms[step], t->grad_norm + step, sizeof(double),
                           cudaMemcpyDeviceToHost);
    return cuda_rank_ok(r, "reading its results", error, err);
}

/* ---- memory ---- */

static tdm_code allocate(void *self, uint32_t rank, uint64_t bytes, void **data, tdm_error *err)
{
    return cuda_allocate(rank_of(self, rank), CUDA_ARENA, bytes, data, err);
}

/* With all else of the rank: cuda.c. */
static void release(void *self, uint32_t rank, void *data)
{
    (void)self;
    (void)rank;
    (void)data;
}

const tdm_exec_queue cuda_queue = {.stream = stream_of,
                                   .await = await,
                                   .mark = mark,
                                   .reached = reached,
                                   .begin_step = begin_step,
                                   .poll = poll,
                                   .end_step = end_step,
                                   .allocate = allocate,
                                   .release = release};

/* ---- setting up ---- */

tdm_code cuda_queue_open(tdm_arena *arena, cuda_rank *r, tdm_error *err)
{
    const tdm_program *p = r->program;
    cudaError_t error = cudaSuccess;
    r->starts = TDM_ALLOC(arena, cudaEvent_t, p->n_ops);
    r->ends = TDM_ALLOC(arena, cudaEvent_t, p->n_ops);
    for (uint32_t s = 0; s < TDM_N_STREAMS && error == cudaSuccess; s++)
        if (p->n_on_stream[s] > 0 || s == TDM_STREAM_COMPUTE)
            error = cudaStreamCreateWithFlags(&r->streams[s], cudaStreamNonBlocking);
    for (uint32_t i = 0; i < CUDA_N_BASES && error == cudaSuccess; i++)
        error = cudaEventCreate(&r->bases[i]);
    for (uint32_t op = 0; op < p->n_ops && error == cudaSuccess; op++) {
        error = cudaEventCreate(&r->starts[op]);
        if (error == cudaSuccess)
            error = cudaEventCreate(&r->ends[op]);
    }
    return cuda_rank_ok(r, "making streams and events", error, err);
}

void cuda_queue_close(cuda_rank *r)
{
    for (uint32_t op = 0; r->ends && op < r->program->n_ops; op++) {
        if (r->starts[op])
            cudaEventDestroy(r->starts[op]);
        if (r->ends[op])
            cudaEventDestroy(r->ends[op]);
    }
    for (uint32_t i = 0; i < CUDA_N_BASES; i++)
        if (r->bases[i])
            cudaEventDestroy(r->bases[i]);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (r->streams[s])
            cudaStreamDestroy(r->streams[s]);
}
