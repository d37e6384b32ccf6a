/* nccl_log.c: the three forms in which nccl-tests' figures come. */
#include "core/nccl_log.h"

#include "core/doc.h"
#include "core/files.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FIELDS = 24, MAX_LINE = 1024 };

typedef struct reader {
    tdm_arena *arena;
    const char *path;
    tdm_nccl_log_row *rows;
    uint32_t n, capacity, line;
    tdm_error *err;
} reader;

static tdm_code complain(const reader *r, const char *what, const char *word)
{
    char quoted[TDM_QUOTE_SIZE];
    return tdm_error_add(r->err, TDM_E_INVALID, "%s:%u: %s: '%s'", r->path, r->line, what,
                         tdm_node_quote(quoted, word));
}

static bool read_bytes(const char *word, uint64_t *bytes)
{
    uint64_t value = 0;
    if (!*word)
        return false;
    for (; *word; word++) {
        if (!isdigit((unsigned char)*word) || value > (UINT64_C(1) << 50))
            return false;
        value = 10 * value + (uint64_t)(*word - '0');
    }
    *bytes = value;
    return true;
}

static bool read_us(const char *word, double *us)
{
    char *end;
    double value = strtod(word, &end);
    if (end == word || *end || !isfinite(value) || value <= 0 || value > 1e12)
        return false;
    *us = value;
    return true;
}

static tdm_code add_row(reader *r, const char *size, const char *time)
{
    uint64_t bytes;
    double us;
    if (!read_bytes(size, &bytes))
        return complain(r, "not a size in bytes", size);
    if (bytes == 0)
        return TDM_OK;
    if (!read_us(time, &us))
        return complain(r, "not a time in microseconds above 0", time);
    if (r->n == TDM_NCCL_LOG_MAX_ROWS)
        return complain(r, "more rows than any log has", size);
    if (r->n == r->capacity) {
        r->capacity = r->capacity ? 2 * r->capacity : 64;
        tdm_nccl_log_row *rows = TDM_ALLOC(r->arena, tdm_nccl_log_row, r->capacity);
        if (r->n > 0)
            memcpy(rows, r->rows, r->n * sizeof *rows);
        r->rows = rows;
    }
    r->rows[r->n++] = (tdm_nccl_log_row){.bytes = bytes, .time_s = us * 1e-6, .line = r->line};
    return TDM_OK;
}

/* Cuts a line at separators; runs of blanks are one. */
static uint32_t split(char *line, char separator, char *fields[MAX_FIELDS])
{
    uint32_t n = 0;
    if (separator == ' ')
        for (char *word = strtok_r(line, " \t", &line); word && n < MAX_FIELDS;
             word = strtok_r(NULL, " \t", &line))
            fields[n++] = word;
    for (char *at = line; separator != ' ' && at && n < MAX_FIELDS;) {
        char *next = strchr(at, separator);
        if (next)
            *next++ = '\0';
        fields[n++] = at;
        at = next;
    }
    return n;
}

typedef struct columns {
    int size, time, n; /* -1: not known */
} columns;

static columns find_columns(uint32_t n, char *const *names, const char *size, const char *time)
{
    columns found = {-1, -1, (int)n};
    for (int i = (int)n - 1; i >= 0; i--) {
        if (strcmp(names[i], size) == 0)
            found.size = i;
        if (strcmp(names[i], time) == 0)
            found.time = i;
    }
    return found;
}

/* The word with "_perf" at its end in a comment, as nccl-tests prints it. */
static const char *find_program(tdm_arena *arena, const char *line)
{
    const char *end = strstr(line, "_perf"), *begin = end;
    if (!end)
        return NULL;
    while (begin > line && (isalnum((unsigned char)begin[-1]) || begin[-1] == '_'))
        begin--;
    return begin < end ? tdm_arena_strndup(arena, begin, (size_t)(end + 5 - begin)) : NULL;
}

/* "#  Rank  3 Group  0 Pid 4711 on host device  3 [0x91] NVIDIA H100": one line per rank. */
static bool is_rank_line(const char *line)
{
    unsigned rank;
    int end = 0;
    return sscanf(line, "# Rank %u%n", &rank, &end) == 1 && (line[end] == ' ' || line[end] == ':');
}

/* A line of the text output: size, count, type, then up to two more, then time, algbw, busbw,
 * errors, out of place and in place. Other lines (of NCCL itself, of launchers) are passed over. */
