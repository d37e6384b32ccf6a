/* lower.c: from a scenario to a plan: mesh, kinds, one role per stage, passes, routing. */
#include "lower.h"

#include "lower_build.h"
#include "routing.h"
#include "stage_times.h"

#include <string.h>

/* A forward-only plan beside a training schedule has the layers where that has them. */
static tdm_placement placement_of(const tdm_scenario *sc, const tdm_schedule *schedule)
{
    const tdm_schedule *own =
        schedule->forward_only && sc->schedule ? tdm_schedule_find(sc->schedule) : schedule;
    return tdm_schedule_placement(own ? own : schedule,
                                  &(tdm_schedule_shape){.table = sc->pass_table});
}

tdm_dims tdm_lower_dims(const tdm_scenario *sc, const tdm_schedule *schedule)
{
    const tdm_parallel *p = &sc->parallel;
    tdm_dims d = {.scenario = sc,
                  .tp = p->tp,
                  .ep = p->ep,
                  .etp = p->etp,
                  .pp = p->pp,
                  .vpp = p->vpp,
                  .sequence_parallel = p->sequence_parallel && p->tp > 1,
                  .train = sc->training.train && !schedule->forward_only,
                  .send_lag = tdm_schedule_send_lag(schedule, sc->num_microbatches),
                  .split =
                      tdm_schedule_splits(schedule, &(tdm_schedule_shape){.table = sc->pass_table}),
                  .element = tdm_dtype_bytes(sc->training.dtype),
                  .placement = placement_of(sc, schedule)};
    for (uint32_t v = 0; v < d.pp * d.vpp && sc->stage_layers; v++)
        d.bare |= sc->stage_layers[v] == 0;
    d.ends_apart = tdm_placement_stage(d.placement, d.pp, d.pp * d.vpp - 1) != 0;
    if (sc->pass_times.given)
        return d;
    d.tokens = (uint64_t)sc->micro_batch_size * sc->seq_length;
    d.residual_tokens = d.sequence_parallel ? d.tokens / d.tp : d.tokens;
    d.routed_tokens = d.tokens / d.tp;
    const tdm_model *m = &sc->model;
    d.mixed = m->num_experts > 0 && (m->first_k_dense_replace > 0 || m->moe_layer_freq > 1);
    d.x_bytes = d.residual_tokens * sc->model.hidden_size * d.element;
    return d;
}

/* What lowering cannot express; the loader reports the same with line and column. */
static tdm_code check_supported(const tdm_scenario *sc, tdm_error *err)
{
    const tdm_parallel *p = &sc->parallel;
    const tdm_model *m = &sc->model;
    tdm_code code = TDM_OK;
    if (p->cp != 1)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "parallel.context_parallel_size: %u: only 1 is supported", p->cp);
    if (sc->num_microbatches == 0)
        code = tdm_error_add(err, TDM_E_INVALID, "schedule.num_microbatches: 0: at least 1");
    if (sc->pass_times.given)
        return code;
    uint64_t tokens = (uint64_t)sc->micro_batch_size * sc->seq_length;
    bool has_dense = tdm_model_n_expert_layers(m) < m->num_layers;
    if (m->num_experts > 0 && (p->etp == 0 || m->moe_ffn_hidden_size % p->etp != 0))
        code = tdm_error_add(err, TDM_E_INVALID,
                             "parallel.expert_tensor_parallel_size: %u does not divide the %u "
                             "columns of an expert",
                             p->etp, m->moe_ffn_hidden_size);
    if (!sc->stage_layers && m->num_layers % (p->pp * p->vpp) != 0)
        code = tdm_error_add(
            err, TDM_E_INVALID,
            "parallel.pipeline_model_parallel_size: %u stages of %u chunks do not divide "
            "%u layers",
            p->pp, p->vpp, m->num_layers);
    if (m->num_attention_heads % p->tp != 0 || m->num_query_groups % p->tp != 0 ||
        m->vocab_size % p->tp != 0 || (has_dense && m->ffn_hidden_size % p->tp != 0) ||
        m->moe_shared_expert_intermediate_size % p->tp != 0 || tokens % p->tp != 0)
        code = tdm_error_add(
            err, TDM_E_INVALID,
            "parallel.tensor_model_parallel_size: %u does not divide heads %u, query groups %u, "
            "vocabulary %u, feed-forward size %u, shared experts' size %u or tokens %llu",
            p->tp, m->num_attention_heads, m->num_query_groups, m->vocab_size, m->ffn_hidden_size,
            m->moe_shared_expert_intermediate_size, (unsigned long long)tokens);
    if (m->num_experts % p->ep != 0)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "parallel.expert_model_parallel_size: %u does not divide %u experts",
                             p->ep, m->num_experts);
    return code;
}

