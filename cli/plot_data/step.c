/* step.c: where the step's time goes, rank by rank. */
#include "plot.h"

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    const tdm_side *side = input->b ? input->b : input->a;
    if (side->n_ranks == 0) {
        *skipped = "the result holds no ranks";
        return TDM_OK;
    }
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    fputs("rank\tcompute_ms\ttransfer_ms\twaiting_ms\tbubble_ms\tissue_ms\toptimizer_ms\n", file);
    for (uint32_t r = 0; r < side->n_ranks; r++) {
        const tdm_waterfall *w = &side->ranks[r].waterfall;
        fprintf(file, "%lu\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\t%.6f\n",
                (unsigned long)side->ranks[r].rank, 1e3 * w->compute_s, 1e3 * w->exposed_transfer_s,
                1e3 * w->peer_wait_s, 1e3 * w->bubble_s, 1e3 * w->issue_gap_s,
                1e3 * w->optimizer_s);
    }
    tdm_code code = tdm_plot_close(file, base, err);
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    tdm_plot_assign(file, "heading",
                    tdm_arena_printf(input->arena, "Where the step's %.1f ms go: %s",
                                     1e3 * side->figures[tdm_side_figure("step_time_s")],
                                     side->name));
    fprintf(file, "n_ranks = %lu\n", (unsigned long)side->n_ranks);
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_step = {.name = "step", .needs = TDM_PLOT_RESULT, .write = write};
