/* test_figures.c: every figure against numbers worked out by hand: small plans with hand-made
 * traces, closed forms of pipelines, and invariants over all kinds of plans. */
#include "core/figures.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* cmocka compares floats in single precision. */
static void near(double actual, double expected, double tolerance, int line)
{
    if (!(fabs(actual - expected) <= tolerance))
        fail_msg("line %d: %.17g is not %.17g", line, actual, expected);
}

#define NEAR(actual, expected) near((actual), (expected), 1e-12, __LINE__)

static const tdm_wait after_compute[] = {{TDM_STREAM_COMPUTE, TDM_WAIT_TAIL, 0}};
static const tdm_wait after_tp[] = {{TDM_STREAM_TP, TDM_WAIT_TAIL, 0}};
static const tdm_wait after_recv[] = {{TDM_STREAM_PP_RECV, TDM_WAIT_TAIL, 0}};

/* A kernel; what it does plays no part in a hand-made trace. */
static tdm_op kernel(tdm_pass_kind pass)
{
    return (tdm_op){
        .name = "kernel", .kind = TDM_OP_MEMORY, .stream = TDM_STREAM_COMPUTE, .pass = pass};
}

static tdm_op kernel_after(tdm_pass_kind pass, const tdm_wait *wait)
{
    tdm_op op = kernel(pass);
    op.waits = wait;
    op.n_waits = 1;
    return op;
}

static tdm_op collective(tdm_op_kind kind, tdm_stream stream, tdm_group_kind group,
                         tdm_pass_kind pass)
{
    tdm_op op = {.name = "collective", .kind = kind, .stream = stream, .pass = pass};
    op.u.collective.group = group;
    op.u.collective.bytes = 1000;
    op.waits = after_compute;
    op.n_waits = 1;
    return op;
}

static tdm_op transfer(tdm_op_kind kind, tdm_peer peer)
{
    tdm_op op = {.name = "transfer", .kind = kind, .pass = TDM_PASS_F};
    op.stream = kind == TDM_OP_SEND ? TDM_STREAM_PP_SEND : TDM_STREAM_PP_RECV;
    op.u.p2p.peer = peer;
    op.u.p2p.bytes = 50;
    return op;
}

static const tdm_block one_block[] = {{.kind = 0, .count = 1}, {.kind = 1, .count = 1}};

/* tp ranks per stage, pp stages; the passes of each stage are given. Stage s is made of one block
 * of kinds[s]. */
static tdm_plan make_plan(tdm_arena *arena, uint32_t tp, uint32_t pp, const tdm_kind *kinds,
                          const tdm_pass *passes, uint32_t n_passes, tdm_template optimizer)
{
    tdm_plan plan = {.name = "hand-made", .schedule = "1f1b", .train = true, .pass_times = true};
    tdm_role *roles = TDM_ALLOC(arena, tdm_role, pp);
    uint16_t *role_of = TDM_ALLOC(arena, uint16_t, tp * pp);
    assert_int_equal(tdm_mesh_init(&plan.mesh, tp, 1, 1, pp, tp, 1, NULL), TDM_OK);
    for (uint32_t s = 0; s < pp; s++) {
        tdm_chunk *chunk = TDM_ALLOC(arena, tdm_chunk, 1);
        *chunk = (tdm_chunk){
            .blocks = &one_block[s], .n_blocks = 1, .n_positions = 1, .virtual_stage = s};
        roles[s] = (tdm_role){s, chunk, 1, passes, n_passes, optimizer};
        for (uint32_t r = 0; r < tp; r++)
            role_of[s * tp + r] = (uint16_t)s;
    }
    plan.kinds = kinds;
    plan.n_kinds = pp;
    plan.roles = roles;
    plan.n_roles = pp;
    plan.role_of = role_of;
    return plan;
}

