/* figures_rank.h: the figures of one rank, from which those of stages and of the run are put
 * together. */
#ifndef TDM_FIGURES_RANK_H
#define TDM_FIGURES_RANK_H

#include "figures.h"
#include "figures_idle.h"

/* One kind of communication, summed over ops. */
typedef struct tdm_comm_total {
    uint64_t n_calls, bytes;
    double busy_s, exposed_s, transfer_s, max_s;
} tdm_comm_total;

/* Passes of one rank. */
typedef struct tdm_pass_total {
    long double sum_s[3]; /* F, B, W */
    uint32_t n[3];
    double first_s, last_s; /* the rank's first F start, its last B or W end (F end without any) */
} tdm_pass_total;

/* Arrays that the ranks use one after the other. */
typedef struct tdm_rank_scratch {
    tdm_stretch *unissued;                    /* [most comms of a role + 1] */
    double *pass_start, *pass_end, *pass_w_s; /* [most passes of a role] */
    double exposed_by_key[TDM_N_COMM_KEYS];
} tdm_rank_scratch;

/* Times of the rank: everything of *figures but memory, rank and stage. */
void tdm_rank_times(const tdm_rank_run *run, tdm_rank_scratch *scratch, tdm_rank_figures *figures);
void tdm_rank_passes(const tdm_rank_run *run, tdm_rank_scratch *scratch, tdm_pass_total *total);
/* Adds the rank's communication to totals [TDM_N_COMM_KEYS]; exposed times come from
 * tdm_rank_times. */
void tdm_rank_comms(const tdm_plan *plan, uint32_t rank, const tdm_rank_run *run,
                    const tdm_rank_scratch *scratch, tdm_comm_total *totals);

/* What the figures of ranks, and step_time_s, say of the run: the mean waterfall, the spread of
 * compute time, shares of the step. */
void tdm_figures_sum_ranks(tdm_arena *scratch, tdm_figures *figures);
/* The run's communication from totals [TDM_N_COMM_KEYS] over ranks. */
void tdm_figures_sum_comms(tdm_arena *arena, const tdm_comm_total *totals, tdm_figures *figures);

#endif
