/* list.h: one line of `tandem list`. */
#ifndef TDM_CLI_LIST_H
#define TDM_CLI_LIST_H

#include "core/base.h"

typedef struct tdm_list_entry {
    const char *name;
    const char *state;   /* "ready", "missing", "broken" */
    const char *summary; /* one line; for what is not ready: why, and what to do */
    const char *group;   /* heading; NULL: none */
    const char *facts;   /* a column before the summary; NULL: none */
    /* Of topologies; n_gpus 0: not known. */
    uint32_t n_gpus, n_nodes;
    const char *device, *network; /* NULL: none */
} tdm_list_entry;

/* The entry with what the topology's file says beside its description, or what is wrong with it. */
tdm_list_entry tdm_list_topology(tdm_arena *arena, const char *path, tdm_list_entry entry);

#endif
