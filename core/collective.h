/* collective.h: how a collective loads the links, one algorithm per file in core/collectives/.
 * An algorithm turns (members, bytes) into flows between ranks plus a latency; a collective ends
 * when the latency has passed and its last flow has ended. Flows of one or several collectives that
 * cross the same link share it max-min fairly: that is the one rule of sharing, for both engines.
 * A file defines `const tdm_collective tdm_collective_NAME`; the build collects them in a table. */
#ifndef TDM_COLLECTIVE_H
#define TDM_COLLECTIVE_H

#include "plan.h"

typedef struct tdm_flow {
    uint32_t src, dst; /* ranks (GPUs) */
    uint64_t bytes;    /* whole bytes: the simulator truncates */
} tdm_flow;

/* A collective as its algorithm sees it. */
typedef struct tdm_collective_call {
    const tdm_topology *topology;
    tdm_group group;
    uint64_t bytes; /* meaning as in tdm_op; all-to-all without counts: one member's send buffer,
                       its own share included */
    const uint32_t *counts; /* all-to-all: [src][dst] tokens in dispatch direction, else NULL */
    tdm_received received;  /* all-gather, reduce-scatter: rows of each member's share; without
                               `sent` all have the same */
    uint64_t token_bytes;
    tdm_a2a a2a;
} tdm_collective_call;

typedef struct tdm_collective {
    const char *name; /* "ring-all-reduce" */
    const char *summary;
    tdm_op_kind kind;
    /* Most flows a group of `size` can need. */
    uint32_t (*max_flows)(const tdm_topology *topology, uint32_t size);
    /* Writes the flows, returns how many; *latency_s is the time before they start. */
    uint32_t (*flows)(const tdm_collective_call *call, tdm_flow *flows, double *latency_s);
} tdm_collective;

extern const tdm_collective *const tdm_collectives[]; /* NULL-terminated, generated, by name */
/* The algorithm used for an op kind (choice among several belongs here); NULL for none. */
const tdm_collective *tdm_collective_for(tdm_op_kind kind);

#endif
