/* plan_read_routing.c: the routing table: token-expert pairs by replica, layer and microbatch. */
#include "plan_read.h"

#include <stdio.h>
#include <string.h>

static bool check_size(tdm_plan_reader *reader, const char *key, uint32_t value, uint32_t expected,
                       const char *of)
{
    if (value == expected)
        return true;
    return tdm_text_fail(&reader->text, reader->text.line, "routing-table: %s=%u, but %s %u", key,
                         value, of, expected);
}

/* The table must be that of this plan, and hold every layer that blocks use. */
static bool check_table(tdm_plan_reader *reader, const tdm_routing_table *table)
{
    const tdm_plan *plan = reader->plan;
    tdm_text_reader *r = &reader->text;
    if (!check_size(reader, "replicas", table->n_replicas, plan->mesh.edp * plan->mesh.etp,
                    plan->mesh.etp > 1 ? "the mesh has edp x etp" : "the mesh has edp") ||
        !check_size(reader, "ep", table->ep, plan->mesh.ep, "the mesh has ep") ||
        !check_size(reader, "experts", table->n_experts, plan->model.num_experts,
                    "the model has") ||
        !check_size(reader, "microbatches", table->n_microbatches, plan->num_microbatches,
                    "the plan has"))
        return false;
    if (table->n_layers == 0 || table->n_layers < reader->n_layers)
        return tdm_text_fail(r, r->line, "routing-table: layers=%u, but blocks use %u",
                             table->n_layers, reader->n_layers);
    if (table->n_experts == 0 || table->n_experts % table->ep != 0)
        return tdm_text_fail(r, r->line, "routing-table: ep=%u does not divide experts=%u",
                             table->ep, table->n_experts);
    uint64_t per_row = (uint64_t)table->ep * table->ep + table->n_experts;
    uint64_t limit = TDM_READ_MAX_COUNTS;
    const uint32_t sizes[] = {table->n_replicas, table->n_layers, table->n_microbatches};
    for (size_t i = 0; i < TDM_COUNT(sizes); i++)
        limit /= sizes[i];
    if (per_row > limit)
        return tdm_text_fail(r, r->line, "routing-table: more than %d numbers",
                             TDM_READ_MAX_COUNTS);
    return true;
}

/* `n` counts, as VALUE or COUNT*VALUE. */
static bool read_counts(tdm_text_reader *r, const char *word, uint32_t *values, uint64_t n)
{
    char shown[TDM_SHOW_SIZE];
    tdm_token token = tdm_text_word(r);
    if (!tdm_token_is(token, word))
        return tdm_text_fail(r, token.at, "'%s' where `%s` belongs", tdm_token_show(token, shown),
                             word);
    for (uint64_t done = 0; done < n;) {
        token = tdm_text_word(r);
        const char *star = memchr(token.at, '*', token.length);
        tdm_token number =
            star ? (tdm_token){star + 1, token.length - (size_t)(star + 1 - token.at)} : token;
        uint64_t count = 1, value = 0;
        if (star) {
            tdm_token times = {token.at, (size_t)(star - token.at)};
            if (!tdm_text_number(r, "count", times, n - done, &count))
                return false;
        }
        if (!tdm_text_number(r, word, number, UINT32_MAX, &value))
            return false;
        for (uint64_t i = 0; i < count; i++)
            values[done++] = (uint32_t)value;
    }
    return true;
}

/* `row REPLICA/LAYER/MICROBATCH [xROWS]`: must be the row that follows the last one. */
static bool read_row_head(tdm_text_reader *r, const tdm_routing_table *table, uint64_t row,
                          uint64_t n_rows, uint64_t *n_alike)
{
    char expected[64], shown[TDM_SHOW_SIZE];
    snprintf(expected, sizeof expected, "%u/%u/%u",
             (unsigned)(row / table->n_microbatches / table->n_layers),
             (unsigned)(row / table->n_microbatches % table->n_layers),
             (unsigned)(row % table->n_microbatches));
    if (!tdm_token_is(r->word, "row"))
        return tdm_text_fail(r, r->line, "'%s' where row %s of the routing table belongs",
                             tdm_token_show(r->word, shown), expected);
    tdm_token place = tdm_text_word(r);
    if (!tdm_token_is(place, expected))
        return tdm_text_fail(r, place.at, "'%s' where row %s belongs", tdm_token_show(place, shown),
                             expected);
    *n_alike = 1;
    const char *before = r->next;
    tdm_token alike = tdm_text_word(r);
    if (alike.length == 0 || alike.at[0] != 'x') {
        r->next = before; /* no number of rows */
        return true;
    }
    tdm_token number = {alike.at + 1, alike.length - 1};
    if (!tdm_text_number(r, "rows alike", number, n_rows - row, n_alike))
        return false;
    if (*n_alike == 0)
        return tdm_text_fail(r, alike.at, "rows alike: x0 says nothing");
    return true;
}

bool tdm_read_routing(tdm_plan_reader *reader)
{
    tdm_text_reader *r = &reader->text;
    tdm_routing_table table = {0};
    if (!tdm_text_fields(r, "routing-table", tdm_text_routing_fields, &table) ||
        !check_table(reader, &table) || !tdm_text_advance(r))
        return false;
    uint64_t n_rows = (uint64_t)table.n_replicas * table.n_layers * table.n_microbatches;
    uint64_t n_sent = (uint64_t)table.ep * table.ep;
    uint32_t *sent = TDM_ALLOC(r->arena, uint32_t, n_rows * n_sent);
    uint32_t *experts = TDM_ALLOC(r->arena, uint32_t, n_rows * table.n_experts);
    for (uint64_t row = 0; row < n_rows;) {
        uint64_t n_alike = 0;
        uint32_t *row_sent = sent + row * n_sent, *row_experts = experts + row * table.n_experts;
        if (!read_row_head(r, &table, row, n_rows, &n_alike) ||
            !read_counts(r, "sent", row_sent, n_sent) ||
            !read_counts(r, "experts", row_experts, table.n_experts) || !tdm_text_end_of_line(r) ||
            !tdm_text_advance(r))
            return false;
        for (uint64_t i = 1; i < n_alike; i++) {
            memcpy(row_sent + i * n_sent, row_sent, n_sent * sizeof *sent);
            memcpy(row_experts + i * table.n_experts, row_experts,
                   table.n_experts * sizeof *experts);
        }
        row += n_alike;
    }
    table.sent = sent;
    table.experts = experts;
    reader->plan->routing = table;
    return true;
}
