/* attention.c: attention in one kernel, and as separate kernels that store scores and weights:
 * [sample, head, query, key]. */
#include "parts.h"

#include <math.h>

/* ---- what both need ---- */

static bool drops(const cuda_call *c)
{
    return c->of.plan->train && c->of.model->attention_dropout > 0;
}

static tdm_cuda_weights_dropout dropout_of(const cuda_call *c)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    return (tdm_cuda_weights_dropout){.dropout =
                                          tdm_cuda_dropout_of(c->of.model->attention_dropout,
                                                              tdm_call_key(&c->of, "attention"), 0),
                                      .first_sample = tdm_call_sample(&c->of, 0),
                                      .all_heads = c->of.model->num_attention_heads,
                                      .first_head = c->of.rank->tp * heads.q};
}

static float scale_of(const tdm_heads *heads)
{
    return 1 / sqrtf((float)heads->size);
}

/* ---- in one kernel ---- */

static tdm_cuda_attention attention_of(const cuda_call *c, uint32_t n_others,
                                       const tdm_cuda_weights_dropout *dropout)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    const tdm_rank_param *sinks = tdm_call_param(&c->of, "sinks");
    bool apart = c->of.op->n_refs > n_others + 1;
    uint64_t all = (heads.q + 2 * heads.kv) * heads.size, both = (heads.q + heads.kv) * heads.size;
    const void *qk = cuda_tensor(c, apart ? 1 : 0);
    return (tdm_cuda_attention){.type = c->type,
                                .samples = c->of.tokens / c->of.s,
                                .s = c->of.s,
                                .heads = (uint32_t)heads.q,
                                .kv_heads = (uint32_t)heads.kv,
                                .size = (uint32_t)heads.size,
                                .scale = scale_of(&heads),
                                .q = qk,
                                .k = cuda_at(c, qk, heads.q * heads.size),
                                .v = cuda_at(c, cuda_tensor(c, 0), both),
                                .qk_step = apart ? both : all,
                                .v_step = all,
                                .sinks = sinks ? sinks->weight : NULL,
                                .dropout = drops(c) ? dropout : NULL};
}

/* Reads the projections, writes the output and the log-sum-exp. */
tdm_code cuda_attention(const cuda_call *c, tdm_error *err)
{
    tdm_cuda_weights_dropout dropout = dropout_of(c);
    tdm_cuda_attention a = attention_of(c, 2, &dropout);
    a.o = cuda_tensor(c, c->of.op->n_refs - 2);
    a.lse = cuda_tensor(c, c->of.op->n_refs - 1);
    return cuda_ok(c, tdm_cuda_attention_forward(c->stream, &a), err);
}

/* Reads the projections, output, log-sum-exp and the output's gradient; writes that of the
 * projections. */
tdm_code cuda_attention_backward(const cuda_call *c, tdm_error *err)
{
    uint32_t n = c->of.op->n_refs;
    tdm_heads heads = tdm_heads_of(&c->of);
    tdm_cuda_weights_dropout dropout = dropout_of(c);
    tdm_cuda_attention a = attention_of(c, 4, &dropout);
    const tdm_rank_param *sinks = tdm_call_param(&c->of, "sinks");
    a.o = cuda_tensor(c, n - 4);
    a.lse = cuda_tensor(c, n - 3);
    void *dqkv = cuda_tensor(c, n - 1);
    return cuda_ok(c,
                   tdm_cuda_attention_backward(c->stream, &a, c->gradient_type,
                                               cuda_tensor(c, n - 2), dqkv,
                                               cuda_at(c, dqkv, heads.q * heads.size),
                                               cuda_at(c, dqkv, (heads.q + heads.kv) * heads.size),
                                               (heads.q + 2 * heads.kv) * heads.size,
                                               sinks ? sinks->gradient : NULL, c->rank->scratch),
                   err);
}

/* ---- as separate kernels ---- */

/* Where the operands of a batch of products lie: of one sample, and of each group's j-th head. */
typedef struct part {
    uint64_t first;           /* token */
    uint64_t scores, columns; /* of scores: place; numbers from group to group */
    uint64_t j;
} part;

/* A matrix of heads within rows of so many columns: of the groups' j-th heads from column `at` on,
 * or, `shared`, of the groups themselves. */
static cuda_matrix heads_of(const cuda_call *c, const part *p, uint32_t ref, uint64_t at,
                            bool shared, bool transposed)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    uint64_t columns = cuda_numbers(c, ref) / c->of.tokens, d = heads.size;
    uint64_t place = p->first * columns + at + (shared ? 0 : p->j * d);
    return (cuda_matrix){cuda_at(c, cuda_tensor(c, ref), place), columns, transposed,
                         shared ? d : heads.per_group * d};
}

static cuda_matrix scores_of(const cuda_call *c, const part *p, uint32_t ref, bool transposed)
{
    return (cuda_matrix){cuda_at(c, cuda_tensor(c, ref), p->scores), c->of.s, transposed,
                         p->columns};
}

/* Products of every sample and of every head of a group; the groups are a batch. */
typedef cuda_product make(const cuda_call *c, const part *p, const tdm_heads *heads);

static tdm_code multiply(const cuda_call *c, make *make_product, tdm_error *err)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    uint64_t square = c->of.s * c->of.s;
    tdm_code code = TDM_OK;
    for (uint64_t sample = 0; sample < c->of.tokens / c->of.s; sample++)
        for (uint64_t j = 0; j < heads.per_group && code == TDM_OK; j++) {
            part p = {.first = sample * c->of.s,
                      .scores = (sample * heads.q + j) * square,
                      .columns = heads.per_group * square,
                      .j = j};
            cuda_product product = make_product(c, &p, &heads);
            product.c_type = c->type;
            product.batch = (uint32_t)heads.kv;
            code = cuda_multiply(c, &product, err);
        }
    return code;
}

