/* report.c: a run for people: header, waterfall of the step, stages, efficiency. */
#include "report.h"
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- header ---- */

static void print_title(const tdm_result *result, const tdm_style *style, FILE *file)
{
    const tdm_scenario *scenario = &result->scenario;
    const char *before = style->markdown ? "# " : style->colours ? "\033[1m" : "";
    fprintf(file, "%s%s%s, %s %s%s", before, scenario->name, style->colours ? "\033[0m" : "",
            result->run.device ? "carried out on device" : "predicted by engine", result->engine,
            style->markdown ? "\n\n" : "\n");
}

/* What is left of a line behind the longest name. */
enum { TEXT_WIDTH = TDM_REPORT_WIDTH - 13 };

/* As many rows as its words need. */
static void add_perturbation(tdm_arena *arena, const tdm_result *result, tdm_table *table)
{
    const char *text = tdm_report_perturbation(arena, result), *name = "perturbed";
    while (text && *text) {
        size_t n = strlen(text);
        if (n > TEXT_WIDTH) {
            n = TEXT_WIDTH;
            while (n > 0 && text[n] != ' ')
                n--;
            n = n ? n : TEXT_WIDTH; /* a word wider than the line */
        }
        tdm_table_cell(table, "%s", name);
        tdm_table_cell(table, "%.*s", (int)n, text);
        name = "";
        text += n;
        while (*text == ' ')
            text++;
    }
}

void tdm_report_header(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                       FILE *file)
{
    const tdm_scenario *scenario = &result->scenario;
    const tdm_plan *plan = &result->step.plan;
    const tdm_mesh whole = tdm_mesh_whole(&plan->mesh), *mesh = &whole;
    tdm_table table = {.arena = arena, .n_left = 2};
    tdm_table_head(&table, "");
    tdm_table_head(&table, "");
    print_title(result, style, file);
    if (scenario->pass_times.given) {
        tdm_table_cell(&table, "stages");
        tdm_table_cell(&table, "%" PRIu32 ", given by their pass times", mesh->pp);
        tdm_table_cell(&table, "schedule");
        tdm_table_cell(&table, "%s, %" PRIu32 " microbatches", plan->schedule,
                       plan->num_microbatches);
        add_perturbation(arena, result, &table);
        tdm_table_print(&table, style, file);
        return;
    }
    tdm_table_cell(&table, "model");
    char count[TDM_COUNT_SIZE];
    tdm_table_cell(&table, "%s, %s parameters, %s", scenario->model.name,
                   tdm_cli_count(count, tdm_model_params(&scenario->model)),
                   tdm_dtype_name(scenario->training.dtype));
    tdm_table_cell(&table, "machine");
    tdm_table_cell(&table, "%" PRIu32 " x %s on %s%s", mesh->world, scenario->device.name,
                   scenario->topology.name,
                   scenario->nodes
                       ? tdm_arena_printf(arena, " with %" PRIu32 " node%s", scenario->nodes,
                                          scenario->nodes == 1 ? "" : "s")
                       : "");
    tdm_table_cell(&table, "layout");
    tdm_table_cell(&table,
                   "tp %" PRIu32 ", cp %" PRIu32 ", ep %" PRIu32 ", etp %" PRIu32 ", dp %" PRIu32
                   ", pp %" PRIu32 "%s%s",
                   mesh->tp, mesh->cp, mesh->ep, mesh->etp, mesh->dp, mesh->pp,
                   scenario->parallel.sequence_parallel ? ", sequence parallel" : "",
                   scenario->parallel.distributed_optimizer ? ", distributed optimizer" : "");
    tdm_table_cell(&table, "schedule");
    tdm_table_cell(
        &table, "%s, %" PRIu32 " microbatches of %" PRIu32 " x %" PRIu32 " tokens per replica",
        plan->schedule, plan->num_microbatches, plan->micro_batch_size, plan->seq_length);
    const char *folding = tdm_fold_text(arena, result);
    if (folding) {
        tdm_table_cell(&table, "folded");
        tdm_table_cell(&table, "%s", folding);
    }
    tdm_table_cell(&table, "evidence");
    if (result->run.device && result->grade == TDM_GRADE_MEASURED)
        tdm_table_cell(&table, "measured, %" PRIu32 " ranks on this machine's %ld cores",
                       mesh->world, sysconf(_SC_NPROCESSORS_ONLN));
    else
        tdm_table_cell(&table, "worst grade of the numbers used: %s (device: %s, topology: %s)",
                       tdm_grade_name(result->grade),
                       tdm_grade_name(tdm_cost_grade(&scenario->device)),
                       tdm_grade_name(scenario->topology.grade));
    add_perturbation(arena, result, &table);
    tdm_table_print(&table, style, file);
}

