/* sweep_child.c: one point, in a process of its own. */
#include "sweep.h"

#include "core/scenario.h"
#include "predict.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The assignments of the command line, then those of the point. */
static const char **collect_sets(tdm_arena *arena, const tdm_sweep *sweep, uint32_t point,
                                 size_t *n)
{
    const tdm_sweep_grid *grid = &sweep->grid;
    const char **sets = TDM_ALLOC(arena, const char *, sweep->sets.n + grid->n_keys);
    for (*n = 0; *n < sweep->sets.n; ++*n)
        sets[*n] = sweep->sets.items[*n];
    for (uint32_t k = 0; k < grid->n_keys; k++) {
        const char *value = grid->values[(size_t)point * grid->n_keys + k];
        if (value)
            sets[(*n)++] = tdm_arena_printf(arena, "%s=%s", grid->keys[k], value);
    }
    return sets;
}

/* The messages as one line: the first of them, or all lines of the only one. "--set:KEY: " at its
 * start says what the row says anyway. */
static const char *one_line(tdm_arena *arena, const tdm_error *err)
{
    const char *start = err->text, *space = strchr(start, ' ');
    char *text =
        tdm_arena_strdup(arena, strncmp(start, "--set:", 6) == 0 && space ? space + 1 : start);
    if (err->n_messages > 1) {
        text[strcspn(text, "\n")] = '\0';
        return tdm_arena_printf(arena, "%s (and %u more)", text, err->n_messages - 1);
    }
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = c[1] ? ' ' : '\0';
    return text;
}

static void take_failure(tdm_arena *arena, const tdm_error *err, tdm_sweep_row *row)
{
    row->status = err->code == TDM_E_INVALID      ? TDM_SWEEP_INVALID
                  : err->code == TDM_E_INFEASIBLE ? TDM_SWEEP_INFEASIBLE
                                                  : TDM_SWEEP_FAILED;
    row->reason = one_line(arena, err);
}

static void take_result(tdm_arena *arena, const tdm_result *result, tdm_sweep_row *row)
{
    const tdm_figures *figures = &result->step.figures;
    row->status = TDM_SWEEP_OK;
    if (!result->scenario.pass_times.given && !tdm_memory_fits(result)) {
        row->status = TDM_SWEEP_NO_MEMORY;
        row->reason = tdm_arena_printf(arena, "rank %u needs %.2f GB of %.2f GB",
                                       figures->ranks[figures->peak_memory_rank].rank,
                                       1e-9 * (double)figures->peak_memory_bytes,
                                       1e-9 * (double)tdm_memory_limit_bytes(result));
    }
    row->plan_hash = tdm_arena_printf(arena, "fnv1a64:%016" PRIx64, result->plan_hash);
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        row->figures[i] = tdm_result_has(result, tdm_figure_infos[i].name)
                              ? tdm_figures_get(figures, tdm_figure_infos[i].name)
                              : (double)NAN;
}

/* False when the journal has the point's row already: then only the row's key is set. */
static bool compute(tdm_arena *arena, const tdm_sweep *sweep, uint32_t point, tdm_sweep_row *row)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_result *result = TDM_ALLOC(arena, tdm_result, 1);
    size_t n_sets;
    const char **sets = collect_sets(arena, sweep, point, &n_sets);
    if (tdm_scenario_load(arena, sweep->root, sweep->scenario_path, sets, n_sets, &result->scenario,
                          err) != TDM_OK) {
        take_failure(arena, err, row);
        row->key = tdm_sweep_hash(sweep->key_start, err->text, err->length);
        for (size_t i = 0; i < n_sets; i++)
            row->key = tdm_sweep_hash(row->key, sets[i], strlen(sets[i]) + 1);
        return !tdm_sweep_journal_find(&sweep->journal, row->key);
    }
    row->key = tdm_sweep_key(arena, sweep->key_start, sweep->root, &result->scenario);
    if (tdm_sweep_journal_find(&sweep->journal, row->key))
        return false;
    const tdm_predict_options options = {.engine = sweep->engine, .fold = TDM_FOLD_AUTO};
    if (tdm_predict_loaded(arena, &options, result, err) == TDM_OK)
        take_result(arena, result, row);
    else
        take_failure(arena, err, row);
    return true;
}

static void write_all(int out, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        ssize_t n = write(out, text, left);
        if (n < 0 && errno != EINTR)
            _exit(1); /* nobody listens any more */
        text += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
}

void tdm_sweep_child(const tdm_sweep *sweep, uint32_t point, int out)
{
    tdm_arena arena = {0};
    tdm_sweep_row row = {.reason = "", .plan_hash = ""};
    row.figures = TDM_ALLOC(&arena, double, tdm_sweep_n_figures());
    bool known = !compute(&arena, sweep, point, &row);
    write_all(out, TDM_SWEEP_FRAME); /* behind whatever the computation printed */
    if (known) {
        write_all(out, tdm_arena_printf(&arena, "=%016" PRIx64 "\n", row.key));
    } else {
        char *line = tdm_sweep_row_write(&row, &sweep->grid, point);
        if (!line)
            abort();
        write_all(out, line);
        free(line);
    }
    tdm_arena_free(&arena);
}
