/* sweep_points.c: a list of points from a CSV file (RFC 4180: cells in double quotes may hold
 * commas, line ends, and quotes written twice). */
#include "sweep.h"

#include "core/doc.h"
#include "core/scenario.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 * 1024 * 1024, MAX_COLUMNS = 32 };

typedef struct reader {
    tdm_arena *arena;
    const char *path, *at;
    uint32_t line; /* that `at` is in */
    tdm_error *err;
} reader;

/* The whole file with a zero behind it. */
static tdm_code read_file(tdm_arena *arena, const char *path, char **text, tdm_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(errno));
    char *bytes = NULL;
    size_t n = 0, capacity = 0, got = 1;
    while (got > 0 && n <= MAX_FILE_BYTES) {
        if (capacity - n < 2) {
            char *larger = TDM_ALLOC(arena, char, 2 * capacity + 65536);
            if (n)
                memcpy(larger, bytes, n);
            bytes = larger;
            capacity = 2 * capacity + 65536;
        }
        got = fread(bytes + n, 1, capacity - n - 1, file);
        n += got;
    }
    bool failed = ferror(file) != 0;
    int reason = errno;
    fclose(file);
    if (failed)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(reason));
    if (n > MAX_FILE_BYTES)
        return tdm_error_add(err, TDM_E_INVALID, "%s: larger than 64 MiB", path);
    bytes[n] = '\0';
    if (memchr(bytes, '\0', n))
        return tdm_error_add(err, TDM_E_INVALID, "%s: a zero byte: this is no CSV file", path);
    *text = bytes;
    return TDM_OK;
}

/* One cell; *last: a line's last one. Blanks around what has no quotes do not count. */
static tdm_code read_cell(reader *r, const char **cell, bool *last)
{
    r->at += strspn(r->at, " \t");
    if (*r->at == '"') {
        char *out = TDM_ALLOC(r->arena, char, strlen(r->at)), *end = out;
        uint32_t start = r->line;
        for (r->at++; *r->at && (*r->at != '"' || r->at[1] == '"'); r->at++) {
            r->at += *r->at == '"';
            r->line += *r->at == '\n';
            *end++ = *r->at;
        }
        if (!*r->at)
            return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u: a quote that is never closed",
                                 r->path, start);
        r->at++;
        r->at += strspn(r->at, " \t");
        *cell = out;
    } else {
        size_t n = strcspn(r->at, ",\r\n"), kept = n;
        while (kept > 0 && (r->at[kept - 1] == ' ' || r->at[kept - 1] == '\t'))
            kept--;
        *cell = tdm_arena_strndup(r->arena, r->at, kept);
        r->at += n;
    }
    *last = *r->at != ',';
    if (*last)
        r->at += strspn(r->at, "\r");
    if (*r->at && *r->at != ',' && *r->at != '\n')
        return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u: text behind a closing quote", r->path,
                             r->line);
    if (*r->at) {
        r->line += *r->at == '\n';
        r->at++;
    }
    return TDM_OK;
}

/* Skips lines without anything and comment lines; false at the end. */
static bool next_line(reader *r)
{
    for (;;) {
        size_t blanks = strspn(r->at, " \t\r");
        if (!r->at[blanks])
            return false;
        if (r->at[blanks] != '\n' && r->at[0] != '#')
            return true;
        r->at += strcspn(r->at, "\n");
        r->at += *r->at == '\n';
        r->line++;
    }
}

static tdm_code read_heads(reader *r, tdm_sweep_axis *axis)
{
    tdm_code code = TDM_OK;
    const char *place = tdm_arena_printf(r->arena, "%s:%u", r->path, r->line);
    axis->keys = TDM_ALLOC(r->arena, const char *, MAX_COLUMNS);
    axis->briefs = TDM_ALLOC(r->arena, const char *, MAX_COLUMNS);
    for (bool last = false; !last;) {
        const char *cell;
        if (axis->n_keys == MAX_COLUMNS)
            return tdm_error_add(r->err, TDM_E_INVALID, "%s: more than %d columns", place,
                                 MAX_COLUMNS);
        code = read_cell(r, &cell, &last);
        if (code == TDM_OK)
            code = tdm_scenario_key(r->arena, cell, place, &axis->keys[axis->n_keys],
                                    &axis->briefs[axis->n_keys], r->err);
        if (code != TDM_OK)
            return code;
        axis->n_keys++;
    }
    return TDM_OK;
}

static tdm_code read_row(reader *r, const tdm_sweep_axis *axis, const char **values)
{
    uint32_t line = r->line, n = 0;
    for (bool last = false; !last; n++) {
        const char *cell;
        tdm_code code = read_cell(r, &cell, &last);
        if (code != TDM_OK)
            return code;
        if (n < axis->n_keys)
            values[n] = *cell ? cell : NULL;
    }
    if (n == axis->n_keys)
        return TDM_OK;
    return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u: %u cells, the first line has %u", r->path,
                         line, n, axis->n_keys);
}

tdm_code tdm_sweep_points_read(tdm_arena *arena, const char *path, tdm_sweep_axis *axis,
                               tdm_error *err)
{
    char *text = NULL;
    tdm_code code = read_file(arena, path, &text, err);
    if (code != TDM_OK)
        return code;
    reader r = {.arena = arena, .path = path, .at = text, .line = 1, .err = err};
    if (strncmp(r.at, "\xef\xbb\xbf", 3) == 0)
        r.at += 3; /* the byte order mark that spreadsheets write */
    tdm_sweep_axis read = {.mark = path};
    if (!next_line(&r))
        return tdm_error_add(err, TDM_E_INVALID, "%s: empty: the keys belong in its first line",
                             path);
    code = read_heads(&r, &read);
    if (code != TDM_OK)
        return code;
    size_t capacity = 1;
    for (const char *c = r.at; *c; c++)
        capacity += *c == '\n';
    read.values = TDM_ALLOC(arena, const char *, capacity *read.n_keys);
    while (next_line(&r)) {
        if (read_row(&r, &read, read.values + (size_t)read.n_rows * read.n_keys) != TDM_OK)
            code = TDM_E_INVALID;
        read.n_rows++;
    }
    if (code == TDM_OK && read.n_rows == 0)
        return tdm_error_add(err, TDM_E_INVALID, "%s: keys, but no points below them", path);
    if (code == TDM_OK)
        *axis = read;
    return code;
}
