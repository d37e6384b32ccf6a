/* stage_layout.c: parses Megatron's pipeline layout string. */
#include "stage_layout.h"

#include <string.h>

enum { MAX_ITEMS = 1 << 16 };

typedef struct parser {
    tdm_arena *arena;
    const char *text, *at;
    char *items; /* expanded: of "EtL|" */
    size_t n_items;
    const char *problem;
} parser;

static void fail(parser *p, const char *what)
{
    if (!p->problem)
        p->problem =
            tdm_arena_printf(p->arena, "character %zu: %s", (size_t)(p->at - p->text) + 1, what);
}

static void skip_separators(parser *p)
{
    while (*p->at == ',' || *p->at == ' ')
        p->at++;
}

/* Appends copies of items [from, n_items) until there are `count` of them. */
static void repeat(parser *p, size_t from, uint32_t count)
{
    size_t n = p->n_items - from;
    if (count == 0) {
        p->n_items = from;
        return;
    }
    if (n * (count - 1) > MAX_ITEMS - p->n_items) {
        fail(p, "too many repetitions");
        return;
    }
    for (uint32_t i = 1; i < count; i++) {
        memcpy(p->items + p->n_items, p->items + from, n);
        p->n_items += n;
    }
}

/* "*12" behind an item or group. */
static void parse_repetition(parser *p, size_t from)
{
    skip_separators(p);
    if (*p->at != '*')
        return;
    p->at++;
    uint32_t count = 0;
    const char *first = p->at;
    while (*p->at >= '0' && *p->at <= '9' && count < MAX_ITEMS)
        count = count * 10 + (uint32_t)(*p->at++ - '0');
    if (p->at == first)
        fail(p, "expected a number after '*'");
    else
        repeat(p, from, count);
}

/* Groups do not nest, as in Megatron. */
static void parse_items(parser *p, bool in_group)
{
    for (skip_separators(p); *p->at && *p->at != ')' && !p->problem; skip_separators(p)) {
        size_t from = p->n_items;
        if (*p->at == '(') {
            if (in_group) {
                fail(p, "groups do not nest");
                return;
            }
            p->at++;
            parse_items(p, true);
            if (*p->at != ')') {
                fail(p, "expected ')'");
                return;
            }
        } else if (*p->at == 'm') {
            fail(p, "multi-token prediction (m) is not supported");
            return;
        } else if (!strchr("EtL|", *p->at)) {
            fail(p, "expected E, t, L, |, a group in parentheses or '*' and a number");
            return;
        } else if (p->n_items == MAX_ITEMS) {
            fail(p, "too many layers");
            return;
        } else {
            p->items[p->n_items++] = *p->at;
        }
        p->at++;
        parse_repetition(p, from);
    }
    if (*p->at == ')' && !in_group)
        fail(p, "')' without '('");
}

/* Counts layers by stage; E must open the first stage and L close the last. */
static const char *count(const parser *p, uint32_t n_stages, uint32_t n_layers, uint32_t *layers)
{
    uint32_t stage = 0, total = 0;
    memset(layers, 0, n_stages * sizeof *layers);
    if (p->n_items == 0 || p->items[0] != 'E' || memchr(p->items + 1, 'E', p->n_items - 1))
        return "must begin with its only E, the embedding";
    if (p->items[p->n_items - 1] != 'L' || memchr(p->items, 'L', p->n_items - 1))
        return "must end with its only L, the loss";
    for (size_t i = 0; i < p->n_items; i++) {
        stage += p->items[i] == '|';
        if (stage >= n_stages)
            break;
        layers[stage] += p->items[i] == 't';
        total += p->items[i] == 't';
    }
    if (stage + 1 != n_stages)
        return tdm_arena_printf(p->arena, "has %s%u stages, the layout of the ranks %u",
                                stage >= n_stages ? "more than " : "",
                                stage >= n_stages ? n_stages : stage + 1, n_stages);
    if (total != n_layers)
        return tdm_arena_printf(p->arena, "has %u layers, the model %u", total, n_layers);
    return NULL;
}

const char *tdm_stage_layout_parse(tdm_arena *arena, const char *text, uint32_t n_stages,
                                   uint32_t n_layers, uint32_t *layers)
{
    parser p = {.arena = arena, .text = text, .at = text};
    tdm_arena scratch = {0};
    p.items = tdm_arena_alloc(&scratch, MAX_ITEMS);
    parse_items(&p, false);
    const char *problem = p.problem ? p.problem : count(&p, n_stages, n_layers, layers);
    tdm_arena_free(&scratch);
    return problem;
}
