/* rank_routes.c: the experts of every token of every microbatch, worked out once from the plan's
 * routing.
 */
#include "rank.h"

#include "../core/routing.h"

#include <string.h>

/* Whose tokens share an expert's capacity: those of a replica's microbatch; where experts are
 * padded those of one rank. */
static uint64_t sharing_tokens(const tdm_plan *plan)
{
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length;
    return plan->routing_spec.pad_to_capacity ? tokens / plan->mesh.tp : tokens;
}

/* The choices of one replica's microbatch, in token order: an expert that has reached its capacity
 * takes no more. */
static void choose(const tdm_plan *plan, const tdm_routing_key *key, uint32_t layer,
                   uint64_t first_sample, uint32_t *taken, int32_t *choices)
{
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length,
             sharing = sharing_tokens(plan);
    uint64_t capacity =
        tdm_routing_capacity(&plan->routing_spec, sharing, key->topk, key->n_experts);
    uint32_t experts[TDM_ROUTING_MAX_TOPK];
    for (uint64_t t = 0; t < tokens; t++) {
        if (t % sharing == 0)
            memset(taken, 0, sizeof *taken * key->n_experts);
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
static void count(const tdm_plan *plan, const tdm_routes *r, const int32_t *choices, uint32_t *rows)
{
    uint64_t shard = r->tokens / plan->mesh.tp;
    for (uint32_t rank = 0; rank < r->n_in_stage; rank++) {
        uint32_t *own = rows + (size_t)rank * r->n_experts;
        const int32_t *run =
            choices +
            ((uint64_t)(rank / plan->mesh.tp) * r->tokens + rank % plan->mesh.tp * shard) * r->k;
        for (uint64_t i = 0; i < shard * r->k; i++)
            if (run[i] >= 0)
                own[run[i]]++;
    }
}

/* What the ranks of a stage send in a layer and microbatch: [rank][expert]. */
typedef struct sending {
    const tdm_plan *plan;
    const tdm_routes *routes;
    uint32_t layer, mb;
    const uint32_t *rows;
    tdm_error *err;
} sending;

/* Pairs of each expert must be those that the plan's figures were made from. */
static tdm_code compare_pairs(const sending *s)
{
    uint32_t n_experts = s->routes->n_experts;
    for (uint32_t rank = 0; rank < s->routes->n_in_stage; rank++) {
        tdm_group group = tdm_mesh_group(&s->plan->mesh, TDM_GROUP_EP, rank);
        const uint32_t *planned = tdm_plan_experts(s->plan, rank, s->layer, s->mb);
        for (uint32_t e = 0; e < n_experts && group.rank0 == rank; e++) {
            uint32_t n = 0;
            for (uint32_t i = 0; i < group.size; i++)
                n += s->rows[(size_t)tdm_group_member(&group, i) * n_experts + e];
            if (n != planned[e])
                return tdm_error_add(
                    s->err, TDM_E_INVALID,
                    "routing of layer %u, microbatch %u: expert %u gets %u tokens from the EP "
                    "group of rank %u, the plan's table says %u",
                    s->layer, s->mb, e, n, rank, planned[e]);
        }
    }
    return TDM_OK;
}

/* Rows to each rank must be those that its sizes and times were made from. */
static tdm_code compare_rows(const sending *s)
{
    uint32_t ep = s->plan->routing.ep, n_experts = s->routes->n_experts, n_local = n_experts / ep;
    for (uint32_t rank = 0; rank < s->routes->n_in_stage; rank++) {
        tdm_group group = tdm_mesh_group(&s->plan->mesh, TDM_GROUP_EP, rank);
        const uint32_t *sent = tdm_plan_sent(s->plan, rank, s->layer, s->mb) +
                               (size_t)tdm_group_index(&group, rank) * ep;
        for (uint32_t dst = 0; dst < ep; dst++) {
            uint32_t n = 0;
            for (uint32_t e = dst * n_local; e < (dst + 1) * n_local; e++)
                n += s->rows[(size_t)rank * n_experts + e];
            if (n != sent[dst])
                return tdm_error_add(s->err, TDM_E_INVALID,
                                     "routing of layer %u, microbatch %u: rank %u sends %u rows to "
                                     "member %u, the plan's table says %u",
                                     s->layer, s->mb, rank, n, dst, sent[dst]);
        }
    }
    return TDM_OK;
}

static tdm_code build_rows(const tdm_plan *plan, const tdm_routes *r, const int32_t *choices,
                           uint32_t layer, uint32_t mb, uint32_t *rows, tdm_error *err)
{
    sending s = {plan, r, layer, mb, rows, err};
    count(plan, r, choices, rows);
    tdm_code code = compare_pairs(&s);
    uint64_t capacity =
        tdm_routing_capacity(&plan->routing_spec, sharing_tokens(plan), r->k, r->n_experts);
    for (size_t i = 0;
         plan->routing_spec.pad_to_capacity && i < (size_t)r->n_in_stage * r->n_experts; i++)
        rows[i] = (uint32_t)capacity;
    return code == TDM_OK ? compare_rows(&s) : code;
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
    uint64_t n = (uint64_t)plan->model.num_layers * r.n_microbatches;
    uint64_t n_choices = r.n_replicas * r.tokens * r.k,
             n_rows = (uint64_t)r.n_in_stage * r.n_experts;
    int32_t *choices = TDM_ALLOC(arena, int32_t, n * n_choices);
    uint32_t *rows = TDM_ALLOC(arena, uint32_t, n * n_rows);
    uint32_t *taken = TDM_ALLOC(arena, uint32_t, r.n_experts);
    for (uint64_t i = 0; i < n && code == TDM_OK; i++) {
        uint32_t layer = (uint32_t)(i / r.n_microbatches), mb = (uint32_t)(i % r.n_microbatches);
        if (!tdm_model_layer_has_experts(&plan->model, layer))
            continue;
        for (uint32_t replica = 0; replica < r.n_replicas; replica++)
            choose(plan, &key, layer,
                   ((uint64_t)mb * r.n_replicas + replica) * plan->micro_batch_size, taken,
                   choices + i * n_choices + replica * r.tokens * r.k);
        code = build_rows(plan, &r, choices + i * n_choices, layer, mb, rows + i * n_rows, err);
    }
    r.choices = choices;
    r.rows = rows;
    *routes = r;
    return code;
}
