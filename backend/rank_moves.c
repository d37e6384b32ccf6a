/* rank_moves.c: what a communication op moves: by its kind, the tensors that it reads and writes;
 * in the optimizer's pass, lists of parameters by its name. */
#include "rank.h"

#include <string.h>

/* Ops on lists of parameters, and which these are. */
static const struct {
    const char *name;
    bool sync_tp, embedding, dense, expert;
} lists[] = {
    {.name = "grads.replicated", .sync_tp = true}, {.name = "grads.embedding", .embedding = true},
    {.name = "grads.dense", .dense = true},        {.name = "grads.experts", .expert = true},
    {.name = "weights.dense", .dense = true},      {.name = "weights.experts", .expert = true},
};

static tdm_exec_segment segment_of(const tdm_plan *plan, const tdm_rank_param *p, const tdm_op *op,
                                   tdm_dtype *dtype)
{
    tdm_exec_segment s = {.in = p->gradient, .out = p->gradient, .count = p->param->count};
    bool weights = op->kind == TDM_OP_ALL_GATHER;
    *dtype = weights ? plan->training.dtype : plan->training.grad_dtype;
    uint64_t shard = p->first * tdm_dtype_bytes(*dtype);
    if (op->kind == TDM_OP_REDUCE_SCATTER)
        s.out = (unsigned char *)p->gradient + shard;
    if (weights) {
        s.in = (unsigned char *)p->weight + shard;
        s.out = p->weight;
    }
    return s;
}

/* False when the op's name is none of the list's. */
static bool list_params(const tdm_call *c, tdm_exec_transfer *t)
{
    const tdm_rank *rank = c->rank;
    for (size_t i = 0; i < TDM_COUNT(lists); i++) {
        if (strcmp(lists[i].name, c->op->name) != 0)
            continue;
        tdm_exec_segment *segments = rank->segments + i * rank->n_params;
        t->segments = segments;
        for (uint32_t k = 0; k < rank->n_params; k++) {
            const tdm_param *p = rank->params[k].param;
            if ((lists[i].sync_tp && p->sync_tp) || (lists[i].embedding && p->embedding) ||
                (lists[i].dense && !p->expert) || (lists[i].expert && p->expert))
                segments[t->n_segments++] = segment_of(c->plan, &rank->params[k], c->op, &t->dtype);
        }
        return true;
    }
    return false;
}

static void exchange(const tdm_call *c, tdm_exec_transfer *t)
{
    t->sent = tdm_plan_sent(c->plan, c->rank->rank, c->in->layer, c->in->pass.microbatch);
    t->back = c->op->u.collective.a2a == TDM_A2A_COMBINE;
    t->row = c->op->u.collective.token_bytes / tdm_dtype_bytes(t->dtype);
}

/* Every member of an ETP group gives or gets the rows that came to it. */
static void share_rows(const tdm_call *c, tdm_exec_transfer *t)
{
    tdm_received received =
        tdm_plan_received(c->plan, c->rank->rank, c->in->layer, c->in->pass.microbatch);
    uint64_t row = c->op->u.collective.token_bytes / tdm_dtype_bytes(t->dtype);
    for (uint32_t i = 0; i < c->plan->mesh.etp; i++)
        c->rank->shares[i] = tdm_received_by(&received, i) * row;
    t->shares = c->rank->shares;
}

/* What stays in fp32 whatever the model's dtype says so itself. */
static tdm_dtype dtype_of(const tdm_call *c)
{
    return tdm_op_is_collective(c->op->kind) ? c->op->dtype : c->plan->training.dtype;
}

tdm_code tdm_moves(const tdm_call *c, const char *device, tdm_exec_transfer *t, tdm_error *err)
{
    t->dtype = dtype_of(c);
    if (c->in->pass.kind == TDM_PASS_O) {
        if (strcmp(c->op->name, "norm.reduce") == 0) {
            t->dtype = TDM_DTYPE_FP32;
            t->one = (tdm_exec_segment){c->rank->norm, c->rank->norm, 1};
        } else if (!list_params(c, t)) {
            return tdm_error_add(err, TDM_E_INVALID, "the %s device does not know what op %s moves",
                                 device, c->op->name);
        }
    } else {
        uint32_t last = c->op->n_refs - 1, whole = c->op->kind == TDM_OP_ALL_GATHER ? last : 0;
        t->one = (tdm_exec_segment){c->tensors[0].data, c->tensors[last].data,
                                    c->tensors[whole].bytes / tdm_dtype_bytes(t->dtype)};
        t->largest = strcmp(c->op->name, "loss.max.reduce") == 0;
        if (c->op->kind == TDM_OP_ALL_TO_ALL)
            exchange(c, t);
        if (tdm_op_is_routed_gather(c->op))
            share_rows(c, t);
    }
    if (!t->segments) {
        t->segments = &t->one;
        t->n_segments = 1;
    }
    return TDM_OK;
}
