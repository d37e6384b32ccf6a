/* advise_keys.c: what the search may change, what it costs, and how the user narrows it. */
#include "advise.h"

#include "core/scenario_parts.h"
#include "sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const tdm_advise_key_info tdm_advise_keys[TDM_ADVISE_N_KEYS] = {
    [TDM_ADVISE_TP] = {"parallel.tensor_model_parallel_size", "tp", 2},
    [TDM_ADVISE_PP] = {"parallel.pipeline_model_parallel_size", "pp", 2},
    [TDM_ADVISE_EP] = {"parallel.expert_model_parallel_size", "ep", 2},
    [TDM_ADVISE_ETP] = {"parallel.expert_tensor_parallel_size", "etp", 2},
    [TDM_ADVISE_DP] = {"parallel.data_parallel_size", "dp", 0},
    [TDM_ADVISE_VPP] = {"parallel.num_virtual_stages_per_pipeline_rank", "vpp", 1},
    [TDM_ADVISE_SP] = {"parallel.sequence_parallel", "sp", 1},
    [TDM_ADVISE_ZERO] = {"parallel.use_distributed_optimizer", "zero-1", 1},
    [TDM_ADVISE_RECOMPUTE] = {"training.recompute_granularity", "recompute", 1},
    [TDM_ADVISE_MICRO_BATCH] = {"batch.micro_batch_size", "micro-batch", 1},
    [TDM_ADVISE_MICROBATCHES] = {"schedule.num_microbatches", "microbatches", 0},
    [TDM_ADVISE_SCHEDULE] = {"schedule.name", "schedule", 1},
};

uint32_t tdm_advise_value(const tdm_fold_choice *choice, tdm_advise_key key)
{
    const tdm_parallel *p = &choice->parallel;
    uint32_t schedule = 0;
    while (tdm_schedules[schedule] != choice->schedule)
        schedule++;
    const uint32_t values[TDM_ADVISE_N_KEYS] = {
        [TDM_ADVISE_TP] = p->tp,
        [TDM_ADVISE_PP] = p->pp,
        [TDM_ADVISE_EP] = p->ep,
        [TDM_ADVISE_ETP] = p->etp,
        [TDM_ADVISE_DP] = p->dp,
        [TDM_ADVISE_VPP] = p->vpp,
        [TDM_ADVISE_SP] = p->sequence_parallel,
        [TDM_ADVISE_ZERO] = p->distributed_optimizer,
        [TDM_ADVISE_RECOMPUTE] = (uint32_t)choice->recompute,
        [TDM_ADVISE_MICRO_BATCH] = choice->micro_batch_size,
        [TDM_ADVISE_MICROBATCHES] = choice->num_microbatches,
        [TDM_ADVISE_SCHEDULE] = schedule,
    };
    return values[key];
}

const char *tdm_advise_text(tdm_arena *arena, tdm_advise_key key, uint32_t value)
{
    if (key == TDM_ADVISE_SP || key == TDM_ADVISE_ZERO)
        return value ? "true" : "false";
    if (key == TDM_ADVISE_RECOMPUTE)
        return tdm_recompute_name((tdm_recompute)value);
    if (key == TDM_ADVISE_SCHEDULE)
        return tdm_schedules[value]->name;
    return tdm_arena_printf(arena, "%u", value);
}

const char **tdm_advise_sets(tdm_arena *arena, const tdm_scenario *scenario,
                             const tdm_fold_choice *choice, const tdm_cli_strings *more, size_t *n)
{
    const char **sets = TDM_ALLOC(arena, const char *, more->n + TDM_ADVISE_N_KEYS);
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    for (*n = 0; *n < more->n; (*n)++)
        sets[*n] = more->items[*n];
    for (tdm_advise_key key = 0; key < TDM_ADVISE_N_KEYS; key++) {
        uint32_t value = tdm_advise_value(choice, key);
        if (value != tdm_advise_value(&now, key))
            sets[(*n)++] = tdm_arena_printf(arena, "%s=%s", tdm_advise_keys[key].key,
                                            tdm_advise_text(arena, key, value));
    }
    return sets;
}

