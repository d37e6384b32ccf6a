/* side_figures.c: figures.json as a side of a comparison. */
#include "side.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

/* A number, or NAN. */
static double real_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static double real_or_0(const json_t *object, const char *key)
{
    double value = real_at(object, key);
    return isnan(value) ? 0 : value;
}

static const char *text_at(tdm_arena *arena, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? tdm_arena_strdup(arena, text) : NULL;
}

static uint32_t uint_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    return number >= 0 && number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
}

static tdm_waterfall waterfall(const json_t *o)
{
    return (tdm_waterfall){
        .compute_s = real_or_0(o, "compute_s"),
        .exposed_transfer_s = real_or_0(o, "exposed_transfer_s"),
        .peer_wait_s = real_or_0(o, "peer_wait_s"),
        .bubble_s = real_or_0(o, "bubble_s"),
        .issue_gap_s = real_or_0(o, "issue_gap_s"),
        .optimizer_s = real_or_0(o, "optimizer_s"),
        .optimizer_transfer_s = real_or_0(o, "optimizer_transfer_s"),
        .optimizer_wait_s = real_or_0(o, "optimizer_wait_s"),
    };
}

static void read_scalars(const json_t *figures, tdm_side *side)
{
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        side->figures[i] = real_at(figures, tdm_figure_infos[i].name);
}

static void read_ranks(tdm_arena *arena, const json_t *list, tdm_side *side)
{
    size_t n = json_array_size(list);
    side->ranks = TDM_ALLOC(arena, tdm_side_rank, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        uint32_t rank = uint_at(o, "rank");
        if (rank == UINT32_MAX)
            continue;
        side->ranks[side->n_ranks++] = (tdm_side_rank){
            .rank = rank,
            .stage = uint_at(o, "stage"),
            .waterfall = waterfall(json_object_get(o, "waterfall")),
            .compute_busy_s = real_at(o, "compute_busy_s"),
            .comm_busy_s = real_at(o, "comm_busy_s"),
            .peak_memory_bytes = real_at(o, "peak_memory_bytes"),
        };
    }
}

static void read_stages(tdm_arena *arena, const json_t *list, tdm_side *side)
{
    size_t n = json_array_size(list);
    side->stages = TDM_ALLOC(arena, tdm_side_stage, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        uint32_t stage = uint_at(o, "stage");
        if (stage == UINT32_MAX)
            continue;
        side->stages[side->n_stages++] = (tdm_side_stage){
            .stage = stage,
            .bubble_fraction = real_at(o, "bubble_fraction"),
            .span_s = real_at(o, "span_s"),
            .forward_s = real_at(o, "forward_s"),
            .backward_input_s = real_at(o, "backward_input_s"),
            .backward_weight_s = real_at(o, "backward_weight_s"),
            .peak_memory_bytes = real_at(o, "peak_memory_bytes"),
        };
    }
}

static void read_comms(tdm_arena *arena, const json_t *list, tdm_side *side)
{
    size_t n = json_array_size(list);
    side->comms = TDM_ALLOC(arena, tdm_side_comm, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        const char *kind = text_at(arena, o, "kind"), *group = text_at(arena, o, "group");
        if (!kind || !group)
            continue;
        side->comms[side->n_comms++] = (tdm_side_comm){
            .kind = kind,
            .group = group,
            .n_calls = real_at(o, "n_calls"),
            .bytes_per_rank = real_at(o, "bytes_per_rank"),
            .busy_s = real_at(o, "busy_s"),
            .exposed_s = real_at(o, "exposed_s"),
            .avg_s = real_at(o, "avg_s"),
            .max_s = real_at(o, "max_s"),
        };
    }
}

/* "steps": one entry per step that was carried out, or repetition that was predicted: a number of
 * seconds or an object with step_time_s. All else is of the median one. Without the list there is
 * one step. */
static void read_steps(tdm_arena *arena, const json_t *list, tdm_side *side)
{
    size_t n = json_array_size(list);
    side->steps_s = TDM_ALLOC(arena, double, n + 1);
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        double seconds =
            json_is_number(entry) ? json_number_value(entry) : real_at(entry, "step_time_s");
        if (seconds > 0)
            side->steps_s[side->n_steps++] = seconds;
    }
    if (side->n_steps == 0)
        side->steps_s[side->n_steps++] = side->figures[tdm_side_figure("step_time_s")];
}

uint32_t tdm_side_figure(const char *name)
{
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        if (strcmp(tdm_figure_infos[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

static tdm_code check(const json_t *document, const char *path, tdm_error *err)
{
    if (!json_is_object(json_object_get(document, "figures")) ||
        !json_is_object(json_object_get(document, "waterfall")))
        return tdm_error_add(
            err, TDM_E_INVALID,
            "%s: neither figures of tandem nor a trace: it has no \"figures\" and \"waterfall\", and no \"traceEvents\" (tandem sim --format json writes figures)",
            path);
    json_int_t version = json_integer_value(json_object_get(document, "schema_version"));
    if (version != 1)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "%s: schema_version is %lld, this program reads 1 (write the figures again with tandem %s)",
            path, (long long)version, TANDEM_VERSION);
    if (!(real_at(json_object_get(document, "figures"), "step_time_s") > 0))
        return tdm_error_add(err, TDM_E_INVALID, "%s: figures.step_time_s is no time above 0",
                             path);
    return TDM_OK;
}

tdm_code tdm_side_read_figures(tdm_arena *arena, const char *path, tdm_side *side, tdm_error *err)
{
    json_error_t where;
    json_t *document = json_load_file(path, 0, &where);
    if (!document)
        return where.line < 0 ? tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, where.text)
                              : tdm_error_add(err, TDM_E_INVALID, "%s:%d:%d: no JSON: %s", path,
                                              where.line, where.column, where.text);
    tdm_code code = check(document, path, err);
    if (code == TDM_OK) {
        const json_t *from = json_object_get(document, "provenance");
        side->engine = text_at(arena, from, "engine");
        side->plan_hash = text_at(arena, from, "plan_hash");
        read_scalars(json_object_get(document, "figures"), side);
        side->waterfall = waterfall(json_object_get(document, "waterfall"));
        read_ranks(arena, json_object_get(document, "ranks"), side);
        read_stages(arena, json_object_get(document, "stages"), side);
        read_comms(arena, json_object_get(document, "communication"), side);
        read_steps(arena, json_object_get(document, "steps"), side);
    }
    json_decref(document);
    return code;
}
