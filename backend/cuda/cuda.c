/* cuda.c: the cuda device: what it needs of this machine, its ranks, and their ops. */
#include "parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tdm_cuda_absent(void)
{
    return NULL;
}

/* ---- failures ---- */

tdm_code cuda_rank_ok(const cuda_rank *rank, const char *what, cudaError_t error, tdm_error *err)
{
    if (error == cudaSuccess)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_DEVICE, "rank %" PRIu32 " on GPU %d: %s: %s (%s)",
                         rank->of->rank, rank->gpu, what, cudaGetErrorString(error),
                         cudaGetErrorName(error));
}

/* "gemm qkv, step 2, pass F, microbatch 3, layer 7". */
static const char *name_op(const cuda_call *c, char *text, size_t n_bytes)
{
    const tdm_instance *in = c->of.in;
    snprintf(text, n_bytes,
             "%s %s, step %" PRIu32 ", pass %s, microbatch %" PRIu32 ", layer %" PRIu32,
             tdm_op_kind_name(in->op->kind), in->op->name, c->of.step + 1,
             tdm_pass_kind_name(in->pass.kind), in->pass.microbatch, in->layer);
    return text;
}

tdm_code cuda_ok(const cuda_call *c, cudaError_t error, tdm_error *err)
{
    char text[256];
    return error == cudaSuccess ? TDM_OK
                                : cuda_rank_ok(c->rank, name_op(c, text, sizeof text), error, err);
}

tdm_code cuda_blas_ok(const cuda_call *c, int status, tdm_error *err)
{
    char text[256];
    if (status == BLAS_SUCCESS)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_DEVICE, "rank %" PRIu32 " on GPU %d: %s: cuBLAS: %s",
                         c->of.rank->rank, c->rank->gpu, name_op(c, text, sizeof text),
                         c->rank->cuda->blas->GetStatusString(status));
}

tdm_code cuda_allocate(cuda_rank *rank, cuda_purpose purpose, uint64_t bytes, void **data,
                       tdm_error *err)
{
    static const char *const purposes[CUDA_N_PURPOSES] = {"arena", "workspaces", "tables"};
    size_t free_bytes = 0, total_bytes = 0;
    *data = NULL;
    if (bytes == 0)
        return TDM_OK;
    if (rank->n_allocations == CUDA_MOST_ALLOCATIONS)
        return tdm_error_add(err, TDM_E_INTERNAL, "a rank has more than %d allocations",
                             CUDA_MOST_ALLOCATIONS);
    cudaError_t error = cudaSetDevice(rank->gpu);
    if (error == cudaSuccess)
        error = cudaMalloc(data, bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* forgotten: the run ends here */
        cudaMemGetInfo(&free_bytes, &total_bytes);
        return tdm_error_add(err, TDM_E_DEVICE,
                             "rank %" PRIu32 ": out of memory: its %s of %.4g GB do not fit on GPU "
                             "%d, which has %.4g GB free of %.4g GB",
                             rank->of->rank, purposes[purpose], (double)bytes / 1e9, rank->gpu,
                             (double)free_bytes / 1e9, (double)total_bytes / 1e9);
    }
    if (error == cudaSuccess) {
        rank->allocations[rank->n_allocations++] = *data;
        rank->bytes[purpose] += bytes;
    }
    return cuda_rank_ok(rank, "allocating memory", error, err);
}

/* ---- the machine ---- */

/* The reason why CUDA does not run here. */
static void explain(cudaError_t error, char *problem, size_t n_bytes)
{
    int version = 0;
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    cudaDriverGetVersion(&version);
    if (version == 0)
        snprintf(problem, n_bytes, "there is no NVIDIA driver here");
    else if (version < CUDART_VERSION / 1000 * 1000)
        snprintf(problem, n_bytes,
                 "the NVIDIA driver is one for CUDA %d.%d, and this build is for CUDA %d: install "
                 "a newer driver",
                 version / 1000, version % 1000 / 10, CUDART_VERSION / 1000);
    else if (error == cudaErrorNoDevice || error == cudaSuccess)
        snprintf(problem, n_bytes, "the NVIDIA driver shows no GPU%s%s%s",
                 visible ? " (CUDA_VISIBLE_DEVICES is '" : "", visible ? visible : "",
                 visible ? "')" : "");
    else
        snprintf(problem, n_bytes, "CUDA does not start: %s", cudaGetErrorString(error));
}

