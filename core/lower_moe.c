/* lower_moe.c: the expert half of a layer.
 *
 *     r -> norm -> gate, top-k -> permute -> all-to-all -> sort -> fc1 -> activation -> fc2 ->
 * unsort -> all-to-all
 *       -> unpermute (weighted sum over the k experts) -> (all-gather over TP) -> + r
 *
 * Every TP rank dispatches its own 1/t of the tokens. With sequence parallelism that is what it
 * holds; without, the other ranks' results come back by an all-gather over TP, and so do the
 * gradients in the backward pass. Source: Megatron Core's all-to-all token dispatcher; the backward
 * of each op is its transpose. */
#include "lower_build.h"

typedef struct moe_dims {
    uint64_t h, f, f1;    /* hidden size; expert size; columns of fc1 (twice f when gated) */
    uint64_t tokens;      /* that this rank dispatches */
    uint64_t pairs;       /* token-expert pairs of them: x k */
    uint64_t shard_bytes; /* of [tokens, h] */
    uint64_t pair_bytes;  /* of [pairs, h] */
    uint64_t row_bytes;   /* of one row [h]: per received pair */
    uint32_t n_experts;
    uint32_t n_local; /* experts of this rank */
    bool dispatches;  /* there is an all-to-all */
    bool sorts;       /* received rows come by sender and must be put by expert */
    bool slices;      /* no sequence parallelism: works on its slice of replicated tokens */
    bool shares;      /* there are shared experts beside the routed ones */
} moe_dims;

static moe_dims moe_dims_of(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    moe_dims e = {.h = m->hidden_size,
                  .f = m->moe_ffn_hidden_size,
                  .f1 = (m->swiglu ? 2u : 1u) * (uint64_t)m->moe_ffn_hidden_size,
                  .tokens = d->routed_tokens,
                  .n_experts = m->num_experts,
                  .n_local = m->num_experts / d->ep};
    e.pairs = e.tokens * m->moe_router_topk;
    e.row_bytes = e.h * d->element;
    e.shard_bytes = e.tokens * e.row_bytes;
    e.pair_bytes = e.pairs * e.row_bytes;
    e.dispatches = d->ep > 1;
    e.sorts = e.dispatches && e.n_local > 1;
    e.slices = d->tp > 1 && !d->sequence_parallel;
    e.shares = m->moe_shared_expert_intermediate_size > 0;
    return e;
}

static void moe_params(tdm_draft *draft, const moe_dims *e)
{
    const tdm_dims *d = draft->dims;
    uint64_t vectors = d->scenario->model.norm == TDM_NORM_LAYER ? 2 : 1;
    tdm_draft_param(draft, "norm2", vectors * e->h)->sync_tp = d->sequence_parallel;
    tdm_draft_param(draft, "gate", e->h * e->n_experts)->sync_tp = d->tp > 1;
    tdm_draft_param(draft, "fc1", e->n_local * e->h * e->f1)->expert = true;
    tdm_draft_param(draft, "fc2", e->n_local * e->f * e->h)->expert = true;
    if (d->scenario->model.add_bias_linear) {
        tdm_draft_param(draft, "gate.bias", e->n_experts)->sync_tp = d->tp > 1;
        tdm_draft_param(draft, "fc1.bias", e->n_local * e->f1)->expert = true;
        tdm_draft_param(draft, "fc2.bias", e->n_local * e->h)->expert = true;
    }
    if (e->shares)
        tdm_lower_shared_params(draft);
}

/* Tensor of one row for each pair that this rank's experts receive. */
static uint16_t received(tdm_draft *draft, const char *name, uint64_t columns)
{
    return tdm_draft_slot(draft, name, 0, columns * draft->dims->element);
}

