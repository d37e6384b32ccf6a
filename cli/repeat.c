/* repeat.c: runs the repetitions and sums them up. */
#include "repeat.h"

#include "core/stats.h"
#include "jobs.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double CONFIDENCE = 0.95;

/* ---- run ---- */

static uint32_t count_figures(void)
{
    uint32_t n = 0;
    while (tdm_figure_infos[n].name)
        n++;
    return n;
}

static void take_figures(const tdm_result *result, const tdm_figures *figures, double *values)
{
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        values[i] = tdm_result_has(result, tdm_figure_infos[i].name)
                        ? tdm_figures_get(figures, tdm_figure_infos[i].name)
                        : (double)NAN;
}

/* Repetition i + 1: number 0 is there already. */
static tdm_code compute(tdm_arena *arena, void *context, uint32_t i, void *values, tdm_error *err)
{
    const tdm_result *result = context;
    tdm_machine machine = tdm_machine_of(arena, &result->scenario, i + 1);
    tdm_figures figures;
    tdm_code code = tdm_predict_on(arena, result, &machine, true, &figures, err);
    if (code == TDM_OK)
        take_figures(result, &figures, values);
    return code;
}

static tdm_spread spread_of(const tdm_repeat *r, uint32_t figure, double *column)
{
    size_t low, high;
    for (uint32_t i = 0; i < r->n; i++)
        column[i] = r->values[(size_t)i * r->n_figures + figure];
    if (isnan(column[0]))
        return (tdm_spread){NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    tdm_stats_sort(column, r->n);
    bool known = tdm_stats_median_ranks(r->n, CONFIDENCE, &low, &high);
    return (tdm_spread){.median = tdm_stats_quantile(column, r->n, 0.5),
                        .low = known ? column[low - 1] : (double)NAN,
                        .high = known ? column[high - 1] : (double)NAN,
                        .p5 = tdm_stats_quantile(column, r->n, 0.05),
                        .p95 = tdm_stats_quantile(column, r->n, 0.95),
                        .min = column[0],
                        .max = column[r->n - 1]};
}

static uint32_t step_figure(void)
{
    uint32_t i = 0;
    while (strcmp(tdm_figure_infos[i].name, "step_time_s") != 0)
        i++;
    return i;
}

static double step_of(const tdm_repeat *r, uint32_t repetition)
{
    return r->values[(size_t)repetition * r->n_figures + step_figure()];
}

static void sum_up(tdm_arena *arena, tdm_repeat *r)
{
    double *column = TDM_ALLOC(arena, double, r->n);
    tdm_spread *spreads = TDM_ALLOC(arena, tdm_spread, r->n_figures);
    for (uint32_t i = 0; i < r->n; i++)
        column[i] = step_of(r, i);
    r->median = (uint32_t)tdm_stats_median_place(column, r->n);
    for (uint32_t i = 0; i < r->n_figures; i++)
        spreads[i] = spread_of(r, i, column);
    r->spreads = spreads;
}

tdm_code tdm_repeat_run(tdm_arena *arena, tdm_result *result, uint32_t n, uint32_t n_jobs,
                        bool quiet, tdm_repeat *repeat, tdm_error *err)
{
    tdm_repeat r = {.n = n, .n_figures = count_figures()};
    double *values = TDM_ALLOC(arena, double, (size_t)n *r.n_figures);
    const tdm_jobs jobs = {.n = n - 1,
                           .n_parallel = n_jobs,
                           .what = "repetition",
                           .quiet = quiet,
                           .result_bytes = r.n_figures * sizeof *values,
                           .work = compute,
                           .context = result};
    take_figures(result, &result->step.figures, values);
    tdm_code code = tdm_jobs_run(&jobs, values + r.n_figures, err);
    if (code != TDM_OK)
        return code;
    r.values = values;
    sum_up(arena, &r);
    if (r.median > 0)
        code = tdm_predict_repetition(arena, result, r.median, err);
    if (code == TDM_OK)
        *repeat = r;
    return code;
}

tdm_verdict *tdm_repeat_judge(tdm_arena *arena, const tdm_result *result, const tdm_repeat *r)
{
    tdm_verdict *verdicts = tdm_judge(arena, result);
    for (uint32_t i = 0; i < result->scenario.n_targets; i++) {
        tdm_verdict *v = &verdicts[i];
        uint32_t figure = (uint32_t)(v->info - tdm_figure_infos), n_met = 0;
        for (uint32_t k = 0; k < r->n; k++) {
            double value = r->values[(size_t)k * r->n_figures + figure];
            n_met += v->target->is_maximum ? value <= v->target->threshold
                                           : value >= v->target->threshold;
        }
        v->value = r->spreads[figure].median;
        v->pass = v->target->is_maximum ? v->value <= v->target->threshold
                                        : v->value >= v->target->threshold;
        v->why = v->pass && n_met == r->n
                     ? NULL
                     : tdm_arena_printf(arena, "met in %u of %u repetitions.", n_met, r->n);
    }
    return verdicts;
}

/* ---- show ---- */

/* In the unit that unit_of names. */
static void add_cell(tdm_arena *arena, tdm_table *table, const tdm_figure_info *info, double value)
{
    if (isnan(value))
        tdm_table_cell(table, "-");
    else if (strcmp(info->unit, "s") == 0)
        tdm_table_cell(table, "%.2f", 1e3 * value);
    else if (strcmp(info->unit, "tokens/s") == 0)
        tdm_table_cell(table, "%s", tdm_report_count(arena, value));
    else
        tdm_table_cell(table, "%.2f", 100 * value);
}

static const char *unit_of(const tdm_figure_info *info)
{
    return strcmp(info->unit, "s") == 0 ? "ms" : info->unit[0] ? "" : "%";
}

static void print_spreads(tdm_arena *arena, const tdm_result *result, const tdm_repeat *r,
                          const tdm_style *style, FILE *file)
{
    static const char *const shown[] = {
        "step_time_s",    "tokens_per_s",          "bubble_fraction",
        "bubble_global",  "comm_exposed_fraction", "gpu_utilization",
        "load_imbalance", "forward_latency_s",     "mfu"};
    static const char *const heads[] = {"",    "",     "median", "95 % from", "to",
                                        "5 %", "95 %", "least",  "most"};
    tdm_table table = {.arena = arena, .n_left = 2};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (size_t i = 0; i < TDM_COUNT(shown); i++) {
        uint32_t figure = 0;
        while (strcmp(tdm_figure_infos[figure].name, shown[i]) != 0)
            figure++;
        const tdm_figure_info *info = &tdm_figure_infos[figure];
        const tdm_spread *s = &r->spreads[figure];
        const double cells[] = {s->median, s->low, s->high, s->p5, s->p95, s->min, s->max};
        if (!tdm_result_has(result, info->name))
            continue;
        tdm_table_cell(&table, "%s", info->name);
        tdm_table_cell(&table, "%s", unit_of(info));
        for (size_t k = 0; k < TDM_COUNT(cells); k++)
            add_cell(arena, &table, info, cells[k]);
    }
    tdm_table_print(&table, style, file);
}

void tdm_repeat_report(tdm_arena *arena, const tdm_result *result, const tdm_repeat *r,
                       const tdm_verdict *verdicts, const tdm_style *style, FILE *file)
{
    size_t low, high;
    tdm_report_header(arena, result, style, file);
    tdm_style_heading(style, file,
                      tdm_arena_printf(arena, "Step: %.2f ms, median of %u repetitions",
                                       1e3 * r->spreads[step_figure()].median, r->n),
                      "");
    print_spreads(arena, result, r, style, file);
    const char *interval =
        tdm_stats_median_ranks(r->n, CONFIDENCE, &low, &high)
            ? tdm_arena_printf(arena,
                               "95 %% from, to: the median lies between the values of ranks %zu "
                               "and %zu with 95 %% confidence, whatever the distribution.",
                               low, high)
            : "Fewer than 6 repetitions have no 95 % interval of the median.";
    tdm_style_wrap(
        file, 2,
        tdm_arena_printf(arena,
                         "%s 5 %% and 95 %%: percentiles of the repetitions. Targets are "
                         "held against medians.",
                         interval));
    tdm_report_checklist(arena, result, verdicts, style, file);
}

static void set_real(json_t *object, const char *key, double value)
{
    json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

json_t *tdm_repeat_json(const tdm_result *result, const tdm_repeat *r)
{
    json_t *o = json_object(), *figures = json_object();
    json_object_set_new(o, "n", json_integer(r->n));
    json_object_set_new(o, "interval",
                        json_string("95 % confidence interval of the median, by order statistics"));
    for (uint32_t i = 0; i < r->n_figures; i++) {
        const tdm_spread *s = &r->spreads[i];
        if (!tdm_result_has(result, tdm_figure_infos[i].name))
            continue;
        json_t *figure = json_object();
        set_real(figure, "median", s->median);
        set_real(figure, "median_low", s->low);
        set_real(figure, "median_high", s->high);
        set_real(figure, "p5", s->p5);
        set_real(figure, "p95", s->p95);
        set_real(figure, "min", s->min);
        set_real(figure, "max", s->max);
        json_object_set_new(figures, tdm_figure_infos[i].name, figure);
    }
    json_object_set_new(o, "figures", figures);
    return o;
}

json_t *tdm_repeat_steps_json(const tdm_repeat *r)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->n; i++) {
        json_t *step = json_object();
        set_real(step, "step_time_s", step_of(r, i));
        json_array_append_new(list, step);
    }
    return list;
}

