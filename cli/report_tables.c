/* report_tables.c: communication, memory and the checklist. */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The times that a profiler wrapped around these two calls would print. */
static void print_profiler(tdm_arena *arena, const tdm_figures *f, const tdm_style *style,
                           FILE *file)
{
    static const char *const names[] = {"all_reduce", "all_to_all"};
    tdm_table profiler = {.arena = arena, .n_left = 1};
    for (int column = 0; column < 4; column++)
        tdm_table_head(&profiler, "");
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        const char *average = tdm_arena_printf(arena, "avg_%s_s", names[i]);
        const char *longest = tdm_arena_printf(arena, "max_%s_s", names[i]);
        if (tdm_figures_get(f, longest) <= 0)
            continue;
        tdm_table_cell(&profiler, "avg_%s_ms", names[i]);
        tdm_table_cell(&profiler, "%.4f", 1e3 * tdm_figures_get(f, average));
        tdm_table_cell(&profiler, "  max_%s_ms", names[i]);
        tdm_table_cell(&profiler, "%.4f", 1e3 * tdm_figures_get(f, longest));
    }
    if (profiler.n_cells > 0) {
        fputc('\n', file);
        tdm_table_print(&profiler, style, file);
    }
}

void tdm_report_communication(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                              FILE *file)
{
    static const char *const heads[] = {"kind",      "group",   "calls/rank",
                                        "GB/rank",   "busy ms", "exposed ms",
                                        "exposed %", "avg ms",  "max ms"};
    const tdm_figures *f = &result->step.figures;
    bool bytes = !result->scenario.pass_times.given;
    tdm_table table = {.arena = arena, .n_left = 2};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        if (bytes || strcmp(heads[i], "GB/rank") != 0)
            tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < f->n_comms; i++) {
        const tdm_comm_figures *comm = &f->comms[i];
        double calls = (double)comm->n_calls / f->n_ranks;
        tdm_table_cell(&table, "%s", tdm_op_kind_name(comm->kind));
        tdm_table_cell(&table, "%s",
                       comm->group < TDM_N_GROUP_KINDS ? tdm_group_kind_name(comm->group) : "pp");
        tdm_table_cell(&table, calls == floor(calls) ? "%.0f" : "%.1f", calls);
        if (bytes)
            tdm_table_cell(&table, "%.2f", 1e-9 * (double)comm->bytes);
        tdm_table_cell(&table, "%.2f", 1e3 * comm->busy_s);
        tdm_table_cell(&table, "%.2f", 1e3 * comm->exposed_s);
        tdm_table_cell(&table, "%.1f", 100 * comm->exposed_s / f->step_time_s);
        tdm_table_cell(&table, "%.4f", 1e3 * comm->avg_s);
        tdm_table_cell(&table, "%.4f", 1e3 * comm->max_s);
    }
    tdm_style_heading(style, file,
                      tdm_arena_printf(arena,
                                       "Communication: %.1f %% of the step busy, %.1f %% exposed",
                                       100 * f->comm_busy_fraction, 100 * f->comm_exposed_fraction),
                      "(busy: waiting included)");
    tdm_table_print(&table, style, file);
    print_profiler(arena, f, style, file);
}

static double gib(uint64_t bytes)
{
    return ldexp((double)bytes, -30);
}

/* The rank of a stage that needs most. */
static const tdm_rank_figures *largest_rank(const tdm_figures *f, uint32_t stage)
{
    const tdm_rank_figures *largest = NULL;
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].stage == stage &&
            (!largest || f->ranks[r].peak_memory_bytes > largest->peak_memory_bytes))
            largest = &f->ranks[r];
    return largest;
}

static void print_memory_verdict(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                                 FILE *file)
{
    uint64_t need = result->step.figures.peak_memory_bytes, limit = tdm_memory_limit_bytes(result);
    uint64_t device = (uint64_t)result->scenario.device.memory_bytes.value;
    const char *which = limit < device ? "the scenario's limit" : "the device's memory";
    const char *verdict = tdm_arena_printf(arena, "Fits: %s is %.2f GiB.", which, gib(limit));
    if (!tdm_memory_fits(result))
        verdict = tdm_arena_printf(arena, "DOES NOT FIT: %s is %.2f GiB, %.2f GiB too little. %s",
                                   which, gib(limit), gib(need - limit),
                                   need <= device ? "The device itself would hold it."
                                                  : "This step cannot run there.");
    fputs(style->markdown                              ? "\n"
          : style->colours && !tdm_memory_fits(result) ? "\033[1;31m"
                                                       : "",
          file);
    tdm_style_wrap(file, style->markdown ? 0 : 2, verdict);
    fputs(style->colours && !tdm_memory_fits(result) ? "\033[0m" : "", file);
}