/* spans [rank][op] of ranks with n ops each. */
static tdm_figures figures_of(tdm_arena *arena, const tdm_plan *plan, double launch_s,
                              const tdm_span *spans)
{
    tdm_trace trace;
    tdm_figures figures;
    tdm_trace_init(arena, plan, "hand", launch_s, &trace);
    for (uint32_t rank = 0, next = 0; rank < trace.n_ranks; rank++)
        for (uint32_t i = 0; i < trace.ranks[rank].n_ops; i++)
            trace.ranks[rank].spans[i] = spans[next++];
    tdm_error err = {0};
    assert_int_equal(tdm_figures_compute(arena, plan, &trace, NULL, NULL, &figures, &err), TDM_OK);
    return figures;
}

static void check_waterfall(const tdm_waterfall *w, double compute_s, double transfer_s,
                            double wait_s, double bubble_s, double gap_s, double optimizer_s)
{
    NEAR(w->compute_s, compute_s);
    NEAR(w->exposed_transfer_s, transfer_s);
    NEAR(w->peer_wait_s, wait_s);
    NEAR(w->bubble_s, bubble_s);
    NEAR(w->issue_gap_s, gap_s);
    NEAR(w->optimizer_s, optimizer_s);
}

static const tdm_comm_figures *find_comm(const tdm_figures *f, tdm_op_kind kind,
                                         tdm_group_kind group)
{
    for (uint32_t i = 0; i < f->n_comms; i++)
        if (f->comms[i].kind == kind && f->comms[i].group == group)
            return &f->comms[i];
    fail_msg("no such communication");
    return NULL;
}

/* Two ranks; rank 1 comes late to an all-reduce of which a kernel hides a part, then an optimizer
 * with its own all-reduce. */
static tdm_figures late_peer(tdm_arena *arena)
{
    const tdm_op f_ops[] = {kernel(TDM_PASS_F),
                            collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, TDM_PASS_F),
                            kernel(TDM_PASS_F), kernel_after(TDM_PASS_F, after_tp)};
    const tdm_op o_ops[] = {
        collective(TDM_OP_ALL_REDUCE, TDM_STREAM_DP, TDM_GROUP_WORLD, TDM_PASS_O),
        kernel(TDM_PASS_O)};
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {f_ops, 4}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}, {TDM_PASS_O, 0, 0}};
    tdm_plan plan = make_plan(arena, 2, 1, kinds, passes, 2, (tdm_template){o_ops, 2});
    const tdm_span spans[] = {{0, 2}, {2, 6}, {2, 2.5}, {6, 7},   {7, 9},   {9, 10},
                              {0, 3}, {3, 6}, {3, 5},   {6, 7.5}, {7.5, 9}, {9, 9.5}};
    return figures_of(arena, &plan, 0, spans);
}

static void test_waterfall_with_a_late_peer(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_figures f = late_peer(&arena);
    NEAR(f.step_time_s, 10);
    check_waterfall(&f.ranks[0].waterfall, 3.5, 3, 0.5, 0, 0, 3);
    check_waterfall(&f.ranks[1].waterfall, 6.5, 1, 0, 0.5, 0, 2);
    check_waterfall(&f.waterfall, 5, 2, 0.25, 0.25, 0, 2.5);
    NEAR(f.ranks[0].waterfall.optimizer_wait_s, 0.5);
    NEAR(f.ranks[0].waterfall.optimizer_transfer_s, 1.5);
    NEAR(f.ranks[1].waterfall.optimizer_wait_s, 0);
    NEAR(f.ranks[1].waterfall.optimizer_transfer_s, 1.5);
    tdm_arena_free(&arena);
}

static void test_shares_of_the_step(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_figures f = late_peer(&arena);
    NEAR(f.ranks[0].compute_busy_s, 4.5);
    NEAR(f.ranks[1].compute_busy_s, 7);
    NEAR(f.gpu_utilization, 0.575);
    NEAR(f.ranks[0].comm_busy_s, 6);
    NEAR(f.ranks[1].comm_busy_s, 4.5);
    NEAR(f.comm_busy_fraction, 0.525);
    NEAR(f.comm_exposed_fraction, 0.35); /* (3 + 1.5 and 1 + 1.5) / 2 / 10 */
    NEAR(f.nvml_utilization, 0.975);
    NEAR(f.load_imbalance, 1.25 / 5.75);
    NEAR(f.min_compute_share, 4.5 / 5.75);
    NEAR(f.expert_efficiency, 1);
    NEAR(f.tokens_per_s, 0); /* no model, no tokens */
    tdm_arena_free(&arena);
}

