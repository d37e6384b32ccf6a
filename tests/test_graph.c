/* Paths and bisections of graphs whose answers are known, and the graphs of every topology that is
 * shipped. */
#include "core/graph_bisection.h"
#include "core/graph_paths.h"
#include "core/graph_rates.h"
#include "core/graph_tree.h"
#include "core/topology_load.h"
#include "support.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static uint32_t add(tdm_graph_builder *b, tdm_vertex_kind kind, uint32_t node)
{
    return tdm_graph_add(b, &(tdm_vertex){.kind = kind, .node = node, .sm = 90});
}

/* Both ways, with a name of its own. */
static void join(tdm_graph_builder *b, uint32_t x, uint32_t y, tdm_wire wire, uint32_t count,
                 double gb_per_s)
{
    tdm_graph_link(b, x, y, wire, count, gb_per_s * 1e9, 1e-6,
                   tdm_arena_printf(b->arena, "link-%u", b->n_edges));
}

static void gpus(tdm_graph_builder *b, uint32_t n)
{
    for (uint32_t g = 0; g < n; g++)
        add(b, TDM_VERTEX_GPU, 0);
}

static void on_a_switch(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 9; n++) {
        tdm_arena arena = {0};
        tdm_graph_builder b;
        tdm_graph_builder_init(&b, &arena);
        gpus(&b, n);
        uint32_t nvs = add(&b, TDM_VERTEX_NVSWITCH, 0);
        for (uint32_t g = 0; g < n; g++)
            join(&b, g, nvs, TDM_WIRE_NVLINK, 18, 300);
        tdm_graph graph = tdm_graph_finish(&b, "switch");
        tdm_graph_path path = tdm_pathfinder_find(tdm_pathfinder_new(&arena, &graph), 0, n - 1);
        assert_int_equal(path.type, TDM_PATH_NVL);
        assert_int_equal(path.n_edges, 2);
        assert_int_equal(path.n_nvlinks, 18);
        assert_true(path.bytes_per_s == 300e9);
        assert_true(fabs(path.latency_s - 2e-6) < 1e-15);
        /* each GPU of the smaller half sends all it can */
        tdm_bisection half = tdm_graph_bisection(&arena, &graph);
        assert_true(half.exact && half.connected);
        assert_true(half.bytes_per_s == n / 2 * 300e9);
        tdm_arena_free(&arena);
    }
}

/* A ring of 6: two neighbours by NVLink, one more over a GPU, the opposite one not at all. */
static void in_a_ring(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, &arena);
    gpus(&b, 6);
    for (uint32_t g = 0; g < 6; g++)
        join(&b, g, (g + 1) % 6, TDM_WIRE_NVLINK, g + 1, 20 * (g + 1));
    tdm_graph graph = tdm_graph_finish(&b, "ring");
    tdm_pathfinder *finder = tdm_pathfinder_new(&arena, &graph);
    assert_int_equal(tdm_pathfinder_find(finder, 0, 1).type, TDM_PATH_NVL);
    tdm_graph_path far = tdm_pathfinder_find(finder, 0, 2);
    assert_int_equal(far.type, TDM_PATH_NVB);
    assert_true(far.bytes_per_s == 20e9);
    assert_int_equal(tdm_pathfinder_find(finder, 0, 3).type, TDM_PATH_NONE);
    assert_int_equal(tdm_pathfinder_find(finder, 4, 4).type, TDM_PATH_LOC);
    /* the halves 1,2,3 and 4,5,0 are joined by the links 0-1 of 20 and 3-4 of 80 GB/s; no others of
     * the ring make less: 20 + 80 against 40 + 100, 60 + 120 and the alternating ones */
    tdm_bisection half = tdm_graph_bisection(&arena, &graph);
    assert_true(half.bytes_per_s == 100e9);
    assert_int_equal(half.n_half, 3);
    tdm_arena_free(&arena);
}

/* Less one way than the other: the worse way counts. */
static void one_way(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, &arena);
    gpus(&b, 2);
    tdm_edge edge = {.from = 0,
                     .to = 1,
                     .wire = TDM_WIRE_NVLINK,
                     .count = 4,
                     .bytes_per_s = 80e9,
                     .name = "there"};
    tdm_graph_edge(&b, &edge);
    edge = (tdm_edge){.from = 1, .to = 0, .wire = TDM_WIRE_NVLINK, .count = 1, .bytes_per_s = 20e9};
    edge.name = "back";
    tdm_graph_edge(&b, &edge);
    tdm_graph graph = tdm_graph_finish(&b, "one-way");
    tdm_pathfinder *finder = tdm_pathfinder_new(&arena, &graph);
    assert_true(tdm_pathfinder_find(finder, 0, 1).bytes_per_s == 80e9);
    assert_true(tdm_pathfinder_find(finder, 1, 0).bytes_per_s == 20e9);
    assert_true(tdm_graph_bisection(&arena, &graph).bytes_per_s == 20e9);
    tdm_arena_free(&arena);
}

