/* test_stats.c: statistics against closed forms and tables. */
#include "core/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* The median is exp(mu), the other quantiles lie symmetrically around it in the logarithm. */
static void test_lognormal(void **state)
{
    (void)state;
    for (double variation = 0.01; variation < 3; variation *= 3) {
        double variance = log(1 + variation * variation), median = exp(-variance / 2);
        near(tdm_stats_lognormal_quantile(0.5, variation), median, 1e-12);
        for (double p = 0.001; p < 0.5; p *= 2) {
            double low = tdm_stats_lognormal_quantile(p, variation);
            near(low * tdm_stats_lognormal_quantile(1 - p, variation), median * median, 1e-9);
            near(log(low / median) / sqrt(variance), tdm_stats_normal_quantile(p), 1e-9);
        }
    }
}

/* Mean and deviation by integration over the quantiles. */
static void test_lognormal_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    double sum = 0, squares = 0, variation = 0.2;
    for (int i = 0; i < N; i++) {
        double x = tdm_stats_lognormal_quantile((i + 0.5) / N, variation);
        sum += x;
        squares += x * x;
    }
    near(sum / N, 1, 1e-5);
    near(sqrt(squares / N - sum / N * sum / N), variation, 1e-3);
}

/* A median is drawn as often as by drawing all n values again and counting. */
static void test_bootstrap_of_medians(void **state)
{
    (void)state;
    enum { N = 6, N_DRAWS = 20000 };
    static const double values[N] = {5, 1, 4, 2, 8, 3}, one[] = {1};
    const double levels[] = {0.5, 0.8, 0.95};
    assert_int_equal(tdm_stats_median_place(values, N), 5);
    assert_int_equal(tdm_stats_median_place((const double[]){2, 1, 2, 2}, 4), 0);
    double medians[N_DRAWS];
    uint32_t random = 1;
    for (int i = 0; i < N_DRAWS; i++) {
        double drawn[N];
        for (int k = 0; k < N; k++) {
            random = random * 1664525u + 1013904223u; /* Source: Knuth 1998, section 3.3.4 */
            drawn[k] = values[(random >> 16) % N];
        }
        tdm_stats_sort(drawn, N);
        medians[i] = drawn[(N - 1) / 2];
    }
    tdm_stats_sort(medians, N_DRAWS);
    for (size_t i = 0; i < TDM_COUNT(levels); i++) {
        double low, high;
        tdm_stats_bootstrap_medians(7, values, N, one, 1, N_DRAWS, levels[i], &low, &high);
        near(low + 1, tdm_stats_quantile(medians, N_DRAWS, (1 - levels[i]) / 2), 0);
        near(high + 1, tdm_stats_quantile(medians, N_DRAWS, (1 + levels[i]) / 2), 0);
        tdm_stats_bootstrap_medians(7, one, 1, values, N, N_DRAWS, levels[i], &low, &high);
        near(1 / (high + 1), tdm_stats_quantile(medians, N_DRAWS, (1 - levels[i]) / 2), 1e-12);
    }
}

static void test_quantile(void **state)
{
    (void)state;
    static const double values[] = {1, 2, 4, 8, 16};
    near(tdm_stats_quantile(values, 5, 0.5), 4, 0);
    near(tdm_stats_quantile(values, 5, 0), 1, 0);
    near(tdm_stats_quantile(values, 5, 1), 16, 0);
    near(tdm_stats_quantile(values, 5, 0.625), 6, 1e-15);
    near(tdm_stats_quantile(values, 1, 0.05), 1, 0);
}

/* Probability that more than k and fewer than n - k of n fair coins show heads. */
static double middle(size_t n, size_t k)
{
    double term = pow(0.5, (double)n), outside = 0;
    for (size_t i = 0; i <= k; i++) {
        outside += 2 * term;
        term *= (double)(n - i) / (double)(i + 1);
    }
    return 1 - outside;
}

/* The narrowest symmetric pair of ranks that covers the median often enough. */
static void test_median_ranks(void **state)
{
    (void)state;
    size_t low, high;
    for (size_t n = 1; n < 6; n++)
        assert_false(tdm_stats_median_ranks(n, 0.95, &low, &high));
    for (size_t n = 6; n < 400; n++) {
        assert_true(tdm_stats_median_ranks(n, 0.95, &low, &high));
        assert_int_equal(low + high, n + 1);
        assert_true(middle(n, low - 1) >= 0.95 && middle(n, low) < 0.95);
    }
}

enum { N_LINE = 20 };

/* A line 1 + 2 x; two points are far off it. */
static void line_residuals(const void *data, const double *p, double *residuals)
{
    const double *y = data;
    for (int i = 0; i < N_LINE; i++)
        residuals[i] = p[0] + p[1] * i - y[i];
}

static void test_robust(void **state)
{
    (void)state;
    double y[N_LINE], p[2] = {0, 0}, width[2];
    for (int i = 0; i < N_LINE; i++)
        y[i] = 1 + 2 * i + 0.01 * sin(7.0 * i);
    y[5] += 30;
    y[12] -= 100;
    const tdm_stats_model model = {
        .n_points = N_LINE, .n_parameters = 2, .residuals = line_residuals, .data = y};
    tdm_stats_fit_robust(&model, p, width);
    assert_true(fabs(p[0] - 1) < 0.02 && fabs(p[1] - 2) < 0.002);
    assert_true(fabs(p[0] - 1) <= width[0] && width[0] < 0.1);
    assert_true(fabs(p[1] - 2) <= width[1] && width[1] < 0.01);
}

static void two_points(const void *data, const double *p, double *residuals)
{
    (void)data;
    residuals[0] = p[0] - 1;
    residuals[1] = p[0] + p[1] - 3;
    residuals[2] = 1e-3 * p[1]; /* what was thought before */
}

/* As many parameters as points: found, but nothing says how near. */
static void test_no_freedom(void **state)
{
    (void)state;
    double p[2] = {0, 0}, width[2];
    const tdm_stats_model model = {
        .n_points = 2, .n_priors = 1, .n_parameters = 2, .residuals = two_points};
    tdm_stats_fit_robust(&model, p, width);
    near(p[0], 1, 1e-4);
    near(p[1], 2, 1e-4);
    assert_true(isinf(width[0]) && isinf(width[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lognormal),    cmocka_unit_test(test_lognormal_moments),
        cmocka_unit_test(test_quantile),     cmocka_unit_test(test_bootstrap_of_medians),
        cmocka_unit_test(test_median_ranks), cmocka_unit_test(test_robust),
        cmocka_unit_test(test_no_freedom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
