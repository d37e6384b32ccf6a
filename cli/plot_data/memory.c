/* memory.c: memory of the largest rank over the step, by class, with the limit. */
#include "plot.h"

#include "core/files.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

/* A number of figures.json's section on memory; 0 when it is not there. */
static double memory_value(const tdm_side *side, tdm_arena *arena, const char *key)
{
    json_t *document = json_load_file(tdm_file_join(arena, side->folder, "figures.json"), 0, NULL);
    const json_t *value = json_object_get(json_object_get(document, "memory"), key);
    double number = json_is_number(value) ? json_number_value(value) : 0;
    json_decref(document);
    return number;
}

static const tdm_side_rank *largest_rank(const tdm_side *side)
{
    const tdm_side_rank *largest = NULL;
    for (uint32_t r = 0; r < side->n_ranks; r++)
        if (!isnan(side->ranks[r].peak_memory_bytes) &&
            (!largest || side->ranks[r].peak_memory_bytes > largest->peak_memory_bytes))
            largest = &side->ranks[r];
    return largest;
}

/* The classes stacked on the context, at a time. */
static void put_stack(FILE *file, double time_ms, const double *bytes, double context)
{
    double level = 1e-9 * context;
    fprintf(file, "%.6f\t%.6f", time_ms, level);
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++) {
        level += 1e-9 * bytes[c];
        fprintf(file, "\t%.6f", level);
    }
    fputc('\n', file);
}

/* Live bytes hold from one pass's end to the next one's; before the first, what lives for the whole
 * step is there. */
static uint32_t put_rows(FILE *file, const tdm_plot_table *table, uint32_t rank, double context)
{
    uint32_t columns[TDM_N_CLASSES], n = 0, end = tdm_plot_column(table, "end_us");
    uint32_t at_rank = tdm_plot_column(table, "rank");
    tdm_arena scratch = {0};
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
        columns[c] = tdm_plot_column(
            table, tdm_arena_printf(&scratch, "%s_bytes", tdm_class_name((tdm_class)c)));
    double before[TDM_N_CLASSES] = {0};
    for (uint32_t row = 0; row < table->n_rows; row++) {
        if (tdm_plot_number(table, row, at_rank) != rank)
            continue;
        double bytes[TDM_N_CLASSES], time_ms = 1e-3 * tdm_plot_number(table, row, end);
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++) {
            double value = tdm_plot_number(table, row, columns[c]);
            bytes[c] = isnan(value) ? 0 : value;
            if (n == 0)
                before[c] = c <= TDM_CLASS_OPTIMIZER ? bytes[c] : 0;
        }
        if (n == 0)
            put_stack(file, 0, before, context);
        put_stack(file, time_ms, before, context);
        put_stack(file, time_ms, bytes, context);
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
            before[c] = bytes[c];
        n++;
    }
    tdm_arena_free(&scratch);
    return n;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    const tdm_side *side = input->b && input->b->folder ? input->b : input->a;
    const tdm_side_rank *largest = largest_rank(side);
    tdm_plot_table table;
    tdm_error unread = {0};
    if (!side->folder || !largest ||
        tdm_plot_table_read(input->arena, tdm_file_join(input->arena, side->folder, "memory.csv"),
                            &table, &unread) != TDM_OK) {
        *skipped = "the result has no memory.csv";
        return TDM_OK;
    }
    if (!(largest->peak_memory_bytes > 0)) { /* of pass times */
        *skipped = "memory is not known of this result";
        return TDM_OK;
    }
    double context = memory_value(side, input->arena, "context_bytes");
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    uint32_t n = put_rows(file, &table, largest->rank, context);
    tdm_code code = tdm_plot_close(file, base, err);
    if (n == 0)
        *skipped = "memory is not known of this result";
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    tdm_plot_assign(file, "heading",
                    tdm_arena_printf(input->arena, "Memory of the largest rank, %lu: %s",
                                     (unsigned long)largest->rank, side->name));
    fprintf(file, "peak = %.6f\nlimit = %.6f\n", 1e-9 * largest->peak_memory_bytes,
            1e-9 * memory_value(side, input->arena, "limit_bytes"));
    fprintf(file, "classes = 'context");
    for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
        fprintf(file, " %s", tdm_class_name((tdm_class)c));
    fputs("'\n", file);
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_memory = {
    .name = "memory", .needs = TDM_PLOT_RESULT, .write = write};
