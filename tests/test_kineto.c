/* test_kineto.c: traces of PyTorch's profiler: the scanner, the rules, and figures that follow from
 * the times of tests/kineto/ by hand. */
#include "core/json_scan.h"
#include "core/measured.h"
#include "support_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RULES  TANDEM_SOURCE_ROOT "/rules/kineto.yaml"
#define FOLDER TANDEM_SOURCE_ROOT "/tests/kineto/two-ranks/"

static tdm_kernel_rules load_rules(tdm_arena *arena)
{
    tdm_kernel_rules rules;
    tdm_error err = {0};
    if (tdm_kernel_rules_load(arena, RULES, &rules, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return rules;
}

/* ---- scanner ---- */

static void test_scanner_pieces(void **state)
{
    (void)state;
    const char *text = " {\"a\\\"b\": [1, -2.5e3, true, {}], \"c\": \"d\"} ";
    const struct {
        tdm_json_piece piece;
        const char *text;
    } want[] = {{TDM_JSON_OBJECT, NULL}, {TDM_JSON_KEY, "a\\\"b"},    {TDM_JSON_ARRAY, NULL},
                {TDM_JSON_NUMBER, "1"},  {TDM_JSON_NUMBER, "-2.5e3"}, {TDM_JSON_WORD, "true"},
                {TDM_JSON_OBJECT, NULL}, {TDM_JSON_OBJECT_END, NULL}, {TDM_JSON_ARRAY_END, NULL},
                {TDM_JSON_KEY, "c"},     {TDM_JSON_STRING, "d"},      {TDM_JSON_OBJECT_END, NULL},
                {TDM_JSON_END, NULL}};
    tdm_json json = tdm_json_begin(text, strlen(text));
    for (size_t i = 0; i < TDM_COUNT(want); i++) {
        assert_int_equal(tdm_json_next(&json), want[i].piece);
        assert_true(!want[i].text || tdm_json_is(&json, want[i].text));
    }
}

static void test_scanner_refuses(void **state)
{
    (void)state;
    static const char *const texts[] = {"",      "{",         "{\"a\"}", "{\"a\":}", "[1 2]",
                                        "{1:2}", "[\"a",      "[1}",     "{\"a\":1", "[1]]",
                                        "]",     "{\"a\" 1}", "[\"a\\"};
    for (size_t i = 0; i < TDM_COUNT(texts); i++) {
        tdm_json json = tdm_json_begin(texts[i], strlen(texts[i]));
        tdm_json_piece piece;
        do
            piece = tdm_json_next(&json);
        while (piece != TDM_JSON_END && piece != TDM_JSON_BAD);
        if (piece == TDM_JSON_END)
            fail_msg("accepted: %s", texts[i]);
        assert_non_null(json.problem);
    }
    char deep[2 * TDM_JSON_MAX_DEPTH];
    memset(deep, '[', sizeof deep);
    tdm_json json = tdm_json_begin(deep, sizeof deep);
    while (tdm_json_next(&json) == TDM_JSON_ARRAY)
        ;
    assert_string_equal(json.problem, "nested too deeply");
}

/* Microseconds since 1970 with three digits are beyond a double. */
static void test_numbers_are_exact(void **state)
{
    (void)state;
    const struct {
        const char *text;
        bool ok;
        int64_t value;
    } cases[] = {{"1719422343123456.789", true, 1719422343123456789},
                 {"1719422343123456.7", true, 1719422343123456700},
                 {"0", true, 0},
                 {"-1.5", true, -1500},
                 {"12.34567", true, 12345},
                 {"2e3", true, 2000000},
                 {"1.25E-2", true, 12},
                 {"1e300", false, 0},
                 {"99999999999999999999", false, 0},
                 {"9223372036854775.808", false, 0},
                 {"1.", false, 0},
                 {"-", false, 0},
                 {"1x", false, 0}};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_json json = {.text = cases[i].text, .length = strlen(cases[i].text)};
        int64_t value = 0;
        assert_int_equal(tdm_json_thousandths(&json, &value), cases[i].ok);
        if (cases[i].ok)
            assert_true(value == cases[i].value);
    }
    tdm_json json = {.text = "1700000000000000000", .length = 19};
    int64_t value;
    assert_true(tdm_json_int(&json, &value) && value == 1700000000000000000);
}

/* ---- rules ---- */

static void test_patterns(void **state)
{
    (void)state;
    assert_true(tdm_kernel_pattern_fits("*gemm*", "ampere_sgemm_128x64_nn"));
    assert_true(tdm_kernel_pattern_fits("nvjet_*", "NVJET_tst"));
    assert_true(tdm_kernel_pattern_fits("a*b*c", "aXbXbYc"));
    assert_true(tdm_kernel_pattern_fits("*", ""));
    assert_false(tdm_kernel_pattern_fits("nvjet_*", "xnvjet_tst"));
    assert_false(tdm_kernel_pattern_fits("a*b*c", "acb"));
    assert_false(tdm_kernel_pattern_fits("abc", "ab"));
}

/* Names as the projects' kernels have them. */
static void test_shipped_rules(void **state)
{
    (void)state;
    static const struct {
        const char *name, *collective, *class_;
    } cases[] = {
        {"nvjet_hsh_256x128_64x4_2x1_v_bz_coopA_NTN", "", "gemm"},
        {"ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "", "gemm"},
        {"sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3", "", "gemm"},
        {"void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_256x128_32x3_tn_align8>(Params)",
         "", "gemm"},
        {"void cublasLt::splitKreduce_kernel<32, 16, int>(...)", "", "gemm"},
        {"void cutlass::device_kernel<GemmUniversal<cutlass::gemm::GroupProblemShape<...> > >", "",
         "grouped-gemm"},
        {"void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64> >(Flash_fwd_params)", "",
         "attention"},
        {"void flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...>", "", "attention"},
        {"fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention)", "", "attention"},
        {"cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128", "",
         "attention"},
        {"void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>", "",
         "norm"},
        {"void transformer_engine::normalization::rmsnorm_fwd_general_kernel<...>", "", "norm"},
        {"void multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float, float> >", "",
         "optimizer"},
        {"void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4> >",
         "", "optimizer"},
        {"void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float> >", "",
         "memory"},
        {"void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>", "",
         "memory"},
        {"triton_poi_fused__to_copy_add_mul_0", "", "memory"},
        {"Memcpy DtoD (Device -> Device)", "", "memory"},
        {"Memcpy HtoD (Pinned -> Device)", "", "ignored"},
        {"ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)", "",
         "all-reduce"},
        {"ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*)", "", "all-gather"},
        {"ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "_reduce_scatter_base", "reduce-scatter"},
        {"ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "all_to_allv", "all-to-all"},
        {"ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "send", "send-recv"},
        {"ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "", "send-recv"},
        {"ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)",
         "all_gather_into_tensor_coalesced", "all-gather"},
        {"ncclDevKernel_Generic_1(ncclDevKernelArgsStorage<4096ul>)", "", "other"},
        {"my_own_kernel", "", NULL},
    };
    tdm_arena arena = {0};
    tdm_kernel_rules rules = load_rules(&arena);
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        const tdm_kernel_rule *rule =
            tdm_kernel_rule_for(&rules, cases[i].name, cases[i].collective);
        const char *got = !rule           ? "no rule"
                          : rule->ignored ? "ignored"
                                          : tdm_op_class_name(rule->class_);
        if (strcmp(got, cases[i].class_ ? cases[i].class_ : "no rule") != 0)
            fail_msg("%s: %s", cases[i].name, got);
    }
    assert_int_equal(tdm_kernel_group(&rules, "TENSOR_MODEL_PARALLEL_GROUP"), TDM_GROUP_TP);
    assert_int_equal(tdm_kernel_group(&rules, "EXPERT_MODEL_PARALLEL_GROUP"), TDM_GROUP_EP);
    assert_int_equal(tdm_kernel_group(&rules, "PIPELINE_MODEL_PARALLEL_GROUP"), TDM_GROUP_PP);
    assert_int_equal(tdm_kernel_group(&rules, "DATA_PARALLEL_GROUP_WITH_CP"), TDM_GROUP_DP);
    assert_int_equal(tdm_kernel_group(&rules, "mesh_tp"), TDM_GROUP_TP);
    assert_int_equal(tdm_kernel_group(&rules, "edp"), TDM_GROUP_EDP);
    assert_int_equal(tdm_kernel_group(&rules, "nobody's"), TDM_N_GROUP_KINDS);
    tdm_arena_free(&arena);
}

/* ---- figures ---- */

static tdm_measured measure(tdm_arena *arena, const char *const *paths, size_t n)
{
    tdm_kernel_rules rules = load_rules(arena);
    tdm_kineto kineto;
    tdm_measured measured;
    tdm_error err = {0};
    if (tdm_kineto_read(arena, paths, n, &rules, &kineto, &err) != TDM_OK ||
        tdm_measured_compute(arena, &kineto, &measured, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return measured;
}

static void expect_us(double seconds, double us)
{
    if (fabs(seconds - 1e-6 * us) > 1e-12)
        fail_msg("%.9g us, not %g", 1e6 * seconds, us);
}

static void expect_waterfall(const tdm_rank_figures *rank, const double us[6])
{
    const tdm_waterfall *w = &rank->waterfall;
    const double parts[6] = {w->compute_s, w->exposed_transfer_s, w->peer_wait_s,
                             w->bubble_s,  w->issue_gap_s,        w->optimizer_s};
    for (int i = 0; i < 6; i++)
        expect_us(parts[i], us[i]);
}

static void check_two_ranks(const tdm_measured *m)
{
    /* compute, transfer, waiting, bubble, issue, optimizer: see the times in the files */
    static const double rank0[6] = {300, 60, 40, 40, 40, 50};
    static const double rank0_late[6] = {300, 60, 40, 70, 40, 50};
    static const double rank1[6] = {380, 60, 0, 40, 0, 50}, rank1_late[6] = {380, 60, 0, 40, 0, 80};
    assert_int_equal(m->n_steps, 2);
    assert_int_equal(m->steps[0].number, 3);
    assert_int_equal(m->steps[1].number, 4);
    expect_us(m->steps[0].figures.step_time_s, 530);
    expect_us(m->steps[1].figures.step_time_s, 560);
    expect_waterfall(&m->steps[0].figures.ranks[0], rank0);
    expect_waterfall(&m->steps[0].figures.ranks[1], rank1);
    expect_waterfall(&m->steps[1].figures.ranks[0], rank0_late);
    expect_waterfall(&m->steps[1].figures.ranks[1], rank1_late);
    assert_int_equal(m->n_unmatched, 0);
    assert_int_equal(m->n_transfers_unmatched, 2); /* the peer's trace is missing */
    assert_int_equal(m->n_outside, 1);             /* rank 0 has a step more */
    assert_true(m->knows_issue);
    expect_us(m->steps[0].class_s[0][TDM_CLASS_OF_GEMM], 200);
    expect_us(m->steps[0].class_s[1][TDM_CLASS_OF_GEMM], 240);
    expect_us(m->steps[0].class_s[0][TDM_CLASS_OF_ALL_REDUCE], 100);
    expect_us(m->steps[0].class_s[1][TDM_CLASS_OF_TRANSFER], 40);
    const tdm_comm_figures *comm = &m->steps[0].figures.comms[0];
    assert_int_equal(comm->kind, TDM_OP_ALL_REDUCE);
    assert_int_equal(comm->group, TDM_GROUP_TP);
    assert_int_equal(comm->n_calls, 2);
    assert_int_equal(comm->bytes, 2000000);
    expect_us(comm->avg_s, 60);
    expect_us(comm->busy_s, 80);
}

static void test_two_ranks(void **state)
{
    (void)state;
    static const char *const paths[] = {FOLDER "a.pt.trace.json", FOLDER "b.pt.trace.json"};
    tdm_arena arena = {0};
    tdm_measured measured = measure(&arena, paths, 2);
    check_two_ranks(&measured);
    tdm_arena_free(&arena);
}

/* Packed files are read as they are. */
static void test_packed(void **state)
{
    (void)state;
    static const char *const paths[] = {"a.json.gz", FOLDER "b.pt.trace.json"};
    assert_int_equal(support_run("gzip -c %sa.pt.trace.json >a.json.gz", FOLDER), 0);
    tdm_arena arena = {0};
    tdm_measured measured = measure(&arena, paths, 2);
    check_two_ranks(&measured);
    tdm_arena_free(&arena);
}

/* One of two ranks: what is known of it alone, and a count of what is not. */
static void test_one_of_two(void **state)
{
    (void)state;
    static const char *const paths[] = {FOLDER "a.pt.trace.json"};
    static const double alone[6] = {300, 100, 0, 40, 40, 50};
    tdm_arena arena = {0};
    tdm_measured measured = measure(&arena, paths, 1);
    assert_int_equal(measured.n_steps, 3);
    assert_int_equal(measured.n_unmatched, 2);
    expect_waterfall(&measured.steps[0].figures.ranks[0], alone);
    tdm_arena_free(&arena);
}

/* More transfers at once than there are streams for: all that fits is kept, nothing is counted
 * twice. */
static void test_crowd(void **state)
{
    (void)state;
    enum { N = TDM_N_STREAMS + 1 }; /* one of the streams computes */
    char text[4096];
    size_t n = (size_t)snprintf(text, sizeof text, "[");
    for (int i = 0; i < N; i++)
        n += (size_t)snprintf(
            text + n, sizeof text - n,
            "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"ncclDevKernel_AllGather_%d\","
            "\"ts\":%d,\"dur\":100},",
            i, i);
    n += (size_t)snprintf(
        text + n, sizeof text - n,
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"sgemm\",\"ts\":0,\"dur\":50}]");
    tdm_arena arena = {0};
    tdm_kernel_rules rules = load_rules(&arena);
    tdm_kineto kineto;
    tdm_measured measured;
    tdm_error err = {0};
    assert_int_equal(tdm_kineto_parse(&arena, "t", text, n, &rules, &kineto, &err), TDM_OK);
    assert_int_equal(tdm_measured_compute(&arena, &kineto, &measured, &err), TDM_OK);
    const tdm_waterfall *w = &measured.steps[0].figures.waterfall;
    expect_us(measured.steps[0].figures.step_time_s, N - 1 + 100);
    expect_us(w->compute_s, 50);
    expect_us(w->exposed_transfer_s, N - 1 + 50);
    assert_int_equal(measured.n_squeezed, 2);
    tdm_arena_free(&arena);
}

/* Kernels of two streams overlap, and the optimizer starts before the longer one has ended: no time
 * counts twice. */
static void test_overlap(void **state)
{
    (void)state;
    static const char text[] =
        "[{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"sgemm\",\"ts\":0,\"dur\":110,\"tid\":7},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"sgemm\",\"ts\":0,\"dur\":100,\"tid\":8},"
        "{\"ph\":\"X\",\"cat\":\"kernel\",\"name\":\"FusedAdam\",\"ts\":100,\"dur\":50,\"tid\":8}]";
    tdm_arena arena = {0};
    tdm_kernel_rules rules = load_rules(&arena);
    tdm_kineto kineto;
    tdm_measured measured;
    tdm_error err = {0};
    assert_int_equal(tdm_kineto_parse(&arena, "t", text, sizeof text - 1, &rules, &kineto, &err),
                     TDM_OK);
    assert_int_equal(tdm_measured_compute(&arena, &kineto, &measured, &err), TDM_OK);
    const tdm_waterfall *w = &measured.steps[0].figures.waterfall;
    expect_us(measured.steps[0].figures.step_time_s, 150);
    expect_us(w->compute_s, 110);
    expect_us(w->optimizer_s, 40);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scanner_pieces),
        cmocka_unit_test(test_scanner_refuses),
        cmocka_unit_test(test_numbers_are_exact),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_shipped_rules),
        cmocka_unit_test(test_two_ranks),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_one_of_two),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_overlap),
    };
    return cmocka_run_group_tests(tests, support_run_enter, support_run_leave);
}
