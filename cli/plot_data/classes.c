/* classes.c: time by class of op, predicted and measured. */
#include "plot.h"

#include <math.h>
#include <string.h>

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    const tdm_comparison *c = input->comparison;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_rows; i++)
        n += c->rows[i].section == TDM_COMPARE_CLASSES;
    if (n == 0) {
        *skipped = "op classes are not known of both";
        return TDM_OK;
    }
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    fputs("class\tpredicted_ms\tmeasured_ms\terror_percent\n", file);
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        if (row->section != TDM_COMPARE_CLASSES)
            continue;
        double error = tdm_compare_error(row->predicted, row->measured);
        fprintf(file, "%s\t%.6f\t%.6f\t", row->name, 1e3 * row->predicted, 1e3 * row->measured);
        if (isnan(error))
            fputs("\n", file);
        else
            fprintf(file, "%+.1f%%\n", fabs(error) < 5e-4 ? 0 : 100 * error);
    }
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_classes = {
    .name = "classes", .needs = TDM_PLOT_PAIR, .write = write};
