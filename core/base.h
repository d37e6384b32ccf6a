/* base.h: result codes, errors that collect several messages, and the arena.
 * Every other header of the core includes this one. */
#ifndef TDM_BASE_H
#define TDM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Result of whatever can fail; the numbers are the program's exit codes. */
typedef enum tdm_code {
    TDM_OK = 0,
    TDM_E_INTERNAL = 1,   /* input/output, out of memory, our own bug */
    TDM_E_INVALID = 2,    /* usage or invalid input */
    TDM_E_INFEASIBLE = 3, /* valid, but does not fit, or a target is missed */
    TDM_E_TOLERANCE = 4,  /* a comparison ran and is outside its tolerance */
    TDM_E_DEVICE = 5,     /* a device or NCCL failed during a run */
} tdm_code;

/* Collects messages; zero-initialise before use. Lines in `text` end with '\n'. Messages past the
 * buffer are counted in n_messages but dropped from the text. `code` is that of the first message.
 */
typedef struct tdm_error {
    tdm_code code;
    unsigned n_messages;
    size_t length;
    char text[32768];
} tdm_error;

/* Appends one message (printf style, no trailing newline) and returns `code`. err may be NULL. */
tdm_code tdm_error_add(tdm_error *err, tdm_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A bump allocator: everything allocated from it is freed at once. Zero-initialise before use. */
typedef struct tdm_arena {
    struct tdm_arena_chunk *chunk; /* newest chunk, linked to the older ones */
} tdm_arena;

/* Returns n_bytes of zeroed memory aligned to 16 bytes; aborts the process when memory is out. */
void *tdm_arena_alloc(tdm_arena *arena, size_t n_bytes);
/* Copies of a string, of the first n characters of a string, and of a printf result. */
char *tdm_arena_strdup(tdm_arena *arena, const char *text);
char *tdm_arena_strndup(tdm_arena *arena, const char *text, size_t n);
char *tdm_arena_printf(tdm_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tdm_arena_free(tdm_arena *arena);
/* As tdm_arena_free, but keeps the newest chunk for what is allocated next: touching memory for the
 * first time costs more than clearing it. */
void tdm_arena_reset(tdm_arena *arena);

/* Typed allocation of `count` zeroed elements. */
#define TDM_ALLOC(arena, type, count)                                                              \
    ((type *)tdm_arena_alloc((arena), sizeof(type) * (size_t)(count)))

#define TDM_COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline uint64_t tdm_ceil_div(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

#endif
