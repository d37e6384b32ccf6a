/* plan_sink.h: where plan text goes: a file, or a hash that needs no memory. Private to
 * plan_write.c. */
#ifndef TDM_PLAN_SINK_H
#define TDM_PLAN_SINK_H

#include "plan_format.h"

#include <stdio.h>

typedef struct tdm_sink {
    FILE *file; /* NULL: hash only */
    bool hashes;
    uint64_t hash; /* FNV-1a over what was flushed */
    size_t used;
    char buffer[4096];
} tdm_sink;

/* Hands the buffered bytes on. */
void tdm_sink_flush(tdm_sink *s);
void tdm_put_char(tdm_sink *s, char c);
void tdm_put(tdm_sink *s, const char *text);
void tdm_put_number(tdm_sink *s, uint64_t value);
/* In double quotes where the reader would not take it for a plain name. NULL is written as "". */
void tdm_put_name(tdm_sink *s, const char *name);
/* " key=value" of each field. */
void tdm_put_fields(tdm_sink *s, const tdm_text_field *fields, const void *base);

#endif
