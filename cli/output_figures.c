/* output_figures.c: the run as a JSON document: figures.json and `--format json`. Times in seconds,
 * sizes in bytes, shares from 0 to 1; the unit is in the key. */
#include "output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sets a number; values that JSON cannot hold become null. */
static void set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_bytes(json_t *object, const char *key, uint64_t bytes)
{
    json_object_set_new(object, key, json_integer((json_int_t)bytes));
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

/* Null where all ranks were simulated. */
static json_t *folded(const tdm_result *result)
{
    if (result->fold.copies == 1)
        return json_null();
    json_t *o = json_object();
    json_object_set_new(o, "copies", json_integer(result->fold.copies));
    json_object_set_new(o, "n_simulated_ranks", json_integer(result->step.plan.mesh.world));
    json_object_set_new(o, "exact", json_boolean(result->fold.exact));
    set_text(o, "why_not_exact", result->fold.why);
    return o;
}

static json_t *layout(const tdm_plan *plan)
{
    const tdm_mesh mesh = tdm_mesh_whole(&plan->mesh);
    const struct {
        const char *name;
        uint32_t value;
    } sizes[] = {{"tp", mesh.tp},
                 {"cp", mesh.cp},
                 {"ep", mesh.ep},
                 {"etp", mesh.etp},
                 {"dp", mesh.dp},
                 {"pp", mesh.pp},
                 {"num_microbatches", plan->num_microbatches},
                 {"micro_batch_size", plan->micro_batch_size},
                 {"seq_length", plan->seq_length}};
    json_t *o = json_object();
    for (size_t i = 0; i < TDM_COUNT(sizes); i++)
        json_object_set_new(o, sizes[i].name, json_integer(sizes[i].value));
    return o;
}

static json_t *provenance(const tdm_result *result)
{
    const tdm_scenario *scenario = &result->scenario;
    bool modelled = !scenario->pass_times.given;
    char hash[32];
    snprintf(hash, sizeof hash, "fnv1a64:%016llx", (unsigned long long)result->plan_hash);
    json_t *versions = json_object();
    set_text(versions, "tandem", TANDEM_VERSION);
    set_text(versions, "jansson", jansson_version_str());
    json_t *o = json_object();
    set_text(o, "engine", result->engine);
    json_object_set_new(o, "versions", versions);
    set_text(o, "scenario", scenario->path);
    set_text(o, "schedule", result->step.plan.schedule);
    set_text(o, "model", modelled ? scenario->model.name : NULL);
    set_text(o, "topology", modelled ? scenario->topology.name : NULL);
    set_text(o, "topology_grade", modelled ? tdm_grade_name(scenario->topology.grade) : NULL);
    set_text(o, "device", modelled ? scenario->device.name : NULL);
    set_text(o, "device_grade",
             modelled ? tdm_grade_name(tdm_cost_grade(&scenario->device)) : NULL);
    set_text(o, "worst_grade", modelled ? tdm_grade_name(result->grade) : NULL);
    json_object_set_new(o, "layout", layout(&result->step.plan));
    set_text(o, "plan_hash", hash);
    json_object_set_new(o, "n_ranks", json_integer(tdm_mesh_whole(&result->step.plan.mesh).world));
    json_object_set_new(o, "n_ops", json_integer((json_int_t)result->verified.n_ops));
    json_object_set_new(o, "folded", folded(result));
    return o;
}

static json_t *scalars(const tdm_result *result)
{
    const tdm_figures *figures = &result->step.figures;
    json_t *o = json_object();
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++) {
        if (!tdm_result_has(result, info->name))
            json_object_set_new(o, info->name, json_null());
        else if (strcmp(info->unit, "bytes") == 0)
            set_bytes(o, info->name, (uint64_t)tdm_figures_get(figures, info->name));
        else
            set_real(o, info->name, tdm_figures_get(figures, info->name));
    }
    return o;
}

