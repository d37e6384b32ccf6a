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

/* What a confirmation adds to a plan, as bytes that another process understands. */
typedef struct confirmation {
    tdm_figures sure; /* without pointers */
    tdm_advise_score score;
    bool confirmed;
    char failure[512];
} confirmation;

static tdm_code share(tdm_arena *arena, tdm_world *world, uint32_t owner, uint32_t n_targets,
                      tdm_advise_plan *plan, tdm_error *err)
{
    confirmation *c = TDM_ALLOC(arena, confirmation, 1);
    bool mine = tdm_world_shape_of(world)->process == owner;
    if (mine) {
        c->sure = plan->sure;
        c->score = plan->sure_score;
        c->confirmed = plan->confirmed;
        snprintf(c->failure, sizeof c->failure, "%s", plan->failure ? plan->failure : "");
    }
    if (!plan->sure_values)
        plan->sure_values = TDM_ALLOC(arena, double, n_targets);
    tdm_code code = tdm_world_share(world, owner, c, sizeof *c, err);
    if (code == TDM_OK)
        code = tdm_world_share(world, owner, plan->sure_values, n_targets * sizeof(double), err);
    if (code == TDM_OK && !mine) {
        plan->sure = c->sure;
        plan->sure_score = c->score;
        plan->confirmed = c->confirmed;
        plan->failure = c->failure[0] ? c->failure : NULL;
    }
    return code;
}

/* Who confirms which plan: the longest first, each to the process with the least to do. An engine
 * takes the longer the more ops a rank has: those of its stage's layers, in every microbatch. */
static uint32_t *share_out(tdm_arena *arena, const tdm_advise_plan *plans, uint32_t n,
                           uint32_t n_processes)
{
    uint32_t *owners = TDM_ALLOC(arena, uint32_t, n);
    double *left = TDM_ALLOC(arena, double, n), *load = TDM_ALLOC(arena, double, n_processes);
    for (uint32_t i = 0; i < n; i++)
        left[i] = (double)plans[i].choice.num_microbatches / plans[i].choice.parallel.pp;
    for (uint32_t round = 0; round < n; round++) {
        uint32_t longest = 0, least = 0;
        for (uint32_t i = 1; i < n; i++)
            longest = left[i] > left[longest] ? i : longest;
        for (uint32_t p = 1; p < n_processes; p++)
            least = load[p] < load[least] ? p : least;
        owners[longest] = least;
        load[least] += left[longest];
        left[longest] = -1;
    }
    return owners;
}

tdm_code tdm_advise_confirm_all(tdm_arena *arena, const tdm_advise_options *options,
                                const tdm_scenario *scenario, tdm_advise_plan *plans, uint32_t n,
                                tdm_error *err)
{
    tdm_world *world = options->world;
    uint32_t n_processes = world ? tdm_world_shape_of(world)->n_processes : 1,
             process = world ? tdm_world_shape_of(world)->process : 0;
    const uint32_t *owners = share_out(arena, plans, n, n_processes);
    for (uint32_t i = 0; i < n; i++) {
        if (owners[i] != process)
            continue;
        if (options->progress)
            fprintf(stderr, "\rconfirming %u of %u", i + 1, n);
        tdm_advise_confirm(arena, options, scenario, &plans[i]);
    }
    if (options->progress && n > 0)
        fputc('\n', stderr);
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; world && i < n && code == TDM_OK; i++)
        code = share(arena, world, owners[i], scenario->n_targets, &plans[i], err);
    return code;
}
