/* test_cores.c: ranks that share cores, against what can be worked out by hand. */
#include "core/cores.h"
#include "core/rates.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_cores plain(uint32_t n_cores)
{
    return (tdm_cores){.n_cores = n_cores,
                       .slice_s = 1e9,
                       .hold_s = 1e9,
                       .copy_bytes_per_s = INFINITY,
                       .reduce_bytes_per_s = INFINITY};
}

static tdm_trace ride(tdm_arena *arena, const tdm_plan *plan, tdm_scenario *scenario,
                      const tdm_cores *cores)
{
    tdm_trace trace;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    scenario->topology.cores = cores;
    tdm_machine machine = support_machine(scenario);
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

/* With a core for every stage, passes of given times take the step they take on GPUs; all on one
 * core, the step is their sum. */
static void test_passes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_pass_times(&arena, 4, 8, "1f1b", 1.0, 1.0, 1.0, 0.0);
    tdm_plan plan = support_plan(&arena, &sc);
    sc.device.launch_s.value = 0;
    tdm_cores many = plain(64), one = plain(1), two = plain(2);
    tdm_trace trace = ride(&arena, &plan, &sc, &many);
    assert_float_equal(end_of(&trace), 3.0 * (8 + 4 - 1), 1e-9);
    trace = ride(&arena, &plan, &sc, &one);
    assert_float_equal(end_of(&trace), 3.0 * 8 * 4, 1e-9);
    trace = ride(&arena, &plan, &sc, &two);
    assert_true(end_of(&trace) >= 3.0 * 8 * 2 && end_of(&trace) <= 3.0 * (8 + 4 - 1) * 2);
    tdm_arena_free(&arena);
}

/* Slices share cores out among threads that all have something to do: two ranks on one core end
 * together, each after twice its own time. */
static void test_slices(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.dp = 2, .microbatches = 1});
    tdm_plan plan = support_plan(&arena, &sc);
    sc.device.launch_s.value = 0;
    tdm_cores whole = plain(1), sliced = plain(1);
    sliced.slice_s = 1e-7;
    double last[2][2];
    for (int i = 0; i < 2; i++) {
        tdm_trace trace = ride(&arena, &plan, &sc, i ? &sliced : &whole);
        const tdm_program *p = tdm_program_of(&arena, &plan, 0);
        for (uint32_t r = 0; r < 2; r++)
            last[i][r] = trace.ranks[r].spans[p->last_compute].end_s;
    }
    assert_true(fabs(last[0][1] / last[0][0] - 2) < 0.05);
    assert_true(fabs(last[1][1] / last[1][0] - 1) < 0.05);
    tdm_arena_free(&arena);
}

/* On no plan are more kernels at work than there are cores, an op starts before what it waits for
 * has ended, or a thread rests while a core is idle for long; both engines say the same. */
static void check_plan(const support_spec *spec)
{
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, spec);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_cores cores = plain(3);
    cores.switch_s = 2e-6;
    cores.wake_s = 3e-6;
    cores.turn_s = 1e-7;
    cores.copy_bytes_per_s = 1e9;
    cores.reduce_bytes_per_s = 2e9;
    tdm_trace trace = ride(&arena, &plan, &sc, &cores), other;
    double busy_s = 0, end_s = end_of(&trace);
    for (uint32_t rank = 0; rank < plan.mesh.world; rank++) {
        const tdm_program *p = tdm_program_of(&arena, &plan, rank);
        const tdm_span *spans = trace.ranks[rank].spans;
        for (uint32_t i = 0; i < p->n_ops; i++) {
            assert_true(spans[i].end_s >= spans[i].start_s);
            if (p->stream[i] == TDM_STREAM_COMPUTE)
                busy_s += spans[i].end_s - spans[i].start_s;
            for (uint32_t w = p->first_wait[i]; w < p->first_wait[i + 1]; w++)
                assert_true(spans[p->waits[w].op].end_s <= spans[i].start_s);
        }
    }
    assert_true(busy_s <= 3 * end_s * (1 + 1e-9));
    tdm_machine machine = support_machine(&sc);
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    assert_int_equal(tdm_cores_run(&arena, &plan, &machine, "sim", &other, err), TDM_OK);
    for (uint32_t rank = 0; rank < plan.mesh.world; rank++)
        assert_memory_equal(trace.ranks[rank].spans, other.ranks[rank].spans,
                            trace.ranks[rank].n_ops * sizeof(tdm_span));
    tdm_arena_free(&arena);
}

