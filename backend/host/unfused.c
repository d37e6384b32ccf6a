/* unfused.c: attention as separate kernels that store scores and weights: [sample, head, query,
 * key]. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* Where one product's operands lie: of sample n / heads, head n % heads. */
typedef struct product {
    uint64_t head, first, scores, d;
    uint64_t q, k, v, all; /* first elements in a tensor of Q, K and V, and its columns */
    uint64_t o, o_columns; /* in a tensor of heads */
} product;

static product product_of(const tdm_call *c, const tdm_heads *heads, uint64_t n, uint64_t columns)
{
    uint64_t d = heads->size, head = n % heads->q, group = head / heads->per_group;
    product p = {.head = head, .first = n / heads->q * c->s, .d = d, .all = columns};
    p.scores = n * c->s * c->s;
    p.q = p.first * columns + head * d;
    p.k = p.first * columns + (heads->q + group) * d;
    p.v = p.first * columns + (heads->q + heads->kv + group) * d;
    p.o_columns = heads->q * d;
    p.o = p.first * p.o_columns + head * d;
    return p;
}

static uint64_t n_products(const tdm_call *c, const tdm_heads *heads)
{
    return c->tokens / c->s * heads->q;
}

static uint64_t columns_of(const tdm_call *c, uint32_t ref)
{
    return c->tensors[ref].bytes / sizeof(float) / c->tokens;
}

static float scale_of(const tdm_heads *heads)
{
    return 1 / sqrtf((float)heads->size);
}

void host_scores(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 0));
        float *qk = host_f32(c, 0);
        host_gemm(c->s, c->s, p.d, scale_of(&heads), (host_matrix){qk + p.q, p.all, false},
                  (host_matrix){qk + p.k, p.all, true}, 0, host_f32(c, 1) + p.scores, c->s);
    }
}

static float sink_of(const tdm_call *c, uint64_t head)
{
    const tdm_rank_param *sinks = tdm_call_param(c, "sinks");
    return sinks ? host_weight(sinks)[head] : -INFINITY;
}

void host_softmax(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t row = 0; row < n_products(c, &heads) * c->s; row++) {
        const float *scores = host_f32(c, 0) + row * c->s;
        float *out = host_f32(c, 1) + row * c->s, sink = sink_of(c, row / c->s % heads.q);
        uint64_t n = row % c->s + 1;
        float most = sink;
        for (uint64_t j = 0; j < n; j++)
            most = scores[j] > most ? scores[j] : most;
        float sum = expf(sink - most);
        for (uint64_t j = 0; j < n; j++)
            sum += out[j] = expf(scores[j] - most);
        for (uint64_t j = 0; j < c->s; j++)
            out[j] = j < n ? out[j] / sum : 0;
    }
}

/* The same numbers as the fused kernel's. */
void host_weights_dropout(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    unsigned char *mask = c->tensors[2].data;
    double rate = c->model->attention_dropout;
    uint64_t key = tdm_call_key(c, "attention");
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, 0);
        uint64_t place = tdm_call_sample(c, p.first) * c->model->num_attention_heads +
                         c->rank->tp * heads.q + p.head;
        for (uint64_t at = 0; at < c->s * c->s; at++) {
            bool stays = tdm_data_uniform(key, place * c->s * c->s + at) >= rate;
            mask[p.scores + at] = stays;
            host_f32(c, 1)[p.scores + at] =
                stays ? host_f32(c, 0)[p.scores + at] * (float)(1 / (1 - rate)) : 0;
        }
    }
}

void host_context(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 1));
        host_gemm(c->s, p.d, c->s, 1, (host_matrix){host_f32(c, 0) + p.scores, c->s, false},
                  (host_matrix){host_f32(c, 1) + p.v, p.all, false}, 0, host_f32(c, 2) + p.o,
                  p.o_columns);
    }
}

/* Reads the output's gradient and V. */
void host_context_dweights(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 1));
        host_gemm(c->s, c->s, p.d, 1, (host_matrix){host_f32(c, 0) + p.o, p.o_columns, false},
                  (host_matrix){host_f32(c, 1) + p.v, p.all, true}, 0, host_f32(c, 2) + p.scores,
                  c->s);
    }
}

/* Reads the weights and the output's gradient; first to write the projections' gradient. */
void host_context_dv(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    memset(c->tensors[2].data, 0, c->tensors[2].bytes);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 2));
        host_gemm(c->s, p.d, c->s, 1, (host_matrix){host_f32(c, 0) + p.scores, c->s, true},
                  (host_matrix){host_f32(c, 1) + p.o, p.o_columns, false}, 1, host_f32(c, 2) + p.v,
                  p.all);
    }
}

void host_weights_dropout_backward(const tdm_call *c)
{
    const unsigned char *mask = c->tensors[0].data;
    float scale = (float)(1 / (1 - c->model->attention_dropout));
    for (uint64_t at = 0; at < c->tensors[1].bytes / sizeof(float); at++)
        host_f32(c, 1)[at] *= mask[at] ? scale : 0;
}

void host_softmax_backward(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    const tdm_rank_param *sinks = tdm_call_param(c, "sinks");
    for (uint64_t row = 0; row < n_products(c, &heads) * c->s; row++) {
        const float *weights = host_f32(c, 0) + row * c->s;
        float *d = host_f32(c, 1) + row * c->s, mean = 0, sum = 0;
        uint64_t n = row % c->s + 1;
        for (uint64_t j = 0; j < n; j++) {
            mean += weights[j] * d[j];
            sum += weights[j];
        }
        for (uint64_t j = 0; j < c->s; j++)
            d[j] = j < n ? weights[j] * (d[j] - mean) : 0;
        if (sinks)
            host_gradient(sinks)[row / c->s % heads.q] -= (1 - sum) * mean;
    }
}

/* Both read the scores' gradient and the projections, and add to their gradient. */
void host_scores_dq(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 1)),
                out = product_of(c, &heads, n, columns_of(c, 2));
        host_gemm(c->s, p.d, c->s, scale_of(&heads),
                  (host_matrix){host_f32(c, 0) + p.scores, c->s, false},
                  (host_matrix){host_f32(c, 1) + p.k, p.all, false}, 1, host_f32(c, 2) + out.q,
                  out.all);
    }
}

void host_scores_dk(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    for (uint64_t n = 0; n < n_products(c, &heads); n++) {
        product p = product_of(c, &heads, n, columns_of(c, 1)),
                out = product_of(c, &heads, n, columns_of(c, 2));
        host_gemm(
            c->s, p.d, c->s, scale_of(&heads), (host_matrix){host_f32(c, 0) + p.scores, c->s, true},
            (host_matrix){host_f32(c, 1) + p.q, p.all, false}, 1, host_f32(c, 2) + out.k, out.all);
    }
}
