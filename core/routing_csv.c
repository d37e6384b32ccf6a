/* routing_csv.c: reads a recorded routing. */
#include "routing_csv.h"

#include "files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WEIGHT_LENGTH = 40, MAX_MESSAGES = 8 };

typedef struct reader {
    const char *path;
    const tdm_model *model;
    double *weights; /* [layer][expert] */
    bool *seen;
    uint32_t line, n_messages;
    tdm_error *err;
} reader;

typedef struct cell {
    const char *text;
    size_t length;
    uint32_t column;
} cell;

static bool refuse(reader *r, const cell *c, const char *accepted)
{
    r->n_messages++;
    tdm_error_add(r->err, TDM_E_INVALID, "%s:%u:%u: '%.*s': %s", r->path, r->line, c->column,
                  (int)(c->length < 40 ? c->length : 40), c->text, accepted);
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next cell of a line at *from; false behind the last one. */
static bool next_cell(const char *line, size_t length, size_t *from, cell *c)
{
    if (*from > length)
        return false;
    size_t first = *from, end = first;
    while (end < length && line[end] != ',')
        end++;
    *from = end + 1;
    while (first < end && is_blank(line[first]))
        first++;
    while (end > first && is_blank(line[end - 1]))
        end--;
    *c = (cell){line + first, end - first, (uint32_t)first + 1};
    return true;
}

static bool read_index(reader *r, const cell *c, uint32_t n, const char *what, uint32_t *index)
{
    char accepted[96];
    uint64_t value = 0;
    bool good = c->length > 0;
    for (size_t i = 0; i < c->length && good; i++) {
        good = c->text[i] >= '0' && c->text[i] <= '9' && value < n;
        value = value * 10 + (uint64_t)(c->text[i] - '0');
    }
    if (good && value < n) {
        *index = (uint32_t)value;
        return true;
    }
    snprintf(accepted, sizeof accepted, "expected %s, 0 to %u", what, n - 1);
    return refuse(r, c, accepted);
}

static bool read_weight(reader *r, const cell *c, double *weight)
{
    char text[MAX_WEIGHT_LENGTH + 1], *end = text;
    double value = -1;
    if (c->length > 0 && c->length <= MAX_WEIGHT_LENGTH) {
        memcpy(text, c->text, c->length);
        text[c->length] = '\0';
        if (strspn(text, "0123456789.eE+-") == c->length)
            value = strtod(text, &end);
    }
    if (end == text || *end != '\0' || !(value >= 0 && value <= 1e300))
        return refuse(r, c, "expected a weight or count, a number of at least 0");
    *weight = value;
    return true;
}

static bool read_line(reader *r, const char *line, size_t length)
{
    cell cells[3];
    size_t from = 0;
    const tdm_model *m = r->model;
    for (size_t i = 0; i < TDM_COUNT(cells); i++)
        if (!next_cell(line, length, &from, &cells[i])) {
            cell all = {line, length, 1};
            return refuse(r, &all, "expected layer,expert,weight");
        }
    cell more;
    if (next_cell(line, length, &from, &more))
        return refuse(r, &more, "one value too many: expected layer,expert,weight");
    uint32_t layer, expert;
    double weight;
    if (!read_index(r, &cells[0], m->num_layers, "a layer of the model", &layer) ||
        !read_index(r, &cells[1], m->num_experts, "an expert of the model", &expert) ||
        !read_weight(r, &cells[2], &weight))
        return false;
    size_t at = (size_t)layer * m->num_experts + expert;
    if (r->seen[at])
        return refuse(r, &cells[0], "this layer and expert have a weight already");
    r->seen[at] = true;
    r->weights[at] = weight;
    return true;
}

static bool is_skipped(const char *line, size_t length, uint32_t number)
{
    size_t n_digits = 0, n_other = 0;
    for (size_t i = 0; i < length; i++) {
        n_digits += line[i] >= '0' && line[i] <= '9';
        n_other += !is_blank(line[i]);
    }
    return n_other == 0 || *line == '#' || (number == 1 && n_digits == 0);
}

static void check_layers(reader *r)
{
    const tdm_model *m = r->model;
    for (uint32_t layer = 0; layer < m->num_layers && r->n_messages < MAX_MESSAGES; layer++) {
        uint32_t n_possible = 0;
        double sum = 0;
        for (uint32_t e = 0; e < m->num_experts; e++) {
            sum += r->weights[(size_t)layer * m->num_experts + e];
            n_possible += r->weights[(size_t)layer * m->num_experts + e] > 0;
        }
        if (n_possible >= m->moe_router_topk && isfinite(sum))
            continue;
        r->n_messages++;
        tdm_error_add(r->err, TDM_E_INVALID,
                      "%s:%u:1: layer %u has %u experts of weight above 0; tokens choose %u",
                      r->path, r->line, layer, n_possible, m->moe_router_topk);
    }
}

tdm_code tdm_routing_csv_parse(tdm_arena *arena, const char *path, const char *text, size_t length,
                               const tdm_model *model, tdm_routing_record *record, tdm_error *err)
{
    size_t n = (size_t)model->num_layers * model->num_experts;
    reader r = {.path = path,
                .model = model,
                .weights = TDM_ALLOC(arena, double, n),
                .seen = TDM_ALLOC(arena, bool, n),
                .err = err};
    for (size_t from = 0; from < length && r.n_messages < MAX_MESSAGES;) {
        const char *end = memchr(text + from, '\n', length - from);
        size_t n_line = end ? (size_t)(end - text) - from : length - from;
        r.line++;
        if (!is_skipped(text + from, n_line, r.line))
            read_line(&r, text + from, n_line);
        from += n_line + 1;
    }
    r.line = r.line > 0 ? r.line : 1;
    if (r.n_messages == 0)
        check_layers(&r);
    if (r.n_messages > 0)
        return TDM_E_INVALID;
    *record = (tdm_routing_record){tdm_arena_strdup(arena, path), model->num_layers,
                                   model->num_experts, r.weights};
    return TDM_OK;
}

tdm_code tdm_routing_csv_read(tdm_arena *arena, const char *path, const tdm_model *model,
                              tdm_routing_record *record, tdm_error *err)
{
    const char *text;
    size_t length;
    tdm_code code = tdm_file_read(arena, path, &text, &length, err);
    if (code == TDM_OK)
        code = tdm_routing_csv_parse(arena, path, text, length, model, record, err);
    return code;
}