static tdm_code read_text_line(reader *r, char *line, columns *head)
{
    char *fields[MAX_FIELDS];
    uint64_t size, count;
    if (line[0] == '#') {
        uint32_t n = split(line + 1, ' ', fields);
        columns found = find_columns(n, fields, "size", "time");
        if (found.size == 0 && found.time > 0)
            *head = found;
        return TDM_OK;
    }
    int n = (int)split(line, ' ', fields);
    if (n < 6 || !read_bytes(fields[0], &size) || !read_bytes(fields[1], &count) ||
        !isalpha((unsigned char)fields[2][0]))
        return TDM_OK;
    int time = head->time > 0 && head->n == n ? head->time : n >= 11 ? n - 8 : 5;
    if (strcmp(fields[time], "N/A") == 0 && time + 4 < n)
        time += 4;
    return add_row(r, fields[0], fields[time]);
}

static tdm_code read_csv_line(reader *r, char *line, const columns *head)
{
    char *fields[MAX_FIELDS];
    if (line[0] == '#' || line[0] == '\0')
        return TDM_OK;
    uint32_t n = split(line, ',', fields);
    if ((int)n <= head->size || (int)n <= head->time)
        return complain(r, "fewer columns than the first line names", line);
    return add_row(r, fields[head->size], fields[head->time]);
}

static tdm_code read_lines(reader *r, const char *text, size_t length, tdm_nccl_log *log)
{
    char line[MAX_LINE];
    columns head = {-1, -1, 0};
    bool is_csv = false;
    const char *end = text + length;
    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t n = (size_t)((stop ? stop : end) - text), kept = n < MAX_LINE - 1 ? n : MAX_LINE - 1;
        memcpy(line, text, kept);
        line[kept] = '\0';
        line[strcspn(line, "\r")] = '\0';
        text += n + 1;
        r->line++;
        tdm_code code = TDM_OK;
        if (line[0] == '#' && !log->program)
            log->program = find_program(r->arena, line);
        log->n_ranks += line[0] == '#' && is_rank_line(line);
        if (is_csv) {
            code = read_csv_line(r, line, &head);
        } else if (r->n == 0 && line[0] != '#' && strstr(line, "size_bytes")) {
            char *names[MAX_FIELDS];
            uint32_t n_names = split(line, ',', names);
            head = find_columns(n_names, names, "size_bytes", "time_us");
            is_csv = true;
            if (head.size < 0 || head.time < 0)
                return complain(r, "a CSV file needs the columns size_bytes and time_us; there is",
                                line);
        } else {
            code = read_text_line(r, line, &head);
        }
        if (code != TDM_OK)
            return code;
    }
    return TDM_OK;
}

/* {"results": [{"size": 8, "out_of_place": {"time": 12.9}, "in_place": {...}}]}; source:
 * nccl-tests, src/util.cu. */
static tdm_code read_json(reader *r, const char *text, size_t length)
{
    tdm_node *root;
    tdm_code code = tdm_doc_parse(r->arena, r->path, text, length, &root, r->err);
    if (code != TDM_OK)
        return code;
    const tdm_node *results = tdm_node_child(root, "results");
    if (!results || results->kind != TDM_NODE_LIST)
        return tdm_node_error_at(root, "results", r->err,
                                 "missing: the list of rows, as nccl-tests writes it with -J");
    for (const tdm_node *row = results->first; row && code == TDM_OK; row = row->next) {
        const tdm_node *size = tdm_node_find(row, "size");
        const tdm_node *time = tdm_node_find(row, "out_of_place.time");
        if (!time)
            time = tdm_node_find(row, "in_place.time");
        r->line = row->line;
        if (!size || !time || size->kind != TDM_NODE_SCALAR || time->kind != TDM_NODE_SCALAR)
            return tdm_node_error(row, r->err, "needs size, and time in out_of_place or in_place");
        code = add_row(r, size->text, time->text);
    }
    return code;
}

tdm_code tdm_nccl_log_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                            tdm_nccl_log *log, tdm_error *err)
{
    reader r = {.arena = arena, .path = path, .err = err};
    tdm_nccl_log read = {0};
    size_t at = 0;
    while (at < length && isspace((unsigned char)text[at]))
        at++;
    tdm_code code = at < length && text[at] == '{' ? read_json(&r, text, length)
                                                   : read_lines(&r, text, length, &read);
    if (code != TDM_OK)
        return code;
    if (r.n == 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: no row of measurements: expected the output of nccl-tests, as "
                             "text or JSON, or CSV with the columns size_bytes and time_us",
                             path);
    read.n_rows = r.n;
    read.rows = r.rows;
    *log = read;
    return TDM_OK;
}

tdm_code tdm_nccl_log_read(tdm_arena *arena, const char *path, tdm_nccl_log *log, tdm_error *err)
{
    const char *text;
    size_t length;
    tdm_code code = tdm_file_read(arena, path, &text, &length, err);
    return code == TDM_OK ? tdm_nccl_log_parse(arena, path, text, length, log, err) : code;
}
