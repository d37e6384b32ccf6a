/* test_engines.c: the analytic and the sim engine agree to rounding where no two operations share a
 * link at the same time, and differ by the shared links, and only by them, where they do. */
#include "core/topology_load.h"
#include "sim/sim.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const double TOLERANCE = 1e-9;

typedef struct both {
    tdm_trace analytic, sim;
} both;

static char platform_path[64];

static both run_both(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine)
{
    both b = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    if (tdm_analytic_run(arena, plan, machine, &b.analytic, err) != TDM_OK ||
        tdm_sim_run(arena, plan, machine, platform_path, &b.sim, err) != TDM_OK)
        fail_msg("%s", err->text);
    assert_string_equal(b.sim.engine, "sim");
    assert_true(b.sim.launch_s == b.analytic.launch_s);
    assert_int_equal(b.sim.n_ranks, plan->mesh.world);
    return b;
}

/* One link, carried by one operation for a while. */
typedef struct use {
    uint32_t link, owner;
    double start_s, end_s;
} use;

typedef struct uses {
    use *items;
    size_t n, capacity;
} uses;

static void add_use(uses *u, use item)
{
    if (u->n == u->capacity) {
        u->capacity = u->capacity ? 2 * u->capacity : 1024;
        u->items = realloc(u->items, u->capacity * sizeof *u->items);
        assert_non_null(u->items);
    }
    u->items[u->n++] = item;
}

/* One member speaks for all: the first of a group, the sender of a pair. */
static bool speaks(const tdm_plan *plan, uint32_t rank, const tdm_op *op)
{
    if (tdm_op_is_collective(op->kind)) {
        tdm_group group = tdm_mesh_group(&plan->mesh, op->u.collective.group, rank);
        return tdm_group_member(&group, 0) == rank;
    }
    return op->kind == TDM_OP_SEND;
}

static void collect_uses(const tdm_plan *plan, const tdm_topology *topology, const tdm_trace *trace,
                         uses *u)
{
    tdm_arena scratch = {0};
    tdm_net *net = tdm_net_new(&scratch, topology);
    uint32_t owner = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_instance in;
        tdm_cursor_init(&cursor, plan, rank);
        while (tdm_cursor_next(&cursor, &in)) {
            if (in.op->stream == TDM_STREAM_COMPUTE || !speaks(plan, rank, in.op))
                continue;
            tdm_transfer transfer = tdm_comm_transfer(plan, net, rank, &in);
            double end_s = trace->ranks[rank].spans[in.index].end_s;
            double start_s = end_s - tdm_net_time(&scratch, net, transfer.loads, transfer.n_loads);
            owner++;
            for (uint32_t f = 0; f < transfer.n_loads; f++) {
                const tdm_path *path = tdm_net_path(net, transfer.loads[f].path);
                for (uint32_t l = 0; l < path->n_links && transfer.loads[f].bytes > 0; l++)
                    add_use(u, (use){path->links[l], owner, start_s, end_s});
            }
        }
    }
    tdm_arena_free(&scratch);
}

static int by_link_and_start(const void *a, const void *b)
{
    const use *x = a, *y = b;
    if (x->link != y->link)
        return x->link < y->link ? -1 : 1;
    return x->start_s < y->start_s ? -1 : x->start_s > y->start_s;
}

/* When two operations first share a link, in the analytic engine's uncontended view; INFINITY:
 * never. */
static double first_sharing_s(const tdm_plan *plan, const tdm_topology *topology,
                              const tdm_trace *trace)
{
    uses u = {0};
    collect_uses(plan, topology, trace, &u);
    if (u.n > 0)
        qsort(u.items, u.n, sizeof *u.items, by_link_and_start);
    double first = INFINITY;
    for (size_t i = 1, latest = 0; i < u.n; i++) {
        const use *a = &u.items[latest], *b = &u.items[i];
        if (a->link == b->link && a->owner != b->owner && b->start_s < a->end_s - 1e-13 &&
            b->start_s < first)
            first = b->start_s;
        if (a->link != b->link || b->end_s > a->end_s)
            latest = i;
    }
    free(u.items);
    return first;
}

static bool nearly(double a, double b)
{
    return fabs(a - b) <= TOLERANCE * fmax(fabs(a), fabs(b));
}

