/* test_nccl.c: what NCCL would choose, on machines whose answer is known.
 * Graphs: worked from the rules of NCCL 2.28.9, src/graph/search.cc; public logs agree for 24
 * channels on 8 x A100 (nccl-tests issue 100), 16 rings and 8 NVLS heads on 8 x B200, and 8 rings
 * of 48 GB/s that cross adapters on 2 x 8 Hopper. Switch-over sizes: nccl-tests issue 309. */
#include "core/nccl/time.h"
#include "tests/support_graph.h"
#include "tests/support_nccl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_nccl_comm with(tdm_arena *arena, tdm_graph graph, uint32_t n, const char *setting)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    uint32_t *ranks = TDM_ALLOC(arena, uint32_t, n);
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_nccl_comm comm = {0};
    for (uint32_t i = 0; i < n; i++)
        ranks[i] = i;
    if (setting)
        assert_int_equal(tdm_nccl_settings_assign(&settings, "test", setting, err), TDM_OK);
    assert_int_equal(tdm_nccl_comm_build(arena, &graph, ranks, n, &settings, &comm, err), TDM_OK);
    return comm;
}

static void check_graph(const tdm_nccl_graph *graph, uint32_t n, double intra, double inter)
{
    assert_int_equal(graph->n_channels, n);
    assert_true(fabs(graph->bw_intra - intra) < 1e-9);
    assert_true(fabs(graph->bw_inter - inter) < 1e-9);
}

static void test_single_nodes(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_nccl_comm h100 =
        with(&a, support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0), 8, NULL);
    check_graph(&h100.ring, 12, 30, 30);
    check_graph(&h100.nvls, 8, 40, 60);
    assert_int_equal(h100.n_channels, 24);
    assert_int_equal(h100.nvls_channels, 16);
    tdm_nccl_comm b200 =
        with(&a, support_graph_nvswitch(&a, "b200", 1, 8, 100, 18, 48e9, 0), 8, NULL);
    check_graph(&b200.ring, 16, 45, 45);
    check_graph(&b200.nvls, 8, 80, 90);
    tdm_nccl_comm a100 =
        with(&a, support_graph_nvswitch(&a, "a100", 1, 8, 80, 12, 24e9, 0), 8, NULL);
    check_graph(&a100.ring, 12, 20, 20);
    assert_int_equal(a100.n_channels, 24);
    assert_int_equal(a100.nvls.n_channels, 0);
    tdm_nccl_comm dgx2 =
        with(&a, support_graph_nvswitch(&a, "dgx-2", 1, 16, 70, 6, 12e9, 0), 16, NULL);
    check_graph(&dgx2.ring, 6, 20, 20);
    tdm_nccl_comm a2 = with(&a, support_graph_nvswitch(&a, "a2", 1, 16, 80, 12, 24e9, 0), 16, NULL);
    check_graph(&a2.ring, 12, 20, 20);
    tdm_arena_free(&a);
}

static void test_several_nodes(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_graph h100 = support_graph_nvswitch(&a, "hgx", 2, 8, 90, 18, 48e9, 50e9);
    tdm_nccl_comm straight = with(&a, h100, 16, "NCCL_CROSS_NIC=0");
    tdm_nccl_comm crossed = with(&a, h100, 16, NULL);
    check_graph(&straight.ring, 8, 45, 45);
    check_graph(&crossed.ring, 8, 48, 48);
    check_graph(&crossed.nvls, 8, 40, 48);
    assert_int_equal(crossed.n_channels, 16);
    assert_int_equal(crossed.ring.inter, TDM_NCCL_PIX);
    tdm_nccl_comm a100 =
        with(&a, support_graph_nvswitch(&a, "dgx", 2, 8, 80, 12, 24e9, 25e9), 16, NULL);
    check_graph(&a100.ring, 8, 24, 24);
    check_graph(&a100.tree, 8, 30, 24);
    /* Tree, Simple: min(.92 x 240, 8 x 23.6) / 2 */
    assert_true(fabs(a100.bw[TDM_NCCL_ALL_REDUCE][TDM_NCCL_TREE][TDM_NCCL_SIMPLE] - 94.4) < 1e-9);
    tdm_arena_free(&a);
}

