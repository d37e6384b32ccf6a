/* lower_layer.c: a transformer layer: attention, then a dense MLP or experts.
 *
 *     x -> norm -> qkv -> attention -> proj -> (sum over TP) -> + x = r -> norm -> MLP or MoE -> +
 * r = next x
 *
 * Tensor parallelism is Megatron's: qkv and fc1 by columns, proj and fc2 by rows; without sequence
 * parallelism a partial sum ends in an all-reduce, with it in a reduce-scatter, and an all-gather
 * precedes each column-parallel product. Source: Shoeybi et al. 2019; Korthikanti et al. 2022,
 * figures 4 to 6. */
#include "lower_build.h"

/* Column counts of this rank. */
static uint64_t qkv_columns(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    return (uint64_t)(m->num_attention_heads + 2 * m->num_query_groups) * m->kv_channels / d->tp;
}

static uint64_t attention_columns(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    return (uint64_t)m->num_attention_heads * m->kv_channels / d->tp;
}

/* Queries and keys are rotated, values are not. Source: Su et al. 2021, RoFormer, section 3.2. */
static uint64_t rope_columns(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    return (uint64_t)(m->num_attention_heads + m->num_query_groups) * m->kv_channels / d->tp;
}

uint64_t tdm_lower_wide(const tdm_dims *d, uint64_t columns)
{
    return d->tokens * columns * d->element;
}

static void norm_param(tdm_draft *draft, const char *name)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t vectors = m->norm == TDM_NORM_LAYER ? 2 : 1;
    tdm_draft_param(draft, name, vectors * m->hidden_size)->sync_tp = d->sequence_parallel;
}

uint16_t tdm_lower_gather(tdm_draft *draft, tdm_pass_kind pass, const char *name, const char *slot,
                          uint16_t shard, bool shard_is_next)
{
    const tdm_dims *d = draft->dims;
    if (!d->sequence_parallel)
        return shard;
    uint64_t bytes = tdm_lower_wide(d, d->scenario->model.hidden_size);
    uint16_t full = tdm_draft_slot(draft, slot, bytes, 0);
    tdm_draft_op *op =
        tdm_draft_collective(draft, pass, name, TDM_OP_ALL_GATHER, TDM_GROUP_TP, bytes);
    tdm_write(tdm_read_of(op, shard, shard_is_next), full);
    return full;
}

uint16_t tdm_lower_reduce(tdm_draft *draft, tdm_pass_kind pass, const char *name, const char *slot,
                          uint16_t partial)
{
    const tdm_dims *d = draft->dims;
    uint64_t bytes = tdm_lower_wide(d, d->scenario->model.hidden_size);
    if (d->tp == 1)
        return partial;
    if (!d->sequence_parallel) {
        tdm_update(tdm_draft_collective(draft, pass, name, TDM_OP_ALL_REDUCE, TDM_GROUP_TP, bytes),
                   partial);
        return partial;
    }
    uint16_t shard = tdm_draft_slot(draft, slot, d->x_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_collective(draft, pass, name, TDM_OP_REDUCE_SCATTER, TDM_GROUP_TP, bytes);
    tdm_write(tdm_read(op, partial), shard);
    return shard;
}

/* Norm of `input` into a new tensor. */
static uint16_t norm(tdm_draft *draft, const char *name, const char *slot, uint16_t input)
{
    uint64_t bytes = draft->dims->x_bytes;
    uint16_t out = tdm_draft_slot(draft, slot, bytes, 0);
    tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, name, 2 * bytes, 0), input), out);
    return out;
}

/* Mask: one byte an element. */
void tdm_lower_add(tdm_draft *draft, const char *name, const char *mask, uint16_t residual,
                   uint16_t addend, uint16_t out, bool out_is_next)
{
    const tdm_dims *d = draft->dims;
    bool dropout = d->scenario->model.hidden_dropout > 0 && d->train;
    uint64_t mask_bytes = dropout ? d->x_bytes / d->element : 0;
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_F, name, 3 * d->x_bytes + mask_bytes, 0);
    tdm_read(tdm_read(op, residual), addend);
    if (out_is_next)
        tdm_write_next(op, out);
    else
        tdm_write(op, out);
    if (dropout)
        tdm_write(op, tdm_draft_slot(draft, mask, mask_bytes, 0));
}