static void put_cell(FILE *file, double value)
{
    if (isfinite(value))
        fprintf(file, ",%.15g", value);
    else
        fputc(',', file);
}

void tdm_repeat_csv(const tdm_result *result, const tdm_repeat *r, FILE *file)
{
    fputs("figure,unit,median,median_low,median_high,p5,p95,min,max\n", file);
    for (uint32_t i = 0; i < r->n_figures; i++) {
        const tdm_spread *s = &r->spreads[i];
        const double cells[] = {s->median, s->low, s->high, s->p5, s->p95, s->min, s->max};
        if (!tdm_result_has(result, tdm_figure_infos[i].name))
            continue;
        fprintf(file, "%s,%s", tdm_figure_infos[i].name, tdm_figure_infos[i].unit);
        for (size_t k = 0; k < TDM_COUNT(cells); k++)
            put_cell(file, cells[k]);
        fputc('\n', file);
    }
}

void tdm_repeat_table(const tdm_result *result, const tdm_repeat *r, FILE *file)
{
    fputs("repetition", file);
    for (uint32_t i = 0; i < r->n_figures; i++)
        if (tdm_result_has(result, tdm_figure_infos[i].name))
            fprintf(file, ",%s", tdm_figure_infos[i].name);
    fputc('\n', file);
    for (uint32_t k = 0; k < r->n; k++) {
        fprintf(file, "%u", k + 1);
        for (uint32_t i = 0; i < r->n_figures; i++)
            if (tdm_result_has(result, tdm_figure_infos[i].name))
                put_cell(file, r->values[(size_t)k * r->n_figures + i]);
        fputc('\n', file);
    }
}
