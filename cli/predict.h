/* predict.h: from a scenario file to figures: what `tandem sim` does before it prints anything. */
#ifndef TDM_PREDICT_H
#define TDM_PREDICT_H

#include "backend/backend.h"
#include "core/figures.h"
#include "core/fold.h"
#include "core/verify.h"

/* Whether symmetric replicas are simulated as one. AUTO: from TDM_FOLD_FROM ranks on, where the
 * result is that of all ranks; ON: wherever it can be, with one replica's routing standing for
 * all. */
typedef enum tdm_fold_mode { TDM_FOLD_OFF, TDM_FOLD_AUTO, TDM_FOLD_ON } tdm_fold_mode;
enum { TDM_FOLD_FROM = 256 };

typedef struct tdm_predict_options {
    const char *root; /* holds scenarios/ and topologies/ */
    const char *scenario_path;
    const char *const *sets; /* [n_sets] "key=value" */
    size_t n_sets;
    const char *engine; /* "sim", "analytic", or a device that runs the plan: "host", "paced" */
    const tdm_run_options *run; /* of a device */
    const char *times_of;       /* "paced": the engine whose times it takes */
    uint32_t repetition;        /* of the scenario's perturbation, from 0 */
    tdm_fold_mode fold;
} tdm_predict_options;

/* One plan, simulated. */
typedef struct tdm_prediction {
    tdm_plan plan;
    tdm_trace trace;
    tdm_figures figures;
} tdm_prediction;

typedef struct tdm_result {
    tdm_scenario scenario;
    tdm_machine machine; /* with the scenario's perturbation; points into scenario */
    const char *engine;
    tdm_prediction step;
    tdm_prediction forward;     /* one microbatch through all stages, forward only */
    tdm_layout *layouts;        /* [n_ranks] of the step */
    tdm_verify_report verified; /* of the step */
    const char *plan_text;      /* of the step */
    size_t plan_text_bytes;
    uint64_t plan_hash; /* FNV-1a of plan_text */
    tdm_grade grade;    /* the worst of all numbers used */
    tdm_run_report run; /* of the step; without a device: nothing was run */
    tdm_fold fold;      /* copies: as the plans have them */
} tdm_result;

/* Loads, lowers, verifies, lays out, runs, measures. `result` must stay where it is: parts point at
 * each other. */
tdm_code tdm_predict(tdm_arena *arena, const tdm_predict_options *options, tdm_result *result,
                     tdm_error *err);

/* The same with the scenario loaded already, into result->scenario; of the options only
 * engine, run, repetition and fold count. */
tdm_code tdm_predict_loaded(tdm_arena *arena, const tdm_predict_options *options,
                            tdm_result *result, tdm_error *err);

/* The figures of the result's step on another machine; nothing is lowered or laid out again.
 * forward: with the forward-only plan's latency, else that of the result. */
tdm_code tdm_predict_on(tdm_arena *arena, const tdm_result *result, const tdm_machine *machine,
                        bool forward, tdm_figures *figures, tdm_error *err);
/* Predicts the result's plans again, in another repetition of the scenario's perturbation: its
 * machine, traces and figures become those. */
tdm_code tdm_predict_repetition(tdm_arena *arena, tdm_result *result, uint32_t repetition,
                                tdm_error *err);
/* Whether and how the run was folded, or why not, in one line; NULL when there is nothing to say.
 */
const char *tdm_fold_text(tdm_arena *arena, const tdm_result *result);

/* False for figures that pass times say nothing about. */
bool tdm_result_has(const tdm_result *result, const char *figure);

/* A target and how the run stands to it. */
typedef struct tdm_verdict {
    const tdm_target *target;
    const tdm_figure_info *info; /* of its figure */
    double value;
    bool pass;
    const char *why; /* for a miss: what the figures say about it; else NULL */
} tdm_verdict;

/* [scenario.n_targets] in the scenario's order. */
tdm_verdict *tdm_judge(tdm_arena *arena, const tdm_result *result);
/* One or two sentences on why the figure is what it is. */
const char *tdm_explain(tdm_arena *arena, const tdm_result *result, const tdm_target *target);

/* What one rank may use: the scenario's limit and the device's memory, whichever is less. 0:
 * unknown. */
uint64_t tdm_memory_limit_bytes(const tdm_result *result);
static inline bool tdm_memory_fits(const tdm_result *result)
{
    uint64_t limit = tdm_memory_limit_bytes(result);
    return limit == 0 || result->step.figures.peak_memory_bytes <= limit;
}

#endif