/* Equal up to the first sharing, never earlier after it. Returns whether anything was shared. */
static bool check_agreement(const tdm_plan *plan, const tdm_topology *topology, const both *b)
{
    double shared_s = first_sharing_s(plan, topology, &b->analytic);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        for (uint32_t i = 0; i < b->analytic.ranks[rank].n_ops; i++) {
            tdm_span a = b->analytic.ranks[rank].spans[i], s = b->sim.ranks[rank].spans[i];
            bool start = a.start_s <= shared_s ? nearly(a.start_s, s.start_s)
                                               : s.start_s >= a.start_s * (1 - TOLERANCE);
            bool end = a.end_s <= shared_s ? nearly(a.end_s, s.end_s)
                                           : s.end_s >= a.end_s * (1 - TOLERANCE);
            if (!start || !end)
                fail_msg(
                    "rank %u op %u: analytic %.17g to %.17g, sim %.17g to %.17g, shared from %g",
                    rank, i, a.start_s, a.end_s, s.start_s, s.end_s, shared_s);
        }
    return shared_s < INFINITY;
}

static void test_agreement_over_layouts(void **state)
{
    (void)state;
    size_t n_exclusive = 0;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &support_specs[i]);
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_machine machine = support_machine(&sc);
        both b = run_both(&arena, &plan, &machine);
        n_exclusive += !check_agreement(&plan, &sc.topology, &b);
        tdm_arena_free(&arena);
    }
    assert_true(n_exclusive >= support_n_specs / 2);
}

/* The same under skewed routing with drops: all-to-alls of uneven sizes. */
static void test_agreement_under_skew(void **state)
{
    (void)state;
    size_t n_exclusive = 0, n = 0;
    for (size_t i = 0; i < support_n_specs; i++) {
        if (support_specs[i].experts == 0)
            continue;
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &support_specs[i]);
        sc.routing = (tdm_routing){.model = TDM_ROUTING_ZIPF,
                                   .seed = 5,
                                   .exponent = 1.2,
                                   .capacity_factor = i % 2 ? 1.5 : 0};
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_machine machine = support_machine(&sc);
        both b = run_both(&arena, &plan, &machine);
        n_exclusive += !check_agreement(&plan, &sc.topology, &b);
        n++;
        tdm_arena_free(&arena);
    }
    assert_true(n >= 2 && n_exclusive >= 1);
}

/* Every schedule on pass times: nothing is shared, so all ops are equal. */
static void test_agreement_over_schedules(void **state)
{
    (void)state;
    for (uint32_t s = 0; tdm_schedules[s]; s++)
        for (uint32_t pp = 1; pp <= 8; pp *= 2) {
            tdm_arena arena = {0};
            tdm_scenario sc = support_pass_times(&arena, pp, 2 * pp + 1, tdm_schedules[s]->name,
                                                 18.522e-3, 18.086e-3, 9.337e-3, 0.601e-3);
            if (!support_suit(&sc)) {
                tdm_arena_free(&arena);
                continue;
            }
            tdm_plan plan = support_plan(&arena, &sc);
            tdm_machine machine = support_machine(&sc);
            both b = run_both(&arena, &plan, &machine);
            assert_false(check_agreement(&plan, &sc.topology, &b));
            tdm_arena_free(&arena);
        }
}

/* Slower GPUs and links, noise and stragglers mean the same to both. */
static void test_agreement_under_perturbation(void **state)
{
    (void)state;
    static const tdm_gpu_speed speeds[] = {{0, 0, 0.8}, {0, 15, 0.95}};
    static const tdm_link_change changes[] = {{"*-0", 0.4, 3e-6}, {"down", 1, 1e-6}};
    size_t n_exclusive = 0;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &support_specs[i]);
        sc.perturbation = (tdm_perturbation){.speeds = speeds,
                                             .n_speeds = TDM_COUNT(speeds),
                                             .changes = changes,
                                             .n_changes = TDM_COUNT(changes),
                                             .compute_jitter = 0.1,
                                             .communication_jitter = 0.3,
                                             .jitter_seed = i,
                                             .straggler_probability = 0.3,
                                             .straggler_slowdown = 2};
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_machine machine = tdm_machine_of(&arena, &sc, (uint32_t)i);
        both b = run_both(&arena, &plan, &machine);
        n_exclusive += !check_agreement(&plan, machine.topology, &b);
        tdm_arena_free(&arena);
    }
    assert_true(n_exclusive >= support_n_specs / 3);
}