void tdm_report_memory(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                       FILE *file)
{
    const tdm_figures *f = &result->step.figures;
    uint64_t context = (uint64_t)result->scenario.device.context_bytes.value;
    tdm_table table = {.arena = arena, .n_left = 2};
    tdm_table_head(&table, "stage");
    tdm_table_head(&table, "rank");
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
        tdm_table_head(&table, tdm_class_name((tdm_class)c));
    tdm_table_head(&table, "gaps");
    tdm_table_head(&table, "context");
    tdm_table_head(&table, "total");
    for (uint32_t s = 0; s < f->n_stages; s++) {
        const tdm_rank_figures *rank = largest_rank(f, s);
        if (!rank)
            continue;
        tdm_table_cell(&table, "%" PRIu32, s);
        tdm_table_cell(&table, "%" PRIu32, rank->rank);
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
            tdm_table_cell(&table, "%.2f", gib(rank->class_at_peak[c]));
        tdm_table_cell(&table, "%.2f",
                       gib(rank->peak_memory_bytes - context - rank->live_peak_bytes));
        tdm_table_cell(&table, "%.2f", gib(context));
        tdm_table_cell(&table, "%.2f", gib(rank->peak_memory_bytes));
    }
    tdm_style_heading(style, file,
                      tdm_arena_printf(arena, "Memory: rank %" PRIu32 " needs %.2f GiB",
                                       f->ranks[f->peak_memory_rank].rank,
                                       gib(f->peak_memory_bytes)),
                      "(GiB at the peak of each stage's largest rank)");
    tdm_table_print(&table, style, file);
    print_memory_verdict(arena, result, style, file);
}

/* ---- checklist ---- */

const char *tdm_report_value(tdm_arena *arena, double value, const char *unit, int digits)
{
    if (unit[0] == '\0')
        return tdm_arena_printf(arena, "%.*f %%", digits, 100 * value);
    if (strcmp(unit, "s") == 0)
        return tdm_arena_printf(arena, "%.*f ms", digits, 1e3 * value);
    if (strcmp(unit, "bytes") == 0)
        return tdm_arena_printf(arena, "%.*f GB", digits, 1e-9 * value);
    if (digits > 1)
        return tdm_arena_printf(arena, "%.*f %s", digits, value, unit);
    return tdm_arena_printf(arena, "%s %s", tdm_report_count(arena, value), unit);
}

/* Enough digits that a value on the wrong side of its threshold does not look equal to it. */
static int digits_for(tdm_arena *arena, const tdm_verdict *verdict)
{
    int digits = 1;
    while (digits < 6 && verdict->value != verdict->target->threshold &&
           strcmp(tdm_report_value(arena, verdict->value, verdict->info->unit, digits),
                  tdm_report_value(arena, verdict->target->threshold, verdict->info->unit,
                                   digits)) == 0)
        digits++;
    return digits;
}

static void print_verdict(tdm_arena *arena, const tdm_verdict *verdict, const tdm_style *style,
                          int label_width, FILE *file)
{
    int digits = digits_for(arena, verdict);
    const char *value = tdm_report_value(arena, verdict->value, verdict->info->unit, digits);
    const char *threshold =
        tdm_report_value(arena, verdict->target->threshold, verdict->info->unit, digits);
    const char *relation = verdict->target->is_maximum ? "at most" : "at least";
    if (style->markdown) {
        fprintf(file, "- [%c] %s: **%s**, %s %s%s%s\n", verdict->pass ? 'x' : ' ',
                verdict->target->label, value, relation, threshold, verdict->why ? ". " : "",
                verdict->why ? verdict->why : "");
        return;
    }
    const char *colour = !style->colours ? "" : verdict->pass ? "\033[32m" : "\033[1;31m";
    fprintf(file, "  %s%s%s  %-*s  %16s  %s %s\n", colour, verdict->pass ? "pass" : "FAIL",
            style->colours ? "\033[0m" : "", label_width, verdict->target->label, value, relation,
            threshold);
    if (verdict->why)
        tdm_style_wrap(file, 8, verdict->why);
}

void tdm_report_checklist(tdm_arena *arena, const tdm_result *result, const tdm_verdict *verdicts,
                          const tdm_style *style, FILE *file)
{
    uint32_t n = result->scenario.n_targets, n_pass = 0;
    int label_width = 0;
    if (n == 0)
        return;
    for (uint32_t i = 0; i < n; i++) {
        n_pass += verdicts[i].pass;
        int width = (int)strlen(verdicts[i].target->label);
        label_width = width > label_width ? width : label_width;
    }
    tdm_style_heading(
        style, file,
        tdm_arena_printf(arena, "Checklist: %" PRIu32 " of %" PRIu32 " pass", n_pass, n), "");
    for (uint32_t i = 0; i < n; i++)
        print_verdict(arena, &verdicts[i], style, label_width < 48 ? label_width : 48, file);
}
