/* verify_private.h: what the parts of verify share: how messages name ops, and a limit on how many
 * there are. Private to verify*.c. */
#ifndef TDM_VERIFY_PRIVATE_H
#define TDM_VERIFY_PRIVATE_H

#include "verify.h"

/* A short text by value, so that several fit into one printf. */
typedef struct tdm_verify_text {
    char s[192];
} tdm_verify_text;

/* rank 3: op "qkv" (F mb 3, layer 12): all but the rank. */
tdm_verify_text tdm_verify_op_text(const tdm_instance *instance);
/* F mb 3 */
tdm_verify_text tdm_verify_pass_text(const tdm_pass *pass);
/* tensor "x" (mb 3, layer 12) */
tdm_verify_text tdm_verify_tensor_text(const tdm_plan *plan, uint32_t rank, uint32_t chunk,
                                       uint32_t microbatch, uint32_t position, uint32_t slot);

/* The op with this index in the rank's program; the op with this position (from 1) on a stream.
 * Walks the program: only for messages. */
tdm_instance tdm_verify_op_at(const tdm_plan *plan, uint32_t rank, uint32_t index);
tdm_instance tdm_verify_op_on(const tdm_plan *plan, uint32_t rank, tdm_stream stream,
                              uint32_t position);

/* Lowest rank of every role, [n_roles]; UINT32_MAX for a role without ranks. */
uint32_t *tdm_verify_first_ranks(tdm_arena *arena, const tdm_plan *plan);

static inline tdm_code tdm_verify_worst(tdm_code a, tdm_code b)
{
    return a != TDM_OK ? a : b;
}

/* The parts. All may assume that the structure and the passes are in order. */
tdm_code tdm_verify_structure(const tdm_plan *plan, tdm_error *err);
tdm_code tdm_verify_passes(const tdm_plan *plan, const uint32_t *first_ranks, tdm_error *err);
tdm_code tdm_verify_routing(const tdm_plan *plan, tdm_error *err);
tdm_code tdm_verify_life(const tdm_plan *plan, const tdm_program *program, tdm_error *err);
/* programs [n_roles] */
tdm_code tdm_verify_comm(const tdm_plan *plan, const tdm_program *programs, uint32_t *resident,
                         tdm_error *err);

#endif