static void test_communication_by_kind(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_figures f = late_peer(&arena);
    assert_int_equal(f.n_comms, 2);
    const tdm_comm_figures *tp = find_comm(&f, TDM_OP_ALL_REDUCE, TDM_GROUP_TP);
    const tdm_comm_figures *world = find_comm(&f, TDM_OP_ALL_REDUCE, TDM_GROUP_WORLD);
    assert_int_equal(tp->n_calls, 2);
    assert_int_equal(tp->bytes, 1000);
    NEAR(tp->busy_s, 3.5);
    NEAR(tp->exposed_s, 2);
    NEAR(tp->avg_s, 3);
    NEAR(tp->max_s, 3);
    NEAR(world->busy_s, 1.75);
    NEAR(world->exposed_s, 1.5);
    NEAR(tdm_figures_get(&f, "avg_all_reduce_s"), 2.25);
    NEAR(tdm_figures_get(&f, "max_all_reduce_s"), 3);
    NEAR(tdm_figures_get(&f, "avg_all_to_all_s"), 0);
    tdm_arena_free(&arena);
}

static void test_pass_time_includes_tp_communication(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_figures f = late_peer(&arena);
    NEAR(f.stages[0].pass_s[0], 7.25);
    NEAR(f.stages[0].pass_s[1], 0);
    NEAR(f.stages[0].span_s, 7.5);
    NEAR(f.stages[0].bubble_fraction, 1 - 7.25 / 7.5);
    NEAR(f.bubble_fraction, 1 - 7.25 / 7.5);
    NEAR(f.bubble_global, 1 - 7.25 / 7.5);
    tdm_arena_free(&arena);
}

/* The host issues op i at i + 1 seconds and the kernels are short. */
static void test_issue_gap(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_op ops[] = {kernel(TDM_PASS_F), kernel(TDM_PASS_F), kernel(TDM_PASS_F)};
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {ops, 3}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}};
    tdm_plan plan = make_plan(&arena, 1, 1, kinds, passes, 1, (tdm_template){NULL, 0});
    tdm_figures f = figures_of(&arena, &plan, 1, (const tdm_span[]){{1, 1.5}, {2, 2.25}, {3, 3.5}});
    NEAR(f.step_time_s, 2.5);
    check_waterfall(&f.waterfall, 1.25, 0, 0, 0, 1.25, 0);
    /* The same idle times under a host that was early are no issue gaps. */
    f = figures_of(&arena, &plan, 0.25, (const tdm_span[]){{1, 1.5}, {2, 2.25}, {3, 3.5}});
    check_waterfall(&f.waterfall, 1.25, 0, 0, 1.25, 0, 0);
    tdm_arena_free(&arena);
}

/* A kernel, a collective that waits for it, a kernel that waits for that, all issued late: the gap
 * between the kernels is issue time but for the transfer. */
static void test_issue_gap_before_communication(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_op ops[] = {kernel(TDM_PASS_F),
                          collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, TDM_PASS_F),
                          kernel_after(TDM_PASS_F, after_tp)};
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {ops, 3}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}};
    tdm_plan plan = make_plan(&arena, 2, 1, kinds, passes, 1, (tdm_template){NULL, 0});
    tdm_figures f = figures_of(
        &arena, &plan, 1,
        (const tdm_span[]){{1, 1.25}, {2, 2.5}, {3, 3.5}, {1, 1.25}, {2, 2.5}, {3, 3.5}});
    check_waterfall(&f.ranks[0].waterfall, 0.75, 0.5, 0, 0, 0.75 + 0.5, 0);
    /* A transfer that outlasts the next issue leaves only the gap in front of it. */
    f = figures_of(
        &arena, &plan, 1,
        (const tdm_span[]){{1, 1.25}, {2, 3.75}, {3.75, 4}, {1, 1.25}, {2, 3.75}, {3.75, 4}});
    check_waterfall(&f.ranks[1].waterfall, 0.5, 1.75, 0, 0, 0.75, 0);
    tdm_arena_free(&arena);
}

