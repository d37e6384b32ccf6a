/* norm.c: layer norm and RMS norm of rows, and of every head's query and key.
 * Source: Ba et al. 2016, Layer Normalization, eq. 4; Zhang and Sennrich 2019, RMSNorm, eq. 4. */
#include "parts.h"

#include <math.h>

typedef struct moments {
    float mean, scale; /* 0 for RMS norm; 1 / deviation */
} moments;

static moments moments_of(const tdm_call *c, const float *x, uint64_t n)
{
    float sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += x[i];
    float mean = c->model->norm == TDM_NORM_LAYER ? sum / (float)n : 0;
    for (uint64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    return (moments){mean, 1 / sqrtf(squares / (float)n + TDM_NORM_EPSILON)};
}

static void norm_row(const tdm_call *c, const float *weight, const float *x, uint64_t n, float *y)
{
    moments m = moments_of(c, x, n);
    bool shifts = c->model->norm == TDM_NORM_LAYER;
    for (uint64_t i = 0; i < n; i++)
        y[i] = (x[i] - m.mean) * m.scale * weight[i] + (shifts ? weight[n + i] : 0);
}

/* dx from dy; adds to the weight's gradient. */
static void norm_row_backward(const tdm_call *c, const tdm_rank_param *p, const float *x,
                              const float *dy, uint64_t n, float *dx)
{
    moments m = moments_of(c, x, n);
    bool shifts = c->model->norm == TDM_NORM_LAYER;
    float sum = 0,
          product = 0; /* means of the gradient of the normed row, and of it times the row */
    for (uint64_t i = 0; i < n; i++) {
        float normed = (x[i] - m.mean) * m.scale, g = dy[i] * host_weight(p)[i];
        sum += g;
        product += g * normed;
        host_gradient(p)[i] += dy[i] * normed;
        if (shifts)
            host_gradient(p)[n + i] += dy[i];
    }
    sum = shifts ? sum / (float)n : 0;
    product /= (float)n;
    for (uint64_t i = 0; i < n; i++) {
        float normed = (x[i] - m.mean) * m.scale;
        dx[i] = m.scale * (dy[i] * host_weight(p)[i] - sum - normed * product);
    }
}

void host_norm(const tdm_call *c)
{
    for (uint64_t r = 0; r < c->residual; r++)
        norm_row(c, host_weight(c->weight), host_f32(c, 0) + r * c->h, c->h,
                 host_f32(c, 1) + r * c->h);
}

/* Reads dy, x and, but for the last norm, the gradient that passes by along the residual. */
void host_norm_backward(const tdm_call *c)
{
    bool passes_by = c->op->n_refs == 4;
    const float *beside = passes_by ? host_f32(c, 2) : NULL;
    float *dx = host_f32(c, passes_by ? 3 : 2);
    for (uint64_t r = 0; r < c->residual; r++) {
        uint64_t at = r * c->h;
        norm_row_backward(c, c->weight, host_f32(c, 1) + at, host_f32(c, 0) + at, c->h, dx + at);
        for (uint64_t i = 0; passes_by && i < c->h; i++)
            dx[at + i] += beside[at + i];
    }
}

/* ---- every head of Q and K ---- */

void host_qk_norm(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    uint64_t n = heads.size, from = (heads.q + 2 * heads.kv) * n, to = (heads.q + heads.kv) * n;
    const tdm_rank_param *q = tdm_call_param(c, "q.norm"), *k = tdm_call_param(c, "k.norm");
    for (uint64_t t = 0; t < c->tokens; t++)
        for (uint64_t i = 0; i < heads.q + heads.kv; i++)
            norm_row(c, (i < heads.q ? q : k)->weight, host_f32(c, 0) + t * from + i * n, n,
                     host_f32(c, 1) + t * to + i * n);
}

/* The gradient changes in place. */
void host_qk_norm_backward(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    uint64_t n = heads.size, columns = (heads.q + 2 * heads.kv) * n;
    const tdm_rank_param *q = tdm_call_param(c, "q.norm"), *k = tdm_call_param(c, "k.norm");
    float *dy = host_rank_of(c)->scratch;
    for (uint64_t t = 0; t < c->tokens; t++)
        for (uint64_t i = 0; i < heads.q + heads.kv; i++) {
            float *gradient = host_f32(c, 1) + t * columns + i * n;
            for (uint64_t j = 0; j < n; j++)
                dy[j] = gradient[j];
            norm_row_backward(c, i < heads.q ? q : k, host_f32(c, 0) + t * columns + i * n, dy, n,
                              gradient);
        }
}
