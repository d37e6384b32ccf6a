/* advise_json.c: what was found, for programs. */
#include "advise.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *values_json(const tdm_scenario *scenario, const double *values)
{
    json_t *object = json_object();
    for (uint32_t i = 0; values && i < scenario->n_targets; i++)
        json_object_set_new(object, scenario->targets[i].figure, number(values[i]));
    return object;
}

static json_t *figures_json(const tdm_figures *figures)
{
    static const char *const names[] = {"step_time_s", "tokens_per_s", "bubble_fraction",
                                        "comm_exposed_fraction", "peak_memory_bytes"};
    json_t *object = json_object();
    for (size_t i = 0; i < TDM_COUNT(names); i++)
        json_object_set_new(object, names[i], number(tdm_figures_get(figures, names[i])));
    return object;
}

static json_t *score_json(const tdm_advise_score *score)
{
    return json_pack("{s:b, s:i, s:f, s:f, s:f}", "fits", score->fits, "missed",
                     (int)score->n_missed, "shortfall", score->shortfall, "cost", score->cost,
                     "distance", score->distance);
}

static json_t *plan_json(tdm_arena *arena, const tdm_scenario *scenario,
                         const tdm_advise_plan *plan)
{
    json_t *set = json_object(), *object = json_object();
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    for (tdm_advise_key key = 0; key < TDM_ADVISE_N_KEYS; key++) {
        uint32_t value = tdm_advise_value(&plan->choice, key);
        if (value != tdm_advise_value(&now, key))
            json_object_set_new(set, tdm_advise_keys[key].key,
                                json_string(tdm_advise_text(arena, key, value)));
    }
    json_object_set_new(object, "set", set);
    json_t *folded =
        json_pack("{s:o, s:o, s:o}", "score", score_json(&plan->score), "targets",
                  values_json(scenario, plan->values), "figures", figures_json(&plan->figures));
    json_object_set_new(object, "folded", folded);
    if (plan->confirmed)
        json_object_set_new(object, "confirmed",
                            json_pack("{s:o, s:o, s:o}", "score", score_json(&plan->sure_score),
                                      "targets", values_json(scenario, plan->sure_values),
                                      "figures", figures_json(&plan->sure)));
    if (plan->failure)
        json_object_set_new(object, "failure", json_string(plan->failure));
    return object;
}

static json_t *targets_json(const tdm_advise_result *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->scenario->n_targets; i++) {
        const tdm_target *target = &r->scenario->targets[i];
        json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:f, s:o, s:b, s:o, s:b}", "figure", target->figure, "kind",
                      target->is_maximum ? "max" : "min", "threshold", target->threshold,
                      "best_alone", number(r->best_alone ? r->best_alone[i] : NAN), "forbidden",
                      tdm_advise_forbidden(r->scenario, r->best_alone, i),
                      "best_with_micro_batch_kept", number(r->best_kept ? r->best_kept[i] : NAN),
                      "forbidden_with_micro_batch_kept",
                      tdm_advise_forbidden(r->scenario, r->best_kept, i)));
    }
    return list;
}

bool tdm_advise_json(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    json_t *document = json_object(), *plans = json_array();
    for (uint32_t i = 0; i < r->n_plans; i++)
        json_array_append_new(plans, plan_json(arena, r->scenario, &r->plans[i]));
    json_object_set_new(document, "scenario", json_string(r->scenario->name));
    json_object_set_new(document, "searched", json_integer((json_int_t)r->n_searched));
    json_object_set_new(document, "fit", json_integer((json_int_t)r->n_fit));
    json_object_set_new(document, "met", json_integer((json_int_t)r->n_met));
    json_object_set_new(document, "engine", r->engine ? json_string(r->engine) : json_null());
    json_object_set_new(document, "targets", targets_json(r));
    json_object_set_new(document, "now", plan_json(arena, r->scenario, &r->now));
    json_object_set_new(document, "plans", plans);
    char *text = json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    json_decref(document);
    if (!text)
        return false;
    fprintf(file, "%s\n", text);
    free(text);
    return true;
}
