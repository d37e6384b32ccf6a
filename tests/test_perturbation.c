/* test_perturbation.c: what slower GPUs and links, noise and stragglers must and must not do. */
#include "core/figures.h"
#include "core/perturbation.h"
#include "core/plan_text.h"
#include "sim/sim.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_random.h"
#include "tests/support_rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_trace ride_at(tdm_arena *arena, const tdm_plan *plan, const tdm_scenario *sc,
                         uint32_t repetition, bool sim)
{
    tdm_machine machine = tdm_machine_of(arena, sc, repetition);
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_trace trace = {0};
    tdm_code code = sim ? tdm_sim_run(arena, plan, &machine, NULL, &trace, err)
                        : tdm_analytic_run(arena, plan, &machine, &trace, err);
    if (code != TDM_OK)
        fail_msg("%s", err->text);
    return trace;
}

static tdm_trace ride(tdm_arena *arena, const tdm_plan *plan, const tdm_scenario *sc)
{
    return ride_at(arena, plan, sc, 0, false);
}

static double end_s(const tdm_trace *trace)
{
    double latest_s = 0;
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++)
        for (uint32_t i = 0; i < trace->ranks[rank].n_ops; i++)
            latest_s = fmax(latest_s, trace->ranks[rank].spans[i].end_s);
    return latest_s;
}

static void near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

static void check_same(const tdm_trace *a, const tdm_trace *b)
{
    assert_int_equal(a->n_ranks, b->n_ranks);
    for (uint32_t rank = 0; rank < a->n_ranks; rank++)
        assert_memory_equal(a->ranks[rank].spans, b->ranks[rank].spans,
                            a->ranks[rank].n_ops * sizeof(tdm_span));
}

static bool is_same(const tdm_trace *a, const tdm_trace *b)
{
    for (uint32_t rank = 0; rank < a->n_ranks; rank++)
        if (memcmp(a->ranks[rank].spans, b->ranks[rank].spans,
                   a->ranks[rank].n_ops * sizeof(tdm_span)) != 0)
            return false;
    return true;
}

/* ---- what changes nothing ---- */

/* Speeds and bandwidths of 100 %, stragglers that are as fast as the others: equal to the bit. */
static void test_factors_of_one(void **state)
{
    (void)state;
    static const tdm_gpu_speed speed = {0, 15, 1};
    static const tdm_link_change change = {"*", 1, 0};
    for (size_t i = 0; i < support_n_specs; i++)
        for (int sim = 0; sim < (tdm_sim_missing() ? 1 : 2); sim++) {
            tdm_arena arena = {0};
            tdm_scenario sc = support_scenario(&arena, &support_specs[i]), same = sc;
            same.perturbation = (tdm_perturbation){.speeds = &speed,
                                                   .n_speeds = 1,
                                                   .changes = &change,
                                                   .n_changes = 1,
                                                   .straggler_probability = 1,
                                                   .straggler_slowdown = 1};
            tdm_plan plan = support_plan(&arena, &sc);
            tdm_trace a = ride_at(&arena, &plan, &sc, 0, sim),
                      b = ride_at(&arena, &plan, &same, 0, sim);
            check_same(&a, &b);
            tdm_arena_free(&arena);
        }
}

/* The plan does not know of it. */
static void test_plan_stays(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2, .pp = 2});
    tdm_plan before = support_plan(&arena, &sc);
    sc.perturbation = (tdm_perturbation){.compute_jitter = 0.1, .straggler_slowdown = 2};
    tdm_plan after = support_plan(&arena, &sc);
    assert_true(tdm_plan_hash(&before) == tdm_plan_hash(&after));
    tdm_arena_free(&arena);
}

/* ---- closed forms ---- */

/* Half the speed is twice the time, exactly, where only kernels take time. */
static void test_half_speed(void **state)
{
    (void)state;
    static const tdm_gpu_speed half = {0, 7, 0.5};
    for (uint32_t s = 0; tdm_schedules[s]; s++) {
        tdm_arena arena = {0};
        tdm_scenario sc =
            support_pass_times(&arena, 4, 9, tdm_schedules[s]->name, 5e-3, 7e-3, 3e-3, 0);
        if (support_suit(&sc)) {
            tdm_plan plan = support_plan(&arena, &sc);
            tdm_trace full = ride(&arena, &plan, &sc);
            sc.perturbation = (tdm_perturbation){.speeds = &half, .n_speeds = 1};
            tdm_trace slow = ride(&arena, &plan, &sc);
            assert_true(end_s(&full) > 0);
            near(end_s(&slow), 2 * end_s(&full), 0);
        }
        tdm_arena_free(&arena);
    }
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){0});
    sc.device.launch_s.value = 0;
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_trace full = ride(&arena, &plan, &sc);
    sc.perturbation = (tdm_perturbation){.speeds = &half, .n_speeds = 1};
    tdm_trace slow = ride(&arena, &plan, &sc);
    near(end_s(&slow), 2 * end_s(&full), 0);
    tdm_arena_free(&arena);
}

