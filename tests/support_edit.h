/* support_edit.h: plans are const trees; tests that plant faults in them work on a deep copy. Also
 * random plans. */
#ifndef TANDEM_TESTS_SUPPORT_EDIT_H
#define TANDEM_TESTS_SUPPORT_EDIT_H

#include "core/plan.h"

/* A copy of everything a plan points to; names stay shared. */
tdm_plan edit_copy(tdm_arena *arena, const tdm_plan *plan);

/* The pieces of a copy, to write to. Each fails the test when there is no such piece. */
tdm_role *edit_role(const tdm_plan *copy, uint32_t rank);
tdm_pass *edit_pass(const tdm_plan *copy, uint32_t rank, tdm_pass_kind kind, uint32_t microbatch);
tdm_template *edit_template(const tdm_plan *copy, uint32_t rank, const char *kind,
                            tdm_pass_kind pass);
/* The op of this name, in whatever kind of the rank's blocks or in its optimizer. */
tdm_op *edit_op(const tdm_plan *copy, uint32_t rank, const char *name);
/* The op's first ref to the slot of this name; of the following position with next. */
tdm_ref *edit_ref(const tdm_plan *copy, uint32_t rank, const char *op, const char *slot, bool next);

void edit_drop_wait(tdm_op *op, tdm_stream stream);
void edit_drop_op(tdm_template *template, const char *name);
void edit_swap_ops(tdm_template *template, const char *a, const char *b);
/* Exchanges two passes in the rank's role. */
void edit_swap_passes(const tdm_plan *copy, uint32_t rank, tdm_pass_kind kind_a, uint32_t a,
                      tdm_pass_kind kind_b, uint32_t b);
void edit_drop_pass(tdm_role *role, tdm_pass_kind kind, uint32_t microbatch);

/* Gives the rank a role and kinds of its own, equal to those it had: edits then touch no other
 * rank. */
void edit_separate(tdm_arena *arena, tdm_plan *copy, uint32_t rank);

/* Deterministic random numbers: 0 .. n - 1. */
uint32_t edit_random(uint64_t *state, uint32_t n);
/* A plan of one rank: random ops on all streams with random waits, tensors with random lifetimes
 * and uses, some of which live from F to BW, some of which have no bytes. */
tdm_plan edit_random_plan(tdm_arena *arena, uint64_t *state);

#endif
