/* sweep_grid.c: the grammar of `--vary` and `--zip`, and the product of all that varies. */
#include "sweep.h"

#include "core/doc.h"
#include "core/scenario.h"

#include <ctype.h>
#include <string.h>

/* Limits that no sweep comes near before its time runs out. */
enum { MAX_KEYS = 32, MAX_POINTS = 1000000, MAX_DIGITS = 15 };

typedef struct value_list {
    tdm_arena *arena;
    const char **items;
    uint32_t n, capacity;
} value_list;

static void add_value(value_list *list, const char *value)
{
    if (list->n == list->capacity) {
        uint32_t capacity = list->capacity ? 2 * list->capacity : 16;
        const char **items = TDM_ALLOC(list->arena, const char *, capacity);
        if (list->n)
            memcpy(items, list->items, sizeof *items * list->n);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = value;
}

/* The end of the value at `text`: a comma outside quotes and brackets, or the end. */
static const char *value_end(const char *text)
{
    int depth = 0;
    char quote = '\0';
    for (; *text && (*text != ',' || depth > 0 || quote); text++) {
        if (quote && *text == quote)
            quote = '\0';
        else if (quote)
            continue;
        else if (*text == '"' || *text == '\'')
            quote = *text;
        else if (*text == '[' || *text == '{')
            depth++;
        else if ((*text == ']' || *text == '}') && depth > 0)
            depth--;
    }
    return text;
}

/* Whole digits only, few enough that sums and products stay within 64 bits. */
static bool read_digits(const char **text, uint64_t *value)
{
    size_t n = strspn(*text, "0123456789");
    if (n == 0 || n > MAX_DIGITS)
        return false;
    *value = 0;
    for (size_t i = 0; i < n; i++)
        *value = 10 * *value + (uint64_t)((*text)[i] - '0');
    *text += n;
    return true;
}

/* "3..": what is meant as a range; "../x" is not. */
static bool is_range(const char *value)
{
    size_t n = strspn(value, "0123456789");
    return n > 0 && strncmp(value + n, "..", 2) == 0;
}

/* NULL, or what is wrong with the range. */
static const char *read_range(const char *value, uint64_t *first, uint64_t *last, uint64_t *step,
                              bool *multiply)
{
    static const char expected[] = "expected whole numbers A..B, A..B+STEP or A..B*FACTOR";
    const char *at = value;
    *step = 1;
    *multiply = false;
    if (!read_digits(&at, first))
        return expected;
    at += 2;
    if (!read_digits(&at, last))
        return expected;
    if (*at == '+' || *at == '*') {
        *multiply = *at++ == '*';
        if (!read_digits(&at, step))
            return expected;
    }
    if (*at)
        return expected;
    if (*first > *last)
        return "an empty range: it ends below its start";
    if (*multiply && *step < 2)
        return "a factor below 2 leads nowhere";
    if (*multiply && *first == 0)
        return "0 times anything is 0: start above it";
    if (*step == 0)
        return "a step of 0 leads nowhere";
    return NULL;
}

static tdm_code add_range(value_list *list, const char *where, const char *value, tdm_error *err)
{
    uint64_t first, last, step;
    bool multiply;
    char quoted[TDM_QUOTE_SIZE];
    const char *wrong = read_range(value, &first, &last, &step, &multiply);
    if (wrong)
        return tdm_error_add(err, TDM_E_INVALID, "%s: '%s': %s", where,
                             tdm_node_quote(quoted, value), wrong);
    for (uint64_t v = first; v <= last; v = multiply ? v * step : v + step) {
        if (list->n == MAX_POINTS)
            return tdm_error_add(err, TDM_E_INVALID, "%s: '%s': more than %d values", where, value,
                                 MAX_POINTS);
        add_value(list, tdm_arena_printf(list->arena, "%llu", (unsigned long long)v));
    }
    return TDM_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A value that is given twice: a slip of the pen. */
static tdm_code check_twice(const value_list *list, const char *where, tdm_error *err)
{
    char quoted[TDM_QUOTE_SIZE];
    if (list->n == 0)
        return TDM_OK;
    const char **sorted = TDM_ALLOC(list->arena, const char *, list->n);
    memcpy(sorted, list->items, sizeof *sorted * list->n);
    qsort(sorted, list->n, sizeof *sorted, by_text);
    for (uint32_t i = 1; i < list->n; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return tdm_error_add(err, TDM_E_INVALID, "%s: '%s' is given twice", where,
                                 tdm_node_quote(quoted, sorted[i]));
    return TDM_OK;
}

static tdm_code read_values(value_list *list, const char *where, const char *text, bool distinct,
                            tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (const char *at = text;; at++) {
        const char *end = value_end(at);
        const char *value = tdm_arena_strndup(list->arena, at, (size_t)(end - at));
        if (!*value)
            code = tdm_error_add(err, TDM_E_INVALID,
                                 "%s: an empty value (write \"\" for an empty text)", where);
        else if (!is_range(value))
            add_value(list, value);
        else if (add_range(list, where, value, err) != TDM_OK)
            code = TDM_E_INVALID;
        at = end;
        if (!*at)
            break;
    }
    return code == TDM_OK && distinct ? check_twice(list, where, err) : code;
}

tdm_code tdm_sweep_axis_parse(tdm_arena *arena, const char *mark, const char *text,
                              tdm_sweep_axis *axis, tdm_error *err)
{
    char quoted[TDM_QUOTE_SIZE];
    size_t length = strcspn(text, "=");
    if (length == 0 || text[length] != '=')
        return tdm_error_add(
            err, TDM_E_INVALID,
            "%s: %s: expected KEY=VALUES, as schedule.name=1f1b,zb-h1 or batch.micro_batch_size=1..32*2",
            mark, tdm_node_quote(quoted, text));
    const char *key = tdm_arena_strndup(arena, text, length);
    const char *where = tdm_arena_printf(arena, "%s:%s", mark, key);
    tdm_sweep_axis read = {.mark = mark,
                           .n_keys = 1,
                           .keys = TDM_ALLOC(arena, const char *, 1),
                           .briefs = TDM_ALLOC(arena, const char *, 1)};
    tdm_code code = tdm_scenario_key(arena, key, where, &read.keys[0], &read.briefs[0], err);
    value_list list = {.arena = arena};
    bool distinct = strcmp(mark, "--vary") == 0;
    if (read_values(&list, where, text + length + 1, distinct, err) != TDM_OK)
        code = TDM_E_INVALID;
    if (code != TDM_OK)
        return code;
    read.n_rows = list.n;
    read.values = list.items;
    *axis = read;
    return TDM_OK;
}

/* All `--zip` lists side by side. */
static tdm_code zip(tdm_arena *arena, const tdm_sweep_axis *parts, uint32_t n, tdm_sweep_axis *axis,
                    tdm_error *err)
{
    *axis = (tdm_sweep_axis){.mark = "--zip",
                             .n_keys = n,
                             .n_rows = parts[0].n_rows,
                             .keys = TDM_ALLOC(arena, const char *, n),
                             .briefs = TDM_ALLOC(arena, const char *, n),
                             .values = TDM_ALLOC(arena, const char *, (size_t)n *parts[0].n_rows)};
    for (uint32_t k = 0; k < n; k++) {
        if (parts[k].n_rows != axis->n_rows)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "--zip: %s has %u values, %s has %u: all need the same number",
                                 parts[0].keys[0], axis->n_rows, parts[k].keys[0], parts[k].n_rows);
        axis->keys[k] = parts[k].keys[0];
        axis->briefs[k] = parts[k].briefs[0];
        for (uint32_t i = 0; i < axis->n_rows; i++)
            axis->values[(size_t)i * n + k] = parts[k].values[i];
    }
    return TDM_OK;
}

/* Puts the axes' keys side by side; each may vary once. */
static tdm_code join_keys(tdm_arena *arena, const tdm_sweep_axis *axes, uint32_t n_axes,
                          tdm_sweep_grid *grid, tdm_error *err)
{
    uint32_t n_keys = 0;
    for (uint32_t a = 0; a < n_axes; a++)
        n_keys += axes[a].n_keys;
    if (n_keys > MAX_KEYS)
        return tdm_error_add(err, TDM_E_INVALID, "sweep: %u keys vary, more than %d", n_keys,
                             MAX_KEYS);
    grid->keys = TDM_ALLOC(arena, const char *, n_keys);
    grid->briefs = TDM_ALLOC(arena, const char *, n_keys);
    tdm_code code = TDM_OK;
    for (uint32_t a = 0; a < n_axes; a++)
        for (uint32_t k = 0; k < axes[a].n_keys; k++) {
            for (uint32_t i = 0; i < grid->n_keys; i++)
                if (strcmp(grid->keys[i], axes[a].keys[k]) == 0)
                    code = tdm_error_add(err, TDM_E_INVALID, "%s: %s varies already", axes[a].mark,
                                         axes[a].keys[k]);
            grid->keys[grid->n_keys] = axes[a].keys[k];
            grid->briefs[grid->n_keys++] = axes[a].briefs[k];
        }
    /* Two short names that are the same would tell nothing. */
    for (uint32_t i = 0; i < n_keys; i++)
        for (uint32_t j = 0; j < n_keys; j++)
            if (i != j && strcmp(grid->briefs[i], grid->briefs[j]) == 0)
                grid->briefs[j] = grid->keys[j];
    return code;
}

static tdm_code multiply(tdm_arena *arena, const tdm_sweep_axis *axes, uint32_t n_axes,
                         tdm_sweep_grid *grid, tdm_error *err)
{
    uint64_t n = 1;
    for (uint32_t a = 0; a < n_axes && n <= MAX_POINTS; a++)
        n *= axes[a].n_rows;
    if (n > MAX_POINTS)
        return tdm_error_add(err, TDM_E_INVALID, "sweep: more than %d points", MAX_POINTS);
    grid->n_points = (uint32_t)n;
    grid->values = TDM_ALLOC(arena, const char *, n * grid->n_keys);
    for (uint32_t point = 0; point < n; point++) {
        uint32_t rest = point, end = grid->n_keys;
        for (uint32_t a = n_axes; a-- > 0;) {
            const tdm_sweep_axis *axis = &axes[a];
            end -= axis->n_keys;
            memcpy(grid->values + (size_t)point * grid->n_keys + end,
                   axis->values + (size_t)(rest % axis->n_rows) * axis->n_keys,
                   sizeof *grid->values * axis->n_keys);
            rest /= axis->n_rows;
        }
    }
    return TDM_OK;
}

tdm_code tdm_sweep_grid_make(tdm_arena *arena, const tdm_cli_strings *varies,
                             const tdm_cli_strings *zips, const char *points_path,
                             tdm_sweep_grid *grid, tdm_error *err)
{
    tdm_sweep_axis *axes = TDM_ALLOC(arena, tdm_sweep_axis, varies->n + 2),
                   *parts = TDM_ALLOC(arena, tdm_sweep_axis, zips->n + 1);
    tdm_code code = TDM_OK, zipped = TDM_OK;
    uint32_t n = 0;
    for (size_t i = 0; i < varies->n; i++, n++)
        if (tdm_sweep_axis_parse(arena, "--vary", varies->items[i], &axes[n], err) != TDM_OK)
            code = TDM_E_INVALID;
    for (size_t i = 0; i < zips->n; i++)
        if (tdm_sweep_axis_parse(arena, "--zip", zips->items[i], &parts[i], err) != TDM_OK)
            zipped = TDM_E_INVALID;
    if (zips->n > 0 && zipped == TDM_OK)
        zipped = zip(arena, parts, (uint32_t)zips->n, &axes[n++], err);
    if (zipped != TDM_OK)
        code = zipped;
    if (points_path) {
        tdm_code points = tdm_sweep_points_read(arena, points_path, &axes[n++], err);
        code = points != TDM_OK ? points : code;
    }
    tdm_sweep_grid made = {0};
    if (code == TDM_OK)
        code = join_keys(arena, axes, n, &made, err);
    if (code == TDM_OK)
        code = multiply(arena, axes, n, &made, err);
    if (code == TDM_OK)
        *grid = made;
    return code;
}