/* Identical jobs through a line of machines: the sum over the machines, and the longest of them for
 * every further job. One straggler anywhere makes its stage the longest. */
static void test_straggler_in_a_line(void **state)
{
    (void)state;
    const double f_s = 4e-3, b_s = 7e-3;
    uint32_t n_seen = 0, seen[5] = {0};
    for (uint32_t repetition = 0; repetition < 40; repetition++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_pass_times(&arena, 5, 6, "gpipe", f_s, b_s, 0, 0);
        sc.perturbation =
            (tdm_perturbation){.n_stragglers = 1, .straggler_slowdown = 1.5, .straggler_seed = 3};
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_trace trace = ride_at(&arena, &plan, &sc, repetition, false);
        near(end_s(&trace), (f_s + b_s) * (4 + 1.5 + 5 * 1.5), 1e-12);
        tdm_machine machine = tdm_machine_of(&arena, &sc, repetition);
        for (uint32_t s = 0; s < 5; s++)
            n_seen += machine.perturbed->straggling[s] && seen[s]++ == 0;
        tdm_arena_free(&arena);
    }
    assert_int_equal(n_seen, 5);
}

/* A slow stage in 1F1B is never idle between its first and its last pass: it works m x T, and a
 * microbatch crosses the stages above it before that, forward, and after it, backward. */
static void test_slow_stage_in_1f1b(void **state)
{
    (void)state;
    const double t_s = 10e-3, x = 3;
    for (uint32_t s = 0; s < 4; s++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_pass_times(&arena, 4, 12, "1f1b", 4e-3, 6e-3, 0, 0);
        const tdm_gpu_speed slow = {s, s, 1 / x};
        sc.perturbation = (tdm_perturbation){.speeds = &slow, .n_speeds = 1};
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_trace trace = ride(&arena, &plan, &sc);
        near(end_s(&trace), 12 * x * t_s + s * t_s, 1e-12);
        tdm_arena_free(&arena);
    }
}

/* Links with half the bandwidth take twice the time for the bytes; latency is added once per link
 * of the worst pair, whoever is member 0. */
static void test_degraded_links(void **state)
{
    (void)state;
    const tdm_link_change changes[] = {{"*-2", 0.5, 0}, {"*-2", 1, 4e-6}};
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(
        &arena, &(support_spec){.tp = 4, .ep = 4, .experts = 4, .topk = 2, .balanced = true});
    tdm_plan plan = support_plan(&arena, &sc);
    sc.perturbation = (tdm_perturbation){.changes = changes, .n_changes = 1};
    tdm_machine half = tdm_machine_of(&arena, &sc, 0);
    sc.perturbation.changes = changes + 1;
    tdm_machine later = tdm_machine_of(&arena, &sc, 0);
    assert_true(later.topology->uneven_latency && !half.topology->uneven_latency);
    tdm_net *net = tdm_net_new(&arena, &sc.topology),
            *half_net = tdm_net_new(&arena, half.topology),
            *later_net = tdm_net_new(&arena, later.topology);
    uint32_t n_rings = 0, n_a2a = 0;
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, &plan, 0);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        if (!tdm_op_is_collective(in.op->kind) || in.op->u.collective.group == TDM_GROUP_DP)
            continue;
        tdm_transfer was = tdm_comm_transfer(&plan, net, 0, &in);
        if (was.n_loads == 0)
            continue;
        double bytes_s = tdm_net_time(&arena, net, was.loads, was.n_loads), was_s = was.latency_s;
        tdm_transfer slow = tdm_comm_transfer(&plan, half_net, 0, &in);
        near(tdm_net_time(&arena, half_net, slow.loads, slow.n_loads), 2 * bytes_s, 1e-12);
        near(slow.latency_s, was_s, 0);
        double later_s = tdm_comm_transfer(&plan, later_net, 0, &in).latency_s;
        if (in.op->kind == TDM_OP_ALL_TO_ALL) {
            near(later_s - was_s, 4e-6, 1e-9);
            n_a2a++;
        } else { /* round the ring: into GPU 2 and out of it, each lap but for its least edge */
            near(later_s - was_s, (in.op->kind == TDM_OP_ALL_REDUCE ? 2 : 1) * 2 * 4e-6, 1e-9);
            n_rings++;
        }
    }
    assert_true(n_rings > 0 && n_a2a > 0);
    tdm_arena_free(&arena);
}