static void test_all_plans(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++)
        check_plan(&support_specs[i]);
}

/* Faster copies and wake-ups never make a step longer, where no order can change: one rank per
 * core. */
static void test_costs_count(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 4, .sequence_parallel = true});
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_cores free_ = plain(256), copies = plain(256), wakes = plain(256);
    copies.copy_bytes_per_s = copies.reduce_bytes_per_s = 1e9;
    wakes.wake_s = 5e-6;
    tdm_trace trace = ride(&arena, &plan, &sc, &free_);
    double none_s = end_of(&trace);
    trace = ride(&arena, &plan, &sc, &copies);
    double copied_s = end_of(&trace);
    trace = ride(&arena, &plan, &sc, &wakes);
    double woken_s = end_of(&trace);
    assert_true(copied_s > none_s * 1.01 && woken_s > none_s * 1.01);
    tdm_arena_free(&arena);
}

/* ---- measured kernels ---- */

static const tdm_product_rate products[] = {
    {TDM_FORWARD, false, 64, 64, 64, 1e9},
    {TDM_FORWARD, false, 64, 64, 256, 4e9},
    {TDM_DGRAD, false, 64, 64, 64, 3e9},
    {TDM_FORWARD, true, 16, 64, 64, 5e8},
};

static void test_products(void **state)
{
    (void)state;
    tdm_device device = {.products = products, .n_products = TDM_COUNT(products)};
    assert_float_equal(tdm_rate_product(&device, TDM_FORWARD, false, 64, 64, 64), 1e9, 1);
    assert_float_equal(tdm_rate_product(&device, TDM_DGRAD, false, 999, 3, 64), 3e9, 1);
    assert_float_equal(tdm_rate_product(&device, TDM_FORWARD, true, 1, 1, 1), 5e8, 1);
    /* Half way by logarithm: the geometric mean. */
    assert_float_equal(tdm_rate_product(&device, TDM_FORWARD, false, 64, 64, 128), 2e9, 10);
    assert_true(tdm_rate_product(&device, TDM_WGRAD, false, 64, 64, 64) <= 0);
    assert_true(tdm_rate_product(&(tdm_device){0}, TDM_FORWARD, false, 1, 1, 1) <= 0);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *kernel;
        tdm_op_kind kind;
        tdm_pass_kind pass;
        bool recompute;
    } cases[] = {
        {"activation", "gelu", TDM_OP_MEMORY, TDM_PASS_F, false},
        {"shared.activation.bwd", "gelu.bwd", TDM_OP_MEMORY, TDM_PASS_B, false},
        {"activation.r", "gelu", TDM_OP_MEMORY, TDM_PASS_B, true},
        {"norm2.bwd", "rms-norm.bwd", TDM_OP_MEMORY, TDM_PASS_B, false},
        {"norm", "rms-norm", TDM_OP_MEMORY, TDM_PASS_F, false},
        {"norm", "norm", TDM_OP_MEMORY, TDM_PASS_O, false},
        {"qk.norm", "qk.norm", TDM_OP_MEMORY, TDM_PASS_F, false},
        {"add1.bwd", "add.bwd", TDM_OP_MEMORY, TDM_PASS_B, false},
        {"attention.bwd", "attention.bwd", TDM_OP_ATTENTION_BACKWARD, TDM_PASS_B, false},
    };
    const tdm_model model = {.norm = TDM_NORM_RMS};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        char name[TDM_KERNEL_NAME_SIZE];
        tdm_op op = {.name = cases[i].name,
                     .kind = cases[i].kind,
                     .pass = cases[i].pass,
                     .recompute = cases[i].recompute};
        tdm_kernel_name(&model, &op, name);
        assert_string_equal(name, cases[i].kernel);
    }
    static const tdm_kernel_rate rate = {.name = "gelu", .floor_s = 1e-6, .bytes_per_s = 1e9};
    const tdm_device device = {.kernels = &rate, .n_kernels = 1};
    tdm_op op = {.name = "activation", .kind = TDM_OP_MEMORY, .pass = TDM_PASS_F};
    assert_ptr_equal(tdm_rate_kernel(&device, &model, &op), &rate);
    assert_float_equal(tdm_rate_kernel_s(&rate, 1000, 0), 2e-6, 1e-15);
    op.pass = TDM_PASS_O;
    assert_null(tdm_rate_kernel(&device, &model, &op));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes),    cmocka_unit_test(test_slices),
        cmocka_unit_test(test_all_plans), cmocka_unit_test(test_costs_count),
        cmocka_unit_test(test_products),  cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
