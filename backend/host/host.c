/* host.c: the host device: finds the kernel and the operands of every op. */
#include "blas_api.h"
#include "core/rates.h"
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

/* ---- kernels ---- */

static const host_kernel *kernel_of(const tdm_instance *in)
{
    size_t n = tdm_op_plain_length(in->op);
    bool optimizer = in->pass.kind == TDM_PASS_O;
    for (const host_kernel *k = host_kernels; k->name; k++)
        if (k->kind == in->op->kind && k->optimizer == optimizer && strlen(k->name) == n &&
            strncmp(k->name, in->op->name, n) == 0)
            return k;
    return NULL;
}

static tdm_code check_template(const tdm_template *ops, const tdm_kind *kind, tdm_pass_kind pass,
                               tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < ops->n_ops; i++) {
        tdm_instance in = {.op = &ops->ops[i], .kind = kind, .pass = {.kind = pass}};
        if (!tdm_op_is_comm(in.op) && !kernel_of(&in))
            code = tdm_error_add(
                err, TDM_E_INVALID, "the host device has no kernel for %s '%s' of %s",
                tdm_op_kind_name(in.op->kind), in.op->name, kind ? kind->name : "the step");
    }
    return code;
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
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            if (check_template(&plan->kinds[k].templates[p], &plan->kinds[k], (tdm_pass_kind)p,
                               err) != TDM_OK)
                code = TDM_E_INVALID;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        if (check_template(&plan->roles[r].optimizer, NULL, TDM_PASS_O, err) != TDM_OK)
            code = TDM_E_INVALID;
    return code;
}

/* ---- ranks ---- */

/* The head of a tied model holds the embedding's words. */
static const char *key_kind(const tdm_plan *plan, const host_param *p)
{
    if (strcmp(p->kind->name, "head") == 0 && !plan->model.untie_embeddings &&
        strcmp(p->param->name, "words") == 0)
        return "embedding";
    return strstr(p->kind->name, "layer") ? "layer" : p->kind->name;
}

/* Evenly within +-1 / sqrt(inputs), biases and embeddings included. Source: torch.nn.Linear,
 * reset_parameters. Norms start at 1 and without shift. */
static void set_start(const tdm_host *host, uint32_t rank, const host_param *p)
{
    const tdm_plan *plan = host->plan;
    host_shape shape = host_shape_of(plan, p->kind, p->param, rank);
    uint64_t key = host_key(host->seed, key_kind(plan, p), p->param->name, p->layer);
    uint64_t vectors = plan->model.norm == TDM_NORM_LAYER ? 2 : 1;
    for (uint64_t i = 0; i < p->param->count; i++) {
        if (shape.fan_in == 0) {
            p->weight[i] = i < p->param->count / vectors ? shape.start : 0;
            continue;
        }
        double u = 2 * host_uniform(key, host_shape_global(&shape, i)) - 1;
        p->weight[i] = (float)(u / sqrt((double)shape.fan_in));
    }
}

/* What the rank's optimizer updates, and whether its gradient counts in the norm. */
static void share_out(const tdm_plan *plan, uint32_t rank, host_param *p)
{
    tdm_group_kind kind = p->param->expert ? TDM_GROUP_EDP : TDM_GROUP_DP;
    tdm_group group = tdm_mesh_group(&plan->mesh, kind, rank);
    host_shape shape = host_shape_of(plan, p->kind, p->param, rank);
    uint32_t index = tdm_group_index(&group, rank);
    uint64_t count = p->param->count;
    bool copy = p->param->embedding && strcmp(p->kind->name, "head") == 0;
    p->n_replicas = plan->parallel.distributed_optimizer ? group.size : 1;
    uint64_t run = tdm_ceil_div(count, p->n_replicas);
    p->first = p->n_replicas > 1 && index * run < count ? index * run : 0;
    p->count = index * run < count || p->n_replicas == 1 ? run : 0;
    if (p->count > count - p->first)
        p->count = count - p->first;
    tdm_group_kind parts = p->param->expert ? TDM_GROUP_ETP : TDM_GROUP_TP;
    bool is_first = tdm_mesh_group(&plan->mesh, parts, rank).rank0 == rank;
    p->counted = !copy && (is_first || !shape.replicated) && (p->n_replicas > 1 || index == 0);
}

