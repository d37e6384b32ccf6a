/* lower_step.c: the O pass: gradients reduced over replicas, global norm, Adam, weights gathered
 * (ZeRO-1). Source: Megatron's finalize_model_grads and DistributedOptimizer; the sums over TP and
 * over tied embeddings, which commute with that over replicas and come after it there, are made
 * first. */
#include "lower_build.h"

#include <assert.h>
#include <string.h>

/* Parameters of one rank of a role. */
typedef struct param_sums {
    uint64_t dense, expert; /* all; those replicated over DP, those over EDP */
    uint64_t sync_tp;       /* replicated over TP with partial gradients */
    uint64_t embedding;     /* shared between first and last stage */
} param_sums;

static param_sums sum_params(const tdm_plan *plan, const tdm_role *role)
{
    param_sums sums = {0};
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            const tdm_kind *kind = &plan->kinds[block->kind];
            for (uint32_t i = 0; i < kind->n_params; i++) {
                const tdm_param *p = &kind->params[i];
                uint64_t count = p->count * block->count;
                *(p->expert ? &sums.expert : &sums.dense) += count;
                sums.sync_tp += p->sync_tp ? count : 0;
                sums.embedding += p->embedding ? count : 0;
            }
        }
    return sums;
}

enum { MAX_STEP_OPS = 16 };

typedef struct step {
    tdm_arena *arena;
    const tdm_plan *plan;
    tdm_op ops[MAX_STEP_OPS];
    uint32_t n;
} step;

static tdm_op *append(step *s, const char *name, tdm_op_kind kind, tdm_stream stream,
                      tdm_dtype dtype)
{
    assert(s->n < MAX_STEP_OPS);
    tdm_op *op = &s->ops[s->n++];
    *op =
        (tdm_op){.name = name, .kind = kind, .stream = stream, .pass = TDM_PASS_O, .dtype = dtype};
    return op;
}

static void wait_tails(step *s, tdm_op *op, const tdm_stream *streams, uint32_t n)
{
    tdm_wait *waits = TDM_ALLOC(s->arena, tdm_wait, n);
    for (uint32_t i = 0; i < n; i++)
        waits[i] = (tdm_wait){streams[i], TDM_WAIT_TAIL, 0};
    op->waits = waits;
    op->n_waits = n;
}

static void collective(step *s, const char *name, tdm_op_kind kind, tdm_group_kind group,
                       uint64_t count, tdm_dtype dtype)
{
    tdm_mesh whole = tdm_mesh_whole(&s->plan->mesh);
    if (count == 0 || tdm_mesh_group(&whole, group, 0).size == 1)
        return;
    bool tp = group == TDM_GROUP_TP;
    tdm_op *op = append(s, name, kind, tp ? TDM_STREAM_TP : TDM_STREAM_DP, dtype);
    op->u.collective.group = group;
    op->u.collective.bytes = count * tdm_dtype_bytes(dtype);
    static const tdm_stream after[] = {TDM_STREAM_COMPUTE, TDM_STREAM_TP};
    wait_tails(s, op, after, tp ? 1 : 2);
}

static void reduce_gradients(step *s, const param_sums *sums)
{
    const tdm_plan *plan = s->plan;
    tdm_dtype dtype = plan->training.grad_dtype;
    bool shard = plan->parallel.distributed_optimizer;
    tdm_op_kind kind = shard ? TDM_OP_REDUCE_SCATTER : TDM_OP_ALL_REDUCE;
    collective(s, "grads.replicated", TDM_OP_ALL_REDUCE, TDM_GROUP_TP, sums->sync_tp, dtype);
    collective(s, "grads.embedding", TDM_OP_ALL_REDUCE, TDM_GROUP_EMBED, sums->embedding, dtype);
    collective(s, "grads.dense", kind, TDM_GROUP_DP, sums->dense, dtype);
    collective(s, "grads.experts", kind, TDM_GROUP_EDP, sums->expert, dtype);
}

static void gradient_norm(step *s, uint64_t bytes)
{
    static const tdm_stream reductions[] = {TDM_STREAM_TP, TDM_STREAM_DP};
    if (s->plan->training.clip_grad <= 0)
        return;
    tdm_op *op = append(s, "norm", TDM_OP_MEMORY, TDM_STREAM_COMPUTE, TDM_DTYPE_FP32);
    op->u.memory.bytes.fixed = bytes;
    wait_tails(s, op, reductions, TDM_COUNT(reductions));
    collective(s, "norm.reduce", TDM_OP_ALL_REDUCE, TDM_GROUP_WORLD, 1, TDM_DTYPE_FP32);
}

/* Parameters this rank updates: its shard with ZeRO-1. */
static uint64_t own_count(const tdm_plan *plan, const param_sums *sums)
{
    if (!plan->parallel.distributed_optimizer)
        return sums->dense + sums->expert;
    tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    uint32_t dp = tdm_mesh_group(&whole, TDM_GROUP_DP, 0).size;
    return tdm_ceil_div(sums->dense, dp) + tdm_ceil_div(sums->expert, whole.edp);
}

/* Reads the gradient, reads and writes both moments and the fp32 master copy, writes the weight;
 * fp32 weights are their own master copy. All gradients are cleared, also those of parameters that
 * other replicas update. Source: Megatron Core's DistributedDataParallel.zero_grad_buffer. */
static uint64_t adam_bytes(const tdm_training *training, uint64_t own, uint64_t all)
{
    uint64_t weight = training->dtype == TDM_DTYPE_FP32 ? 0 : tdm_dtype_bytes(training->dtype);
    uint64_t gradient = tdm_dtype_bytes(training->grad_dtype);
    return own * (gradient + 2 * (4 + 4 + 4) + weight) + all * gradient;
}

void tdm_lower_optimizer(tdm_arena *arena, const tdm_plan *plan, tdm_role *role)
{
    static const tdm_stream before_adam[] = {TDM_STREAM_TP, TDM_STREAM_DP};
    static const tdm_stream before_gather[] = {TDM_STREAM_COMPUTE};
    param_sums sums = sum_params(plan, role);
    step s = {.arena = arena, .plan = plan};
    uint64_t own = own_count(plan, &sums);
    reduce_gradients(&s, &sums);
    gradient_norm(&s, own * tdm_dtype_bytes(plan->training.grad_dtype));
    tdm_op *adam = append(&s, "adam", TDM_OP_MEMORY, TDM_STREAM_COMPUTE, TDM_DTYPE_FP32);
    adam->u.memory.bytes.fixed = adam_bytes(&plan->training, own, sums.dense + sums.expert);
    wait_tails(&s, adam, before_adam, TDM_COUNT(before_adam));
    if (plan->parallel.distributed_optimizer) {
        uint32_t first = s.n;
        collective(&s, "weights.dense", TDM_OP_ALL_GATHER, TDM_GROUP_DP, sums.dense,
                   plan->training.dtype);
        collective(&s, "weights.experts", TDM_OP_ALL_GATHER, TDM_GROUP_EDP, sums.expert,
                   plan->training.dtype);
        for (uint32_t i = first; i < s.n; i++)
            wait_tails(&s, &s.ops[i], before_gather, TDM_COUNT(before_gather));
    }
    tdm_op *ops = TDM_ALLOC(arena, tdm_op, s.n);
    memcpy(ops, s.ops, s.n * sizeof *ops);
    role->optimizer = (tdm_template){.ops = ops, .n_ops = s.n};
}
