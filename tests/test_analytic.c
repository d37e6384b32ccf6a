/* test_analytic.c: the analytic engine against closed forms, and its traces against the plan's own
 * rules. */
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static tdm_trace run(tdm_arena *arena, const tdm_plan *plan, const tdm_scenario *scenario)
{
    tdm_machine machine = support_machine(scenario);
    tdm_trace trace = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    if (tdm_analytic_run(arena, plan, &machine, &trace, err) != TDM_OK)
        fail_msg("%s", err->text);
    return trace;
}

static double end_of(const tdm_trace *trace)
{
    double end = 0;
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++)
        for (uint32_t i = 0; i < trace->ranks[rank].n_ops; i++)
            end = fmax(end, trace->ranks[rank].spans[i].end_s);
    return end;
}

/* Without communication the step is (m + p - 1)(F + B + W) for 1f1b and gpipe: a bubble of
 * (p-1)/(m+p-1). Source: Narayanan et al. 2021, section 2.2. */
static void test_ideal_bubble(void **state)
{
    (void)state;
    static const char *const names[] = {"1f1b", "gpipe"};
    for (size_t i = 0; i < TDM_COUNT(names); i++)
        for (uint32_t p = 1; p <= 8; p *= 2)
            for (uint32_t m = p; m <= 32; m *= 2) {
                tdm_arena arena = {0};
                tdm_scenario sc = support_pass_times(&arena, p, m, names[i], 1.0, 1.0, 1.0, 0.0);
                tdm_plan plan = support_plan(&arena, &sc);
                tdm_trace trace = run(&arena, &plan, &sc);
                assert_true(end_of(&trace) == 3.0 * (m + p - 1));
                tdm_arena_free(&arena);
            }
}

/* zb-h1 with equal pass times: the bubble is (p-1)(F + B - 2W) with one W as long as a B or an F.
 * Source: Qi et al. 2024, table 2. */
static void test_zb_h1_bubble(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (uint32_t p = 2; p <= 8; p *= 2) {
        tdm_scenario sc = support_pass_times(&arena, p, 4 * p, "zb-h1", 1.0, 1.0, 1.0, 0.0);
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_trace trace = run(&arena, &plan, &sc);
        assert_true(end_of(&trace) == 3.0 * 4 * p + (p - 1));
    }
    tdm_arena_free(&arena);
}

/* v chunks per stage divide the bubble by v: (p-1)/(v m + p - 1) of the step, for m divisible by p.
 * Source: Narayanan et al. 2021, section 2.2. */
static void test_interleaved_bubble(void **state)
{
    (void)state;
    for (uint32_t p = 2; p <= 8; p *= 2)
        for (uint32_t v = 2; v <= 4; v++)
            for (uint32_t m = p; m <= 4 * p; m += p) {
                tdm_arena arena = {0};
                /* One chunk's passes last 1 s each. */
                tdm_scenario sc =
                    support_pass_times(&arena, p, m, "interleaved-1f1b", v, v, v, 0.0);
                sc.parallel.vpp = v;
                tdm_plan plan = support_plan(&arena, &sc);
                tdm_trace trace = run(&arena, &plan, &sc);
                assert_true(end_of(&trace) == 3.0 * (v * m + p - 1));
                tdm_arena_free(&arena);
            }
}

/* zb-h2 with equal pass times leaves no bubble: a stage's span is the work of its microbatches.
 * Source: Qi et al. 2024, table 2. */
static void test_zb_h2_bubble(void **state)
{
    (void)state;
    for (uint32_t p = 2; p <= 8; p *= 2) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_pass_times(&arena, p, 4 * p, "zb-h2", 1.0, 1.0, 1.0, 0.0);
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_trace trace = run(&arena, &plan, &sc);
        for (uint32_t rank = 0; rank < p; rank++) {
            double first = INFINITY, last = 0;
            tdm_cursor cursor;
            tdm_instance in;
            tdm_cursor_init(&cursor, &plan, rank);
            while (tdm_cursor_next(&cursor, &in)) {
                if (in.op->stream != TDM_STREAM_COMPUTE)
                    continue;
                first = fmin(first, trace.ranks[rank].spans[in.index].start_s);
                last = fmax(last, trace.ranks[rank].spans[in.index].end_s);
            }
            assert_true(last - first == 3.0 * 4 * p);
        }
        tdm_arena_free(&arena);
    }
}