/* Every topology file that holds 16 GPUs: pairwise flows, several planes, shared uplinks. */
static void test_agreement_over_topologies(void **state)
{
    (void)state;
    static const char *const names[] = {"dgx-2",          "a2-megagpu-16g",   "nvswitch16-a100-80g",
                                        "dgx-2x8-h100",   "pcie-16-a100-40g", "dgx-2x8-a100",
                                        "gb200-nvl72-4x4"};
    static const support_spec specs[] = {
        {.tp = 4, .ep = 16, .dp = 4, .experts = 16, .topk = 2, .seq = 128},
        {.tp = 8, .ep = 8, .pp = 2, .experts = 16, .topk = 2, .seq = 128},
        {.dp = 16, .distributed_optimizer = true},
    };
    for (size_t t = 0; t < TDM_COUNT(names); t++)
        for (size_t i = 0; i < TDM_COUNT(specs); i++) {
            tdm_arena arena = {0};
            tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
            tdm_scenario sc = support_scenario(&arena, &specs[i]);
            const char *path =
                tdm_arena_printf(&arena, "%s/topologies/%s.yaml", TANDEM_SOURCE_ROOT, names[t]);
            if (tdm_topology_load(&arena, TANDEM_SOURCE_ROOT, path, NULL, &sc.topology, err) !=
                TDM_OK)
                fail_msg("%s", err->text);
            tdm_plan plan = support_plan(&arena, &sc);
            tdm_machine machine = support_machine(&sc);
            both b = run_both(&arena, &plan, &machine);
            check_agreement(&plan, &sc.topology, &b);
            tdm_arena_free(&arena);
        }
}

enum { N_STEPS = 200, N_GPUS = 4 };

/* A plan of one O pass per rank. ops [n_roles][n_ops]; rank i has role i % n_roles. */
static tdm_plan one_pass_plan(tdm_arena *arena, const tdm_mesh *mesh, const tdm_op *ops,
                              uint32_t n_roles, uint32_t n_ops)
{
    tdm_plan plan = {.name = "test", .schedule = "none", .train = true, .mesh = *mesh};
    tdm_pass *pass = TDM_ALLOC(arena, tdm_pass, 1);
    pass->kind = TDM_PASS_O;
    tdm_role *roles = TDM_ALLOC(arena, tdm_role, n_roles);
    for (uint32_t r = 0; r < n_roles; r++)
        roles[r] = (tdm_role){.passes = pass, .n_passes = 1, .optimizer = {ops + r * n_ops, n_ops}};
    uint16_t *role_of = TDM_ALLOC(arena, uint16_t, mesh->world);
    for (uint32_t rank = 0; rank < mesh->world; rank++)
        role_of[rank] = (uint16_t)(rank % n_roles);
    plan.roles = roles;
    plan.n_roles = n_roles;
    plan.role_of = role_of;
    return plan;
}

static tdm_op collective(tdm_op_kind kind, tdm_stream stream, tdm_group_kind group, uint64_t bytes)
{
    tdm_op op = {.name = "collective", .kind = kind, .stream = stream, .pass = TDM_PASS_O};
    op.u.collective.group = group;
    op.u.collective.bytes = bytes;
    return op;
}

static tdm_mesh tensor_mesh(void)
{
    tdm_mesh mesh = {0};
    assert_int_equal(tdm_mesh_init(&mesh, N_GPUS, 1, 1, 1, N_GPUS, 1, NULL), TDM_OK);
    return mesh;
}

/* Device and switch of support.h, without launch times. */
static tdm_scenario bare_machine(tdm_arena *arena)
{
    tdm_scenario sc = support_scenario(arena, &(support_spec){.tp = N_GPUS});
    sc.device.launch_s.value = 0;
    return sc;
}

