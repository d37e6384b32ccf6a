/* predict.c: from a scenario file to figures. */
#include "predict.h"

#include "core/lower.h"
#include "core/plan_text.h"
#include "sim/sim.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static tdm_code ride_on(tdm_arena *arena, const char *engine, const tdm_machine *machine,
                        const tdm_plan *plan, tdm_trace *trace, tdm_error *err)
{
    return strcmp(engine, "sim") == 0 ? tdm_sim_run(arena, plan, machine, NULL, trace, err)
                                      : tdm_analytic_run(arena, plan, machine, trace, err);
}

/* Runs the plan on the engine and takes its figures. */
static tdm_code ride(tdm_arena *arena, const char *engine, const tdm_machine *machine,
                     const tdm_plan *plan, const tdm_layout *layouts, tdm_trace *trace,
                     tdm_figures *figures, tdm_error *err)
{
    tdm_code code = ride_on(arena, engine, machine, plan, trace, err);
    if (code != TDM_OK)
        return code;
    return tdm_figures_compute(arena, plan, trace, layouts, machine, figures, err);
}

/* Carries the plan out and takes its figures. */
static tdm_code carry_out(tdm_arena *arena, const tdm_predict_options *options,
                          const tdm_result *result, const tdm_layout *layouts,
                          tdm_run_report *report, tdm_prediction *p, tdm_error *err)
{
    tdm_trace planned;
    tdm_code code = TDM_OK;
    if (options->times_of)
        code = ride_on(arena, options->times_of, &result->machine, &p->plan, &planned, err);
    if (code == TDM_OK)
        code = tdm_backend_run(arena, &p->plan, options->times_of ? &planned : NULL, options->run,
                               &p->trace, report, err);
    if (code != TDM_OK)
        return code;
    return tdm_figures_compute(arena, &p->plan, &p->trace, layouts, &result->machine, &p->figures,
                               err);
}

static tdm_code run_plan(tdm_arena *arena, const tdm_predict_options *options,
                         const tdm_result *result, const tdm_layout *layouts,
                         tdm_run_report *report, tdm_prediction *p, tdm_error *err)
{
    if (options->run)
        return carry_out(arena, options, result, layouts, report, p, err);
    return ride(arena, result->engine, &result->machine, &p->plan, layouts, &p->trace, &p->figures,
                err);
}

tdm_code tdm_predict_on(tdm_arena *arena, const tdm_result *result, const tdm_machine *machine,
                        bool forward, tdm_figures *figures, tdm_error *err)
{
    tdm_trace trace;
    tdm_figures step, latency = {.step_time_s = result->forward.figures.step_time_s};
    tdm_code code = ride(arena, result->engine, machine, &result->step.plan, result->layouts,
                         &trace, &step, err);
    if (code == TDM_OK && forward)
        code = ride(arena, result->engine, machine, &result->forward.plan, NULL, &trace, &latency,
                    err);
    if (code != TDM_OK)
        return code;
    step.forward_latency_s = latency.step_time_s;
    *figures = step;
    return TDM_OK;
}

static void take_latency(tdm_result *result)
{
    double latency_s = result->forward.figures.step_time_s;
    result->forward.figures.forward_latency_s = result->step.figures.forward_latency_s = latency_s;
}

tdm_code tdm_predict_repetition(tdm_arena *arena, tdm_result *result, uint32_t repetition,
                                tdm_error *err)
{
    tdm_prediction *step = &result->step, *forward = &result->forward;
    result->machine = tdm_machine_of(arena, &result->scenario, repetition);
    tdm_code code = ride(arena, result->engine, &result->machine, &step->plan, result->layouts,
                         &step->trace, &step->figures, err);
    if (code == TDM_OK)
        code = ride(arena, result->engine, &result->machine, &forward->plan, NULL, &forward->trace,
                    &forward->figures, err);
    if (code == TDM_OK)
        take_latency(result);
    return code;
}

typedef struct proof_plan {
    tdm_layout_proof *proof;
    const tdm_role *role; /* of the rank seen last */
    uint64_t largest_bytes;
    const tdm_plan *plan;
} proof_plan;

/* Proves the first rank of each role and every rank that needs more memory than all before it, so
 * the largest as well. The others differ from these in sizes only, which the same placer placed;
 * to prove them all takes longer than the rest of a prediction by the analytic engine. */