/* ---- the step ---- */

typedef struct part {
    const char *name;
    double (*of)(const tdm_waterfall *w);
} part;

static double compute_of(const tdm_waterfall *w)
{
    return w->compute_s;
}
static double transfer_of(const tdm_waterfall *w)
{
    return w->exposed_transfer_s;
}
static double wait_of(const tdm_waterfall *w)
{
    return w->peer_wait_s;
}
static double bubble_of(const tdm_waterfall *w)
{
    return w->bubble_s;
}
static double gap_of(const tdm_waterfall *w)
{
    return w->issue_gap_s;
}
static double optimizer_of(const tdm_waterfall *w)
{
    return w->optimizer_s;
}
static double optimizer_transfer_of(const tdm_waterfall *w)
{
    return w->optimizer_transfer_s;
}
static double optimizer_wait_of(const tdm_waterfall *w)
{
    return w->optimizer_wait_s;
}
static double step_of(const tdm_waterfall *w)
{
    return w->compute_s + w->exposed_transfer_s + w->peer_wait_s + w->bubble_s + w->issue_gap_s +
           w->optimizer_s;
}

static const part parts[] = {
    {"forward and backward kernels", compute_of},
    {"exposed transfers", transfer_of},
    {"waiting for peers", wait_of},
    {"bubble", bubble_of},
    {"issue gaps", gap_of},
    {"optimizer", optimizer_of},
};
static const part optimizer_parts[] = {
    {"  of it exposed transfers", optimizer_transfer_of},
    {"  of it waiting for peers", optimizer_wait_of},
};

/* Mean of a part over the ranks of a stage. */
static double stage_mean_s(const tdm_figures *f, uint32_t stage, const part *p)
{
    double sum = 0, n = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        if (f->ranks[r].stage != stage)
            continue;
        sum += p->of(&f->ranks[r].waterfall);
        n++;
    }
    return n > 0 ? sum / n : 0;
}

/* Stages have columns of their own while they fit; beyond that the least and the largest of them.
 */
enum { MAX_STAGE_COLUMNS = 4, BAR_WIDTH = 24 };

static void add_part(tdm_table *table, const tdm_figures *f, const part *p, bool bars)
{
    double mean_s = p->of(&f->waterfall), least_s = INFINITY, most_s = 0;
    tdm_table_cell(table, "%s", p->name);
    tdm_table_cell(table, "%.2f", 1e3 * mean_s);
    tdm_table_cell(table, "%.1f", f->step_time_s > 0 ? 100 * mean_s / f->step_time_s : 0);
    for (uint32_t s = 0; s < f->n_stages; s++) {
        double stage_s = stage_mean_s(f, s, p);
        least_s = fmin(least_s, stage_s);
        most_s = fmax(most_s, stage_s);
        if (f->n_stages > 1 && f->n_stages <= MAX_STAGE_COLUMNS)
            tdm_table_cell(table, "%.2f", 1e3 * stage_s);
    }
    if (f->n_stages > MAX_STAGE_COLUMNS) {
        tdm_table_cell(table, "%.2f", 1e3 * least_s);
        tdm_table_cell(table, "%.2f", 1e3 * most_s);
    }
    if (bars) {
        char bar[BAR_WIDTH + 1] = "";
        if (p->of != step_of && f->step_time_s > 0)
            memset(bar, '#', (size_t)lround(fmin(1, fmax(0, mean_s / f->step_time_s)) * BAR_WIDTH));
        tdm_table_cell(table, "%s", bar);
    }
}

static void print_step(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                       FILE *file)
{
    const tdm_figures *f = &result->step.figures;
    static const part total = {"step", step_of};
    bool bars = f->n_stages <= 2 && !style->markdown;
    tdm_table table = {.arena = arena, .n_left = 1, .last_left = bars};
    tdm_table_head(&table, "");
    tdm_table_head(&table, "mean ms");
    tdm_table_head(&table, "%");
    for (uint32_t s = 0; f->n_stages > 1 && f->n_stages <= MAX_STAGE_COLUMNS && s < f->n_stages;
         s++)
        tdm_table_head(&table, tdm_arena_printf(arena, "stage %" PRIu32, s));
    if (f->n_stages > MAX_STAGE_COLUMNS) {
        tdm_table_head(&table, "least stage");
        tdm_table_head(&table, "most stage");
    }
    if (bars)
        tdm_table_head(&table, "");
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        if (!result->scenario.pass_times.given || parts[i].of(&f->waterfall) > 0)
            add_part(&table, f, &parts[i], bars);
    for (size_t i = 0; i < TDM_COUNT(optimizer_parts); i++)
        if (optimizer_parts[i].of(&f->waterfall) > 0)
            add_part(&table, f, &optimizer_parts[i], bars);
    add_part(&table, f, &total, bars);
    tdm_style_heading(style, file, tdm_arena_printf(arena, "Step: %.2f ms", 1e3 * f->step_time_s),
                      "(where its time goes, mean over ranks)");
    tdm_table_print(&table, style, file);
}

