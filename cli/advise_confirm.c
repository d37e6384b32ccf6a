/* advise_confirm.c: a plan predicted by an engine: the scenario is loaded again with the plan's
 * keys set, as `tandem sim --set` would, and taken through the whole pipeline. */
#include "advise.h"
#include "predict.h"

#include <string.h>

/* The first line of the messages, for one line of a report. */
static const char *first_line(tdm_arena *arena, const tdm_error *err)
{
    return tdm_arena_strndup(arena, err->text, strcspn(err->text, "\n"));
}

static tdm_code predict(tdm_arena *arena, const tdm_advise_options *options,
                        const tdm_scenario *scenario, const tdm_advise_plan *plan,
                        tdm_result *result, tdm_error *err)
{
    tdm_predict_options predict = {
        .root = options->root, .scenario_path = options->path, .engine = options->engine};
    predict.sets = tdm_advise_sets(arena, scenario, &plan->choice, &options->sets, &predict.n_sets);
    return tdm_predict(arena, &predict, result, err);
}

void tdm_advise_confirm(tdm_arena *arena, const tdm_advise_options *options,
                        const tdm_scenario *scenario, tdm_advise_plan *plan)
{
    tdm_arena scratch = {0}; /* a prediction takes far more room than its figures */
    tdm_result *result = TDM_ALLOC(&scratch, tdm_result, 1);
    tdm_error *err = TDM_ALLOC(&scratch, tdm_error, 1);
    if (predict(&scratch, options, scenario, plan, result, err) != TDM_OK) {
        plan->failure = first_line(arena, err);
    } else {
        plan->confirmed = true;
        plan->sure = result->step.figures;
        plan->sure_values = TDM_ALLOC(arena, double, scenario->n_targets);
        for (uint32_t i = 0; i < scenario->n_targets; i++)
            plan->sure_values[i] = tdm_figures_get(&plan->sure, scenario->targets[i].figure);
        plan->sure_score =
            tdm_advise_judge(scenario, &plan->choice, &plan->sure, plan->sure_values);
        plan->sure.ranks = NULL; /* theirs is the scratch arena */
        plan->sure.stages = NULL;
        plan->sure.comms = NULL;
        plan->sure.n_ranks = plan->sure.n_stages = plan->sure.n_comms = 0;
    }
    tdm_arena_free(&scratch);
}