uint32_t tdm_cuda_n_devices(void)
{
    int n = 0;
    return cudaGetDeviceCount(&n) == cudaSuccess && n > 0 ? (uint32_t)n : 0;
}

const char *tdm_cuda_describe(tdm_arena *arena, char *problem, size_t n_bytes)
{
    int n = 0, driver = 0;
    struct cudaDeviceProp properties;
    char library[200];
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaSuccess && n > 0)
        error = cudaGetDeviceProperties(&properties, 0);
    if (error != cudaSuccess || n == 0) {
        explain(error, problem, n_bytes);
        return NULL;
    }
    if (!blas_open(library, sizeof library) || !blas_lt_open(library, sizeof library)) {
        snprintf(problem, n_bytes, "cuBLAS of CUDA %d does not open: %s", CUDART_VERSION / 1000,
                 library);
        return NULL;
    }
    cudaDriverGetVersion(&driver);
    return tdm_arena_printf(arena, "%d x %s, driver for CUDA %d.%d", n, properties.name,
                            driver / 1000, driver % 1000 / 10);
}

tdm_code tdm_cuda_check(const tdm_plan *plan, tdm_error *err)
{
    enum { MOST_HEAD_SIZE = 256 };
    const tdm_training *training = &plan->training;
    tdm_code code = TDM_OK;
    if (plan->pass_times)
        return tdm_error_add(err, TDM_E_INVALID,
                             "pass_times: there is no model to compute (run with --device paced)");
    if (training->grad_dtype != TDM_DTYPE_FP32 && training->grad_dtype != training->dtype)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "training.grad_dtype: %s: the cuda device sums gradients in fp32 or "
                             "in training.dtype, %s",
                             tdm_dtype_name(training->grad_dtype), tdm_dtype_name(training->dtype));
    if (plan->model.attention == TDM_ATTENTION_FUSED && plan->model.kv_channels > MOST_HEAD_SIZE)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "model.kv_channels: %" PRIu32 ": the cuda device's fused attention "
                             "has heads of at most %d (set attention_backend to unfused)",
                             plan->model.kv_channels, MOST_HEAD_SIZE);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            for (uint32_t i = 0; i < plan->kinds[k].templates[p].n_ops; i++) {
                const tdm_op *op = &plan->kinds[k].templates[p].ops[i];
                if (!tdm_op_is_comm(op) && op->stream != TDM_STREAM_COMPUTE)
                    code = tdm_error_add(err, TDM_E_INVALID,
                                         "op %s of %s: the cuda device computes on the compute "
                                         "stream only",
                                         op->name, plan->kinds[k].name);
            }
    return tdm_works_check(plan, "cuda", err) == TDM_OK ? code : TDM_E_INVALID;
}

/* ---- ranks ---- */

static tdm_cuda_type type_of(tdm_dtype dtype)
{
    return dtype == TDM_DTYPE_BF16   ? TDM_CUDA_BF16
           : dtype == TDM_DTYPE_FP16 ? TDM_CUDA_FP16
                                     : TDM_CUDA_FP32;
}

static cuda_call call_of(cuda_rank *rank, const tdm_exec_op *op)
{
    const tdm_training *training = &rank->cuda->plan->training;
    return (cuda_call){.of = tdm_call_of(rank->of, op),
                       .rank = rank,
                       .stream = op->stream,
                       .type = type_of(training->dtype),
                       .gradient_type = type_of(training->grad_dtype),
                       .element = tdm_dtype_bytes(training->dtype),
                       .rehearses = op->rehearses};
}

