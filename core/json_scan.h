/* json_scan.h: goes through JSON text from front to back, one piece at a time, keeping nothing.
 * Traces of profilers are hundreds of megabytes; as a tree they would be ten times that. Strings
 * come as they stand between their quotes, so that nothing is copied. Control characters inside
 * strings, which JSON forbids and profilers write, are let through. */
#ifndef TDM_JSON_SCAN_H
#define TDM_JSON_SCAN_H

#include "base.h"

typedef enum tdm_json_piece {
    TDM_JSON_END, /* of the text, after one whole value */
    TDM_JSON_OBJECT,
    TDM_JSON_OBJECT_END,
    TDM_JSON_ARRAY,
    TDM_JSON_ARRAY_END,
    TDM_JSON_KEY,
    TDM_JSON_STRING,
    TDM_JSON_NUMBER,
    TDM_JSON_WORD, /* true, false, null */
    TDM_JSON_BAD   /* `problem` says why; every later piece is BAD, too */
} tdm_json_piece;

#define TDM_JSON_MAX_DEPTH 64u

typedef struct tdm_json {
    const char *begin, *at, *end;
    const char *text; /* of a key, string, number or word: not terminated */
    size_t length;
    const char *problem;
    uint32_t depth;
    bool is_object[TDM_JSON_MAX_DEPTH];
    bool after_key, after_value; /* what came before in the innermost object or array */
} tdm_json;

tdm_json tdm_json_begin(const char *text, size_t n_bytes);
tdm_json_piece tdm_json_next(tdm_json *json);
/* Passes over the value that comes next, however deep; false when the text is bad. */
bool tdm_json_skip(tdm_json *json);

/* Whether the piece's text is `word`. */
bool tdm_json_is(const tdm_json *json, const char *word);
/* A decimal number times 1000, cut, without the loss of a double: microseconds as
 * nanoseconds. False when it is none or does not fit. */
bool tdm_json_thousandths(const tdm_json *json, int64_t *value);
/* A whole number without exponent. */
bool tdm_json_int(const tdm_json *json, int64_t *value);
/* Line of the place reached, from 1. */
uint32_t tdm_json_line(const tdm_json *json);

#endif
