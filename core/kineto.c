/* kineto.c: one trace file after the other. */
#include "kineto.h"

#include "gzip.h"
#include "kineto_parts.h"

#include <stdlib.h>

static bool read_events(tdm_kineto_parser *p)
{
    for (;;) {
        tdm_json_piece piece = tdm_json_next(&p->json);
        tdm_kineto_raw event;
        if (piece == TDM_JSON_ARRAY_END)
            return true;
        if (piece == TDM_JSON_BAD)
            return false;
        if (piece != TDM_JSON_OBJECT)
            return tdm_kineto_fail(p, "an event is no object");
        if (!tdm_kineto_read_event(p, &event) || !tdm_kineto_take(p, &event))
            return false;
    }
}

/* distributedInfo and otherData: numbers and texts one level down. */
static bool read_about(tdm_kineto_parser *p, bool distributed)
{
    for (;;) {
        tdm_json_piece piece = tdm_json_next(&p->json);
        if (piece != TDM_JSON_KEY)
            return piece == TDM_JSON_OBJECT_END;
        tdm_kineto_text key = {p->json.text, p->json.length};
        const char *at = p->json.at;
        if (!tdm_json_skip(&p->json))
            return false;
        int64_t value;
        if (distributed && tdm_kineto_is(key, "rank") && tdm_json_int(&p->json, &value) &&
            value >= 0)
            p->rank_said = value;
        while (*at == ' ')
            at++;
        if (!distributed && tdm_kineto_is(key, "engine") && *at == '"') {
            p->own = true;
            p->kineto->engine = tdm_arena_strndup(p->arena, p->json.text, p->json.length);
        }
        if (!distributed && tdm_kineto_is(key, "launch_us") &&
            tdm_json_thousandths(&p->json, &value))
            p->kineto->launch_s = 1e-9 * (double)value;
    }
}

static bool read_document(tdm_kineto_parser *p, bool *found)
{
    tdm_json_piece piece = tdm_json_next(&p->json);
    if (piece == TDM_JSON_ARRAY) { /* the short form: events and nothing else */
        *found = true;
        return read_events(p);
    }
    if (piece != TDM_JSON_OBJECT)
        return piece != TDM_JSON_BAD && tdm_kineto_fail(p, "no object");
    for (;;) {
        piece = tdm_json_next(&p->json);
        if (piece != TDM_JSON_KEY)
            return piece == TDM_JSON_OBJECT_END;
        tdm_kineto_text key = {p->json.text, p->json.length};
        const char *at = p->json.at;
        while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
            at++;
        bool ok;
        if (tdm_kineto_is(key, "traceEvents") && *at == '[') {
            *found = true;
            ok = tdm_json_next(&p->json) == TDM_JSON_ARRAY && read_events(p);
        } else if ((tdm_kineto_is(key, "distributedInfo") || tdm_kineto_is(key, "otherData")) &&
                   *at == '{') {
            ok = tdm_json_next(&p->json) == TDM_JSON_OBJECT &&
                 read_about(p, tdm_kineto_is(key, "distributedInfo"));
        } else {
            ok = tdm_json_skip(&p->json);
            int64_t value;
            if (ok && tdm_kineto_is(key, "baseTimeNanoseconds") && tdm_json_int(&p->json, &value) &&
                value >= 0 && value < INT64_MAX / 4)
                p->base_ns = value;
        }
        if (!ok)
            return false;
    }
}

/* The number behind "rank" in the file's name, else its place. */
static uint32_t rank_of_path(const char *path, size_t place)
{
    const char *slash = strrchr(path, '/'), *found = NULL;
    for (const char *at = slash ? slash : path; (at = strstr(at, "rank")); at++)
        found = at + 4;
    if (found) {
        found += *found == '-' || *found == '_';
        char *end;
        unsigned long number = strtoul(found, &end, 10);
        if (*found >= '0' && *found <= '9' && end - found < 8)
            return (uint32_t)number;
    }
    return (uint32_t)place;
}

static tdm_code add_rank(tdm_arena *arena, tdm_kineto *k, uint32_t rank)
{
    for (uint32_t i = 0; i < k->n_ranks; i++)
        if (k->ranks[i] == rank)
            return TDM_E_INVALID;
    uint32_t *ranks = TDM_ALLOC(arena, uint32_t, k->n_ranks + 1);
    uint32_t n = 0;
    while (n < k->n_ranks && k->ranks[n] < rank) {
        ranks[n] = k->ranks[n];
        n++;
    }
    ranks[n] = rank;
    for (; n < k->n_ranks; n++)
        ranks[n + 1] = k->ranks[n];
    k->ranks = ranks;
    k->n_ranks++;
    return TDM_OK;
}

