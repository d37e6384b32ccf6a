/* figures_experts.c: how unevenly the experts are used, from the routing table alone. */
#include "figures_experts.h"
#include "program.h"

/* Pairs that the ranks of one place in an expert-parallel group, its `dst`-th, work on together:
 * each takes part in all that come from any of the ETP group's EP groups. Padding does not count.
 */
static uint64_t pairs_at(const tdm_plan *plan, uint32_t edp, uint32_t dst, uint32_t layer,
                         uint32_t microbatch)
{
    uint32_t rank = (edp * plan->mesh.ep + dst) * plan->mesh.etp;
    return tdm_plan_pairs(plan, rank, layer, microbatch);
}

/* Mean over max of the tokens that the ranks of an expert-parallel group receive, averaged over
 * groups, layers, microbatches. */
static double efficiency(const tdm_plan *plan)
{
    const tdm_routing_table *t = &plan->routing;
    uint64_t n_counted = 0;
    double sum = 0;
    for (uint32_t edp = 0; edp < plan->mesh.edp; edp++)
        for (uint32_t layer = 0; layer < t->n_layers; layer++)
            for (uint32_t mb = 0; mb < t->n_microbatches; mb++) {
                uint64_t all = 0, most = 0;
                for (uint32_t dst = 0; dst < t->ep; dst++) {
                    uint64_t pairs = pairs_at(plan, edp, dst, layer, mb);
                    all += pairs;
                    most = pairs > most ? pairs : most;
                }
                if (most == 0)
                    continue;
                sum += (double)all / t->ep / (double)most;
                n_counted++;
            }
    return n_counted ? sum / (double)n_counted : 1;
}

/* Of all pairs of tokens and chosen experts, those that no expert had room for. */
static double dropped(const tdm_plan *plan)
{
    const tdm_routing_table *t = &plan->routing;
    uint64_t n_rows = (uint64_t)t->n_replicas * t->n_layers * t->n_microbatches, kept = 0;
    double offered = (double)plan->micro_batch_size * plan->seq_length * plan->mesh.dp *
                     plan->model.moe_router_topk * tdm_model_n_expert_layers(&plan->model) *
                     t->n_microbatches;
    for (uint64_t i = 0; i < n_rows * t->n_experts; i++)
        kept += t->experts[i];
    return offered > (double)kept ? 1 - (double)kept / offered : 0;
}

static bool routes(const tdm_kind *kind)
{
    const tdm_template *forward = &kind->templates[TDM_PASS_F];
    for (uint32_t i = 0; i < forward->n_ops; i++)
        if (tdm_op_is_routed(&forward->ops[i]))
            return true;
    return false;
}

/* Adds what the places of a stage [edp * ep] receive in one layer. */
static void add_layer(const tdm_plan *plan, uint32_t layer, uint64_t *received)
{
    for (uint32_t edp = 0; edp < plan->mesh.edp; edp++)
        for (uint32_t mb = 0; mb < plan->routing.n_microbatches; mb++)
            for (uint32_t dst = 0; dst < plan->mesh.ep; dst++)
                received[edp * plan->mesh.ep + dst] += pairs_at(plan, edp, dst, layer, mb);
}

/* Compares the ranks of one role's stage with their mean. */
static void find_hot_rank(tdm_arena *scratch, const tdm_plan *plan, const tdm_role *role,
                          tdm_figures *f)
{
    uint32_t n = plan->mesh.edp * plan->mesh.ep;
    uint64_t *received = TDM_ALLOC(scratch, uint64_t, n), all = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            for (uint32_t i = 0; i < block->count && routes(&plan->kinds[block->kind]); i++)
                add_layer(plan, block->first_layer + i, received);
        }
    for (uint32_t i = 0; i < n; i++)
        all += received[i];
    for (uint32_t i = 0; i < n && all > 0; i++) {
        double share = (double)received[i] * n / (double)all;
        if (share > f->hot_rank_share) {
            f->hot_rank_share = share;
            f->hot_rank = role->stage * plan->mesh.per_stage + i * plan->mesh.etp;
        }
    }
}

static void find_hot_expert(tdm_arena *scratch, const tdm_routing_table *t, tdm_figures *f)
{
    uint64_t *received = TDM_ALLOC(scratch, uint64_t, t->n_experts);
    for (uint32_t layer = 0; layer < t->n_layers; layer++) {
        uint64_t all = 0;
        for (uint32_t e = 0; e < t->n_experts; e++)
            received[e] = 0;
        for (uint32_t replica = 0; replica < t->n_replicas; replica++)
            for (uint32_t mb = 0; mb < t->n_microbatches; mb++) {
                uint64_t row = ((uint64_t)replica * t->n_layers + layer) * t->n_microbatches + mb;
                for (uint32_t e = 0; e < t->n_experts; e++)
                    received[e] += t->experts[row * t->n_experts + e];
            }
        for (uint32_t e = 0; e < t->n_experts; e++)
            all += received[e];
        for (uint32_t e = 0; e < t->n_experts && all > 0; e++) {
            double share = (double)received[e] * t->n_experts / (double)all;
            if (share > f->hot_expert_share) {
                f->hot_expert_share = share;
                f->hot_expert = e;
                f->hot_layer = layer;
            }
        }
    }
}

void tdm_figures_experts(const tdm_plan *plan, tdm_figures *f)
{
    const tdm_routing_table *t = &plan->routing;
    tdm_arena scratch = {0};
    f->expert_efficiency = f->hot_rank_share = f->hot_expert_share = 1;
    if (t->n_layers == 0)
        return;
    f->expert_efficiency = efficiency(plan);
    f->dropped_fraction = dropped(plan);
    f->hot_rank_share = f->hot_expert_share = 0;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        find_hot_rank(&scratch, plan, &plan->roles[r], f);
    find_hot_expert(&scratch, t, f);
    tdm_arena_free(&scratch);
}
