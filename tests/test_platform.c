/* The SimGrid platform as text: what is in it, and that it appears whole or not at all. */
#include "core/topology_load.h"
#include "sim/sim.h"
#include "support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static tdm_error err;

static tdm_topology load(tdm_arena *arena, const char *name)
{
    memset(&err, 0, sizeof err);
    tdm_topology topology = {0};
    const char *path = tdm_arena_printf(arena, "%s/topologies/%s.yaml", TANDEM_SOURCE_ROOT, name);
    if (tdm_topology_load(arena, path, &topology, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return topology;
}

/* Writes the platform into a fresh folder and returns the file's text. */
static char *written(tdm_arena *arena, const tdm_topology *topology)
{
    char folder[] = "/tmp/tandem-platform-XXXXXX";
    assert_non_null(mkdtemp(folder));
    const char *path = tdm_arena_printf(arena, "%s/platform.xml", folder);
    if (tdm_sim_write_platform(topology, path, &err) != TDM_OK)
        fail_msg("%s", err.text);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t capacity = 1 << 20;
    char *text = tdm_arena_alloc(arena, capacity);
    size_t n = fread(text, 1, capacity - 1, file);
    fclose(file);
    assert_true(n < capacity - 1);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left there */
    return text;
}

static uint32_t count(const char *text, const char *what)
{
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static void one_switch(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, "dgx-2");
    const char *text = written(&arena, &topology);
    assert_non_null(strstr(text, "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">"));
    assert_non_null(strstr(text, "<platform version=\"4.1\">"));
    assert_non_null(strstr(text, "routing=\"Cluster\""));
    assert_int_equal(count(text, "<host id="), 16);
    assert_int_equal(count(text, "<link id="), 32);
    assert_int_equal(count(text, "latency=\"0s\""), 32);
    assert_int_equal(count(text, "bandwidth=\"90000000000Bps\""), 32);
    assert_int_equal(count(text, "<host_link id="), 16);
    assert_int_equal(count(text, "<route "), 0);
    assert_non_null(strstr(
        text, "<host_link id=\"gpu-5\" up=\"gpu-5-nvlink-up\" down=\"gpu-5-nvlink-down\"/>"));
    tdm_arena_free(&arena);
}

static void routes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, "pcie-16-a100-40g");
    const char *text = written(&arena, &topology);
    assert_non_null(strstr(text, "routing=\"Full\""));
    assert_int_equal(count(text, "<route "), 16 * 15);
    assert_int_equal(count(text, "<link id="), topology.n_links);
    /* 3 others under the switch, 4 under the socket, 8 under the other */
    assert_int_equal(count(text, "<link_ctn "), 16 * (3 * 2 + 4 * 4 + 8 * 6));
    assert_non_null(strstr(text,
                           "<route src=\"gpu-0\" dst=\"gpu-1\" symmetrical=\"NO\"><link_ctn "
                           "id=\"gpu-0-pcie-up\"/><link_ctn id=\"gpu-1-pcie-down\"/></route>"));
    tdm_arena_free(&arena);
}

/* Nodes that a network joins: a zone for each plane, whose size grows with the GPUs. */
static void planes(void **state)
{
    (void)state;
    static const uint32_t n_nodes[] = {2, 16, 64};
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(n_nodes); i++) {
        tdm_node nodes = {.kind = TDM_NODE_SCALAR,
                          .text = tdm_arena_printf(&arena, "%u", n_nodes[i]),
                          .path = "test",
                          .key = "nodes"};
        tdm_topology topology;
        if (tdm_topology_load_nodes(&arena, TANDEM_SOURCE_ROOT "/topologies/dgx-2x8-h100.yaml",
                                    &nodes, &topology, &err) != TDM_OK)
            fail_msg("%s", err.text);
        const char *text = written(&arena, &topology);
        uint32_t n = 8 * n_nodes[i];
        assert_int_equal(topology.n_gpus, n);
        assert_int_equal(count(text, "routing=\"Cluster\""), 2);
        assert_int_equal(count(text, "<host id="), 2 * n);
        assert_int_equal(count(text, "<link id="), 4 * n);
        assert_int_equal(count(text, "<host_link "), 2 * n);
        assert_int_equal(count(text, "<route "), 0);
        assert_non_null(strstr(text, "<host_link id=\"gpu-5-network\" up=\"gpu-5-nic-up\" "
                                     "down=\"gpu-5-nic-down\"/>"));
    }
    tdm_arena_free(&arena);
}

static void same_bytes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, "dgx-2x8-h100");
    assert_string_equal(written(&arena, &topology), written(&arena, &topology));
    tdm_arena_free(&arena);
}

static void one_gpu(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_topology topology = {.name = "alone", .n_gpus = 1, .gpus_per_node = 1};
    const char *text = written(&arena, &topology);
    assert_int_equal(count(text, "<host id="), 1);
    assert_int_equal(count(text, "<route "), 0);
    tdm_arena_free(&arena);
}

/* GPUs that cannot reach each other, and a folder that is not there: a message and no file. */
static void failures(void **state)
{
    (void)state;
    static const int32_t parent[] = {-1, -1};
    static const uint32_t none[] = {0, 0};
    static const tdm_plane plane = {"p", 2, parent, none, none};
    const tdm_topology topology = {
        .name = "islands", .n_gpus = 2, .gpus_per_node = 2, .n_planes = 1, .planes = &plane};
    char folder[] = "/tmp/tandem-platform-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/p.xml", folder);
    memset(&err, 0, sizeof err);
    assert_int_equal(tdm_sim_write_platform(&topology, path, &err), TDM_E_INVALID);
    assert_string_equal(err.text, "topology islands: GPU 0 has no route to GPU 1\n");
    assert_int_equal(rmdir(folder), 0);
    memset(&err, 0, sizeof err);
    assert_int_equal(tdm_sim_write_platform(&topology, path, &err), TDM_E_INTERNAL);
    assert_non_null(strstr(err.text, "No such file or directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_switch), cmocka_unit_test(routes),  cmocka_unit_test(planes),
        cmocka_unit_test(same_bytes), cmocka_unit_test(one_gpu), cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
