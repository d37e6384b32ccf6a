/* sweep.c: points of a sweep: as they are, and as a table over two keys. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEYS = 16 };

/* Columns before `status` are the keys. Those that take several values come first in `keys`. */
static uint32_t varying_keys(const tdm_plot_table *t, uint32_t keys[MOST_KEYS])
{
    uint32_t n_keys = tdm_plot_column(t, "status"), n = 0;
    for (uint32_t k = 0; k < n_keys && n < MOST_KEYS; k++) {
        bool varies = false;
        for (uint32_t row = 1; row < t->n_rows && !varies; row++)
            varies = strcmp(tdm_plot_cell(t, row, k), tdm_plot_cell(t, 0, k)) != 0;
        if (varies)
            keys[n++] = k;
    }
    return n;
}

static bool is_number(const char *text)
{
    char *end;
    strtod(text, &end);
    return end != text && *end == '\0';
}

static int by_value(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    if (!is_number(x) || !is_number(y))
        return strcmp(x, y);
    double u = strtod(x, NULL), v = strtod(y, NULL);
    return u < v ? -1 : u > v;
}

/* The different values of a column, sorted. */
static const char **values_of(tdm_arena *arena, const tdm_plot_table *t, uint32_t column,
                              uint32_t *n)
{
    const char **all = TDM_ALLOC(arena, const char *, t->n_rows);
    for (uint32_t row = 0; row < t->n_rows; row++)
        all[row] = tdm_plot_cell(t, row, column);
    qsort(all, t->n_rows, sizeof *all, by_value);
    *n = 0;
    for (uint32_t i = 0; i < t->n_rows; i++)
        if (i == 0 || strcmp(all[i], all[*n - 1]) != 0)
            all[(*n)++] = all[i];
    return all;
}

/* The last part of a key: "num_microbatches". */
static const char *brief(const char *key)
{
    const char *dot = strrchr(key, '.');
    const char *last = dot ? dot + 1 : key;
    return strcmp(last, "name") == 0 || strcmp(last, "model") == 0 ? key : last;
}

/* What the heat map is coloured by: throughput where there is one, else the step time. */
typedef struct measure {
    uint32_t column;
    const char *label;
    double scale;
    bool higher_is_better;
} measure;

static measure choose_measure(const tdm_plot_table *t)
{
    measure m = {tdm_plot_column(t, "tokens_per_s"), "thousand tokens per second", 1e-3, true};
    for (uint32_t row = 0; row < t->n_rows; row++)
        if (tdm_plot_number(t, row, m.column) > 0)
            return m;
    return (measure){tdm_plot_column(t, "step_time_s"), "step time (ms)", 1e3, false};
}

static bool is_usable(const tdm_plot_table *t, uint32_t row)
{
    return strcmp(tdm_plot_cell(t, row, tdm_plot_column(t, "status")), "ok") == 0;
}

/* The best usable point with both values; NAN when there is none. */
static double best_of(const tdm_plot_table *t, const measure *m, const uint32_t keys[2],
                      const char *x, const char *y)
{
    double best = NAN;
    for (uint32_t row = 0; row < t->n_rows; row++) {
        double value = tdm_plot_number(t, row, m->column);
        if (isnan(value) || !is_usable(t, row) || strcmp(tdm_plot_cell(t, row, keys[0]), x) != 0 ||
            strcmp(tdm_plot_cell(t, row, keys[1]), y) != 0)
            continue;
        if (isnan(best) || (m->higher_is_better ? value > best : value < best))
            best = value;
    }
    return best;
}

/* A cell per line: place in x and y, value, whether it is known; the axes' labels go to .var. */
static uint32_t put_grid(const tdm_plot_input *input, FILE *file, FILE *var, const uint32_t keys[2],
                         uint32_t n_keys)
{
    const tdm_plot_table *t = input->sweep;
    uint32_t n_x, n_y, n_known = 0;
    measure m = choose_measure(t);
    const char **xs = values_of(input->arena, t, keys[0], &n_x);
    const char **ys = values_of(input->arena, t, keys[1], &n_y);
    for (uint32_t y = 0; y < n_y; y++) {
        for (uint32_t x = 0; x < n_x; x++) {
            double value = best_of(t, &m, keys, xs[x], ys[y]);
            n_known += isnan(value) ? 0 : 1;
            fprintf(file, "%lu\t%lu\t", (unsigned long)x, (unsigned long)y);
            if (isnan(value))
                fputs("0\t0\n", file);
            else
                fprintf(file, "%.6g\t1\n", m.scale * value);
        }
        fputc('\n', file);
    }
    tdm_plot_assign(var, "x_label", brief(t->heads[keys[0]]));
    tdm_plot_assign(var, "y_label", brief(t->heads[keys[1]]));
    tdm_plot_assign(var, "value_label", m.label);
    tdm_plot_assign(var, "remark", n_keys > 2 ? ", best over the other keys" : "");
    fprintf(var, "n_x = %lu\nn_y = %lu\narray xs[%lu]\narray ys[%lu]\n", (unsigned long)n_x,
            (unsigned long)n_y, (unsigned long)n_x, (unsigned long)n_y);
    for (uint32_t x = 0; x < n_x; x++)
        tdm_plot_assign(var, tdm_arena_printf(input->arena, "xs[%lu]", (unsigned long)x + 1),
                        xs[x]);
    for (uint32_t y = 0; y < n_y; y++)
        tdm_plot_assign(var, tdm_arena_printf(input->arena, "ys[%lu]", (unsigned long)y + 1),
                        ys[y]);
    return n_known;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    uint32_t keys[MOST_KEYS], n = varying_keys(input->sweep, keys);
    if (n < 2) {
        *skipped = "a heat map needs two keys that vary";
        return TDM_OK;
    }
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    FILE *var = file ? tdm_plot_open(input->arena, base, ".var", err) : NULL;
    if (!var) {
        if (file)
            fclose(file);
        return TDM_E_INTERNAL;
    }
    if (put_grid(input, file, var, keys, n) == 0)
        *skipped = "no point of the sweep fits";
    tdm_code code = tdm_plot_close(file, base, err);
    tdm_code code_var = tdm_plot_close(var, base, err);
    return code == TDM_OK ? code_var : code;
}

const tdm_plot_data tdm_plot_data_sweep = {
    .name = "sweep", .needs = TDM_PLOT_SWEEP, .write = write};