/* Ranks whose every step differs by 0.1 ns: nothing may be merged or lost over hundreds of them. */
static void test_tiny_differences_survive(void **state)
{
    (void)state;
    static const tdm_wait after_tp = {TDM_STREAM_TP, TDM_WAIT_TAIL, 0};
    static const tdm_wait after_compute = {TDM_STREAM_COMPUTE, TDM_WAIT_TAIL, 0};
    tdm_arena arena = {0};
    tdm_scenario sc = bare_machine(&arena);
    tdm_op *ops = TDM_ALLOC(&arena, tdm_op, N_GPUS * 2 * N_STEPS);
    for (uint32_t rank = 0; rank < N_GPUS; rank++)
        for (uint32_t i = 0; i < N_STEPS; i++) {
            tdm_op *timed = &ops[(rank * N_STEPS + i) * 2];
            *timed = (tdm_op){.name = "work",
                              .kind = TDM_OP_TIMED,
                              .pass = TDM_PASS_O,
                              .waits = &after_tp,
                              .n_waits = 1};
            timed->u.timed.seconds = 1e-3 + 1e-10 * rank;
            timed[1] = collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, 1000000 + i);
            timed[1].waits = &after_compute;
            timed[1].n_waits = 1;
        }
    tdm_mesh mesh = tensor_mesh();
    tdm_plan plan = one_pass_plan(&arena, &mesh, ops, N_GPUS, 2 * N_STEPS);
    tdm_machine machine = support_machine(&sc);
    both b = run_both(&arena, &plan, &machine);
    assert_false(check_agreement(&plan, &sc.topology, &b));
    for (uint32_t rank = 0; rank < N_GPUS; rank++)
        for (uint32_t i = 0; i < N_STEPS; i++) {
            tdm_span work = b.sim.ranks[rank].spans[2 * i];
            assert_true(fabs(work.end_s - work.start_s - 1e-3 - 1e-10 * rank) < 1e-15);
        }
    tdm_arena_free(&arena);
}

/* An all-reduce and an all-gather over the same ports at the same time: with max-min shares, the
 * shorter ends when both have moved its bytes, the longer when all bytes have moved. */
static void test_concurrent_collectives_share(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = bare_machine(&arena);
    tdm_op ops[2] = {collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, 400000000),
                     collective(TDM_OP_ALL_GATHER, TDM_STREAM_EP, TDM_GROUP_EP, 400000000)};
    tdm_mesh mesh = tensor_mesh();
    tdm_plan plan = one_pass_plan(&arena, &mesh, ops, 1, 2);
    /* The all-reduce passes the ring twice, the all-gather once: their latencies differ by so much.
     */
    double latency_s[2];
    tdm_net *net = tdm_net_new(&arena, &sc.topology);
    for (uint32_t i = 0; i < 2; i++)
        latency_s[i] = tdm_comm_transfer(&plan, net, 0, &(tdm_instance){.op = &ops[i]}).latency_s;
    assert_true(latency_s[0] > latency_s[1]);
    const double speed = 100e9, reduce_bytes = 600e6,
                 gather_bytes = 300e6; /* per edge: 2(n-1)/n, (n-1)/n */
    double alone_s = latency_s[0] - latency_s[1];
    double gather_end_s = latency_s[0] + 2 * (gather_bytes - speed * alone_s) / speed;
    double reduce_end_s = latency_s[1] + (reduce_bytes + gather_bytes) / speed;

    tdm_machine machine = support_machine(&sc);
    both b = run_both(&arena, &plan, &machine);
    assert_true(check_agreement(&plan, &sc.topology, &b));
    for (uint32_t rank = 0; rank < N_GPUS; rank++) {
        assert_true(nearly(b.sim.ranks[rank].spans[0].end_s, reduce_end_s));
        assert_true(nearly(b.sim.ranks[rank].spans[1].end_s, gather_end_s));
        assert_true(
            nearly(b.analytic.ranks[rank].spans[0].end_s, latency_s[0] + reduce_bytes / speed));
        assert_true(
            nearly(b.analytic.ranks[rank].spans[1].end_s, latency_s[1] + gather_bytes / speed));
    }
    tdm_arena_free(&arena);
}

/* Nothing to move, nobody to move it to: such operations take their latency and do not hang. */
static void test_empty_operations_end(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = bare_machine(&arena);
    tdm_op ops[3] = {collective(TDM_OP_ALL_TO_ALL, TDM_STREAM_EP, TDM_GROUP_EP, 0),
                     collective(TDM_OP_ALL_REDUCE, TDM_STREAM_DP, TDM_GROUP_DP, 1000),
                     collective(TDM_OP_BROADCAST, TDM_STREAM_TP, TDM_GROUP_PP, 1000)};
    tdm_mesh mesh = tensor_mesh();
    tdm_plan plan = one_pass_plan(&arena, &mesh, ops, 1, 3);
    tdm_machine machine = support_machine(&sc);
    both b = run_both(&arena, &plan, &machine);
    assert_false(check_agreement(&plan, &sc.topology, &b));
    assert_true(b.sim.ranks[0].spans[0].end_s > 0);  /* groups of four: latency */
    assert_true(b.sim.ranks[0].spans[1].end_s == 0); /* groups of one */
    assert_true(b.sim.ranks[0].spans[2].end_s == 0);
    tdm_arena_free(&arena);
}

