/* rows.c: tests of kernels that work number by number or row by row. */
#include "kernels.h"

typedef struct shape {
    uint64_t rows, columns;
} shape;

static const shape shapes[] = {{1, 1}, {3, 8}, {5, 64}, {7, 33}, {2, 1000}, {33, 136}, {300, 24}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

/* Calls f for every type and shape, with arrays aligned and one number off. */
static void each(void (*f)(tdm_cuda_type type, uint64_t rows, uint64_t columns))
{
    set_seed(7);
    for (int type = 0; type < N_TYPES; type++)
        for (int i = 0; i < N_SHAPES; i++)
            for (uint64_t shift = 0; shift < 2; shift++) {
                set_shift(shift);
                f((tdm_cuda_type)type, shapes[i].rows, shapes[i].columns);
            }
    set_shift(0);
}

/* ---- random numbers ---- */

/* Source: Steele, Lea, Flood 2014, SplitMix64's finalizer, as backend/host/data.c. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t key, uint64_t index)
{
    return (double)(mix(key, index) >> 11) / 9007199254740992.0;
}

static void test_words(void **state)
{
    (void)state;
    enum { SAMPLES = 3, S = 17, N = SAMPLES * (S + 1), VOCABULARY = 50257 };
    const uint64_t key = 0x123456789ABCDEFu, first = 1000;
    int32_t words[N], *device = device_bytes(NULL, sizeof words);
    check(tdm_cuda_words(stream, key, first, SAMPLES, S, VOCABULARY, device));
    read_bytes(words, device, sizeof words);
    for (uint64_t i = 0; i < N; i++) {
        double u = uniform(mix(key, first + i / (S + 1)), i % (S + 1));
        assert_int_equal(words[i], (int32_t)(u * VOCABULARY));
    }
    drop_bytes(device);
}

static void test_start(void **state)
{
    (void)state;
    enum { ROWS = 5, COLUMNS = 2 + 3 + 4, COUNT = ROWS * COLUMNS, FIRST = 7, N_MASTER = 20 };
    tdm_cuda_shape lies = {.row0 = 11,
                           .columns = COLUMNS,
                           .width = {2, 3, 4},
                           .n_sections = 3,
                           .part = 1,
                           .n_parts = 2,
                           .bound = 0.25};
    for (int type = 0; type < N_TYPES; type++) {
        array weight = new_array((tdm_cuda_type)type, COUNT),
              master = new_array(TDM_CUDA_FP32, N_MASTER);
        double expected[COUNT];
        check(tdm_cuda_start(stream, weight.type, &lies, 99, COUNT, weight.data, FIRST, N_MASTER,
                             (float *)(void *)master.data));
        for (uint64_t i = 0; i < COUNT; i++) {
            /* Sections of both ranks: [2 2][3 3][4 4]; this is the second. */
            static const uint64_t begins[COLUMNS] = {2, 3, 7, 8, 9, 14, 15, 16, 17};
            uint64_t place = (11 + i / COLUMNS) * 18 + begins[i % COLUMNS];
            expected[i] = (2 * uniform(99, place) - 1) * 0.25;
        }
        expect_close("start", &weight, expected);
        expect_within("start", &master, expected + FIRST, 1e-7);
        lies.bound = 0;
        lies.n_start = 30;
        lies.start = 1;
        check(tdm_cuda_start(stream, weight.type, &lies, 99, COUNT, weight.data, 0, 0, NULL));
        for (uint64_t i = 0; i < COUNT; i++)
            expected[i] = i < 30;
        expect_within("start", &weight, expected, 0);
        lies.bound = 0.25;
        drop_array(&weight);
        drop_array(&master);
    }
}

/* ---- sums and dropout ---- */

