/* bubble.c: the pipeline bubble against the number of microbatches, a line for each combination of
 * the other keys. */
#include "plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINES = 7 };

typedef struct dot {
    double microbatches, bubble;
} dot;

static int by_microbatches(const void *a, const void *b)
{
    const dot *x = a, *y = b;
    return x->microbatches < y->microbatches ? -1 : x->microbatches > y->microbatches;
}

static uint32_t microbatch_column(const tdm_plot_table *t)
{
    static const char *const names[] = {"schedule.num_microbatches", "num_microbatches"};
    uint32_t n_keys = tdm_plot_column(t, "status");
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        uint32_t column = tdm_plot_column(t, names[i]);
        if (column < n_keys)
            return column;
    }
    return UINT32_MAX;
}

static const char *name_of(tdm_arena *arena, const tdm_plot_table *t, uint32_t row, uint32_t m)
{
    uint32_t n_keys = tdm_plot_column(t, "status");
    const char *name = "";
    for (uint32_t k = 0; k < n_keys; k++)
        if (k != m)
            name = tdm_arena_printf(arena, "%s%s%s", name, name[0] ? " " : "",
                                    tdm_plot_cell(t, row, k));
    return name[0] ? name : "sweep";
}

/* Blocks of lines in order of first mention; returns how many, those beyond MOST_LINES counted in
 * *n_left_out; widens range. */
static uint32_t put_series(const tdm_plot_input *input, FILE *file, uint32_t m,
                           uint32_t *n_left_out, double range[2])
{
    const tdm_plot_table *t = input->sweep;
    uint32_t bubble = tdm_plot_column(t, "bubble_fraction"), n = 0;
    const char **names = TDM_ALLOC(input->arena, const char *, t->n_rows);
    bool *done = TDM_ALLOC(input->arena, bool, t->n_rows);
    dot *dots = TDM_ALLOC(input->arena, dot, t->n_rows);
    for (uint32_t row = 0; row < t->n_rows; row++)
        names[row] = name_of(input->arena, t, row, m);
    for (uint32_t row = 0; row < t->n_rows; row++) {
        uint32_t n_dots = 0;
        for (uint32_t other = row; other < t->n_rows && !done[row]; other++) {
            if (done[other] || strcmp(names[other], names[row]) != 0)
                continue;
            dot d = {tdm_plot_number(t, other, m), tdm_plot_number(t, other, bubble)};
            done[other] = other != row;
            if (d.microbatches > 0 && !isnan(d.bubble))
                dots[n_dots++] = d;
        }
        done[row] = true;
        if (n_dots == 0)
            continue;
        if (n == MOST_LINES) {
            ++*n_left_out;
            continue;
        }
        qsort(dots, n_dots, sizeof *dots, by_microbatches);
        fprintf(file, "%s\"%s\"\n", n ? "\n\n" : "", names[row]);
        for (uint32_t i = 0; i < n_dots; i++)
            fprintf(file, "%.0f\t%.4f\n", dots[i].microbatches, 100 * dots[i].bubble);
        range[0] = fmin(range[0], dots[0].microbatches);
        range[1] = fmax(range[1], dots[n_dots - 1].microbatches);
        n++;
    }
    return n;
}

static tdm_code write(const tdm_plot_input *input, const char *base, const char **skipped,
                      tdm_error *err)
{
    uint32_t m = microbatch_column(input->sweep), n_left_out = 0;
    if (m == UINT32_MAX) {
        *skipped = "num_microbatches is no key of the sweep";
        return TDM_OK;
    }
    FILE *file = tdm_plot_open(input->arena, base, ".dat", err);
    if (!file)
        return TDM_E_INTERNAL;
    double range[2] = {INFINITY, 0};
    uint32_t n = put_series(input, file, m, &n_left_out, range);
    tdm_code code = tdm_plot_close(file, base, err);
    if (n == 0)
        *skipped = "no point of the sweep has a bubble";
    if (code != TDM_OK || !(file = tdm_plot_open(input->arena, base, ".var", err)))
        return TDM_E_INTERNAL;
    fprintf(file, "n_lines = %lu\nfrom = %g\nto = %g\n", (unsigned long)n, n ? range[0] : 1,
            n ? range[1] : 1);
    tdm_plot_assign(file, "remark",
                    n_left_out ? tdm_arena_printf(input->arena, " (%lu more lines left out)",
                                                  (unsigned long)n_left_out)
                               : "");
    return tdm_plot_close(file, base, err);
}

const tdm_plot_data tdm_plot_data_bubble = {
    .name = "bubble", .needs = TDM_PLOT_SWEEP, .write = write};
