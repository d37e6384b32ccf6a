/* test_laws.c: laws that hold between two runs: better machines and shorter ops never slow a step,
 * schedules keep their order, layouts share out the same work. On random scenarios. */
#include "core/figures.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_random.h"
#include "tests/support_rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Builds with assertions are slow ones. */
#ifdef NDEBUG
enum { N_ROUNDS = 150 };
#else
enum { N_ROUNDS = 25 };
#endif

static const double ROUNDING = 1e-12;

static tdm_trace ride(tdm_arena *arena, const char *what, const tdm_plan *plan,
                      const tdm_scenario *sc)
{
    tdm_machine machine = tdm_machine_of(arena, sc, 0);
    tdm_trace trace = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    RULE(what, tdm_analytic_run(arena, plan, &machine, &trace, err) == TDM_OK, "%s", err->text);
    return trace;
}

static tdm_figures measure(tdm_arena *arena, const char *what, const tdm_scenario *sc)
{
    tdm_plan plan = support_plan(arena, sc);
    tdm_trace trace = ride(arena, what, &plan, sc);
    tdm_figures figures;
    RULE(what, tdm_figures_compute(arena, &plan, &trace, NULL, NULL, &figures, NULL) == TDM_OK,
         "no figures\n");
    return figures;
}

static void check_never_later(const char *what, const tdm_trace *trace, const tdm_trace *limit)
{
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++)
        for (uint32_t i = 0; i < trace->ranks[rank].n_ops; i++) {
            tdm_span a = trace->ranks[rank].spans[i], b = limit->ranks[rank].spans[i];
            RULE(what,
                 a.start_s <= b.start_s * (1 + ROUNDING) && a.end_s <= b.end_s * (1 + ROUNDING),
                 "rank %u op %u: %.17g to %.17g after %.17g to %.17g\n", rank, i, a.start_s,
                 a.end_s, b.start_s, b.end_s);
        }
}

/* ---- better machines ---- */

static tdm_topology better_links(tdm_arena *arena, const tdm_topology *topology)
{
    tdm_topology better = *topology;
    tdm_link *links = TDM_ALLOC(arena, tdm_link, topology->n_links);
    for (uint32_t l = 0; l < topology->n_links; l++) {
        links[l] = topology->links[l];
        links[l].bytes_per_s *= 2;
        links[l].latency_s /= 2;
    }
    better.links = links;
    return better;
}

static void better_device(uint64_t *state, tdm_device *device)
{
    tdm_value *slower[] = {&device->launch_s, &device->kernel_floor_s};
    tdm_value *faster[] = {&device->memory_bytes_per_s,   &device->gemm_efficiency,
                           &device->attention_efficiency, &device->attention_backward_efficiency,
                           &device->memory_efficiency,    &device->grouped_gemm_efficiency};
    for (size_t i = 0; i < TDM_COUNT(slower); i++)
        slower[i]->value *= random_share(state);
    for (size_t i = 0; i < TDM_COUNT(faster); i++)
        faster[i]->value *= 1 + random_share(state) / 8;
}

static void test_better_machines_are_no_slower(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= N_ROUNDS; seed++) {
        tdm_arena arena = {0};
        uint64_t random = seed;
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        tdm_plan plan = support_plan(&arena, &r->scenario);
        tdm_trace before = ride(&arena, r->text, &plan, &r->scenario);
        tdm_scenario linked = r->scenario, both;
        linked.topology = better_links(&arena, &r->scenario.topology);
        tdm_trace after = ride(&arena, r->text, &plan, &linked);
        check_never_later(r->text, &after, &before);
        both = linked;
        better_device(&random, &both.device);
        tdm_trace last = ride(&arena, r->text, &plan, &both);
        check_never_later(r->text, &last, &after);
        tdm_arena_free(&arena);
    }
}

/* ---- shorter ops ---- */

static bool halve(tdm_op *op)
{
    switch (op->kind) {
    case TDM_OP_GEMM:
        op->u.gemm.m = tdm_ceil_div(op->u.gemm.m, 2);
        return true;
    case TDM_OP_MEMORY:
        op->u.memory.bytes.fixed /= 2;
        op->u.memory.bytes.per_token /= 2;
        return true;
    case TDM_OP_TIMED:
        op->u.timed.seconds /= 2;
        return true;
    case TDM_OP_ALL_REDUCE:
    case TDM_OP_ALL_GATHER:
    case TDM_OP_REDUCE_SCATTER:
    case TDM_OP_ALL_TO_ALL:
        op->u.collective.bytes /= 2;
        op->u.collective.token_bytes /= 2;
        return true;
    default:
        return false;
    }
}

