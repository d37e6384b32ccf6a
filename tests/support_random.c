/* support_random.c: draws layouts first, then a model that divides by them, then a machine that
 * holds them. */
#include "tests/support_random.h"

#include "core/schedule.h"
#include "core/topology_load.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_planes.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_RANKS = 64, MOST_EXPERTS = 64 };

typedef struct draw {
    tdm_arena *arena;
    const char *root;
    uint64_t state;
    tdm_scenario *sc;
} draw;

static uint32_t below(draw *d, uint32_t n)
{
    return edit_random(&d->state, n);
}

static bool coin(draw *d)
{
    return below(d, 2) == 1;
}

static uint32_t one_of(draw *d, const uint32_t *values, uint32_t n)
{
    return values[below(d, n)];
}

#define ONE_OF(d, ...)                                                                             \
    one_of((d), (const uint32_t[]){__VA_ARGS__},                                                   \
           (uint32_t)TDM_COUNT(((const uint32_t[]){__VA_ARGS__})))

double random_share(uint64_t *state)
{
    return edit_random(state, 1u << 30) / (double)(1u << 30);
}

static double between(draw *d, double low, double high)
{
    return low + random_share(&d->state) * (high - low);
}

/* ---- machine ---- */

static tdm_plane ports(support_plane_builder *builder, const char *name, uint32_t n_gpus,
                       uint32_t per_switch, double bytes_per_s, double latency_s)
{
    support_plane_begin(builder, name, n_gpus + n_gpus / per_switch);
    for (uint32_t g = 0; g < n_gpus; g++)
        support_plane_hang(builder, g, n_gpus + g / per_switch,
                           tdm_arena_printf(builder->arena, "%s-%u", name, g), bytes_per_s,
                           latency_s);
    return builder->plane;
}

static tdm_plane tree(draw *d, support_plane_builder *builder, uint32_t n_gpus, uint32_t per_switch)
{
    uint32_t n_switches = n_gpus / per_switch, top = n_gpus + n_switches;
    support_plane_begin(builder, "pcie", top + 1);
    double port = between(d, 10e9, 30e9), uplink = between(d, 10e9, 30e9);
    for (uint32_t g = 0; g < n_gpus; g++)
        support_plane_hang(builder, g, n_gpus + g / per_switch,
                           tdm_arena_printf(builder->arena, "gpu-%u", g), port, 5e-7);
    for (uint32_t w = 0; w < n_switches; w++)
        support_plane_hang(builder, n_gpus + w, top,
                           tdm_arena_printf(builder->arena, "switch-%u", w), uplink, 7e-7);
    return builder->plane;
}

/* One switch; nodes with adapters; a tree. Room for `world` GPUs. */
static void build_topology(draw *d, uint32_t world)
{
    tdm_topology *t = &d->sc->topology;
    uint32_t shape = below(d, 3), per_switch = ONE_OF(d, 2, 4, 8);
    uint32_t n_switches = (uint32_t)tdm_ceil_div(world, per_switch) + below(d, 2);
    if (shape == 0) {
        per_switch = world + below(d, 2) * world;
        n_switches = 1;
    }
    t->n_gpus = per_switch * n_switches;
    t->gpus_per_node = shape == 2 ? t->n_gpus : per_switch;
    tdm_plane *planes = TDM_ALLOC(d->arena, tdm_plane, 2);
    support_plane_builder builder;
    support_plane_builder_init(&builder, d->arena, 4 * t->n_gpus + 2 * n_switches);
    t->n_planes = 1;
    if (shape == 2)
        planes[0] = tree(d, &builder, t->n_gpus, per_switch);
    else
        planes[0] = ports(&builder, "nvlink", t->n_gpus, per_switch, between(d, 50e9, 400e9),
                          coin(d) ? between(d, 0, 3e-6) : 0);
    if (shape == 1 && n_switches > 1)
        planes[t->n_planes++] = ports(&builder, "network", t->n_gpus, t->n_gpus,
                                      between(d, 5e9, 50e9), between(d, 1e-6, 5e-6));
    t->planes = planes;
    t->links = builder.links;
    t->n_links = builder.n_links;
}

static void load_topology(draw *d)
{
    static const char *const names[] = {"dgx-2",          "a2-megagpu-16g",   "nvswitch16-a100-80g",
                                        "dgx-2x8-h100",   "pcie-16-a100-40g", "dgx-2x8-a100",
                                        "gb200-nvl72-4x4"};
    tdm_error *err = TDM_ALLOC(d->arena, tdm_error, 1);
    const char *path = tdm_arena_printf(d->arena, "%s/topologies/%s.yaml", d->root,
                                        names[below(d, (uint32_t)TDM_COUNT(names))]);
    if (tdm_topology_load(d->arena, d->root, path, NULL, &d->sc->topology, err) != TDM_OK)
        fail_msg("%s", err->text);
}