/* Rules that every trace must keep: streams in order, waits respected, issue respected. */
static void check_rules(const tdm_plan *plan, const tdm_trace *trace, uint32_t rank)
{
    double tail[TDM_N_STREAMS] = {0};
    tdm_cursor cursor;
    tdm_instance in;
    tdm_cursor_init(&cursor, plan, rank);
    while (tdm_cursor_next(&cursor, &in)) {
        tdm_span span = trace->ranks[rank].spans[in.index];
        assert_true(span.start_s >= (in.index + 1) * trace->launch_s);
        assert_true(span.start_s >= tail[in.op->stream]);
        assert_true(span.end_s >= span.start_s);
        for (uint32_t w = 0; w < in.op->n_waits; w++)
            if (in.op->waits[w].kind == TDM_WAIT_TAIL && in.op->waits[w].n == 0)
                assert_true(span.start_s >= tail[in.op->waits[w].stream]);
        tail[in.op->stream] = span.end_s;
    }
}

static void test_traces_keep_the_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &support_specs[i]);
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_trace trace = run(&arena, &plan, &sc);
        for (uint32_t rank = 0; rank < plan.mesh.world; rank++)
            check_rules(&plan, &trace, rank);
        tdm_arena_free(&arena);
    }
}

/* One all-reduce of n ranks on idle links: launch + latency + 2(n-1)/n bytes over one port. */
static void test_all_reduce_time(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(
        &arena,
        &(support_spec){
            .tp = 4, .layers = 1, .microbatches = 1, .schedule = "forward-only", .seq = 512});
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_trace trace = run(&arena, &plan, &sc);
    tdm_cursor cursor;
    tdm_instance in;
    tdm_cursor_init(&cursor, &plan, 0);
    uint32_t seen = 0;
    while (tdm_cursor_next(&cursor, &in)) {
        if (in.op->kind != TDM_OP_ALL_REDUCE)
            continue;
        tdm_transfer transfer = tdm_comm_transfer(&plan, tdm_net_new(&arena, &sc.topology), 0, &in);
        double latency_s = transfer.latency_s;
        assert_int_equal(transfer.n_loads, 4);
        uint64_t wire = in.op->u.collective.bytes * 6 / 4;
        double expected = latency_s + (double)wire / 100e9;
        tdm_span span = trace.ranks[0].spans[in.index];
        assert_true(latency_s >= sc.topology.collective_launch_s.value);
        assert_true(fabs(span.end_s - span.start_s - expected) < 1e-12);
        seen++;
    }
    assert_int_equal(seen, 3); /* embedding, attention, MLP */
    tdm_arena_free(&arena);
}

/* A launch time above the kernels' makes the step as long as issuing it. */
static void test_launch_bound(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.layers = 2, .microbatches = 2});
    sc.device.launch_s.value = 1e-3;
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_trace trace = run(&arena, &plan, &sc);
    double issued = tdm_plan_n_ops(&plan, 0) * 1e-3;
    assert_true(end_of(&trace) > issued && end_of(&trace) < issued + 1e-4);
    tdm_arena_free(&arena);
}

/* A rank without its peers: the engine says who waits for what instead of hanging. */
static void test_deadlock_is_reported(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_pass_times(&arena, 2, 2, "1f1b", 1.0, 1.0, 1.0, 0.0);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_role roles[2] = {plan.roles[0], plan.roles[1]};
    roles[1].n_passes = 0;
    plan.roles = roles;
    tdm_machine machine = support_machine(&sc);
    tdm_trace trace = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    assert_int_equal(tdm_analytic_run(&arena, &plan, &machine, &trace, err), TDM_E_INTERNAL);
    assert_string_equal(
        err->text,
        "deadlock: rank 0 waits in send 'send' on stream pp-send, pass F of microbatch 0, for "
        "members that never come\n");
    assert_null(trace.ranks);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ideal_bubble),          cmocka_unit_test(test_zb_h1_bubble),
        cmocka_unit_test(test_interleaved_bubble),    cmocka_unit_test(test_zb_h2_bubble),
        cmocka_unit_test(test_traces_keep_the_rules), cmocka_unit_test(test_all_reduce_time),
        cmocka_unit_test(test_launch_bound),          cmocka_unit_test(test_deadlock_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
