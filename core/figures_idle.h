/* figures_idle.h: what a rank's idle time is made of. */
#ifndef TDM_FIGURES_IDLE_H
#define TDM_FIGURES_IDLE_H

#include "calls.h"

/* One rank's run, as the code behind the figures sees it. */
typedef struct tdm_rank_run {
    const tdm_program *program;
    const tdm_span *spans;   /* [n_ops] */
    const uint32_t *call_of; /* [n_comms] */
    const double *arrived_s; /* [call] start of the last member */
    double launch_s;
    double start_s, end_s; /* of the step */
    /* [n_ops] when the host issued each op, -INFINITY: unknown; NULL: by launch_s. Of traces whose
     * waits are unknown. */
    const double *issued_s;
} tdm_rank_run;

/* A stretch of time by what communication does in it; where several ops run, the first that
 * applies. */
typedef struct tdm_cover {
    long double transfer_s; /* some op's members have all started */
    long double wait_s;     /* some collective waits for a member */
    long double p2p_wait_s; /* some send or receive waits for its peer */
    long double nothing_s;
} tdm_cover;

typedef enum tdm_activity {
    TDM_ACTIVITY_NONE,
    TDM_ACTIVITY_P2P_WAIT,
    TDM_ACTIVITY_WAIT,
    TDM_ACTIVITY_TRANSFER
} tdm_activity;

/* Walks the communication ops of a rank along time. */
typedef struct tdm_sweep {
    const tdm_rank_run *run;
    uint32_t next[TDM_N_STREAMS]; /* first op of the stream that may end after the time reached */
    double *transfer_by_key;      /* [TDM_N_COMM_KEYS] added to; may be NULL */
    tdm_activity activity;        /* what goes on from the time reached ... */
    uint32_t key;                 /* ... by which key, for a transfer ... */
    double until_s;               /* ... and until when */
} tdm_sweep;

/* A stretch of time. */
typedef struct tdm_stretch {
    double from_s, to_s;
} tdm_stretch;

/* A sweep that stands before all time. */
tdm_sweep tdm_sweep_begin(const tdm_rank_run *run, double *transfer_by_key);

/* Adds the stretch [from_s, to_s] to *cover. Stretches of one sweep come in order of time. */
void tdm_sweep_add(tdm_sweep *sweep, double from_s, double to_s, tdm_cover *cover);

/* Of the time in [from_s, start of next_op] in which neither a transfer nor a waiting collective
 * runs, that in which the host had yet to issue the op on which next_op depends, while whatever
 * else that op needs was ready. `sweep` stands at from_s. scratch [n_comms + 1]. */
double tdm_idle_unissued_s(const tdm_sweep *sweep, double from_s, double to_s, uint32_t next_op,
                           tdm_stretch *scratch);

#endif
