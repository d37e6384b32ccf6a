/* kineto_parts.h: what the files that read traces share. */
#ifndef TDM_KINETO_PARTS_H
#define TDM_KINETO_PARTS_H

#include "json_scan.h"
#include "kineto.h"
#include "kineto_names.h"

#include <string.h>

/* A text of the file, NULL when the event has none. */
typedef struct tdm_kineto_text {
    const char *text;
    size_t length;
} tdm_kineto_text;

/* One event as it stands in the file. */
typedef struct tdm_kineto_raw {
    tdm_kineto_text phase, category, name, collective, group, ranks, description, kind, pass, dtype;
    int64_t pid, tid, start_ns, duration_ns;
    int64_t correlation, group_size, bytes, call, n_in, n_out;
    bool has_start, has_pid, has_tid;
} tdm_kineto_raw;

typedef struct tdm_kineto_parser {
    tdm_arena *arena;
    const char *path;
    const tdm_kernel_rules *rules;
    tdm_kineto *kineto;
    tdm_json json;
    tdm_names names;
    tdm_names classes; /* pairs of a kernel's and a collective's name, with their rule */
    tdm_names comms;   /* pairs of a process group's name and its ranks */
    uint32_t file_rank;
    int64_t base_ns;   /* of the file */
    int64_t rank_said; /* by the file; -1: it says none */
    bool own;
    size_t event_capacity, launch_capacity, mark_capacity;
    size_t first_event, first_launch, first_mark; /* of the file */
    const char *problem;
} tdm_kineto_parser;

static inline bool tdm_kineto_is(tdm_kineto_text text, const char *word)
{
    return text.text && strlen(word) == text.length && memcmp(text.text, word, text.length) == 0;
}

static inline bool tdm_kineto_fail(tdm_kineto_parser *p, const char *problem)
{
    p->problem = problem;
    return false;
}

/* Reads the event whose opening brace was just passed. False when the text is bad. */
bool tdm_kineto_read_event(tdm_kineto_parser *p, tdm_kineto_raw *event);
/* Takes in what matters of an event; false when it is impossible. */
bool tdm_kineto_take(tdm_kineto_parser *p, const tdm_kineto_raw *event);

#endif
