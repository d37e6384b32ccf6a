/* measured.h: the figures of a trace that Tandem may not have made, step by step, by the same code
 * that makes those of a prediction.
 *
 * Without a plan, the phases are found in the trace: the O pass begins with the first optimizer
 * kernel behind the last matrix product, attention or norm. Kernels of all streams that do not
 * communicate count as one compute stream. Members of a collective are matched, and waiting told
 * from transfer, where the traces of all of them are there; else all of it counts as transfer. A
 * send or receive whose other end is unknown counts as waiting: NCCL's kernel runs until the peer
 * comes. */
#ifndef TDM_MEASURED_H
#define TDM_MEASURED_H

#include "figures.h"
#include "kineto.h"

typedef struct tdm_measured_step {
    uint32_t number;
    tdm_figures figures; /* what needs a plan is NAN or empty: stages, memory, tokens */
    double (*class_s)[TDM_N_OP_CLASSES]; /* [n_ranks], summed over kernels */
} tdm_measured_step;

typedef struct tdm_measured {
    tdm_measured_step *steps;
    uint32_t n_steps;
    uint64_t n_unmatched, n_transfers_unmatched; /* communication kernels without all members */
    uint64_t n_squeezed; /* communication kernels that more than seven others overlap: cut short */
    uint64_t n_outside;  /* kernels that belong to no step that all ranks have */
    bool knows_issue;
} tdm_measured;

/* Fails when there is no kernel, or no step that all ranks have. */
tdm_code tdm_measured_compute(tdm_arena *arena, const tdm_kineto *kineto, tdm_measured *measured,
                              tdm_error *err);

#endif
