/* plan_memory.c: `tandem plan --memory`. */
#include "core/layout.h"
#include "plan_views.h"
#include "table.h"

#include <inttypes.h>
#include <math.h>

static double mib(uint64_t bytes)
{
    return ldexp((double)bytes, -20);
}

/* Of the stage's ranks, the lowest with the largest arena. */
static const tdm_layout *largest_of_stage(const tdm_plan *plan, uint32_t stage,
                                          const tdm_layout *layouts)
{
    const tdm_layout *largest = &layouts[stage * plan->mesh.per_stage];
    for (uint32_t i = 1; i < plan->mesh.per_stage; i++)
        if (layouts[stage * plan->mesh.per_stage + i].arena_bytes > largest->arena_bytes)
            largest = &layouts[stage * plan->mesh.per_stage + i];
    return largest;
}

static void add_row(tdm_table *table, uint32_t stage, const tdm_layout *layout,
                    uint64_t context_bytes)
{
    tdm_table_cell(table, "%" PRIu32, stage);
    tdm_table_cell(table, "%" PRIu32, layout->rank);
    for (int c = 0; c < TDM_N_CLASSES; c++)
        tdm_table_cell(table, "%.1f", mib(layout->class_at_peak[c]));
    tdm_table_cell(table, "%.1f", mib(layout->live_peak_bytes));
    tdm_table_cell(table, "%.1f", mib(layout->arena_bytes));
    tdm_table_cell(table, "%.1f", mib(context_bytes));
    tdm_table_cell(table, "%.1f", mib(layout->arena_bytes + context_bytes));
}

static void print_legend(FILE *file, uint64_t limit_bytes)
{
    fprintf(
        file,
        "\nClasses at the peak of live bytes; the arena holds them at fixed addresses, so it may be larger.\n");
    if (limit_bytes > 0)
        fprintf(file, "Limit: %.1f MiB\n", mib(limit_bytes));
}

tdm_code tdm_view_memory(tdm_arena *arena, const tdm_plan *plan, uint64_t context_bytes,
                         uint64_t limit_bytes, FILE *file, tdm_error *err)
{
    static const char *const ends[] = {"live", "arena", "context", "total"};
    if (plan->pass_times)
        return tdm_error_add(err, TDM_E_INVALID, "--memory: a plan of pass times has no tensors");
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    tdm_code code = tdm_layout_build_all(arena, plan, false, layouts, err);
    if (code != TDM_OK)
        return code;
    tdm_table table = {.arena = arena};
    const tdm_layout *worst = &layouts[0];
    tdm_table_head(&table, "stage");
    tdm_table_head(&table, "rank");
    for (int c = 0; c < TDM_N_CLASSES; c++)
        tdm_table_head(&table, tdm_class_name((tdm_class)c));
    for (size_t i = 0; i < TDM_COUNT(ends); i++)
        tdm_table_head(&table, ends[i]);
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++) {
        const tdm_layout *largest = largest_of_stage(plan, stage, layouts);
        add_row(&table, stage, largest, context_bytes);
        if (largest->arena_bytes > worst->arena_bytes)
            worst = largest;
    }
    uint64_t total = worst->arena_bytes + context_bytes;
    fprintf(file, "%s: memory of each stage's largest rank in MiB; rank %" PRIu32 " needs most\n\n",
            plan->name, worst->rank);
    tdm_table_print(&table, &(tdm_style){0}, file);
    print_legend(file, limit_bytes);
    if (limit_bytes == 0 || total <= limit_bytes)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INFEASIBLE,
                         "rank %" PRIu32 " needs %.1f MiB, %.1f MiB above the limit", worst->rank,
                         mib(total), mib(total - limit_bytes));
}
