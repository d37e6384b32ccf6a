/* comm_plot.c: the picture of a table of `tandem comm` beside measurements. */
#include "comm.h"
#include "plot.h"

#include <string.h>

enum { N_COLUMNS = 3 };

/* The table as the data function of the picture reads it. */
static tdm_plot_table *as_csv(tdm_arena *arena, const tdm_comm_table *table, const char *log)
{
    static const char *const names[N_COLUMNS] = {"size_bytes", "predicted_us", "measured_us"};
    tdm_plot_table *csv = TDM_ALLOC(arena, tdm_plot_table, 1);
    const char **heads = TDM_ALLOC(arena, const char *, N_COLUMNS);
    const char **cells = TDM_ALLOC(arena, const char *, (size_t)table->n_rows *N_COLUMNS + 1);
    memcpy(heads, names, sizeof names);
    for (uint32_t i = 0; i < table->n_rows; i++) {
        const tdm_comm_row *row = &table->rows[i];
        cells[i * N_COLUMNS] = tdm_arena_printf(arena, "%llu", (unsigned long long)row->bytes);
        cells[i * N_COLUMNS + 1] = tdm_arena_printf(arena, "%.9g", row->time_s * 1e6);
        cells[i * N_COLUMNS + 2] = tdm_arena_printf(arena, "%.9g", row->measured_s * 1e6);
    }
    *csv = (tdm_plot_table){log, N_COLUMNS, table->n_rows, heads, cells};
    return csv;
}

tdm_code tdm_comm_plot(tdm_arena *arena, const tdm_comm_table *table, const char *log,
                       const char *folder, tdm_error *err)
{
    const char *root = tdm_cli_root(arena), *skipped = NULL;
    tdm_plot *plots;
    uint32_t n;
    const char *name = strrchr(log, '/');
    const tdm_plot_input input = {
        .arena = arena,
        .comm = as_csv(arena, table, log),
        .title = tdm_arena_printf(arena, "%s of %s, %u ranks; %s", tdm_nccl_func_name(table->func),
                                  table->machine, table->comm.n_ranks, name ? name + 1 : log)};
    tdm_code code = tdm_plot_list(arena, root, &plots, &n, err);
    for (uint32_t i = 0; code == TDM_OK && i < n; i++)
        if (tdm_plot_suits(&plots[i], &input))
            code = tdm_plot_draw(arena, root, &plots[i], &input, folder, "both", &skipped, err);
    return code;
}