/* ---- limits ---- */

static tdm_code find_key(tdm_arena *arena, const char *mark, const char *text, tdm_advise_key *key,
                         tdm_error *err)
{
    const char *canonical, *brief;
    tdm_code code = tdm_schema_key(arena, tdm_scenario_fields, text, mark, &canonical, &brief, err);
    if (code != TDM_OK)
        return code;
    for (*key = 0; *key < TDM_ADVISE_N_KEYS; (*key)++)
        if (strcmp(canonical, tdm_advise_keys[*key].key) == 0)
            return TDM_OK;
    return tdm_error_add(err, TDM_E_INVALID, "%s: %s never changes in a search", mark, canonical);
}

/* A value as a scenario writes it; false when it is none. */
static bool read_value(tdm_advise_key key, const char *text, uint32_t *value)
{
    if (key == TDM_ADVISE_SP || key == TDM_ADVISE_ZERO) {
        *value = strcmp(text, "true") == 0;
        return *value || strcmp(text, "false") == 0;
    }
    if (key == TDM_ADVISE_SCHEDULE) {
        for (*value = 0; tdm_schedules[*value]; (*value)++)
            if (strcmp(tdm_schedules[*value]->name, text) == 0)
                return true;
        return false;
    }
    if (key == TDM_ADVISE_RECOMPUTE) {
        for (*value = TDM_RECOMPUTE_NONE; *value <= TDM_RECOMPUTE_FULL; (*value)++)
            if (strcmp(tdm_recompute_name((tdm_recompute)*value), text) == 0)
                return true;
        return false;
    }
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    *value = (uint32_t)number;
    return text[0] >= '1' && text[0] <= '9' && *end == '\0' && errno == 0 && number <= UINT32_MAX;
}

static tdm_code parse_vary(tdm_arena *arena, const char *text, tdm_advise_limits *limits,
                           tdm_error *err)
{
    tdm_sweep_axis axis;
    tdm_code code = tdm_sweep_axis_parse(arena, "--vary", text, &axis, err);
    if (code != TDM_OK)
        return code;
    tdm_advise_key key;
    code = find_key(arena, "--vary", axis.keys[0], &key, err);
    if (code != TDM_OK)
        return code;
    uint32_t *values = TDM_ALLOC(arena, uint32_t, axis.n_rows);
    for (uint32_t i = 0; i < axis.n_rows; i++)
        if (!read_value(key, axis.values[i], &values[i]))
            code = tdm_error_add(err, TDM_E_INVALID, "--vary: %s: '%s' is no value of it",
                                 axis.keys[0], axis.values[i]);
    limits->keys[key].values = values;
    limits->keys[key].n = axis.n_rows;
    return code;
}

tdm_code tdm_advise_limits_parse(tdm_arena *arena, const tdm_scenario *scenario,
                                 const tdm_cli_strings *keeps, const tdm_cli_strings *varies,
                                 tdm_advise_limits *limits, tdm_error *err)
{
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    tdm_code code = TDM_OK;
    *limits = (tdm_advise_limits){0};
    for (size_t i = 0; i < varies->n; i++) {
        tdm_code one = parse_vary(arena, varies->items[i], limits, err);
        code = one != TDM_OK ? one : code;
    }
    for (size_t i = 0; i < keeps->n; i++) {
        tdm_advise_key key;
        tdm_code one = find_key(arena, "--keep", keeps->items[i], &key, err);
        code = one != TDM_OK ? one : code;
        if (one != TDM_OK)
            continue;
        limits->keys[key].values = TDM_ALLOC(arena, uint32_t, 1);
        limits->keys[key].values[0] = tdm_advise_value(&now, key);
        limits->keys[key].n = 1;
    }
    return code;
}

bool tdm_advise_allows(const tdm_advise_limits *limits, tdm_advise_key key, uint32_t value)
{
    for (uint32_t i = 0; i < limits->keys[key].n; i++)
        if (limits->keys[key].values[i] == value)
            return true;
    return limits->keys[key].n == 0;
}