static void add(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    uint64_t n = rows * columns;
    array a = random_array(type, n, -1, 1), b = random_array(type, n, -1, 1),
          out = new_array(type, n);
    double *expected = zeros(n);
    for (uint64_t i = 0; i < n; i++)
        expected[i] = a.x[i] + b.x[i];
    check(tdm_cuda_add(stream, type, a.data, b.data, n, NULL, out.data, NULL));
    expect_close("add", &out, expected);
    check(tdm_cuda_sum(stream, type, b.data, n, a.data));
    expect_close("sum", &a, expected);
    drop_array(&a);
    drop_array(&b);
    drop_array(&out);
    free(expected);
}

static void test_add(void **state)
{
    (void)state;
    each(add);
}

static void dropout(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    const double rate = 0.3;
    uint64_t n = rows * columns, key = 5, first = 1234567;
    tdm_cuda_dropout d = tdm_cuda_dropout_of(rate, key, first);
    array a = random_array(type, n, -1, 1), b = random_array(type, n, -1, 1),
          out = new_array(type, n), back = new_array(type, n);
    double *expected = zeros(n);
    unsigned char *mask = malloc(n), *device = device_bytes(NULL, n);
    check(tdm_cuda_add(stream, type, a.data, b.data, n, &d, out.data, device));
    read_bytes(mask, device, n);
    for (uint64_t i = 0; i < n; i++) {
        assert_int_equal(mask[i], uniform(key, first + i) >= rate);
        expected[i] = a.x[i] + (mask[i] ? b.x[i] / (1 - rate) : 0);
    }
    expect_close("add with dropout", &out, expected);
    check(tdm_cuda_add(stream, type, NULL, NULL, n, &d, NULL, device)); /* the mask again */
    check(tdm_cuda_dropout_backward(stream, type, device, d.scale, b.data, n, back.data));
    for (uint64_t i = 0; i < n; i++)
        expected[i] = mask[i] ? b.x[i] / (1 - rate) : 0;
    expect_close("dropout backward", &back, expected);
    drop_array(&a);
    drop_array(&b);
    drop_array(&out);
    drop_array(&back);
    drop_bytes(device);
    free(mask);
    free(expected);
}

static void test_dropout(void **state)
{
    (void)state;
    each(dropout);
}

/* ---- casts and fills ---- */

static void cast(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    uint64_t n = rows * columns;
    array from = random_array(type, n, -3, 3);
    for (int to_type = 0; to_type < N_TYPES; to_type++) {
        array to = new_array((tdm_cuda_type)to_type, n);
        double *expected = zeros(n);
        check(tdm_cuda_cast(stream, type, from.data, to.type, to.data, n));
        for (uint64_t i = 0; i < n; i++)
            expected[i] = rounded(to.type, from.x[i]);
        expect_within("cast", &to, expected, 0);
        drop_array(&to);
        free(expected);
    }
    drop_array(&from);
}

static void test_cast(void **state)
{
    (void)state;
    each(cast);
}

static void test_fill(void **state)
{
    (void)state;
    enum { N = 1000, BYTES = 777 };
    unsigned char before[N], after[N];
    for (int i = 0; i < N; i++)
        before[i] = (unsigned char)i;
    uint64_t none = UINT64_MAX, place, *first = device_bytes(&none, sizeof none);
    for (int shift = 0; shift < 20; shift++) {
        unsigned char *device = device_bytes(before, N);
        check(tdm_cuda_fill(stream, 0x04030201, device + shift, BYTES));
        check(tdm_cuda_find_other(stream, 0x04030201, device + shift, BYTES, first));
        read_bytes(after, device, N);
        for (int i = 0; i < N; i++) {
            bool inside = i >= shift && i < shift + BYTES;
            assert_int_equal(after[i], inside ? 1 + (i - shift) % 4 : before[i]);
        }
        read_bytes(&place, first, sizeof place);
        assert_true(place == UINT64_MAX);
        check(tdm_cuda_fill(stream, 0, device + shift + 100, 1));
        check(tdm_cuda_fill(stream, 0, device + shift + 500 + shift, 3));
        check(tdm_cuda_find_other(stream, 0x04030201, device + shift, BYTES, first));
        read_bytes(&place, first, sizeof place);
        assert_int_equal(place, 100);
        check(cudaMemcpyAsync(first, &none, sizeof none, cudaMemcpyHostToDevice, stream));
        check(cudaStreamSynchronize(stream));
        drop_bytes(device);
    }
    drop_bytes(first);
}

