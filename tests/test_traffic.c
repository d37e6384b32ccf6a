/* test_traffic.c: what NCCL's algorithms put on links, on machines where it can be counted, and how
 * flows share links. */
#include "core/nccl/time.h"
#include "core/sharing.h"
#include "tests/support_graph.h"
#include "tests/support_nccl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool close_to(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b));
}

static tdm_nccl_traffic traffic_of(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                                   tdm_nccl_algo algo)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_traffic traffic = {0};
    if (tdm_nccl_traffic_of(arena, comm, func, algo, &traffic, err) != TDM_OK)
        fail_msg("%s", err->text);
    return traffic;
}

/* The part whose links are of this wire, and that it is the only one. */
static tdm_nccl_part part_on(const tdm_nccl_comm *comm, const tdm_nccl_traffic *traffic,
                             tdm_wire wire)
{
    tdm_nccl_part found = {0};
    for (uint32_t p = 0; p < traffic->n_parts; p++) {
        uint32_t n = 0;
        for (uint32_t l = 0; l < traffic->parts[p].n_links; l++)
            n += comm->graph->edges[traffic->parts[p].links[l]].wire == wire;
        if (n == 0)
            continue;
        assert_int_equal(found.n_links, 0);
        found = (tdm_nccl_part){traffic->parts[p].share, n, traffic->parts[p].links};
    }
    return found;
}

static void test_one_switch(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_nccl_comm comm =
        support_nccl_comm(&a, support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0), 8);
    const struct {
        tdm_nccl_func func;
        tdm_nccl_algo algo;
        uint32_t n_links;
        double share;
    } cases[] = {
        {TDM_NCCL_ALL_REDUCE, TDM_NCCL_RING, 16, 2 * 7.0 / 8},
        {TDM_NCCL_ALL_GATHER, TDM_NCCL_RING, 16, 7.0 / 8},
        {TDM_NCCL_REDUCE_SCATTER, TDM_NCCL_RING, 16, 7.0 / 8},
        {TDM_NCCL_ALL_REDUCE, TDM_NCCL_NVLS, 16, 9.0 / 8},
        {TDM_NCCL_ALL_TO_ALL, TDM_NCCL_P2P, 16, 7.0 / 8},
        {TDM_NCCL_SEND_RECV, TDM_NCCL_P2P, 16, 1},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_nccl_traffic traffic = traffic_of(&a, &comm, cases[i].func, cases[i].algo);
        assert_int_equal(traffic.n_parts, 1);
        assert_int_equal(traffic.parts[0].n_links, cases[i].n_links);
        assert_true(close_to(traffic.parts[0].share, cases[i].share));
        assert_true(close_to(tdm_nccl_traffic_bw(&comm, &traffic), 18 * 20.6 / cases[i].share));
    }
    /* A root receives nothing, and nobody sends last: 7 hops of 8. */
    tdm_nccl_traffic broadcast = traffic_of(&a, &comm, TDM_NCCL_BROADCAST, TDM_NCCL_RING);
    assert_int_equal(broadcast.parts[0].n_links, 14);
    /* A chain: twice the buffer both ways on those inside, once at its ends. */
    tdm_nccl_traffic tree = traffic_of(&a, &comm, TDM_NCCL_ALL_REDUCE, TDM_NCCL_TREE);
    assert_true(close_to(tree.parts[0].share, 2) && tree.parts[0].n_links == 12);
    assert_true(close_to(tree.parts[1].share, 1) && tree.parts[1].n_links == 4);
    tdm_arena_free(&a);
}