/* Lists the parameters in the layout's order. */
static void list_params(tdm_arena *arena, host_rank *rank, const tdm_role *role)
{
    const tdm_plan *plan = rank->host->plan;
    uint32_t **first = TDM_ALLOC(arena, uint32_t *, role->n_chunks), n = 0;
    for (int fill = 0; fill < 2; fill++) {
        n = 0;
        for (uint32_t c = 0; c < role->n_chunks; c++) {
            const tdm_chunk *chunk = &role->chunks[c];
            first[c] = fill ? first[c] : TDM_ALLOC(arena, uint32_t, chunk->n_positions);
            uint32_t position = 0;
            for (uint32_t b = 0; b < chunk->n_blocks; b++)
                for (uint32_t i = 0; i < chunk->blocks[b].count; i++) {
                    const tdm_kind *kind = &plan->kinds[chunk->blocks[b].kind];
                    first[c][position++] = n;
                    for (uint32_t k = 0; k < kind->n_params; k++, n++)
                        if (fill)
                            rank->params[n] =
                                (host_param){.kind = kind,
                                             .param = &kind->params[k],
                                             .layer = chunk->blocks[b].first_layer + i};
                }
        }
        if (!fill)
            rank->params = TDM_ALLOC(arena, host_param, n);
    }
    rank->n_params = n;
    rank->first_param = (const uint32_t *const *)first;
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

static void open_rank(tdm_arena *arena, tdm_host *host, uint32_t r)
{
    const tdm_plan *plan = host->plan;
    host_rank *rank = &host->ranks[r];
    tdm_group tp = tdm_mesh_group(&plan->mesh, TDM_GROUP_TP, r),
              dp = tdm_mesh_group(&plan->mesh, TDM_GROUP_DP, r),
              ep = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, r),
              etp = tdm_mesh_group(&plan->mesh, TDM_GROUP_ETP, r);
    *rank = (host_rank){.host = host,
                        .rank = r,
                        .tp = tdm_group_index(&tp, r),
                        .dp = tdm_group_index(&dp, r),
                        .ep = tdm_group_index(&ep, r),
                        .etp = tdm_group_index(&etp, r)};
    list_params(arena, rank, &plan->roles[plan->role_of[r]]);
    enum { N_LISTS = 6 };
    rank->segments = TDM_ALLOC(arena, tdm_exec_segment, N_LISTS * (size_t)rank->n_params);
    rank->shares = TDM_ALLOC(arena, uint64_t, etp.size);
    rank->scratch = TDM_ALLOC(arena, float, scratch_count(plan));
    rank->loss = TDM_ALLOC(arena, double, host->n_steps);
    rank->grad_norm = TDM_ALLOC(arena, double, host->n_steps);
    for (uint32_t i = 0; i < host->n_steps; i++)
        rank->grad_norm[i] = NAN;
}

/* Room for so many numbers, and the alignment's rest behind them. */
static float *take(float **next, uint64_t count)
{
    float *room = *next;
    uint64_t step = TDM_ALIGNMENT / sizeof *room;
    *next += tdm_ceil_div(count, step) * step;
    return room;
}

/* Weights, gradients and moments, one after the other; all parameters of each. */
static tdm_code begin(void *self, uint32_t r, void *statics, tdm_error *err)
{
    (void)err;
    tdm_host *host = self;
    host_rank *rank = &host->ranks[r];
    float *next = statics;
    for (uint32_t i = 0; i < rank->n_params; i++)
        rank->params[i].weight = take(&next, rank->params[i].param->count);
    for (uint32_t i = 0; host->plan->train && i < rank->n_params; i++)
        rank->params[i].gradient = take(&next, rank->params[i].param->count);
    for (uint32_t i = 0; i < rank->n_params; i++) {
        host_param *p = &rank->params[i];
        share_out(host->plan, r, p);
        set_start(host, r, p);
        if (!host->plan->train)
            continue;
        uint64_t run = tdm_ceil_div(p->param->count, p->n_replicas);
        p->first_moment = take(&next, 2 * run);
        p->second_moment = p->first_moment + run;
    }
    return TDM_OK;
}

/* ---- ops ---- */

