/* stats.c: statistics by GSL. */
#include "stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_randist.h>
#include <gsl/gsl_sort_double.h>
#include <gsl/gsl_statistics_double.h>

#include <math.h>

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

/* Mean of n values drawn from values [n] with replacement. */
static double draw_mean(gsl_rng *rng, const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[gsl_rng_uniform_int(rng, n)];
    return sum / (double)n;
}

void tdm_stats_bootstrap_ratio(uint64_t seed, const double *a, size_t n_a, const double *b,
                               size_t n_b, size_t n_draws, double level, double *low, double *high)
{
    tdm_arena scratch = {0};
    double *ratios = TDM_ALLOC(&scratch, double, n_draws);
    gsl_rng *rng = gsl_rng_alloc(gsl_rng_mt19937);
    gsl_rng_set(rng, (unsigned long)(seed ^ seed >> 32) & 0xFFFFFFFFul);
    for (size_t i = 0; i < n_draws; i++)
        ratios[i] = draw_mean(rng, a, n_a) / draw_mean(rng, b, n_b) - 1;
    gsl_sort(ratios, 1, n_draws);
    *low = gsl_stats_quantile_from_sorted_data(ratios, 1, n_draws, (1 - level) / 2);
    *high = gsl_stats_quantile_from_sorted_data(ratios, 1, n_draws, (1 + level) / 2);
    gsl_rng_free(rng);
    tdm_arena_free(&scratch);
}
