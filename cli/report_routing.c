/* report_routing.c: what routing costs: evenness, the hottest expert and rank, their memory. */
#include "report.h"

#include <inttypes.h>

/* Mean peak memory of the ranks of one stage. */
static double stage_memory(const tdm_figures *f, uint32_t stage)
{
    double sum = 0, n = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++)
        if (f->ranks[r].stage == stage) {
            sum += (double)f->ranks[r].peak_memory_bytes;
            n++;
        }
    return n > 0 ? sum / n : 0;
}

static const char *model_text(tdm_arena *arena, const tdm_routing *routing)
{
    const char *name = tdm_routing_model_name(routing->model);
    switch (routing->model) {
    case TDM_ROUTING_ZIPF:
        return tdm_arena_printf(arena, "%s, exponent %g", name, routing->exponent);
    case TDM_ROUTING_DIRICHLET:
        return tdm_arena_printf(arena, "%s, concentration %g", name, routing->concentration);
    case TDM_ROUTING_HOT:
        return tdm_arena_printf(arena, "%s, expert %" PRIu32 " with %g %%", name,
                                routing->hot_expert, 100 * routing->hot_share);
    default:
        return name;
    }
}

void tdm_report_routing(tdm_arena *arena, const tdm_result *result, const tdm_style *style,
                        FILE *file)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    const tdm_figures *f = &result->step.figures;
    const tdm_routing *routing = &result->step.plan.routing_spec;
    const tdm_rank_figures *hot = &f->ranks[f->hot_rank];
    double mean = stage_memory(f, hot->stage), own = (double)hot->peak_memory_bytes;
    tdm_table table = {.arena = arena, .n_left = 2};
    tdm_table_head(&table, "");
    tdm_table_head(&table, "");
    tdm_table_cell(&table, "hottest expert");
    tdm_table_cell(&table, "%" PRIu32 " in layer %" PRIu32 ": %.2f times the mean of its layer",
                   f->hot_expert, f->hot_layer, f->hot_expert_share);
    tdm_table_cell(&table, "hottest rank");
    tdm_table_cell(&table, "%" PRIu32 ": %.2f times the tokens of its stage's mean", hot->rank,
                   f->hot_rank_share);
    tdm_table_cell(&table, "its peak memory");
    tdm_table_cell(&table, "%.2f GiB, %+.2f to its stage's mean", own / gib, (own - mean) / gib);
    if (routing->capacity_factor > 0) {
        tdm_table_cell(&table, "dropped");
        tdm_table_cell(&table, "%.2f %% of the choices, at capacity factor %g%s",
                       100 * f->dropped_fraction, routing->capacity_factor,
                       routing->pad_to_capacity ? ", experts padded to it" : "");
    }
    tdm_style_heading(
        style, file,
        tdm_arena_printf(arena, "Routing: %.1f %% expert efficiency", 100 * f->expert_efficiency),
        tdm_arena_printf(arena, "(%s)", model_text(arena, routing)));
    tdm_table_print(&table, style, file);
}
