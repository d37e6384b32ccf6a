/* Topology files that are composed of a node and a network, the node types, and what NCCL makes of
 * them. Graphs with channels that NCCL finds: worked from the rules of NCCL 2.28.9,
 * src/graph/search.cc; public logs agree for 24 channels on 8 x A100 (nccl-tests issue 100), 16
 * rings and 8 NVLS heads on 8 x B200. */
#include "core/files.h"
#include "core/graph_bisection.h"
#include "core/graph_paths.h"
#include "core/graph_rates.h"
#include "core/topology_compose.h"
#include "core/topology_load.h"
#include "tests/support_nccl.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static tdm_topology_file read_file(tdm_arena *arena, const char *path)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_topology_file file = {0};
    if (tdm_topology_read(arena, TANDEM_SOURCE_ROOT, path, NULL, &file, err) != TDM_OK)
        fail_msg("%s", err->text);
    return file;
}

static tdm_topology_file shipped(tdm_arena *arena, const char *name)
{
    return read_file(arena,
                     tdm_arena_printf(arena, "%s/topologies/%s.yaml", TANDEM_SOURCE_ROOT, name));
}

static tdm_graph sample(tdm_arena *arena, const char *name)
{
    return read_file(arena, tdm_arena_printf(arena, "%s/tests/topologies/good/%s.yaml",
                                             TANDEM_SOURCE_ROOT, name))
        .graph;
}

static uint32_t vertex_named(const tdm_graph *graph, const char *name)
{
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (strcmp(graph->vertices[v].name, name) == 0)
            return v;
    fail_msg("%s has no %s", graph->name, name);
    return 0;
}

static const tdm_edge *edge_named(const tdm_graph *graph, const char *name)
{
    for (uint32_t e = 0; e < graph->n_edges; e++)
        if (strcmp(graph->edges[e].name, name) == 0)
            return &graph->edges[e];
    fail_msg("%s has no link %s", graph->name, name);
    return NULL;
}

static void assert_near(double a, double b)
{
    if (fabs(a - b) > 1e-9 * fabs(b))
        fail_msg("%g is not %g", a, b);
}

/* Vertices and links of node j are those of node 0, moved on; what is shared comes behind. */
static void check_alike(const tdm_graph *graph)
{
    uint32_t n_shared = 0, n_of_node;
    while (graph->vertices[graph->n_vertices - n_shared - 1].node == TDM_NO_NODE)
        n_shared++;
    assert_int_equal((graph->n_vertices - n_shared) % graph->n_nodes, 0);
    n_of_node = (graph->n_vertices - n_shared) / graph->n_nodes;
    for (uint32_t v = 0; v < n_of_node * graph->n_nodes; v++) {
        const tdm_vertex *a = &graph->vertices[v % n_of_node], *b = &graph->vertices[v];
        uint32_t first = graph->first_edge[v % n_of_node], move = v / n_of_node * n_of_node;
        uint32_t n = graph->first_edge[v % n_of_node + 1] - first;
        assert_int_equal(b->node, v / n_of_node);
        assert_int_equal(a->kind, b->kind);
        assert_int_equal(a->sm, b->sm);
        assert_true(a->nic_bytes_per_s == b->nic_bytes_per_s);
        assert_int_equal(graph->first_edge[v + 1] - graph->first_edge[v], n);
        for (uint32_t e = 0; e < n; e++) {
            const tdm_edge *x = &graph->edges[first + e];
            const tdm_edge *y = &graph->edges[graph->first_edge[v] + e];
            assert_true(x->bytes_per_s == y->bytes_per_s && x->latency_s == y->latency_s);
            assert_int_equal(x->wire, y->wire);
            if (x->to < n_of_node)
                assert_int_equal(y->to, x->to + move);
            else
                assert_true(graph->vertices[y->to].node == TDM_NO_NODE);
        }
    }
    for (uint32_t g = 0; g < graph->n_gpus; g++)
        assert_int_equal(graph->vertices[graph->gpus[g]].node,
                         g / (graph->n_gpus / graph->n_nodes));
}