/* Every channel of a ring passes every GPU once. */
static void check_order(tdm_arena *arena, const tdm_graph *graph, uint32_t n)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    uint32_t *ranks = TDM_ALLOC(arena, uint32_t, n);
    tdm_nccl_view view;
    tdm_nccl_graph ring;
    for (uint32_t i = 0; i < n; i++)
        ranks[i] = i;
    assert_int_equal(tdm_nccl_view_build(arena, graph, ranks, n, false, &view, err), TDM_OK);
    tdm_nccl_search(arena, &view, TDM_NCCL_PATTERN_RING, 1, 32, 2, &ring);
    assert_true(ring.n_channels > 0 && !ring.fallback);
    double *load = TDM_ALLOC(arena, double, view.n_links);
    for (uint32_t c = 0; c < ring.n_channels; c++) {
        uint64_t seen = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t from = view.of[TDM_NCCL_GPU][ring.order[c * n + i]];
            uint32_t to = view.of[TDM_NCCL_GPU][ring.order[c * n + (i + 1) % n]];
            const tdm_nccl_path *path = tdm_nccl_path_of(&view, from, to);
            seen |= UINT64_C(1) << ring.order[c * n + i];
            for (uint32_t l = 0; l < path->n_links; l++)
                load[path->links[l]] += ring.bw_intra;
        }
        assert_true(seen == (UINT64_C(1) << n) - 1);
    }
    for (uint32_t l = 0; l < view.n_links; l++)
        assert_true(load[l] <= view.links[l].bw + 1e-6);
}

static void test_odd_machines(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_graph cube = support_graph_cube_mesh(&a);
    tdm_graph graphs[] = {
        support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0),
        cube,
        support_graph_mesh4(&a, "mesh", 1, 80, 4, 0),
        support_graph_pairs(&a, 4, 80, 12),
        support_graph_pcie(&a, "pcie-4", 2, 0, 2, 86, TDM_CPU_INTEL),
        support_graph_pcie(&a, "pcie-8", 2, 1, 4, 86, TDM_CPU_AMD),
        support_graph_pcie(&a, "pcie-16", 2, 2, 4, 80, TDM_CPU_AMD),
    };
    for (size_t i = 0; i < TDM_COUNT(graphs); i++)
        check_order(&a, &graphs[i], graphs[i].n_gpus);
    /* Six NVLinks of 20 GB/s per GPU: six rings use them all. */
    tdm_nccl_comm v100 = with(&a, cube, 8, NULL);
    check_graph(&v100.ring, 6, 20, 20);
    /* Three neighbours of four links each: 12 rings of 20. */
    tdm_nccl_comm mesh = with(&a, graphs[2], 4, NULL);
    check_graph(&mesh.ring, 12, 20, 20);
    tdm_arena_free(&a);
}

static tdm_nccl_pick chosen(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes)
{
    tdm_nccl_pick pick = {0};
    assert_int_equal(tdm_nccl_choose(comm, func, bytes, &pick, NULL), TDM_OK);
    return pick;
}

static void test_switch_over(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_graph graph = support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0);
    tdm_nccl_comm h100 = with(&a, graph, 8, NULL);
    for (uint64_t bytes = 8; bytes <= UINT64_C(1) << 33; bytes *= 2) {
        tdm_nccl_pick pick = chosen(&h100, TDM_NCCL_ALL_REDUCE, bytes);
        bool small = bytes <= 1 << 20;
        assert_int_equal(pick.algo, small ? TDM_NCCL_RING : TDM_NCCL_NVLS);
        assert_int_equal(pick.proto, small ? TDM_NCCL_LL : TDM_NCCL_SIMPLE);
    }
    assert_int_equal(chosen(&h100, TDM_NCCL_ALL_GATHER, 1 << 30).algo, TDM_NCCL_RING);
    tdm_nccl_comm four = with(&a, graph, 4, NULL);
    assert_int_equal(chosen(&four, TDM_NCCL_ALL_REDUCE, 1 << 30).algo, TDM_NCCL_RING);
    tdm_nccl_comm off = with(&a, graph, 8, "NCCL_NVLS_ENABLE=0");
    assert_int_equal(chosen(&off, TDM_NCCL_ALL_REDUCE, 1 << 30).algo, TDM_NCCL_RING);
    tdm_nccl_comm two =
        with(&a, support_graph_nvswitch(&a, "hgx", 2, 8, 90, 18, 48e9, 50e9), 16, NULL);
    assert_int_equal(chosen(&two, TDM_NCCL_ALL_REDUCE, 1024).algo, TDM_NCCL_TREE);
    assert_int_equal(chosen(&two, TDM_NCCL_ALL_REDUCE, 1 << 30).algo, TDM_NCCL_NVLS_TREE);
    tdm_nccl_comm few = with(&a, graph, 8, "NCCL_MAX_NCHANNELS=4");
    assert_int_equal(chosen(&few, TDM_NCCL_ALL_GATHER, 1 << 30).n_channels, 4);
    tdm_arena_free(&a);
}

