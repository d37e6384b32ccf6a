/* folded.c: the folded evaluation: caches, and the figures of a run. */
#include "folded_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tdm_folded {
    tdm_arena arena, scratch;
    const tdm_scenario *scenario;
    tdm_fold_map nets, kinds, orders;
    tdm_fold_placements placements;
    tdm_fold_room room;
    /* The last stages, and the last forward latency. */
    tdm_arena stages_arena, order_arena;
    tdm_fold_key stages_key;
    const tdm_fold_stages *stages;
    tdm_fold_key forward_key;
    double forward_s; /* below 0: none */
    tdm_comm_figures comms[2];
};

tdm_fold_choice tdm_fold_choice_of(const tdm_scenario *scenario)
{
    return (tdm_fold_choice){.parallel = scenario->parallel,
                             .recompute = scenario->training.recompute,
                             .schedule = tdm_schedule_find(scenario->schedule),
                             .num_microbatches = scenario->num_microbatches,
                             .micro_batch_size = scenario->micro_batch_size};
}

tdm_scenario tdm_fold_choice_apply(const tdm_scenario *scenario, const tdm_fold_choice *choice)
{
    tdm_scenario sc = *scenario;
    sc.parallel = choice->parallel;
    sc.training.recompute = choice->recompute;
    sc.training.train = !choice->schedule->forward_only;
    sc.schedule = choice->schedule->name;
    sc.num_microbatches = choice->num_microbatches;
    sc.micro_batch_size = choice->micro_batch_size;
    return sc;
}

static const char *refuse_model(const tdm_scenario *scenario, const tdm_parallel *p)
{
    const tdm_model *m = &scenario->model;
    if (m->num_attention_heads % p->tp != 0 || m->num_query_groups % p->tp != 0)
        return "tensor parallelism does not divide the heads";
    if (tdm_model_n_expert_layers(m) < m->num_layers && m->ffn_hidden_size % p->tp != 0)
        return "tensor parallelism does not divide the MLP";
    if (m->moe_shared_expert_intermediate_size % p->tp != 0)
        return "tensor parallelism does not divide the shared experts";
    if (m->vocab_size % p->tp != 0)
        return "tensor parallelism does not divide the vocabulary";
    if (m->num_experts > 0 && m->moe_ffn_hidden_size % p->etp != 0)
        return "expert tensor parallelism does not divide the experts' columns";
    if (m->num_experts == 0 ? p->ep > 1 : m->num_experts % p->ep != 0)
        return "expert parallelism does not divide the experts";
    if (m->num_experts > 0 && (uint64_t)p->tp * p->dp % ((uint64_t)p->ep * p->etp) != 0)
        return "expert parallelism does not divide the ranks of a stage";
    if (!scenario->stage_layers &&
        (m->num_layers % p->pp != 0 || m->num_layers / p->pp % p->vpp != 0))
        return "stages and chunks do not divide the layers";
    return NULL;
}

static tdm_schedule_shape shape_of(const tdm_scenario *scenario, const tdm_parallel *parallel,
                                   uint32_t num_microbatches)
{
    return (tdm_schedule_shape){.n_stages = parallel->pp,
                                .n_chunks = parallel->vpp,
                                .n_microbatches = num_microbatches,
                                .activation_limit = scenario->activation_limit,
                                .table = scenario->pass_table};
}

const char *tdm_fold_refuse(const tdm_scenario *scenario, const tdm_fold_choice *choice)
{
    const tdm_parallel *p = &choice->parallel;
    tdm_schedule_shape shape = shape_of(scenario, p, choice->num_microbatches);
    uint64_t ranks = (uint64_t)p->tp * p->pp * p->dp;
    if (p->tp == 0 || p->pp == 0 || p->dp == 0 || p->ep == 0 || p->etp == 0 || p->vpp == 0 ||
        choice->num_microbatches == 0 ||
        (choice->micro_batch_size == 0 && !scenario->pass_times.given))
        return "every size must be at least 1";
    if (ranks > scenario->topology.n_gpus || scenario->topology.n_gpus % (p->tp * p->pp) != 0 ||
        scenario->topology.n_gpus / (p->tp * p->pp) % p->dp != 0)
        return "the ranks do not divide the GPUs";
    if (p->sequence_parallel && p->tp == 1)
        return "sequence parallelism needs tensor parallelism";
    if ((scenario->stage_layers || scenario->pass_times.given) &&
        (p->pp != scenario->parallel.pp || p->vpp != scenario->parallel.vpp))
        return "the scenario says what each stage holds";
    for (uint32_t v = 0; v < p->pp * p->vpp && scenario->stage_layers; v++)
        if (scenario->stage_layers[v] == 0)
            return "the folded evaluation knows stages with layers only";
    const tdm_routing *routing = &scenario->routing;
    bool even = routing->model == TDM_ROUTING_UNIFORM || routing->model == TDM_ROUTING_BALANCED;
    if (scenario->model.num_experts > 0 && (!even || routing->capacity_factor > 0))
        return "the folded evaluation knows uniform and balanced routing without capacity only";
    if (!scenario->pass_times.given) {
        const char *refusal = refuse_model(scenario, p);
        if (refusal)
            return refusal;
        if ((uint64_t)choice->micro_batch_size * scenario->seq_length % p->tp != 0)
            return "tensor parallelism does not divide the tokens of a microbatch";
    }
    return tdm_schedule_refuse(choice->schedule, &shape);
}