/* The largest that an op of the rank needs. */
static size_t scratch_of(cuda_rank *rank)
{
    size_t most = 0;
    for (uint32_t op = 0; op < rank->program->n_ops; op++) {
        if (!rank->of->works[op])
            continue;
        const tdm_exec_op of = {.rank = rank->of->rank, .instance = &rank->program->ops[op]};
        cuda_call c = call_of(rank, &of);
        size_t bytes = cuda_scratch(&c);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static tdm_code open_rank(tdm_arena *arena, cuda_rank *rank, int gpu, tdm_error *err)
{
    rank->gpu = gpu;
    rank->is_open = true;
    tdm_code code = cuda_rank_ok(rank, "choosing the GPU", cudaSetDevice(gpu), err);
    if (code == TDM_OK)
        code = cuda_queue_open(arena, rank, err);
    if (code == TDM_OK)
        code = cuda_blas_open(rank, err);
    if (code == TDM_OK)
        code = cuda_tables_open(arena, rank, err);
    rank->scratch_bytes = scratch_of(rank);
    if (code == TDM_OK)
        code = cuda_allocate(rank, CUDA_WORKSPACES, rank->scratch_bytes, &rank->scratch, err);
    return code;
}

static void close_rank(cuda_rank *rank)
{
    cudaSetDevice(rank->gpu);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (rank->streams[s] && cudaStreamQuery(rank->streams[s]) == cudaErrorNotReady)
            return; /* it hangs, and so would whoever frees what it uses */
    cuda_blas_close(rank);
    cuda_queue_close(rank);
    for (uint32_t i = 0; i < rank->n_allocations; i++)
        cudaFree(rank->allocations[i]);
}

/* ---- the device ---- */

static tdm_code start_params(cuda_rank *rank, tdm_error *err)
{
    const tdm_plan *plan = rank->cuda->plan;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < rank->of->n_params && code == TDM_OK; i++) {
        const tdm_rank_param *p = &rank->of->params[i];
        tdm_shape shape = tdm_shape_of(plan, p->kind, p->param, rank->of->rank);
        tdm_start start = tdm_start_of(plan, p, &shape);
        tdm_cuda_shape there = {.row0 = shape.row0,
                                .columns = shape.columns,
                                .width = {shape.width[0], shape.width[1], shape.width[2]},
                                .n_sections = shape.n_sections,
                                .part = shape.part,
                                .n_parts = shape.n_parts,
                                .bound = start.bound,
                                .n_start = start.n_start,
                                .start = start.start};
        code = cuda_rank_ok(rank, p->param->name,
                            tdm_cuda_start(rank->streams[TDM_STREAM_COMPUTE],
                                           type_of(plan->training.dtype), &there, start.key,
                                           p->param->count, p->weight, p->first,
                                           p->master ? p->count : 0, p->master),
                            err);
    }
    return code;
}

static tdm_code begin(void *self, uint32_t r, void *statics, tdm_error *err)
{
    const tdm_cuda *cuda = self;
    cuda_rank *rank = &cuda->ranks[r];
    cudaStream_t stream = rank->streams[TDM_STREAM_COMPUTE];
    tdm_code code = cuda_rank_ok(rank, "choosing the GPU", cudaSetDevice(rank->gpu), err);
    uint64_t bytes = tdm_rank_place(rank->of, statics);
    uint32_t n = rank->of->n_params;
    if (cuda->plan->train && n > 0) {
        const tdm_rank_param *last = &rank->of->params[n - 1];
        rank->gradients = rank->of->params[0].gradient;
        rank->gradients_bytes =
            (uint64_t)((char *)last->gradient - (char *)rank->gradients) +
            last->param->count * tdm_dtype_bytes(cuda->plan->training.grad_dtype);
    }
    if (code == TDM_OK)
        code = cuda_rank_ok(rank, "weights", cudaMemsetAsync(statics, 0, bytes, stream), err);
    if (code == TDM_OK)
        code = start_params(rank, err);
    if (code == TDM_OK)
        code = cuda_tables_begin(rank, err);
    if (code == TDM_OK)
        code = cuda_rank_ok(rank, "weights", cudaStreamSynchronize(stream), err);
    return code;
}

static tdm_code compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    const tdm_cuda *cuda = self;
    cuda_call c = call_of(&cuda->ranks[op->rank], op);
    cuda_range_push(op->instance->op->name);
    tdm_code code = cuda_runs[c.of.work->work](&c, err);
    cuda_range_pop();
    return code;
}

