/* sweep_row.c: what came out at a point, as a line of JSON and back. */
#include "sweep.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const status_names[TDM_SWEEP_N_STATUSES] = {
    [TDM_SWEEP_PENDING] = "pending",       [TDM_SWEEP_OK] = "ok",
    [TDM_SWEEP_NO_MEMORY] = "no-memory",   [TDM_SWEEP_INVALID] = "invalid",
    [TDM_SWEEP_INFEASIBLE] = "infeasible", [TDM_SWEEP_FAILED] = "failed",
};

const char *tdm_sweep_status_name(tdm_sweep_status status)
{
    assert((unsigned)status < TDM_SWEEP_N_STATUSES);
    return status_names[status];
}

uint32_t tdm_sweep_n_figures(void)
{
    uint32_t n = 0;
    while (tdm_figure_infos[n].name)
        n++;
    return n;
}

uint32_t tdm_sweep_figure(const char *name)
{
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        if (strcmp(tdm_figure_infos[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

/* Text that JSON can hold: bytes that are no UTF-8 become question marks. */
static json_t *text_json(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char *plain = strdup(text);
    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = plain ? json_string(plain) : NULL;
    free(plain);
    return value;
}

char *tdm_sweep_row_write(const tdm_sweep_row *row, const tdm_sweep_grid *grid, uint32_t point)
{
    char key[32];
    snprintf(key, sizeof key, "fnv1a64:%016" PRIx64, row->key);
    json_t *o = json_object(), *values = json_object();
    json_object_set_new(o, "key", json_string(key));
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        const char *value = grid->values[(size_t)point * grid->n_keys + k];
        json_object_set_new(values, grid->keys[k], value ? text_json(value) : json_null());
    }
    json_object_set_new(o, "point", values);
    json_object_set_new(o, "status", json_string(tdm_sweep_status_name(row->status)));
    json_object_set_new(o, "reason", text_json(row->reason));
    json_object_set_new(o, "plan_hash", json_string(row->plan_hash));
    if (tdm_sweep_has_figures(row)) {
        json_t *figures = json_object();
        for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
            if (isfinite(row->figures[i]))
                json_object_set_new(figures, tdm_figure_infos[i].name, json_real(row->figures[i]));
        json_object_set_new(o, "figures", figures);
    }
    /* 17 digits: what is read back is the same number. */
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(o);
    size_t n = text ? strlen(text) : 0;
    char *line = text ? realloc(text, n + 2) : NULL;
    if (!line) {
        free(text);
        return NULL;
    }
    memcpy(line + n, "\n", 2);
    return line;
}

static bool read_key(const json_t *o, uint64_t *key)
{
    static const char prefix[] = "fnv1a64:";
    const char *text = json_string_value(json_object_get(o, "key"));
    if (!text || strncmp(text, prefix, sizeof prefix - 1) != 0)
        return false;
    text += sizeof prefix - 1;
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return false;
    *key = strtoull(text, NULL, 16);
    return true;
}

static const char *read_fields(tdm_arena *arena, const json_t *o, tdm_sweep_row *row)
{
    const char *status = json_string_value(json_object_get(o, "status")),
               *reason = json_string_value(json_object_get(o, "reason")),
               *hash = json_string_value(json_object_get(o, "plan_hash"));
    const json_t *figures = json_object_get(o, "figures");
    if (!read_key(o, &row->key))
        return "no key";
    for (int s = TDM_SWEEP_OK; status && s < TDM_SWEEP_N_STATUSES; s++)
        if (strcmp(status, status_names[s]) == 0)
            row->status = (tdm_sweep_status)s;
    if (row->status == TDM_SWEEP_PENDING)
        return "no status";
    if (!reason || !hash)
        return "no reason or no plan hash";
    if (tdm_sweep_has_figures(row) != json_is_object(figures))
        return "figures do not go with the status";
    row->reason = tdm_arena_strdup(arena, reason);
    row->plan_hash = tdm_arena_strdup(arena, hash);
    row->figures = TDM_ALLOC(arena, double, tdm_sweep_n_figures());
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++) {
        const json_t *value = json_object_get(figures, tdm_figure_infos[i].name);
        if (value && !json_is_number(value))
            return "a figure that is no number";
        row->figures[i] = value ? json_number_value(value) : (double)NAN;
    }
    return NULL;
}

bool tdm_sweep_row_read(tdm_arena *arena, const char *line, size_t n, tdm_sweep_row *row,
                        const char **why)
{
    json_error_t error;
    json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
    if (!o) {
        *why = tdm_arena_strdup(arena, error.text);
        return false;
    }
    tdm_sweep_row read = {0};
    const char *wrong = read_fields(arena, o, &read);
    json_decref(o);
    if (wrong) {
        *why = wrong;
        return false;
    }
    *row = read;
    return true;
}