uint16_t tdm_lower_add_backward(tdm_draft *draft, const char *name, const char *mask,
                                const char *slot, uint16_t dsum, bool *is_next)
{
    const tdm_dims *d = draft->dims;
    if (d->scenario->model.hidden_dropout <= 0)
        return dsum;
    uint16_t out = tdm_draft_slot(draft, slot, d->x_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_B, name, 2 * d->x_bytes + d->x_bytes / d->element, 0);
    tdm_read(op, tdm_draft_find(draft, mask));
    tdm_write(tdm_read_of(op, dsum, *is_next), out);
    *is_next = false;
    return out;
}

/* ---- attention ---- */

/* Scores, softmax, dropout and weighted sum as four kernels: stores 2 + 2 + 1 bytes for each of the
 * a s^2 b scores. Source: Korthikanti et al. 2022, section 4.1. */
static void unfused_attention(tdm_draft *draft, uint16_t qk, uint16_t qkv, uint16_t o)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t s = d->scenario->seq_length;
    uint32_t products = d->scenario->micro_batch_size * (m->num_attention_heads / d->tp);
    uint64_t scores_bytes = s * s * products * d->element, mask_bytes = s * s * products;
    uint16_t scores = tdm_draft_slot(draft, "scores", scores_bytes, 0);
    uint16_t softmax = tdm_draft_slot(draft, "softmax", scores_bytes, 0);
    tdm_draft_op *op = tdm_draft_gemm(draft, TDM_PASS_F, "scores", s, s, m->kv_channels, products);
    op->is_core_attention = true;
    tdm_write(tdm_read(op, qk), scores);
    op = tdm_draft_memory(draft, TDM_PASS_F, "softmax", 2 * scores_bytes, 0);
    op->is_core_attention = true;
    tdm_write(tdm_read(op, scores), softmax);
    uint16_t weights = softmax;
    if (m->attention_dropout > 0 && d->train) {
        weights = tdm_draft_slot(draft, "weights", scores_bytes, 0);
        op = tdm_draft_memory(draft, TDM_PASS_F, "weights.dropout", 2 * scores_bytes + mask_bytes,
                              0);
        op->is_core_attention = true;
        tdm_write(tdm_read(op, softmax), weights);
        tdm_write(op, tdm_draft_slot(draft, "weights.mask", mask_bytes, 0));
    }
    op = tdm_draft_gemm(draft, TDM_PASS_F, "context", s, m->kv_channels, s, products);
    tdm_write(tdm_read(tdm_read(op, weights), qkv), o);
}

static void unfused_attention_backward(tdm_draft *draft, uint16_t qk, uint16_t qkv, uint16_t do_,
                                       uint16_t dqkv)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t s = d->scenario->seq_length;
    uint32_t products = d->scenario->micro_batch_size * (m->num_attention_heads / d->tp);
    uint64_t scores_bytes = s * s * products * d->element, mask_bytes = s * s * products;
    bool dropout = m->attention_dropout > 0;
    uint16_t softmax = tdm_draft_find(draft, "softmax");
    uint16_t weights = dropout ? tdm_draft_find(draft, "weights") : softmax;
    uint16_t dweights = tdm_draft_slot(draft, "dweights", scores_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_gemm(draft, TDM_PASS_B, "context.dweights", s, s, m->kv_channels, products);
    tdm_write(tdm_read(tdm_read(op, do_), qkv), dweights);
    op = tdm_draft_gemm(draft, TDM_PASS_B, "context.dv", s, m->kv_channels, s, products);
    tdm_write(tdm_read(tdm_read(op, weights), do_), dqkv);
    if (dropout) {
        op = tdm_draft_memory(draft, TDM_PASS_B, "weights.dropout.bwd",
                              2 * scores_bytes + mask_bytes, 0);
        tdm_update(tdm_read(op, tdm_draft_find(draft, "weights.mask")), dweights);
    }
    op = tdm_draft_memory(draft, TDM_PASS_B, "softmax.bwd", 3 * scores_bytes, 0);
    tdm_update(tdm_read(op, softmax), dweights);
    op = tdm_draft_gemm(draft, TDM_PASS_B, "scores.dq", s, m->kv_channels, s, products);
    tdm_update(tdm_read(tdm_read(op, dweights), qk), dqkv);
    op = tdm_draft_gemm(draft, TDM_PASS_B, "scores.dk", s, m->kv_channels, s, products);
    tdm_update(tdm_read(tdm_read(op, dweights), qk), dqkv);
}

