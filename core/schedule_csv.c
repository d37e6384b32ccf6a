/* schedule_csv.c: reads PyTorch's pipeline schedule CSV. */
#include "schedule_csv.h"

#include "files.h"

#include <ctype.h>
#include <string.h>

enum { MAX_ROWS = 4096, MAX_STAGES = 65536, MAX_MICROBATCHES = 1 << 20 };

/* Actions of PyTorch that order no pass of ours. */
static const char *const skipped[] = {"SEND_F",  "RECV_F",  "SEND_B",      "RECV_B",
                                      "UNSHARD", "RESHARD", "REDUCE_GRAD", NULL};

typedef struct cell {
    const char *text;
    size_t length;
    uint32_t row, line, column;
} cell;

typedef struct action {
    uint32_t row, stage;
    tdm_pass_kind kind;
    uint32_t microbatch;
} action;

typedef struct reader {
    tdm_arena *arena;
    const char *path;
    tdm_error *err;
    action *actions;
    size_t n_actions, capacity;
    uint32_t n_rows, n_stages, n_microbatches;
    const char *whole, *split; /* a cell with B, one with I or W: both together are refused */
} reader;

static tdm_code refuse(const reader *r, const cell *c, const char *reason)
{
    return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:%u: '%.*s': %s", r->path, c->line, c->column,
                         (int)(c->length < 40 ? c->length : 40), c->text, reason);
}

/* A number at *at, at most `most`; moves *at behind it. */
static bool number(const char **at, const char *end, uint32_t most, uint32_t *value)
{
    const char *p = *at;
    uint64_t n = 0;
    while (p < end && *p >= '0' && *p <= '9' && n <= most)
        n = n * 10 + (uint64_t)(*p++ - '0');
    if (p == *at || n > most)
        return false;
    *at = p;
    *value = (uint32_t)n;
    return true;
}

static bool is_skipped(const char *at, const char *end)
{
    for (size_t i = 0; skipped[i]; i++) {
        size_t n = strlen(skipped[i]);
        if ((size_t)(end - at) >= n && memcmp(at, skipped[i], n) == 0)
            return true;
    }
    return false;
}

static void keep(reader *r, const action *a)
{
    if (r->n_actions == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 256;
        action *grown = TDM_ALLOC(r->arena, action, capacity);
        if (r->n_actions > 0)
            memcpy(grown, r->actions, r->n_actions * sizeof *grown);
        r->actions = grown;
        r->capacity = capacity;
    }
    r->actions[r->n_actions++] = *a;
    r->n_stages = a->stage + 1 > r->n_stages ? a->stage + 1 : r->n_stages;
    r->n_microbatches =
        a->microbatch + 1 > r->n_microbatches ? a->microbatch + 1 : r->n_microbatches;
}

static tdm_code read_cell(reader *r, const cell *c)
{
    static const char *const accepted =
        "expected STAGE, F, B, I or W, MICROBATCH, as in 0F0, 1B3, 2I0 or 2W0";
    const char *at = c->text, *end = c->text + c->length;
    action a = {.row = c->row};
    if (c->length > 0 && *at == '(')
        return refuse(r, c, "overlapped forward and backward in one action are not supported");
    if (!number(&at, end, MAX_STAGES - 1, &a.stage) || at == end)
        return refuse(r, c, accepted);
    if (is_skipped(at, end))
        return TDM_OK;
    char op = *at++;
    if (!number(&at, end, MAX_MICROBATCHES - 1, &a.microbatch) || at != end)
        return refuse(r, c, accepted);
    switch (op) {
    case 'F':
        a.kind = TDM_PASS_F;
        break;
    case 'B':
        a.kind = TDM_PASS_BW;
        r->whole = c->text;
        break;
    case 'I':
        a.kind = TDM_PASS_B;
        r->split = c->text;
        break;
    case 'W':
        a.kind = TDM_PASS_W;
        r->split = c->text;
        break;
    default:
        return refuse(r, c, accepted);
    }
    if (r->whole && r->split)
        return refuse(r, c, "whole backwards (B) and split ones (I, W) cannot be mixed");
    keep(r, &a);
    return TDM_OK;
}

/* Cuts a line into cells; blanks around them do not count. */
static tdm_code read_line(reader *r, const char *line, size_t length, uint32_t number_of_line)
{
    size_t from = 0;
    tdm_code code = TDM_OK;
    while (from <= length && code == TDM_OK) {
        size_t to = from;
        while (to < length && line[to] != ',')
            to++;
        size_t first = from, last = to;
        while (first < last && isspace((unsigned char)line[first]))
            first++;
        while (last > first && isspace((unsigned char)line[last - 1]))
            last--;
        cell c = {line + first, last - first, r->n_rows, number_of_line, (uint32_t)first + 1};
        if (c.length > 0)
            code = read_cell(r, &c);
        from = to + 1;
    }
    return code;
}