static void test_two_nodes(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_nccl_comm comm =
        support_nccl_comm(&a, support_graph_nvswitch(&a, "hgx", 2, 8, 90, 18, 48e9, 50e9), 16);
    tdm_nccl_traffic ring = traffic_of(&a, &comm, TDM_NCCL_ALL_REDUCE, TDM_NCCL_RING);
    /* 8 channels, each out and in by an adapter of its own; 7 of 8 stay at a GPU's NVLink. */
    double edge = 2 * 15.0 / 16;
    assert_true(close_to(part_on(&comm, &ring, TDM_WIRE_NETWORK).share, edge / 8));
    assert_int_equal(part_on(&comm, &ring, TDM_WIRE_NETWORK).n_links, 32);
    assert_true(close_to(part_on(&comm, &ring, TDM_WIRE_NVLINK).share, edge * 7 / 8));
    tdm_nccl_traffic tree = traffic_of(&a, &comm, TDM_NCCL_ALL_REDUCE, TDM_NCCL_NVLS_TREE);
    assert_true(close_to(part_on(&comm, &tree, TDM_WIRE_NETWORK).share, 1.0 / 8));
    assert_true(close_to(part_on(&comm, &tree, TDM_WIRE_NVLINK).share, 9.0 / 8));
    /* Half of an all-to-all crosses, by the adapter of the receiver's rail: of the 8 messages to
     * the other node 7 pass to a neighbour first, which is as much as stays within the node. */
    tdm_nccl_traffic all = traffic_of(&a, &comm, TDM_NCCL_ALL_TO_ALL, TDM_NCCL_P2P);
    assert_true(close_to(part_on(&comm, &all, TDM_WIRE_NETWORK).share, 8.0 / 16));
    assert_true(close_to(part_on(&comm, &all, TDM_WIRE_NVLINK).share, 14.0 / 16));
    tdm_arena_free(&a);
}

/* The channels that the search found fit on the links: no ring is faster by NCCL's table than the
 * wires allow, and on all machines it fills the narrowest to within the step of its speeds. */
static void test_channels_fit(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_graph graphs[] = {support_graph_nvswitch(&a, "h100", 1, 8, 90, 18, 48e9, 0),
                          support_graph_nvswitch(&a, "b200", 1, 8, 100, 18, 48e9, 0),
                          support_graph_nvswitch(&a, "hgx", 4, 8, 90, 18, 48e9, 50e9),
                          support_graph_nvswitch(&a, "dgx", 2, 8, 80, 12, 24e9, 25e9),
                          support_graph_cube_mesh(&a),
                          support_graph_mesh4(&a, "mesh", 2, 80, 4, 24e9),
                          support_graph_pcie(&a, "pcie", 2, 2, 4, 80, TDM_CPU_AMD)};
    for (size_t i = 0; i < TDM_COUNT(graphs); i++) {
        tdm_nccl_comm comm = support_nccl_comm(&a, graphs[i], graphs[i].n_gpus);
        for (int f = 0; f < TDM_NCCL_N_TUNED; f++)
            for (int algo = 0; algo < TDM_NCCL_N_ALGOS; algo++) {
                double bw = comm.bw[f][algo][TDM_NCCL_SIMPLE];
                if (bw <= 0)
                    continue;
                tdm_nccl_traffic traffic =
                    traffic_of(&a, &comm, (tdm_nccl_func)f, (tdm_nccl_algo)algo);
                assert_true(traffic.n_parts > 0);
                if (tdm_nccl_traffic_bw(&comm, &traffic) < bw * (1 - 1e-6))
                    fail_msg("%s: %s by %s: %.1f GB/s on links, %.1f by NCCL's table",
                             graphs[i].name, tdm_nccl_func_name((tdm_nccl_func)f),
                             tdm_nccl_algo_name((tdm_nccl_algo)algo),
                             tdm_nccl_traffic_bw(&comm, &traffic), bw);
            }
    }
    tdm_arena_free(&a);
}