/* Indices of a model's kinds in plan->kinds; boundaries only with several stages: in, out, and in a
 * V those of the chunks that run back. */
typedef struct kind_places {
    uint32_t embedding, dense, experts, head, boundaries, n;
} kind_places;

static uint32_t n_boundaries(const tdm_dims *d)
{
    if (d->pp == 1 && !d->scenario->pass_times.given)
        return 0;
    return d->placement == TDM_PLACEMENT_V ? 4 : 2;
}

static kind_places places_of(const tdm_dims *d)
{
    kind_places p = {.embedding = 0, .dense = 1};
    p.experts = p.dense + d->mixed; /* of one kind of layer, that */
    p.head = p.experts + 1;
    p.boundaries = p.head + 1;
    p.n = p.boundaries + n_boundaries(d);
    return p;
}

static void lower_boundaries(tdm_arena *arena, const tdm_dims *d, tdm_kind *kinds)
{
    for (uint32_t i = 0; i < n_boundaries(d); i += 2) {
        tdm_lower_boundary_in(arena, d, i > 0, &kinds[i]);
        tdm_lower_boundary_out(arena, d, i > 0, &kinds[i + 1]);
    }
}

void tdm_lower_kinds(tdm_arena *arena, const tdm_dims *d, tdm_plan *plan)
{
    if (d->scenario->pass_times.given) {
        uint32_t n_virtual = d->pp * d->vpp;
        plan->n_kinds = n_virtual + n_boundaries(d);
        tdm_kind *kinds = TDM_ALLOC(arena, tdm_kind, plan->n_kinds);
        for (uint32_t s = 0; s < n_virtual; s++)
            tdm_lower_timed(arena, d, s, &kinds[s]);
        lower_boundaries(arena, d, &kinds[n_virtual]);
        plan->kinds = kinds;
        return;
    }
    kind_places at = places_of(d);
    bool experts = d->scenario->model.num_experts > 0;
    plan->n_kinds = at.n;
    tdm_kind *kinds = TDM_ALLOC(arena, tdm_kind, plan->n_kinds);
    tdm_lower_embedding(arena, d, &kinds[at.embedding]);
    if (!experts || d->mixed)
        tdm_lower_layer(arena, d, false, &kinds[at.dense]);
    if (experts)
        tdm_lower_layer(arena, d, true, &kinds[at.experts]);
    tdm_lower_head(arena, d, &kinds[at.head]);
    lower_boundaries(arena, d, &kinds[at.boundaries]);
    plan->kinds = kinds;
}

static void add_block(tdm_chunk *chunk, tdm_block *blocks, uint32_t kind, uint32_t first_layer,
                      uint32_t count)
{
    blocks[chunk->n_blocks++] =
        (tdm_block){.kind = (uint16_t)kind, .first_layer = first_layer, .count = count};
    chunk->n_positions += count;
}

static uint32_t layers_of(const tdm_dims *d, uint32_t virtual_stage)
{
    const tdm_scenario *scenario = d->scenario;
    return scenario->stage_layers ? scenario->stage_layers[virtual_stage]
                                  : scenario->model.num_layers / (d->pp * d->vpp);
}

