/* step.c: tests of the loss, the optimizer, and what ranks on one GPU move. */
#include "kernels.h"

/* ---- loss ---- */

/* Two ranks share the vocabulary; what lies between the kernels is what an all-reduce does. */
typedef struct half_vocabulary {
    array logits, max, sums, dlogits;
    uint64_t first;
    double *reference; /* of dlogits */
} half_vocabulary;

static float *f32(const array *a)
{
    return (float *)(void *)a->data;
}

/* The larger, or the sum, of both goes to both. */
static void all_reduce(array *a, array *b, bool largest)
{
    const void *in[] = {a->data, b->data};
    void *out[] = {a->data, b->data};
    check(tdm_cuda_reduce(stream, TDM_CUDA_FP32, largest, in, 2, out, 2, a->count));
}

/* Softmax over both halves; returns the loss of a token whose target is a word of the whole. */
static double reference_loss(half_vocabulary *h, uint64_t token, uint64_t n, uint64_t word,
                             double scale)
{
    double most = -INFINITY, sum = 0, at_target = 0;
    for (uint64_t i = 0; i < 2 * n; i++)
        most = fmax(most, h[i / n].logits.x[token * n + i % n]);
    for (uint64_t i = 0; i < 2 * n; i++)
        sum += exp(h[i / n].logits.x[token * n + i % n] - most);
    for (uint64_t i = 0; i < 2 * n; i++) {
        double x = h[i / n].logits.x[token * n + i % n];
        h[i / n].reference[token * n + i % n] = scale * (exp(x - most) / sum - (i == word));
        at_target = i == word ? x : at_target;
    }
    return most + log(sum) - at_target;
}

static void loss(tdm_cuda_type type, uint64_t s, uint64_t n)
{
    enum { SAMPLES = 2 };
    uint64_t tokens = SAMPLES * s;
    const float scale = 0.125F;
    int32_t *words = malloc(SAMPLES * (s + 1) * sizeof *words);
    for (uint64_t i = 0; i < SAMPLES * (s + 1); i++)
        words[i] = (int32_t)draw_below(2 * n);
    int32_t *device = device_bytes(words, SAMPLES * (s + 1) * sizeof *words);
    half_vocabulary h[2];
    for (int i = 0; i < 2; i++) {
        h[i] = (half_vocabulary){.logits = random_array(TDM_CUDA_FP32, tokens * n, -8, 8),
                                 .max = new_array(TDM_CUDA_FP32, tokens),
                                 .sums = new_array(TDM_CUDA_FP32, 2 * tokens),
                                 .dlogits = new_array(type, tokens * n),
                                 .first = (uint64_t)i * n,
                                 .reference = zeros(tokens * n)};
        check(tdm_cuda_loss_max(stream, f32(&h[i].logits), tokens, n, f32(&h[i].max)));
    }
    double expected = 0.5, before = 0.5, total;
    for (uint64_t t = 0; t < tokens; t++)
        expected +=
            reference_loss(h, t, n, (uint64_t)words[t / s * (s + 1) + t % s + 1], (double)scale);
    double *sum = device_bytes(&before, sizeof before);
    all_reduce(&h[0].max, &h[1].max, true);
    for (int i = 0; i < 2; i++)
        check(tdm_cuda_loss_exp(stream, f32(&h[i].max), device, s, tokens, h[i].first, n,
                                f32(&h[i].logits), f32(&h[i].sums)));
    all_reduce(&h[0].sums, &h[1].sums, false);
    for (int i = 0; i < 2; i++) {
        check(tdm_cuda_loss(stream, f32(&h[i].sums), tokens, n, f32(&h[i].logits),
                            i == 0 ? sum : NULL));
        check(tdm_cuda_loss_backward(stream, type, scale, f32(&h[i].logits), device, s, tokens,
                                     h[i].first, n, h[i].dlogits.data));
        expect_close("loss backward", &h[i].dlogits, h[i].reference);
    }
    read_bytes(&total, sum, sizeof total);
    assert_true(fabs(total - expected) < 1e-5 * expected);
    for (int i = 0; i < 2; i++) {
        drop_array(&h[i].logits);
        drop_array(&h[i].max);
        drop_array(&h[i].sums);
        drop_array(&h[i].dlogits);
        free(h[i].reference);
    }
    drop_bytes(device);
    drop_bytes(sum);
    free(words);
}

static void test_loss(void **state)
{
    (void)state;
    static const uint64_t sizes[][2] = {{1, 4}, {3, 64}, {5, 33}, {8, 1000}, {2, 4100}};
    set_seed(21);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (uint64_t shift = 0; shift < 2; shift++) {
                set_shift(shift);
                loss((tdm_cuda_type)type, sizes[i][0], sizes[i][1]);
            }
    set_shift(0);
}