static json_t *waterfall(const tdm_waterfall *w)
{
    json_t *o = json_object();
    set_real(o, "compute_s", w->compute_s);
    set_real(o, "exposed_transfer_s", w->exposed_transfer_s);
    set_real(o, "peer_wait_s", w->peer_wait_s);
    set_real(o, "bubble_s", w->bubble_s);
    set_real(o, "issue_gap_s", w->issue_gap_s);
    set_real(o, "optimizer_s", w->optimizer_s);
    set_real(o, "optimizer_transfer_s", w->optimizer_transfer_s);
    set_real(o, "optimizer_wait_s", w->optimizer_wait_s);
    return o;
}

static json_t *stages(const tdm_figures *figures)
{
    json_t *list = json_array();
    for (uint32_t s = 0; s < figures->n_stages; s++) {
        const tdm_stage_figures *stage = &figures->stages[s];
        json_t *o = json_object();
        json_object_set_new(o, "stage", json_integer(s));
        set_real(o, "bubble_fraction", stage->bubble_fraction);
        set_real(o, "span_s", stage->span_s);
        set_real(o, "forward_s", stage->pass_s[0]);
        set_real(o, "backward_input_s", stage->pass_s[1]);
        set_real(o, "backward_weight_s", stage->pass_s[2]);
        set_bytes(o, "peak_memory_bytes", stage->peak_memory_bytes);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *communication(const tdm_figures *figures, uint32_t copies)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < figures->n_comms; i++) {
        const tdm_comm_figures *comm = &figures->comms[i];
        json_t *o = json_object();
        set_text(o, "kind", tdm_op_kind_name(comm->kind));
        set_text(o, "group",
                 comm->group < TDM_N_GROUP_KINDS ? tdm_group_kind_name(comm->group) : "pp");
        json_object_set_new(o, "n_calls", json_integer((json_int_t)(comm->n_calls * copies)));
        set_bytes(o, "bytes_per_rank", comm->bytes);
        set_real(o, "busy_s", comm->busy_s);
        set_real(o, "exposed_s", comm->exposed_s);
        set_real(o, "avg_s", comm->avg_s);
        set_real(o, "max_s", comm->max_s);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *ranks(const tdm_figures *figures)
{
    json_t *list = json_array();
    for (uint32_t r = 0; r < figures->n_ranks; r++) {
        const tdm_rank_figures *rank = &figures->ranks[r];
        json_t *o = json_object(), *classes = json_object();
        json_object_set_new(o, "rank", json_integer(rank->rank));
        json_object_set_new(o, "stage", json_integer(rank->stage));
        json_object_set_new(o, "waterfall", waterfall(&rank->waterfall));
        set_real(o, "compute_busy_s", rank->compute_busy_s);
        set_real(o, "comm_busy_s", rank->comm_busy_s);
        set_bytes(o, "peak_memory_bytes", rank->peak_memory_bytes);
        set_bytes(o, "live_peak_bytes", rank->live_peak_bytes);
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
            set_bytes(classes, tdm_class_name((tdm_class)c), rank->class_at_peak[c]);
        json_object_set_new(o, "class_at_peak_bytes", classes);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *memory(const tdm_result *result)
{
    json_t *o = json_object();
    uint64_t limit = tdm_memory_limit_bytes(result);
    if (limit)
        set_bytes(o, "limit_bytes", limit);
    else
        json_object_set_new(o, "limit_bytes", json_null());
    set_bytes(o, "device_bytes", (uint64_t)result->scenario.device.memory_bytes.value);
    set_bytes(o, "context_bytes", (uint64_t)result->scenario.device.context_bytes.value);
    set_bytes(o, "peak_memory_bytes", result->step.figures.peak_memory_bytes);
    const tdm_figures *f = &result->step.figures;
    json_object_set_new(o, "peak_memory_rank", json_integer(f->ranks[f->peak_memory_rank].rank));
    json_object_set_new(o, "fits", json_boolean(tdm_memory_fits(result)));
    return o;
}

static json_t *routing(const tdm_result *result)
{
    const tdm_figures *f = &result->step.figures;
    json_t *o = json_object();
    json_object_set_new(o, "hot_rank", json_integer(f->ranks[f->hot_rank].rank));
    json_object_set_new(o, "hot_layer", json_integer(f->hot_layer));
    json_object_set_new(o, "hot_expert", json_integer(f->hot_expert));
    return o;
}

static json_t *targets(const tdm_result *result, const tdm_verdict *verdicts)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < result->scenario.n_targets; i++) {
        const tdm_verdict *verdict = &verdicts[i];
        json_t *o = json_object();
        set_text(o, "label", verdict->target->label);
        set_text(o, "figure", verdict->target->figure);
        set_text(o, "unit", verdict->info->unit);
        set_text(o, "relation", verdict->target->is_maximum ? "<=" : ">=");
        set_real(o, "threshold", verdict->target->threshold);
        set_real(o, "value", verdict->value);
        json_object_set_new(o, "pass", json_boolean(verdict->pass));
        if (verdict->why)
            set_text(o, "why", verdict->why);
        json_array_append_new(list, o);
    }
    return list;
}

/* How it was carried out. */
static json_t *run_of(const tdm_run_report *run)
{
    json_t *o = json_object();
    set_text(o, "device", run->device);
    set_text(o, "transport", run->transport);
    if (run->processes.n_processes > 0) {
        set_text(o, "launcher", run->launch.name ? run->launch.name : "none");
        json_object_set_new(o, "n_processes", json_integer(run->processes.n_processes));
        json_object_set_new(o, "n_hosts", json_integer(run->processes.n_hosts));
        set_real(o, "clock_uncertainty_s", run->clock_uncertainty_s);
    }
    if (run->times_of)
        set_text(o, "times_of", run->times_of);
    set_real(o, "pace", run->pace);
    set_real(o, "late_s", run->late_s);
    json_object_set_new(o, "memory_checked", json_boolean(run->memory_checked));
    return o;
}

/* Of a prediction its one step, of a run all that were carried out. */
static json_t *steps(const tdm_result *result)
{
    const tdm_run_report *run = &result->run;
    json_t *list = json_array();
    for (uint32_t i = 0; i < (run->device ? run->n_steps : 1); i++) {
        json_t *step = json_object();
        set_real(step, "step_time_s",
                 run->device ? run->steps[i].step_s : result->step.figures.step_time_s);
        if (run->device) {
            set_real(step, "loss", run->steps[i].loss);
            set_real(step, "grad_norm", run->steps[i].grad_norm);
        }
        json_array_append_new(list, step);
    }
    return list;
}

json_t *tdm_output_figures_json(const tdm_result *result, const tdm_verdict *verdicts)
{
    const tdm_figures *figures = &result->step.figures;
    json_t *document = json_object(), *forward = json_object();
    json_object_set_new(document, "schema_version", json_integer(1));
    json_object_set_new(document, "provenance", provenance(result));
    json_object_set_new(document, "figures", scalars(result));
    json_object_set_new(document, "waterfall", waterfall(&figures->waterfall));
    json_object_set_new(document, "stages", stages(figures));
    json_object_set_new(document, "communication", communication(figures, result->fold.copies));
    if (!result->scenario.pass_times.given)
        json_object_set_new(document, "memory", memory(result));
    if (result->step.plan.routing.n_layers > 0)
        json_object_set_new(document, "routing", routing(result));
    set_real(forward, "step_time_s", result->forward.figures.step_time_s);
    json_object_set_new(forward, "waterfall", waterfall(&result->forward.figures.waterfall));
    json_object_set_new(forward, "stages", stages(&result->forward.figures));
    json_object_set_new(forward, "communication",
                        communication(&result->forward.figures, result->fold.copies));
    json_object_set_new(document, "forward_only", forward);
    json_object_set_new(document, "ranks", ranks(figures));
    json_object_set_new(document, "targets", targets(result, verdicts));
    json_object_set_new(document, "median_step", json_integer(result->run.traced_step + 1));
    json_object_set_new(document, "steps", steps(result));
    if (result->run.device)
        json_object_set_new(document, "run", run_of(&result->run));
    return document;
}

char *tdm_output_json_text(const json_t *document)
{
    /* 15 digits: more than any figure has, and no 0.10000000000000001. */
    char *text = json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    if (!text)
        return NULL;
    size_t n = strlen(text);
    char *line = realloc(text, n + 2);
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + n, "\n", 2);
    return line;
}
