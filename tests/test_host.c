/* test_host.c: what a plan computes does not depend on how it is split: loss and gradients of every
 * layout are those of one rank, on the same microbatches and routing, in planned memory.
 *
 *     test_host [N [SEED]]    N random layouts, beginning with number SEED */
#include "backend/host/host.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_host.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Builds with assertions are slow ones, and slowest where threads are watched. */
#ifdef NDEBUG
enum { N_LAYOUTS = 300, NTH_SPEC = 1 };
#elif defined __SANITIZE_THREAD__
enum { N_LAYOUTS = 8, NTH_SPEC = 6 };
#else
enum { N_LAYOUTS = 60, NTH_SPEC = 1 };
#endif
enum { MOST_RANKS = 16 };

static uint64_t n_layouts = N_LAYOUTS, first_seed = 1;

/* Small, and in what the host computes in. */
static void make_small(tdm_scenario *sc)
{
    sc->training.dtype = sc->training.grad_dtype = TDM_DTYPE_FP32;
    sc->model.vocab_size = 64;
}

static void test_all_specs(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i += NTH_SPEC) {
        tdm_arena arena = {0};
        support_spec spec = support_specs[i];
        spec.hidden = 32;
        spec.seq = 16;
        tdm_scenario sc = support_scenario(&arena, &spec);
        make_small(&sc);
        char what[64];
        snprintf(what, sizeof what, "spec %zu", i);
        if (strcmp(sc.schedule, "forward-only") == 0) {
            host_outcome outcome;
            host_run(&arena, what, &sc, TDM_EXEC_CHECKED, 1, NULL, NULL, NULL, &outcome);
        } else {
            host_compare(what, &sc, i % 2 ? TDM_EXEC_CHECKED : TDM_EXEC_APART);
        }
        tdm_arena_free(&arena);
    }
}

static void compare_schedule(const char *name, bool splits_experts, tdm_exec_placement placement)
{
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2,
                                                               .dp = 2,
                                                               .ep = splits_experts ? 2 : 4,
                                                               .etp = splits_experts ? 2 : 1,
                                                               .pp = 4,
                                                               .experts = 8,
                                                               .topk = 2,
                                                               .layers = 8,
                                                               .shared = 16,
                                                               .hidden = 32,
                                                               .seq = 8,
                                                               .microbatches = 8,
                                                               .schedule = name,
                                                               .sequence_parallel = true,
                                                               .distributed_optimizer = true,
                                                               .clip = true,
                                                               .bias = splits_experts,
                                                               .swiglu = true,
                                                               .rope = true,
                                                               .capacity = 1.25,
                                                               .padded = splits_experts});
    make_small(&sc);
    sc.routing.model = TDM_ROUTING_ZIPF;
    sc.routing.exponent = 1;
    if (support_suit(&sc))
        host_compare(name, &sc, placement);
    tdm_arena_free(&arena);
}

/* Every schedule, split in every way at once, with skewed routing and drops; with whole experts,
 * and with experts that are split and padded. */
static void test_all_schedules(void **state)
{
    (void)state;
    for (const tdm_schedule *const *s = tdm_schedules; *s; s++) {
        if ((*s)->needs_table || (*s)->forward_only)
            continue;
        compare_schedule((*s)->name, false, TDM_EXEC_CHECKED);
        compare_schedule((*s)->name, true, TDM_EXEC_CHECKED);
    }
}

/* ---- random layouts ---- */