static void gate_forward(tdm_draft *draft, const moe_dims *e, uint16_t n2)
{
    uint32_t k = draft->dims->scenario->model.moe_router_topk;
    uint16_t logits = tdm_draft_slot(draft, "logits", e->tokens * e->n_experts * 4, 0); /* fp32 */
    uint16_t route =
        tdm_draft_slot(draft, "route", e->tokens * k * 8, 0); /* probability fp32, expert int32 */
    tdm_write(
        tdm_read(tdm_draft_gemm(draft, TDM_PASS_F, "gate", e->tokens, e->n_experts, e->h, 1), n2),
        logits);
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_F, "topk",
                                        e->tokens * (e->n_experts * 4 + (uint64_t)k * 8), 0);
    tdm_write(tdm_read(op, logits), route);
}

/* Rows to their experts' ranks; returns the slot in which they lie sorted by expert. What shared
 * experts do meanwhile is issued behind the all-to-all. */
static uint16_t dispatch(tdm_draft *draft, const moe_dims *e, uint16_t n2, uint16_t route)
{
    uint16_t experts_in = received(draft, "experts.in", e->h);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_F, "permute", e->shard_bytes + e->pair_bytes, 0);
    tdm_read(tdm_read(op, n2), route);
    if (!e->dispatches) {
        tdm_write(op, experts_in);
        if (e->shares)
            tdm_lower_shared_in(draft, n2);
        return experts_in;
    }
    uint16_t send = tdm_draft_slot(draft, "dispatch.send", e->pair_bytes, 0);
    tdm_write(op, send);
    uint16_t landing = e->sorts ? received(draft, "dispatch.recv", e->h) : experts_in;
    op = tdm_draft_all_to_all(draft, TDM_PASS_F, "dispatch", TDM_A2A_DISPATCH, e->row_bytes);
    tdm_write(tdm_read(op, send), landing);
    if (e->shares)
        tdm_lower_shared_in(draft, n2);
    if (e->sorts)
        tdm_write(
            tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "sort", 0, 2 * e->row_bytes), landing),
            experts_in);
    return experts_in;
}

/* And back: returns the slot [pairs, h] of unweighted results on the token's own rank. */
static uint16_t combine(tdm_draft *draft, const moe_dims *e, uint16_t experts_out)
{
    if (!e->dispatches)
        return experts_out;
    uint16_t back = experts_out;
    if (e->sorts) {
        back = received(draft, "combine.send", e->h);
        tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "unsort", 0, 2 * e->row_bytes),
                           experts_out),
                  back);
    }
    uint16_t results = tdm_draft_slot(draft, "results", e->pair_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_all_to_all(draft, TDM_PASS_F, "combine", TDM_A2A_COMBINE, e->row_bytes);
    tdm_write(tdm_read(op, back), results);
    return results;
}

void tdm_lower_moe_forward(tdm_draft *draft, uint16_t r)
{
    const tdm_dims *d = draft->dims;
    moe_dims e = moe_dims_of(d);
    moe_params(draft, &e);
    uint16_t n2 = tdm_draft_slot(draft, "n2", d->x_bytes, 0);
    tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "norm2", 2 * d->x_bytes, 0), r), n2);
    gate_forward(draft, &e, n2);
    uint16_t route = tdm_draft_find(draft, "route");
    uint16_t experts_in = dispatch(draft, &e, n2, route);
    uint16_t g = received(draft, "g", e.f1), u = received(draft, "u", e.f);
    uint16_t experts_out = received(draft, "experts.out", e.h);
    tdm_write(tdm_read(tdm_draft_grouped(draft, TDM_PASS_F, "fc1", e.f1, e.h), experts_in), g);
    tdm_write(
        tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "activation", 0, (e.f1 + e.f) * d->element),
                 g),
        u);
    tdm_write(tdm_read(tdm_draft_grouped(draft, TDM_PASS_F, "fc2", e.h, e.f), u), experts_out);
    uint16_t results = combine(draft, &e, experts_out);
    uint16_t shared = e.shares ? tdm_lower_shared_out(draft) : 0;
    uint16_t y = tdm_draft_slot(draft, e.slices ? "y2.slice" : "y2", e.shard_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_F, "unpermute", e.pair_bytes + e.shard_bytes, 0);
    tdm_write(tdm_read(tdm_read(op, results), route), y);
    if (e.slices) {
        uint16_t full = tdm_draft_slot(draft, "y2", d->x_bytes, 0);
        op = tdm_draft_collective(draft, TDM_PASS_F, "combine.gather", TDM_OP_ALL_GATHER,
                                  TDM_GROUP_TP, d->x_bytes);
        tdm_write(tdm_read(op, y), full);
        y = full;
    }
    if (e.shares)
        tdm_update(
            tdm_read(tdm_draft_memory(draft, TDM_PASS_F, "shared.add", 3 * d->x_bytes, 0), shared),
            y);
    tdm_lower_add(draft, "add2", "mask2", r, y, TDM_SLOT_X, true);
}