/* Halves one op of a kind that has some. */
static void halve_one(uint64_t *random, const tdm_plan *copy)
{
    for (;;) {
        const tdm_kind *kind = &copy->kinds[edit_random(random, copy->n_kinds)];
        const tdm_template *t = &kind->templates[edit_random(random, TDM_N_PASS_KINDS)];
        if (t->n_ops > 0 && halve((tdm_op *)(uintptr_t)&t->ops[edit_random(random, t->n_ops)]))
            return;
    }
}

static void test_shorter_ops_are_no_slower(void **state)
{
    (void)state;
    for (uint64_t seed = 1001; seed <= 1000 + N_ROUNDS; seed++) {
        tdm_arena arena = {0};
        uint64_t random = seed;
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        tdm_plan plan = support_plan(&arena, &r->scenario);
        tdm_trace before = ride(&arena, r->text, &plan, &r->scenario);
        for (uint32_t i = 0; i < 4; i++) {
            tdm_plan copy = edit_copy(&arena, &plan);
            halve_one(&random, &copy);
            tdm_trace after = ride(&arena, r->text, &copy, &r->scenario);
            check_never_later(r->text, &after, &before);
        }
        tdm_arena_free(&arena);
    }
}

/* Backward does two and a half times the products of forward: four of its own for two, and the
 * scores again. Source: Dao 2023, FlashAttention-2, section 3.1. */
static void test_attention_backward(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.seq = 256});
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_device *device = &sc.device;
    device->memory_bytes_per_s.value = 1e30; /* bound by products */
    device->kernel_floor_s.value = 0;
    double forward_s = tdm_cost_op(device, &plan, edit_op(&plan, 0, "attention"), 0);
    double backward_s = tdm_cost_op(device, &plan, edit_op(&plan, 0, "attention.bwd"), 0);
    assert_true(forward_s > 0);
    assert_true(fabs(backward_s * device->attention_backward_efficiency.value -
                     2.5 * forward_s * device->attention_efficiency.value) <=
                ROUNDING * backward_s);
    tdm_arena_free(&arena);
}

/* ---- pipelines ---- */

/* Pass times of some milliseconds, different on every stage, or the same on all. */
static tdm_scenario random_pipeline(tdm_arena *arena, uint64_t *random, const char *schedule,
                                    bool equal)
{
    uint32_t p = 1 + edit_random(random, 10), m = 1 + edit_random(random, 24);
    tdm_scenario sc = support_pass_times(arena, p, m, schedule, 0, 0, 0, 0);
    double *times_s = TDM_ALLOC(arena, double, 3 * p);
    for (uint32_t i = 0; i < 3 * p; i++)
        times_s[i] = equal && i % p > 0 ? times_s[i - i % p] : 1e-3 + 1e-2 * random_share(random);
    sc.pass_times.forward_s = times_s;
    sc.pass_times.backward_input_s = times_s + p;
    sc.pass_times.backward_weight_s = times_s + 2 * p;
    return sc;
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= ROUNDING * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* Identical jobs through a line of machines: the sum over the machines and the longest of them for
 * every further job, in whatever order the machines stand. gpipe runs the line forward, then back.
 */
static void test_flow_line(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (uint32_t round = 0; round < 4 * N_ROUNDS; round++) {
        tdm_arena arena = {0};
        bool back = edit_random(&random, 2) == 1;
        tdm_scenario sc = random_pipeline(&arena, &random, back ? "gpipe" : "forward-only", false);
        double sum_s[2] = {0}, most_s[2] = {0};
        for (uint32_t s = 0; s < sc.parallel.pp; s++) {
            double pass_s[2] = {
                sc.pass_times.forward_s[s],
                back ? sc.pass_times.backward_input_s[s] + sc.pass_times.backward_weight_s[s] : 0};
            for (int k = 0; k < 2; k++) {
                sum_s[k] += pass_s[k];
                most_s[k] = fmax(most_s[k], pass_s[k]);
            }
        }
        double expected = sum_s[0] + sum_s[1] + (sc.num_microbatches - 1) * (most_s[0] + most_s[1]);
        near(measure(&arena, "flow line", &sc).step_time_s, expected);
        tdm_arena_free(&arena);
    }
}

/* Transfers three times as long as passes: a stage may start a pass while the sends of the two
 * passes before it are under way, not a third; the receiver has posted its receives in time. */
static void test_two_transfers_ahead(void **state)
{
    (void)state;
    enum { M = 9 };
    tdm_arena arena = {0};
    tdm_scenario sc = support_pass_times(&arena, 2, M, "forward-only", 1, 0, 0, 3);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_trace trace = ride(&arena, "two stages", &plan, &sc);
    uint32_t n_passes[2] = {0}, n_sends = 0;
    tdm_cursor cursor;
    for (uint32_t rank = 0; rank < 2; rank++) {
        tdm_cursor_init(&cursor, &plan, rank);
        for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
            tdm_span span = trace.ranks[rank].spans[in.index];
            if (in.op->kind == TDM_OP_SEND)
                near(span.end_s, 1 + 3 * (1 + n_sends++));
            if (in.op->kind != TDM_OP_TIMED)
                continue;
            uint32_t k = n_passes[rank]++;
            near(span.start_s, rank == 1 ? 1 + 3 * (k + 1) : k < 3 ? k : 1 + 3 * (k - 2));
        }
    }
    assert_int_equal(n_sends, M);
    assert_int_equal(n_passes[0], M);
    assert_int_equal(n_passes[1], M);
    tdm_arena_free(&arena);
}