/* Biases need no ops: products add them to their results and sum their gradients as they go.
 * Source: cuBLASLt, cublasLtEpilogue_t, BIAS and BGRADB. */
static void attention_params(tdm_draft *draft)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    norm_param(draft, "norm1");
    tdm_draft_param(draft, "qkv", m->hidden_size * qkv_columns(d));
    tdm_draft_param(draft, "proj", attention_columns(d) * m->hidden_size);
    bool biases = m->add_bias_linear || m->add_attention_bias;
    if (biases || m->add_qkv_bias)
        tdm_draft_param(draft, "qkv.bias", qkv_columns(d));
    if (biases)
        tdm_draft_param(draft, "proj.bias", m->hidden_size)->sync_tp = d->sequence_parallel;
    if (m->qk_layernorm) { /* each rank's heads give a part of the gradient */
        uint64_t count = (m->norm == TDM_NORM_LAYER ? 2u : 1u) * (uint64_t)m->kv_channels;
        tdm_draft_param(draft, "q.norm", count)->sync_tp = d->tp > 1;
        tdm_draft_param(draft, "k.norm", count)->sync_tp = d->tp > 1;
    }
    if (m->attention_sinks)
        tdm_draft_param(draft, "sinks", m->num_attention_heads / d->tp);
}

/* Norms of queries and keys go to a tensor of their own: the backward pass needs both sides.
 * Returns where attention finds queries and keys. */
static uint16_t qk_norm(tdm_draft *draft, uint16_t qkv)
{
    const tdm_dims *d = draft->dims;
    if (!d->scenario->model.qk_layernorm)
        return qkv;
    uint64_t bytes = tdm_lower_wide(d, rope_columns(d));
    uint16_t qk = tdm_draft_slot(draft, "qk", bytes, 0);
    tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "qk.norm", 2 * bytes, 0), qkv), qk);
    return qk;
}

static tdm_draft_op *read_qkv(tdm_draft_op *op, uint16_t qk, uint16_t qkv)
{
    return qk == qkv ? tdm_read(op, qkv) : tdm_read(tdm_read(op, qkv), qk);
}

void tdm_lower_attention_forward(tdm_draft *draft, uint16_t r)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, qkv_wide = tdm_lower_wide(d, qkv_columns(d)),
             o_wide = tdm_lower_wide(d, attention_columns(d));
    attention_params(draft);
    uint16_t n1 = norm(draft, "norm1", "n1", TDM_SLOT_X);
    uint16_t full = tdm_lower_gather(draft, TDM_PASS_F, "norm1.gather", "n1.full", n1, false);
    uint16_t qkv = tdm_draft_slot(draft, "qkv", qkv_wide, 0);
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "qkv", d->tokens, qkv_columns(d), h, 1), full),
        qkv);
    uint16_t qk = qk_norm(draft, qkv);
    if (m->position == TDM_POSITION_ROPE)
        tdm_update(
            tdm_draft_memory(draft, TDM_PASS_F, "rope", 2 * tdm_lower_wide(d, rope_columns(d)), 0),
            qk);
    uint16_t o = tdm_draft_slot(draft, "o", o_wide, 0);
    if (m->attention == TDM_ATTENTION_UNFUSED) {
        unfused_attention(draft, qk, qkv, o);
    } else {
        uint32_t heads = m->num_attention_heads / d->tp, kv_heads = m->num_query_groups / d->tp;
        uint16_t lse =
            tdm_draft_slot(draft, "lse", d->tokens * heads * 4, 0); /* log-sum-exp, fp32 */
        tdm_draft_op *op = tdm_draft_attention(draft, TDM_PASS_F, "attention", heads, kv_heads);
        op->is_core_attention = true;
        tdm_write(tdm_write(read_qkv(op, qk, qkv), o), lse);
    }
    uint16_t y = tdm_draft_slot(draft, "y", tdm_lower_wide(d, h), 0);
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "proj", d->tokens, h, attention_columns(d), 1),
                 o),
        y);
    y = tdm_lower_reduce(draft, TDM_PASS_F, "proj.reduce", "y.shard", y);
    tdm_lower_add(draft, "add1", "mask1", TDM_SLOT_X, y, r, false);
}