/* Gradients of the results to the experts' ranks; returns the slot sorted by expert. */
static uint16_t combine_backward(tdm_draft *draft, const moe_dims *e, uint16_t dprobs)
{
    uint16_t results =
        e->dispatches ? tdm_draft_find(draft, "results") : tdm_draft_find(draft, "experts.out");
    bool is_next = true;
    uint16_t dy = tdm_lower_add_backward(draft, "add2.bwd", "mask2", "dy2", TDM_SLOT_DX, &is_next);
    uint16_t dout = received(draft, "dexperts.out", e->h);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_B, "unpermute.bwd", e->shard_bytes + 2 * e->pair_bytes, 0);
    tdm_read(tdm_read(tdm_read_of(op, dy, is_next), results), tdm_draft_find(draft, "route"));
    tdm_write(op, dprobs);
    if (!e->dispatches) {
        tdm_write(op, dout);
        if (e->shares)
            tdm_lower_shared_backward_out(draft, dy, is_next);
        return dout;
    }
    uint16_t dresults = tdm_draft_slot(draft, "dresults", e->pair_bytes, 0);
    tdm_write(op, dresults);
    uint16_t landing = e->sorts ? received(draft, "dcombine.recv", e->h) : dout;
    op = tdm_draft_all_to_all(draft, TDM_PASS_B, "combine.bwd", TDM_A2A_DISPATCH, e->row_bytes);
    tdm_write(tdm_read(op, dresults), landing);
    if (e->shares)
        tdm_lower_shared_backward_out(draft, dy, is_next);
    if (e->sorts)
        tdm_write(tdm_read(tdm_draft_memory(draft, TDM_PASS_B, "unsort.bwd", 0, 2 * e->row_bytes),
                           landing),
                  dout);
    return dout;
}

/* Gradients of the experts' inputs back to the tokens' ranks; returns the slot that permute.bwd
 * reads. */
static uint16_t dispatch_backward(tdm_draft *draft, const moe_dims *e, uint16_t din)
{
    if (!e->dispatches)
        return din;
    uint16_t back = din;
    if (e->sorts) {
        back = received(draft, "ddispatch.send", e->h);
        tdm_write(
            tdm_read(tdm_draft_memory(draft, TDM_PASS_B, "sort.bwd", 0, 2 * e->row_bytes), din),
            back);
    }
    uint16_t drows = tdm_draft_slot(draft, "drows", e->pair_bytes, 0);
    tdm_draft_op *op =
        tdm_draft_all_to_all(draft, TDM_PASS_B, "dispatch.bwd", TDM_A2A_COMBINE, e->row_bytes);
    tdm_write(tdm_read(op, back), drows);
    return drows;
}

