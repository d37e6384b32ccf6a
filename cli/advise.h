/* advise.h: the search for the least change of a scenario that meets its targets. The parts of
 * `tandem advise`:
 *
 *     keys     what may change, and what a change costs     advise_keys.c
 *     search   all legal plans, evaluated and ranked        advise_search.c
 *     confirm  the best ones in an engine                   advise_confirm.c
 *     report   for people and for programs                  advise_report.c, advise_json.c
 */
#ifndef TDM_ADVISE_H
#define TDM_ADVISE_H

#include "backend/world.h"
#include "cli.h"
#include "core/folded.h"

#include <stdio.h>

/* Keys that the search may change. The data-parallel size and the number of microbatches follow
 * from the others: the GPUs in use and the global batch stay. */
typedef enum tdm_advise_key {
    TDM_ADVISE_TP,
    TDM_ADVISE_PP,
    TDM_ADVISE_EP,
    TDM_ADVISE_ETP,
    TDM_ADVISE_DP,
    TDM_ADVISE_VPP,
    TDM_ADVISE_SP,
    TDM_ADVISE_ZERO,
    TDM_ADVISE_RECOMPUTE,
    TDM_ADVISE_MICRO_BATCH,
    TDM_ADVISE_MICROBATCHES,
    TDM_ADVISE_SCHEDULE, /* value: index into tdm_schedules */
    TDM_ADVISE_N_KEYS
} tdm_advise_key;

/* Source of the weights: what a change asks of a running project. 1: an option of the next start.
 * 2: checkpoints have to be resharded. 0: follows from the others. */
typedef struct tdm_advise_key_info {
    const char *key, *brief;
    double weight;
} tdm_advise_key_info;
extern const tdm_advise_key_info tdm_advise_keys[TDM_ADVISE_N_KEYS];

uint32_t tdm_advise_value(const tdm_fold_choice *choice, tdm_advise_key key);
/* As a scenario writes it: "4", "true", "selective", "zb-h1". */
const char *tdm_advise_text(tdm_arena *arena, tdm_advise_key key, uint32_t value);
/* "key=value" for every key, for --set. */
const char **tdm_advise_sets(tdm_arena *arena, const tdm_scenario *scenario,
                             const tdm_fold_choice *choice, const tdm_cli_strings *more, size_t *n);

/* Values that a key may have; n 0: any. */
typedef struct tdm_advise_limits {
    struct {
        uint32_t *values, n;
    } keys[TDM_ADVISE_N_KEYS];
} tdm_advise_limits;

/* From `--keep KEY` and `--vary KEY=VALUES`. */
tdm_code tdm_advise_limits_parse(tdm_arena *arena, const tdm_scenario *scenario,
                                 const tdm_cli_strings *keeps, const tdm_cli_strings *varies,
                                 tdm_advise_limits *limits, tdm_error *err);
bool tdm_advise_allows(const tdm_advise_limits *limits, tdm_advise_key key, uint32_t value);

/* How a plan stands to the scenario. */
typedef struct tdm_advise_score {
    bool fits; /* in memory */
    uint32_t n_missed;
    double shortfall; /* sum over missed targets of |value - threshold| / threshold */
    double cost;      /* weights of the keys that change */
    double distance;  /* sum over sizes of |log2(new / old)|, 1 for every other change */
    double tokens_per_s;
} tdm_advise_score;

typedef struct tdm_advise_plan {
    tdm_fold_choice choice;
    tdm_figures figures; /* folded; comms gone */
    double *values;      /* [n_targets] */
    tdm_advise_score score;
    /* By an engine. */
    bool confirmed;
    const char *failure; /* why it was not; NULL: not tried, or confirmed */
    tdm_figures sure;
    double *sure_values;
    tdm_advise_score sure_score;
} tdm_advise_plan;

typedef struct tdm_advise_result {
    const tdm_scenario *scenario;
    tdm_advise_plan now;
    tdm_advise_plan *plans; /* [n_plans] best first: the best of each tp x pp x ep x etp */
    uint32_t n_plans;
    uint64_t n_searched, n_fit, n_met;
    double *best_alone; /* [n_targets] among plans that fit; NAN: none fits */
    double *best_kept;  /* [n_targets] among those of them that keep the micro-batch */
    const char *engine; /* that confirmed; NULL: none did */
} tdm_advise_result;

typedef struct tdm_advise_options {
    const char *root, *path, *engine;
    tdm_cli_strings sets;
    tdm_advise_limits limits;
    uint32_t n_keep;  /* plans to keep, at least 1 */
    bool progress;    /* on standard error */
    tdm_world *world; /* the processes that share the work; NULL: this one is alone */
} tdm_advise_options;

bool tdm_advise_met(const tdm_target *target, double value);
/* Whether a best value is known and even that misses the target: no plan among those it was sought
 * in can meet it. best NULL: nothing was searched. */
bool tdm_advise_forbidden(const tdm_scenario *scenario, const double *best, uint32_t target);
/* Of what a rank may use: the scenario's limit, else the device's memory; 0: unknown. */
double tdm_advise_memory_bytes(const tdm_scenario *scenario);
tdm_advise_score tdm_advise_judge(const tdm_scenario *scenario, const tdm_fold_choice *choice,
                                  const tdm_figures *figures, const double *values);
/* Below 0: a is better. */
int tdm_advise_compare(const tdm_advise_score *a, const tdm_advise_score *b);

/* Calls `visit` with every legal choice within the limits, in a fixed order. */
typedef bool tdm_advise_visit(void *context, const tdm_fold_choice *choice); /* false: stop */
void tdm_advise_enumerate(const tdm_scenario *scenario, const tdm_advise_limits *limits,
                          tdm_advise_visit *visit, void *context);

/* Evaluates one choice; false when it cannot be. */
bool tdm_advise_evaluate(tdm_arena *arena, tdm_folded *folded, const tdm_scenario *scenario,
                         const tdm_fold_choice *choice, tdm_advise_plan *plan);
/* The same result on all processes of the world, and whatever their number. */
tdm_code tdm_advise_search(tdm_arena *arena, tdm_folded *folded, const tdm_scenario *scenario,
                           const tdm_advise_options *options, tdm_advise_result *result,
                           tdm_error *err);

/* Has an engine predict the plan; what goes wrong is kept in plan->failure. */
void tdm_advise_confirm(tdm_arena *arena, const tdm_advise_options *options,
                        const tdm_scenario *scenario, tdm_advise_plan *plan);

/* The same for plans [n], shared out among the processes of the world; the result is on all. */
tdm_code tdm_advise_confirm_all(tdm_arena *arena, const tdm_advise_options *options,
                                const tdm_scenario *scenario, tdm_advise_plan *plans, uint32_t n,
                                tdm_error *err);

/* What would be lost without each change; one line per changed key. */
void tdm_advise_report(tdm_arena *arena, tdm_folded *folded, const tdm_advise_result *result,
                       FILE *file);
bool tdm_advise_json(tdm_arena *arena, const tdm_advise_result *result, FILE *file);
/* "37.3 %", "141 ms", "58.6 GB". */
const char *tdm_advise_quantity(tdm_arena *arena, const char *figure, double value);
/* What the plan changes: "tp 8 -> 1, ep 8 -> 16". */
const char *tdm_advise_changes(tdm_arena *arena, const tdm_scenario *scenario,
                               const tdm_fold_choice *choice);

#endif
