/* rows.c: what works on rows: norms, embedding, positions, dropout, sums, activation, rotation. */
#include "parts.h"

#include <string.h>

static bool is_layer_norm(const cuda_call *c)
{
    return c->of.model->norm == TDM_NORM_LAYER;
}

/* ---- norms ---- */

tdm_code cuda_norm(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_norm(c->stream, c->type, is_layer_norm(c), TDM_NORM_EPSILON,
                                 cuda_tensor(c, 0), c->of.weight->weight, c->of.residual, c->of.h,
                                 cuda_tensor(c, 1)),
                   err);
}

/* Reads dy, x and, but for the last norm, the gradient that passes by along the residual. */
tdm_code cuda_norm_backward(const cuda_call *c, tdm_error *err)
{
    bool passes_by = c->of.op->n_refs == 4;
    return cuda_ok(c,
                   tdm_cuda_norm_backward(
                       c->stream, c->type, c->gradient_type, is_layer_norm(c), TDM_NORM_EPSILON,
                       cuda_tensor(c, 0), cuda_tensor(c, 1), passes_by ? cuda_tensor(c, 2) : NULL,
                       c->of.weight->weight, c->of.residual, c->of.h,
                       cuda_tensor(c, passes_by ? 3 : 2), c->of.weight->gradient, c->rank->scratch),
                   err);
}

tdm_code cuda_qk_norm(const cuda_call *c, tdm_error *err)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    const tdm_rank_param *q = tdm_call_param(&c->of, "q.norm"),
                         *k = tdm_call_param(&c->of, "k.norm");
    return cuda_ok(c,
                   tdm_cuda_head_norm(c->stream, c->type, is_layer_norm(c), TDM_NORM_EPSILON,
                                      cuda_tensor(c, 0), (heads.q + 2 * heads.kv) * heads.size,
                                      q->weight, k->weight, c->of.tokens, heads.q, heads.kv,
                                      heads.size, cuda_tensor(c, 1)),
                   err);
}

/* The gradient changes in place. */
tdm_code cuda_qk_norm_backward(const cuda_call *c, tdm_error *err)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    const tdm_rank_param *q = tdm_call_param(&c->of, "q.norm"),
                         *k = tdm_call_param(&c->of, "k.norm");
    return cuda_ok(c,
                   tdm_cuda_head_norm_backward(
                       c->stream, c->type, c->gradient_type, is_layer_norm(c), TDM_NORM_EPSILON,
                       cuda_tensor(c, 0), (heads.q + 2 * heads.kv) * heads.size, q->weight,
                       k->weight, c->of.tokens, heads.q, heads.kv, heads.size, cuda_tensor(c, 1),
                       q->gradient, k->gradient, c->rank->scratch),
                   err);
}

/* ---- embedding ---- */

tdm_code cuda_lookup(const cuda_call *c, tdm_error *err)
{
    uint64_t n = c->of.model->vocab_size / c->of.plan->mesh.tp;
    return cuda_ok(c,
                   tdm_cuda_lookup(c->stream, c->type, cuda_words(c), c->of.s, c->of.tokens,
                                   c->of.weight->weight, n * c->of.rank->tp, n, c->of.h,
                                   cuda_tensor(c, 0)),
                   err);
}

tdm_code cuda_lookup_wgrad(const cuda_call *c, tdm_error *err)
{
    uint64_t n = c->of.model->vocab_size / c->of.plan->mesh.tp;
    return cuda_ok(c,
                   tdm_cuda_lookup_backward(c->stream, c->type, c->gradient_type, cuda_words(c),
                                            c->of.s, c->of.tokens, cuda_tensor(c, 0),
                                            n * c->of.rank->tp, n, c->of.h, c->of.weight->gradient,
                                            c->rank->scratch),
                   err);
}

/* ---- dropout on the residual ---- */

/* Numbers go by the place of a token in all samples, whatever rank its row lies on; samples of a
 * microbatch follow each other. */
static tdm_cuda_dropout dropout_of(const cuda_call *c, const char *what)
{
    uint64_t token = tdm_call_sample(&c->of, 0) * c->of.s + c->of.row0;
    return tdm_cuda_dropout_of(c->of.model->hidden_dropout, tdm_call_key(&c->of, what),
                               token * c->of.h);
}

static float kept_scale(const cuda_call *c)
{
    return (float)(1 / (1 - c->of.model->hidden_dropout));
}

