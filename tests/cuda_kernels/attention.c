/* attention.c: tests of attention, with stored scores and in one kernel. */
#include "kernels.h"

#include <stdio.h>

static float *f32(const array *a)
{
    return (float *)(void *)a->data;
}

/* ---- softmax of stored scores ---- */

static double sink_at(const array *sinks, uint64_t head)
{
    return sinks ? sinks->x[head] : -INFINITY;
}

/* Row i of a head's scores, with its sink; the rest is 0. */
static void softmax_row(const double *scores, double scale, double sink, uint64_t i, uint64_t s,
                        double *out)
{
    double most = sink, sum = 0;
    for (uint64_t j = 0; j <= i; j++)
        most = fmax(most, scale * scores[j]);
    for (uint64_t j = 0; j <= i; j++)
        sum += exp(scale * scores[j] - most);
    sum += exp(sink - most);
    for (uint64_t j = 0; j < s; j++)
        out[j] = j <= i ? exp(scale * scores[j] - most) / sum : 0;
}

static void softmax(tdm_cuda_type type, uint64_t s, bool has_sinks)
{
    enum { SAMPLES = 2, HEADS = 2 };
    const double scale = 0.25;
    uint64_t rows = SAMPLES * HEADS * s;
    array scores = random_array(type, rows * s, -8, 8), d = random_array(type, rows * s, -1, 1),
          sinks = random_array(type, HEADS, -2, 2), weights = new_array(type, rows * s),
          gradient = random_array(TDM_CUDA_FP32, HEADS, -1, 1);
    double *out = zeros(rows * s), *back = zeros(rows * s), dsinks[HEADS];
    memcpy(dsinks, gradient.x, sizeof dsinks);
    for (uint64_t r = 0; r < rows; r++)
        softmax_row(scores.x + r * s, scale, sink_at(has_sinks ? &sinks : NULL, r / s % HEADS),
                    r % s, s, out + r * s);
    check(tdm_cuda_softmax(stream, type, (float)scale, scores.data, has_sinks ? sinks.data : NULL,
                           SAMPLES, HEADS, s, weights.data));
    expect_close("softmax", &weights, out); /* which from here on holds the device's weights */
    for (uint64_t r = 0; r < rows; r++) {
        const double *w = weights.x + r * s, *dw = d.x + r * s;
        double mean = 0, sum = 0;
        for (uint64_t j = 0; j <= r % s; j++) {
            mean += w[j] * dw[j];
            sum += w[j];
        }
        for (uint64_t j = 0; j <= r % s; j++)
            back[r * s + j] = scale * w[j] * (dw[j] - mean);
        dsinks[r / s % HEADS] -= (1 - sum) * mean;
    }
    void *room = device_bytes(NULL, tdm_cuda_softmax_backward_workspace(SAMPLES, HEADS, s));
    check(tdm_cuda_softmax_backward(stream, type, TDM_CUDA_FP32, (float)scale, weights.data,
                                    SAMPLES, HEADS, s, d.data, has_sinks ? gradient.data : NULL,
                                    room));
    expect_close("softmax backward", &d, back);
    if (has_sinks)
        expect_within("softmax, sinks", &gradient, dsinks, 1e-5);
    drop_bytes(room);
    drop_array(&scores);
    drop_array(&d);
    drop_array(&sinks);
    drop_array(&weights);
    drop_array(&gradient);
    free(out);
    free(back);
}

static void test_softmax(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {1, 8, 33, 72, 270};
    set_seed(31);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            for (uint64_t variant = 0; variant < (lengths[i] < 200 ? 4 : 1); variant++) {
                set_shift(variant / 2);
                softmax((tdm_cuda_type)type, lengths[i], variant % 2);
            }
    set_shift(0);
}