static void draw_machine(draw *d)
{
    static const double launches_s[] = {0, 3e-6, 50e-6};
    const tdm_parallel *p = &d->sc->parallel;
    uint32_t world = p->tp * p->dp * p->pp;
    if (world <= 16 && below(d, 4) == 0)
        load_topology(d);
    else
        build_topology(d, world);
    if (coin(d))
        d->sc->topology.collective_launch_s.value = d->sc->topology.p2p_launch_s.value = 0;
    d->sc->device.launch_s.value = launches_s[below(d, (uint32_t)TDM_COUNT(launches_s))];
    if (coin(d))
        d->sc->device.kernel_floor_s.value = 0;
}

/* ---- question ---- */

/* A schedule and a shape that it takes, of at most so many stages. Of several chunks run one after
 * the other, the pipeline can hold fewer than 5 p microbatches between two chunks: transfers are
 * rendezvous, and verify refuses more. */
static void draw_pipeline(draw *d, uint32_t most_stages, uint32_t most_microbatches)
{
    uint32_t n = 0;
    tdm_schedule_shape shape;
    while (tdm_schedules[n])
        n++;
    const tdm_schedule *schedule;
    do
        schedule = tdm_schedules[below(d, n)];
    while (schedule->needs_table); /* there is no file to read */
    do {
        shape.n_stages = coin(d) ? 1 + below(d, most_stages) : 1 + below(d, 4);
        shape.n_chunks = 1 + below(d, 3);
        shape.n_microbatches = 1 + below(d, most_microbatches);
    } while (shape.n_stages > most_stages || tdm_schedule_refuse(schedule, &shape) ||
             (shape.n_chunks > 1 && shape.n_microbatches >= 5 * shape.n_stages));
    d->sc->schedule = schedule->name;
    d->sc->training.train = !schedule->forward_only;
    d->sc->num_microbatches = shape.n_microbatches;
    d->sc->parallel.pp = shape.n_stages;
    d->sc->parallel.vpp = shape.n_chunks;
}

static void draw_layout(draw *d)
{
    tdm_parallel *p = &d->sc->parallel;
    do {
        p->tp = ONE_OF(d, 1, 1, 2, 4, 8);
        p->dp = ONE_OF(d, 1, 1, 2, 3, 4, 8);
    } while (p->tp * p->pp * p->dp > MOST_RANKS);
    p->sequence_parallel = p->tp > 1 && coin(d);
    p->distributed_optimizer = coin(d);
}

/* Every model but the recorded one; each parameter means something to one of them only. */
static void draw_routing(draw *d)
{
    d->sc->routing = (tdm_routing){.model = (tdm_routing_model)below(d, TDM_ROUTING_RECORDED),
                                   .seed = d->state,
                                   .exponent = 0.25 * below(d, 9),
                                   .concentration = 0.1 * (1 + below(d, 50)),
                                   .hot_expert = below(d, d->sc->model.num_experts),
                                   .hot_share = 0.05 + 0.1 * below(d, 9),
                                   .capacity_factor = coin(d) ? 0 : 0.5 * (1 + below(d, 4))};
    tdm_routing *r = &d->sc->routing;
    const tdm_model *m = &d->sc->model;
    r->pad_to_capacity = r->capacity_factor > 0 &&
                         r->capacity_factor * m->moe_router_topk <= m->num_experts && coin(d);
}

static void draw_experts(draw *d)
{
    tdm_model *m = &d->sc->model;
    tdm_parallel *p = &d->sc->parallel;
    if (coin(d))
        return;
    do {
        p->etp = below(d, 4) == 0 ? 1 : 1 + below(d, p->tp * p->dp); /* also across TP groups */
        p->ep = 1 + below(d, p->tp * p->dp);
        m->num_experts = p->ep * (1 + below(d, 3));
    } while (p->tp * p->dp % (p->ep * p->etp) != 0 || m->num_experts > MOST_EXPERTS);
    uint32_t most = m->num_experts < 4 ? m->num_experts : 4;
    m->moe_router_topk = 1 + below(d, most);
    m->moe_ffn_hidden_size = p->etp * (1 + below(d, 80));
    if (coin(d))
        m->moe_shared_expert_intermediate_size = p->tp * (1 + below(d, 60));
    if (coin(d))
        m->first_k_dense_replace = below(d, m->num_layers);
    if (coin(d)) {
        m->moe_layer_freq = 1 + below(d, 3);
        m->moe_layer_offset = below(d, m->moe_layer_freq);
    }
    if (tdm_model_n_expert_layers(m) == 0)
        m->first_k_dense_replace = m->moe_layer_freq = m->moe_layer_offset = 0;
    draw_routing(d);
}