/* Gradient of the router: top-k and softmax, then the gate's product. Adds to dn2. */
static void gate_backward(tdm_draft *draft, const moe_dims *e, uint16_t dprobs, uint16_t dn2)
{
    uint64_t logits_bytes = e->tokens * e->n_experts * 4;
    uint16_t dlogits = tdm_draft_slot(draft, "dlogits", logits_bytes, 0);
    tdm_draft_op *op = tdm_draft_memory(draft, TDM_PASS_B, "topk.bwd", 2 * logits_bytes, 0);
    tdm_read(
        tdm_read(tdm_read(op, tdm_draft_find(draft, "logits")), tdm_draft_find(draft, "route")),
        dprobs);
    tdm_write(op, dlogits);
    op = tdm_draft_gemm(draft, TDM_PASS_B, "gate.dgrad", e->tokens, e->h, e->n_experts, 1);
    tdm_update(tdm_read(op, dlogits), dn2);
    op = tdm_draft_gemm(draft, TDM_PASS_W, "gate.wgrad", e->h, e->n_experts, e->tokens, 1);
    tdm_read(tdm_read(op, tdm_draft_find(draft, "n2")), dlogits);
}

void tdm_lower_moe_backward(tdm_draft *draft, uint16_t r, uint16_t dr)
{
    const tdm_dims *d = draft->dims;
    moe_dims e = moe_dims_of(d);
    uint16_t g = tdm_draft_find(draft, "g"), u = tdm_draft_find(draft, "u");
    uint16_t experts_in = tdm_draft_find(draft, "experts.in");
    uint16_t dprobs = tdm_draft_slot(draft, "dprobs", e.pairs * 4, 0);
    uint16_t dout = combine_backward(draft, &e, dprobs);
    uint16_t du = received(draft, "du", e.f), dg = received(draft, "dg", e.f1),
             din = received(draft, "din", e.h);
    tdm_write(tdm_read(tdm_draft_grouped(draft, TDM_PASS_B, "fc2.dgrad", e.f, e.h), dout), du);
    tdm_read(tdm_read(tdm_draft_grouped(draft, TDM_PASS_W, "fc2.wgrad", e.h, e.f), u), dout);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_B, "activation.bwd", 0, (2 * e.f1 + e.f) * d->element);
    tdm_write(tdm_read(tdm_read(op, du), g), dg);
    tdm_write(tdm_read(tdm_draft_grouped(draft, TDM_PASS_B, "fc1.dgrad", e.h, e.f1), dg), din);
    tdm_read(tdm_read(tdm_draft_grouped(draft, TDM_PASS_W, "fc1.wgrad", e.f1, e.h), experts_in),
             dg);
    uint16_t drows = dispatch_backward(draft, &e, din);
    uint16_t n2 = tdm_draft_find(draft, "n2");
    uint16_t dshared = e.shares ? tdm_lower_shared_backward_in(draft, n2) : 0;
    uint16_t dn2 = tdm_draft_slot(draft, e.slices ? "dn2.slice" : "dn2", e.shard_bytes, 0);
    op = tdm_draft_memory(draft, TDM_PASS_B, "permute.bwd", e.shard_bytes + e.pair_bytes, 0);
    tdm_write(tdm_read(tdm_read(op, drows), tdm_draft_find(draft, "route")), dn2);
    gate_backward(draft, &e, dprobs, dn2);
    if (e.slices) {
        uint16_t full = tdm_draft_slot(draft, "dn2", d->x_bytes, 0);
        op = tdm_draft_collective(draft, TDM_PASS_B, "dispatch.dgather", TDM_OP_ALL_GATHER,
                                  TDM_GROUP_TP, d->x_bytes);
        tdm_write(tdm_read(op, dn2), full);
        dn2 = full;
    }
    if (e.shares)
        tdm_update(tdm_read(tdm_draft_memory(draft, TDM_PASS_B, "shared.dadd", 3 * d->x_bytes, 0),
                            dshared),
                   dn2);
    op = tdm_draft_memory(draft, TDM_PASS_B, "norm2.bwd", 4 * d->x_bytes, 0);
    tdm_write(tdm_read_next(tdm_read(tdm_read(op, dn2), r), TDM_SLOT_DX), dr);
}