typedef struct draw {
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

static void draw_pipeline(draw *d)
{
    uint32_t n = 0;
    tdm_schedule_shape shape;
    while (tdm_schedules[n])
        n++;
    const tdm_schedule *schedule;
    do
        schedule = tdm_schedules[below(d, n)];
    while (schedule->needs_table || schedule->forward_only);
    do {
        shape = (tdm_schedule_shape){.n_stages = 1 + below(d, 4),
                                     .n_chunks = 1 + below(d, 2),
                                     .n_microbatches = 1 + below(d, 6)};
    } while (tdm_schedule_refuse(schedule, &shape) ||
             (shape.n_chunks > 1 && shape.n_microbatches >= 5 * shape.n_stages));
    d->sc->schedule = schedule->name;
    d->sc->num_microbatches = shape.n_microbatches;
    d->sc->parallel.pp = shape.n_stages;
    d->sc->parallel.vpp = shape.n_chunks;
}

static void draw_layout(draw *d)
{
    static const uint32_t sizes[] = {1, 1, 2, 4};
    tdm_parallel *p = &d->sc->parallel;
    do {
        p->tp = sizes[below(d, 4)];
        p->dp = 1 + below(d, 4);
    } while (p->tp * p->pp * p->dp > MOST_RANKS);
    p->sequence_parallel = p->tp > 1 && coin(d);
    p->distributed_optimizer = coin(d);
}

static uint32_t divisor(draw *d, uint32_t n)
{
    uint32_t i = n;
    do
        i = 1 + below(d, n);
    while (n % i != 0);
    return i;
}

static void draw_experts(draw *d)
{
    tdm_model *m = &d->sc->model;
    tdm_parallel *p = &d->sc->parallel;
    if (below(d, 3) == 0)
        return;
    uint32_t n = p->tp * p->dp;
    do
        p->etp = divisor(d, n); /* also across TP groups */
    while (p->etp == 1 && n > 1 && coin(d));
    p->ep = divisor(d, n / p->etp);
    m->num_experts = p->ep * (1 + below(d, 3));
    m->moe_router_topk = 1 + below(d, m->num_experts < 3 ? m->num_experts : 3);
    m->moe_ffn_hidden_size = p->etp * (1 + below(d, 4)) * (p->etp < 4 ? 4 : 1);
    if (coin(d))
        m->moe_shared_expert_intermediate_size = p->tp * (1 + below(d, 12));
    if (coin(d))
        m->first_k_dense_replace = below(d, m->num_layers);
    if (coin(d)) {
        m->moe_layer_freq = 1 + below(d, 3);
        m->moe_layer_offset = below(d, m->moe_layer_freq);
    }
    if (tdm_model_n_expert_layers(m) == 0)
        m->first_k_dense_replace = m->moe_layer_freq = m->moe_layer_offset = 0;
    d->sc->routing = (tdm_routing){.model = (tdm_routing_model)below(d, TDM_ROUTING_RECORDED),
                                   .seed = d->state,
                                   .exponent = 0.25 * below(d, 9),
                                   .concentration = 0.1 * (1 + below(d, 50)),
                                   .hot_expert = below(d, m->num_experts),
                                   .hot_share = 0.05 + 0.1 * below(d, 9),
                                   .capacity_factor = coin(d) ? 0 : 0.5 * (1 + below(d, 3))};
}

static void draw_model(draw *d)
{
    tdm_model *m = &d->sc->model;
    const tdm_parallel *p = &d->sc->parallel;
    m->num_layers = p->pp * p->vpp * (1 + below(d, 2));
    m->num_query_groups = p->tp * (1 + below(d, 2));
    m->num_attention_heads = m->num_query_groups * (1 + below(d, 2));
    m->kv_channels = 4 + 2 * below(d, 3);
    m->hidden_size = 8 * (2 + below(d, 3));
    m->ffn_hidden_size = p->tp * (4 + below(d, 12));
    m->vocab_size = p->tp * (8 + below(d, 12));
    m->swiglu = coin(d);
    m->add_bias_linear = coin(d);
    m->add_attention_bias = coin(d);
    m->add_qkv_bias = coin(d);
    m->qk_layernorm = below(d, 3) == 0;
    if (m->qk_layernorm) /* of few numbers it is next to a sign, and makes much of rounding */
        m->kv_channels += 4;
    m->attention_sinks = below(d, 3) == 0;
    m->untie_embeddings = coin(d);
    m->norm = coin(d) ? TDM_NORM_LAYER : TDM_NORM_RMS;
    m->position = (tdm_position)below(d, 3);
    m->attention = coin(d) ? TDM_ATTENTION_FUSED : TDM_ATTENTION_UNFUSED;
    m->hidden_dropout = coin(d) ? 0.1 : 0;
    m->attention_dropout = coin(d) ? 0.1 : 0;
    draw_experts(d);
}

/* With a capacity for all tokens, or with microbatches that a rank alone can have the same drops
 * in. */
static void draw_padding(draw *d)
{
    const tdm_model *m = &d->sc->model;
    tdm_routing *r = &d->sc->routing;
    if (m->num_experts == 0 || coin(d))
        return;
    double most = (double)m->num_experts / m->moe_router_topk;
    r->pad_to_capacity = true;
    r->capacity_factor = most;
    if (below(d, 4) == 0)
        return;
    r->capacity_factor = fmin(0.5 * (1 + below(d, 3)), most);
    d->sc->micro_batch_size = d->sc->parallel.tp * (1 + below(d, 2));
}

static void draw_scenario(tdm_arena *arena, uint64_t seed, tdm_scenario *sc, char *what, size_t n)
{
    draw d = {.state = seed, .sc = sc};
    *sc = support_scenario(arena, &(support_spec){0});
    draw_pipeline(&d);
    draw_layout(&d);
    draw_model(&d);
    sc->micro_batch_size = 1 + below(&d, 2);
    sc->seq_length = sc->parallel.tp * (1 + below(&d, 4));
    draw_padding(&d);
    sc->training.dtype = sc->training.grad_dtype = TDM_DTYPE_FP32;
    sc->training.recompute = (tdm_recompute)below(&d, 3);
    sc->training.clip_grad = coin(&d) ? 1.0 : 0.0;
    const tdm_parallel *p = &sc->parallel;
    const tdm_model *m = &sc->model;
    sc->topology = support_switch(arena, p->tp * p->dp * p->pp);
    snprintf(what, n,
             "seed %" PRIu64
             ": %s m %u, tp %u ep %u etp %u dp %u pp %u x %u sp %d zero %d, b %u s %u L %u "
             "a %u/%u experts %u top %u of %s capacity %g padded %d shared %u, tied %d bias %d "
             "unfused %d recompute %d dropout %g %g",
             seed, sc->schedule, sc->num_microbatches, p->tp, p->ep, p->etp, p->dp, p->pp, p->vpp,
             p->sequence_parallel, p->distributed_optimizer, sc->micro_batch_size, sc->seq_length,
             m->num_layers, m->num_attention_heads, m->num_query_groups, m->num_experts,
             m->moe_router_topk, tdm_routing_model_name(sc->routing.model),
             sc->routing.capacity_factor, sc->routing.pad_to_capacity,
             m->moe_shared_expert_intermediate_size, !m->untie_embeddings, m->add_bias_linear,
             m->attention == TDM_ATTENTION_UNFUSED, sc->training.recompute, m->hidden_dropout,
             m->attention_dropout);
}

/* Layouts with experts, and what these are. */
typedef struct tally {
    uint64_t experts, split, padded, both, dropping, padded_dropping;
} tally;

static bool drops(const tdm_plan *plan)
{
    const tdm_routing_table *t = &plan->routing;
    uint64_t pairs = 0, n = (uint64_t)t->n_replicas * t->n_layers * t->n_microbatches;
    for (uint64_t i = 0; i < n * t->n_experts; i++)
        pairs += t->experts[i];
    uint64_t tokens = (uint64_t)plan->micro_batch_size * plan->seq_length * plan->mesh.dp;
    return pairs < tokens * plan->model.moe_router_topk * plan->num_microbatches *
                       tdm_model_n_expert_layers(&plan->model);
}

static void count(tdm_arena *arena, const tdm_scenario *sc, tally *t)
{
    if (sc->model.num_experts == 0)
        return;
    tdm_plan plan = support_plan(arena, sc);
    bool split = sc->parallel.etp > 1, padded = sc->routing.pad_to_capacity,
         dropping = drops(&plan);
    t->experts++;
    t->split += split;
    t->padded += padded;
    t->both += split && padded;
    t->dropping += dropping;
    t->padded_dropping += padded && dropping;
}

static void test_random_layouts(void **state)
{
    (void)state;
    tally t = {0};
    for (uint64_t i = 0; i < n_layouts; i++) {
        tdm_arena arena = {0};
        tdm_scenario sc;
        char what[512];
        draw_scenario(&arena, first_seed + i, &sc, what, sizeof what);
        host_compare(what, &sc, i % 2 ? TDM_EXEC_CHECKED : TDM_EXEC_APART);
        count(&arena, &sc, &t);
        tdm_arena_free(&arena);
    }
    print_message("%" PRIu64 " layouts, %" PRIu64 " with experts: %" PRIu64 " split, %" PRIu64
                  " padded, %" PRIu64 " both; %" PRIu64 " drop, %" PRIu64 " of them padded\n",
                  n_layouts, t.experts, t.split, t.padded, t.both, t.dropping, t.padded_dropping);
    if (n_layouts < N_LAYOUTS)
        return; /* asked for a few */
    assert_true(4 * t.experts > n_layouts && 5 * t.split > t.experts && 5 * t.padded > t.experts);
    assert_true(10 * t.both > t.experts && 5 * t.dropping > t.experts);
    assert_true(10 * t.padded_dropping > t.experts);
}

/* ---- faults are found ---- */

/* One weight of one rank another by a little: replicas differ, and so do gradients. */
static void disturb(void *context, const tdm_plan *plan, uint32_t rank, float *weights)
{
    (void)plan;
    (void)context;
    if (rank == 1)
        weights[0] += 1e-2F;
}

/* A run is repeated bit by bit, and a changed weight changes it. */
static void test_repeats(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    host_outcome once, again, other;
    tdm_scenario sc = support_scenario(
        &arena, &(support_spec){.tp = 2, .pp = 2, .dp = 2, .hidden = 32, .seq = 8, .clip = true});
    make_small(&sc);
    host_run(&arena, "once", &sc, TDM_EXEC_ARENA, HOST_STEPS, NULL, NULL, NULL, &once);
    host_run(&arena, "again", &sc, TDM_EXEC_APART, HOST_STEPS, NULL, NULL, NULL, &again);
    host_run(&arena, "other", &sc, TDM_EXEC_ARENA, HOST_STEPS, NULL, disturb, NULL, &other);
    for (int i = 0; i < HOST_STEPS; i++) {
        assert_memory_equal(&once.loss[i], &again.loss[i], sizeof once.loss[i]);
        assert_memory_equal(&once.grad_norm[i], &again.grad_norm[i], sizeof once.grad_norm[i]);
        assert_true(once.loss[i] < other.loss[i] || once.loss[i] > other.loss[i]);
    }
    assert_true(once.grad_norm[0] > 0);
    tdm_arena_free(&arena);
}

int main(int argc, char **argv)
{
    if (tdm_host_absent()) {
        printf("skipped: %s\n", tdm_host_absent());
        return 77;
    }
    if (argc > 1)
        n_layouts = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest random_only[] = {cmocka_unit_test(test_random_layouts)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_specs),
        cmocka_unit_test(test_all_schedules),
        cmocka_unit_test(test_random_layouts),
        cmocka_unit_test(test_repeats),
    };
    return argc > 1 ? cmocka_run_group_tests(random_only, NULL, NULL)
                    : cmocka_run_group_tests(tests, NULL, NULL);
}
