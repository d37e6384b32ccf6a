/* jobs.h: many short computations of the same kind, in a few child processes side by side. The
 * simulator of the sim engine knows one simulation per process; a crash of one costs an error
 * message. */
#ifndef TDM_JOBS_H
#define TDM_JOBS_H

#include "core/base.h"

typedef struct tdm_jobs {
    uint32_t n, n_parallel; /* computations, and how many at the same time */
    const char *what;       /* "repetition": what messages and the progress call one */
    bool quiet;             /* no progress on a terminal */
    size_t result_bytes;
    /* Computes number i into `result` (zeroed); arena and err are its own. */
    tdm_code (*work)(tdm_arena *arena, void *context, uint32_t i, void *result, tdm_error *err);
    void *context;
} tdm_jobs;

/* Fills results [n][result_bytes]. Fails with the message of the first computation that did. */
tdm_code tdm_jobs_run(const tdm_jobs *jobs, void *results, tdm_error *err);

/* As many as there are cores. */
uint32_t tdm_jobs_default(void);

#endif