/* Messages of given sizes add up to the same as an all-to-all of equal ones. */
static void test_messages(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_error *err = TDM_ALLOC(&a, tdm_error, 1);
    tdm_nccl_comm comm =
        support_nccl_comm(&a, support_graph_nvswitch(&a, "dgx", 2, 8, 80, 12, 24e9, 25e9), 16);
    uint64_t *bytes = TDM_ALLOC(&a, uint64_t, 16 * 16);
    for (uint32_t i = 0; i < 16 * 16; i++)
        bytes[i] = 1 << 20;
    tdm_nccl_traffic some, all = traffic_of(&a, &comm, TDM_NCCL_ALL_TO_ALL, TDM_NCCL_P2P);
    assert_int_equal(tdm_nccl_traffic_of_messages(&a, &comm, bytes, &some, err), TDM_OK);
    assert_int_equal(some.n_parts, all.n_parts);
    for (uint32_t p = 0; p < some.n_parts; p++) {
        assert_int_equal(some.parts[p].n_links, all.parts[p].n_links);
        assert_true(close_to(some.parts[p].share, all.parts[p].share * 16 * (1 << 20)));
    }
    tdm_arena_free(&a);
}

/* A switch that passes less than its links bring. */
static void test_through(void **state)
{
    (void)state;
    tdm_arena a = {0};
    tdm_graph graph = support_graph_pcie(&a, "pcie", 1, 1, 4, 100, TDM_CPU_AMD);
    tdm_vertex *vertices = TDM_ALLOC(&a, tdm_vertex, graph.n_vertices);
    memcpy(vertices, graph.vertices, graph.n_vertices * sizeof *vertices);
    graph.vertices = vertices;
    tdm_nccl_comm free_switch = support_nccl_comm(&a, graph, 4);
    tdm_nccl_traffic before = traffic_of(&a, &free_switch, TDM_NCCL_ALL_TO_ALL, TDM_NCCL_P2P);
    for (uint32_t v = 0; v < graph.n_vertices; v++)
        if (vertices[v].kind == TDM_VERTEX_PCIE_SWITCH)
            vertices[v].through_bytes_per_s = 60e9;
    tdm_nccl_comm comm = support_nccl_comm(&a, graph, 4);
    tdm_nccl_traffic after = traffic_of(&a, &comm, TDM_NCCL_ALL_TO_ALL, TDM_NCCL_P2P);
    /* 12 messages of a quarter of the buffer pass it. */
    assert_true(close_to(tdm_nccl_traffic_bw(&comm, &after), 60 / 3.0));
    assert_true(tdm_nccl_traffic_bw(&free_switch, &before) > 20);
    tdm_arena_free(&a);
}

static void test_sharing(void **state)
{
    (void)state;
    tdm_arena a = {0};
    static const uint32_t first[] = {0}, second[] = {1}, both[] = {0, 1};
    static const double capacity[] = {10, 4};
    double end_s[4];
    /* Flow 1 gets 2 of link 1, then flow 0 takes the 8 that it leaves of link 0. */
    const tdm_shared_flow flows[] = {
        {0, 80, INFINITY, 1, first}, {0, 20, INFINITY, 2, both}, {0, 20, INFINITY, 1, second}};
    tdm_share_links(&a, capacity, flows, 3, end_s);
    assert_true(close_to(end_s[0], 10) && close_to(end_s[1], 10) && close_to(end_s[2], 10));
    /* A flow with a limit leaves the rest to the other; one that starts later halves it. */
    const tdm_shared_flow limited[] = {
        {0, 10, 1, 1, first}, {0, 63, INFINITY, 1, first}, {5, 18, INFINITY, 1, first}};
    tdm_share_links(&a, capacity, limited, 3, end_s);
    assert_true(close_to(end_s[0], 10) && close_to(end_s[1], 9) && close_to(end_s[2], 9));
    /* Nothing to move; no links but a limit. */
    const tdm_shared_flow odd[] = {
        {3, 0, INFINITY, 1, first}, {1, 6, 2, 0, NULL}, {2, 5, INFINITY, 0, NULL}};
    tdm_share_links(&a, capacity, odd, 3, end_s);
    assert_true(close_to(end_s[0], 3) && close_to(end_s[1], 4) && close_to(end_s[2], 2));
    tdm_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_switch),   cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_channels_fit), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_through),      cmocka_unit_test(test_sharing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
