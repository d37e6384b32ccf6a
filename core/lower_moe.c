/* lower_moe.c: the expert half of a layer.
 *
 *     r -> norm -> gate, top-k -> permute -> all-to-all -> (all-gather over ETP) -> sort -> fc1 ->
 * activation -> fc2 -> unsort -> (reduce-scatter over ETP) -> all-to-all
 *       -> unpermute (weighted sum over the k experts) -> (all-gather over TP) -> + r
 *
 * Every TP rank dispatches its own 1/t of the tokens. With sequence parallelism that is what it
 * holds; without, the other ranks' results come back by an all-gather over TP, and so do the
 * gradients in the backward pass.
 *
 * Each rank of an ETP group holds a part of the columns of fc1 and of the rows of fc2 of the same
 * experts. The members receive different rows, each from its own EP group; all of them work on the
 * rows of all, and the sum of their parts goes back to who received the row. The experts' gathered
 * input is kept for the gradient of fc1, not gathered again. Source: Megatron Core's all-to-all
 * token dispatcher (dispatch_postprocess and combine_preprocess of
 * megatron/core/transformer/moe/token_dispatcher.py; autograd saves the input of the experts, which
 * is the gathered one); the backward of each op is its transpose. */
#include "lower_build.h"
#include "routing.h"

typedef struct moe_dims {
    uint64_t h, f, f1;    /* hidden size; columns of this rank's part of an expert; columns of fc1
                             (twice f when gated) */
    uint64_t tokens;      /* that this rank dispatches */
    uint64_t pairs;       /* token-expert pairs of them: x k; when padded, capacity x experts */
    uint64_t shard_bytes; /* of [tokens, h] */
    uint64_t pair_bytes;  /* of [pairs, h] */
    uint64_t row_bytes;   /* of one row [h]: per received pair */
    uint32_t n_experts;
    uint32_t n_local; /* experts of this rank */
    bool dispatches;  /* there is an all-to-all */
    bool gathers;     /* experts are split over ETP */
    bool exchanges;   /* one of the two */
    bool sorts;       /* received rows come by sender and must be put by expert */
    bool slices;      /* no sequence parallelism: works on its slice of replicated tokens */
    bool shares;      /* there are shared experts beside the routed ones */
} moe_dims;

static moe_dims moe_dims_of(const tdm_dims *d)
{
    const tdm_model *m = &d->scenario->model;
    moe_dims e = {.h = m->hidden_size,
                  .f = m->moe_ffn_hidden_size / d->etp,
                  .tokens = d->routed_tokens,
                  .n_experts = m->num_experts,
                  .n_local = m->num_experts / d->ep};
    e.f1 = m->swiglu ? 2 * e.f : e.f;
    e.pairs = tdm_routing_rows(&d->scenario->routing, m, e.tokens);
    e.row_bytes = e.h * d->element;
    e.shard_bytes = e.tokens * e.row_bytes;
    e.pair_bytes = e.pairs * e.row_bytes;
    e.dispatches = d->ep > 1;
    e.gathers = d->etp > 1;
    e.exchanges = e.dispatches || e.gathers;
    e.sorts = e.exchanges && e.n_local > 1;
    e.slices = d->tp > 1 && !d->sequence_parallel;
    e.shares = m->moe_shared_expert_intermediate_size > 0;
    return e;
}

/* Of the output's bias every ETP rank holds all, and sees the gradients of all rows: no sum. */
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

/* Of one row [h] for each pair that comes to this rank itself. */
static uint16_t own_rows(tdm_draft *draft, const moe_dims *e, const char *name)
{
    uint16_t slot = tdm_draft_slot(draft, name, 0, 0);
    draft->slots[slot].bytes.per_received = e->row_bytes;
    return slot;
}

/* The ops and tensors of one way out to the experts, or back. */
typedef struct trip {
    tdm_pass_kind pass;
    const char *all_to_all, *over_etp, *sort; /* ops */
    const char *sent, *own, *unsorted;        /* tensors: at the tokens' ranks; rows of this rank;
                                                 those of its experts, by sender */
} trip;

static const trip dispatch_trip = {TDM_PASS_F,      "dispatch",     "experts.gather", "sort",
                                   "dispatch.send", "dispatch.own", "dispatch.recv"};
static const trip combine_trip = {TDM_PASS_F, "combine",     "experts.reduce", "unsort",
                                  "results",  "combine.own", "combine.send"};
static const trip combine_back = {TDM_PASS_B, "combine.bwd",  "experts.dgather", "unsort.bwd",
                                  "dresults", "dcombine.own", "dcombine.recv"};
static const trip dispatch_back = {TDM_PASS_B, "dispatch.bwd",  "experts.dreduce", "sort.bwd",
                                   "drows",    "ddispatch.own", "ddispatch.send"};

