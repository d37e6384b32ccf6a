/* comm.c: times of a collective by size, predicted and measured. */
#include "plot.h"

#include <math.h>

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    const tdm_plot_table *table = input->comm;
    uint32_t size = tdm_plot_column(table, "size_bytes"), n = 0;
    uint32_t predicted = tdm_plot_column(table, "predicted_us");
    if (predicted == UINT32_MAX)
        predicted = tdm_plot_column(table, "time_us");
    uint32_t measured = tdm_plot_column(table, "measured_us");
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    fputs("size_bytes\tpredicted_us\tmeasured_us\terror_percent\n", file);
    for (uint32_t row = 0; row < table->n_rows; row++) {
        double bytes = tdm_plot_number(table, row, size),
               x = tdm_plot_number(table, row, predicted);
        double y = tdm_plot_number(table, row, measured);
        if (!(bytes > 0 && x > 0 && y > 0))
            continue;
        fprintf(file, "%.0f\t%.6g\t%.6g\t%.4f\n", bytes, x, y, 100 * (x - y) / y);
        n++;
    }
    tdm_code code = tdm_plot_close(file, base, err);
    if (n == 0)
        *skipped = "no row with a size and both times above 0";
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    tdm_plot_assign(file, "heading",
                    input->title
                        ? input->title
                        : tdm_arena_printf(input->arena, "Communication: %s", table->path));
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_comm = {.name = "comm", .needs = TDM_PLOT_COMM, .write = write};