static tdm_code transfer(void *self, const tdm_exec_op *op, tdm_exec_transfer *t, tdm_error *err)
{
    const tdm_cuda *cuda = self;
    tdm_call c = tdm_call_of(cuda->ranks[op->rank].of, op);
    return tdm_moves(&c, "cuda", t, err);
}

static tdm_code open_ranks(tdm_arena *arena, tdm_cuda *cuda, tdm_error *err)
{
    const tdm_cuda_options *o = &cuda->options;
    tdm_rank *ranks = tdm_ranks_new(arena, cuda->plan, o->programs, &cuda->routes);
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; r < cuda->plan->mesh.world; r++)
        cuda->ranks[r] = (cuda_rank){.cuda = cuda,
                                     .of = &ranks[r],
                                     .program = &o->programs[cuda->plan->role_of[r]],
                                     .losses = TDM_ALLOC(arena, double, o->n_steps),
                                     .grad_norms = TDM_ALLOC(arena, double, o->n_steps)};
    for (uint32_t r = 0; r < cuda->plan->mesh.world; r++)
        for (uint32_t i = 0; i < o->n_steps; i++)
            cuda->ranks[r].grad_norms[i] = NAN;
    for (uint32_t i = 0; i < o->n_ranks && code == TDM_OK; i++)
        code = open_rank(arena, &cuda->ranks[o->first_rank + i], o->gpus[i], err);
    return code;
}

tdm_code tdm_cuda_open(tdm_arena *arena, const tdm_cuda_options *options, tdm_cuda **cuda,
                       tdm_exec_device *device, tdm_error *err)
{
    char problem[300];
    if (!tdm_cuda_describe(arena, problem, sizeof problem))
        return tdm_error_add(err, TDM_E_DEVICE, "the cuda device cannot run: %s", problem);
    tdm_cuda *made = TDM_ALLOC(arena, tdm_cuda, 1);
    *made = (tdm_cuda){.options = *options,
                       .plan = options->plan,
                       .blas = blas_open(problem, sizeof problem),
                       .lt = blas_lt_open(problem, sizeof problem)};
    made->ranks = TDM_ALLOC(arena, cuda_rank, options->plan->mesh.world);
    tdm_code code = TDM_OK;
    if (options->plan->routing.n_layers > 0)
        code = tdm_routes_build(arena, options->plan, &made->routes, err);
    if (code == TDM_OK)
        code = open_ranks(arena, made, err);
    if (code != TDM_OK) {
        tdm_cuda_close(made);
        return code;
    }
    *cuda = made;
    *device = (tdm_exec_device){.name = "cuda",
                                .self = made,
                                .has_memory = true,
                                .queue = &cuda_queue,
                                .begin = begin,
                                .compute = compute,
                                .transfer = transfer};
    return TDM_OK;
}

void tdm_cuda_close(tdm_cuda *cuda)
{
    for (uint32_t r = 0; cuda && r < cuda->plan->mesh.world; r++)
        if (cuda->ranks[r].is_open)
            close_rank(&cuda->ranks[r]);
}

/* ---- results ---- */

double *tdm_cuda_losses(tdm_cuda *cuda, uint32_t rank)
{
    return cuda->ranks[rank].losses;
}

double *tdm_cuda_grad_norms(tdm_cuda *cuda, uint32_t rank)
{
    return cuda->ranks[rank].grad_norms;
}

double tdm_cuda_uncertainty_s(const tdm_cuda *cuda)
{
    return cuda->uncertainty_s;
}