static void test_link_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *link;
        bool fits;
    } cases[] = {
        {"gpu-3-nvlink-up", "gpu-3-nvlink-up", true},
        {"gpu-3-nvlink-up", "gpu-3-nvlink-down", false},
        {"gpu-3", "gpu-3-nic-down", true},
        {"gpu-3", "gpu-30-nic-down", false},
        {"gpu-3-nic", "gpu-3-nic-down", true},
        {"gpu-3-n", "gpu-3-nic-down", false},
        {"gpu-3*", "gpu-30-nic-down", true},
        {"*", "socket-0-up", true},
        {"*-up", "socket-0-up", true},
        {"*-up", "socket-0-upper", false},
        {"gpu-?-*", "gpu-3-nic-down", true},
        {"gpu-?-*", "gpu-13-nic-down", false},
        {"gpu-*-nic-*", "gpu-13-nic-down", true},
        {"gpu-*-nic-*", "gpu-13-nvlink-down", false},
        {"*n*n*", "gpu-13-nic-down", true},
        {"", "gpu-13-nic-down", false},
        {"gpu", "gpu-13-nic-down", true},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++)
        if (tdm_link_is_named(cases[i].name, cases[i].link) != cases[i].fits)
            fail_msg("'%s' and %s", cases[i].name, cases[i].link);
}

/* ---- laws ---- */

/* Order is fixed by streams and communicators, so ends are a monotone function of the durations:
 * slower kernels and longer latencies delay. Bandwidth is left alone: where the flows of one op
 * share a link, less of it for one of them may help the others. */
static void test_slower_is_never_earlier(void **state)
{
    (void)state;
    uint64_t random = 11;
    for (uint64_t seed = 1; seed <= 25; seed++) {
        tdm_arena arena = {0};
        random_scenario *r = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, r);
        tdm_scenario slow = r->scenario;
        tdm_plan plan = support_plan(&arena, &slow);
        tdm_perturbation *p = &slow.perturbation;
        uint32_t gpu = edit_random(&random, plan.mesh.world);
        tdm_gpu_speed speeds[4] = {
            {gpu, gpu + edit_random(&random, 3), 0.5 + random_share(&random) / 2}};
        tdm_link_change changes[4] = {{"*up", 1, 1e-5 * random_share(&random)}};
        for (uint32_t i = 0; i < p->n_speeds; i++)
            speeds[i + 1] = p->speeds[i];
        for (uint32_t i = 0; i < p->n_changes; i++)
            changes[i + 1] = p->changes[i];
        p->speeds = speeds;
        p->n_speeds++;
        p->changes = changes;
        p->n_changes++;
        tdm_trace before = ride(&arena, &plan, &r->scenario), after = ride(&arena, &plan, &slow);
        for (uint32_t rank = 0; rank < before.n_ranks; rank++)
            for (uint32_t i = 0; i < before.ranks[rank].n_ops; i++) {
                tdm_span a = before.ranks[rank].spans[i], b = after.ranks[rank].spans[i];
                RULE(r->text,
                     b.start_s >= a.start_s * (1 - 1e-12) && b.end_s >= a.end_s * (1 - 1e-12),
                     "rank %u op %u: %.17g to %.17g before %.17g to %.17g\n", rank, i, b.start_s,
                     b.end_s, a.start_s, a.end_s);
            }
        tdm_arena_free(&arena);
    }
}

/* ---- chance ---- */

/* Whatever is estimated lies within five standard errors: once in two million by chance. */
static void within(double estimate, double expected, double standard_error)
{
    if (!(fabs(estimate - expected) <= 5 * standard_error))
        fail_msg("%.17g is not %.17g to 5 x %.3g", estimate, expected, standard_error);
}

static void test_jitter_moments(void **state)
{
    (void)state;
    enum { N_RANKS = 20, N_OPS = 5000, N = N_RANKS * N_OPS };
    const double variation = 0.1;
    double stretch[N_RANKS];
    for (uint32_t g = 0; g < N_RANKS; g++)
        stretch[g] = 1;
    const tdm_perturbed p = {.n_gpus = N_RANKS,
                             .stretch = stretch,
                             .compute_jitter = variation,
                             .communication_jitter = variation,
                             .jitter_seed = 7};
    double sum[2] = {0}, squares[2] = {0}, neighbours = 0, ranks = 0, kinds = 0;
    for (uint32_t rank = 0; rank < N_RANKS; rank++)
        for (uint32_t op = 0; op < N_OPS; op++) {
            double x = tdm_perturbed_kernel(&p, rank, op) - 1;
            double y = tdm_perturbed_latency(&p, rank, op) - 1;
            sum[0] += x;
            squares[0] += x * x;
            sum[1] += y;
            squares[1] += y * y;
            neighbours += x * (tdm_perturbed_kernel(&p, rank, op + 1) - 1);
            ranks += x * (tdm_perturbed_kernel(&p, (rank + 1) % N_RANKS, op) - 1);
            kinds += x * y;
        }
    /* Of a lognormal: fourth moment over the squared variance, w = 1 + variation^2. */
    double w = 1 + variation * variation, kurtosis = pow(w, 4) + 2 * pow(w, 3) + 3 * w * w - 3;
    double variance = variation * variation;
    for (int i = 0; i < 2; i++) {
        within(sum[i] / N, 0, variation / sqrt(N));
        within(squares[i] / N, variance, variance * sqrt((kurtosis - 1) / N));
    }
    within(neighbours / N, 0, variance / sqrt(N));
    within(ranks / N, 0, variance / sqrt(N));
    within(kinds / N, 0, variance / sqrt(N));
}

