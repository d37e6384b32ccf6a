/* graph_bisection.h: what a machine can carry from one half of its GPUs to the other. */
#ifndef TDM_GRAPH_BISECTION_H
#define TDM_GRAPH_BISECTION_H

#include "graph.h"

/* Up to so many GPUs every split is tried. */
#define TDM_BISECTION_EXACT_GPUS 16u
/* More than so many are not bisected: n_splits is 0 then. */
#define TDM_BISECTION_MAX_GPUS 1024u

typedef struct tdm_bisection {
    bool connected; /* false: some half cannot reach the other, or there are fewer than 2 GPUs */
    bool exact;     /* all splits were tried; false: some were, and the true value may be less */
    double bytes_per_s;   /* one direction, the worse one */
    uint32_t n_half;      /* GPUs of the smaller half, floor(n / 2) */
    const uint32_t *half; /* [n_half] ranks of one half of the worst split found */
    uint32_t n_splits;    /* tried */
} tdm_bisection;

/* The least, over splits of the GPUs into two halves, of the largest flow from all GPUs of one half
 * to all of the other. Only links that the best path of some pair of GPUs uses carry flow (PCIe
 * does not help where NVLink reaches everybody). Beyond TDM_BISECTION_EXACT_GPUS these splits are
 * tried: by rank, by node, by socket, by parity. */
tdm_bisection tdm_graph_bisection(tdm_arena *arena, const tdm_graph *graph);

#endif