tdm_folded *tdm_folded_new(const tdm_scenario *scenario)
{
    tdm_arena arena = {0};
    tdm_folded *f = TDM_ALLOC(&arena, tdm_folded, 1);
    f->arena = arena;
    f->scenario = scenario;
    f->nets.arena = f->kinds.arena = f->orders.arena = f->placements.arena = &f->arena;
    f->forward_s = -1;
    return f;
}

void tdm_folded_free(tdm_folded *folded)
{
    tdm_arena arena = folded->arena;
    tdm_arena_free(&folded->scratch);
    tdm_arena_free(&folded->stages_arena);
    tdm_arena_free(&folded->order_arena);
    tdm_arena_free(&folded->room.arena);
    tdm_arena_free(&arena);
}

/* ---- caches ---- */

static tdm_code find_net(tdm_folded *f, const tdm_scenario *sc, tdm_fold_net **net, tdm_error *err)
{
    const tdm_parallel *p = &sc->parallel;
    bool moe = !sc->pass_times.given && sc->model.num_experts > 0;
    tdm_mesh mesh;
    tdm_code code =
        tdm_mesh_init(&mesh, p->tp, p->cp, p->dp, p->pp, moe ? p->ep : 1, moe ? p->etp : 1, err);
    if (code != TDM_OK)
        return code;
    const tdm_fold_key key = {{mesh.tp, mesh.cp, mesh.dp, mesh.pp, mesh.ep, mesh.etp}};
    void **place = tdm_fold_map_at(&f->nets, &key);
    if (!*place)
        *place = tdm_fold_net_new(&f->arena, f->scenario, &mesh, &f->placements);
    *net = *place;
    return TDM_OK;
}

static tdm_fold_kinds *find_kinds(tdm_folded *f, const tdm_dims *d, tdm_fold_net *net,
                                  uint32_t stage)
{
    const tdm_scenario *sc = d->scenario;
    bool timed = sc->pass_times.given;
    uint32_t boundaries = d->pp > 1 ? 1 + (uint32_t)d->placement : 0;
    const tdm_fold_key key = {{d->tp, d->ep, d->sequence_parallel, (uint32_t)sc->training.recompute,
                               sc->micro_batch_size, d->split, d->train, boundaries,
                               net->placements[stage], timed ? d->pp : 0, timed ? d->vpp : 0,
                               d->etp}};
    void **place = tdm_fold_map_at(&f->kinds, &key);
    if (!*place) {
        *place = tdm_fold_kinds_new(&f->arena, &f->scratch, d, net, stage);
        tdm_arena_reset(&f->scratch); /* freeing gives it back to the system, page by page */
    }
    return *place;
}

static const tdm_fold_stages *find_stages(tdm_folded *f, const tdm_scenario *sc, const tdm_dims *d,
                                          tdm_fold_net *net)
{
    const tdm_parallel *p = &sc->parallel;
    const tdm_fold_key key = {{p->tp, p->ep, p->dp, p->pp, p->vpp, d->sequence_parallel,
                               (uint32_t)sc->training.recompute, sc->micro_batch_size, d->split,
                               d->train, p->distributed_optimizer, (uint32_t)d->placement, p->etp}};
    if (f->stages && memcmp(&key, &f->stages_key, sizeof key) == 0)
        return f->stages;
    tdm_arena_free(&f->stages_arena);
    tdm_fold_kinds **kinds = TDM_ALLOC(&f->stages_arena, tdm_fold_kinds *, d->pp);
    for (uint32_t s = 0; s < d->pp; s++)
        kinds[s] = s < net->n_stages ? find_kinds(f, d, net, s) : kinds[0];
    f->stages = tdm_fold_stages_new(&f->stages_arena, sc, d, net, kinds);
    f->stages_key = key;
    return f->stages;
}

