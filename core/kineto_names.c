/* kineto_names.c: a table of texts by hash. */
#include "kineto_names.h"

#include <string.h>

/* Source: Fowler, Noll and Vo, FNV-1a, 32 bits. */
static uint32_t hash_of(const char *text, size_t length)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 16777619u;
    return hash;
}

static uint32_t free_slot(const tdm_names *names, const char *text, size_t length)
{
    uint32_t slot = hash_of(text, length) & (names->n_slots - 1);
    for (; names->slots[slot]; slot = (slot + 1) & (names->n_slots - 1)) {
        const char *known = names->texts[names->slots[slot] - 1];
        if (strncmp(known, text, length) == 0 && known[length] == '\0')
            break;
    }
    return slot;
}

static void grow(tdm_names *names)
{
    uint32_t capacity = names->capacity ? 2 * names->capacity : 256;
    const char **texts = TDM_ALLOC(names->arena, const char *, capacity);
    const void **values = TDM_ALLOC(names->arena, const void *, capacity);
    bool *seen = TDM_ALLOC(names->arena, bool, capacity);
    if (names->n) {
        memcpy(texts, names->texts, sizeof *texts * names->n);
        memcpy(values, names->values, sizeof *values * names->n);
        memcpy(seen, names->seen, sizeof *seen * names->n);
    }
    names->texts = texts;
    names->values = values;
    names->seen = seen;
    names->capacity = capacity;
    names->n_slots = 4 * capacity;
    names->slots = TDM_ALLOC(names->arena, uint32_t, names->n_slots);
    for (uint32_t i = 0; i < names->n; i++)
        names->slots[free_slot(names, texts[i], strlen(texts[i]))] = i + 1;
}

uint32_t tdm_names_find(tdm_names *names, const char *text, size_t length)
{
    const char *nul = memchr(text, '\0', length);
    length = nul ? (size_t)(nul - text) : length;
    if (names->n == names->capacity)
        grow(names);
    uint32_t slot = free_slot(names, text, length);
    if (names->slots[slot])
        return names->slots[slot] - 1;
    names->texts[names->n] = tdm_arena_strndup(names->arena, text, length);
    names->slots[slot] = ++names->n;
    return names->n - 1;
}