/* ---- activation ---- */

static double gelu(double x)
{
    return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

/* Of f at x, by fourth-order differences: nothing of the kernel's formula for the slope. */
static double slope(double (*f)(double), double x)
{
    const double d = 1e-3;
    return (8 * (f(x + d) - f(x - d)) - f(x + 2 * d) + f(x - 2 * d)) / (12 * d);
}

static void activation(tdm_cuda_type type, uint64_t rows, uint64_t f)
{
    for (int gated = 0; gated < 2; gated++)
        for (int biased = 0; biased < 2; biased++) {
            uint64_t wide = gated ? 2 * f : f;
            array g = random_array(type, rows * wide, -4, 4), b = random_array(type, wide, -1, 1),
                  du = random_array(type, rows * f, -1, 1), u = new_array(type, rows * f),
                  dg = new_array(type, rows * wide);
            double *out = zeros(rows * f), *back = zeros(rows * wide);
            for (uint64_t i = 0; i < rows * f; i++) {
                uint64_t row = i / f, c = i % f;
                double x = g.x[row * wide + c] + (biased ? b.x[c] : 0), d = du.x[i];
                double up = gated ? g.x[row * wide + f + c] + (biased ? b.x[f + c] : 0) : 1;
                out[i] = gated ? silu(x) * up : gelu(x);
                back[row * wide + c] = d * up * slope(gated ? silu : gelu, x);
                if (gated)
                    back[row * wide + f + c] = d * silu(x);
            }
            const void *bias = biased ? b.data : NULL;
            check(tdm_cuda_activation(stream, type, gated, g.data, bias, rows, f, u.data));
            check(tdm_cuda_activation_backward(stream, type, gated, du.data, g.data, bias, rows, f,
                                               dg.data));
            expect_close(gated ? "swiglu" : "gelu", &u, out);
            expect_close(gated ? "swiglu backward" : "gelu backward", &dg, back);
            drop_array(&g);
            drop_array(&b);
            drop_array(&du);
            drop_array(&u);
            drop_array(&dg);
            free(out);
            free(back);
        }
}

static void test_activation(void **state)
{
    (void)state;
    each(activation);
}

/* ---- biases ---- */

static void bias(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    for (uint32_t n_groups = 1; n_groups < 12; n_groups += 5) {
        uint32_t counts[16] = {0}, *device = NULL;
        for (uint64_t r = 0; r < rows; r++)
            counts[n_groups == 1 ? 0 : r * r % n_groups]++;
        if (n_groups > 1)
            device = device_bytes(counts, n_groups * sizeof counts[0]);
        array y = random_array(type, rows * columns, -1, 1),
              b = random_array(type, n_groups * columns, -1, 1);
        double *expected = zeros(rows * columns);
        tdm_cuda_type gradient_type = n_groups == 6 ? type : TDM_CUDA_FP32;
        array gradient = random_array(gradient_type, n_groups * columns, -1, 1);
        double *sums = zeros(gradient.count);
        memcpy(sums, gradient.x, gradient.count * sizeof *sums);
        uint64_t row = 0;
        for (uint32_t g = 0; g < n_groups; g++)
            for (uint32_t r = 0; r < counts[g]; r++, row++)
                for (uint64_t c = 0; c < columns; c++) {
                    expected[row * columns + c] = y.x[row * columns + c] + b.x[g * columns + c];
                    sums[g * columns + c] += y.x[row * columns + c];
                }
        void *room = device_bytes(NULL, tdm_cuda_bias_backward_workspace(n_groups, columns));
        check(tdm_cuda_bias_backward(stream, type, gradient_type, y.data, device, n_groups, rows,
                                     columns, gradient.data, room));
        check(tdm_cuda_bias(stream, type, b.data, device, n_groups, rows, columns, y.data));
        expect_close("bias", &y, expected);
        expect_close("bias backward", &gradient, sums);
        drop_bytes(room);
        if (device)
            drop_bytes(device);
        drop_array(&y);
        drop_array(&b);
        drop_array(&gradient);
        free(expected);
        free(sums);
    }
}

static void bias_fp32(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    array y = random_array(TDM_CUDA_FP32, rows * columns, -1, 1),
          b = random_array(type, columns, -1, 1);
    double *expected = zeros(rows * columns);
    for (uint64_t i = 0; i < rows * columns; i++)
        expected[i] = y.x[i] + b.x[i % columns];
    check(tdm_cuda_bias_fp32(stream, type, b.data, rows, columns, (float *)(void *)y.data));
    expect_close("bias of fp32", &y, expected);
    drop_array(&y);
    drop_array(&b);
    free(expected);
}

static void test_bias(void **state)
{
    (void)state;
    each(bias);
    each(bias_fp32);
}

/* ---- embedding ---- */

/* Words of samples of s tokens; few, so that they repeat. */
static int32_t *draw_words(uint64_t samples, uint64_t s, uint64_t vocabulary)
{
    int32_t *words = malloc(samples * (s + 1) * sizeof *words);
    assert_non_null(words);
    for (uint64_t i = 0; i < samples * (s + 1); i++)
        words[i] = (int32_t)draw_below(vocabulary);
    return words;
}

static void lookup(tdm_cuda_type type, uint64_t s, uint64_t columns)
{
    enum { SAMPLES = 2, FIRST = 5, N = 9, VOCABULARY = 19 };
    uint64_t tokens = SAMPLES * s;
    int32_t *words = draw_words(SAMPLES, s, VOCABULARY);
    int32_t *device = device_bytes(words, SAMPLES * (s + 1) * sizeof *words);
    array table = random_array(type, N * columns, -1, 1), out = new_array(type, tokens * columns),
          dout = random_array(type, tokens * columns, -1, 1);
    array gradient = random_array(s % 2 ? type : TDM_CUDA_FP32, N * columns, -1, 1);
    double *rows = zeros(tokens * columns), *sums = zeros(N * columns);
    memcpy(sums, gradient.x, N * columns * sizeof *sums);
    for (uint64_t t = 0; t < tokens; t++) {
        int64_t row = words[t / s * (s + 1) + t % s] - FIRST;
        for (uint64_t c = 0; row >= 0 && row < N && c < columns; c++) {
            rows[t * columns + c] = table.x[(uint64_t)row * columns + c];
            sums[(uint64_t)row * columns + c] += dout.x[t * columns + c];
        }
    }
    check(
        tdm_cuda_lookup(stream, type, device, s, tokens, table.data, FIRST, N, columns, out.data));
    expect_within("lookup", &out, rows, 0);
    void *room = device_bytes(NULL, tdm_cuda_lookup_backward_workspace(tokens));
    check(tdm_cuda_lookup_backward(stream, type, gradient.type, device, s, tokens, dout.data, FIRST,
                                   N, columns, gradient.data, room));
    expect_close("lookup backward", &gradient, sums);
    drop_bytes(room);
    drop_bytes(device);
    drop_array(&table);
    drop_array(&out);
    drop_array(&dout);
    drop_array(&gradient);
    free(words);
    free(rows);
    free(sums);
}

static void test_lookup(void **state)
{
    (void)state;
    each(lookup);
}

/* Rows that begin in the middle of a sample, as with sequence parallelism. */
static void position(tdm_cuda_type type, uint64_t rows, uint64_t columns)
{
    const double rate = 0.4;
    for (int drops = 0; drops < 2; drops++) {
        uint64_t s = rows < 4 ? rows : rows / 3, row0 = rows / 2, n = rows * columns, key = 77;
        tdm_cuda_dropout d = tdm_cuda_dropout_of(rate, key, 31);
        array x = random_array(type, n, -1, 1), dy = random_array(type, n, -1, 1),
              positions = random_array(type, s * columns, -1, 1), dx = new_array(type, n),
              gradient = random_array(TDM_CUDA_FP32, s * columns, -1, 1);
        double *y = zeros(n), *back = zeros(n), *sums = zeros(s * columns);
        memcpy(sums, gradient.x, gradient.count * sizeof *sums);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t at = (row0 + i / columns) % s * columns + i % columns;
            double factor = drops ? (uniform(key, 31 + i) >= rate) / (1 - rate) : 1;
            y[i] = (x.x[i] + positions.x[at]) * factor;
            back[i] = dy.x[i] * factor;
            sums[at] += back[i];
        }
        unsigned char *mask = device_bytes(NULL, n);
        check(tdm_cuda_position(stream, type, x.data, positions.data, row0, s, rows, columns,
                                drops ? &d : NULL, drops ? mask : NULL));
        check(tdm_cuda_position_backward(stream, type, TDM_CUDA_FP32, dy.data, drops ? mask : NULL,
                                         d.scale, row0, s, rows, columns, drops ? dx.data : NULL,
                                         gradient.data));
        expect_close("position", &x, y);
        expect_close("position backward", &gradient, sums);
        if (drops)
            expect_close("position backward", &dx, back);
        drop_bytes(mask);
        drop_array(&x);
        drop_array(&dy);
        drop_array(&positions);
        drop_array(&dx);
        drop_array(&gradient);
        free(y);
        free(back);
        free(sums);
    }
}