/* Source: Steele, Lea, Flood 2014, SplitMix64's finalizer, as backend/host/data.c. */
static double uniform(uint64_t key, uint64_t index)
{
    uint64_t z = key * 0x9E3779B97F4A7C15u + index + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static const double RATE = 0.2;
static const uint64_t KEY = 0xABCDEF;

static tdm_cuda_weights_dropout dropout_of_weights(void)
{
    return (tdm_cuda_weights_dropout){.dropout = tdm_cuda_dropout_of(RATE, KEY, 0),
                                      .first_sample = 5,
                                      .all_heads = 12,
                                      .first_head = 6};
}

/* Factor on the weight of key j for query i. */
static double kept(uint64_t sample, uint64_t head, uint64_t s, uint64_t i, uint64_t j)
{
    uint64_t place = (((5 + sample) * 12 + 6 + head) * s + i) * s + j;
    return uniform(KEY, place) >= RATE ? 1 / (1 - RATE) : 0;
}

static void test_weights_dropout(void **state)
{
    (void)state;
    enum { SAMPLES = 2, HEADS = 3, S = 17, N = SAMPLES * HEADS * S * S };
    tdm_cuda_weights_dropout d = dropout_of_weights();
    for (int type = 0; type < N_TYPES; type++) {
        array weights = random_array((tdm_cuda_type)type, N, 0, 1),
              out = new_array((tdm_cuda_type)type, N);
        double expected[N];
        unsigned char mask[N], *device = device_bytes(NULL, N);
        check(tdm_cuda_weights_dropout_forward(stream, out.type, &d, weights.data, SAMPLES, HEADS,
                                               S, out.data, device));
        read_bytes(mask, device, N);
        for (uint64_t i = 0; i < N; i++) {
            uint64_t n = i / S / S;
            double factor = kept(n / HEADS, n % HEADS, S, i / S % S, i % S);
            expected[i] = weights.x[i] * factor;
            assert_int_equal(mask[i], factor > 0);
        }
        expect_close("weights dropout", &out, expected);
        drop_array(&weights);
        drop_array(&out);
        drop_bytes(device);
    }
}

/* ---- in one kernel ---- */

typedef struct attention_case {
    uint64_t samples, s, heads, kv_heads, size;
    bool apart, has_sinks, drops, plain; /* apart: queries and keys in a tensor of their own */
} attention_case;

typedef struct tensors {
    array qkv, qk, sinks, o, lse, d_o, dqkv, dsinks;
    double *o_ref, *lse_ref, *d_ref, *dsinks_ref;
    uint64_t all; /* columns of qkv and dqkv */
} tensors;

/* One head's row of token t. */
typedef struct view {
    const double *q, *k, *v;
    uint64_t qk_step, v_step;
} view;

static view view_of(const attention_case *c, const tensors *t, uint64_t sample, uint64_t head)
{
    uint64_t group = head / (c->heads / c->kv_heads), both = (c->heads + c->kv_heads) * c->size;
    view v = {.qk_step = c->apart ? both : t->all, .v_step = t->all};
    const double *qk = (c->apart ? t->qk.x : t->qkv.x) + sample * c->s * v.qk_step;
    v.q = qk + head * c->size;
    v.k = qk + (c->heads + group) * c->size;
    v.v = t->qkv.x + sample * c->s * t->all + both + group * c->size;
    return v;
}

static double dot(const double *a, const double *b, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Forward and, by the derivative of each step, backward, for one query of one head. */
static void reference_row(const attention_case *c, tensors *t, uint64_t sample, uint64_t head,
                          uint64_t i)
{
    uint64_t d = c->size, group = head / (c->heads / c->kv_heads), token = sample * c->s + i;
    uint64_t out = (token * c->heads + head) * d;
    double scale = 1 / sqrt((double)d), *scores = zeros(c->s), *w = zeros(c->s), mean = 0;
    double sink = sink_at(c->has_sinks ? &t->sinks : NULL, head), most = sink, sum = 0;
    view v = view_of(c, t, sample, head);
    for (uint64_t j = 0; j <= i; j++) {
        scores[j] = dot(v.q + i * v.qk_step, v.k + j * v.qk_step, d);
        most = fmax(most, scale * scores[j]);
    }
    for (uint64_t j = 0; j <= i; j++)
        sum += exp(scale * scores[j] - most);
    t->lse_ref[token * c->heads + head] = most + log(sum + exp(sink - most));
    softmax_row(scores, scale, sink, i, c->s, w);
    for (uint64_t j = 0; j <= i; j++) {
        double factor = c->drops ? kept(sample, head, c->s, i, j) : 1;
        double dw = factor * dot(t->d_o.x + out, v.v + j * v.v_step, d);
        mean += w[j] * dw;
        for (uint64_t k = 0; k < d; k++)
            t->o_ref[out + k] += factor * w[j] * v.v[j * v.v_step + k];
    }
    double *dqkv = t->d_ref + sample * c->s * t->all, *dq = dqkv + i * t->all + head * d;
    for (uint64_t j = 0; j <= i; j++) {
        double factor = c->drops ? kept(sample, head, c->s, i, j) : 1;
        double dw = factor * dot(t->d_o.x + out, v.v + j * v.v_step, d);
        double dscore = scale * w[j] * (dw - mean);
        double *dk = dqkv + j * t->all + (c->heads + group) * d, *dv = dk + c->kv_heads * d;
        for (uint64_t k = 0; k < d; k++) {
            dq[k] += dscore * v.k[j * v.qk_step + k];
            dk[k] += dscore * v.q[i * v.qk_step + k];
            dv[k] += factor * w[j] * t->d_o.x[out + k];
        }
    }
    t->dsinks_ref[head] -= exp(sink - t->lse_ref[token * c->heads + head]) * mean;
    free(scores);
    free(w);
}

static tensors new_tensors(const attention_case *c, tdm_cuda_type type)
{
    uint64_t tokens = c->samples * c->s, all = (c->heads + 2 * c->kv_heads) * c->size,
             out = c->heads * c->size;
    tensors t = {.qkv = random_array(type, tokens * all, -2, 2),
                 .qk = random_array(type, tokens * (c->heads + c->kv_heads) * c->size, -2, 2),
                 .sinks = random_array(type, c->heads, -1, 2),
                 .o = new_array(type, tokens * out),
                 .lse = new_array(TDM_CUDA_FP32, tokens * c->heads),
                 .d_o = random_array(type, tokens * out, -1, 1),
                 .dqkv = new_array(type, tokens * all),
                 .dsinks = zero_array(TDM_CUDA_FP32, c->heads),
                 .o_ref = zeros(tokens * out),
                 .lse_ref = zeros(tokens * c->heads),
                 .d_ref = zeros(tokens * all),
                 .dsinks_ref = zeros(c->heads),
                 .all = all};
    for (uint64_t n = 0; n < c->samples * c->heads; n++)
        for (uint64_t i = 0; i < c->s; i++)
            reference_row(c, &t, n / c->heads, n % c->heads, i);
    return t;
}

static void drop_tensors(tensors *t)
{
    array *arrays[] = {&t->qkv, &t->qk, &t->sinks, &t->o, &t->lse, &t->d_o, &t->dqkv, &t->dsinks};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        drop_array(arrays[i]);
    free(t->o_ref);
    free(t->lse_ref);
    free(t->d_ref);
    free(t->dsinks_ref);
}

static void attention(const attention_case *c, tdm_cuda_type type)
{
    tensors t = new_tensors(c, type);
    size_t element = type == TDM_CUDA_FP32 ? 4 : 2;
    uint64_t both = (c->heads + c->kv_heads) * c->size;
    const char *qk = c->apart ? t.qk.data : t.qkv.data;
    tdm_cuda_weights_dropout dropout = dropout_of_weights();
    tdm_cuda_attention a = {.type = type,
                            .samples = c->samples,
                            .s = c->s,
                            .heads = (uint32_t)c->heads,
                            .kv_heads = (uint32_t)c->kv_heads,
                            .size = (uint32_t)c->size,
                            .scale = (float)(1 / sqrt((double)c->size)),
                            .q = qk,
                            .k = qk + c->heads * c->size * element,
                            .v = t.qkv.data + both * element,
                            .qk_step = c->apart ? both : t.all,
                            .v_step = t.all,
                            .sinks = c->has_sinks ? t.sinks.data : NULL,
                            .dropout = c->drops ? &dropout : NULL,
                            .o = t.o.data,
                            .lse = f32(&t.lse),
                            .plain = c->plain};
    char *dq = t.dqkv.data, *dk = dq + c->heads * c->size * element, *dv = dq + both * element;
    void *room = device_bytes(NULL, tdm_cuda_attention_backward_workspace(&a));
    const char *way = c->plain ? "plain" : "tensor cores";
    char name[64];
    check(tdm_cuda_attention_forward(stream, &a));
    snprintf(name, sizeof name, "attention, %s", way);
    expect_close(name, &t.o, t.o_ref);
    expect_within("attention, lse", &t.lse, t.lse_ref, type == TDM_CUDA_FP32 ? 1e-5 : 1e-4);
    check(tdm_cuda_attention_backward(stream, &a, TDM_CUDA_FP32, t.d_o.data, dq, dk, dv, t.all,
                                      c->has_sinks ? t.dsinks.data : NULL, room));
    snprintf(name, sizeof name, "attention backward, %s", way);
    expect_close(name, &t.dqkv, t.d_ref);
    if (c->has_sinks)
        expect_within("attention, sinks", &t.dsinks, t.dsinks_ref,
                      type == TDM_CUDA_FP32 ? 1e-5 : 5e-2);
    drop_bytes(room);
    drop_tensors(&t);
}

static void test_attention(void **state)
{
    (void)state;
    static const attention_case cases[] = {
        {2, 7, 2, 2, 16, false, false, false, true},  {1, 33, 4, 2, 8, true, true, false, true},
        {2, 40, 2, 1, 24, false, false, true, true},  {1, 5, 3, 1, 200, true, true, true, true},
        {1, 64, 2, 1, 64, false, false, false, true}, {1, 1, 1, 1, 64, false, true, false, true},
    };
    set_seed(32);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            set_shift(i % 2);
            attention(&cases[i], (tdm_cuda_type)type);
        }
    set_shift(0);
}

static void test_attention_tensor_cores(void **state)
{
    (void)state;
    static const attention_case cases[] = {
        {1, 64, 2, 1, 64, false, false, false, false},
        {1, 1, 1, 1, 64, false, true, false, false},
        {2, 33, 2, 2, 64, true, false, false, false},
        {1, 150, 2, 1, 64, false, true, true, false},
        {1, 128, 1, 1, 128, false, false, false, false},
        {2, 77, 4, 2, 128, true, true, false, false},
        {1, 200, 2, 2, 128, false, false, true, false},
    };
    set_seed(33);
    for (int type = 0; type < 2; type++)
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            attention(&cases[i], (tdm_cuda_type)type);
}

const struct CMUnitTest attention_tests[] = {
    cmocka_unit_test(test_softmax),
    cmocka_unit_test(test_weights_dropout),
    cmocka_unit_test(test_attention),
    cmocka_unit_test(test_attention_tensor_cores),
};
const size_t n_attention_tests = sizeof attention_tests / sizeof attention_tests[0];