/* Layers in runs of one kind. */
static void add_layers(const tdm_dims *d, tdm_chunk *chunk, tdm_block *blocks, uint32_t first_layer,
                       uint32_t layers)
{
    const tdm_model *m = &d->scenario->model;
    kind_places at = places_of(d);
    uint32_t end = first_layer + layers;
    for (uint32_t layer = first_layer, next; layer < end; layer = next) {
        bool experts = tdm_model_layer_has_experts(m, layer);
        next = d->mixed ? layer + 1 : end;
        while (next < end && tdm_model_layer_has_experts(m, next) == experts)
            next++;
        add_block(chunk, blocks, experts ? at.experts : at.dense, layer, next - layer);
    }
}

void tdm_lower_chunk(tdm_arena *arena, const tdm_dims *d, uint32_t virtual_stage, tdm_chunk *chunk)
{
    enum { MAX_OTHERS = 3 }; /* blocks that are no layers */
    uint32_t most = MAX_OTHERS + (d->mixed ? layers_of(d, virtual_stage) : 1);
    tdm_block *blocks = TDM_ALLOC(arena, tdm_block, most);
    kind_places at = places_of(d);
    uint32_t n_virtual = d->pp * d->vpp;
    bool first = virtual_stage == 0, last = virtual_stage + 1 == n_virtual;
    bool timed = d->scenario->pass_times.given;
    *chunk = (tdm_chunk){.blocks = blocks, .virtual_stage = virtual_stage};
    uint32_t stage = tdm_placement_stage(d->placement, d->pp, virtual_stage);
    uint32_t boundary = timed ? n_virtual : at.boundaries;
    if (d->placement == TDM_PLACEMENT_V && virtual_stage / d->pp % 2 == 1)
        boundary += 2;
    if (!first && tdm_placement_stage(d->placement, d->pp, virtual_stage - 1) != stage)
        add_block(chunk, blocks, boundary, 0, 1);
    if (timed) {
        add_block(chunk, blocks, virtual_stage, 0, 1);
    } else {
        uint32_t first_layer = 0, layers = layers_of(d, virtual_stage);
        for (uint32_t k = 0; k < virtual_stage; k++)
            first_layer += layers_of(d, k);
        if (first)
            add_block(chunk, blocks, at.embedding, 0, 1);
        add_layers(d, chunk, blocks, first_layer, layers);
        if (last)
            add_block(chunk, blocks, at.head, 0, 1);
    }
    if (!last && tdm_placement_stage(d->placement, d->pp, virtual_stage + 1) != stage)
        add_block(chunk, blocks, boundary + 1, 0, 1);
}

static void lower_passes(tdm_arena *arena, const tdm_dims *d, const tdm_schedule *schedule,
                         const tdm_schedule_shape *shape, tdm_role *role)
{
    tdm_arena scratch = {0};
    uint32_t n = schedule->order(&scratch, shape, role->stage, NULL, 0);
    bool steps = d->train && !d->scenario->pass_times.given;
    tdm_pass *passes = TDM_ALLOC(arena, tdm_pass, n + 1);
    schedule->order(&scratch, shape, role->stage, passes, n);
    tdm_arena_free(&scratch);
    if (steps)
        passes[n++] = (tdm_pass){.kind = TDM_PASS_O};
    role->passes = passes;
    role->n_passes = n;
}

/* Roles with their chunks; passes come later, since a schedule may want to know what they take. */
static tdm_role *lower_roles(tdm_arena *arena, const tdm_dims *d, tdm_plan *plan)
{
    tdm_role *roles = TDM_ALLOC(arena, tdm_role, d->pp);
    uint16_t *role_of = TDM_ALLOC(arena, uint16_t, plan->mesh.world);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        role_of[rank] = (uint16_t)tdm_mesh_stage(&plan->mesh, rank);
    for (uint32_t stage = 0; stage < d->pp; stage++) {
        tdm_chunk *chunks = TDM_ALLOC(arena, tdm_chunk, d->vpp);
        for (uint32_t c = 0; c < d->vpp; c++)
            tdm_lower_chunk(arena, d, tdm_placement_virtual(d->placement, d->pp, stage, c),
                            &chunks[c]);
        roles[stage] = (tdm_role){.stage = stage, .chunks = chunks, .n_chunks = d->vpp};
    }
    plan->roles = roles;
    plan->n_roles = d->pp;
    plan->role_of = role_of;
    return roles;
}