void tdm_lower_attention_backward(tdm_draft *draft, uint16_t dr)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, columns = attention_columns(d);
    uint16_t qkv = tdm_draft_find(draft, "qkv"), o = tdm_draft_find(draft, "o"),
             n1 = tdm_draft_find(draft, "n1"),
             qk = m->qk_layernorm ? tdm_draft_find(draft, "qk") : qkv;
    bool is_next = false;
    uint16_t dy = tdm_lower_add_backward(draft, "add1.bwd", "mask1", "dy", dr, &is_next);
    dy = tdm_lower_gather(draft, TDM_PASS_B, "proj.dgather", "dy.full", dy, false);
    uint16_t do_ = tdm_draft_slot(draft, "do", tdm_lower_wide(d, columns), 0);
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_B, "proj.dgrad", d->tokens, columns, h, 1), dy),
        do_);
    tdm_read(tdm_read(tdm_draft_gemm(draft, TDM_PASS_W, "proj.wgrad", columns, h, d->tokens, 1), o),
             dy);
    uint16_t dqkv = tdm_draft_slot(draft, "dqkv", tdm_lower_wide(d, qkv_columns(d)), 0);
    if (m->attention == TDM_ATTENTION_UNFUSED) {
        unfused_attention_backward(draft, qk, qkv, do_, dqkv);
    } else {
        uint32_t heads = m->num_attention_heads / d->tp, kv_heads = m->num_query_groups / d->tp;
        tdm_draft_op *op = tdm_draft_attention(draft, TDM_PASS_B, "attention.bwd", heads, kv_heads);
        tdm_read(tdm_read(tdm_read(read_qkv(op, qk, qkv), o), tdm_draft_find(draft, "lse")), do_);
        tdm_write(op, dqkv);
    }
    if (m->position == TDM_POSITION_ROPE)
        tdm_update(tdm_draft_memory(draft, TDM_PASS_B, "rope.bwd",
                                    2 * tdm_lower_wide(d, rope_columns(d)), 0),
                   dqkv);
    if (m->qk_layernorm)
        tdm_update(tdm_read(tdm_draft_memory(draft, TDM_PASS_B, "qk.norm.bwd",
                                             3 * tdm_lower_wide(d, rope_columns(d)), 0),
                            qkv),
                   dqkv);
    /* The gather runs beside dgrad, the reduction beside wgrad. */
    uint16_t full = tdm_lower_gather(draft, TDM_PASS_W, "norm1.wgather", "n1.again", n1, false);
    uint16_t dn = tdm_draft_slot(draft, "dn1", tdm_lower_wide(d, h), 0);
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_B, "qkv.dgrad", d->tokens, h, qkv_columns(d), 1),
                 dqkv),
        dn);
    uint16_t dn_sum = tdm_lower_reduce(draft, TDM_PASS_B, "qkv.dreduce", "dn1.shard", dn);
    tdm_read(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_W, "qkv.wgrad", h, qkv_columns(d), d->tokens, 1),
                 full),
        dqkv);
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_B, "norm1.bwd", 4 * d->x_bytes, 0);
    tdm_write(tdm_read(tdm_read(tdm_read(op, dn_sum), TDM_SLOT_X), dr), TDM_SLOT_DX);
}

/* ---- dense MLP ---- */

void tdm_lower_mlp_forward(tdm_draft *draft, uint16_t r)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, f = m->ffn_hidden_size / d->tp, f1 = m->swiglu ? 2 * f : f;
    norm_param(draft, "norm2");
    tdm_draft_param(draft, "fc1", h * f1);
    tdm_draft_param(draft, "fc2", f * h);
    if (m->add_bias_linear) {
        tdm_draft_param(draft, "fc1.bias", f1);
        tdm_draft_param(draft, "fc2.bias", h)->sync_tp = d->sequence_parallel;
    }
    uint16_t n2 = norm(draft, "norm2", "n2", r);
    uint16_t full = tdm_lower_gather(draft, TDM_PASS_F, "norm2.gather", "n2.full", n2, false);
    uint16_t g = tdm_draft_slot(draft, "g", tdm_lower_wide(d, f1), 0),
             u = tdm_draft_slot(draft, "u", tdm_lower_wide(d, f), 0);
    tdm_write(tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "fc1", d->tokens, f1, h, 1), full), g);
    tdm_write(
        tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "activation", tdm_lower_wide(d, f1 + f), 0),
                 g),
        u);
    uint16_t y = tdm_draft_slot(draft, "y2", tdm_lower_wide(d, h), 0);
    tdm_write(tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "fc2", d->tokens, h, f, 1), u), y);
    y = tdm_lower_reduce(draft, TDM_PASS_F, "fc2.reduce", "y2.shard", y);
    tdm_lower_add(draft, "add2", "mask2", r, y, TDM_SLOT_X, true);
}