/* Runs what cannot end; the trace stays untouched. */
static const char *deadlock_of(tdm_arena *arena, const tdm_plan *plan, const tdm_scenario *sc)
{
    tdm_machine machine = support_machine(sc);
    tdm_trace trace = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    assert_int_equal(tdm_sim_run(arena, plan, &machine, platform_path, &trace, err),
                     TDM_E_INTERNAL);
    assert_null(trace.ranks);
    return err->text;
}

static void test_missing_partner_is_named(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_pass_times(&arena, 2, 2, "1f1b", 1.0, 1.0, 1.0, 0.0);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_role roles[2] = {plan.roles[0], plan.roles[1]};
    roles[1].n_passes = 0;
    plan.roles = roles;
    const char *text = deadlock_of(&arena, &plan, &sc);
    assert_non_null(
        strstr(text, "deadlock: rank 0: send \"send\" on stream pp-send (op 1, pass F, chunk 0, "
                     "microbatch 0) waits for rank 1\n"));
    tdm_arena_free(&arena);
}

static void test_missing_member_is_named(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = bare_machine(&arena);
    /* Rank 2 gathers where the others reduce, then the other way round. */
    tdm_op ops[N_GPUS][2];
    for (uint32_t rank = 0; rank < N_GPUS; rank++)
        for (uint32_t i = 0; i < 2; i++)
            ops[rank][i] =
                collective((rank == 2) != (i == 1) ? TDM_OP_ALL_GATHER : TDM_OP_ALL_REDUCE,
                           TDM_STREAM_TP, TDM_GROUP_TP, 1000);
    tdm_mesh mesh = tensor_mesh();
    tdm_plan plan = one_pass_plan(&arena, &mesh, ops[0], N_GPUS, 2);
    assert_non_null(strstr(
        deadlock_of(&arena, &plan, &sc),
        "deadlock: rank 2: all-gather \"collective\" on stream tp (op 0, pass O, chunk 0, microbatch "
        "0) meets rank 0 in all-reduce \"collective\""));
    /* Rank 3 does nothing. */
    for (uint32_t rank = 0; rank < N_GPUS; rank++)
        ops[rank][0] = collective(TDM_OP_ALL_REDUCE, TDM_STREAM_TP, TDM_GROUP_TP, 1000);
    plan = one_pass_plan(&arena, &mesh, ops[0], N_GPUS, 2);
    ((tdm_role *)(uintptr_t)plan.roles)[3].n_passes = 0;
    assert_non_null(strstr(deadlock_of(&arena, &plan, &sc), " waits for rank 3\n"));
    tdm_arena_free(&arena);
}

static void test_unwritable_platform(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_pass_times(&arena, 2, 2, "1f1b", 1.0, 1.0, 1.0, 0.0);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_machine machine = support_machine(&sc);
    tdm_trace trace = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    assert_int_equal(tdm_sim_run(&arena, &plan, &machine, "/nonexistent/p.xml", &trace, err),
                     TDM_E_INTERNAL);
    assert_non_null(strstr(err->text, "/nonexistent/p.xml"));
    assert_null(trace.ranks);
    tdm_arena_free(&arena);
}

int main(void)
{
    if (tdm_sim_missing())
        return 77;
    snprintf(platform_path, sizeof platform_path, "/tmp/tandem-test-engines-%ld.xml",
             (long)getpid());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agreement_over_layouts),
        cmocka_unit_test(test_agreement_under_skew),
        cmocka_unit_test(test_agreement_over_schedules),
        cmocka_unit_test(test_agreement_under_perturbation),
        cmocka_unit_test(test_agreement_over_topologies),
        cmocka_unit_test(test_tiny_differences_survive),
        cmocka_unit_test(test_concurrent_collectives_share),
        cmocka_unit_test(test_empty_operations_end),
        cmocka_unit_test(test_missing_partner_is_named),
        cmocka_unit_test(test_missing_member_is_named),
        cmocka_unit_test(test_unwritable_platform),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove(platform_path);
    return failed;
}
