/* buffer.c: fast text output. */
#include "buffer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { CAPACITY = 1024 * 1024 };

tdm_code tdm_buffer_open(tdm_buffer *buffer, const char *path, tdm_error *err)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    char *bytes = malloc(CAPACITY);
    if (!bytes) {
        close(file);
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", path);
    }
    *buffer = (tdm_buffer){.file = file, .capacity = CAPACITY, .bytes = bytes};
    return TDM_OK;
}

static void flush(tdm_buffer *buffer)
{
    size_t done = 0;
    while (done < buffer->n && !buffer->failed) {
        ssize_t n = write(buffer->file, buffer->bytes + done, buffer->n - done);
        if (n < 0 && errno != EINTR)
            buffer->failed = true;
        done += n > 0 ? (size_t)n : 0;
    }
    buffer->n = 0;
}

void tdm_buffer_reserve(tdm_buffer *buffer)
{
    if (buffer->capacity - buffer->n < TDM_BUFFER_ROOM)
        flush(buffer);
}

tdm_code tdm_buffer_close(tdm_buffer *buffer, const char *path, tdm_error *err)
{
    errno = 0;
    flush(buffer);
    bool failed = buffer->failed;
    if (close(buffer->file) != 0)
        failed = true;
    free(buffer->bytes);
    *buffer = (tdm_buffer){.file = -1};
    if (!failed)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path,
                         errno ? strerror(errno) : "cannot be written");
}

void tdm_buffer_text(tdm_buffer *buffer, const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        if (buffer->n == buffer->capacity)
            flush(buffer);
        size_t room = buffer->capacity - buffer->n, n = left < room ? left : room;
        tdm_buffer_bytes(buffer, text, n);
        text += n;
        left -= n;
    }
    tdm_buffer_reserve(buffer);
}

void tdm_buffer_json(tdm_buffer *buffer, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    tdm_buffer_reserve(buffer);
    TDM_PUT(buffer, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        tdm_buffer_reserve(buffer);
        if (*c == '"' || *c == '\\')
            tdm_buffer_bytes(buffer, (const char[]){'\\', (char)*c}, 2);
        else if (*c < 0x20)
            tdm_buffer_bytes(
                buffer, (const char[]){'\\', 'u', '0', '0', digits[*c >> 4], digits[*c & 15]}, 6);
        else
            tdm_buffer_bytes(buffer, (const char *)c, 1);
    }
    TDM_PUT(buffer, "\"");
}

void tdm_buffer_uint(tdm_buffer *buffer, uint64_t value)
{
    char text[20];
    size_t i = sizeof text;
    do {
        text[--i] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    tdm_buffer_bytes(buffer, text + i, sizeof text - i);
}

void tdm_buffer_us(tdm_buffer *buffer, int64_t ns)
{
    if (ns < 0) {
        TDM_PUT(buffer, "-");
        ns = -ns;
    }
    tdm_buffer_uint(buffer, (uint64_t)ns / 1000);
    unsigned fraction = (unsigned)((uint64_t)ns % 1000);
    char text[4] = {'.', (char)('0' + fraction / 100), (char)('0' + fraction / 10 % 10),
                    (char)('0' + fraction % 10)};
    tdm_buffer_bytes(buffer, text, sizeof text);
}