/* Gives what the file brought its rank and its clock. */
static tdm_code settle_file(tdm_kineto_parser *p, size_t place, tdm_error *err)
{
    tdm_kineto *k = p->kineto;
    p->file_rank = p->rank_said >= 0 && p->rank_said < 1 << 20 ? (uint32_t)p->rank_said
                                                               : rank_of_path(p->path, place);
    for (size_t i = p->first_event; i < k->n_events; i++) {
        k->events[i].rank = p->own ? k->events[i].rank : p->file_rank;
        k->events[i].start_ns += p->base_ns;
        k->events[i].end_ns += p->base_ns;
        if (!p->own)
            k->events[i].stream = TDM_N_STREAMS;
    }
    for (size_t i = p->first_launch; i < k->n_launches; i++) {
        k->launches[i].rank = p->file_rank;
        k->launches[i].start_ns += p->base_ns;
        k->launches[i].end_ns += p->base_ns;
    }
    for (size_t i = p->first_mark; i < k->n_marks; i++) {
        k->marks[i].rank = p->file_rank;
        k->marks[i].start_ns += p->base_ns;
        k->marks[i].end_ns += p->base_ns;
    }
    if (!p->own && add_rank(p->arena, k, p->file_rank) != TDM_OK)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "%s: a second trace of rank %lu (one file per rank is wanted, of one profiling window)",
            p->path, (unsigned long)p->file_rank);
    uint32_t last = UINT32_MAX;
    for (size_t i = p->first_event; p->own && i < k->n_events; i++) {
        if (k->events[i].rank != last && k->events[i].rank < 1u << 20)
            add_rank(p->arena, k, k->events[i].rank); /* known already: fine */
        last = k->events[i].rank;
    }
    return TDM_OK;
}

static tdm_code parse_file(tdm_kineto_parser *p, const char *path, const char *text, size_t n_bytes,
                           size_t place, tdm_error *err)
{
    bool found = false;
    p->path = path;
    p->json = tdm_json_begin(text, n_bytes);
    p->base_ns = 0;
    p->rank_said = -1;
    p->own = false;
    p->first_event = p->kineto->n_events;
    p->first_launch = p->kineto->n_launches;
    p->first_mark = p->kineto->n_marks;
    bool ok = read_document(p, &found);
    if (ok && tdm_json_next(&p->json) != TDM_JSON_END)
        ok = false;
    if (!ok)
        return tdm_error_add(err, TDM_E_INVALID, "%s:%lu: no trace: %s", path,
                             (unsigned long)tdm_json_line(&p->json),
                             p->problem        ? p->problem
                             : p->json.problem ? p->json.problem
                                               : "the text ends too early");
    if (!found)
        return tdm_error_add(err, TDM_E_INVALID, "%s: no trace: it has no \"traceEvents\"", path);
    return settle_file(p, place, err);
}

static void begin(tdm_kineto_parser *p, tdm_arena *arena, const tdm_kernel_rules *rules,
                  tdm_kineto *kineto)
{
    *kineto = (tdm_kineto){0};
    *p = (tdm_kineto_parser){.arena = arena, .rules = rules, .kineto = kineto};
    p->names.arena = p->classes.arena = p->comms.arena = arena;
}

static void finish(tdm_kineto_parser *p)
{
    p->kineto->names = p->names.texts;
    p->kineto->n_names = p->names.n;
}

tdm_code tdm_kineto_parse(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                          const tdm_kernel_rules *rules, tdm_kineto *kineto, tdm_error *err)
{
    tdm_kineto_parser p;
    begin(&p, arena, rules, kineto);
    tdm_code code = parse_file(&p, path, text, n_bytes, 0, err);
    finish(&p);
    return code;
}

tdm_code tdm_kineto_read(tdm_arena *arena, const char *const *paths, size_t n_paths,
                         const tdm_kernel_rules *rules, tdm_kineto *kineto, tdm_error *err)
{
    tdm_kineto_parser p;
    begin(&p, arena, rules, kineto);
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < n_paths && code == TDM_OK; i++) {
        char *text = NULL;
        size_t n_bytes = 0;
        code = tdm_gzip_read(paths[i], &text, &n_bytes, err);
        if (code == TDM_OK)
            code = parse_file(&p, paths[i], text, n_bytes, i, err);
        free(text);
    }
    finish(&p);
    return code;
}