/* Two stages, one forward pass: the receiver waits in its receive, which is a bubble until the
 * sender is there. */
static tdm_plan two_stages(tdm_arena *arena, uint32_t n_sends)
{
    tdm_op *first = TDM_ALLOC(arena, tdm_op, 1 + n_sends), *last = TDM_ALLOC(arena, tdm_op, 2);
    first[0] = kernel(TDM_PASS_F);
    for (uint32_t i = 1; i <= n_sends; i++) {
        first[i] = transfer(TDM_OP_SEND, TDM_PEER_NEXT);
        first[i].waits = after_compute;
        first[i].n_waits = 1;
    }
    last[0] = transfer(TDM_OP_RECV, TDM_PEER_PREVIOUS);
    last[1] = kernel_after(TDM_PASS_F, after_recv);
    tdm_kind *kinds = TDM_ALLOC(arena, tdm_kind, 2);
    kinds[0] = (tdm_kind){.name = "first", .templates[TDM_PASS_F] = {first, 1 + n_sends}};
    kinds[1] = (tdm_kind){.name = "last", .templates[TDM_PASS_F] = {last, 2}};
    tdm_pass *passes = TDM_ALLOC(arena, tdm_pass, 1);
    passes[0] = (tdm_pass){TDM_PASS_F, 0, 0};
    return make_plan(arena, 1, 2, kinds, passes, 1, (tdm_template){NULL, 0});
}

static void test_rendezvous(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_plan plan = two_stages(&arena, 1);
    tdm_figures f =
        figures_of(&arena, &plan, 0, (const tdm_span[]){{0, 2}, {2, 3}, {0, 3}, {3, 5}});
    check_waterfall(&f.ranks[0].waterfall, 2, 1, 0, 2, 0, 0);
    check_waterfall(&f.ranks[1].waterfall, 2, 1, 0, 2, 0, 0);
    const tdm_comm_figures *recv = find_comm(&f, TDM_OP_RECV, TDM_N_GROUP_KINDS);
    NEAR(recv->busy_s, 1.5); /* mean over both ranks */
    NEAR(recv->avg_s, 1);
    assert_int_equal(recv->n_calls, 1);
    assert_int_equal(recv->bytes, 25);
    NEAR(f.bubble_fraction, 0);
    NEAR(f.bubble_global, 1 - 2.0 / 5);
    NEAR(f.comm_exposed_fraction, 0.2);
    NEAR(f.nvml_utilization, (3 + 5) / 10.0);
    tdm_arena_free(&arena);
}

static void test_unmatched_communication_is_an_error(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_plan plan = two_stages(&arena, 2);
    tdm_trace trace;
    tdm_figures figures = {.step_time_s = -1};
    tdm_error err = {0};
    tdm_trace_init(&arena, &plan, "hand", 0, &trace);
    assert_int_equal(tdm_figures_compute(&arena, &plan, &trace, NULL, NULL, &figures, &err),
                     TDM_E_INTERNAL);
    assert_string_equal(err.text,
                        "rank 1 issues 1 ops on a communicator on which rank 0 issues 2\n");
    NEAR(figures.step_time_s, -1);
    tdm_arena_free(&arena);
}

/* Transfers of two streams at the same time: time counts once, for the first stream. */
static void test_overlapping_transfers(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_op ops[] = {kernel(TDM_PASS_F),
                          collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, TDM_PASS_F),
                          collective(TDM_OP_ALL_TO_ALL, TDM_STREAM_EP, TDM_GROUP_EP, TDM_PASS_F),
                          kernel_after(TDM_PASS_F, after_tp)};
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {ops, 4}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}};
    tdm_plan plan = make_plan(&arena, 2, 1, kinds, passes, 1, (tdm_template){NULL, 0});
    tdm_figures f = figures_of(
        &arena, &plan, 0,
        (const tdm_span[]){{0, 2}, {2, 5}, {2, 6}, {6, 7}, {0, 2}, {2, 5}, {3, 6}, {6, 7}});
    check_waterfall(&f.ranks[0].waterfall, 3, 4, 0, 0, 0, 0);
    NEAR(find_comm(&f, TDM_OP_ALL_REDUCE, TDM_GROUP_TP)->exposed_s, 3);
    NEAR(find_comm(&f, TDM_OP_ALL_TO_ALL, TDM_GROUP_EP)->exposed_s, 1);
    NEAR(f.comm_busy_fraction, 4.0 / 7);
    NEAR(tdm_figures_get(&f, "max_all_to_all_s"), 3);
    tdm_arena_free(&arena);
}

