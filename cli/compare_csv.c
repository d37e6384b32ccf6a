/* compare_csv.c: a comparison for programs: CSV and JSON. */
#include "compare.h"
#include "output.h"

#include <math.h>
#include <string.h>

static const char *const section_names[TDM_N_COMPARE_SECTIONS] = {
    "waterfall", "figures", "classes", "communication", "stages", "ranks", "ops"};

void tdm_compare_csv(const tdm_comparison *c, FILE *file)
{
    fputs("section,index,name,quantity,unit,predicted,measured,difference,relative_error\n", file);
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        double error = tdm_compare_error(row->predicted, row->measured);
        fprintf(file, "%s,", section_names[row->section]);
        if (row->index != UINT32_MAX)
            fprintf(file, "%lu", (unsigned long)row->index);
        fprintf(file, ",%s,%s,%s,%.12g,%.12g,%.12g,", row->name, row->what, row->unit,
                row->predicted, row->measured, tdm_compare_difference(row));
        if (!isnan(error))
            fprintf(file, "%.6g", error);
        fputc('\n', file);
    }
}

static void set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static json_t *side_json(const tdm_side *side)
{
    json_t *o = json_object();
    set_text(o, "path", side->path);
    set_text(o, "engine", side->engine);
    set_text(o, "plan_hash", side->plan_hash);
    json_object_set_new(o, "n_ranks", json_integer(side->n_ranks));
    json_object_set_new(o, "n_steps", json_integer(side->n_steps));
    return o;
}

static json_t *step_json(const tdm_comparison *c)
{
    json_t *o = json_object();
    set_real(o, "predicted_s", c->step_predicted_s);
    set_real(o, "measured_s", c->step_measured_s);
    set_real(o, "difference_s", c->step_predicted_s - c->step_measured_s);
    set_real(o, "relative_error", tdm_compare_error(c->step_predicted_s, c->step_measured_s));
    if (c->has_interval) {
        json_t *interval = json_object();
        set_real(interval, "confidence", TDM_COMPARE_CONFIDENCE);
        set_real(interval, "relative_error_low", c->interval_low);
        set_real(interval, "relative_error_high", c->interval_high);
        json_object_set_new(o, "interval", interval);
    }
    return o;
}

static json_t *section_json(const tdm_comparison *c, tdm_compare_section section)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        if (row->section != section)
            continue;
        json_t *o = json_object();
        if (row->index != UINT32_MAX)
            json_object_set_new(o, section == TDM_COMPARE_RANKS ? "rank" : "stage",
                                json_integer(row->index));
        if (row->name[0])
            set_text(o, "name", row->name);
        if (row->what[0])
            set_text(o, "quantity", row->what);
        set_text(o, "unit", row->unit);
        set_real(o, "predicted", row->predicted);
        set_real(o, "measured", row->measured);
        set_real(o, "difference", tdm_compare_difference(row));
        set_real(o, "relative_error", tdm_compare_error(row->predicted, row->measured));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *tolerance_json(const tdm_tolerance *tolerance, const tdm_comparison *c)
{
    json_t *o = json_object(), *list = json_array();
    set_real(o, "relative", tolerance->share);
    json_object_set_new(o, "within", json_boolean(tdm_tolerance_all(tolerance, c)));
    for (size_t i = 0; i < tolerance->n_figures; i++) {
        json_t *figure = json_object();
        double error;
        bool within = tdm_tolerance_holds(tolerance, c, tolerance->figures[i], &error);
        set_text(figure, "figure", tolerance->figures[i]);
        set_real(figure, "relative_error", error);
        json_object_set_new(figure, "within", json_boolean(within));
        json_array_append_new(list, figure);
    }
    json_object_set_new(o, "figures", list);
    return o;
}

static json_t *notes_json(const char *notes)
{
    json_t *list = json_array();
    for (const char *line = notes; line && *line;) {
        size_t n = strcspn(line, "\n");
        json_array_append_new(list, json_stringn(line, n));
        line += n + (line[n] == '\n');
    }
    return list;
}

char *tdm_compare_json(const tdm_comparison *c, const tdm_tolerance *tolerance)
{
    json_t *document = json_object();
    json_object_set_new(document, "schema_version", json_integer(1));
    json_object_set_new(document, "predicted", side_json(c->a));
    json_object_set_new(document, "measured", side_json(c->b));
    json_object_set_new(document, "same_plan",
                        c->plans_known ? json_boolean(c->same_plan) : json_null());
    json_object_set_new(document, "step", step_json(c));
    for (uint32_t s = 0; s < TDM_N_COMPARE_SECTIONS; s++)
        json_object_set_new(document, section_names[s], section_json(c, (tdm_compare_section)s));
    if (c->n_op_errors > 0) {
        json_t *o = json_object();
        json_object_set_new(o, "n_ops", json_integer(c->n_op_errors));
        set_real(o, "median", c->op_error_median);
        set_real(o, "p95", c->op_error_p95);
        json_object_set_new(document, "op_absolute_relative_error", o);
    }
    if (tolerance->given)
        json_object_set_new(document, "tolerance", tolerance_json(tolerance, c));
    json_object_set_new(document, "notes", notes_json(c->notes));
    char *text = tdm_output_json_text(document);
    json_decref(document);
    return text;
}
