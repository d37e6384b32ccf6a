/* rows.c: what works on the residual row by row: embedding, positions, dropout, sums, activation,
 * rotation. */
#include "parts.h"

#include <math.h>
#include <string.h>

/* ---- dropout ---- */

/* Whether element i of a token's row stays; the same on whatever rank the row lies. */
static bool stays(const tdm_call *c, uint64_t key, uint64_t row, uint64_t i)
{
    uint64_t token = c->row0 + row;
    uint64_t place = tdm_call_sample(c, token) * c->s + token % c->s;
    return tdm_data_uniform(key, place * c->h + i) >= c->model->hidden_dropout;
}

static float kept_scale(const tdm_call *c)
{
    return (float)(1 / (1 - c->model->hidden_dropout));
}

/* ---- embedding ---- */

static uint64_t first_word(const tdm_call *c)
{
    return (uint64_t)c->model->vocab_size / c->plan->mesh.tp * c->rank->tp;
}

/* Row of this rank's words for a token; UINT64_MAX: another rank has it. */
static uint64_t word_row(const tdm_call *c, uint64_t token)
{
    uint64_t word = tdm_data_word(c->plan, tdm_call_sample(c, token), token % c->s);
    uint64_t first = first_word(c), n = (uint64_t)c->model->vocab_size / c->plan->mesh.tp;
    return word >= first && word < first + n ? word - first : UINT64_MAX;
}

void host_lookup(const tdm_call *c)
{
    float *out = host_f32(c, 0);
    for (uint64_t t = 0; t < c->tokens; t++) {
        uint64_t row = word_row(c, t);
        if (row == UINT64_MAX)
            memset(out + t * c->h, 0, c->h * sizeof *out);
        else
            memcpy(out + t * c->h, host_weight(c->weight) + row * c->h, c->h * sizeof *out);
    }
}

void host_lookup_wgrad(const tdm_call *c)
{
    for (uint64_t t = 0; t < c->tokens; t++) {
        uint64_t row = word_row(c, t);
        for (uint64_t i = 0; row != UINT64_MAX && i < c->h; i++)
            host_gradient(c->weight)[row * c->h + i] += host_f32(c, 0)[t * c->h + i];
    }
}

/* Adds the position's row and drops out, in place; writes the mask. */
void host_position(const tdm_call *c)
{
    float *x = host_f32(c, 0);
    bool drops = c->op->n_refs > 1;
    unsigned char *mask = drops ? c->tensors[1].data : NULL;
    uint64_t key = tdm_call_key(c, "embedding");
    for (uint64_t r = 0; r < c->residual; r++)
        for (uint64_t i = 0; i < c->h; i++) {
            uint64_t at = r * c->h + i;
            if (c->weight)
                x[at] += host_weight(c->weight)[(c->row0 + r) % c->s * c->h + i];
            if (!drops)
                continue;
            mask[at] = stays(c, key, r, i);
            x[at] = mask[at] ? x[at] * kept_scale(c) : 0;
        }
}

/* Reads the gradient and, with dropout, the mask, and writes what passes it. */
void host_position_wgrad(const tdm_call *c)
{
    bool drops = c->op->n_refs > 1;
    const unsigned char *mask = drops ? c->tensors[1].data : NULL;
    for (uint64_t at = 0; at < c->residual * c->h; at++) {
        float g = host_f32(c, 0)[at];
        if (drops)
            host_f32(c, 2)[at] = g = mask[at] ? g * kept_scale(c) : 0;
        if (c->weight)
            host_gradient(c->weight)[(c->row0 + at / c->h) % c->s * c->h + at % c->h] += g;
    }
}

/* ---- sums ---- */

/* Residual plus a half's output through dropout. A repetition for the mask's sake writes no sum. */
void host_add(const tdm_call *c)
{
    float *out = NULL;
    unsigned char *mask = NULL;
    for (uint32_t r = 2; r < c->op->n_refs; r++) {
        if (c->tensors[r].bytes == c->tensors[0].bytes)
            out = host_f32(c, r);
        else
            mask = c->tensors[r].data;
    }
    uint64_t key = tdm_call_key(c, strncmp(c->op->name, "add1", 4) == 0 ? "add1" : "add2");
    for (uint64_t r = 0; r < c->residual; r++)
        for (uint64_t i = 0; i < c->h; i++) {
            uint64_t at = r * c->h + i;
            float y = host_f32(c, 1)[at];
            if (mask) {
                mask[at] = stays(c, key, r, i);
                y = mask[at] ? y * kept_scale(c) : 0;
            }
            if (out)
                out[at] = host_f32(c, 0)[at] + y;
        }
}