/* The tables, by hand for 8 x H100. */
static void test_tables(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_nccl_comm c = with(&a, support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0), 8, NULL);
    const tdm_nccl_func ar = TDM_NCCL_ALL_REDUCE;
    assert_true(fabs(c.latency_us[ar][TDM_NCCL_RING][TDM_NCCL_LL] - (6.6 + 14 * .6)) < 1e-9);
    assert_true(fabs(c.latency_us[ar][TDM_NCCL_RING][TDM_NCCL_LL128] - (14 + 14 * 1.9)) < 1e-9);
    assert_true(fabs(c.latency_us[ar][TDM_NCCL_TREE][TDM_NCCL_SIMPLE] - (8.4 + 14 * 4)) < 1e-9);
    assert_true(fabs(c.latency_us[ar][TDM_NCCL_NVLS][TDM_NCCL_SIMPLE] - 25) < 1e-9);
    assert_true(fabs(c.bw[ar][TDM_NCCL_RING][TDM_NCCL_LL] - 141.0 * 8 / 14) < 1e-9);
    assert_true(fabs(c.bw[ar][TDM_NCCL_RING][TDM_NCCL_LL128] - .92 * 360 * 8 / 14) < 1e-9);
    assert_true(fabs(c.bw[ar][TDM_NCCL_RING][TDM_NCCL_SIMPLE] - 360.0 * 8 / 14) < 1e-9);
    assert_true(fabs(c.bw[ar][TDM_NCCL_NVLS][TDM_NCCL_SIMPLE] - 8 * 59.5 * 8 / 14) < 1e-9);
    assert_true(c.bw[ar][TDM_NCCL_NVLS_TREE][TDM_NCCL_SIMPLE] == 0);
    assert_true(c.bw[TDM_NCCL_ALL_GATHER][TDM_NCCL_TREE][TDM_NCCL_SIMPLE] == 0);
    tdm_arena_free(&a);
}

/* Longer takes longer within an algorithm and protocol, and no bus is faster than its links. */
static void check_times(const tdm_nccl_comm *comm, double link_gb_per_s)
{
    for (int func = 0; func < TDM_NCCL_N_FUNCS; func++) {
        tdm_nccl_cost last = {0};
        for (uint64_t bytes = 64; bytes <= UINT64_C(1) << 33; bytes *= 2) {
            tdm_nccl_cost cost = {0};
            assert_int_equal(tdm_nccl_time(comm, (tdm_nccl_func)func, bytes, &cost, NULL), TDM_OK);
            double bus = (double)bytes / cost.time_s * 1e-9 *
                         tdm_nccl_bus_factor((tdm_nccl_func)func, comm->n_ranks);
            bool same = last.pick.algo == cost.pick.algo && last.pick.proto == cost.pick.proto;
            if (bytes > 64 && same && cost.time_s < last.time_s * (1 - 1e-12))
                fail_msg("%s: %s of %llu bytes is faster than of half", comm->name,
                         tdm_nccl_func_name((tdm_nccl_func)func), (unsigned long long)bytes);
            /* In the switch a byte goes once where a ring sends it almost twice. */
            double limit = cost.pick.algo == TDM_NCCL_NVLS || cost.pick.algo == TDM_NCCL_NVLS_TREE
                               ? 2 * link_gb_per_s
                               : link_gb_per_s;
            assert_true(bus <= limit);
            assert_true(cost.time_s > 0 && cost.ramp > 0 && cost.ramp <= 1);
            last = cost;
        }
    }
}

static void test_times(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_nccl_comm comms[] = {
        with(&a, support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0), 8, NULL),
        with(&a, support_graph_nvswitch(&a, "hgx", 2, 8, 90, 18, 48e9, 50e9), 16, NULL),
        with(&a, support_graph_nvswitch(&a, "b200", 1, 8, 100, 18, 48e9, 0), 8, NULL),
        with(&a, support_graph_nvswitch(&a, "dgx", 2, 8, 80, 12, 24e9, 25e9), 16, NULL),
        with(&a, support_graph_nvswitch(&a, "dgx-2", 1, 16, 70, 6, 12e9, 0), 16, NULL),
    };
    static const double links[] = {370.8, 370.8, 721.8, 240, 120};
    for (size_t i = 0; i < TDM_COUNT(comms); i++)
        check_times(&comms[i], links[i] * 1.03);
    tdm_arena_free(&a);
}