/* A BW pass is split by its ops: W is its W kernels, B the rest of it. */
static void test_combined_backward_is_split(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_op f_ops[] = {kernel(TDM_PASS_F)};
    const tdm_op b_ops[] = {kernel(TDM_PASS_B),
                            collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, TDM_PASS_B),
                            kernel_after(TDM_PASS_W, after_tp)};
    const tdm_kind kinds[] = {
        {.name = "body", .templates = {[TDM_PASS_F] = {f_ops, 1}, [TDM_PASS_BW] = {b_ops, 3}}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}, {TDM_PASS_BW, 0, 0}};
    tdm_plan plan = make_plan(&arena, 1, 1, kinds, passes, 2, (tdm_template){NULL, 0});
    tdm_figures f =
        figures_of(&arena, &plan, 0, (const tdm_span[]){{0, 1}, {1, 3}, {3, 3.5}, {3.5, 4.5}});
    NEAR(f.stages[0].pass_s[0], 1);
    NEAR(f.stages[0].pass_s[1], 2.5);
    NEAR(f.stages[0].pass_s[2], 1);
    NEAR(f.bubble_fraction, 0);
    tdm_arena_free(&arena);
}

static void test_flops(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_op ops[] = {kernel(TDM_PASS_F), kernel(TDM_PASS_F)};
    for (int i = 0; i < 2; i++) {
        ops[i].kind = TDM_OP_GEMM;
        ops[i].u.gemm.m = ops[i].u.gemm.n = ops[i].u.gemm.k = 100;
        ops[i].u.gemm.batch = 1;
    }
    ops[1].recompute = true;
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {ops, 2}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}};
    tdm_plan plan = make_plan(&arena, 1, 1, kinds, passes, 1, (tdm_template){NULL, 0});
    plan.pass_times = false;
    plan.micro_batch_size = 3;
    plan.seq_length = 5;
    plan.num_microbatches = 2;
    tdm_device device = {.name = "d", .context_bytes.value = 7};
    device.peak_flops_per_s[plan.training.dtype].value = 1e7;
    const tdm_machine machine = {.device = &device};
    tdm_layout layout = {.arena_bytes = 100, .live_peak_bytes = 90, .class_at_peak = {60, 10, 20}};
    tdm_trace trace;
    tdm_figures f;
    tdm_trace_init(&arena, &plan, "hand", 0, &trace);
    trace.ranks[0].spans[0] = (tdm_span){0, 1};
    trace.ranks[0].spans[1] = (tdm_span){1, 2};
    assert_int_equal(tdm_figures_compute(&arena, &plan, &trace, &layout, &machine, &f, NULL),
                     TDM_OK);
    NEAR(f.mfu, 2e6 / (2 * 1e7));
    NEAR(f.hfu, 4e6 / (2 * 1e7));
    NEAR(f.tokens_per_s, 3 * 5 * 2 / 2.0);
    assert_int_equal(f.peak_memory_bytes, 107);
    assert_int_equal(f.stages[0].peak_memory_bytes, 107);
    assert_int_equal(f.ranks[0].live_peak_bytes, 90);
    assert_int_equal(f.ranks[0].class_at_peak[TDM_CLASS_OPTIMIZER], 20);
    tdm_arena_free(&arena);
}