static void test_position(void **state)
{
    (void)state;
    each(position);
}

/* ---- rotary positions ---- */

static void rope(tdm_cuda_type type, uint64_t s, uint64_t size)
{
    enum { SAMPLES = 2, HEADS = 3, COLUMNS_EXTRA = 2 };
    size = size / 2 * 2;
    if (size == 0)
        return;
    uint64_t columns = (HEADS + COLUMNS_EXTRA) * size, tokens = SAMPLES * s;
    array x = random_array(type, tokens * columns, -1, 1);
    double *turned = zeros(x.count), *before = zeros(x.count);
    memcpy(turned, x.x, x.count * sizeof *turned);
    memcpy(before, x.x, x.count * sizeof *before);
    for (uint64_t t = 0; t < tokens; t++)
        for (uint64_t i = 0; i < HEADS * size / 2; i++) {
            uint64_t half = size / 2, head = i / half, k = i % half;
            uint64_t a = t * columns + head * size + k, b = a + half;
            double angle = (double)(t % s) * pow(10000, -2.0 * (double)k / (double)size);
            turned[a] = before[a] * cos(angle) - before[b] * sin(angle);
            turned[b] = before[b] * cos(angle) + before[a] * sin(angle);
        }
    float *table = device_bytes(NULL, s * size * sizeof *table);
    check(tdm_cuda_rope_table(stream, s, size, 10000, table));
    check(tdm_cuda_rope(stream, type, table, false, s, tokens, HEADS, size, columns, x.data));
    expect_close("rope", &x, turned);
    check(tdm_cuda_rope(stream, type, table, true, s, tokens, HEADS, size, columns, x.data));
    expect_close("rope and back", &x, before);
    drop_bytes(table);
    drop_array(&x);
    free(turned);
    free(before);
}

static void test_rope(void **state)
{
    (void)state;
    each(rope);
}

const struct CMUnitTest row_tests[] = {
    cmocka_unit_test(test_words),      cmocka_unit_test(test_start), cmocka_unit_test(test_add),
    cmocka_unit_test(test_dropout),    cmocka_unit_test(test_cast),  cmocka_unit_test(test_fill),
    cmocka_unit_test(test_activation), cmocka_unit_test(test_bias),  cmocka_unit_test(test_lookup),
    cmocka_unit_test(test_position),   cmocka_unit_test(test_rope),
};
const size_t n_row_tests = sizeof row_tests / sizeof row_tests[0];