/* Every file that is shipped: names are unique, nodes alike, and NCCL finds channels. */
static void every_topology(void **state)
{
    (void)state;
    DIR *folder = opendir(TANDEM_SOURCE_ROOT "/topologies");
    assert_non_null(folder);
    int n = 0, n_composed = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strstr(entry->d_name, ".yaml"))
            continue;
        tdm_arena arena = {0};
        tdm_topology_file file = shipped(&arena, tdm_file_stem(&arena, entry->d_name));
        const tdm_graph *graph = &file.graph;
        assert_non_null(file.group);
        assert_true(strlen(file.description) > 5);
        for (uint32_t a = 0; a < graph->n_edges; a++)
            for (uint32_t b = 0; b < a; b++)
                assert_string_not_equal(graph->edges[a].name, graph->edges[b].name);
        if (file.network) {
            check_alike(graph);
            n_composed++;
        }
        if (file.cores) { /* NCCL does not run there */
            tdm_arena_free(&arena);
            continue;
        }
        tdm_nccl_comm comm = support_nccl_comm(&arena, *graph, graph->n_gpus);
        assert_true(comm.ring.n_channels > 0 && !comm.ring.fallback);
        n++;
        tdm_arena_free(&arena);
    }
    closedir(folder);
    assert_true(n >= 40 && n_composed >= 10);
}

static void check_channels(const tdm_nccl_graph *graph, uint32_t n, double intra, double inter)
{
    if (graph->n_channels != n || fabs(graph->bw_intra - intra) > 1e-9 ||
        fabs(graph->bw_inter - inter) > 1e-9)
        fail_msg("%u x %g, %g GB/s instead of %u x %g, %g", graph->n_channels, graph->bw_intra,
                 graph->bw_inter, n, intra, inter);
}

static void worked_channels(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t ring, nvls, channels; /* of the search; in use */
        double ring_intra, ring_inter, nvls_intra, nvls_inter;
    } machines[] = {
        {"dgx-h100", 12, 8, 24, 30, 30, 40, 60},     {"dgx-h200", 12, 8, 24, 30, 30, 40, 60},
        {"dgx-b200", 16, 8, 32, 45, 45, 80, 90},     {"dgx-a100", 12, 0, 24, 20, 20, 0, 0},
        {"dgx-a100-40g", 12, 0, 24, 20, 20, 0, 0},   {"dgx-2", 6, 0, 12, 20, 20, 0, 0},
        {"a2-megagpu-16g", 12, 0, 24, 20, 20, 0, 0}, {"dgx-2x8-h100", 8, 8, 16, 48, 48, 40, 48},
        {"dgx-2x8-h200", 8, 8, 16, 48, 48, 40, 48},  {"dgx-2x8-a100", 8, 0, 16, 24, 24, 0, 0},
    };
    for (size_t i = 0; i < TDM_COUNT(machines); i++) {
        tdm_arena arena = {0};
        tdm_graph graph = shipped(&arena, machines[i].name).graph;
        tdm_nccl_comm comm = support_nccl_comm(&arena, graph, graph.n_gpus);
        check_channels(&comm.ring, machines[i].ring, machines[i].ring_intra,
                       machines[i].ring_inter);
        assert_int_equal(comm.n_channels, machines[i].channels);
        assert_int_equal(comm.nvls.n_channels, machines[i].nvls);
        if (machines[i].nvls > 0)
            check_channels(&comm.nvls, machines[i].nvls, machines[i].nvls_intra,
                           machines[i].nvls_inter);
        tdm_arena_free(&arena);
    }
}

