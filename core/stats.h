/* stats.h: statistics of samples: the one door to GSL, so that a build without it replaces one
 * file. */
#ifndef TDM_STATS_H
#define TDM_STATS_H

#include "base.h"

/* Of values [n]; n >= 1. */
double tdm_stats_mean(const double *values, size_t n);
double tdm_stats_min(const double *values, size_t n);
/* Standard deviation of the n values themselves (divided by n, not n - 1): they are all ranks, not
 * a sample of them. */
double tdm_stats_sd(const double *values, size_t n);

/* The value that a standard normal variable stays below with probability p, 0 < p < 1. */
double tdm_stats_normal_quantile(double p);

/* The same of a lognormal variable with mean 1 and the coefficient of variation (standard deviation
 * over mean), which is above 0. */
double tdm_stats_lognormal_quantile(double p, double variation);

/* The value below which a share p of the ascending values [n] lies; between two of them by straight
 * lines. */
double tdm_stats_quantile(const double *ascending, size_t n, double p);

/* Ranks, counted from 1, of the ascending values of a sample of n between which the median of what
 * it is drawn from lies with the confidence; false where n is too small for it. Whatever the
 * distribution: the number of values below the median is binomial. Source: David and Nagaraja 2003,
 * Order Statistics, section 7.1. */
bool tdm_stats_median_ranks(size_t n, double confidence, size_t *low, size_t *high);

/* Shares [n] drawn from a symmetric Dirichlet distribution: at least 0, together 1. The same seed
 * gives the same shares. */
void tdm_stats_dirichlet(uint64_t seed, double concentration, size_t n, double *shares);

/* Puts values [n] in ascending order. */
void tdm_stats_sort(double *values, size_t n);

/* Place of the median of values [n]: of the lower of the two middle ones of an even number, and of
 * the first of equal ones. */
size_t tdm_stats_median_place(const double *values, size_t n);

/* Interval that holds median(a) / median(b) - 1 with the given level of confidence (0.95), by the
 * percentile bootstrap: both samples are drawn again, with replacement, n_draws times. The median
 * is that of tdm_stats_median_place. a [n_a], b [n_b], all above 0. The same seed gives the same
 * interval. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3. */
void tdm_stats_bootstrap_medians(uint64_t seed, const double *a, size_t n_a, const double *b,
                                 size_t n_b, size_t n_draws, double level, double *low,
                                 double *high);

/* A model to fit: residuals of n_points measurements, which count the less the farther they lie
 * off, and behind them n_priors of what is known beforehand, which always count. */
typedef struct tdm_stats_model {
    size_t n_points, n_priors, n_parameters;
    void (*residuals)(const void *data, const double *parameters, double *residuals);
    const void *data;
    double noise; /* residuals that are always taken for noise; 0: none */
} tdm_stats_model;

/* Fits parameters [n_parameters] from the start that they hold: least squares by Levenberg and
 * Marquardt, repeated with Tukey's bisquare weights. half_width [n_parameters]: each parameter lies
 * that near with 95 % confidence (Student's t); infinity with as many parameters as points.
 * Source: Holland and Welsch 1977, Robust regression using iteratively reweighted least-squares. */
void tdm_stats_fit_robust(const tdm_stats_model *model, double *parameters, double *half_width);

#endif