void host_add_backward(const tdm_call *c)
{
    const unsigned char *mask = c->tensors[0].data;
    for (uint64_t at = 0; at < c->residual * c->h; at++)
        host_f32(c, 2)[at] = mask[at] ? host_f32(c, 1)[at] * kept_scale(c) : 0;
}

/* The second plus the first, in place. */
void host_sum(const tdm_call *c)
{
    for (uint64_t at = 0; at < c->tensors[1].bytes / sizeof(float); at++)
        host_f32(c, 1)[at] += host_f32(c, 0)[at];
}

/* ---- activation ---- */

/* Source: Hendrycks and Gimpel 2016, GELU, section 2, the approximation by tanh. */
static const float GELU_A = 0.7978845608F, GELU_B = 0.044715F; /* sqrt(2 / pi) */

static float gelu(float x)
{
    return 0.5F * x * (1 + tanhf(GELU_A * (x + GELU_B * x * x * x)));
}

static float gelu_slope(float x)
{
    float t = tanhf(GELU_A * (x + GELU_B * x * x * x));
    return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * GELU_A * (1 + 3 * GELU_B * x * x);
}

static float logistic(float x)
{
    return 1 / (1 + expf(-x));
}

/* Gated: columns [gate, up], u = silu(gate) up. Source: Shazeer 2020, GLU Variants, eq. 5. */
void host_activation(const tdm_call *c)
{
    uint64_t f = tdm_call_inner(c), rows = c->tensors[1].bytes / sizeof(float) / f;
    float *g = host_f32(c, 0), *u = host_f32(c, 1);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t i = 0; i < f; i++) {
            if (!c->model->swiglu) {
                u[r * f + i] = gelu(g[r * f + i]);
                continue;
            }
            float gate = g[2 * r * f + i], up = g[2 * r * f + f + i];
            u[r * f + i] = gate * logistic(gate) * up;
        }
}

void host_activation_backward(const tdm_call *c)
{
    uint64_t f = tdm_call_inner(c), rows = c->tensors[0].bytes / sizeof(float) / f;
    float *du = host_f32(c, 0), *g = host_f32(c, 1), *dg = host_f32(c, 2);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t i = 0; i < f; i++) {
            float d = du[r * f + i];
            if (!c->model->swiglu) {
                dg[r * f + i] = d * gelu_slope(g[r * f + i]);
                continue;
            }
            float gate = g[2 * r * f + i], up = g[2 * r * f + f + i], s = logistic(gate);
            dg[2 * r * f + i] = d * up * s * (1 + gate * (1 - s));
            dg[2 * r * f + f + i] = d * gate * s;
        }
}

/* ---- rotary positions ---- */

/* Element i of a head's first half turns with element i of its second by position / BASE^(2i / d).
 * Source: Su et al. 2021, RoFormer, section 3.2.2; halves as in Llama and GPT-NeoX. */
static void rotate(const tdm_call *c, float sign)
{
    tdm_heads heads = tdm_heads_of(c);
    uint64_t columns = c->tensors[0].bytes / sizeof(float) / c->tokens, half = heads.size / 2;
    for (uint64_t t = 0; t < c->tokens; t++)
        for (uint64_t i = 0; i < half; i++) {
            double angle =
                (double)(t % c->s) * pow(TDM_ROPE_BASE, -2.0 * (double)i / (double)heads.size);
            float cosine = (float)cos(angle), sine = sign * (float)sin(angle);
            for (uint64_t head = 0; head < heads.q + heads.kv; head++) {
                float *x = host_f32(c, 0) + t * columns + head * heads.size;
                float a = x[i], b = x[i + half];
                x[i] = a * cosine - b * sine;
                x[i + half] = b * cosine + a * sine;
            }
        }
}

void host_rope(const tdm_call *c)
{
    rotate(c, 1);
}

void host_rope_backward(const tdm_call *c)
{
    rotate(c, -1);
}
