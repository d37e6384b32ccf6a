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

/* Writes the platform into a fresh folder and returns the file's text. */
static char *written(tdm_arena *arena, const tdm_plan *plan, const tdm_topology *topology)
{
    char folder[] = "/tmp/tandem-platform-XXXXXX";
    assert_non_null(mkdtemp(folder));
    const char *path = tdm_arena_printf(arena, "%s/platform.xml", folder);
    memset(&err, 0, sizeof err);
    if (tdm_sim_write_platform(plan, topology, path, &err) != TDM_OK)
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

/* On bare planes every edge of the ring is a site, and its flows have no limit. */
static void planes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 4});
    tdm_plan plan = support_plan(&arena, &sc);
    const char *text = written(&arena, &plan, &sc.topology);
    assert_non_null(strstr(text, "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">"));
    assert_non_null(strstr(text, "<platform version=\"4.1\">"));
    assert_int_equal(count(text, "<host id="), 1 + 2 * 4);
    assert_int_equal(count(text, "<link id="), 8);
    assert_int_equal(count(text, "latency=\"0s\""), 8);
    assert_int_equal(count(text, "bandwidth=\"100000000000Bps\""), 8);
    assert_int_equal(count(text, "<route "), 4);
    assert_int_equal(count(text, "<link_ctn "), 8);
    assert_int_equal(count(text, "-limit"), 0);
    assert_non_null(strstr(text, "<link_ctn id=\"up-0\"/><link_ctn id=\"down-1\"/></route>"));
    tdm_arena_free(&arena);
}

/* By NCCL: the channels of a group on one switch load all its ports alike, as one flow with a limit
 * of its own; what no site crosses is left out. */
static void wired(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 8});
    memset(&err, 0, sizeof err);
    if (tdm_topology_load(&arena, TANDEM_SOURCE_ROOT, TANDEM_SOURCE_ROOT "/topologies/dgx-2.yaml",
                          NULL, &sc.topology, &err) != TDM_OK)
        fail_msg("%s", err.text);
    tdm_plan plan = support_plan(&arena, &sc);
    const char *text = written(&arena, &plan, &sc.topology);
    assert_non_null(strstr(text, "<link id=\"site-0-limit\""));
    assert_int_equal(count(text, "<route "), count(text, "<link_ctn id=\"site-"));
    assert_int_equal(count(text, "bandwidth=\"120000000000Bps\""), 2 * 8);
    assert_string_equal(text, written(&arena, &plan, &sc.topology));
    tdm_arena_free(&arena);
}

/* More sites than a zone holds. */
static void many_sites(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc =
        support_scenario(&arena, &(support_spec){.tp = 2, .dp = 4, .pp = 8, .layers = 8});
    tdm_plan plan = support_plan(&arena, &sc);
    const char *text = written(&arena, &plan, &sc.topology);
    uint32_t n = count(text, "<route ");
    assert_true(n > 100);
    assert_int_equal(count(text, "<host id="), 1 + 2 * n);
    assert_int_equal(count(text, "routing=\"Full\""), (n + 31) / 32);
    tdm_arena_free(&arena);
}

/* GPUs that cannot reach each other, and a folder that is not there: a message and no file. */
static void failures(void **state)
{
    (void)state;
    static const int32_t parent[] = {-1, -1};
    static const uint32_t none[] = {0, 0};
    static const tdm_plane plane = {"p", 2, parent, none, none};
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2});
    tdm_plan plan = support_plan(&arena, &sc);
    const tdm_topology topology = {
        .name = "islands", .n_gpus = 2, .gpus_per_node = 2, .n_planes = 1, .planes = &plane};
    char folder[] = "/tmp/tandem-platform-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[sizeof folder + 16];
    snprintf(path, sizeof path, "%s/p.xml", folder);
    memset(&err, 0, sizeof err);
    assert_int_equal(tdm_sim_write_platform(&plan, &topology, path, &err), TDM_E_INVALID);
    assert_non_null(strstr(err.text, "topology islands: nothing joins GPUs that op "));
    assert_int_equal(rmdir(folder), 0);
    memset(&err, 0, sizeof err);
    assert_int_equal(tdm_sim_write_platform(&plan, &sc.topology, path, &err), TDM_E_INTERNAL);
    assert_non_null(strstr(err.text, "No such file or directory"));
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes),
        cmocka_unit_test(wired),
        cmocka_unit_test(many_sites),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