/* Names of GPUs and links go on from node to node; the adapters carry their share of the line. */
static void names_and_rates(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph graph = shipped(&arena, "dgx-2x8-h200").graph;
    assert_int_equal(graph.vertices[vertex_named(&graph, "gpu-11")].index, 11);
    assert_int_equal(graph.vertices[vertex_named(&graph, "gpu-11")].node, 1);
    const tdm_edge *up = edge_named(&graph, "gpu-11-nvlink-up");
    assert_string_equal(graph.vertices[up->from].name, "gpu-11");
    assert_string_equal(graph.vertices[up->to].name, "nvswitch-1");
    assert_int_equal(up->count, 18);
    assert_near(up->bytes_per_s, 18 * 20.6e9); /* SM90_NVLINK_BW, topo.h */
    const tdm_edge *out = edge_named(&graph, "gpu-11-nic-up");
    assert_near(out->bytes_per_s, 0.97 * 50e9);
    assert_string_equal(graph.vertices[out->to].name, "rail-3");
    assert_near(graph.vertices[out->from].nic_bytes_per_s, 50e9);
    assert_string_equal(edge_named(&graph, "gpu-11-nic-down")->name, "gpu-11-nic-down");
    graph = shipped(&arena, "azure-ndv2").graph;
    const tdm_edge *mesh = edge_named(&graph, "gpu-0-nvlink-gpu-3-up");
    assert_int_equal(mesh->count, 2);
    assert_near(mesh->bytes_per_s, 40e9); /* 2 x SM70_NVLINK_BW */
    tdm_arena_free(&arena);
}

static double uplink(const tdm_graph *graph, const char *name)
{
    return edge_named(graph, name)->bytes_per_s;
}

/* n nodes of a DGX H100, joined by a network that is not in a file. */
static tdm_graph composed(tdm_arena *arena, const char *kind, uint32_t n_nodes,
                          uint32_t nodes_per_leaf, double oversubscription)
{
    tdm_graph *node = TDM_ALLOC(arena, tdm_graph, 1);
    *node = shipped(arena, "dgx-h100").graph;
    tdm_composition c = {.node = node, .n_nodes = n_nodes, .nodes_per_nvlink_domain = 1};
    c.spec.nodes_per_leaf = nodes_per_leaf;
    c.spec.oversubscription.value = oversubscription;
    for (size_t i = 0; tdm_networks[i]; i++)
        if (strcmp(tdm_networks[i]->name, kind) == 0)
            c.network = tdm_networks[i];
    assert_non_null(c.network);
    return tdm_compose(arena, &c, kind);
}

static uint32_t n_switches(const tdm_graph *graph)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        n += graph->vertices[v].kind == TDM_VERTEX_SWITCH;
    return n;
}

static uint32_t path_length(tdm_arena *arena, const tdm_graph *graph, uint32_t a, uint32_t b)
{
    return tdm_pathfinder_find(tdm_pathfinder_new(arena, graph), vertex_named(graph, "gpu-0") + a,
                               b)
        .n_edges;
}

/* Leaves, spines and what their uplinks carry, in closed form. */
static void networks(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const double nic = 0.97 * 50e9;
    tdm_graph flat = composed(&arena, "single-switch", 4, 0, 0);
    assert_int_equal(n_switches(&flat), 1);
    tdm_graph rail = composed(&arena, "rail", 4, 0, 0);
    assert_int_equal(n_switches(&rail), 8 + 1);
    assert_near(uplink(&rail, "rail-5-uplink-up"), 4 * nic);
    rail = composed(&arena, "rail", 5, 2, 2); /* groups of 2, 2 and 1 node */
    assert_int_equal(n_switches(&rail), 3 * 8 + 1);
    assert_near(uplink(&rail, "group-0-rail-7-uplink-up"), 2 * nic / 2);
    assert_near(uplink(&rail, "group-2-rail-0-uplink-down"), nic / 2);
    tdm_graph tree = composed(&arena, "fat-tree", 5, 2, 4);
    assert_int_equal(n_switches(&tree), 3 + 1);
    assert_near(uplink(&tree, "leaf-0-uplink-up"), 16 * nic / 4);
    assert_near(uplink(&tree, "leaf-2-uplink-up"), 8 * nic / 4);
    assert_int_equal(n_switches(&(tdm_graph){.n_vertices = 0}), 0);
    tree = composed(&arena, "fat-tree", 4, 0, 4); /* one leaf: nothing to oversubscribe */
    assert_int_equal(n_switches(&tree), 1);
    /* GPU, switch, adapter, leaf, adapter, switch, GPU; over the spine two links more */
    uint32_t far = vertex_named(&rail, "gpu-8"), other = vertex_named(&rail, "gpu-9");
    assert_int_equal(path_length(&arena, &rail, 0, far), 6);
    assert_int_equal(path_length(&arena, &rail, 0, other), 8);
    tdm_arena_free(&arena);
}