/* Where rows start on their way to the experts, or end on that back. */
static uint16_t at_tokens(tdm_draft *draft, const moe_dims *e, const trip *t)
{
    return e->dispatches ? tdm_draft_slot(draft, t->sent, e->pair_bytes, 0)
                         : own_rows(draft, e, t->sent);
}

/* Rows from `sent` to the ranks of their experts; returns where they lie: in `sorted`, or by sender
 * if they must be sorted. */
static uint16_t carry_out(tdm_draft *draft, const moe_dims *e, const trip *t, uint16_t sent,
                          uint16_t sorted)
{
    uint16_t own = e->dispatches && e->gathers ? own_rows(draft, e, t->own) : sent;
    uint16_t landing = e->sorts ? received(draft, t->unsorted, e->h) : sorted;
    if (e->dispatches) {
        tdm_draft_op *op =
            tdm_draft_all_to_all(draft, t->pass, t->all_to_all, TDM_A2A_DISPATCH, e->row_bytes);
        tdm_write(tdm_read(op, sent), e->gathers ? own : landing);
    }
    if (e->gathers) {
        tdm_draft_op *op =
            tdm_draft_routed(draft, t->pass, t->over_etp, TDM_OP_ALL_GATHER, e->row_bytes);
        tdm_write(tdm_read(op, own), landing);
    }
    return landing;
}

static void sort_rows(tdm_draft *draft, const moe_dims *e, const trip *t, uint16_t landing,
                      uint16_t sorted)
{
    if (e->sorts)
        tdm_write(tdm_read(tdm_draft_memory(draft, t->pass, t->sort, 0, 2 * e->row_bytes), landing),
                  sorted);
}

/* Rows of the experts back to the ranks of their tokens; returns where they lie. */
static uint16_t carry_back(tdm_draft *draft, const moe_dims *e, const trip *t, uint16_t sorted)
{
    uint16_t rows = sorted;
    if (e->sorts) {
        rows = received(draft, t->unsorted, e->h);
        tdm_write(tdm_read(tdm_draft_memory(draft, t->pass, t->sort, 0, 2 * e->row_bytes), sorted),
                  rows);
    }
    if (e->gathers) {
        uint16_t own = e->dispatches ? own_rows(draft, e, t->own) : at_tokens(draft, e, t);
        tdm_draft_op *op =
            tdm_draft_routed(draft, t->pass, t->over_etp, TDM_OP_REDUCE_SCATTER, e->row_bytes);
        tdm_write(tdm_read(op, rows), own);
        rows = own;
    }
    if (e->dispatches) {
        uint16_t results = at_tokens(draft, e, t);
        tdm_draft_op *op =
            tdm_draft_all_to_all(draft, t->pass, t->all_to_all, TDM_A2A_COMBINE, e->row_bytes);
        tdm_write(tdm_read(op, rows), results);
        rows = results;
    }
    return rows;
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
    uint16_t send = e->exchanges ? at_tokens(draft, e, &dispatch_trip) : experts_in;
    tdm_write(op, send);
    uint16_t landing = carry_out(draft, e, &dispatch_trip, send, experts_in);
    if (e->shares)
        tdm_lower_shared_in(draft, n2);
    sort_rows(draft, e, &dispatch_trip, landing, experts_in);
    return experts_in;
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
    uint16_t results = carry_back(draft, &e, &combine_trip, experts_out);
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
        e->exchanges ? tdm_draft_find(draft, "results") : tdm_draft_find(draft, "experts.out");
    bool is_next = true;
    uint16_t dy = tdm_lower_add_backward(draft, "add2.bwd", "mask2", "dy2", TDM_SLOT_DX, &is_next);
    uint16_t dout = received(draft, "dexperts.out", e->h);
    tdm_draft_op *op =
        tdm_draft_memory(draft, TDM_PASS_B, "unpermute.bwd", e->shard_bytes + 2 * e->pair_bytes, 0);
    tdm_read(tdm_read(tdm_read_of(op, dy, is_next), results), tdm_draft_find(draft, "route"));
    tdm_write(op, dprobs);
    uint16_t dresults = e->exchanges ? at_tokens(draft, e, &combine_back) : dout;
    tdm_write(op, dresults);
    uint16_t landing = carry_out(draft, e, &combine_back, dresults, dout);
    if (e->shares)
        tdm_lower_shared_backward_out(draft, dy, is_next);
    sort_rows(draft, e, &combine_back, landing, dout);
    return dout;
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
    uint16_t dprobs =
        tdm_draft_slot(draft, "dprobs", e.tokens * d->scenario->model.moe_router_topk * 4, 0);
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
    uint16_t drows = carry_back(draft, &e, &dispatch_back, din);
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