/* Uneven layers per virtual stage, none on some; at least one in all. */
static void draw_stages(draw *d)
{
    uint32_t n = d->sc->parallel.pp * d->sc->parallel.vpp, total = 0;
    uint32_t *layers = TDM_ALLOC(d->arena, uint32_t, n);
    for (uint32_t v = 0; v < n; v++)
        total += layers[v] = below(d, 4);
    if (total == 0)
        total = layers[below(d, n)] = 1;
    d->sc->stage_layers = layers;
    d->sc->model.num_layers = total;
}

static void draw_model(draw *d)
{
    tdm_model *m = &d->sc->model;
    const tdm_parallel *p = &d->sc->parallel;
    m->num_layers = p->pp * p->vpp * (1 + below(d, 2));
    if (below(d, 3) == 0)
        draw_stages(d);
    m->num_query_groups = p->tp * (1 + below(d, 2));
    m->num_attention_heads = m->num_query_groups * (1 + below(d, 3));
    m->kv_channels = ONE_OF(d, 4, 8, 16, 64);
    m->hidden_size = coin(d) ? m->kv_channels * m->num_attention_heads : 8 * (1 + below(d, 64));
    m->ffn_hidden_size = p->tp * (1 + below(d, 200));
    m->vocab_size = p->tp * (1 + below(d, 100));
    m->swiglu = coin(d);
    m->add_bias_linear = coin(d);
    m->untie_embeddings = coin(d);
    m->norm = coin(d) ? TDM_NORM_LAYER : TDM_NORM_RMS;
    m->position = (tdm_position)below(d, 3);
    m->attention = coin(d) ? TDM_ATTENTION_FUSED : TDM_ATTENTION_UNFUSED;
    m->hidden_dropout = coin(d) ? 0.1 : 0;
    m->attention_dropout = coin(d) ? 0.1 : 0;
    draw_experts(d);
}

static void draw_training(draw *d)
{
    tdm_scenario *sc = d->sc;
    sc->micro_batch_size = 1 + below(d, 3);
    sc->seq_length = coin(d) ? sc->parallel.tp * (1 + below(d, 12)) : ONE_OF(d, 8, 64, 256);
    sc->model.max_position_embeddings = sc->seq_length + below(d, 2);
    sc->training.dtype = (tdm_dtype)below(d, TDM_N_DTYPES);
    sc->training.grad_dtype = coin(d) ? TDM_DTYPE_FP32 : sc->training.dtype;
    sc->training.recompute = (tdm_recompute)below(d, 3);
    sc->training.clip_grad = coin(d) ? 1.0 : 0.0;
}

/* Some stages without one of the passes' times, some transfers without time. */
static const double *draw_times(draw *d, uint32_t n)
{
    double *times_s = TDM_ALLOC(d->arena, double, n);
    for (uint32_t i = 0; i < n; i++)
        times_s[i] = below(d, 8) == 0 ? 0 : between(d, 1e-4, 2e-2);
    return times_s;
}

static void draw_pass_times(draw *d)
{
    tdm_scenario *sc = d->sc;
    *sc = support_pass_times(d->arena, MOST_RANKS, 1, "1f1b", 0, 0, 0, 0);
    draw_pipeline(d, 12, 30);
    uint32_t n = sc->parallel.pp * sc->parallel.vpp;
    sc->topology = support_switch(d->arena, sc->parallel.pp);
    sc->pass_times.forward_s = draw_times(d, n);
    sc->pass_times.backward_input_s = draw_times(d, n);
    sc->pass_times.backward_weight_s = draw_times(d, n);
    sc->pass_times.send_s = coin(d) ? 0 : between(d, 0, 5e-3);
}

/* ---- perturbation ---- */

static void draw_speeds(draw *d, tdm_perturbation *p)
{
    tdm_gpu_speed *speeds = TDM_ALLOC(d->arena, tdm_gpu_speed, 3);
    p->speeds = speeds;
    p->n_speeds = below(d, 4);
    for (uint32_t i = 0; i < p->n_speeds; i++) {
        uint32_t first = below(d, d->sc->topology.n_gpus);
        speeds[i] = (tdm_gpu_speed){first, first + below(d, 3), between(d, 0.5, 1)};
    }
}

/* Some by name, some by pattern. */
static void draw_changes(draw *d, tdm_perturbation *p)
{
    tdm_link_change *changes = TDM_ALLOC(d->arena, tdm_link_change, 3);
    p->changes = changes;
    p->n_changes = d->sc->topology.n_links > 0 ? below(d, 4) : 0;
    for (uint32_t i = 0; i < p->n_changes; i++) {
        const char *name = d->sc->topology.links[below(d, d->sc->topology.n_links)].name;
        if (coin(d))
            name = tdm_arena_printf(d->arena, "*%s", name + below(d, (uint32_t)strlen(name)));
        changes[i] = (tdm_link_change){name, between(d, 0.3, 1), coin(d) ? between(d, 0, 5e-6) : 0};
    }
}

