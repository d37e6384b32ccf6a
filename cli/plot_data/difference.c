/* difference.c: from the predicted step to the measured one, part by part. */
#include "plot.h"

#include <math.h>

/* The part of the axis that shows the changes: from 0 where they are large, else from below the
 * lowest bar. */
static void put_range(FILE *file, double low, double high)
{
    double span = high - low, from = low - 2 * span;
    bool from_zero = from < 0.5 * low;
    fprintf(file, "y_from = %.6f\ny_to = %.6f\n", from_zero ? 0 : from,
            high + 0.12 * (from_zero ? high : 3 * span) + (span > 0 ? 0 : 0.01 * high));
    tdm_plot_assign(file, "axis", from_zero ? "step time (ms)" : "step time (ms), not from 0");
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    (void)skipped;
    const tdm_comparison *c = input->comparison;
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    double level = 1e3 * c->step_predicted_s, low = level, high = level;
    fputs("place\tpart\tfrom_ms\tto_ms\tchange_ms\n", file);
    fprintf(file, "0\tpredicted\t0\t%.6f\t%.6f\n", level, level);
    uint32_t place = 1;
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        if (row->section != TDM_COMPARE_WATERFALL)
            continue;
        double change = -1e3 * tdm_compare_difference(row);
        fprintf(file, "%lu\t%s\t%.6f\t%.6f\t%.6f\n", (unsigned long)place++, row->name, level,
                level + change, change);
        level += change;
        low = fmin(low, level);
        high = fmax(high, level);
    }
    fprintf(file, "%lu\tmeasured\t0\t%.6f\t%.6f\n", (unsigned long)place, 1e3 * c->step_measured_s,
            1e3 * c->step_measured_s);
    tdm_code code = tdm_plot_close(file, base, err);
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    put_range(file, low, high);
    double error = tdm_compare_error(c->step_predicted_s, c->step_measured_s);
    tdm_plot_assign(file, "heading",
                    tdm_arena_printf(input->arena, "Step time, %s against %s: %+.1f %%", c->a->name,
                                     c->b->name, 100 * error));
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_difference = {
    .name = "difference", .needs = TDM_PLOT_PAIR, .write = write};