/* Adds the position's row and drops out, in place; writes the mask. */
tdm_code cuda_position(const cuda_call *c, tdm_error *err)
{
    bool drops = c->of.op->n_refs > 1;
    tdm_cuda_dropout dropout = dropout_of(c, "embedding");
    return cuda_ok(c,
                   tdm_cuda_position(c->stream, c->type, cuda_tensor(c, 0),
                                     c->of.weight ? c->of.weight->weight : NULL, c->of.row0,
                                     c->of.s, c->of.residual, c->of.h, drops ? &dropout : NULL,
                                     drops ? cuda_tensor(c, 1) : NULL),
                   err);
}

/* Reads the gradient and, with dropout, the mask, and writes what passes it. */
tdm_code cuda_position_wgrad(const cuda_call *c, tdm_error *err)
{
    bool drops = c->of.op->n_refs > 1;
    return cuda_ok(c,
                   tdm_cuda_position_backward(
                       c->stream, c->type, c->gradient_type, cuda_tensor(c, 0),
                       drops ? cuda_tensor(c, 1) : NULL, drops ? kept_scale(c) : 1, c->of.row0,
                       c->of.s, c->of.residual, c->of.h, drops ? cuda_tensor(c, 2) : NULL,
                       c->of.weight ? c->of.weight->gradient : NULL),
                   err);
}

/* Residual plus a half's output through dropout. A repetition for the mask's sake writes no sum. */
tdm_code cuda_add(const cuda_call *c, tdm_error *err)
{
    void *out = NULL, *mask = NULL;
    for (uint32_t r = 2; r < c->of.op->n_refs; r++) {
        if (c->of.tensors[r].bytes == c->of.tensors[0].bytes)
            out = cuda_tensor(c, r);
        else
            mask = cuda_tensor(c, r);
    }
    tdm_cuda_dropout dropout =
        dropout_of(c, strncmp(c->of.op->name, "add1", 4) == 0 ? "add1" : "add2");
    return cuda_ok(c,
                   tdm_cuda_add(c->stream, c->type, cuda_tensor(c, 0), cuda_tensor(c, 1),
                                c->of.residual * c->of.h, mask ? &dropout : NULL, out, mask),
                   err);
}

tdm_code cuda_add_backward(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(c,
                   tdm_cuda_dropout_backward(c->stream, c->type, cuda_tensor(c, 0), kept_scale(c),
                                             cuda_tensor(c, 1), c->of.residual * c->of.h,
                                             cuda_tensor(c, 2)),
                   err);
}

/* The second plus the first, in place. */
tdm_code cuda_sum(const cuda_call *c, tdm_error *err)
{
    return cuda_ok(
        c,
        tdm_cuda_sum(c->stream, c->type, cuda_tensor(c, 0), cuda_numbers(c, 1), cuda_tensor(c, 1)),
        err);
}

/* ---- activation ---- */

tdm_code cuda_activation(const cuda_call *c, tdm_error *err)
{
    uint64_t f = tdm_call_inner(&c->of);
    return cuda_ok(c,
                   tdm_cuda_activation(c->stream, c->type, c->of.model->swiglu, cuda_tensor(c, 0),
                                       NULL, cuda_numbers(c, 1) / f, f, cuda_tensor(c, 1)),
                   err);
}

tdm_code cuda_activation_backward(const cuda_call *c, tdm_error *err)
{
    uint64_t f = tdm_call_inner(&c->of);
    return cuda_ok(c,
                   tdm_cuda_activation_backward(c->stream, c->type, c->of.model->swiglu,
                                                cuda_tensor(c, 0), cuda_tensor(c, 1), NULL,
                                                cuda_numbers(c, 0) / f, f, cuda_tensor(c, 2)),
                   err);
}

/* ---- rotary positions ---- */

static tdm_code rotate(const cuda_call *c, bool back, tdm_error *err)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    return cuda_ok(c,
                   tdm_cuda_rope(c->stream, c->type, c->rank->tables.rope, back, c->of.s,
                                 c->of.tokens, heads.q + heads.kv, heads.size,
                                 cuda_numbers(c, 0) / c->of.tokens, cuda_tensor(c, 0)),
                   err);
}

tdm_code cuda_rope(const cuda_call *c, tdm_error *err)
{
    return rotate(c, false, err);
}

tdm_code cuda_rope_backward(const cuda_call *c, tdm_error *err)
{
    return rotate(c, true, err);
}