/* Every PCIe type, C2C and the network, in one machine of two nodes. */
static void every_type(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, &arena);
    gpus(&b, 6);
    uint32_t away = add(&b, TDM_VERTEX_GPU, 1);
    uint32_t cpu0 = add(&b, TDM_VERTEX_SOCKET, 0), cpu1 = add(&b, TDM_VERTEX_SOCKET, 0);
    uint32_t root0 = add(&b, TDM_VERTEX_ROOT_PORT, 0), root1 = add(&b, TDM_VERTEX_ROOT_PORT, 0);
    uint32_t sw0 = add(&b, TDM_VERTEX_PCIE_SWITCH, 0), sw1 = add(&b, TDM_VERTEX_PCIE_SWITCH, 0);
    uint32_t nic0 = add(&b, TDM_VERTEX_NIC, 0), nic1 = add(&b, TDM_VERTEX_NIC, 1);
    uint32_t net = add(&b, TDM_VERTEX_SWITCH, TDM_NO_NODE);
    join(&b, root0, cpu0, TDM_WIRE_PCIE, 16, 48);
    join(&b, root1, cpu0, TDM_WIRE_PCIE, 16, 48);
    join(&b, sw0, root0, TDM_WIRE_PCIE, 16, 48);
    join(&b, sw1, sw0, TDM_WIRE_PCIE, 16, 48);
    join(&b, 0, sw0, TDM_WIRE_PCIE, 16, 48);
    join(&b, 1, sw0, TDM_WIRE_PCIE, 16, 24);
    join(&b, 2, sw1, TDM_WIRE_PCIE, 16, 48);
    join(&b, 3, root0, TDM_WIRE_PCIE, 16, 48);
    join(&b, 4, root1, TDM_WIRE_PCIE, 16, 48);
    join(&b, 5, cpu1, TDM_WIRE_C2C, 2, 450);
    join(&b, cpu0, cpu1, TDM_WIRE_SOCKET, 1, 22);
    join(&b, nic0, sw0, TDM_WIRE_PCIE, 16, 48);
    join(&b, nic1, away, TDM_WIRE_PCIE, 16, 48);
    join(&b, nic0, net, TDM_WIRE_NETWORK, 1, 25);
    join(&b, nic1, net, TDM_WIRE_NETWORK, 1, 25);
    tdm_graph graph = tdm_graph_finish(&b, "all");
    static const struct {
        uint32_t to;
        tdm_path_type type;
        uint32_t n_edges;
        double gb_per_s;
    } from_0[] = {{1, TDM_PATH_PIX, 2, 24},  {2, TDM_PATH_PXB, 3, 48}, {3, TDM_PATH_PHB, 3, 48},
                  {4, TDM_PATH_NODE, 5, 48}, {5, TDM_PATH_SYS, 5, 22}, {6, TDM_PATH_NET, 5, 25}};
    tdm_pathfinder *finder = tdm_pathfinder_new(&arena, &graph);
    for (size_t i = 0; i < TDM_COUNT(from_0); i++) {
        tdm_graph_path path = tdm_pathfinder_find(finder, 0, from_0[i].to);
        assert_int_equal(path.type, from_0[i].type);
        assert_int_equal(path.n_edges, from_0[i].n_edges);
        assert_true(path.bytes_per_s == from_0[i].gb_per_s * 1e9);
        assert_string_equal(graph.vertices[graph.edges[path.edges[0]].from].name, "gpu-0");
    }
    assert_int_equal(tdm_pathfinder_find(finder, 0, nic0).type, TDM_PATH_PIX);
    assert_int_equal(tdm_pathfinder_find(finder, 5, cpu1).type, TDM_PATH_C2C);
    tdm_graph_tree tree = tdm_graph_tree_make(&arena, &graph);
    assert_int_equal(tdm_graph_tree_socket(&graph, &tree, 2), cpu0);
    assert_int_equal(tdm_graph_tree_socket(&graph, &tree, away), TDM_NO_VERTEX);
    tdm_arena_free(&arena);
}

