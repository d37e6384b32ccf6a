/* sweep_files.c: the rows as CSV and JSON. */
#include "sweep.h"

#include "output.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A cell of a CSV file (RFC 4180): in quotes where it must be. */
static void put_cell(FILE *file, const char *text)
{
    if (!text[strcspn(text, ",\"\r\n")] && text[0] != ' ') {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

/* Nothing is said about pass times: their memory is unknown. */
static const char *fits(const tdm_sweep_row *row)
{
    if (row->status == TDM_SWEEP_OK)
        return isnan(row->figures[tdm_sweep_figure("peak_memory_bytes")]) ? "" : "yes";
    return row->status == TDM_SWEEP_NO_MEMORY ? "no" : "";
}

static void put_heads(const tdm_sweep_grid *grid, FILE *file)
{
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        put_cell(file, grid->keys[k]);
        fputc(',', file);
    }
    fputs("status,fits,pareto", file);
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        fprintf(file, ",%s", tdm_figure_infos[i].name);
    fputs(",plan_hash,reason\n", file);
}

static void put_row(const tdm_sweep_grid *grid, uint32_t point, const tdm_sweep_row *row,
                    FILE *file)
{
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        const char *value = grid->values[(size_t)point * grid->n_keys + k];
        put_cell(file, value ? value : "");
        fputc(',', file);
    }
    fprintf(file, "%s,%s,%s", tdm_sweep_status_name(row->status), fits(row),
            row->front            ? "yes"
            : fits(row)[0] == 'y' ? "no"
                                  : "");
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++) {
        fputc(',', file);
        if (tdm_sweep_has_figures(row) && !isnan(row->figures[i]))
            fprintf(file, "%.15g", row->figures[i]);
    }
    fprintf(file, ",%s,", row->plan_hash);
    put_cell(file, row->reason);
    fputc('\n', file);
}

char *tdm_sweep_csv(const tdm_sweep *sweep, const uint32_t *points, uint32_t n_points)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    if (!file)
        return NULL;
    put_heads(&sweep->grid, file);
    for (uint32_t i = 0; i < n_points; i++) {
        uint32_t point = points ? points[i] : i;
        put_row(&sweep->grid, point, &sweep->rows[point], file);
    }
    if (fclose(file) == 0)
        return text;
    free(text);
    return NULL;
}

static json_t *text_or_null(const char *text)
{
    return text && *text ? json_string(text) : json_null();
}

static json_t *figures_json(const tdm_sweep_row *row)
{
    if (!tdm_sweep_has_figures(row))
        return json_null();
    json_t *o = json_object();
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++) {
        double value = row->figures[i];
        bool bytes = strcmp(tdm_figure_infos[i].unit, "bytes") == 0;
        json_object_set_new(o, tdm_figure_infos[i].name,
                            isnan(value) ? json_null()
                            : bytes      ? json_integer((json_int_t)value)
                                         : json_real(value));
    }
    return o;
}

static json_t *row_json(const tdm_sweep_grid *grid, uint32_t point, const tdm_sweep_row *row)
{
    json_t *o = json_object(), *values = json_object();
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        const char *value = grid->values[(size_t)point * grid->n_keys + k];
        json_object_set_new(values, grid->keys[k], value ? json_string(value) : json_null());
    }
    json_object_set_new(o, "point", values);
    json_object_set_new(o, "status", json_string(tdm_sweep_status_name(row->status)));
    json_object_set_new(o, "fits",
                        fits(row)[0] ? json_boolean(row->status == TDM_SWEEP_OK) : json_null());
    json_object_set_new(o, "pareto", json_boolean(row->front));
    json_object_set_new(o, "reason", text_or_null(row->reason));
    json_object_set_new(o, "plan_hash", text_or_null(row->plan_hash));
    json_object_set_new(o, "figures", figures_json(row));
    return o;
}

static json_t *strings(const char *const *items, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(items[i]));
    return list;
}

static json_t *provenance(const tdm_sweep *sweep)
{
    json_t *o = json_object(), *versions = json_object();
    json_object_set_new(versions, "tandem", json_string(TANDEM_VERSION));
    json_object_set_new(versions, "jansson", json_string(jansson_version_str()));
    json_object_set_new(o, "engine", json_string(sweep->engine));
    json_object_set_new(o, "versions", versions);
    json_object_set_new(o, "scenario", json_string(sweep->scenario_path));
    json_object_set_new(o, "set", strings(sweep->sets.items, sweep->sets.n));
    return o;
}

char *tdm_sweep_json(const tdm_sweep *sweep, const tdm_sweep_view *view)
{
    json_t *document = json_object(), *pareto = json_array(), *points = json_array(),
           *counts = json_object();
    for (uint32_t i = 0; i < 2; i++)
        json_array_append_new(pareto, json_string(tdm_figure_infos[view->pareto[i]].name));
    for (int s = TDM_SWEEP_OK; s < TDM_SWEEP_N_STATUSES; s++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < sweep->grid.n_points; i++)
            n += (int)sweep->rows[i].status == s;
        json_object_set_new(counts, tdm_sweep_status_name((tdm_sweep_status)s), json_integer(n));
    }
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        json_array_append_new(points, row_json(&sweep->grid, i, &sweep->rows[i]));
    json_object_set_new(document, "schema_version", json_integer(1));
    json_object_set_new(document, "provenance", provenance(sweep));
    json_object_set_new(document, "keys", strings(sweep->grid.keys, sweep->grid.n_keys));
    json_object_set_new(document, "pareto_figures", pareto);
    json_object_set_new(document, "counts", counts);
    json_object_set_new(document, "points", points);
    char *text = tdm_output_json_text(document);
    json_decref(document);
    return text;
}

/* Adds a file to those that get their names together. Frees the text. */
static tdm_code write_file(tdm_arena *arena, tdm_output *output, const char *name, char *text,
                           tdm_error *err)
{
    if (!text)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", name);
    const char *path = tdm_output_add(arena, output, name);
    FILE *file = fopen(path, "w");
    bool failed = !file || fputs(text, file) == EOF || fflush(file) != 0;
    int reason = errno;
    if (file && fclose(file) != 0 && !failed) {
        failed = true;
        reason = errno;
    }
    free(text);
    return failed ? tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(reason)) : TDM_OK;
}

tdm_code tdm_sweep_files(tdm_arena *arena, const tdm_sweep *sweep, const tdm_sweep_view *view,
                         const char *folder, tdm_error *err)
{
    tdm_output output;
    uint32_t n_front;
    const uint32_t *front =
        tdm_sweep_order(arena, sweep, view->pareto[0], tdm_sweep_is_front, &n_front);
    tdm_code code = tdm_output_open(arena, folder, &output, err);
    if (code != TDM_OK)
        return code;
    code = write_file(arena, &output, "sweep.csv", tdm_sweep_csv(sweep, NULL, sweep->grid.n_points),
                      err);
    if (code == TDM_OK)
        code = write_file(arena, &output, "sweep.json", tdm_sweep_json(sweep, view), err);
    if (code == TDM_OK)
        code = write_file(arena, &output, "pareto.csv", tdm_sweep_csv(sweep, front, n_front), err);
    if (code == TDM_OK)
        code = tdm_output_commit(&output, err);
    tdm_output_abort(&output);
    return code;
}
