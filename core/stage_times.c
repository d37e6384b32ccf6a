/* stage_times.c: sums what the ops of a stage's passes take. */
#include "stage_times.h"

#include "engine.h"

typedef struct estimator {
    tdm_arena scratch;
    const tdm_scenario *scenario;
    const tdm_plan *plan;
    tdm_net *net;
} estimator;

static double comm_s(estimator *e, uint32_t rank, const tdm_instance *instance)
{
    tdm_transfer transfer = tdm_comm_transfer(e->plan, e->net, rank, instance);
    return transfer.latency_s + tdm_net_time(&e->scratch, e->net, transfer.loads, transfer.n_loads);
}

static double template_s(estimator *e, uint32_t rank, const tdm_block *block, tdm_pass_kind pass)
{
    const tdm_kind *kind = &e->plan->kinds[block->kind];
    const tdm_template *template = &kind->templates[pass];
    uint64_t tokens = tdm_plan_tokens(e->plan, rank, block->first_layer, 0);
    double seconds = 0;
    for (uint32_t i = 0; i < template->n_ops; i++) {
        tdm_instance instance = {.op = &template->ops[i],
                                 .kind = kind,
                                 .pass = {.kind = pass},
                                 .layer = block->first_layer};
        if (tdm_op_is_p2p(instance.op->kind))
            continue;
        seconds += tdm_op_is_collective(instance.op->kind)
                       ? comm_s(e, rank, &instance)
                       : tdm_cost_op(&e->scenario->device, e->plan, instance.op, tokens);
    }
    return seconds;
}

/* Seconds of one pass kind over all chunks of a stage. */
static double stage_s(estimator *e, const tdm_role *role, tdm_pass_kind pass)
{
    uint32_t rank = role->stage * e->plan->mesh.per_stage;
    double seconds = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            seconds += block->count * template_s(e, rank, block, pass);
        }
    return seconds;
}

static double send_s(estimator *e)
{
    const tdm_role *role = &e->plan->roles[0];
    const tdm_chunk *chunk = &role->chunks[0];
    const tdm_template *out =
        &e->plan->kinds[chunk->blocks[chunk->n_blocks - 1].kind].templates[TDM_PASS_F];
    if (e->plan->mesh.pp == 1)
        return 0;
    tdm_instance instance = {.op = &out->ops[0]};
    return comm_s(e, 0, &instance);
}

static bool dies_in(const tdm_template *template, uint32_t slot)
{
    for (uint32_t i = 0; i < template->n_ops; i++)
        for (uint32_t r = 0; r < template->ops[i].n_refs; r++) {
            const tdm_ref *ref = &template->ops[i].refs[r];
            if (ref->slot == slot && !ref->next && ref->death)
                return true;
        }
    return false;
}

/* Bytes of the layers' tensors that live past F, and past B. */
double tdm_stage_times_kept_share(const tdm_plan *plan, tdm_routed routed)
{
    double stored = 0, kept = 0;
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t s = 0; s < plan->kinds[k].n_slots; s++) {
            const tdm_kind *kind = &plan->kinds[k];
            double bytes = (double)tdm_size_eval(kind->slots[s].bytes, routed);
            bool after_f = kind->slots[s].class_ == TDM_CLASS_ACTIVATION &&
                           !dies_in(&kind->templates[TDM_PASS_F], s);
            stored += after_f ? bytes : 0;
            kept += dies_in(&kind->templates[TDM_PASS_W], s) ? bytes : 0;
        }
    return stored > kept && stored > 0 ? kept / stored : 1;
}

static tdm_stage_times *given_times(tdm_arena *arena, const tdm_pass_times *given)
{
    tdm_stage_times *times = TDM_ALLOC(arena, tdm_stage_times, 1);
    *times = (tdm_stage_times){given->forward_s, given->backward_input_s, given->backward_weight_s,
                               given->send_s, given->kept_share};
    return times;
}

/* Rows of rank 0 in a layer that has experts; none without such a layer. */
static tdm_routed routed_of_layer(const tdm_plan *plan)
{
    uint32_t layer = 0;
    while (layer < plan->routing.n_layers && !tdm_model_layer_has_experts(&plan->model, layer))
        layer++;
    return layer < plan->routing.n_layers ? tdm_plan_routed(plan, 0, layer, 0) : (tdm_routed){0};
}

tdm_stage_times *tdm_stage_times_estimate(tdm_arena *arena, const tdm_scenario *scenario,
                                          const tdm_plan *plan)
{
    if (scenario->pass_times.given)
        return given_times(arena, &scenario->pass_times);
    estimator e = {.scenario = scenario, .plan = plan};
    e.net = tdm_net_new(&e.scratch, &scenario->topology);
    double *seconds[3];
    static const tdm_pass_kind passes[3] = {TDM_PASS_F, TDM_PASS_B, TDM_PASS_W};
    for (int p = 0; p < 3; p++) {
        seconds[p] = TDM_ALLOC(arena, double, plan->mesh.pp);
        for (uint32_t s = 0; s < plan->mesh.pp; s++)
            seconds[p][s] = stage_s(&e, &plan->roles[s], passes[p]);
    }
    tdm_stage_times *times = TDM_ALLOC(arena, tdm_stage_times, 1);
    *times = (tdm_stage_times){seconds[0], seconds[1], seconds[2], send_s(&e),
                               tdm_stage_times_kept_share(plan, routed_of_layer(plan))};
    tdm_arena_free(&e.scratch);
    return times;
}