/* Half of the scenarios are perturbed, in some ways or in all. */
static void draw_perturbation(draw *d)
{
    tdm_perturbation *p = &d->sc->perturbation;
    if (coin(d))
        return;
    draw_speeds(d, p);
    draw_changes(d, p);
    if (coin(d))
        p->compute_jitter = between(d, 0, 0.3);
    if (coin(d))
        p->communication_jitter = between(d, 0, 0.5);
    p->jitter_seed = d->state;
    if (coin(d)) {
        p->straggler_slowdown = between(d, 1, 3);
        p->straggler_seed = d->state;
        if (coin(d))
            p->straggler_probability = between(d, 0, 1);
        else
            p->n_stragglers = 1 + below(d, 3);
    }
}

static void describe(random_scenario *r)
{
    const tdm_scenario *sc = &r->scenario;
    const tdm_parallel *p = &sc->parallel;
    const tdm_model *m = &sc->model;
    int n = snprintf(
        r->text, sizeof r->text,
        "seed %" PRIu64 ": %s m %u, tp %u ep %u etp %u dp %u pp %u x %u sp %d zero %d, %u GPUs on "
        "%s in %u planes of %u, launch %g",
        r->seed, sc->schedule, sc->num_microbatches, p->tp, p->ep, p->etp, p->dp, p->pp, p->vpp,
        p->sequence_parallel, p->distributed_optimizer, sc->topology.n_gpus, sc->topology.name,
        sc->topology.n_planes, sc->topology.gpus_per_node, sc->device.launch_s.value);
    if (sc->pass_times.given)
        snprintf(r->text + n, sizeof r->text - (size_t)n, ", pass times, send %g",
                 sc->pass_times.send_s);
    else
        snprintf(
            r->text + n, sizeof r->text - (size_t)n,
            ", b %u s %u L %u h %u a %u/%u x %u f %u v %u, experts %u top %u f %u shared %u dense %u "
            "every %u + %u, capacity %g padded %d, swiglu %d "
            "bias %d tied %d norm %d position %d unfused %d dropout %g %g, %s grads %s "
            "recompute %s clip %g",
            sc->micro_batch_size, sc->seq_length, m->num_layers, m->hidden_size,
            m->num_attention_heads, m->num_query_groups, m->kv_channels, m->ffn_hidden_size,
            m->vocab_size, m->num_experts, m->moe_router_topk, m->moe_ffn_hidden_size,
            m->moe_shared_expert_intermediate_size, m->first_k_dense_replace, m->moe_layer_freq,
            m->moe_layer_offset, sc->routing.capacity_factor, sc->routing.pad_to_capacity,
            m->swiglu, m->add_bias_linear, !m->untie_embeddings, m->norm, m->position, m->attention,
            m->hidden_dropout, m->attention_dropout, tdm_dtype_name(sc->training.dtype),
            tdm_dtype_name(sc->training.grad_dtype), tdm_recompute_name(sc->training.recompute),
            sc->training.clip_grad);
}

static void describe_stages(random_scenario *r)
{
    const tdm_scenario *sc = &r->scenario;
    for (uint32_t v = 0; v < sc->parallel.pp * sc->parallel.vpp && sc->stage_layers; v++) {
        size_t n = strlen(r->text);
        snprintf(r->text + n, sizeof r->text - n, "%s%u", v == 0 ? ", layers " : "|",
                 sc->stage_layers[v]);
    }
}

static void describe_perturbation(random_scenario *r)
{
    const tdm_perturbation *pert = &r->scenario.perturbation;
    size_t length = strlen(r->text);
    snprintf(r->text + length, sizeof r->text - length,
             ", %u speeds, %u links, jitter %g %g, stragglers %g %u x %g", pert->n_speeds,
             pert->n_changes, pert->compute_jitter, pert->communication_jitter,
             pert->straggler_probability, pert->n_stragglers, pert->straggler_slowdown);
}

void random_scenario_draw(tdm_arena *arena, const char *root, uint64_t seed, random_scenario *drawn)
{
    draw d = {.arena = arena, .root = root, .state = seed, .sc = &drawn->scenario};
    drawn->seed = seed;
    if (below(&d, 5) == 0) {
        draw_pass_times(&d);
    } else {
        *d.sc = support_scenario(arena, &(support_spec){0});
        draw_pipeline(&d, 8, 9);
        draw_layout(&d);
        draw_model(&d);
        draw_training(&d);
        draw_machine(&d);
    }
    draw_perturbation(&d);
    describe(drawn);
    describe_stages(drawn);
    describe_perturbation(drawn);
}