/* Pass times of the stages, for schedules that weigh them. */
static tdm_stage_times *times_of(tdm_arena *arena, const tdm_fold_stages *stages,
                                 const tdm_schedule_shape *shape)
{
    static const tdm_pass_kind kinds[3] = {TDM_PASS_F, TDM_PASS_B, TDM_PASS_W};
    double *seconds[3];
    for (int k = 0; k < 3; k++) {
        seconds[k] = TDM_ALLOC(arena, double, shape->n_stages);
        for (uint32_t s = 0; s < shape->n_stages; s++)
            for (uint32_t c = 0; c < shape->n_chunks; c++)
                seconds[k][s] += stages->stages[s].chunks[c][kinds[k]].time.serial_s;
    }
    tdm_stage_times *times = TDM_ALLOC(arena, tdm_stage_times, 1);
    *times = (tdm_stage_times){.forward_s = seconds[0],
                               .backward_input_s = seconds[1],
                               .backward_weight_s = seconds[2],
                               .kept_share = stages->kept_share};
    if (shape->n_stages > 1)
        times->send_s = tdm_fold_net_transfer_s(stages->net, 0, 0, stages->x_bytes);
    return times;
}

/* Orders that depend on times serve once. */
static const tdm_fold_order *find_order(tdm_folded *f, const tdm_schedule *schedule,
                                        tdm_schedule_shape *shape, tdm_placement placement,
                                        const tdm_fold_stages *stages)
{
    if (schedule->needs_times) {
        tdm_arena_free(&f->order_arena);
        shape->times = times_of(&f->order_arena, stages, shape);
        return tdm_fold_order_new(&f->order_arena, schedule, shape, placement);
    }
    uint32_t number = 0;
    while (tdm_schedules[number] != schedule)
        number++;
    const tdm_fold_key key = {
        {number, shape->n_stages, shape->n_chunks, shape->n_microbatches, (uint32_t)placement}};
    void **place = tdm_fold_map_at(&f->orders, &key);
    if (!*place)
        *place = tdm_fold_order_new(&f->arena, schedule, shape, placement);
    return *place;
}

/* ---- figures ---- */

/* One evaluation. */
typedef struct run_input {
    const tdm_scenario *scenario;
    tdm_fold_net *net;
    const tdm_fold_stages *stages;
    const tdm_fold_order *order;
} run_input;

static tdm_code prepare(tdm_folded *f, const tdm_scenario *sc, const tdm_schedule *schedule,
                        tdm_dims *dims, run_input *in, tdm_error *err)
{
    tdm_schedule_shape shape = shape_of(sc, &sc->parallel, sc->num_microbatches);
    *in = (run_input){.scenario = sc};
    tdm_code code = find_net(f, sc, &in->net, err);
    if (code != TDM_OK)
        return code;
    *dims = tdm_lower_dims(sc, schedule);
    if (sc->pass_times.given || sc->model.num_experts == 0)
        dims->ep = dims->etp = 1;
    in->stages = find_stages(f, sc, dims, in->net);
    if (in->net->unreachable)
        return tdm_error_add(err, TDM_E_INFEASIBLE, "topology %s: two ranks share no route",
                             sc->topology.name);
    in->order = find_order(f, schedule, &shape, dims->placement, in->stages);
    if (in->order->deadlocks)
        return tdm_error_add(err, TDM_E_INFEASIBLE, "schedule %s deadlocks", schedule->name);
    return TDM_OK;
}

static double forward_latency_s(tdm_folded *f, const tdm_scenario *base, tdm_error *err)
{
    const tdm_schedule *schedule = tdm_schedule_find("forward-only");
    tdm_scenario sc = *base;
    tdm_dims dims;
    run_input in;
    const tdm_parallel *p = &sc.parallel;
    const tdm_fold_key key = {{p->tp, p->ep, p->dp, p->pp, p->vpp, p->sequence_parallel,
                               sc.micro_batch_size,
                               (uint32_t)tdm_lower_dims(base, schedule).placement, p->etp}};
    if (f->forward_s >= 0 && memcmp(&key, &f->forward_key, sizeof key) == 0)
        return f->forward_s;
    sc.num_microbatches = 1;
    sc.training.train = false;
    sc.training.recompute = TDM_RECOMPUTE_NONE;
    sc.parallel.distributed_optimizer = false;
    if (prepare(f, &sc, schedule, &dims, &in, err) != TDM_OK)
        return NAN;
    tdm_fold_run run = tdm_fold_run_order(&f->room, in.order, in.stages);
    f->forward_key = key;
    f->forward_s = run.end_s - run.start_s;
    return f->forward_s;
}

