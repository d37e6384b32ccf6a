/* sweep_report.c: a sweep for people: the best points, and why the others are out. */
#include "sweep.h"

#include "report.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REASONS = 8, REASON_BYTES = 400 };

static const char *write_figure(tdm_arena *arena, uint32_t figure, double value)
{
    const char *unit = tdm_figure_infos[figure].unit;
    if (isnan(value))
        return "-";
    if (unit[0] == '\0')
        return tdm_arena_printf(arena, "%.1f %%", 100 * value);
    if (strcmp(unit, "s") == 0)
        return value < 1e-3 ? tdm_arena_printf(arena, "%.2f us", 1e6 * value)
                            : tdm_arena_printf(arena, "%.2f ms", 1e3 * value);
    if (strcmp(unit, "bytes") == 0)
        return tdm_arena_printf(arena, "%.2f GB", 1e-9 * value);
    return tdm_report_count(arena, value);
}

static void put_point(tdm_table *table, const tdm_sweep *sweep, const tdm_sweep_view *view,
                      uint32_t point)
{
    const tdm_sweep_grid *grid = &sweep->grid;
    const tdm_sweep_row *row = &sweep->rows[point];
    tdm_table_cell(table, "%s", row->front ? "*" : "");
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        const char *value = grid->values[(size_t)point * grid->n_keys + k];
        tdm_table_cell(table, "%s", value ? value : "-");
    }
    for (uint32_t i = 0; i < view->n_figures; i++)
        tdm_table_cell(
            table, "%s",
            write_figure(table->arena, view->figures[i], row->figures[view->figures[i]]));
}

static uint32_t n_front(const tdm_sweep *sweep)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        n += sweep->rows[i].front;
    return n;
}

static void put_best(tdm_arena *arena, const tdm_sweep *sweep, const tdm_sweep_view *view,
                     const tdm_style *style, FILE *file)
{
    uint32_t n;
    const uint32_t *order = tdm_sweep_order(arena, sweep, view->sort, tdm_sweep_is_ok, &n);
    uint32_t shown = n < view->top ? n : view->top;
    if (n == 0)
        return;
    tdm_table table = {.arena = arena, .n_left = 1 + sweep->grid.n_keys};
    tdm_table_head(&table, "");
    for (uint32_t k = 0; k < sweep->grid.n_keys; k++)
        tdm_table_head(&table, sweep->grid.briefs[k]);
    for (uint32_t i = 0; i < view->n_figures; i++)
        tdm_table_head(&table, tdm_figure_infos[view->figures[i]].name);
    for (uint32_t i = 0; i < shown; i++)
        put_point(&table, sweep, view, order[i]);
    bool sized = !isnan(sweep->rows[order[0]].figures[tdm_sweep_figure("peak_memory_bytes")]);
    const char *what = sized ? "that fit" : n == 1 ? "point" : "points";
    const char *by = tdm_figure_infos[view->sort].name;
    tdm_style_heading(style, file,
                      shown < n ? tdm_arena_printf(arena, "The best %u of %u %s", shown, n, what)
                                : tdm_arena_printf(arena, "All %u %s", n, what),
                      n_front(sweep)
                          ? tdm_arena_printf(arena, "(by %s; * on the Pareto front of %s and %s)",
                                             by, tdm_figure_infos[view->pareto[0]].name,
                                             tdm_figure_infos[view->pareto[1]].name)
                          : tdm_arena_printf(arena, "(by %s)", by));
    tdm_table_print(&table, style, file);
}

/* Whether two reasons are the same but for numbers. */
static bool same_reason(const char *a, const char *b)
{
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            a += strspn(a, "0123456789.");
            b += strspn(b, "0123456789.");
        } else if (*a++ != *b++) {
            return false;
        }
    }
    return *a == *b;
}

/* Rows without a place in the table, alike ones together. */
typedef struct reason {
    tdm_sweep_status status;
    const char *text; /* of the first */
    uint32_t n;
} reason;

static uint32_t collect_reasons(tdm_arena *arena, const tdm_sweep *sweep, reason **reasons)
{
    uint32_t n = 0, capacity = 64;
    *reasons = TDM_ALLOC(arena, reason, capacity);
    for (uint32_t i = 0; i < sweep->grid.n_points; i++) {
        const tdm_sweep_row *row = &sweep->rows[i];
        uint32_t r = 0;
        if (row->status == TDM_SWEEP_OK)
            continue;
        while (r < n && ((*reasons)[r].status != row->status ||
                         !same_reason((*reasons)[r].text, row->reason)))
            r++;
        if (r == capacity)
            continue; /* counted under "other reasons" */
        if (r == n)
            (*reasons)[n++] = (reason){row->status, row->reason, 0};
        (*reasons)[r].n++;
    }
    return n;
}

static int by_count(const void *a, const void *b)
{
    const reason *x = a, *y = b;
    if (x->n != y->n)
        return x->n < y->n ? 1 : -1;
    return strcmp(x->text, y->text);
}

static void put_reasons(tdm_arena *arena, const tdm_sweep *sweep, FILE *file)
{
    reason *reasons;
    uint32_t n = collect_reasons(arena, sweep, &reasons), rest = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        rest += sweep->rows[i].status != TDM_SWEEP_OK;
    qsort(reasons, n, sizeof *reasons, by_count);
    for (uint32_t i = 0; i < n && i < MAX_REASONS; i++) {
        fprintf(file, "  %6u %-10s  %s%.*s\n", reasons[i].n,
                tdm_sweep_status_name(reasons[i].status), reasons[i].n > 1 ? "as " : "",
                REASON_BYTES, reasons[i].text);
        rest -= reasons[i].n;
    }
    if (rest)
        fprintf(file, "  %6u for other reasons (sweep.csv has them)\n", rest);
}

void tdm_sweep_report(tdm_arena *arena, const tdm_sweep *sweep, const tdm_sweep_view *view,
                      const tdm_style *style, FILE *file)
{
    uint32_t n = sweep->grid.n_points, n_of[TDM_SWEEP_N_STATUSES] = {0};
    fprintf(file, "%s: %u point%s, engine %s\n", sweep->scenario_path, n, n == 1 ? "" : "s",
            sweep->engine);
    for (uint32_t k = 0; k < sweep->grid.n_keys; k++)
        if (strcmp(sweep->grid.keys[k], sweep->grid.briefs[k]) != 0)
            fprintf(file, "  %s: %s\n", sweep->grid.briefs[k], sweep->grid.keys[k]);
    for (uint32_t i = 0; i < n; i++)
        n_of[sweep->rows[i].status]++;
    put_best(arena, sweep, view, style, file);
    if (n_of[TDM_SWEEP_OK] == n)
        return;
    tdm_style_heading(style, file,
                      tdm_arena_printf(arena, "Not in the table: %u", n - n_of[TDM_SWEEP_OK]), "");
    put_reasons(arena, sweep, file);
}