/* ---- optimizer ---- */

enum { N_PIECES = 5, N_STEPS = 3 };
static const uint64_t counts[N_PIECES] = {5000, 1, 0, 4096, 777};

typedef struct parameter {
    array weight, master, gradient, first, second;
    double *w, *m, *v; /* as they should be */
} parameter;

static parameter new_parameter(tdm_cuda_type type, tdm_cuda_type gradient_type, uint64_t count)
{
    parameter p = {.weight = random_array(type, count, -1, 1),
                   .gradient = random_array(gradient_type, count, -1, 1),
                   .first = zero_array(TDM_CUDA_FP32, count),
                   .second = zero_array(TDM_CUDA_FP32, count),
                   .w = zeros(count),
                   .m = zeros(count),
                   .v = zeros(count)};
    p.master = array_of(TDM_CUDA_FP32, count, p.weight.x);
    memcpy(p.w, p.weight.x, count * sizeof *p.w);
    return p;
}

static void drop_parameter(parameter *p)
{
    drop_array(&p->weight);
    drop_array(&p->master);
    drop_array(&p->gradient);
    drop_array(&p->first);
    drop_array(&p->second);
    free(p->w);
    free(p->m);
    free(p->v);
}

/* Source: Kingma and Ba 2015, Adam, algorithm 1. */
static void reference_adam(parameter *p, const tdm_cuda_adam *a, double scale)
{
    double steps = a->step + 1.0;
    for (uint64_t i = 0; i < p->weight.count; i++) {
        double g = scale * p->gradient.x[i];
        p->m[i] = a->beta_1 * p->m[i] + (1 - a->beta_1) * g;
        p->v[i] = a->beta_2 * p->v[i] + (1 - a->beta_2) * g * g;
        double m = p->m[i] / (1 - pow(a->beta_1, steps)), v = p->v[i] / (1 - pow(a->beta_2, steps));
        p->w[i] -= a->rate * m / (sqrt(v) + a->epsilon);
    }
}

static void adam(tdm_cuda_type type, tdm_cuda_type gradient_type, double clip)
{
    parameter p[N_PIECES];
    tdm_cuda_piece pieces[N_PIECES];
    double square = 0, norm = 0;
    for (int i = 0; i < N_PIECES; i++) {
        p[i] = new_parameter(type, gradient_type, counts[i]);
        pieces[i] = (tdm_cuda_piece){.weight = p[i].weight.data,
                                     .master = type == TDM_CUDA_FP32 ? NULL : f32(&p[i].master),
                                     .gradient = p[i].gradient.data,
                                     .first_moment = f32(&p[i].first),
                                     .second_moment = f32(&p[i].second),
                                     .count = counts[i]};
        for (uint64_t k = 0; k < counts[i]; k++)
            square += p[i].gradient.x[k] * p[i].gradient.x[k];
    }
    uint64_t blocks = tdm_cuda_pieces_number(pieces, N_PIECES);
    tdm_cuda_piece *device = device_bytes(pieces, sizeof pieces);
    array sum = new_array(TDM_CUDA_FP32, 1);
    void *room = device_bytes(NULL, tdm_cuda_squares_workspace());
    double *device_norm = device_bytes(&norm, sizeof norm);
    check(tdm_cuda_squares(stream, gradient_type, device, N_PIECES, blocks, f32(&sum), room));
    expect_close("squares", &sum, &square);
    double scale = clip > 0 ? fmin(1, clip / (sqrt(square) + 1e-6)) : 1;
    for (uint32_t step = 0; step < N_STEPS; step++) {
        tdm_cuda_adam a = {.rate = 0.01,
                           .beta_1 = 0.9,
                           .beta_2 = 0.95,
                           .epsilon = 1e-5,
                           .clip = clip,
                           .square = f32(&sum),
                           .norm = device_norm,
                           .step = step};
        check(tdm_cuda_adam_step(stream, type, gradient_type, &a, device, N_PIECES, blocks));
        for (int i = 0; i < N_PIECES; i++)
            reference_adam(&p[i], &a, scale);
    }
    for (int i = 0; i < N_PIECES; i++) {
        expect_close("adam, weight", &p[i].weight, p[i].w);
        expect_close("adam, moments", &p[i].first, p[i].m);
        expect_close("adam, moments", &p[i].second, p[i].v);
        if (type != TDM_CUDA_FP32)
            expect_close("adam, master", &p[i].master, p[i].w);
        drop_parameter(&p[i]);
    }
    read_bytes(&norm, device_norm, sizeof norm);
    assert_true(clip > 0 ? fabs(norm - sqrt(square)) < 1e-5 * norm : norm == 0);
    drop_bytes(device);
    drop_bytes(room);
    drop_bytes(device_norm);
    drop_array(&sum);
}