static void print_stages(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                         FILE *file)
{
    const tdm_figures *f = &result->step.figures;
    static const char *const heads[] = {
        "stage", "forward ms", "backward input ms", "backward weight ms", "span ms", "bubble %"};
    tdm_table table = {.arena = arena, .n_left = 1};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t s = 0; s < f->n_stages; s++) {
        const tdm_stage_figures *stage = &f->stages[s];
        tdm_table_cell(&table, "%" PRIu32, s);
        for (int k = 0; k < 3; k++)
            tdm_table_cell(&table, "%.3f", 1e3 * stage->pass_s[k]);
        tdm_table_cell(&table, "%.2f", 1e3 * stage->span_s);
        tdm_table_cell(&table, "%.2f", 100 * stage->bubble_fraction);
    }
    tdm_style_heading(
        style, file, tdm_arena_printf(arena, "Pipeline: bubble %.2f %%", 100 * f->bubble_fraction),
        tdm_arena_printf(arena, "(over one span of all stages %.2f %%; times per microbatch)",
                         100 * f->bubble_global));
    tdm_table_print(&table, style, file);
}

/* ---- efficiency ---- */

const char *tdm_report_count(tdm_arena *arena, double value)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", value);
    char *text = TDM_ALLOC(arena, char, 2 * sizeof digits);
    int out = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            text[out++] = ' ';
        text[out++] = digits[i];
    }
    return text;
}

static const char *percent(tdm_arena *arena, double share)
{
    return tdm_arena_printf(arena, "%.1f %%", 100 * share);
}

static void print_efficiency(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                             FILE *file)
{
    const tdm_figures *f = &result->step.figures;
    tdm_table table = {.arena = arena, .n_left = 1};
    for (int column = 0; column < 2; column++)
        tdm_table_head(&table, "");
    const struct {
        const char *figure, *name, *value;
    } rows[] = {
        {"tokens_per_s", "throughput, tokens/s", tdm_report_count(arena, f->tokens_per_s)},
        {"mfu", "MFU", percent(arena, f->mfu)},
        {"hfu", "HFU (recomputation counted)", percent(arena, f->hfu)},
        {"gpu_utilization", "a compute kernel runs", percent(arena, f->gpu_utilization)},
        {"nvml_utilization", "any kernel runs, as nvidia-smi shows",
         percent(arena, f->nvml_utilization)},
        {"comm_busy_fraction", "communication runs", percent(arena, f->comm_busy_fraction)},
        {"comm_exposed_fraction", "communication exposed",
         percent(arena, f->comm_exposed_fraction)},
        {"load_imbalance", "load imbalance (std/mean of compute)",
         percent(arena, f->load_imbalance)},
        {"forward_latency_s", "forward latency of one microbatch",
         tdm_arena_printf(arena, "%.2f ms", 1e3 * f->forward_latency_s)},
    };
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        if (!rows[i].value || !tdm_result_has(result, rows[i].figure))
            continue;
        tdm_table_cell(&table, "%s", rows[i].name);
        tdm_table_cell(&table, "%s", rows[i].value);
    }
    tdm_style_heading(style, file, "Utilization", "(shares of the step, mean over ranks)");
    tdm_table_print(&table, style, file);
}

void tdm_report_write(tdm_arena *arena, const tdm_result *result, const tdm_verdict *verdicts,
                      const tdm_style *style, FILE *file)
{
    tdm_report_header(arena, result, style, file);
    print_step(arena, result, style, file);
    print_stages(arena, result, style, file);
    if (result->step.figures.n_comms > 0)
        tdm_report_communication(arena, result, style, file);
    if (!result->scenario.pass_times.given)
        tdm_report_memory(arena, result, style, file);
    if (result->step.plan.routing.n_layers > 0)
        tdm_report_routing(arena, result, style, file);
    print_efficiency(arena, result, style, file);
    if (result->run.device)
        tdm_report_run(arena, result, style, file);
    tdm_report_checklist(arena, result, verdicts, style, file);
}

void tdm_report_csv(const tdm_result *result, FILE *file)
{
    fputs("figure,value,unit\n", file);
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        if (tdm_result_has(result, info->name))
            fprintf(file, "%s,%.15g,%s\n", info->name,
                    tdm_figures_get(&result->step.figures, info->name), info->unit);
}