/* Whom a rank sends to in a round expects it; every pair meets once. */
static void test_rounds(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {{8, 1}, {16, 2}, {16, 1}, {24, 3}, {12, 2}, {5, 5}};
    enum { MOST = 24 };
    for (size_t s = 0; s < TDM_COUNT(shapes); s++) {
        tdm_nccl_comm comm = {.n_ranks = shapes[s][0], .n_nodes = shapes[s][1]};
        uint32_t send[MOST][MOST], receive[MOST][MOST];
        for (uint32_t r = 0; r < comm.n_ranks; r++)
            tdm_nccl_p2p_rounds(&comm, r, send[r], receive[r]);
        for (uint32_t r = 0; r < comm.n_ranks; r++) {
            uint64_t seen = 0;
            assert_int_equal(send[r][0], r);
            for (uint32_t i = 0; i < comm.n_ranks; i++) {
                seen |= UINT64_C(1) << send[r][i];
                assert_int_equal(receive[send[r][i]][i], r);
            }
            assert_true(seen == (UINT64_C(1) << comm.n_ranks) - 1);
        }
    }
}

static void test_settings(void **state)
{
    (void)state;
    tdm_nccl_settings s = tdm_nccl_settings_default();
    tdm_error err = {0};
    assert_int_equal(tdm_nccl_settings_assign(&s, "t", "NCCL_ALGO=^tree;allreduce:NVLS,ring", &err),
                     TDM_OK);
    assert_false(s.algo[TDM_NCCL_ALL_GATHER][TDM_NCCL_TREE]);
    assert_true(s.algo[TDM_NCCL_ALL_GATHER][TDM_NCCL_PAT]);
    assert_true(s.algo[TDM_NCCL_ALL_REDUCE][TDM_NCCL_NVLS]);
    assert_false(s.algo[TDM_NCCL_ALL_REDUCE][TDM_NCCL_PAT]);
    assert_int_equal(tdm_nccl_settings_assign(&s, "t", "NCCL_BUFFSIZE=8388608", &err), TDM_OK);
    assert_true(s.buffer_bytes[TDM_NCCL_SIMPLE] == 8388608);
    static const char *const bad[] = {
        "NCCL_ALGO=rong",
        "NCCL_ALGO=ring;tree",
        "NCCL_ALGO=foo:ring",
        "NCCL_PROTO=",
        "NCCL_MAX_NCHANNELS=65",
        "NCCL_MIN_CTAS=-1",
        "NCCL_NTHREADS=100",
        "NCCL_DEBUG=INFO",
        "NCCL_NET_OVERHEAD=fast",
        "NCCL_ALGO",
        "=3",
    };
    for (size_t i = 0; i < TDM_COUNT(bad); i++) {
        tdm_nccl_settings before = s;
        tdm_error refused = {0};
        assert_int_equal(tdm_nccl_settings_assign(&s, "t", bad[i], &refused), TDM_E_INVALID);
        assert_int_equal(refused.n_messages, 1);
        assert_memory_equal(&before, &s, sizeof s);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_error *err = TDM_ALLOC(&a, tdm_error, 1);
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_nccl_comm comm;
    uint32_t ranks[16];
    for (uint32_t i = 0; i < 16; i++)
        ranks[i] = i;
    tdm_graph no_network = support_graph_nvswitch(&a, "apart", 2, 8, 90, 18, 48e9, 0);
    assert_int_equal(tdm_nccl_comm_build(&a, &no_network, ranks, 16, &settings, &comm, err),
                     TDM_E_INVALID);
    assert_non_null(strstr(err->text, "apart: a node without network adapters"));
    tdm_graph unknown = support_graph_nvswitch(&a, "unknown", 1, 8, 0, 18, 48e9, 0);
    assert_int_equal(tdm_nccl_comm_build(&a, &unknown, ranks, 8, &settings, &comm, err),
                     TDM_E_INVALID);
    assert_non_null(strstr(err->text, "the compute capability of gpu-0 is not known"));
    tdm_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_nodes), cmocka_unit_test(test_several_nodes),
        cmocka_unit_test(test_odd_machines), cmocka_unit_test(test_switch_over),
        cmocka_unit_test(test_tables),       cmocka_unit_test(test_times),
        cmocka_unit_test(test_rounds),       cmocka_unit_test(test_settings),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
