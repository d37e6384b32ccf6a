/* attention.c: causal attention with grouped queries in one kernel, row by row; the backward pass
 * makes the weights again from the stored log-sum-exp. Source: Dao et al. 2022, FlashAttention,
 * algorithms 1 and 4, without its tiles. A sink takes part in the softmax and carries no value. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* Rows of one head in one sample. */
typedef struct head_view {
    const float *q, *k, *v;           /* of the sample's first token */
    uint64_t qk_step, v_step;         /* columns of their tensors */
    uint64_t first, out_step, out_at; /* token; of tensors with queries' columns alone */
    uint64_t place;                   /* of dropout's numbers */
} head_view;

static head_view view_of(const tdm_call *c, const tdm_heads *heads, uint64_t sample, uint64_t head)
{
    bool apart = c->op->n_refs > (c->op->kind == TDM_OP_ATTENTION ? 3u : 5u);
    uint64_t d = heads->size, group = head / heads->per_group, first = sample * c->s;
    uint64_t all = (heads->q + 2 * heads->kv) * d, both = (heads->q + heads->kv) * d;
    head_view v = {.qk_step = apart ? both : all, .v_step = all, .first = first};
    const float *qk = host_f32(c, apart ? 1 : 0) + first * v.qk_step;
    v.q = qk + head * d;
    v.k = qk + (heads->q + group) * d;
    v.v = host_f32(c, 0) + first * all + (heads->q + heads->kv + group) * d;
    v.out_step = heads->q * d;
    v.out_at = first * v.out_step + head * d;
    v.place =
        tdm_call_sample(c, first) * c->model->num_attention_heads + c->rank->tp * heads->q + head;
    return v;
}

static float dot(const float *a, const float *b, uint64_t n)
{
    float sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void add_scaled(float *to, float factor, const float *from, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        to[i] += factor * from[i];
}

static float score_scale(const tdm_heads *heads)
{
    return 1 / sqrtf((float)heads->size);
}

static float sink_of(const tdm_call *c, uint64_t head)
{
    const tdm_rank_param *sinks = tdm_call_param(c, "sinks");
    return sinks ? host_weight(sinks)[head] : -INFINITY;
}

/* Factor on the weight between two positions: 0 or 1 / (1 - rate). */
static float kept(const tdm_call *c, const head_view *v, uint64_t i, uint64_t j)
{
    double rate = c->plan->train ? c->model->attention_dropout : 0;
    if (rate <= 0)
        return 1;
    uint64_t key = tdm_call_key(c, "attention");
    bool stays = tdm_data_uniform(key, (v->place * c->s + i) * c->s + j) >= rate;
    return stays ? (float)(1 / (1 - rate)) : 0;
}

/* Scores of row i with all before it; returns their log-sum-exp. */
static float score_row(const tdm_call *c, const tdm_heads *heads, const head_view *v, uint64_t head,
                       uint64_t i, float *scores)
{
    float most = sink_of(c, head), sum = 0, scale = score_scale(heads);
    for (uint64_t j = 0; j <= i; j++) {
        scores[j] = scale * dot(v->q + i * v->qk_step, v->k + j * v->qk_step, heads->size);
        most = scores[j] > most ? scores[j] : most;
    }
    sum = expf(sink_of(c, head) - most);
    for (uint64_t j = 0; j <= i; j++)
        sum += expf(scores[j] - most);
    return most + logf(sum);
}

/* Reads the projections, writes the output and the log-sum-exp. */
void host_attention(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    uint32_t out = c->op->n_refs - 2;
    float *o = host_f32(c, out), *lse = host_f32(c, out + 1), *scores = host_rank_of(c)->scratch;
    for (uint64_t n = 0; n < c->tokens / c->s * heads.q; n++) {
        uint64_t head = n % heads.q;
        head_view v = view_of(c, &heads, n / heads.q, head);
        for (uint64_t i = 0; i < c->s; i++) {
            float *row = o + v.out_at + i * v.out_step;
            float log_sum = score_row(c, &heads, &v, head, i, scores);
            memset(row, 0, heads.size * sizeof *row);
            for (uint64_t j = 0; j <= i; j++)
                add_scaled(row, expf(scores[j] - log_sum) * kept(c, &v, i, j), v.v + j * v.v_step,
                           heads.size);
            lse[(v.first + i) * heads.q + head] = log_sum;
        }
    }
}

/* Gradients of one row's query, and of the keys and values before it. */
static void row_backward(const tdm_call *c, const tdm_heads *heads, const head_view *v,
                         uint64_t head, uint64_t i)
{
    uint32_t n = c->op->n_refs;
    uint64_t d = heads->size, group = head / heads->per_group, all = v->v_step;
    const float *o = host_f32(c, n - 4) + v->out_at + i * v->out_step,
                *do_ = host_f32(c, n - 2) + v->out_at + i * v->out_step;
    float log_sum = host_f32(c, n - 3)[(v->first + i) * heads->q + head];
    float *dqkv = host_f32(c, n - 1) + v->first * all, *dq = dqkv + i * all + head * d;
    float *dk = dqkv + (heads->q + group) * d, *dv = dqkv + (heads->q + heads->kv + group) * d;
    float scale = score_scale(heads), mean = dot(do_, o, d);
    for (uint64_t j = 0; j <= i; j++) {
        const float *k = v->k + j * v->qk_step, *q = v->q + i * v->qk_step;
        float weight = expf(scale * dot(q, k, d) - log_sum), factor = kept(c, v, i, j);
        float dscore = scale * weight * (factor * dot(do_, v->v + j * v->v_step, d) - mean);
        add_scaled(dq, dscore, k, d);
        add_scaled(dk + j * all, dscore, q, d);
        add_scaled(dv + j * all, weight * factor, do_, d);
    }
    const tdm_rank_param *sinks = tdm_call_param(c, "sinks");
    if (sinks)
        host_gradient(sinks)[head] -= expf(host_weight(sinks)[head] - log_sum) * mean;
}

/* Reads the projections, output, log-sum-exp and the output's gradient; writes that of the
 * projections. */
void host_attention_backward(const tdm_call *c)
{
    tdm_heads heads = tdm_heads_of(c);
    uint32_t last = c->op->n_refs - 1;
    memset(c->tensors[last].data, 0, c->tensors[last].bytes);
    for (uint64_t n = 0; n < c->tokens / c->s * heads.q; n++) {
        head_view v = view_of(c, &heads, n / heads.q, n % heads.q);
        for (uint64_t i = 0; i < c->s; i++)
            row_backward(c, &heads, &v, n % heads.q, i);
    }
}
