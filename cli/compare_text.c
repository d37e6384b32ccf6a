/* compare_text.c: a comparison for people. */
#include "compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 16, MOST_OPS = 10 };

/* What would be printed as -0.0 is 0. */
static double tidy(double value, double half_digit)
{
    return fabs(value) < half_digit ? 0 : value;
}

static const char *error_text(tdm_arena *arena, double predicted, double measured)
{
    double error = tdm_compare_error(predicted, measured);
    return isnan(error) ? "-" : tdm_arena_printf(arena, "%+.1f", tidy(100 * error, 0.05));
}

/* A value in the unit that people read it in. */
static const char *value_text(tdm_arena *arena, double value, const char *unit)
{
    if (strcmp(unit, "s") == 0)
        return tdm_arena_printf(arena, "%.3f ms", tidy(1e3 * value, 5e-4));
    if (strcmp(unit, "bytes") == 0)
        return tdm_arena_printf(arena, "%.3f GB", tidy(1e-9 * value, 5e-4));
    if (unit[0])
        return tdm_arena_printf(arena, "%.0f %s", tidy(value, 0.5), unit);
    return tdm_arena_printf(arena, "%.4f", tidy(value, 5e-5));
}

static const char *by_engine(tdm_arena *arena, const tdm_side *side)
{
    const char *engine = side->engine ? side->engine : "unknown";
    const char *ranks = tdm_arena_printf(
        arena, "%lu rank%s, %lu step%s", (unsigned long)side->n_ranks,
        side->n_ranks == 1 ? "" : "s", (unsigned long)side->n_steps, side->n_steps == 1 ? "" : "s");
    return tdm_arena_printf(arena, "%s %s, %s", side->is_trace ? "trace of" : "engine", engine,
                            ranks);
}

static void print_title(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                        FILE *file)
{
    const char *before = style->markdown ? "# " : style->colours ? "\033[1m" : "";
    fprintf(file, "%s%s against %s%s\n%s", before, c->a->name, c->b->name,
            style->colours ? "\033[0m" : "", style->markdown ? "\n" : "");
    tdm_table table = {.arena = arena, .n_left = 3};
    for (int i = 0; i < 3; i++)
        tdm_table_head(&table, "");
    const tdm_side *sides[] = {c->a, c->b};
    for (int s = 0; s < 2; s++) {
        tdm_table_cell(&table, "%s", s == 0 ? "predicted" : "measured");
        tdm_table_cell(&table, "%s", sides[s]->path);
        tdm_table_cell(&table, "%s", by_engine(arena, sides[s]));
    }
    tdm_table_print(&table, style, file);
    for (const char *line = c->notes; line && *line;) {
        size_t n = strcspn(line, "\n");
        tdm_style_wrap(file, style->markdown ? 0 : 2,
                       tdm_arena_printf(arena, "note: %.*s", (int)n, line));
        line += n + (line[n] == '\n');
    }
}

static void print_step(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                       FILE *file)
{
    double difference = c->step_predicted_s - c->step_measured_s;
    const char *interval = "";
    if (c->has_interval)
        interval = tdm_arena_printf(arena, "(%.0f %% confidence: %+.1f to %+.1f %%)",
                                    100 * TDM_COMPARE_CONFIDENCE, tidy(100 * c->interval_low, 0.05),
                                    tidy(100 * c->interval_high, 0.05));
    tdm_style_heading(style, file,
                      tdm_arena_printf(arena, "Step: predicted %.3f ms, measured %.3f ms, %s %%",
                                       1e3 * c->step_predicted_s, 1e3 * c->step_measured_s,
                                       error_text(arena, c->step_predicted_s, c->step_measured_s)),
                      interval);
    static const char *const heads[] = {"", "predicted ms", "measured ms", "difference ms",
                                        "% of the step"};
    tdm_table table = {.arena = arena, .n_left = 1};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        if (row->section != TDM_COMPARE_WATERFALL)
            continue;
        tdm_table_cell(&table, "%s", row->name);
        tdm_table_cell(&table, "%.3f", tidy(1e3 * row->predicted, 5e-4));
        tdm_table_cell(&table, "%.3f", tidy(1e3 * row->measured, 5e-4));
        tdm_table_cell(&table, "%+.3f", tidy(1e3 * tdm_compare_difference(row), 5e-4));
        tdm_table_cell(&table, "%+.2f",
                       tidy(100 * tdm_compare_difference(row) / c->step_measured_s, 5e-3));
    }
    tdm_table_cell(&table, "step");
    tdm_table_cell(&table, "%.3f", 1e3 * c->step_predicted_s);
    tdm_table_cell(&table, "%.3f", 1e3 * c->step_measured_s);
    tdm_table_cell(&table, "%+.3f", tidy(1e3 * difference, 5e-4));
    tdm_table_cell(&table, "%+.2f", tidy(100 * difference / c->step_measured_s, 5e-3));
    tdm_table_print(&table, style, file);
}

