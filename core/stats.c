/* stats.c: statistics by GSL. */
#include "stats.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_statistics_double.h>

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
