/* verify.h: proves that a plan is sound before any engine sees it.
 * Checked: collectives of a group agree in kind, order and bytes on all members; every send has its
 * receive with the same bytes, in an order that cannot deadlock under rendezvous and in-order
 * communicators; no tensor is used before birth or after death, nothing is born twice or left alive
 * at the end; bytes are shared only by tensors ordered by happens-before; every microbatch passes
 * every chunk F, then B, then W. */
#ifndef TDM_VERIFY_H
#define TDM_VERIFY_H

#include "layout.h"

typedef struct tdm_verify_report {
    uint64_t n_ops; /* ops checked, over all ranks */
    /* Most communication ops of one rank that streams, waits and communicators let run at once. So
     * many kernels must fit on the GPU together, or one that waits for its peer may keep out the
     * one that the peer waits for. */
    uint32_t resident_comm;
} tdm_verify_report;

/* All checks of program order, communication and lifetimes. Messages name rank, op and both sides'
 * view. */
tdm_code tdm_verify_plan(const tdm_plan *plan, tdm_verify_report *report, tdm_error *err);

/* Checks one rank's placement against happens-before. Needs a layout with offsets. */
tdm_code tdm_verify_layout(const tdm_plan *plan, const tdm_layout *layout, tdm_error *err);

/* The same for many ranks, one after the other: what ranks of a role share is worked out once when
 * they come together. */
typedef struct tdm_layout_proof tdm_layout_proof;
tdm_layout_proof *tdm_layout_proof_new(tdm_arena *arena, const tdm_plan *plan);
/* A tdm_layout_visit; context: the tdm_layout_proof. */
tdm_code tdm_layout_prove(void *context, const tdm_layout *layout, tdm_error *err);
void tdm_layout_proof_free(tdm_layout_proof *proof);

#endif
