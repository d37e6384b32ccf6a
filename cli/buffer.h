/* buffer.h: fast text output: large files are written through one buffer with own number
 * formatting. Errors stick: after the first one nothing more is written, and tdm_buffer_close
 * reports it. */
#ifndef TDM_BUFFER_H
#define TDM_BUFFER_H

#include "core/base.h"

#include <string.h>

#define TDM_BUFFER_ROOM 512u /* bytes that may be put without asking for room again */

typedef struct tdm_buffer {
    int file; /* descriptor */
    bool failed;
    size_t n, capacity;
    char *bytes;
} tdm_buffer;

/* Opens `path` for writing, truncated. */
tdm_code tdm_buffer_open(tdm_buffer *buffer, const char *path, tdm_error *err);
/* Writes what is left and closes; fails when anything could not be written. Call also after
 * failures. */
tdm_code tdm_buffer_close(tdm_buffer *buffer, const char *path, tdm_error *err);
/* Makes room for TDM_BUFFER_ROOM bytes. The put functions below rely on it, call it once per line.
 */
void tdm_buffer_reserve(tdm_buffer *buffer);

/* Text of any length; reserves again behind it. */
void tdm_buffer_text(tdm_buffer *buffer, const char *text);
/* Text as a JSON string, with its quotes. */
void tdm_buffer_json(tdm_buffer *buffer, const char *text);
void tdm_buffer_uint(tdm_buffer *buffer, uint64_t value);
/* Nanoseconds as microseconds with three digits: "12.345". */
void tdm_buffer_us(tdm_buffer *buffer, int64_t ns);

static inline void tdm_buffer_bytes(tdm_buffer *buffer, const char *bytes, size_t n)
{
    memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
}

/* A string constant, shorter than TDM_BUFFER_ROOM. */
#define TDM_PUT(buffer, literal) tdm_buffer_bytes((buffer), "" literal, sizeof(literal) - 1)

#endif