static void add_pipeline(const tdm_fold_run *run, uint32_t n, tdm_figures *f)
{
    double longest_s = 0, first_s = INFINITY, last_s = -INFINITY, passes_s = 0;
    for (uint32_t s = 0; s < n; s++) {
        longest_s = fmax(longest_s, run->last_s[s] - run->first_s[s]);
        first_s = fmin(first_s, run->first_s[s]);
        last_s = fmax(last_s, run->last_s[s]);
        passes_s += run->passes_s[s] / n;
    }
    f->bubble_fraction = longest_s > 0 ? 1 - passes_s / longest_s : 0;
    f->bubble_global = last_s > first_s ? 1 - passes_s / (last_s - first_s) : 0;
}

static void add_shares(const tdm_fold_run *run, uint32_t n, tdm_figures *f)
{
    double mean = 0, square = 0, least = INFINITY, step_s = f->step_time_s;
    for (uint32_t s = 0; s < n; s++) {
        mean += run->busy_s[s] / n;
        least = fmin(least, run->busy_s[s]);
    }
    for (uint32_t s = 0; s < n; s++) {
        double quiet = (1 - fmin(1, run->recv_s[s] / step_s)) *
                       (1 - fmin(1, run->send_s[s] / step_s)) *
                       (1 - fmin(1, run->within_s[s] / step_s));
        double exposed_s = run->exposed_s[s] + run->step_exposed_s[s];
        square += (run->busy_s[s] - mean) * (run->busy_s[s] - mean) / n;
        f->comm_busy_fraction += (1 - quiet) / n;
        f->comm_exposed_fraction += exposed_s / step_s / n;
        f->nvml_utilization +=
            fmin(1, (run->busy_s[s] + exposed_s + run->waiting_s[s]) / step_s) / n;
    }
    f->load_imbalance = mean > 0 ? sqrt(square) / mean : 0;
    f->min_compute_share = mean > 0 ? least / mean : 1;
    f->gpu_utilization = mean / step_s;
}

static void add_rates(const run_input *in, const tdm_fold_run *run, tdm_figures *f)
{
    const tdm_scenario *sc = in->scenario;
    const tdm_mesh *mesh = &in->net->mesh;
    if (sc->pass_times.given)
        return;
    f->tokens_per_s = (double)sc->micro_batch_size * sc->seq_length * sc->num_microbatches *
                      mesh->dp / f->step_time_s;
    double peak = sc->device.peak_flops_per_s[sc->training.dtype].value;
    if (peak > 0) {
        f->mfu = run->model_flops / (f->step_time_s * mesh->pp * peak);
        f->hfu = run->hardware_flops / (f->step_time_s * mesh->pp * peak);
    }
    for (uint32_t s = 0; s < mesh->pp; s++) {
        uint64_t bytes = (uint64_t)(run->peak_bytes[s] + sc->device.context_bytes.value);
        if (bytes > f->peak_memory_bytes) {
            f->peak_memory_bytes = bytes;
            f->peak_memory_rank = s * mesh->per_stage;
        }
    }
}

static void add_calls(tdm_folded *folded, const tdm_fold_run *run, tdm_figures *f)
{
    static const tdm_op_kind kinds[2] = {TDM_OP_ALL_REDUCE, TDM_OP_ALL_TO_ALL};
    f->comms = folded->comms;
    for (int k = 0; k < 2; k++)
        if (run->calls[k] > 0)
            f->comms[f->n_comms++] = (tdm_comm_figures){.kind = kinds[k],
                                                        .group = TDM_N_GROUP_KINDS,
                                                        .n_calls = (uint64_t)run->calls[k],
                                                        .avg_s = run->call_s[k] / run->calls[k],
                                                        .max_s = run->longest_s[k]};
}

tdm_code tdm_folded_evaluate(tdm_folded *folded, const tdm_fold_choice *choice,
                             tdm_figures *figures, tdm_error *err)
{
    tdm_scenario sc = tdm_fold_choice_apply(folded->scenario, choice);
    tdm_dims dims;
    run_input in;
    tdm_figures f = {0};
    f.forward_latency_s = forward_latency_s(folded, &sc, err);
    if (isnan(f.forward_latency_s))
        return TDM_E_INFEASIBLE;
    tdm_code code = prepare(folded, &sc, choice->schedule, &dims, &in, err);
    if (code != TDM_OK)
        return code;
    tdm_fold_run run = tdm_fold_run_order(&folded->room, in.order, in.stages);
    f.step_time_s = run.end_s - run.start_s;
    if (!(f.step_time_s > 0))
        return tdm_error_add(err, TDM_E_INFEASIBLE, "the step takes no time");
    add_pipeline(&run, in.order->n_stages, &f);
    add_shares(&run, in.order->n_stages, &f);
    add_rates(&in, &run, &f);
    add_calls(folded, &run, &f);
    f.expert_efficiency = 1 / in.stages->largest_share;
    f.hot_rank_share = f.hot_expert_share = 1; /* over a step uniform routing is nearly even */
    *figures = f;
    return TDM_OK;
}
