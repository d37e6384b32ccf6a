/* report_run.c: the steps that were carried out. */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Steps have rows of their own while they are few; beyond that the first and the last ones. */
enum { MOST_ROWS = 10 };

static void add_step(tdm_table *table, const tdm_run_report *run, uint32_t i)
{
    const tdm_run_step *step = &run->steps[i];
    tdm_table_cell(table, "%" PRIu32 "%s", i + 1,
                   i == run->traced_step ? " (median, shown above)" : "");
    tdm_table_cell(table, "%.2f", 1e3 * step->step_s);
    if (!isnan(run->steps[0].loss))
        tdm_table_cell(table, "%.6f", step->loss);
    if (!isnan(run->steps[0].grad_norm))
        tdm_table_cell(table, "%.6f", step->grad_norm);
}

/* "16 processes on 2 hosts, clocks within 3.1 us". */
static const char *add_processes(tdm_arena *arena, const tdm_result *result, const char *remark)
{
    const tdm_run_report *run = &result->run;
    uint32_t n = run->processes.n_processes, n_hosts = run->processes.n_hosts;
    const char *text =
        tdm_arena_printf(arena, "%s%s(%u process%s on %u host%s", remark, *remark ? " " : "", n,
                         n == 1 ? "" : "es", n_hosts, n_hosts == 1 ? "" : "s");
    return run->clock_uncertainty_s > 0 ? tdm_arena_printf(arena, "%s, clocks within %.1f us)",
                                                           text, 1e6 * run->clock_uncertainty_s)
                                        : tdm_arena_printf(arena, "%s)", text);
}

void tdm_report_run(tdm_arena *arena, const tdm_result *result, const tdm_style *style, FILE *file)
{
    const tdm_run_report *run = &result->run;
    tdm_table table = {.arena = arena, .n_left = 1};
    tdm_table_head(&table, "step");
    tdm_table_head(&table, "ms");
    if (!isnan(run->steps[0].loss))
        tdm_table_head(&table, "loss");
    if (!isnan(run->steps[0].grad_norm))
        tdm_table_head(&table, "gradient norm");
    for (uint32_t i = 0; i < run->n_steps; i++)
        if (i < MOST_ROWS / 2 || i + MOST_ROWS / 2 >= run->n_steps)
            add_step(&table, run, i);
    bool paced = strcmp(run->device, "paced") == 0;
    const char *remark =
        paced ? tdm_arena_printf(
                    arena, "(times of %s; %g real seconds for one shown; ops up to %.3f ms late)",
                    run->times_of, run->pace, 1e3 * run->late_s)
        : run->memory_checked ? "(memory as planned, to the byte)"
                              : "";
    if (run->processes.n_processes > 0)
        remark = add_processes(arena, result, remark);
    tdm_style_heading(
        style, file,
        tdm_arena_printf(arena, "Steps on device %s, transport %s", run->device, run->transport),
        remark);
    tdm_table_print(&table, style, file);
}