const host_param *host_find(const host_call *c, const char *name)
{
    const tdm_kind *kind = c->in->kind;
    for (uint32_t i = 0; kind && i < kind->n_params; i++)
        if (strcmp(kind->params[i].name, name) == 0)
            return &c->rank->params[c->rank->first_param[c->in->pass.chunk][c->in->position] + i];
    return NULL;
}

/* On a single stage the head of a tied model has no words of its own. */
static const host_param *find_weight(const host_call *c)
{
    const host_param *own = c->kernel->weight ? host_find(c, c->kernel->weight) : NULL;
    if (own || !c->kernel->weight || strcmp(c->kernel->weight, "words") != 0)
        return own;
    for (uint32_t i = 0; i < c->rank->n_params; i++)
        if (strcmp(c->rank->params[i].param->name, "words") == 0)
            return &c->rank->params[i];
    return NULL;
}

static host_call call_of(tdm_host *host, const tdm_exec_op *op)
{
    const tdm_plan *plan = host->plan;
    host_call c = {.plan = plan,
                   .model = &plan->model,
                   .rank = &host->ranks[op->rank],
                   .in = op->instance,
                   .op = op->instance->op,
                   .tensors = op->tensors,
                   .step = op->step,
                   .h = plan->model.hidden_size,
                   .s = plan->seq_length,
                   .tokens = (uint64_t)plan->micro_batch_size * plan->seq_length,
                   .sp = plan->parallel.sequence_parallel && plan->mesh.tp > 1};
    c.shard = c.tokens / plan->mesh.tp;
    c.residual = c.sp ? c.shard : c.tokens;
    c.row0 = c.sp ? c.rank->tp * c.shard : 0;
    return c;
}

static tdm_code compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    (void)err;
    tdm_host *host = self;
    host_call c = call_of(host, op);
    c.kernel = host->kernels[host->plan->role_of[op->rank]][op->instance->index];
    c.weight = find_weight(&c);
    c.bias = c.kernel->bias ? host_find(&c, c.kernel->bias) : NULL;
    c.kernel->run(&c);
    op->done_s = tdm_exec_now(op->clock);
    return TDM_OK;
}

static tdm_code transfer(void *self, const tdm_exec_op *op, tdm_exec_transfer *t, tdm_error *err)
{
    host_call c = call_of(self, op);
    return host_transfer(&c, t, err);
}

static void moved(void *self, tdm_exec_op *op, double latest_s)
{
    (void)self;
    (void)latest_s;
    op->done_s = tdm_exec_now(op->clock);
}

static void find_kernels(tdm_arena *arena, tdm_host *host)
{
    const tdm_plan *plan = host->plan;
    host->kernels = TDM_ALLOC(arena, const host_kernel *const *, plan->n_roles);
    for (uint32_t r = 0; r < plan->n_roles; r++) {
        const tdm_program *p = &host->programs[r];
        const host_kernel **kernels = TDM_ALLOC(arena, const host_kernel *, p->n_ops);
        for (uint32_t i = 0; i < p->n_ops; i++)
            kernels[i] = tdm_op_is_comm(p->ops[i].op) ? NULL : kernel_of(&p->ops[i]);
        host->kernels[r] = kernels;
    }
}

tdm_code tdm_host_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                       uint32_t n_steps, tdm_host_watch *watch, void *context, tdm_host **host,
                       tdm_exec_device *device, tdm_error *err)
{
    tdm_host *h = TDM_ALLOC(arena, tdm_host, 1);
    *h = (tdm_host){.plan = plan,
                    .programs = programs,
                    .n_steps = n_steps,
                    .seed = plan->routing_spec.seed,
                    .watch = watch,
                    .context = context};
    tdm_code code = TDM_OK;
    if (plan->routing.n_layers > 0)
        code = host_routing_build(arena, plan, &h->routing, err);
    if (code != TDM_OK)
        return code;
    host_blas_open(NULL, 0)->set_num_threads(1); /* the ranks are the threads */
    find_kernels(arena, h);
    h->ranks = TDM_ALLOC(arena, host_rank, plan->mesh.world);
    for (uint32_t r = 0; r < plan->mesh.world; r++)
        open_rank(arena, h, r);
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