static tdm_code prove_some(void *context, const tdm_layout *layout, tdm_error *err)
{
    proof_plan *p = context;
    const tdm_role *role = &p->plan->roles[p->plan->role_of[layout->rank]];
    if (role == p->role && layout->arena_bytes <= p->largest_bytes)
        return TDM_OK;
    p->role = role;
    if (layout->arena_bytes > p->largest_bytes)
        p->largest_bytes = layout->arena_bytes;
    return tdm_layout_prove(p->proof, layout, err);
}

/* Places the tensors of every rank. */
static tdm_code lay_out(tdm_arena *arena, tdm_result *result, tdm_error *err)
{
    const tdm_plan *plan = &result->step.plan;
    result->layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    proof_plan p = {.proof = tdm_layout_proof_new(arena, plan), .plan = plan};
    tdm_code code = tdm_layout_build_each(arena, plan, prove_some, &p, result->layouts, err);
    tdm_layout_proof_free(p.proof);
    return code;
}

static tdm_code write_plan_text(tdm_arena *arena, tdm_result *result, tdm_error *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = open_memstream(&text, &n_bytes);
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "plan text: %s", strerror(errno));
    tdm_code code = tdm_plan_write_hashed(&result->step.plan, file, &result->plan_hash, err);
    if (fclose(file) != 0 && code == TDM_OK)
        code = tdm_error_add(err, TDM_E_INTERNAL, "plan text: %s", strerror(errno));
    if (code == TDM_OK) {
        result->plan_text = tdm_arena_strndup(arena, text, n_bytes);
        result->plan_text_bytes = n_bytes;
    }
    free(text);
    return code;
}

/* copies of the result's fold: 1 for a run that is not to be folded. */
static tdm_code find_fold(tdm_arena *arena, const tdm_predict_options *options, tdm_result *result,
                          tdm_error *err)
{
    const tdm_parallel *p = &result->scenario.parallel;
    uint64_t world = (uint64_t)p->tp * p->cp * p->dp * p->pp;
    result->fold = (tdm_fold){.copies = 1, .exact = true};
    if (options->fold == TDM_FOLD_OFF || options->run ||
        (options->fold == TDM_FOLD_AUTO && world < TDM_FOLD_FROM))
        return TDM_OK;
    result->fold = tdm_fold_find(arena, &result->scenario);
    if (options->fold == TDM_FOLD_ON && result->fold.copies == 1)
        return tdm_error_add(
            err, TDM_E_INFEASIBLE,
            "%s: the replicas cannot be folded: %s (--fold off simulates them all)",
            result->scenario.path, result->fold.why);
    if (options->fold == TDM_FOLD_AUTO && !result->fold.exact)
        result->fold.copies = 1;
    return TDM_OK;
}

const char *tdm_fold_text(tdm_arena *arena, const tdm_result *result)
{
    const tdm_fold *fold = &result->fold;
    if (fold->copies > 1) {
        const tdm_mesh *mesh = &result->step.plan.mesh;
        const char *text = tdm_arena_printf(
            arena, "%" PRIu32 " x %" PRIu32 " GPUs with %" PRIu32 " replica%s, simulated as one",
            mesh->copies, mesh->world, mesh->dp, mesh->dp == 1 ? "" : "s each");
        return fold->exact
                   ? text
                   : tdm_arena_printf(arena, "%s; %s: the first stand for all", text, fold->why);
    }
    return fold->why
               ? tdm_arena_printf(arena, "no: %s%s", fold->why,
                                  fold->exact ? "" : " (--fold on lets the first stand for all)")
               : NULL;
}

static tdm_code predict_step(tdm_arena *arena, const tdm_predict_options *options,
                             tdm_result *result, tdm_error *err)
{
    const tdm_scenario *scenario = &result->scenario;
    tdm_code code =
        tdm_lower_folded(arena, scenario, scenario->schedule, scenario->num_microbatches,
                         result->fold.copies, &result->step.plan, err);
    if (code == TDM_OK) {
        result->step.plan.programs = tdm_programs_of(arena, &result->step.plan);
        code = tdm_verify_plan(&result->step.plan, &result->verified, err);
    }
    if (code == TDM_OK && options->run)
        code = tdm_backend_check(&result->step.plan, options->run, err);
    if (code == TDM_OK)
        code = write_plan_text(arena, result, err);
    if (code == TDM_OK)
        code = lay_out(arena, result, err);
    if (code == TDM_OK)
        code = run_plan(arena, options, result, result->layouts, &result->run, &result->step, err);
    return code;
}