/* The same draws again for the same repetition; others for another repetition and another seed. */
static void test_draws_are_functions(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2, .pp = 2}), other = sc;
    sc.perturbation = (tdm_perturbation){.compute_jitter = 0.05, .jitter_seed = 7};
    other.perturbation = (tdm_perturbation){.compute_jitter = 0.05, .jitter_seed = 8};
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_trace first = ride_at(&arena, &plan, &sc, 0, false),
              again = ride_at(&arena, &plan, &sc, 0, false),
              next = ride_at(&arena, &plan, &sc, 1, false),
              seeded = ride_at(&arena, &plan, &other, 0, false);
    check_same(&first, &again);
    assert_false(is_same(&first, &next));
    assert_false(is_same(&first, &seeded));
    tdm_arena_free(&arena);
}

static void test_straggler_frequencies(void **state)
{
    (void)state;
    enum { N_GPUS = 16, N = 4000, COUNT = 3 };
    const double share = 0.05, chosen = COUNT / (double)N_GPUS;
    const tdm_perturbation likely = {
        .straggler_probability = share, .straggler_slowdown = 2, .straggler_seed = 5};
    const tdm_perturbation counted = {
        .n_stragglers = COUNT, .straggler_slowdown = 2, .straggler_seed = 5};
    double n_likely = 0, n_of[N_GPUS] = {0};
    for (uint32_t repetition = 0; repetition < N; repetition++) {
        tdm_arena arena = {0};
        tdm_perturbed a = tdm_perturbation_draw(&arena, &likely, N_GPUS, repetition);
        tdm_perturbed b = tdm_perturbation_draw(&arena, &counted, N_GPUS, repetition);
        uint32_t n = 0;
        for (uint32_t g = 0; g < N_GPUS; g++) {
            near(a.stretch[g], a.straggling[g] ? 2 : 1, 0);
            n_likely += a.straggling[g];
            n_of[g] += b.straggling[g];
            n += b.straggling[g];
        }
        assert_int_equal(n, COUNT);
        tdm_arena_free(&arena);
    }
    within(n_likely / (N * N_GPUS), share, sqrt(share * (1 - share) / (N * N_GPUS)));
    for (uint32_t g = 0; g < N_GPUS; g++)
        within(n_of[g] / N, chosen, sqrt(chosen * (1 - chosen) / N));
}

static void test_what_is_random(void **state)
{
    (void)state;
    static const tdm_gpu_speed speed = {0, 0, 0.5};
    const struct {
        tdm_perturbation p;
        bool given, random;
    } cases[] = {
        {{0}, false, false},
        {{.speeds = &speed, .n_speeds = 1}, true, false},
        {{.compute_jitter = 0.1}, true, true},
        {{.communication_jitter = 0.1}, true, true},
        {{.straggler_slowdown = 2, .straggler_probability = 0.1}, true, true},
        {{.straggler_slowdown = 2, .straggler_probability = 1}, true, false},
        {{.straggler_slowdown = 1, .straggler_probability = 0.1}, true, false},
        {{.straggler_slowdown = 2, .n_stragglers = 1}, true, true},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        assert_int_equal(tdm_perturbation_is_given(&cases[i].p), cases[i].given);
        assert_int_equal(tdm_perturbation_is_random(&cases[i].p), cases[i].random);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factors_of_one),
        cmocka_unit_test(test_plan_stays),
        cmocka_unit_test(test_half_speed),
        cmocka_unit_test(test_straggler_in_a_line),
        cmocka_unit_test(test_slow_stage_in_1f1b),
        cmocka_unit_test(test_degraded_links),
        cmocka_unit_test(test_link_names),
        cmocka_unit_test(test_slower_is_never_earlier),
        cmocka_unit_test(test_jitter_moments),
        cmocka_unit_test(test_draws_are_functions),
        cmocka_unit_test(test_straggler_frequencies),
        cmocka_unit_test(test_what_is_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
