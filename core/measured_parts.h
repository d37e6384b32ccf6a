/* measured_parts.h: what the files behind measured.h share. */
#ifndef TDM_MEASURED_PARTS_H
#define TDM_MEASURED_PARTS_H

#include "figures_rank.h"
#include "measured.h"

/* The kernels of one rank in one step, laid out as a program without waits. */
typedef struct tdm_measured_rank {
    const tdm_kineto_event **events; /* [n_ops]; own traces: in program order, else by start */
    tdm_program program;
    tdm_span *spans;   /* [n_ops] from the start of the step */
    double *issued_s;  /* [n_ops], or NULL: not known for any */
    double *arrived_s; /* [n_comms] start of the last member; a call of its own for each op */
    uint32_t *call_of; /* [n_comms] 0, 1, 2 ... */
} tdm_measured_rank;

/* Which step each event is in: place in `numbers`, or UINT32_MAX. Steps that some rank lacks are
 * left out. issue_ns [n_events]: when the host had issued it, INT64_MIN: unknown. */
typedef struct tdm_measured_split {
    uint32_t *step_of; /* [n_events] */
    uint32_t *numbers; /* [n_steps] ascending */
    uint32_t n_steps;
    int64_t *issue_ns;
    bool knows_issue;
} tdm_measured_split;

void tdm_measured_split_steps(tdm_arena *arena, const tdm_kineto *kineto,
                              tdm_measured_split *split);

/* Lays out the rank's events, sorted as tdm_measured_rank wants them; adds to n_squeezed. */
void tdm_measured_lay_out(tdm_arena *arena, const tdm_kineto *kineto,
                          const tdm_measured_split *split, const tdm_kineto_event **events,
                          uint32_t n_events, int64_t step_start_ns, tdm_measured_rank *rank,
                          uint64_t *n_squeezed);

/* Finds the members of each communication over ranks [n_ranks], and with them arrived_s. */
void tdm_measured_match(tdm_arena *scratch, const tdm_kineto *kineto, tdm_measured_rank *ranks,
                        uint32_t n_ranks, tdm_measured *measured);

#endif
