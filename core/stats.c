/* stats.c: statistics by GSL. */
#include "stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_sort_double.h>
#include <gsl/gsl_statistics_double.h>

#include <math.h>
#include <string.h>

double tdm_stats_mean(const double *values, size_t n)
{
    return gsl_stats_mean(values, 1, n);
}

double tdm_stats_min(const double *values, size_t n)
{
    return gsl_stats_min(values, 1, n);
}

double tdm_stats_sd(const double *values, size_t n)
{
    return gsl_stats_sd_with_fixed_mean(values, 1, n, gsl_stats_mean(values, 1, n));
}

double tdm_stats_normal_quantile(double p)
{
    return gsl_cdf_ugaussian_Pinv(p);
}

double tdm_stats_lognormal_quantile(double p, double variation)
{
    double variance = log1p(variation * variation); /* of the logarithm */
    return gsl_cdf_lognormal_Pinv(p, -variance / 2, sqrt(variance));
}

double tdm_stats_quantile(const double *ascending, size_t n, double p)
{
    return gsl_stats_quantile_from_sorted_data(ascending, 1, n, p);
}

bool tdm_stats_median_ranks(size_t n, double confidence, size_t *low, size_t *high)
{
    double tail = (1 - confidence) / 2;
    size_t below = 0; /* so few values or fewer lie below the median with probability `tail` */
    while (gsl_cdf_binomial_P((unsigned)below, 0.5, (unsigned)n) <= tail)
        below++;
    if (below == 0)
        return false;
    *low = below;
    *high = n + 1 - below;
    return true;
}

void tdm_stats_dirichlet(uint64_t seed, double concentration, size_t n, double *shares)
{
    tdm_arena scratch = {0};
    double *alpha = TDM_ALLOC(&scratch, double, n);
    for (size_t i = 0; i < n; i++)
        alpha[i] = concentration;
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937); /* aborts when out of memory, as arenas do */
    gsl_rng_set(rng, (unsigned long)(seed ^ seed >> 32) & 0xFFFFFFFFul);
    gsl_ran_dirichlet(rng, n, alpha, shares);
    gsl_rng_free(rng);
    tdm_arena_free(&scratch);
}

void tdm_stats_sort(double *values, size_t n)
{
    gsl_sort(values, 1, n);
}

/* A sorted copy. */
static double *sorted(tdm_arena *arena, const double *values, size_t n)
{
    double *copy = TDM_ALLOC(arena, double, n);
    memcpy(copy, values, n * sizeof *values);
    gsl_sort(copy, 1, n);
    return copy;
}

size_t tdm_stats_median_place(const double *values, size_t n)
{
    tdm_arena scratch = {0};
    double median = sorted(&scratch, values, n)[(n - 1) / 2];
    size_t place = 0;
    while (values[place] < median || values[place] > median)
        place++;
    tdm_arena_free(&scratch);
    return place;
}

/* Median of n values drawn from ascending values [n] with replacement: the value under which the
 * median of n uniform numbers falls, which has a beta distribution. Source: Efron 1979, Bootstrap
 * methods: another look at the jackknife, section 3. */
static double draw_median(gsl_rng *rng, const double *ascending, size_t n)
{
    size_t below = (n - 1) / 2;
    double u = gsl_ran_beta(rng, (double)(below + 1), (double)(n - below));
    size_t place = (size_t)(u * (double)n);
    return ascending[place < n ? place : n - 1];
}

void tdm_stats_bootstrap_medians(uint64_t seed, const double *a, size_t n_a, const double *b,
                                 size_t n_b, size_t n_draws, double level, double *low,
                                 double *high)
{
    tdm_arena scratch = {0};
    double *ratios = TDM_ALLOC(&scratch, double, n_draws);
    const double *sorted_a = sorted(&scratch, a, n_a), *sorted_b = sorted(&scratch, b, n_b);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, (unsigned long)(seed ^ seed >> 32) & 0xFFFFFFFFul);
    for (size_t i = 0; i < n_draws; i++)
        ratios[i] = draw_median(rng, sorted_a, n_a) / draw_median(rng, sorted_b, n_b) - 1;
    gsl_sort(ratios, 1, n_draws);
    *low = gsl_stats_quantile_from_sorted_data(ratios, 1, n_draws, (1 - level) / 2);
    *high = gsl_stats_quantile_from_sorted_data(ratios, 1, n_draws, (1 + level) / 2);
    gsl_rng_free(rng);
    tdm_arena_free(&scratch);
}

/* ---- robust fit ---- */

typedef struct robust_fit {
    const tdm_stats_model *model;
    double *parameters, *residuals; /* one after the other: GSL's own vectors may have strides */
} robust_fit;

static int residuals_of(const gsl_vector *x, void *params, gsl_vector *f)
{
    const robust_fit *fit = params;
    for (size_t i = 0; i < x->size; i++)
        fit->parameters[i] = gsl_vector_get(x, i);
    fit->model->residuals(fit->model->data, fit->parameters, fit->residuals);
    for (size_t i = 0; i < f->size; i++)
        gsl_vector_set(f, i, fit->residuals[i]);
    return GSL_SUCCESS;
}

