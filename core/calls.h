/* calls.h: which communication ops of different ranks are one call. */
#ifndef TDM_CALLS_H
#define TDM_CALLS_H

#include "engine.h"

/* Members of a collective and both ends of a transfer share one call: it is the k-th op on their
 * communicator, k counted by each rank. */
typedef struct tdm_calls {
    uint32_t n_calls;
    double *arrived_s;        /* [n_calls] start of the last member */
    const uint32_t **of_rank; /* [n_ranks][n_comms of its program] call of its i-th op */
} tdm_calls;

/* programs [n_roles]. Fails when the ranks of a communicator do not issue the same number of ops on
 * it. */
tdm_code tdm_calls_match(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                         const tdm_trace *trace, tdm_calls *calls, tdm_error *err);

#endif