/* Rows of a section as they are; of those with several quantities only `what`. */
static void print_section(tdm_arena *arena, const tdm_comparison *c, tdm_compare_section section,
                          const char *what, const char *title, const char *remark,
                          const tdm_style *style, FILE *file)
{
    static const char *const heads[] = {"", "predicted", "measured", "difference", "error %"};
    tdm_table table = {.arena = arena, .n_left = 1};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < c->n_rows; i++) {
        const tdm_compare_row *row = &c->rows[i];
        if (row->section != section || strcmp(row->what, what) != 0)
            continue;
        tdm_table_cell(&table, "%s", row->name);
        tdm_table_cell(&table, "%s", value_text(arena, row->predicted, row->unit));
        tdm_table_cell(&table, "%s", value_text(arena, row->measured, row->unit));
        tdm_table_cell(&table, "%s", value_text(arena, tdm_compare_difference(row), row->unit));
        tdm_table_cell(&table, "%s", error_text(arena, row->predicted, row->measured));
    }
    if (table.n_cells == 0)
        return;
    tdm_style_heading(style, file, title, remark);
    tdm_table_print(&table, style, file);
}

static const tdm_compare_row *find_row(const tdm_comparison *c, tdm_compare_section section,
                                       uint32_t index, const char *name, const char *what)
{
    for (uint32_t i = 0; i < c->n_rows; i++)
        if (c->rows[i].section == section && c->rows[i].index == index &&
            strcmp(c->rows[i].what, what) == 0 && strcmp(c->rows[i].name, name) == 0)
            return &c->rows[i];
    return NULL;
}

/* Columns of predicted, measured and error for each of several quantities of a stage or rank. */
typedef struct column {
    const char *what, *head;
    double scale;
} column;

static void head_columns(tdm_arena *arena, tdm_table *table, const column *columns, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tdm_table_head(table, tdm_arena_printf(arena, "%s", columns[i].head));
        tdm_table_head(table, "measured");
        tdm_table_head(table, "error %");
    }
}

static void put_columns(tdm_arena *arena, const tdm_comparison *c, tdm_compare_section section,
                        uint32_t index, const column *columns, size_t n, tdm_table *table)
{
    for (size_t i = 0; i < n; i++) {
        const tdm_compare_row *row = find_row(c, section, index, "", columns[i].what);
        if (!row) {
            for (int cell = 0; cell < 3; cell++)
                tdm_table_cell(table, "-");
            continue;
        }
        tdm_table_cell(table, "%.3f", columns[i].scale * row->predicted);
        tdm_table_cell(table, "%.3f", columns[i].scale * row->measured);
        tdm_table_cell(table, "%s", error_text(arena, row->predicted, row->measured));
    }
}

static void print_stages(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                         FILE *file)
{
    static const column columns[] = {{"forward_s", "forward ms", 1e3},
                                     {"backward_input_s", "backward ms", 1e3},
                                     {"bubble_fraction", "bubble %", 100}};
    tdm_table table = {.arena = arena, .n_left = 1};
    tdm_table_head(&table, "stage");
    head_columns(arena, &table, columns, TDM_COUNT(columns));
    for (uint32_t i = 0; i < c->n_rows; i++) {
        if (c->rows[i].section != TDM_COMPARE_STAGES || strcmp(c->rows[i].what, "span_s") != 0)
            continue;
        tdm_table_cell(&table, "%" PRIu32, c->rows[i].index);
        put_columns(arena, c, TDM_COMPARE_STAGES, c->rows[i].index, columns, TDM_COUNT(columns),
                    &table);
    }
    if (table.n_cells == 0)
        return;
    tdm_style_heading(style, file, "Stages", "(predicted, measured, error; one pass)");
    tdm_table_print(&table, style, file);
}

/* Equal but for rounding: as they stand in the comparison. */
static int by_difference(const void *a, const void *b)
{
    const tdm_compare_row *const *x = a, *const *y = b;
    long long dx = llround(fabs(tdm_compare_difference(*x)) / TDM_COMPARE_ROUNDING);
    long long dy = llround(fabs(tdm_compare_difference(*y)) / TDM_COMPARE_ROUNDING);
    if (dx != dy)
        return dx > dy ? -1 : 1;
    return *x < *y ? -1 : *x > *y;
}

/* Rows of one quantity, largest difference first when there are more than `most`. */
static const tdm_compare_row **worst_rows(tdm_arena *arena, const tdm_comparison *c,
                                          tdm_compare_section section, const char *what,
                                          uint32_t most, uint32_t *n)
{
    const tdm_compare_row **rows = TDM_ALLOC(arena, const tdm_compare_row *, c->n_rows + 1);
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->n_rows; i++)
        if (c->rows[i].section == section && strcmp(c->rows[i].what, what) == 0)
            rows[count++] = &c->rows[i];
    if (count > most)
        qsort(rows, count, sizeof *rows, by_difference);
    *n = count;
    return rows;
}