static void lower_programs(tdm_arena *arena, const tdm_dims *d, const tdm_schedule *schedule,
                           tdm_schedule_shape *shape, tdm_role *roles, const tdm_plan *plan)
{
    if (schedule->needs_times)
        shape->times = tdm_stage_times_estimate(arena, d->scenario, plan);
    for (uint32_t stage = 0; stage < d->pp; stage++) {
        lower_passes(arena, d, schedule, shape, &roles[stage]);
        if (d->train && !plan->pass_times)
            tdm_lower_optimizer(arena, plan, &roles[stage]);
    }
}

tdm_code tdm_lower(tdm_arena *arena, const tdm_scenario *scenario, const char *schedule,
                   uint32_t num_microbatches, tdm_plan *plan, tdm_error *err)
{
    return tdm_lower_folded(arena, scenario, schedule, num_microbatches, 1, plan, err);
}

tdm_code tdm_lower_folded(tdm_arena *arena, const tdm_scenario *sc, const char *schedule_name,
                          uint32_t num_microbatches, uint32_t copies, tdm_plan *plan,
                          tdm_error *err)
{
    const tdm_schedule *schedule = tdm_schedule_find(schedule_name);
    if (!schedule)
        return tdm_error_add(err, TDM_E_INVALID, "schedule.name: '%s': unknown schedule",
                             schedule_name);
    tdm_code code = check_supported(sc, err);
    tdm_schedule_shape shape = {.n_stages = sc->parallel.pp,
                                .n_chunks = sc->parallel.vpp,
                                .n_microbatches = num_microbatches,
                                .activation_limit = sc->activation_limit,
                                .table = sc->pass_table};
    const char *refusal = tdm_schedule_refuse(schedule, &shape);
    if (refusal)
        code = tdm_error_add(err, TDM_E_INVALID, "schedule.name: %s %s", schedule->name, refusal);
    if (code != TDM_OK)
        return code;
    const tdm_parallel *p = &sc->parallel;
    bool moe = !sc->pass_times.given && sc->model.num_experts > 0;
    tdm_plan out = {.name = sc->name,
                    .schedule = schedule->name,
                    .train = sc->training.train && !schedule->forward_only,
                    .pass_times = sc->pass_times.given,
                    .send_s = sc->pass_times.given ? sc->pass_times.send_s : 0,
                    .model = sc->model,
                    .training = sc->training,
                    .parallel = sc->parallel,
                    .routing_spec = sc->routing,
                    .micro_batch_size = sc->micro_batch_size,
                    .seq_length = sc->seq_length,
                    .num_microbatches = num_microbatches};
    out.training.train = out.train;
    code = tdm_mesh_init(&out.mesh, p->tp, p->cp, p->dp, p->pp, moe ? p->ep : 1, moe ? p->etp : 1,
                         err);
    if (code != TDM_OK)
        return code;
    out.mesh = tdm_mesh_fold(&out.mesh, copies);
    tdm_dims *dims = TDM_ALLOC(arena, tdm_dims, 1);
    *dims = tdm_lower_dims(sc, schedule);
    if (!moe)
        dims->ep = dims->etp = 1;
    out.placement = dims->placement;
    tdm_lower_kinds(arena, dims, &out);
    tdm_role *roles = lower_roles(arena, dims, &out);
    if (moe) {
        code = tdm_routing_table_build(arena, &out, &out.routing, err);
        if (code != TDM_OK)
            return code;
    }
    lower_programs(arena, dims, schedule, &shape, roles, &out);
    *plan = out;
    return TDM_OK;
}
