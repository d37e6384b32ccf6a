/* base.c: errors that collect messages, and the arena. */
#include "base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

tdm_code tdm_error_add(tdm_error *err, tdm_code code, const char *format, ...)
{
    assert(code != TDM_OK);
    if (!err)
        return code;
    if (err->n_messages++ == 0)
        err->code = code;
    size_t room = sizeof err->text - err->length;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text + err->length, room, format, args);
    va_end(args);
    if (n < 0 || (size_t)n + 2 > room) {
        err->text[err->length] = '\0'; /* whole messages only */
        return code;
    }
    err->length += (size_t)n;
    err->text[err->length++] = '\n';
    err->text[err->length] = '\0';
    return code;
}

/* Chunks double up to this size, so that small commands stay small. */
enum { FIRST_CHUNK = 64 * 1024, LARGEST_CHUNK = 4 * 1024 * 1024, ALIGN = 16 };

struct tdm_arena_chunk {
    struct tdm_arena_chunk *older;
    size_t size, used;
    _Alignas(ALIGN) unsigned char bytes[];
};

static struct tdm_arena_chunk *chunk_new(tdm_arena *arena, size_t n_bytes)
{
    struct tdm_arena_chunk *top = arena->chunk;
    size_t size = top ? top->size * 2 : FIRST_CHUNK;
    if (size > LARGEST_CHUNK)
        size = LARGEST_CHUNK;
    if (size < n_bytes)
        size = n_bytes;
    /* calloc: large chunks come zeroed from the system at no cost. */
    struct tdm_arena_chunk *chunk = calloc(1, sizeof *chunk + size);
    if (!chunk)
        abort();
    chunk->size = size;
    chunk->older = top;
    arena->chunk = chunk;
    return chunk;
}

void *tdm_arena_alloc(tdm_arena *arena, size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 2)
        abort();
    n_bytes = (n_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    struct tdm_arena_chunk *chunk = arena->chunk;
    if (!chunk || chunk->size - chunk->used < n_bytes)
        chunk = chunk_new(arena, n_bytes);
    void *p = chunk->bytes + chunk->used;
    chunk->used += n_bytes;
    return p;
}

char *tdm_arena_strndup(tdm_arena *arena, const char *text, size_t n)
{
    char *copy = tdm_arena_alloc(arena, n + 1);
    memcpy(copy, text, n);
    return copy;
}

char *tdm_arena_strdup(tdm_arena *arena, const char *text)
{
    return tdm_arena_strndup(arena, text, strlen(text));
}

char *tdm_arena_printf(tdm_arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(n >= 0);
    char *text = tdm_arena_alloc(arena, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

static void free_chunks(struct tdm_arena_chunk *chunk)
{
    while (chunk) {
        struct tdm_arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
}

void tdm_arena_free(tdm_arena *arena)
{
    free_chunks(arena->chunk);
    arena->chunk = NULL;
}

void tdm_arena_reset(tdm_arena *arena)
{
    struct tdm_arena_chunk *kept = arena->chunk;
    if (!kept)
        return;
    free_chunks(kept->older);
    kept->older = NULL;
    memset(kept->bytes, 0, kept->used);
    kept->used = 0;
}