static tdm_code read_lines(reader *r, const char *text, size_t length)
{
    uint32_t line = 1;
    for (size_t from = 0; from < length; line++) {
        const char *end = memchr(text + from, '\n', length - from);
        size_t n = end ? (size_t)(end - text) - from : length - from;
        if (r->n_rows == MAX_ROWS)
            return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:1: more than %d rows", r->path, line,
                                 MAX_ROWS);
        tdm_code code = read_line(r, text + from, n, line);
        if (code != TDM_OK)
            return code;
        from += n + 1;
        r->n_rows++;
    }
    if (r->n_actions == 0)
        return tdm_error_add(r->err, TDM_E_INVALID, "%s:1:1: no pass in the file", r->path);
    return TDM_OK;
}

static bool stands(const reader *r, tdm_placement placement, const action *a)
{
    return tdm_placement_stage(placement, r->n_rows, a->stage) == a->row;
}

static tdm_code refuse_placement(const reader *r, const action *a)
{
    uint32_t loop = tdm_placement_stage(TDM_PLACEMENT_LOOP, r->n_rows, a->stage);
    uint32_t back = tdm_placement_stage(TDM_PLACEMENT_V, r->n_rows, a->stage);
    if (loop == back)
        return tdm_error_add(r->err, TDM_E_INVALID,
                             "%s:%u:1: stage %u stands in row %u; of %u rows, row %u is the one "
                             "that holds it",
                             r->path, a->row + 1, a->stage, a->row, r->n_rows, loop);
    return tdm_error_add(r->err, TDM_E_INVALID,
                         "%s:%u:1: stage %u stands in row %u; of %u rows, row %u holds it in a "
                         "loop and row %u in a V, and other placements are not supported",
                         r->path, a->row + 1, a->stage, a->row, r->n_rows, loop, back);
}

/* Which stages stand in which row tells the placement: torch's "loop" or its "v". Source:
 * torch/distributed/pipelining/_utils.py, generate_stage_to_rank_mapping. */
static tdm_code find_placement(const reader *r, tdm_placement *placement)
{
    if (r->n_stages % r->n_rows != 0)
        return tdm_error_add(r->err, TDM_E_INVALID,
                             "%s:1:1: %u stages on %u rows: every rank must have the same number",
                             r->path, r->n_stages, r->n_rows);
    const action *wrong[TDM_N_PLACEMENTS] = {NULL}; /* first that does not stand where it would */
    for (size_t i = 0; i < r->n_actions; i++)
        for (uint32_t p = 0; p < TDM_N_PLACEMENTS; p++)
            if (!wrong[p] && !stands(r, (tdm_placement)p, &r->actions[i]))
                wrong[p] = &r->actions[i];
    for (uint32_t p = 0; p < TDM_N_PLACEMENTS; p++)
        if (!wrong[p]) {
            *placement = (tdm_placement)p;
            return TDM_OK;
        }
    return refuse_placement(r, wrong[wrong[TDM_PLACEMENT_V] > wrong[TDM_PLACEMENT_LOOP]]);
}

static void fill_table(const reader *r, tdm_placement placement, tdm_pass_table *table)
{
    uint32_t *n_passes = TDM_ALLOC(r->arena, uint32_t, r->n_rows);
    tdm_pass **passes = TDM_ALLOC(r->arena, tdm_pass *, r->n_rows);
    for (size_t i = 0; i < r->n_actions; i++)
        n_passes[r->actions[i].row]++;
    for (uint32_t row = 0; row < r->n_rows; row++) {
        passes[row] = TDM_ALLOC(r->arena, tdm_pass, n_passes[row]);
        n_passes[row] = 0;
    }
    for (size_t i = 0; i < r->n_actions; i++) {
        const action *a = &r->actions[i];
        passes[a->row][n_passes[a->row]++] = (tdm_pass){.kind = a->kind,
                                                        .chunk = (uint16_t)(a->stage / r->n_rows),
                                                        .microbatch = a->microbatch};
    }
    *table = (tdm_pass_table){.n_stages = r->n_rows,
                              .n_chunks = r->n_stages / r->n_rows,
                              .n_microbatches = r->n_microbatches,
                              .split = r->split != NULL,
                              .passes = (const tdm_pass *const *)passes,
                              .n_passes = n_passes,
                              .placement = placement};
}

tdm_code tdm_schedule_csv_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                                tdm_pass_table *table, tdm_error *err)
{
    reader r = {.arena = arena, .path = path, .err = err};
    tdm_placement placement = TDM_PLACEMENT_LOOP;
    tdm_code code = read_lines(&r, text, length);
    if (code == TDM_OK)
        code = find_placement(&r, &placement);
    if (code == TDM_OK)
        fill_table(&r, placement, table);
    return code;
}

tdm_code tdm_schedule_csv_read(tdm_arena *arena, const char *path, tdm_pass_table *table,
                               tdm_error *err)
{
    const char *text;
    size_t length;
    tdm_code code = tdm_file_read(arena, path, &text, &length, err);
    if (code == TDM_OK)
        code = tdm_schedule_csv_parse(arena, path, text, length, table, err);
    return code;
}
