/* kineto_names.h: each name of a trace once, with the rule that it falls under: traces have
 * millions of events and hundreds of names. */
#ifndef TDM_KINETO_NAMES_H
#define TDM_KINETO_NAMES_H

#include "base.h"

typedef struct tdm_names {
    tdm_arena *arena;
    const char **texts;  /* [n] */
    const void **values; /* [n] what the user of the table keeps with a name; NULL at first */
    bool *seen;          /* [n] whether values[i] was set */
    uint32_t n, capacity;
    uint32_t *slots; /* [n_slots] index + 1; 0: free */
    uint32_t n_slots;
} tdm_names;

/* Index of the text, which is taken in when it is new. */
uint32_t tdm_names_find(tdm_names *names, const char *text, size_t length);

#endif