static cuda_product scores(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    return (cuda_product){.m = c->of.s,
                          .n = c->of.s,
                          .k = heads->size,
                          .a = heads_of(c, p, 0, 0, false, false),
                          .b = heads_of(c, p, 0, heads->q * heads->size, true, true),
                          .c = scores_of(c, p, 1, false),
                          .alpha = scale_of(heads)};
}

static cuda_product context(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    uint64_t v = (heads->q + heads->kv) * heads->size;
    return (cuda_product){.m = c->of.s,
                          .n = heads->size,
                          .k = c->of.s,
                          .a = scores_of(c, p, 0, false),
                          .b = heads_of(c, p, 1, v, true, false),
                          .c = heads_of(c, p, 2, 0, false, false),
                          .alpha = 1};
}

static cuda_product context_dweights(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    uint64_t v = (heads->q + heads->kv) * heads->size;
    return (cuda_product){.m = c->of.s,
                          .n = c->of.s,
                          .k = heads->size,
                          .a = heads_of(c, p, 0, 0, false, false),
                          .b = heads_of(c, p, 1, v, true, true),
                          .c = scores_of(c, p, 2, false),
                          .alpha = 1};
}

static cuda_product context_dv(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    uint64_t v = (heads->q + heads->kv) * heads->size;
    return (cuda_product){.m = c->of.s,
                          .n = heads->size,
                          .k = c->of.s,
                          .a = scores_of(c, p, 0, true),
                          .b = heads_of(c, p, 1, 0, false, false),
                          .c = heads_of(c, p, 2, v, true, false),
                          .alpha = 1,
                          .beta = 1};
}

static cuda_product scores_dq(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    uint64_t k = heads->q * heads->size;
    return (cuda_product){.m = c->of.s,
                          .n = heads->size,
                          .k = c->of.s,
                          .a = scores_of(c, p, 0, false),
                          .b = heads_of(c, p, 1, k, true, false),
                          .c = heads_of(c, p, 2, 0, false, false),
                          .alpha = scale_of(heads),
                          .beta = 1};
}

static cuda_product scores_dk(const cuda_call *c, const part *p, const tdm_heads *heads)
{
    uint64_t k = heads->q * heads->size;
    return (cuda_product){.m = c->of.s,
                          .n = heads->size,
                          .k = c->of.s,
                          .a = scores_of(c, p, 0, true),
                          .b = heads_of(c, p, 1, 0, false, false),
                          .c = heads_of(c, p, 2, k, true, false),
                          .alpha = scale_of(heads),
                          .beta = 1};
}

tdm_code cuda_scores(const cuda_call *c, tdm_error *err)
{
    return multiply(c, scores, err);
}

tdm_code cuda_context(const cuda_call *c, tdm_error *err)
{
    return multiply(c, context, err);
}

tdm_code cuda_context_dweights(const cuda_call *c, tdm_error *err)
{
    return multiply(c, context_dweights, err);
}

/* First to write the projections' gradient. */
tdm_code cuda_context_dv(const cuda_call *c, tdm_error *err)
{
    tdm_code code =
        cuda_ok(c, cudaMemsetAsync(cuda_tensor(c, 2), 0, c->of.tensors[2].bytes, c->stream), err);
    return code == TDM_OK ? multiply(c, context_dv, err) : code;
}

tdm_code cuda_scores_dq(const cuda_call *c, tdm_error *err)
{
    return multiply(c, scores_dq, err);
}

tdm_code cuda_scores_dk(const cuda_call *c, tdm_error *err)
{
    return multiply(c, scores_dk, err);
}

/* The scores have their scale from the product. */
tdm_code cuda_softmax(const cuda_call *c, tdm_error *err)
{
    const tdm_rank_param *sinks = tdm_call_param(&c->of, "sinks");
    return cuda_ok(c,
                   tdm_cuda_softmax(c->stream, c->type, 1, cuda_tensor(c, 0),
                                    sinks ? sinks->weight : NULL, c->of.tokens / c->of.s,
                                    tdm_heads_of(&c->of).q, c->of.s, cuda_tensor(c, 1)),
                   err);
}

tdm_code cuda_softmax_backward(const cuda_call *c, tdm_error *err)
{
    const tdm_rank_param *sinks = tdm_call_param(&c->of, "sinks");
    return cuda_ok(c,
                   tdm_cuda_softmax_backward(c->stream, c->type, c->gradient_type, 1,
                                             cuda_tensor(c, 0), c->of.tokens / c->of.s,
                                             tdm_heads_of(&c->of).q, c->of.s, cuda_tensor(c, 1),
                                             sinks ? sinks->gradient : NULL, c->rank->scratch),
                   err);
}

/* The same numbers as the fused kernel's. */
tdm_code cuda_weights_dropout(const cuda_call *c, tdm_error *err)
{
    tdm_cuda_weights_dropout dropout = dropout_of(c);
    return cuda_ok(c,
                   tdm_cuda_weights_dropout_forward(c->stream, c->type, &dropout, cuda_tensor(c, 0),
                                                    c->of.tokens / c->of.s, tdm_heads_of(&c->of).q,
                                                    c->of.s, cuda_tensor(c, 1), cuda_tensor(c, 2)),
                   err);
}

tdm_code cuda_weights_dropout_backward(const cuda_call *c, tdm_error *err)
{
    float scale = (float)(1 / (1 - c->of.model->attention_dropout));
    return cuda_ok(c,
                   tdm_cuda_dropout_backward(c->stream, c->type, cuda_tensor(c, 0), scale,
                                             cuda_tensor(c, 1), cuda_numbers(c, 1),
                                             cuda_tensor(c, 1)),
                   err);
}