/* With free transfers. Where they take time, every second microbatch may cost more than the one
 * before it. */
static void test_more_microbatches_never_raise_the_bubble(void **state)
{
    (void)state;
    uint64_t random = 6;
    for (uint32_t round = 0; round < 4 * N_ROUNDS; round++) {
        tdm_arena arena = {0};
        tdm_scenario sc = random_pipeline(&arena, &random, "1f1b", edit_random(&random, 2) == 1);
        double bubble = 1;
        for (sc.num_microbatches = 1; sc.num_microbatches <= 14; sc.num_microbatches++) {
            double next = measure(&arena, "microbatches", &sc).bubble_fraction;
            if (next > bubble + ROUNDING)
                fail_msg("p %u: bubble %.17g with %u microbatches, %.17g before", sc.parallel.pp,
                         next, sc.num_microbatches, bubble);
            bubble = next;
        }
        tdm_arena_free(&arena);
    }
}

/* With equal stages and free transfers: splitting off W, and running ahead, can only help; gpipe
 * takes as long as 1f1b. */
static void test_order_of_schedules(void **state)
{
    (void)state;
    uint64_t random = 7;
    for (uint32_t round = 0; round < 4 * N_ROUNDS; round++) {
        tdm_arena arena = {0};
        tdm_scenario sc = random_pipeline(&arena, &random, "1f1b", true);
        tdm_figures one = measure(&arena, "1f1b", &sc);
        sc.schedule = "gpipe";
        near(measure(&arena, "gpipe", &sc).step_time_s, one.step_time_s);
        static const char *const split[] = {"zb-h1", "zb-h2"};
        for (size_t i = 0; i < TDM_COUNT(split); i++) {
            sc.schedule = split[i];
            tdm_figures zb = measure(&arena, split[i], &sc);
            if (zb.step_time_s > one.step_time_s * (1 + ROUNDING) ||
                zb.bubble_fraction > one.bubble_fraction + ROUNDING)
                fail_msg("p %u m %u, F %g B %g W %g: %s takes %.17g, bubble %.17g; 1f1b %.17g, "
                         "%.17g",
                         sc.parallel.pp, sc.num_microbatches, sc.pass_times.forward_s[0],
                         sc.pass_times.backward_input_s[0], sc.pass_times.backward_weight_s[0],
                         split[i], zb.step_time_s, zb.bubble_fraction, one.step_time_s,
                         one.bubble_fraction);
        }
        tdm_arena_free(&arena);
    }
}

/* ---- the same work ---- */

static void test_forward_is_part_of_the_step(void **state)
{
    (void)state;
    for (uint64_t seed = 2001; seed <= 2000 + N_ROUNDS; seed++) {
        tdm_arena arena = {0};
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        r->scenario.perturbation.compute_jitter = 0; /* it draws anew for another plan */
        r->scenario.perturbation.communication_jitter = 0;
        double step_s = measure(&arena, r->text, &r->scenario).step_time_s;
        r->scenario.schedule = "forward-only";
        r->scenario.num_microbatches = 1;
        double forward_s = measure(&arena, r->text, &r->scenario).step_time_s;
        RULE(r->text, forward_s <= step_s * (1 + ROUNDING), "%.17g of %.17g\n", forward_s, step_s);
        tdm_arena_free(&arena);
    }
}

/* What all ranks do together, independent of how it is shared out. */
typedef struct work {
    double product_flops; /* of products whose rows or columns TP cuts, forward, no repetition */
    double attention_flops, expert_flops;
    uint64_t pairs[64][64]; /* [layer][expert] */
} work;

static void add_rank(const tdm_plan *plan, uint32_t rank, work *w)
{
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        if (in.op->recompute || in.pass.kind == TDM_PASS_O)
            continue;
        double flops = tdm_op_flops(plan, rank, &in);
        if (in.op->kind == TDM_OP_GROUPED_GEMM)
            w->expert_flops += flops;
        else if (in.op->kind == TDM_OP_ATTENTION || in.op->kind == TDM_OP_ATTENTION_BACKWARD)
            w->attention_flops += flops;
        else if (strncmp(in.op->name, "router", 6) != 0)
            w->product_flops += flops;
    }
}