/* Two expert ranks, two microbatches: the first even, the second with 6 tokens against 2. */
static void test_experts(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const uint32_t sent[] = {3, 1, 1, 3, 4, 0, 2, 2}, experts[] = {4, 4, 6, 2};
    tdm_op ops[] = {collective(TDM_OP_ALL_TO_ALL, TDM_STREAM_EP, TDM_GROUP_EP, TDM_PASS_F),
                    collective(TDM_OP_ALL_TO_ALL, TDM_STREAM_EP, TDM_GROUP_EP, TDM_PASS_F)};
    ops[0].u.collective.token_bytes = ops[1].u.collective.token_bytes = 10;
    ops[1].u.collective.a2a = TDM_A2A_COMBINE;
    const tdm_kind kinds[] = {{.name = "body", .templates[TDM_PASS_F] = {ops, 2}}};
    const tdm_pass passes[] = {{TDM_PASS_F, 0, 0}, {TDM_PASS_F, 0, 1}};
    tdm_plan plan = make_plan(&arena, 2, 1, kinds, passes, 2, (tdm_template){NULL, 0});
    plan.routing = (tdm_routing_table){.n_replicas = 1,
                                       .n_layers = 1,
                                       .n_microbatches = 2,
                                       .ep = 2,
                                       .n_experts = 2,
                                       .sent = sent,
                                       .experts = experts};
    const tdm_span spans[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {0, 1}, {1, 2}, {2, 3}, {3, 4}};
    tdm_figures f = figures_of(&arena, &plan, 0, spans);
    NEAR(f.expert_efficiency, (1 + 4.0 / 6) / 2);
    NEAR(f.hot_rank_share, 10 / 8.0);
    NEAR(f.hot_expert_share, 10 / 8.0);
    assert_int_equal(f.hot_rank, 0);
    assert_int_equal(f.hot_expert, 0);
    /* Rank 0 sends 4 + 4 tokens and gives 4 + 6 back, rank 1 sends 4 + 4 and gives 4 + 2 back. */
    assert_int_equal(find_comm(&f, TDM_OP_ALL_TO_ALL, TDM_GROUP_EP)->bytes,
                     (8 + 10 + 8 + 6) * 10 / 2);
    tdm_arena_free(&arena);
}

static tdm_figures predict(tdm_arena *arena, const tdm_scenario *scenario, tdm_plan *plan)
{
    tdm_trace trace;
    tdm_figures f;
    tdm_error err = {0};
    tdm_machine machine = support_machine(scenario);
    *plan = support_plan(arena, scenario);
    assert_int_equal(tdm_analytic_run(arena, plan, &machine, &trace, &err), TDM_OK);
    assert_int_equal(tdm_figures_compute(arena, plan, &trace, NULL, &machine, &f, &err), TDM_OK);
    return f;
}

/* Source: Narayanan et al., Megatron-LM on GPU clusters, SC 2021, section 2.2: (p-1)/(m+p-1) of the
 * pipeline's time. */
static void test_ideal_bubbles(void **state)
{
    (void)state;
    static const char *const schedules[] = {"1f1b", "gpipe"};
    for (size_t s = 0; s < TDM_COUNT(schedules); s++) {
        for (uint32_t p = 1; p <= 16; p *= 2) {
            for (uint32_t m = p; m <= 64; m *= 2) {
                tdm_arena arena = {0};
                tdm_plan plan;
                tdm_scenario scenario =
                    support_pass_times(&arena, p, m, schedules[s], 3e-3, 2.5e-3, 1.5e-3, 0);
                tdm_figures f = predict(&arena, &scenario, &plan);
                NEAR(f.bubble_fraction, (p - 1.0) / (m + p - 1.0));
                NEAR(f.bubble_global, (p - 1.0) / (m + p - 1.0));
                NEAR(f.stages[p - 1].pass_s[1], 2.5e-3);
                NEAR(f.stages[p - 1].pass_s[2], 1.5e-3);
                tdm_arena_free(&arena);
            }
        }
    }
}

/* Source: Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024, tables 5 and 6: 1.5B model, 8
 * stages, 24 microbatches. */