/* The file says what the network is: four of the eight adapters, at another rate. */
static void short_form(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph graph = sample(&arena, "two-with-x");
    uint32_t n_nics = 0;
    for (uint32_t v = 0; v < graph.n_vertices; v++) {
        n_nics += graph.vertices[v].kind == TDM_VERTEX_NIC;
        if (graph.vertices[v].kind == TDM_VERTEX_NIC)
            assert_near(graph.vertices[v].nic_bytes_per_s, 25e9);
    }
    assert_int_equal(n_nics, 8);
    assert_int_equal(n_switches(&graph), 3);
    assert_near(uplink(&graph, "nic-5-network-up"), 0.97 * 25e9);
    assert_near(uplink(&graph, "leaf-1-uplink-up"), 4 * 0.97 * 25e9 / 2);
    tdm_arena_free(&arena);
}

/* One NVLink domain over four machines: one node for NCCL, whatever the network is. */
static void rack(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph graph = shipped(&arena, "gb200-nvl72-4x4").graph;
    uint32_t nvswitch = vertex_named(&graph, "nvswitch-0");
    assert_int_equal(graph.n_nodes, 4);
    assert_int_equal(graph.vertices[nvswitch].node, TDM_NO_NODE);
    assert_int_equal(graph.first_edge[nvswitch + 1] - graph.first_edge[nvswitch], 16);
    tdm_nccl_comm comm = support_nccl_comm(&arena, graph, 16);
    assert_int_equal(comm.n_nodes, 1);
    assert_true(comm.has_multicast);
    assert_int_equal(comm.vendor, TDM_CPU_ARM);
    tdm_bisection half = tdm_graph_bisection(&arena, &graph);
    assert_near(half.bytes_per_s, 8 * 18 * 40.1e9); /* SM100_NVLINK_BW, topo.h */
    tdm_arena_free(&arena);
}

static void link_by_link(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_graph graph = sample(&arena, "odd");
    tdm_pathfinder *finder = tdm_pathfinder_new(&arena, &graph);
    assert_int_equal(graph.n_gpus, 3);
    tdm_graph_path there = tdm_pathfinder_find(finder, graph.gpus[0], graph.gpus[1]);
    tdm_graph_path back = tdm_pathfinder_find(finder, graph.gpus[1], graph.gpus[0]);
    assert_near(there.bytes_per_s, 80e9);
    assert_near(back.bytes_per_s, 60e9);
    assert_near(there.latency_s, 2 * TDM_LATENCY_NVLINK_HALF_S);
    assert_near(tdm_pathfinder_find(finder, graph.gpus[2], graph.gpus[1]).bytes_per_s, 12e9);
    assert_int_equal(edge_named(&graph, "link-4-three-cpu-up")->count, 8);
    graph = sample(&arena, "odd-3");
    assert_int_equal(graph.n_gpus, 9);
    assert_near(uplink(&graph, "node-2-ib-network-up"), 0.9 * 12.5e9);
    assert_near(edge_named(&graph, "node-0-ib-network-down")->latency_s, 1e-6);
    assert_near(uplink(&graph, "leaf-0-uplink-up"), 2 * 0.9 * 12.5e9 / 4);
    check_alike(&graph);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_topology),  cmocka_unit_test(worked_channels),
        cmocka_unit_test(names_and_rates), cmocka_unit_test(networks),
        cmocka_unit_test(short_form),      cmocka_unit_test(rack),
        cmocka_unit_test(link_by_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