static void print_ranks(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                        FILE *file)
{
    static const column columns[] = {{"compute_busy_s", "compute ms", 1e3},
                                     {"exposed_transfer_s", "exposed ms", 1e3},
                                     {"bubble_s", "bubble ms", 1e3}};
    uint32_t n;
    const tdm_compare_row **rows =
        worst_rows(arena, c, TDM_COMPARE_RANKS, "compute_busy_s", MOST_RANKS, &n);
    if (n == 0)
        return;
    tdm_table table = {.arena = arena, .n_left = 1};
    tdm_table_head(&table, "rank");
    head_columns(arena, &table, columns, TDM_COUNT(columns));
    for (uint32_t i = 0; i < n && i < MOST_RANKS; i++) {
        tdm_table_cell(&table, "%" PRIu32, rows[i]->index);
        put_columns(arena, c, TDM_COMPARE_RANKS, rows[i]->index, columns, TDM_COUNT(columns),
                    &table);
    }
    tdm_style_heading(
        style, file, "Ranks",
        n > MOST_RANKS
            ? tdm_arena_printf(arena, "(%d of %" PRIu32 ", largest difference in compute first)",
                               MOST_RANKS, n)
            : "(predicted, measured, error)");
    tdm_table_print(&table, style, file);
}

static void print_ops(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style, FILE *file)
{
    static const char *const heads[] = {"stage",    "op",         "total ms",
                                        "measured", "difference", "error %"};
    uint32_t n;
    const tdm_compare_row **rows = worst_rows(arena, c, TDM_COMPARE_OPS, "total_s", 0, &n);
    if (n == 0)
        return;
    tdm_table table = {.arena = arena, .n_left = 2};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < n && i < MOST_OPS; i++) {
        if (tidy(1e3 * tdm_compare_difference(rows[i]), 5e-4) == 0)
            break;
        tdm_table_cell(&table, "%" PRIu32, rows[i]->index);
        tdm_table_cell(&table, "%s", rows[i]->name);
        tdm_table_cell(&table, "%.3f", 1e3 * rows[i]->predicted);
        tdm_table_cell(&table, "%.3f", 1e3 * rows[i]->measured);
        tdm_table_cell(&table, "%+.3f", 1e3 * tdm_compare_difference(rows[i]));
        tdm_table_cell(&table, "%s", error_text(arena, rows[i]->predicted, rows[i]->measured));
    }
    tdm_style_heading(
        style, file,
        tdm_arena_printf(
            arena, "Ops: %" PRIu32 " compared, median error %.1f %%, 95 %% of them within %.1f %%",
            c->n_op_errors, 100 * c->op_error_median, 100 * c->op_error_p95),
        table.n_cells ? "(largest difference first; sums over ranks)" : "");
    if (table.n_cells)
        tdm_table_print(&table, style, file);
}

void tdm_compare_verdict(const tdm_comparison *c, const tdm_tolerance *tolerance,
                         const tdm_style *style, FILE *file)
{
    if (!tolerance->given)
        return;
    fputc('\n', file);
    for (size_t i = 0; i < tolerance->n_figures; i++) {
        double error;
        bool holds = tdm_tolerance_holds(tolerance, c, tolerance->figures[i], &error);
        const char *colour = !style->colours ? "" : holds ? "\033[32m" : "\033[1;31m";
        fprintf(file, "%s%s%-7s%s  %s  %+.2f %%, tolerance %g %%\n", style->markdown ? "- " : "  ",
                colour, holds ? "within" : "OUTSIDE", style->colours ? "\033[0m" : "",
                tolerance->figures[i], tidy(100 * error, 5e-3), 100 * tolerance->share);
    }
}

void tdm_compare_brief(tdm_arena *arena, const tdm_comparison *c, const tdm_style *style,
                       FILE *file)
{
    print_title(arena, c, style, file);
    print_step(arena, c, style, file);
}

void tdm_compare_section_text(tdm_arena *arena, const tdm_comparison *c,
                              tdm_compare_section section, const tdm_style *style, FILE *file)
{
    switch (section) {
    case TDM_COMPARE_WATERFALL:
        print_step(arena, c, style, file);
        break;
    case TDM_COMPARE_FIGURES:
        print_section(arena, c, section, "", "Figures", "", style, file);
        break;
    case TDM_COMPARE_CLASSES:
        print_section(arena, c, section, "busy_s", "Op classes",
                      "(time of a rank, mean; communication with waiting)", style, file);
        break;
    case TDM_COMPARE_COMMS:
        print_section(arena, c, section, "avg_s", "Communication", "(transfer of one call, mean)",
                      style, file);
        break;
    case TDM_COMPARE_STAGES:
        print_stages(arena, c, style, file);
        break;
    case TDM_COMPARE_RANKS:
        print_ranks(arena, c, style, file);
        break;
    default:
        print_ops(arena, c, style, file);
    }
}

void tdm_compare_text(tdm_arena *arena, const tdm_comparison *c, const tdm_tolerance *tolerance,
                      const tdm_style *style, FILE *file)
{
    print_title(arena, c, style, file);
    for (uint32_t s = 0; s < TDM_N_COMPARE_SECTIONS; s++)
        tdm_compare_section_text(arena, c, (tdm_compare_section)s, style, file);
    tdm_compare_verdict(c, tolerance, style, file);
}