/* Tukey's bisquare with 95 % efficiency at normal errors. The scale is the median absolute
 * deviation over 0.6745, without the smallest residuals, as many as there are parameters, which the
 * fit makes small itself. Source: GSL's manual, Robust linear regression. */
static void weigh(const tdm_stats_model *model, const double *residuals, double *scratch,
                  double *weights)
{
    const double tuning = 4.685;
    size_t n = model->n_points,
           made_small = model->n_parameters < n / 2 ? model->n_parameters : n / 2;
    for (size_t i = 0; i < n; i++)
        scratch[i] = fabs(residuals[i]);
    gsl_sort(scratch, 1, n);
    double scale =
        gsl_stats_median_from_sorted_data(scratch + made_small, 1, n - made_small) / 0.6745;
    scale = fmax(scale, model->noise);
    for (size_t i = 0; i < n; i++) {
        double u = scale > 0 ? residuals[i] / (tuning * scale) : 0;
        weights[i] = fabs(u) < 1 ? (1 - u * u) * (1 - u * u) : 1e-6;
    }
}

/* Parameters that the measurements decide and not the priors: all of them, less the leverage of the
 * priors. */
static double n_decided(const tdm_stats_model *model, const gsl_matrix *jacobian,
                        const gsl_matrix *covariance)
{
    double decided = (double)model->n_parameters;
    for (size_t row = model->n_points; row < jacobian->size1; row++)
        for (size_t i = 0; i < jacobian->size2; i++)
            for (size_t j = 0; j < jacobian->size2; j++)
                decided -= gsl_matrix_get(jacobian, row, i) * gsl_matrix_get(covariance, i, j) *
                           gsl_matrix_get(jacobian, row, j);
    return decided;
}

static void interval(const tdm_stats_model *model, gsl_multifit_nlinear_workspace *work,
                     const double *weights, double *half_width)
{
    size_t p = model->n_parameters;
    gsl_matrix *covariance = gsl_matrix_alloc(p, p);
    const gsl_vector *f = gsl_multifit_nlinear_residual(work);
    double squares = 0, counted = 0;
    for (size_t i = 0; i < model->n_points; i++) {
        squares += gsl_vector_get(f, i) * gsl_vector_get(f, i); /* weighted already */
        counted += weights[i];
    }
    gsl_multifit_nlinear_covar(gsl_multifit_nlinear_jac(work), 0, covariance);
    double freedom = counted - n_decided(model, gsl_multifit_nlinear_jac(work), covariance);
    double student = freedom >= 1 ? gsl_cdf_tdist_Pinv(0.975, freedom) : INFINITY;
    for (size_t i = 0; i < p; i++) {
        double variance = gsl_matrix_get(covariance, i, i) * squares / freedom;
        half_width[i] = freedom >= 1 && variance >= 0 ? student * sqrt(variance) : INFINITY;
    }
    gsl_matrix_free(covariance);
}

void tdm_stats_fit_robust(const tdm_stats_model *model, double *parameters, double *half_width)
{
    enum { N_REWEIGHTED = 10, N_ITERATIONS = 200 };
    size_t n = model->n_points + model->n_priors, p = model->n_parameters;
    tdm_arena scratch = {0};
    double *weights = TDM_ALLOC(&scratch, double, n), *residuals = TDM_ALLOC(&scratch, double, n);
    double *sorted = TDM_ALLOC(&scratch, double, n);
    gsl_multifit_nlinear_parameters options = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_fdf fdf = {.f = residuals_of, .n = n, .p = p};
    robust_fit fit = {model, TDM_ALLOC(&scratch, double, p), TDM_ALLOC(&scratch, double, n)};
    fdf.params = &fit;
    gsl_multifit_nlinear_workspace *work =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &options, n, p);
    gsl_error_handler_t *handler = gsl_set_error_handler_off(); /* no progress is no error here */
    for (size_t i = 0; i < n; i++)
        weights[i] = 1;
    for (int round = 0; round < N_REWEIGHTED; round++) {
        int info;
        gsl_vector_view start = gsl_vector_view_array(parameters, p);
        gsl_vector_view w = gsl_vector_view_array(weights, n);
        gsl_multifit_nlinear_winit(&start.vector, &w.vector, &fdf, work);
        gsl_multifit_nlinear_driver(N_ITERATIONS, 1e-10, 1e-10, 0, NULL, NULL, &info, work);
        for (size_t i = 0; i < p; i++)
            parameters[i] = gsl_vector_get(gsl_multifit_nlinear_position(work), i);
        model->residuals(model->data, parameters, residuals);
        if (round + 1 < N_REWEIGHTED)
            weigh(model, residuals, sorted, weights);
    }
    interval(model, work, weights, half_width);
    gsl_multifit_nlinear_free(work);
    gsl_set_error_handler(handler);
    tdm_arena_free(&scratch);
}