/* The latency of a forward pass: one microbatch, forward only, on the same machine and engine. */
static tdm_code predict_forward(tdm_arena *arena, const tdm_predict_options *options,
                                tdm_result *result, tdm_error *err)
{
    tdm_run_report ignored;
    tdm_verify_report report;
    tdm_code code = tdm_lower_folded(arena, &result->scenario, "forward-only", 1,
                                     result->fold.copies, &result->forward.plan, err);
    if (code == TDM_OK) {
        result->forward.plan.programs = tdm_programs_of(arena, &result->forward.plan);
        code = tdm_verify_plan(&result->forward.plan, &report, err);
    }
    if (code == TDM_OK)
        code = run_plan(arena, options, result, NULL, &ignored, &result->forward, err);
    if (code == TDM_OK)
        take_latency(result);
    return code;
}

static tdm_grade worst_grade(const tdm_result *result)
{
    if (result->scenario.pass_times.given)
        return TDM_GRADE_MEASURED;
    tdm_grade grade = tdm_cost_grade(&result->scenario.device);
    const tdm_grade others[] = {
        result->scenario.topology.grade, result->scenario.device.launch_s.grade,
        result->scenario.device.memory_bytes.grade, result->scenario.device.context_bytes.grade};
    for (size_t i = 0; i < TDM_COUNT(others); i++)
        grade = others[i] > grade ? others[i] : grade;
    return grade;
}

tdm_code tdm_predict_loaded(tdm_arena *arena, const tdm_predict_options *options,
                            tdm_result *result, tdm_error *err)
{
    result->engine = options->engine;
    const tdm_run_options *run = options->run;
    result->machine = tdm_machine_of(arena, &result->scenario, options->repetition);
    tdm_code code = find_fold(arena, options, result, err);
    if (code == TDM_OK)
        code = predict_step(arena, options, result, err);
    if (code == TDM_OK)
        code = predict_forward(arena, options, result, err);
    bool computed = run && strcmp(run->device, "host") == 0; /* uses no number of a device's file */
    result->grade = computed ? TDM_GRADE_MEASURED : worst_grade(result);
    return code;
}

tdm_code tdm_predict(tdm_arena *arena, const tdm_predict_options *options, tdm_result *result,
                     tdm_error *err)
{
    *result = (tdm_result){0};
    tdm_code code = tdm_scenario_load(arena, options->root, options->scenario_path, options->sets,
                                      options->n_sets, &result->scenario, err);
    return code == TDM_OK ? tdm_predict_loaded(arena, options, result, err) : code;
}

bool tdm_result_has(const tdm_result *result, const char *figure)
{
    static const char *const modelled[] = {"tokens_per_s",
                                           "mfu",
                                           "hfu",
                                           "peak_memory_bytes",
                                           "expert_efficiency",
                                           "hot_rank_share",
                                           "hot_expert_share",
                                           "dropped_fraction"};
    if (!result->scenario.pass_times.given)
        return true;
    for (size_t i = 0; i < TDM_COUNT(modelled); i++)
        if (strcmp(modelled[i], figure) == 0)
            return false;
    return true;
}

uint64_t tdm_memory_limit_bytes(const tdm_result *result)
{
    uint64_t device = (uint64_t)result->scenario.device.memory_bytes.value;
    uint64_t limit = result->scenario.memory_limit_bytes;
    return limit == 0 || (device > 0 && device < limit) ? device : limit;
}

tdm_verdict *tdm_judge(tdm_arena *arena, const tdm_result *result)
{
    const tdm_scenario *scenario = &result->scenario;
    tdm_verdict *verdicts = TDM_ALLOC(arena, tdm_verdict, scenario->n_targets);
    for (uint32_t i = 0; i < scenario->n_targets; i++) {
        const tdm_target *target = &scenario->targets[i];
        const tdm_figure_info *info = tdm_figure_infos;
        while (info->name && strcmp(info->name, target->figure) != 0)
            info++;
        assert(info->name);
        double value = tdm_figures_get(&result->step.figures, target->figure);
        bool pass = target->is_maximum ? value <= target->threshold : value >= target->threshold;
        verdicts[i] = (tdm_verdict){target, info, value, pass,
                                    pass ? NULL : tdm_explain(arena, result, target)};
    }
    return verdicts;
}