static work *work_of(tdm_arena *arena, const tdm_scenario *sc)
{
    tdm_plan plan = support_plan(arena, sc);
    work *w = TDM_ALLOC(arena, work, 1);
    for (uint32_t rank = 0; rank < plan.mesh.world; rank++)
        add_rank(&plan, rank, w);
    const tdm_routing_table *t = &plan.routing;
    for (uint32_t rank = 0; rank < plan.mesh.per_stage && t->n_layers > 0; rank++)
        for (uint32_t layer = 0; layer < t->n_layers; layer++)
            for (uint32_t mb = 0; mb < t->n_microbatches; mb++)
                for (uint32_t e = 0; e < t->n_experts; e++)
                    if (tdm_mesh_group(&plan.mesh, TDM_GROUP_EP, rank).rank0 == rank)
                        w->pairs[layer][e] += tdm_plan_experts(&plan, rank, layer, mb)[e];
    return w;
}

/* The same global batch on one rank: the same products, and the same pairs for every expert. Not of
 * experts that are padded to their capacity: that is each rank's own. */
static void test_layouts_share_out_the_same_work(void **state)
{
    (void)state;
    uint32_t n_compared = 0;
    for (uint64_t seed = 3001; seed <= 3000 + N_ROUNDS; seed++) {
        tdm_arena arena = {0};
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        r->scenario.routing.pad_to_capacity = false;
        tdm_scenario one = r->scenario;
        if (!one.pass_times.given && one.model.num_layers <= 64) {
            const work *w = work_of(&arena, &r->scenario);
            one.num_microbatches *= one.parallel.dp;
            one.parallel = (tdm_parallel){1, 1, 1, 1, 1, 1, 1, false, false};
            one.stage_layers = NULL;
            if (one.training.train)
                one.schedule = "1f1b";
            const work *whole = work_of(&arena, &one);
            near(w->product_flops, whole->product_flops);
            near(w->attention_flops, whole->attention_flops);
            near(w->expert_flops, whole->expert_flops);
            RULE(r->text, memcmp(w->pairs, whole->pairs, sizeof w->pairs) == 0, "pairs differ\n");
            n_compared++;
        }
        tdm_arena_free(&arena);
    }
    assert_true(n_compared > N_ROUNDS / 2);
}

/* Bytes at the worst moment of the worst rank. */
static uint64_t peak_of(tdm_arena *arena, const tdm_scenario *sc)
{
    tdm_plan plan = support_plan(arena, sc);
    uint64_t peak = 0;
    for (uint32_t rank = 0; rank < plan.mesh.world; rank++) {
        tdm_layout layout;
        assert_int_equal(tdm_layout_build(arena, &plan, rank, false, &layout, NULL), TDM_OK);
        peak = layout.live_peak_bytes > peak ? layout.live_peak_bytes : peak;
    }
    return peak;
}

/* gpipe holds every microbatch, 1f1b at most as many; ZeRO-1 cuts the optimizer's state. */
static void test_order_of_memory(void **state)
{
    (void)state;
    for (uint64_t seed = 4001; seed <= 4000 + N_ROUNDS; seed++) {
        tdm_arena arena = {0};
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        tdm_scenario sc = r->scenario;
        if (!sc.pass_times.given && sc.training.train && sc.parallel.vpp == 1) {
            sc.schedule = "gpipe";
            uint64_t all = peak_of(&arena, &sc);
            sc.schedule = "1f1b";
            uint64_t some = peak_of(&arena, &sc);
            RULE(r->text, some <= all, "1f1b %llu, gpipe %llu\n", (unsigned long long)some,
                 (unsigned long long)all);
            sc.parallel.distributed_optimizer = false;
            uint64_t whole = peak_of(&arena, &sc);
            sc.parallel.distributed_optimizer = true;
            uint64_t cut = peak_of(&arena, &sc);
            RULE(r->text, cut <= whole, "cut %llu, whole %llu\n", (unsigned long long)cut,
                 (unsigned long long)whole);
        }
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_better_machines_are_no_slower),
        cmocka_unit_test(test_shorter_ops_are_no_slower),
        cmocka_unit_test(test_attention_backward),
        cmocka_unit_test(test_flow_line),
        cmocka_unit_test(test_two_transfers_ahead),
        cmocka_unit_test(test_more_microbatches_never_raise_the_bubble),
        cmocka_unit_test(test_order_of_schedules),
        cmocka_unit_test(test_forward_is_part_of_the_step),
        cmocka_unit_test(test_layouts_share_out_the_same_work),
        cmocka_unit_test(test_order_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
