/* sweep_pareto.c: order of rows by a figure, and the Pareto front of two. */
#include "sweep.h"

#include <math.h>
#include <stdlib.h>

/* A point with a figure made so that less is better; NAN, no figure, comes last. */
typedef struct entry {
    uint32_t point;
    double first, second;
} entry;

static int compare_numbers(double a, double b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) - isnan(b);
    return (a > b) - (a < b);
}

static int by_figures(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = compare_numbers(x->first, y->first);
    if (order == 0)
        order = compare_numbers(x->second, y->second);
    return order ? order : (x->point > y->point) - (x->point < y->point);
}

/* Nine digits: what differs in the rounding of sums only is equal. */
static double cost(const tdm_sweep_row *row, uint32_t figure)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", row->figures[figure]);
    double value = strtod(text, NULL);
    return tdm_figure_infos[figure].higher_is_better ? -value : value;
}

bool tdm_sweep_is_ok(const tdm_sweep_row *row)
{
    return row->status == TDM_SWEEP_OK;
}

bool tdm_sweep_is_front(const tdm_sweep_row *row)
{
    return row->front;
}

uint32_t *tdm_sweep_order(tdm_arena *arena, const tdm_sweep *sweep, uint32_t figure,
                          bool (*wanted)(const tdm_sweep_row *row), uint32_t *n)
{
    entry *entries = TDM_ALLOC(arena, entry, sweep->grid.n_points);
    *n = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        if (wanted(&sweep->rows[i]))
            entries[(*n)++] = (entry){i, cost(&sweep->rows[i], figure), 0};
    qsort(entries, *n, sizeof *entries, by_figures);
    uint32_t *order = TDM_ALLOC(arena, uint32_t, *n);
    for (uint32_t i = 0; i < *n; i++)
        order[i] = entries[i].point;
    return order;
}

void tdm_sweep_mark_front(tdm_arena *arena, tdm_sweep *sweep, const tdm_sweep_view *view)
{
    entry *entries = TDM_ALLOC(arena, entry, sweep->grid.n_points);
    uint32_t n = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++) {
        const tdm_sweep_row *row = &sweep->rows[i];
        if (row->status != TDM_SWEEP_OK || isnan(row->figures[view->pareto[0]]) ||
            isnan(row->figures[view->pareto[1]]))
            continue;
        entries[n++] = (entry){i, cost(row, view->pareto[0]), cost(row, view->pareto[1])};
    }
    qsort(entries, n, sizeof *entries, by_figures);
    /* Best first by one figure: only what is better in the other than all before it stays, and what
     * equals such a point in both. */
    const entry *last = NULL;
    for (uint32_t i = 0; i < n; i++) {
        bool equal = last && entries[i].first == last->first && entries[i].second == last->second;
        if (last && !equal && !(entries[i].second < last->second))
            continue;
        sweep->rows[entries[i].point].front = true;
        last = &entries[i];
    }
}
