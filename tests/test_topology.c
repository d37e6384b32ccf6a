/* Routes over the fabrics, and every topology file that is shipped. */
#include "core/device_load.h"
#include "core/fabric.h"
#include "core/files.h"
#include "core/topology_load.h"
#include "support.h"
#include "support_planes.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static tdm_topology load(tdm_arena *arena, const char *name)
{
    static tdm_error err;
    memset(&err, 0, sizeof err);
    tdm_topology topology = {0};
    const char *path = tdm_arena_printf(arena, "%s/topologies/%s.yaml", TANDEM_SOURCE_ROOT, name);
    if (tdm_topology_load(arena, TANDEM_SOURCE_ROOT, path, NULL, &topology, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return topology;
}

static tdm_route route(const tdm_topology *topology, uint32_t src, uint32_t dst)
{
    tdm_route found = {.n_links = 99};
    assert_true(tdm_topology_route(topology, src, dst, &found));
    return found;
}

static void one_switch(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_switch(&arena, 4);
    assert_true(tdm_topology_is_single_switch(&topology));
    tdm_route there = route(&topology, 1, 3);
    assert_int_equal(there.n_links, 2);
    assert_int_equal(there.links[0], topology.planes[0].up[1]);
    assert_int_equal(there.links[1], topology.planes[0].down[3]);
    assert_true(there.latency_s == topology.links[0].latency_s + topology.links[1].latency_s);
    assert_int_equal(route(&topology, 2, 2).n_links, 0);
    tdm_arena_free(&arena);
}

static void two_nodes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_planes_two_nodes(&arena, 2);
    assert_false(tdm_topology_is_single_switch(&topology));
    tdm_route inside = route(&topology, 8, 15);
    assert_int_equal(inside.n_links, 2);
    assert_string_equal(topology.links[inside.links[0]].name, "gpu-8-nvlink-up");
    assert_string_equal(topology.links[inside.links[1]].name, "gpu-15-nvlink-down");
    tdm_route across = route(&topology, 7, 8);
    assert_int_equal(across.n_links, 2);
    assert_string_equal(topology.links[across.links[0]].name, "gpu-7-nic-up");
    assert_string_equal(topology.links[across.links[1]].name, "gpu-8-nic-down");
    assert_true(across.latency_s > inside.latency_s);
    tdm_arena_free(&arena);
}

static void pcie_tree(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_planes_pcie(&arena);
    assert_int_equal(route(&topology, 0, 3).n_links, 2); /* same switch */
    assert_int_equal(route(&topology, 0, 4).n_links, 4); /* same socket */
    tdm_route far = route(&topology, 3, 12);             /* across sockets */
    static const char *const names[] = {"gpu-3-pcie-up", "switch-0-pcie-up",   "socket-0-up",
                                        "socket-1-down", "switch-3-pcie-down", "gpu-12-pcie-down"};
    assert_int_equal(far.n_links, TDM_COUNT(names));
    double latency_s = 0;
    for (uint32_t l = 0; l < far.n_links; l++) {
        assert_string_equal(topology.links[far.links[l]].name, names[l]);
        latency_s += topology.links[far.links[l]].latency_s;
    }
    assert_true(far.latency_s == latency_s);
    tdm_route back = route(&topology, 12, 3);
    for (uint32_t l = 0; l < far.n_links; l++)
        for (uint32_t k = 0; k < back.n_links; k++)
            assert_true(far.links[l] != back.links[k]); /* one link each way */
    tdm_arena_free(&arena);
}

/* Two islands: a route exists within each, none between them, also when one GPU hangs on nothing.
 */
static void no_route(void **state)
{
    (void)state;
    static const int32_t parent[] = {4, 4, 5, -1, -1, -1};
    static const uint32_t up[] = {0, 2, 4, 0, 0, 0}, down[] = {1, 3, 5, 0, 0, 0};
    static const tdm_link links[6] = {{"a", 1, 0}, {"b", 1, 0}, {"c", 1, 0},
                                      {"d", 1, 0}, {"e", 1, 0}, {"f", 1, 0}};
    const tdm_plane plane = {"p", 6, parent, up, down};
    const tdm_topology topology = {.n_gpus = 4,
                                   .gpus_per_node = 4,
                                   .n_links = 6,
                                   .links = links,
                                   .n_planes = 1,
                                   .planes = &plane};
    tdm_route found = {.n_links = 99};
    assert_true(tdm_topology_route(&topology, 0, 1, &found));
    assert_int_equal(found.n_links, 2);
    found.n_links = 99;
    assert_false(tdm_topology_route(&topology, 0, 2, &found));
    assert_false(tdm_topology_route(&topology, 3, 0, &found));
    assert_int_equal(found.n_links, 99);
    assert_false(tdm_topology_is_single_switch(&topology));
}

/* A chain of switches: the longest route that fits, and one that does not. */
static void longest_route(void **state)
{
    (void)state;
    enum { DEPTH = 7, N = 2 + 2 * DEPTH + 1 };
    for (int depth = DEPTH - 1; depth <= DEPTH; depth++) {
        int32_t parent[N];
        uint32_t up[N] = {0}, down[N] = {0};
        for (int v = 0; v < N; v++)
            parent[v] = -1;
        int branch[2] = {0, 1}, next = 2;
        for (int level = 1; level < depth; level++)
            for (int b = 0; b < 2; b++) {
                parent[branch[b]] = next;
                branch[b] = next++;
            }
        parent[branch[0]] = parent[branch[1]] = next;
        const tdm_link link = {"l", 1, 0};
        const tdm_plane plane = {"p", N, parent, up, down};
        const tdm_topology topology = {.n_gpus = 2,
                                       .gpus_per_node = 2,
                                       .n_links = 1,
                                       .links = &link,
                                       .n_planes = 1,
                                       .planes = &plane};
        tdm_route found = {0};
        bool fits = 2u * (unsigned)depth <= TDM_ROUTE_MAX;
        assert_int_equal(tdm_topology_route(&topology, 0, 1, &found), fits);
        assert_int_equal(found.n_links, fits ? 2u * (unsigned)depth : 0);
    }
}

static void check_links(const tdm_topology *topology)
{
    for (uint32_t l = 0; l < topology->n_links; l++) {
        const tdm_link *link = &topology->links[l];
        /* What passes a vertex without a limit of its own is not limited. */
        bool free_vertex = l >= topology->graph->n_edges && isinf(link->bytes_per_s);
        assert_true(free_vertex || (link->bytes_per_s > 1e9 && link->bytes_per_s < 1e13));
        assert_true(link->latency_s >= 0 && link->latency_s < 1e-4);
        assert_true(strspn(link->name, "abcdefghijklmnopqrstuvwxyz0123456789-") ==
                    strlen(link->name));
        for (uint32_t k = 0; k < l; k++)
            assert_string_not_equal(link->name, topology->links[k].name);
    }
}

/* Engines ride every one: links are the graph's, and any two GPUs are joined. */
static void check_file(tdm_arena *arena, const char *name)
{
    tdm_topology topology = load(arena, name);
    assert_string_equal(topology.name, name);
    assert_true(strlen(topology.description) > 10);
    assert_true(topology.n_gpus % topology.gpus_per_node == 0);
    assert_true(topology.n_links >= topology.graph->n_edges && topology.link_bytes_per_s.value > 0);
    check_links(&topology);
    tdm_net *net = tdm_net_new(arena, &topology);
    for (uint32_t dst = 1; dst < topology.n_gpus; dst++) {
        tdm_transfer transfer = tdm_net_message(net, 0, dst, 1000000);
        assert_int_equal(tdm_net_check(net, NULL), TDM_OK);
        assert_true((transfer.n_loads >= 1 || topology.cores) && transfer.latency_s > 0);
        if (topology.cores) /* without links */
            continue;
        assert_true(support_gpu_bytes(net, &transfer, 0, false) >= 1000000);
        assert_true(support_gpu_bytes(net, &transfer, dst, true) >= 1000000);
    }
    static tdm_error err;
    tdm_device device;
    const char *path = tdm_file_lookup(arena, &tdm_file_device, TANDEM_SOURCE_ROOT,
                                       TANDEM_SOURCE_ROOT, topology.device_name);
    assert_non_null(path);
    assert_int_equal(tdm_device_load(arena, path, &device, &err), TDM_OK);
}

static void every_file(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    DIR *folder = opendir(TANDEM_SOURCE_ROOT "/topologies");
    assert_non_null(folder);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strstr(entry->d_name, ".yaml"))
            continue;
        check_file(&arena, tdm_file_stem(&arena, entry->d_name));
        n++;
    }
    closedir(folder);
    assert_true(n >= 5);
    tdm_arena_free(&arena);
}

/* The grade of a topology is the worst of its numbers, those of nested maps included. */
static void worst_grade(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    assert_int_equal(load(&arena, "dgx-2").grade, TDM_GRADE_GUESS);
    assert_int_equal(load(&arena, "pcie-16-a100-40g").grade, TDM_GRADE_GUESS);
    assert_int_equal(load(&arena, "dgx-2x8-h100").grade, TDM_GRADE_PUBLISHED);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_switch),    cmocka_unit_test(two_nodes),
        cmocka_unit_test(pcie_tree),     cmocka_unit_test(no_route),
        cmocka_unit_test(longest_route), cmocka_unit_test(every_file),
        cmocka_unit_test(worst_grade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
