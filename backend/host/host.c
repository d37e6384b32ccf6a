/* host.c: the host device: finds the kernel and the operands of every op. */
#include "blas_api.h"
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *tdm_host_absent(void)
{
    char problem[256];
    if (host_blas_open(problem, sizeof problem))
        return NULL;
    return "the host device was built with OpenBLAS, but its shared library does not open here; "
           "install it (apt-get install libopenblas0), or use --device paced";
}

tdm_code tdm_host_check(const tdm_plan *plan, tdm_error *err)
{
    tdm_code code = TDM_OK;
    const char *missing = tdm_host_absent();
    if (missing)
        return tdm_error_add(err, TDM_E_INVALID, "%s", missing);
    if (plan->pass_times)
        return tdm_error_add(err, TDM_E_INVALID,
                             "pass_times: there is no model to compute (run with --device paced)");
    if (plan->training.dtype != TDM_DTYPE_FP32)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "training.dtype: %s: the host device computes in fp32 (try --set "
                             "training.dtype=fp32)",
                             tdm_dtype_name(plan->training.dtype));
    if (plan->training.grad_dtype != TDM_DTYPE_FP32)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "training.grad_dtype: %s: the host device computes in fp32 (try --set "
                             "training.grad_dtype=fp32)",
                             tdm_dtype_name(plan->training.grad_dtype));
    return tdm_works_check(plan, "host", err) == TDM_OK ? code : TDM_E_INVALID;
}

/* ---- ranks ---- */

static void set_start(const tdm_host *host, uint32_t rank, const tdm_rank_param *p)
{
    tdm_shape shape = tdm_shape_of(host->plan, p->kind, p->param, rank);
    tdm_start start = tdm_start_of(host->plan, p, &shape);
    float *weight = host_weight(p);
    for (uint64_t i = 0; i < p->param->count; i++) {
        double u = 2 * tdm_data_uniform(start.key, tdm_shape_global(&shape, i)) - 1;
        weight[i] = start.bound > 0     ? (float)(u * start.bound)
                    : i < start.n_start ? start.start
                                        : 0;
    }
}

static uint64_t scratch_count(const tdm_plan *plan)
{
    const tdm_model *m = &plan->model;
    const uint64_t needs[] = {plan->seq_length, m->kv_channels, m->num_experts, plan->mesh.world};
    uint64_t most = 1;
    for (size_t i = 0; i < TDM_COUNT(needs); i++)
        most = needs[i] > most ? needs[i] : most;
    return most;
}

static void open_rank(tdm_arena *arena, tdm_host *host, host_rank *rank, tdm_rank *of)
{
    *rank = (host_rank){.host = host,
                        .of = of,
                        .scratch = TDM_ALLOC(arena, float, scratch_count(host->plan)),
                        .loss = TDM_ALLOC(arena, double, host->n_steps),
                        .grad_norm = TDM_ALLOC(arena, double, host->n_steps)};
    of->of_device = rank;
    of->norm = &rank->norm;
    for (uint32_t i = 0; i < host->n_steps; i++)
        rank->grad_norm[i] = NAN;
}

static tdm_code begin(void *self, uint32_t r, void *statics, tdm_error *err)
{
    (void)err;
    const tdm_host *host = self;
    tdm_rank *rank = host->ranks[r].of;
    tdm_rank_place(rank, statics);
    for (uint32_t i = 0; i < rank->n_params; i++)
        set_start(host, r, &rank->params[i]);
    return TDM_OK;
}

/* ---- ops ---- */

static tdm_code compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    (void)err;
    const tdm_host *host = self;
    tdm_call c = tdm_call_of(host->ranks[op->rank].of, op);
    host_kernels[c.work->work](&c);
    op->done_s = tdm_exec_now(op->clock);
    return TDM_OK;
}

static tdm_code transfer(void *self, const tdm_exec_op *op, tdm_exec_transfer *t, tdm_error *err)
{
    const tdm_host *host = self;
    tdm_call c = tdm_call_of(host->ranks[op->rank].of, op);
    return tdm_moves(&c, "host", t, err);
}

static void moved(void *self, tdm_exec_op *op, double latest_s)
{
    (void)self;
    (void)latest_s;
    op->done_s = tdm_exec_now(op->clock);
}

tdm_code tdm_host_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                       uint32_t n_steps, tdm_watch *watch, void *context, tdm_host **host,
                       tdm_exec_device *device, tdm_error *err)
{
    tdm_host *h = TDM_ALLOC(arena, tdm_host, 1);
    *h = (tdm_host){.plan = plan, .n_steps = n_steps, .watch = watch, .context = context};
    tdm_code code = TDM_OK;
    if (plan->routing.n_layers > 0)
        code = tdm_routes_build(arena, plan, &h->routes, err);
    if (code != TDM_OK)
        return code;
    host_blas_open(NULL, 0)->set_num_threads(1); /* the ranks are the threads */
    tdm_rank *ranks = tdm_ranks_new(arena, plan, programs, &h->routes);
    h->ranks = TDM_ALLOC(arena, host_rank, plan->mesh.world);
    for (uint32_t r = 0; r < plan->mesh.world; r++)
        open_rank(arena, h, &h->ranks[r], &ranks[r]);
    *host = h;
    *device = (tdm_exec_device){.name = "host",
                                .self = h,
                                .has_memory = true,
                                .begin = begin,
                                .compute = compute,
                                .transfer = transfer,
                                .moved = moved};
    return TDM_OK;
}

/* ---- results ---- */

double tdm_host_loss(const tdm_host *host, uint32_t step)
{
    const tdm_plan *plan = host->plan;
    double sum = 0, tokens = (double)plan->micro_batch_size * plan->seq_length *
                             plan->num_microbatches * plan->mesh.dp;
    for (uint32_t r = 0; r < plan->mesh.world; r++)
        sum += host->ranks[r].loss[step];
    return plan->train ? sum / tokens : NAN;
}

double tdm_host_grad_norm(const tdm_host *host, uint32_t step)
{
    return host->ranks[0].grad_norm[step];
}

double *tdm_host_losses(tdm_host *host, uint32_t rank)
{
    return host->ranks[rank].loss;
}

double *tdm_host_grad_norms(tdm_host *host, uint32_t rank)
{
    return host->ranks[rank].grad_norm;
}