static void test_published_bubbles(void **state)
{
    (void)state;
    static const struct {
        const char *schedule;
        double rate;
    } rows[] = {{"1f1b", 0.2431}, {"zb-h1", 0.1585}};
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        tdm_arena arena = {0};
        tdm_plan plan;
        tdm_scenario scenario = support_pass_times(&arena, 8, 24, rows[i].schedule, 18.522e-3,
                                                   18.086e-3, 9.337e-3, 0.601e-3);
        tdm_figures f = predict(&arena, &scenario, &plan);
        near(f.bubble_fraction, rows[i].rate, 5e-5, __LINE__);
        tdm_arena_free(&arena);
    }
}

static void check_rank(const tdm_figures *f, const tdm_rank_figures *rank)
{
    const tdm_waterfall *w = &rank->waterfall;
    double sum = w->compute_s + w->exposed_transfer_s + w->peer_wait_s + w->bubble_s +
                 w->issue_gap_s + w->optimizer_s;
    near(sum, f->step_time_s, 1e-12 * f->step_time_s, __LINE__);
    assert_true(w->compute_s > 0);
    const double parts[] = {w->exposed_transfer_s, w->peer_wait_s, w->bubble_s, w->issue_gap_s,
                            w->optimizer_s};
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        assert_true(parts[i] >= -1e-15);
    assert_true(w->optimizer_transfer_s + w->optimizer_wait_s <= w->optimizer_s + 1e-15);
    assert_true(rank->any_busy_s <= f->step_time_s * (1 + 1e-12));
    assert_true(rank->any_busy_s >= rank->compute_busy_s);
    assert_true(rank->any_busy_s >= rank->comm_busy_s * (1 - 1e-12));
}

static void check_shares(const tdm_figures *f)
{
    static const char *const shares[] = {"bubble_fraction",
                                         "bubble_global",
                                         "comm_busy_fraction",
                                         "comm_exposed_fraction",
                                         "gpu_utilization",
                                         "nvml_utilization",
                                         "min_compute_share",
                                         "mfu",
                                         "hfu",
                                         "expert_efficiency"};
    for (size_t i = 0; i < TDM_COUNT(shares); i++) {
        assert_true(tdm_figures_get(f, shares[i]) >= -1e-12);
        assert_true(tdm_figures_get(f, shares[i]) <= 1 + 1e-12);
    }
    assert_true(f->mfu > 0 && f->tokens_per_s > 0);
    double exposed_s = 0;
    for (uint32_t i = 0; i < f->n_comms; i++)
        exposed_s += f->comms[i].exposed_s;
    near(exposed_s, f->comm_exposed_fraction * f->step_time_s, 1e-12 * f->step_time_s, __LINE__);
}

static void test_invariants_of_all_plans(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_plan plan;
        tdm_scenario scenario = support_scenario(&arena, &support_specs[i]);
        tdm_figures f = predict(&arena, &scenario, &plan);
        for (uint32_t r = 0; r < f.n_ranks; r++)
            check_rank(&f, &f.ranks[r]);
        check_shares(&f);
        bool repeats = support_specs[i].recompute != TDM_RECOMPUTE_NONE;
        assert_true(repeats ? f.hfu > f.mfu : f.hfu == f.mfu);
        tdm_arena_free(&arena);
    }
}

static void test_figures_by_name(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_figures f = late_peer(&arena);
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        assert_true(isfinite(tdm_figures_get(&f, info->name)));
    NEAR(tdm_figures_get(&f, "step_time_s"), 10);
    assert_true(isnan(tdm_figures_get(&f, "step_time")));
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waterfall_with_a_late_peer),
        cmocka_unit_test(test_shares_of_the_step),
        cmocka_unit_test(test_communication_by_kind),
        cmocka_unit_test(test_pass_time_includes_tp_communication),
        cmocka_unit_test(test_issue_gap),
        cmocka_unit_test(test_issue_gap_before_communication),
        cmocka_unit_test(test_rendezvous),
        cmocka_unit_test(test_unmatched_communication_is_an_error),
        cmocka_unit_test(test_overlapping_transfers),
        cmocka_unit_test(test_combined_backward_is_split),
        cmocka_unit_test(test_flops),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_ideal_bubbles),
        cmocka_unit_test(test_published_bubbles),
        cmocka_unit_test(test_invariants_of_all_plans),
        cmocka_unit_test(test_figures_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
