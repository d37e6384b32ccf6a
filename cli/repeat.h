/* repeat.h: a scenario predicted again and again, with other draws of its noise and stragglers, and
 * what its figures come to: `tandem sim --repeat`. */
#ifndef TDM_REPEAT_H
#define TDM_REPEAT_H

#include "output.h"
#include "table.h"

/* A figure over the repetitions. */
typedef struct tdm_spread {
    double median, low, high; /* 95 % interval of the median; NAN: too few for one */
    double p5, p95;           /* 5th and 95th percentile */
    double min, max;
} tdm_spread;

typedef struct tdm_repeat {
    uint32_t n, n_figures;
    uint32_t median;           /* the repetition of median step time, from 0 */
    const double *values;      /* [n][n_figures] as tdm_figure_infos; NAN: not known */
    const tdm_spread *spreads; /* [n_figures] */
} tdm_repeat;

/* Computes repetitions 2 to n in children, n_jobs at a time. The result is the first, and becomes
 * that of median step time. */
tdm_code tdm_repeat_run(tdm_arena *arena, tdm_result *result, uint32_t n, uint32_t n_jobs,
                        bool quiet, tdm_repeat *repeat, tdm_error *err);
/* The verdicts on the medians. */
tdm_verdict *tdm_repeat_judge(tdm_arena *arena, const tdm_result *result, const tdm_repeat *repeat);

/* For people; as an object for the document of figures, and their steps; figure by figure;
 * repetition by repetition. */
void tdm_repeat_report(tdm_arena *arena, const tdm_result *result, const tdm_repeat *repeat,
                       const tdm_verdict *verdicts, const tdm_style *style, FILE *file);
json_t *tdm_repeat_json(const tdm_result *result, const tdm_repeat *repeat);
json_t *tdm_repeat_steps_json(const tdm_repeat *repeat);
void tdm_repeat_csv(const tdm_result *result, const tdm_repeat *repeat, FILE *file);
void tdm_repeat_table(const tdm_result *result, const tdm_repeat *repeat, FILE *file);

#endif