/* More GPUs than are bisected split by split: said to be an estimate, and from above. */
static void many_gpus(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, &arena);
    gpus(&b, 20);
    uint32_t left = add(&b, TDM_VERTEX_NVSWITCH, 0), right = add(&b, TDM_VERTEX_NVSWITCH, 0);
    for (uint32_t g = 0; g < 20; g++)
        join(&b, g, g % 2 ? left : right, TDM_WIRE_NVLINK, 1, 20);
    tdm_graph graph = tdm_graph_finish(&b, "many");
    tdm_bisection half = tdm_graph_bisection(&arena, &graph);
    assert_false(half.exact);
    assert_false(half.connected); /* odd and even GPUs are two islands */
    assert_true(half.bytes_per_s == 0);
    tdm_arena_free(&arena);
}

static void rates(void **state)
{
    (void)state;
    /* Source: NCCL 2.28.9, src/graph/topo.h */
    assert_true(tdm_rate_nvlink(60) == 18e9 && tdm_rate_nvlink(70) == 20e9);
    assert_true(tdm_rate_nvlink(80) == 20e9 && tdm_rate_nvlink(86) == 12e9);
    assert_true(tdm_rate_nvlink(90) == 20.6e9 && tdm_rate_nvlink(103) == 40.1e9);
    assert_true(tdm_rate_pcie(3, 16) == 12e9 && tdm_rate_pcie(5, 0) == 48e9);
    assert_int_equal(tdm_pcie_generation("16 GT/s"), 4);
    assert_int_equal(tdm_pcie_generation("32 GT/s PCIe/s"), 5); /* compared as far as the table */
    assert_int_equal(tdm_pcie_generation("32.0 GT/s"), 3);      /* not in NCCL's table */
    assert_int_equal(tdm_pcie_generation(""), 3);
    for (uint32_t g = 1; g <= 6; g++) {
        assert_int_equal(tdm_pcie_generation(tdm_pcie_link_speed(g)), g);
        for (uint32_t lanes = 1; lanes <= 16; lanes *= 2)
            assert_int_equal(tdm_pcie_nearest(tdm_rate_pcie(g, lanes), lanes), g);
    }
    assert_true(tdm_rate_socket(TDM_CPU_INTEL, 6, 0x4f) == 6e9);
    assert_true(tdm_rate_socket(TDM_CPU_INTEL, 6, 0x55) == 10e9);
    assert_true(tdm_rate_socket(TDM_CPU_INTEL, 6, 0x8f) == 22e9);
    assert_true(tdm_rate_socket(TDM_CPU_INTEL, 6, 0xcf) == 40e9);
    assert_true(tdm_rate_socket(TDM_CPU_AMD, 25, 1) == 16e9);
    assert_true(tdm_rate_socket(TDM_CPU_UNKNOWN, 0, 0) == TDM_RATE_UNLIMITED);
}

static const tdm_edge *edge_named(const tdm_graph *graph, const char *name)
{
    for (uint32_t e = 0; e < graph->n_edges; e++)
        if (strcmp(graph->edges[e].name, name) == 0)
            return &graph->edges[e];
    return NULL;
}

static void every_topology(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    DIR *folder = opendir(TANDEM_SOURCE_ROOT "/topologies");
    assert_non_null(folder);
    int n = 0;
    for (struct dirent *file; (file = readdir(folder));) {
        if (!strstr(file->d_name, ".yaml"))
            continue;
        tdm_topology_file read;
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        const char *path =
            tdm_arena_printf(&arena, TANDEM_SOURCE_ROOT "/topologies/%s", file->d_name);
        if (tdm_topology_read(&arena, TANDEM_SOURCE_ROOT, path, NULL, &read, err) != TDM_OK)
            fail_msg("%s", err->text);
        const tdm_graph graph = read.graph;
        for (uint32_t v = 0; v < graph.n_vertices; v++)
            for (uint32_t w = 0; w < v; w++)
                assert_string_not_equal(graph.vertices[v].name, graph.vertices[w].name);
        for (uint32_t e = 0; e < graph.n_edges; e++)
            assert_ptr_equal(edge_named(&graph, graph.edges[e].name), &graph.edges[e]);
        for (uint32_t g = 0; g < graph.n_gpus; g++)
            assert_true(read.cores || graph.vertices[graph.gpus[g]].sm >= 70); /* its device says */
        n++;
    }
    closedir(folder);
    assert_true(n >= 6);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_a_switch),    cmocka_unit_test(in_a_ring), cmocka_unit_test(one_way),
        cmocka_unit_test(every_type),     cmocka_unit_test(many_gpus), cmocka_unit_test(rates),
        cmocka_unit_test(every_topology),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
