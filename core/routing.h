/* routing.h: which experts each token goes to, planned ahead, and the counts that follow from it.
 * The expert ids of a token are a pure function of (seed, step, layer, global sample, position):
 * the same for every layout, so a plan on 16 ranks routes exactly as one on 1 rank. */
#ifndef TDM_ROUTING_H
#define TDM_ROUTING_H

#include "popularity.h"

#define TDM_ROUTING_MAX_TOPK 64u

typedef struct tdm_routing_key {
    tdm_routing_model model;
    uint64_t seed;
    uint32_t n_experts, topk, seq_length;
    const tdm_popularity *popularity; /* [layer]; NULL: all experts alike */
} tdm_routing_key;

/* What a plan's mesh-independent parts say of its routing. */
tdm_code tdm_routing_key_make(tdm_arena *arena, const tdm_plan *plan, tdm_routing_key *key,
                              tdm_error *err);

/* Token-expert pairs that one expert takes of `tokens` tokens; UINT64_MAX without a capacity
 * factor. The tokens are those of a microbatch of one replica, so that what is dropped is the same
 * for every layout; where experts are padded to their capacity those of one rank, as each rank
 * fills its own rows. Source: Megatron-LM, get_capacity of
 * megatron/core/transformer/moe/moe_utils.py, which counts the tokens of one rank in both cases. */
uint64_t tdm_routing_capacity(const tdm_routing *spec, uint64_t tokens, uint32_t topk,
                              uint32_t n_experts);

/* Rows that a rank with `tokens` tokens sends, before any is dropped: its token-expert pairs, or,
 * padded, the capacity of every expert. */
uint64_t tdm_routing_rows(const tdm_routing *spec, const tdm_model *model, uint64_t tokens);

/* Writes the topk distinct experts of one token, in order of choice. sample counts over the global
 * batch. */
void tdm_routing_experts(const tdm_routing_key *key, uint32_t step, uint32_t layer, uint64_t sample,
                         uint32_t position, uint32_t *experts);

/* Fills the plan's routing table for step 0 from its mesh and routing spec. Token order within a
 * microbatch is sample by sample; TP rank i of a replica dispatches the i-th of tp equal runs of
 * that order. Pairs that come when their expert has reached its capacity, in that order, are
 * dropped; padding adds rows to `sent` only. Needs micro_batch_size * seq_length divisible by tp.
 */
tdm_code tdm_routing_table_build(tdm_arena *arena, const tdm_plan *plan, tdm_routing_table *table,
                                 tdm_error *err);

#endif
