/* pareto.c: throughput against memory, and the front of both. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct point {
    double memory_gb, tokens_per_s;
    const char *label;
} point;

static int by_memory(const void *a, const void *b)
{
    const point *x = a, *y = b;
    return x->memory_gb < y->memory_gb ? -1 : x->memory_gb > y->memory_gb;
}

/* The point's values of the keys, as "1f1b 8 16". */
static const char *label_of(tdm_arena *arena, const tdm_plot_table *t, uint32_t row)
{
    uint32_t n_keys = tdm_plot_column(t, "status");
    const char *label = "";
    for (uint32_t k = 0; k < n_keys; k++)
        label = tdm_arena_printf(arena, "%s%s%s", label, k ? " " : "", tdm_plot_cell(t, row, k));
    return label;
}

static const char *keys_of(tdm_arena *arena, const tdm_plot_table *t)
{
    uint32_t n_keys = tdm_plot_column(t, "status");
    const char *label = "";
    for (uint32_t k = 0; k < n_keys; k++) {
        const char *dot = strrchr(t->heads[k], '.');
        label =
            tdm_arena_printf(arena, "%s%s%s", label, k ? ", " : "", dot ? dot + 1 : t->heads[k]);
    }
    return label;
}

/* Three blocks: the front, what fits besides, what does not fit. Only points with both figures. */
static uint32_t put_points(const tdm_plot_input *input, FILE *file)
{
    const tdm_plot_table *t = input->sweep;
    uint32_t status = tdm_plot_column(t, "status"), pareto = tdm_plot_column(t, "pareto");
    uint32_t memory = tdm_plot_column(t, "peak_memory_bytes");
    uint32_t tokens = tdm_plot_column(t, "tokens_per_s"), total = 0;
    point *points = TDM_ALLOC(input->arena, point, t->n_rows);
    for (int block = 0; block < 3; block++) {
        uint32_t n = 0;
        for (uint32_t row = 0; row < t->n_rows; row++) {
            double x = tdm_plot_number(t, row, memory), y = tdm_plot_number(t, row, tokens);
            bool fits = strcmp(tdm_plot_cell(t, row, status), "ok") == 0;
            bool front = pareto != UINT32_MAX && strcmp(tdm_plot_cell(t, row, pareto), "yes") == 0;
            if (x > 0 && y > 0 && block == (front ? 0 : fits ? 1 : 2))
                points[n++] = (point){1e-9 * x, y, label_of(input->arena, t, row)};
        }
        qsort(points, n, sizeof *points, by_memory);
        fprintf(file, "%s\"block %d\"\n", block ? "\n\n" : "", block);
        for (uint32_t i = 0; i < n; i++)
            fprintf(file, "%.6f\t%.3f\t%s\n", points[i].memory_gb, 1e-3 * points[i].tokens_per_s,
                    points[i].label);
        if (n == 0)
            fputs("NaN\tNaN\t\n", file);
        total += n;
    }
    return total;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    if (put_points(input, file) == 0)
        *skipped = "the sweep's points have no memory and throughput";
    tdm_code code = tdm_plot_close(file, base, err);
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    tdm_plot_assign(file, "keys", keys_of(input->arena, input->sweep));
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_pareto = {
    .name = "pareto", .needs = TDM_PLOT_SWEEP, .write = write};