static void test_adam(void **state)
{
    (void)state;
    set_seed(22);
    for (int type = 0; type < N_TYPES; type++)
        for (int gradient_type = 0; gradient_type < N_TYPES; gradient_type++)
            for (uint64_t shift = 0; shift < 2; shift++) {
                set_shift(shift);
                adam((tdm_cuda_type)type, (tdm_cuda_type)gradient_type, shift ? 0 : 1);
            }
    adam(TDM_CUDA_FP32, TDM_CUDA_FP32, 1e6); /* clipping that does not clip */
    set_shift(0);
}

/* ---- between ranks ---- */

static void reduce(tdm_cuda_type type, bool largest, uint32_t n, uint64_t count)
{
    array in[8], out[3];
    const void *from[8];
    void *to[3];
    double *expected = zeros(count);
    for (uint32_t i = 0; i < n; i++) {
        in[i] = random_array(type, count, -1, 1);
        from[i] = in[i].data;
        for (uint64_t k = 0; k < count; k++)
            expected[k] = i == 0    ? in[i].x[k]
                          : largest ? fmax(expected[k], in[i].x[k])
                                    : expected[k] + in[i].x[k];
    }
    for (int i = 0; i < 3; i++) {
        out[i] = new_array(type, count);
        to[i] = out[i].data;
    }
    to[1] = in[0].data; /* in place */
    check(tdm_cuda_reduce(stream, type, largest, from, n, to, 3, count));
    for (int i = 0; i < 3; i++)
        expect_close(largest ? "reduce, largest" : "reduce, sum", i == 1 ? &in[0] : &out[i],
                     expected);
    for (uint32_t i = 0; i < n; i++)
        drop_array(&in[i]);
    for (int i = 0; i < 3; i++)
        drop_array(&out[i]);
    free(expected);
}

static void reduce_scatter(tdm_cuda_type type, uint32_t n, uint64_t count)
{
    array in[8], out[8];
    const void *from[8];
    void *to[8];
    uint64_t run = (count + n - 1) / n;
    double *expected = zeros(run * n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t rest = i * run < count ? count - i * run : 0;
        in[i] = random_array(type, count, -1, 1);
        out[i] = new_array(type, rest < run ? rest : run);
        from[i] = in[i].data;
        to[i] = out[i].data;
        for (uint64_t k = 0; k < count; k++)
            expected[k] += in[i].x[k];
    }
    check(tdm_cuda_reduce_scatter(stream, type, from, to, n, count));
    for (uint32_t i = 0; i < n; i++) {
        expect_close("reduce-scatter", &out[i], expected + i * run);
        drop_array(&in[i]);
        drop_array(&out[i]);
    }
    free(expected);
}

static void test_reduce(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 8, 1000, 1029, 4096};
    set_seed(23);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (uint32_t n = 1; n <= 8; n = 2 * n + 1) {
                set_shift(n == 3);
                reduce((tdm_cuda_type)type, i % 2, n, sizes[i]);
                reduce_scatter((tdm_cuda_type)type, n, sizes[i]);
            }
    set_shift(0);
}

static void test_copies(void **state)
{
    (void)state;
    enum { N = 200, BYTES = 40000 };
    unsigned char *before = malloc(BYTES), *after = malloc(BYTES), *expected = calloc(1, BYTES);
    tdm_cuda_copy copies[N];
    for (int i = 0; i < BYTES; i++)
        before[i] = (unsigned char)draw_below(256);
    unsigned char *from = device_bytes(before, BYTES), *to = device_bytes(expected, BYTES);
    uint64_t place = 0;
    for (int i = 0; i < N; i++) {
        uint64_t bytes = draw_below(200), source = draw_below(BYTES - 200);
        copies[i] = (tdm_cuda_copy){from + source, to + place, bytes};
        memcpy(expected + place, before + source, bytes);
        place += bytes + draw_below(3);
        place = i % 4 ? place : (place + 15) / 16 * 16;
    }
    check(tdm_cuda_copies(stream, copies, N));
    read_bytes(after, to, BYTES);
    assert_memory_equal(after, expected, BYTES);
    check(tdm_cuda_copies(stream, copies, 0));
    drop_bytes(from);
    drop_bytes(to);
    free(before);
    free(after);
    free(expected);
}

const struct CMUnitTest step_tests[] = {
    cmocka_unit_test(test_loss),
    cmocka_unit_test(test_adam),
    cmocka_unit_test(test_reduce),
    cmocka_unit_test(test_copies),
};
const size_t n_step_tests = sizeof step_tests / sizeof step_tests[0];
