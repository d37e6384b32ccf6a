/* popularity.h: how likely each expert of a layer is to be chosen, under the skewed routing models,
 * and the choice of a token's experts by it. */
#ifndef TDM_POPULARITY_H
#define TDM_POPULARITY_H

#include "plan.h"

/* Popularity of the experts of one layer in whole numbers, so that a choice is the same on every
 * machine. */
typedef struct tdm_popularity {
    const uint64_t *before; /* [n_experts + 1] sum of the weights before each expert */
    const uint32_t *guide;  /* [total >> 32, + 1] expert in which that multiple of 2^32 falls */
    uint32_t n_experts;
} tdm_popularity;

/* Whether the model draws by popularity; the others need none. */
bool tdm_popularity_needed(tdm_routing_model model);

/* Weights [n_experts] of a layer's experts as the model shapes them, together about 1. */
void tdm_popularity_shares(const tdm_routing *spec, uint32_t layer, uint32_t n_experts,
                           double *shares);

/* One per layer [n_layers]; fails where fewer than topk experts have a weight above 0. */
tdm_code tdm_popularity_build(tdm_arena *arena, const tdm_routing *spec, uint32_t n_layers,
                              uint32_t n_experts, uint32_t topk, const tdm_popularity **popularity,
                              tdm_error *err);

/* The expert that 64 random bits choose among those not chosen yet; ascending [n] holds the earlier
 * choices in order of number and takes the new one in. Drawing one after the other so is sampling
 * without replacement. */
uint32_t tdm_popularity_choose(const tdm_popularity *popularity, uint64_t bits, uint32_t *ascending,
                               uint32_t n);

#endif