void tdm_lower_mlp_backward(tdm_draft *draft, uint16_t r, uint16_t dr)
{
    const tdm_dims *d = draft->dims;
    const tdm_model *m = &d->scenario->model;
    uint64_t h = m->hidden_size, f = m->ffn_hidden_size / d->tp, f1 = m->swiglu ? 2 * f : f;
    uint16_t g = tdm_draft_find(draft, "g"), u = tdm_draft_find(draft, "u"),
             n2 = tdm_draft_find(draft, "n2");
    bool is_next = true;
    uint16_t dy = tdm_lower_add_backward(draft, "add2.bwd", "mask2", "dy2", TDM_SLOT_DX, &is_next);
    uint16_t dy_full = tdm_lower_gather(draft, TDM_PASS_B, "fc2.dgather", "dy2.full", dy, is_next);
    is_next = is_next && dy_full == dy;
    uint16_t du = tdm_draft_slot(draft, "du", tdm_lower_wide(d, f), 0),
             dg = tdm_draft_slot(draft, "dg", tdm_lower_wide(d, f1), 0);
    tdm_draft_op *op = tdm_draft_gemm(draft, TDM_PASS_B, "fc2.dgrad", d->tokens, f, h, 1);
    tdm_write(tdm_read_of(op, dy_full, is_next), du);
    op = tdm_draft_gemm(draft, TDM_PASS_W, "fc2.wgrad", f, h, d->tokens, 1);
    tdm_read_of(tdm_read(op, u), dy_full, is_next);
    op = tdm_draft_memory(draft, TDM_PASS_B, "activation.bwd", tdm_lower_wide(d, 2 * f1 + f), 0);
    tdm_write(tdm_read(tdm_read(op, du), g), dg);
    uint16_t full = tdm_lower_gather(draft, TDM_PASS_W, "norm2.wgather", "n2.again", n2, false);
    uint16_t dn = tdm_draft_slot(draft, "dn2", tdm_lower_wide(d, h), 0);
    tdm_write(tdm_read(tdm_draft_gemm(draft, TDM_PASS_B, "fc1.dgrad", d->tokens, h, f1, 1), dg),
              dn);
    uint16_t dn_sum = tdm_lower_reduce(draft, TDM_PASS_B, "fc1.dreduce", "dn2.shard", dn);
    tdm_read(tdm_read(tdm_draft_gemm(draft, TDM_PASS_W, "fc1.wgrad", h, f1, d->tokens, 1), full),
             dg);
    op = tdm_draft_memory(draft, TDM_PASS_B, "norm2.bwd", 4 * d->x_bytes, 0);
    tdm_write(tdm_read_next(tdm_read(tdm_read(op, dn_sum), r), TDM_SLOT_DX), dr);
}

void tdm_lower_layer(tdm_arena *arena, const tdm_dims *dims, bool experts, tdm_kind *kind)
{
    tdm_draft *draft = tdm_draft_new(arena, dims, experts ? "moe-layer" : "layer");
    draft->recomputes = true;
    uint16_t r = tdm_draft_slot(draft, "r", dims->x_bytes, 0);
    tdm_lower_attention_forward(draft, r);
    (experts ? tdm_lower_moe_forward : tdm_lower_mlp_forward)(draft, r);
    if (dims->train) {
        uint16_t dr = tdm_draft_slot(draft, "dr", dims->x_bytes, 0);
        (experts ? tdm_lower_moe_backward : tdm_lower_mlp_backward)(draft, r, dr);
        tdm_lower_attention_backward(draft, dr);
    }
    tdm_draft_finish(draft, kind);
}
