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
        paced ? tdm_arena_printf(arena, "(%g real seconds for one shown; ops up to %.3f ms late)",
                                 run->pace, 1e3 * run->late_s)
        : run->memory_checked ? "(memory as planned, to the byte)"
                              : "";
    tdm_style_heading(
        style, file,
        tdm_arena_printf(arena, "Steps on device %s, transport %s", run->device, run->transport),
        remark);
    tdm_table_print(&table, style, file);
}
