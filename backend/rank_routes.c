/* rank_routes.c: the experts of every token of every microbatch, worked out once from the plan's
 * routing.
 */
#include "rank.h"

#include "../core/routing.h"

#include <string.h>

/* The choices of one replica's microbatch, in token order: an expert that has reached its capacity
 * takes no more. */
static void choose(const tdm_plan *plan, const tdm_routing_key *key, uint64_t capacity,
                   uint32_t layer, uint64_t first_sample, uint64_t tokens, uint32_t *taken,
                   int32_t *choices)
{
    memset(taken, 0, sizeof *taken * key->n_experts);
    uint32_t experts[TDM_ROUTING_MAX_TOPK];
    for (uint64_t t = 0; t < tokens; t++) {
        tdm_routing_experts(key, 0, layer, first_sample + t / plan->seq_length,
                            (uint32_t)(t % plan->seq_length), experts);
        for (uint32_t j = 0; j < key->topk; j++) {
            bool full = taken[experts[j]] >= capacity;
            taken[experts[j]] += !full;
            choices[t * key->topk + j] = full ? -1 - (int32_t)experts[j] : (int32_t)experts[j];
        }
    }
}

/* Pairs that each rank of a stage sends to each expert. */
static void count(const tdm_plan *plan, const tdm_routes *r, const int32_t *choices,
                  uint32_t *counts)
{
    uint64_t shard = r->tokens / plan->mesh.tp;
    for (uint32_t rank = 0; rank < r->n_in_stage; rank++) {
        uint32_t *own = counts + (size_t)rank * r->n_experts;
        const int32_t *run =
            choices +
            ((uint64_t)(rank / plan->mesh.tp) * r->tokens + rank % plan->mesh.tp * shard) * r->k;
        for (uint64_t i = 0; i < shard * r->k; i++)
            if (run[i] >= 0)
                own[run[i]]++;
    }
}

/* The counts must be those that sizes and times of the plan were made from. */
static tdm_code compare(const tdm_plan *plan, const tdm_routes *r, uint32_t layer, uint32_t mb,
                        const uint32_t *counts, tdm_error *err)
{
    uint32_t ep = plan->routing.ep, n_local = r->n_experts / ep;
    for (uint32_t rank = 0; rank < r->n_in_stage; rank++) {
        const uint32_t *sent = tdm_plan_sent(plan, rank, layer, mb) + (size_t)(rank % ep) * ep;
        for (uint32_t dst = 0; dst < ep; dst++) {
            uint32_t n = 0;
            for (uint32_t e = dst * n_local; e < (dst + 1) * n_local; e++)
                n += counts[(size_t)rank * r->n_experts + e];
            if (n != sent[dst])
                return tdm_error_add(
                    err, TDM_E_INVALID,
                    "routing of layer %u, microbatch %u: rank %u sends %u tokens to "
                    "member %u, the plan's table says %u",
                    layer, mb, rank, n, dst, sent[dst]);
        }
    }
    return TDM_OK;
}

tdm_code tdm_routes_build(tdm_arena *arena, const tdm_plan *plan, tdm_routes *routes,
                          tdm_error *err)
{
    tdm_routing_key key;
    tdm_code code = tdm_routing_key_make(arena, plan, &key, err);
    if (code != TDM_OK)
        return code;
    tdm_routes r = {.k = key.topk,
                    .n_experts = key.n_experts,
                    .tokens = (uint64_t)plan->micro_batch_size * plan->seq_length,
                    .n_microbatches = plan->num_microbatches,
                    .n_replicas = plan->mesh.dp,
                    .n_in_stage = plan->mesh.per_stage};
    uint64_t rows = (uint64_t)plan->model.num_layers * r.n_microbatches;
    uint64_t choices_of_row = r.n_replicas * r.tokens * r.k,
             counts_of_row = (uint64_t)r.n_in_stage * r.n_experts;
    int32_t *choices = TDM_ALLOC(arena, int32_t, rows * choices_of_row);
    uint32_t *counts = TDM_ALLOC(arena, uint32_t, rows * counts_of_row);
    uint32_t *taken = TDM_ALLOC(arena, uint32_t, r.n_experts);
    uint64_t capacity =
        tdm_routing_capacity(&plan->routing_spec, r.tokens, key.topk, key.n_experts);
    for (uint64_t row = 0; row < rows && code == TDM_OK; row++) {
        uint32_t layer = (uint32_t)(row / r.n_microbatches),
                 mb = (uint32_t)(row % r.n_microbatches);
        if (!tdm_model_layer_has_experts(&plan->model, layer))
            continue;
        for (uint32_t replica = 0; replica < r.n_replicas; replica++)
            choose(plan, &key, capacity, layer,
                   ((uint64_t)mb * r.n_replicas + replica) * plan->micro_batch_size, r.tokens,
                   taken, choices + row * choices_of_row + replica * r.tokens * r.k);
        count(plan, &r, choices + row * choices_of_row, counts + row * counts_of_row);
        code = compare(plan, &r, layer, mb, counts + row * counts_of_row, err);
    }
    r.choices = choices;
    r.counts = counts;
    *routes = r;
    return code;
}
