/* routing.h: which experts each token goes to, planned ahead, and the counts that follow from it.
 * The expert ids of a token are a pure function of (seed, step, layer, global sample, position):
 * the same for every layout, so a plan on 16 ranks routes exactly as one on 1 rank. */
#ifndef TDM_ROUTING_H
#define TDM_ROUTING_H

#include "plan.h"

#define TDM_ROUTING_MAX_TOPK 64u

typedef struct tdm_routing_key {
    tdm_routing_model model;
    uint64_t seed;
    uint32_t n_experts, topk, seq_length;
} tdm_routing_key;

/* Writes the topk distinct experts of one token, in order of choice. sample counts over the global
 * batch. */
void tdm_routing_experts(const tdm_routing_key *key, uint32_t step, uint32_t layer, uint64_t sample,
                         uint32_t position, uint32_t *experts);

/* Fills the plan's routing table for step 0 from its mesh and routing spec. Token order within a
 * microbatch is sample by sample; TP rank i of a replica dispatches the i-th of tp equal runs of
 * that order. Needs micro_batch_size * seq_length divisible by tp. */
tdm_code tdm_routing_table_build(tdm_arena *arena, const tdm_plan *plan, tdm_routing_table *table,
                                 tdm_error *err);

#endif
