/* norms.c: tests of the norms: the backward passes are held against differences of the forward
 * pass's reference as well as against its formula. */
#include "kernels.h"

static const double EPSILON = 1e-5;

/* Row of n numbers; returns by y the normed row. */
static void norm_row(bool layer, const double *x, const double *weight, uint64_t n, double *y,
                     double *mean_out, double *scale_out)
{
    double mean = 0, squares = 0;
    for (uint64_t i = 0; layer && i < n; i++)
        mean += x[i] / (double)n;
    for (uint64_t i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    double scale = 1 / sqrt(squares / (double)n + EPSILON);
    for (uint64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * scale * weight[i] + (layer ? weight[n + i] : 0);
    *mean_out = mean;
    *scale_out = scale;
}

/* Gradient of sum(dy y) by x and weight: by the chain rule through mean and deviation. */
static void norm_row_backward(bool layer, const double *x, const double *dy, const double *weight,
                              uint64_t n, double *dx, double *gradient)
{
    double mean, scale, *y = zeros(n), sum = 0, product = 0;
    norm_row(layer, x, weight, n, y, &mean, &scale);
    for (uint64_t i = 0; i < n; i++) {
        double normed = (x[i] - mean) * scale;
        gradient[i] += dy[i] * normed;
        if (layer)
            gradient[n + i] += dy[i];
        sum += dy[i] * weight[i] * scale;             /* minus the mean's gradient */
        product += dy[i] * weight[i] * (x[i] - mean); /* the scale's gradient */
    }
    for (uint64_t i = 0; i < n; i++) {
        double by_scale = -scale * scale * scale / (double)n * (x[i] - mean);
        dx[i] = dy[i] * weight[i] * scale + product * by_scale - (layer ? sum / (double)n : 0);
    }
    free(y);
}

/* The formula above against differences, so that a test of a kernel tests against the truth. */
static void test_reference(void **state)
{
    (void)state;
    enum { N = 11 };
    for (int layer = 0; layer < 2; layer++) {
        double x[N], dy[N], weight[2 * N], dx[N], gradient[2 * N] = {0}, y[N], unused;
        for (int i = 0; i < N; i++) {
            x[i] = draw(-1, 1);
            dy[i] = draw(-1, 1);
            weight[i] = draw(0.5, 1.5);
            weight[N + i] = draw(-1, 1);
        }
        norm_row_backward(layer, x, dy, weight, N, dx, gradient);
        for (int i = 0; i < N; i++) {
            double difference = 0, before = x[i];
            for (int sign = -1; sign < 2; sign += 2) {
                x[i] = before + sign * 1e-5;
                norm_row(layer, x, weight, N, y, &unused, &unused);
                for (int k = 0; k < N; k++)
                    difference += sign * dy[k] * y[k] / 2e-5;
            }
            x[i] = before;
            assert_true(fabs(difference - dx[i]) < 1e-8);
        }
    }
}

static void norm(tdm_cuda_type type, bool layer, uint64_t rows, uint64_t columns)
{
    uint64_t n = rows * columns, n_weights = (layer ? 2 : 1) * columns;
    array x = random_array(type, n, -1, 2), dy = random_array(type, n, -1, 1),
          beside = random_array(type, n, -1, 1), weight = random_array(type, n_weights, 0.5, 1.5),
          y = new_array(type, n), dx = new_array(type, n);
    double *out = zeros(n), *back = zeros(n), unused;
    void *room = device_bytes(NULL, tdm_cuda_norm_backward_workspace(columns));
    check(tdm_cuda_norm(stream, type, layer, (float)EPSILON, x.data, weight.data, rows, columns,
                        y.data));
    for (uint64_t r = 0; r < rows; r++)
        norm_row(layer, x.x + r * columns, weight.x, columns, out + r * columns, &unused, &unused);
    expect_close(layer ? "layer norm" : "rms norm", &y, out);
    for (int passes = 0; passes < 3; passes++) {
        array gradient = random_array(passes ? TDM_CUDA_FP32 : type, n_weights, -1, 1);
        double *sums = zeros(n_weights);
        memcpy(sums, gradient.x, n_weights * sizeof *sums);
        for (uint64_t r = 0; r < rows; r++)
            norm_row_backward(layer, x.x + r * columns, dy.x + r * columns, weight.x, columns,
                              back + r * columns, sums);
        for (uint64_t i = 0; passes && i < n; i++)
            back[i] += beside.x[i];
        array *to = passes == 2 ? &dy : &dx; /* the last time in place */
        check(tdm_cuda_norm_backward(stream, type, gradient.type, layer, (float)EPSILON, dy.data,
                                     x.data, passes ? beside.data : NULL, weight.data, rows,
                                     columns, to->data, gradient.data, room));
        expect_close(layer ? "layer norm backward" : "rms norm backward", to, back);
        expect_close(layer ? "layer norm gradient" : "rms norm gradient", &gradient, sums);
        drop_array(&gradient);
        free(sums);
    }
    drop_bytes(room);
    drop_array(&x);
    drop_array(&dy);
    drop_array(&beside);
    drop_array(&weight);
    drop_array(&y);
    drop_array(&dx);
    free(out);
    free(back);
}

static void test_norm(void **state)
{
    (void)state;
    static const uint64_t shapes[][2] = {{1, 8},    {3, 64},   {5, 33},    {40, 136},
                                         {7, 1000}, {2, 4104}, {2, 13000}, {530, 16}};
    set_seed(3);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            for (int variant = 0; variant < (shapes[i][0] * shapes[i][1] < 8000 ? 4 : 2);
                 variant++) {
                set_shift(variant < 2 ? 0 : 1);
                norm((tdm_cuda_type)type, variant % 2, shapes[i][0], shapes[i][1]);
            }
    set_shift(0);
}

static void head_norm(tdm_cuda_type type, bool layer, uint64_t tokens, uint64_t size)
{
    enum { Q = 4, K = 2 };
    uint64_t columns = (Q + 2 * K) * size, n = (layer ? 2 : 1) * size, rows = tokens * (Q + K);
    array x = random_array(type, tokens * columns, -1, 2),
          d = random_array(type, tokens * columns, -1, 1), q = random_array(type, n, 0.5, 1.5),
          k = random_array(type, n, 0.5, 1.5), y = new_array(type, rows * size),
          dq = random_array(TDM_CUDA_FP32, n, -1, 1), dk = random_array(TDM_CUDA_FP32, n, -1, 1);
    double *out = zeros(rows * size), *back = zeros(d.count), *sums_q = zeros(n),
           *sums_k = zeros(n), unused;
    memcpy(back, d.x, d.count * sizeof *back);
    memcpy(sums_q, dq.x, n * sizeof *sums_q);
    memcpy(sums_k, dk.x, n * sizeof *sums_k);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t head = r % (Q + K), at = r / (Q + K) * columns + head * size;
        norm_row(layer, x.x + at, head < Q ? q.x : k.x, size, out + r * size, &unused, &unused);
        norm_row_backward(layer, x.x + at, d.x + at, head < Q ? q.x : k.x, size, back + at,
                          head < Q ? sums_q : sums_k);
    }
    void *room = device_bytes(NULL, tdm_cuda_head_norm_backward_workspace(size));
    check(tdm_cuda_head_norm(stream, type, layer, (float)EPSILON, x.data, columns, q.data, k.data,
                             tokens, Q, K, size, y.data));
    check(tdm_cuda_head_norm_backward(stream, type, TDM_CUDA_FP32, layer, (float)EPSILON, x.data,
                                      columns, q.data, k.data, tokens, Q, K, size, d.data, dq.data,
                                      dk.data, room));
    expect_close("head norm", &y, out);
    expect_close("head norm backward", &d, back);
    expect_close("head norm gradient", &dq, sums_q);
    expect_close("head norm gradient", &dk, sums_k);
    drop_bytes(room);
    drop_array(&x);
    drop_array(&d);
    drop_array(&q);
    drop_array(&k);
    drop_array(&y);
    drop_array(&dq);
    drop_array(&dk);
    free(out);
    free(back);
    free(sums_q);
    free(sums_k);
}

static void test_head_norm(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {8, 64, 31, 128, 400};
    set_seed(4);
    for (int type = 0; type < N_TYPES; type++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (int variant = 0; variant < 4; variant++) {
                set_shift(variant < 2 ? 0 : 1);
                head_norm((tdm_cuda_type)type, variant % 2, i == 0 && variant == 0 ? 700 : 9,
                          sizes[i]);
            }
    set_shift(0);
}

const struct CMUnitTest norm_tests[] = {
    cmocka_unit_test(test_reference),
    cmocka_unit_test(test_norm),
    cmocka_unit_test(test_head_norm),
};
const size_t n_norm_tests = sizeof norm_tests / sizeof norm_tests[0];
