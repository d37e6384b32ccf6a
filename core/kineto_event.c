/* kineto_event.c: one event of a trace as it stands in the file. */
#include "kineto_parts.h"

typedef struct text_key {
    const char *key;
    size_t offset;
} text_key;

static bool take_text(const text_key *keys, size_t n, tdm_kineto_text key, tdm_kineto_text value,
                      tdm_kineto_raw *event)
{
    for (size_t i = 0; i < n; i++) {
        if (!tdm_kineto_is(key, keys[i].key))
            continue;
        memcpy((char *)event + keys[i].offset, &value, sizeof value);
        return true;
    }
    return false;
}

/* A list of ranks may be a list or a text that looks like one. */
static bool take_list(tdm_kineto_parser *p, tdm_kineto_text key, tdm_kineto_raw *event)
{
    const char *from = p->json.at;
    for (uint32_t depth = p->json.depth; p->json.depth >= depth;)
        if (tdm_json_next(&p->json) == TDM_JSON_BAD)
            return false;
    if (tdm_kineto_is(key, "Process Group Ranks"))
        event->ranks = (tdm_kineto_text){from, (size_t)(p->json.at - from)};
    return true;
}

static bool read_arguments(tdm_kineto_parser *p, tdm_kineto_raw *event)
{
    static const text_key texts[] = {
        {"Collective name", offsetof(tdm_kineto_raw, collective)},
        {"Process Group Name", offsetof(tdm_kineto_raw, group)},
        {"Process Group Ranks", offsetof(tdm_kineto_raw, ranks)},
        {"Process Group Description", offsetof(tdm_kineto_raw, description)},
        {"kind", offsetof(tdm_kineto_raw, kind)},
        {"pass", offsetof(tdm_kineto_raw, pass)},
        {"dtype", offsetof(tdm_kineto_raw, dtype)},
    };
    static const text_key numbers[] = {
        {"correlation", offsetof(tdm_kineto_raw, correlation)},
        {"Group size", offsetof(tdm_kineto_raw, group_size)},
        {"bytes", offsetof(tdm_kineto_raw, bytes)},
        {"call", offsetof(tdm_kineto_raw, call)},
        {"In msg nelems", offsetof(tdm_kineto_raw, n_in)},
        {"Out msg nelems", offsetof(tdm_kineto_raw, n_out)},
    };
    for (;;) {
        tdm_json_piece piece = tdm_json_next(&p->json);
        if (piece != TDM_JSON_KEY)
            return piece == TDM_JSON_OBJECT_END;
        tdm_kineto_text key = {p->json.text, p->json.length};
        piece = tdm_json_next(&p->json);
        if (piece == TDM_JSON_BAD)
            return false;
        int64_t number;
        if (piece == TDM_JSON_STRING)
            take_text(texts, TDM_COUNT(texts), key, (tdm_kineto_text){p->json.text, p->json.length},
                      event);
        else if (piece == TDM_JSON_NUMBER && tdm_json_int(&p->json, &number) && number >= 0) {
            for (size_t i = 0; i < TDM_COUNT(numbers); i++)
                if (tdm_kineto_is(key, numbers[i].key))
                    memcpy((char *)event + numbers[i].offset, &number, sizeof number);
        } else if ((piece == TDM_JSON_OBJECT || piece == TDM_JSON_ARRAY) &&
                   !take_list(p, key, event))
            return false;
    }
}

/* The times and the numbers of process and thread. */
static bool take_number(tdm_kineto_parser *p, tdm_kineto_text key, tdm_kineto_raw *event)
{
    int64_t value;
    if (tdm_kineto_is(key, "ts") || tdm_kineto_is(key, "dur")) {
        bool start = tdm_kineto_is(key, "ts");
        if (!tdm_json_thousandths(&p->json, &value))
            return tdm_kineto_fail(p, "a time is out of range");
        *(start ? &event->start_ns : &event->duration_ns) = value;
        event->has_start = event->has_start || start;
    } else if (tdm_kineto_is(key, "pid")) {
        event->has_pid = tdm_json_int(&p->json, &event->pid);
    } else if (tdm_kineto_is(key, "tid")) {
        event->has_tid = tdm_json_int(&p->json, &event->tid);
    }
    return true;
}

bool tdm_kineto_read_event(tdm_kineto_parser *p, tdm_kineto_raw *event)
{
    static const text_key texts[] = {{"ph", offsetof(tdm_kineto_raw, phase)},
                                     {"cat", offsetof(tdm_kineto_raw, category)},
                                     {"name", offsetof(tdm_kineto_raw, name)}};
    *event = (tdm_kineto_raw){.correlation = -1, .call = -1};
    for (;;) {
        tdm_json_piece piece = tdm_json_next(&p->json);
        if (piece != TDM_JSON_KEY)
            return piece == TDM_JSON_OBJECT_END;
        tdm_kineto_text key = {p->json.text, p->json.length};
        piece = tdm_json_next(&p->json);
        if (piece == TDM_JSON_BAD)
            return false;
        if (piece == TDM_JSON_STRING)
            take_text(texts, TDM_COUNT(texts), key, (tdm_kineto_text){p->json.text, p->json.length},
                      event);
        else if (piece == TDM_JSON_NUMBER && !take_number(p, key, event))
            return false;
        else if (piece == TDM_JSON_OBJECT && tdm_kineto_is(key, "args") &&
                 !read_arguments(p, event))
            return false;
        else if ((piece == TDM_JSON_OBJECT && !tdm_kineto_is(key, "args")) ||
                 piece == TDM_JSON_ARRAY) {
            if (!take_list(p, key, event))
                return false;
        }
    }
}
