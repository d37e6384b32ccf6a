/* test_nccl_fit.c: what is planted in made-up logs is found again; blocks `site` load as written.
 */
#include "core/nccl/site_fit.h"
#include "core/stats.h"
#include "tests/support_graph.h"
#include "tests/support_nccl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_SIZES = 31 };

static const tdm_nccl_site_ramp planted_ramps[] = {
    {{.algo = TDM_NCCL_RING, .proto = TDM_NCCL_LL, .all_reduce = true, .one_node = true},
     {.latency_share = 0.5, .efficiency = 0.9, .half_bytes = 60e3, .power = 0.8}},
    {{.algo = TDM_NCCL_NVLS, .proto = TDM_NCCL_SIMPLE, .all_reduce = true, .one_node = true},
     {.latency_share = 0.7, .efficiency = 0.8, .half_bytes = 2e6, .power = 0.7}},
};

static tdm_nccl_comm h100(tdm_arena *arena, uint32_t n_nodes)
{
    return support_nccl_comm(
        arena,
        support_graph_nvswitch(arena, "h100", n_nodes, 8, 90, 18, 48e9, n_nodes > 1 ? 50e9 : 0),
        8 * n_nodes);
}

/* A log of all sizes from 8 bytes, by the model with the site and some noise, the same each time.
 */
static tdm_nccl_measured make_log(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                                  const tdm_nccl_site *site, double noise, uint32_t draw)
{
    uint64_t *bytes = TDM_ALLOC(arena, uint64_t, N_SIZES);
    double *time_s = TDM_ALLOC(arena, double, N_SIZES);
    tdm_nccl_comm with_site = *comm;
    with_site.site = site;
    for (uint32_t i = 0; i < N_SIZES; i++) {
        tdm_nccl_cost cost;
        bytes[i] = UINT64_C(8) << i;
        assert_int_equal(tdm_nccl_time(&with_site, func, bytes[i], &cost, NULL), TDM_OK);
        /* Rank of a normal variable, by a low-discrepancy sequence. */
        double u = fmod((i + 1 + 100.0 * draw) * 0.61803398874989, 1);
        double off = noise * tdm_stats_normal_quantile(u);
        time_s[i] = (cost.time_s + tdm_nccl_launch_s(&with_site)) * (1 + off);
    }
    return (tdm_nccl_measured){comm, func, N_SIZES, bytes, time_s};
}

static void within(const char *what, const tdm_nccl_estimate *of, double planted, double share)
{
    if (!(of->low <= planted && planted <= of->high))
        fail_msg("%s: %g is not in %g to %g", what, planted, of->low, of->high);
    if (fabs(of->value / planted - 1) > share)
        fail_msg("%s: %g, planted %g", what, of->value, planted);
}

static void test_planted(void **state)
{
    (void)state;
    static const char *const names[] = {"latency share", "efficiency", "half", "power"};
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_nccl_comm comm = h100(&arena, 1);
    const tdm_nccl_site site = {.has_launch = true,
                                .launch_s = {.value = 11e-6},
                                .network_efficiency = {.value = 1},
                                .n_ramps = 2,
                                .ramps = planted_ramps};
    tdm_nccl_measured log = make_log(&arena, &comm, TDM_NCCL_ALL_REDUCE, &site, 0.005, 0);
    tdm_nccl_site_fit fit;
    assert_int_equal(tdm_nccl_site_fit_logs(&arena, &log, 1, false, &fit, &err), TDM_OK);
    assert_int_equal(fit.n_points, N_SIZES);
    assert_int_equal(fit.site.n_ramps, 2);
    within("launch", &fit.launch_s, 11e-6, 0.25);
    assert_true(fit.launch_s.high < 4 * fit.launch_s.low);
    for (uint32_t r = 0; r < 2; r++) {
        const tdm_nccl_ramp *p = &planted_ramps[r].ramp;
        const double planted[] = {p->latency_share, p->efficiency, p->half_bytes, p->power};
        assert_int_equal(fit.site.ramps[r].key.algo, planted_ramps[r].key.algo);
        for (int i = 0; i < 4; i++)
            within(names[i], &fit.ramps[r][i], planted[i], i == 1 ? 0.05 : 0.4);
    }
    /* What was held back is met, too. */
    uint64_t bytes[N_SIZES];
    double errors[N_SIZES];
    assert_int_equal(tdm_nccl_site_fit_logs(&arena, &log, 1, true, &fit, &err), TDM_OK);
    assert_int_equal(fit.n_points, (N_SIZES + 1) / 2);
    assert_int_equal(tdm_nccl_site_errors(&arena, &log, &fit.site, bytes, errors, &err), TDM_OK);
    for (uint32_t i = 0; i < N_SIZES; i++)
        assert_true(fabs(errors[i]) < 0.05);
    tdm_arena_free(&arena);
}

/* Intervals of 95 % hold what was planted about that often, whatever the noise. */
static void test_coverage(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_nccl_comm comm = h100(&arena, 1);
    const tdm_nccl_site site = {.has_launch = true,
                                .launch_s = {.value = 11e-6},
                                .network_efficiency = {.value = 1},
                                .n_ramps = 2,
                                .ramps = planted_ramps};
    uint32_t n_in = 0, n = 0;
    for (uint32_t draw = 0; draw < 40; draw++) {
        tdm_nccl_measured log =
            make_log(&arena, &comm, TDM_NCCL_ALL_REDUCE, &site, 0.01 + 0.001 * draw, draw);
        tdm_nccl_site_fit fit;
        assert_int_equal(tdm_nccl_site_fit_logs(&arena, &log, 1, false, &fit, NULL), TDM_OK);
        n_in += fit.launch_s.low <= 11e-6 && 11e-6 <= fit.launch_s.high;
        n_in += fit.ramps[1][1].low <= 0.8 && 0.8 <= fit.ramps[1][1].high;
        n_in += fit.ramps[1][2].low <= 2e6 && 2e6 <= fit.ramps[1][2].high;
        n += 3;
    }
    if (n_in * 10 < n * 9)
        fail_msg("%u of %u intervals hold what was planted", n_in, n);
    tdm_arena_free(&arena);
}

/* Two logs of one site on two nodes, shared ramps, 70 % of the network; a hiccup is left out. */
static void test_network(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_nccl_comm comm = h100(&arena, 2);
    const tdm_nccl_site site = {
        .has_launch = true, .launch_s = {.value = 30e-6}, .network_efficiency = {.value = 0.7}};
    tdm_nccl_measured logs[] = {
        make_log(&arena, &comm, TDM_NCCL_ALL_GATHER, &site, 0.005, 0),
        make_log(&arena, &comm, TDM_NCCL_ALL_TO_ALL, &site, 0.005, 0),
    };
    double *first = TDM_ALLOC(&arena, double, N_SIZES);
    memcpy(first, logs[0].time_s, N_SIZES * sizeof *first);
    first[3] *= 50;
    logs[0].time_s = first;
    tdm_nccl_site_fit fit;
    assert_int_equal(tdm_nccl_site_fit_logs(&arena, logs, 2, false, &fit, &err), TDM_OK);
    assert_int_equal(fit.n_left_out, 1);
    assert_int_equal(fit.n_points, 2 * N_SIZES - 1);
    within("network efficiency", &fit.network_efficiency, 0.7, 0.1);
    within("launch", &fit.launch_s, 30e-6, 0.2);
    logs[0].n = 1;
    assert_int_equal(tdm_nccl_site_fit_logs(&arena, logs, 1, false, &fit, &err), TDM_E_INVALID);
    tdm_arena_free(&arena);
}

static tdm_code load(tdm_arena *arena, const char *text, tdm_nccl_site *site, tdm_error *err)
{
    tdm_node *root;
    tdm_code code = tdm_doc_parse(arena, "t.yaml", text, strlen(text), &root, err);
    return code == TDM_OK ? tdm_nccl_site_load(arena, tdm_node_child(root, "site"), site, err)
                          : code;
}

static void test_block(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_nccl_site site = {.has_launch = true,
                          .launch_s = {.value = 12.5e-6},
                          .network_efficiency = {.value = 0.75},
                          .source = "two logs",
                          .grade = TDM_GRADE_MEASURED,
                          .n_ramps = 2,
                          .ramps = planted_ramps};
    tdm_nccl_site read = {0};
    assert_int_equal(load(&arena, tdm_nccl_site_write(&arena, &site), &read, &err), TDM_OK);
    assert_true(fabs(read.launch_s.value / 12.5e-6 - 1) < 1e-9);
    assert_true(fabs(read.network_efficiency.value - 0.75) < 1e-9);
    assert_string_equal(read.launch_s.source, "two logs");
    assert_int_equal(read.n_ramps, 2);
    assert_memory_equal(&read.ramps[1].ramp, &planted_ramps[1].ramp, sizeof(tdm_nccl_ramp));
    const tdm_nccl_ramp *found = tdm_nccl_site_find(&read, &planted_ramps[0].key);
    assert_ptr_equal(found, &read.ramps[0].ramp);
    assert_null(tdm_nccl_site_find(NULL, &planted_ramps[0].key));
    tdm_arena_free(&arena);
}

static void test_bad_blocks(void **state)
{
    (void)state;
    static const char row[] = "{algorithm: ring, protocol: ll, function: others, nodes: one, "
                              "latency_share: 1, efficiency: 1, own_steps: 0, half_bytes: 1kB, "
                              "power: 1}";
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"site: {grade: measured}", "t.yaml:1:1: site.source: missing"},
        {"site: {source: a, grade: measured, launch: 3}", "t.yaml:1:36: site.launch: 3: "},
        {"site: {source: a, grade: measured, network_efficiency: 0}", "a value above 0"},
        {"site: {source: a, grade: measured, lanch: 3us}", "did you mean launch?"},
        {"site: {source: a, grade: measured, ramps: [{algorithm: rng}]}", "did you mean ring?"},
        {"site: {source: a, grade: measured, ramps: [%s, %s]}", "is of the same kind as ramps[0]"},
    };
    for (size_t i = 0; i < TDM_COUNT(bad); i++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        tdm_nccl_site site = {.n_ramps = 7};
        char text[1024];
        const char *at = strstr(bad[i].text, "%s, %s");
        int before = at ? (int)(at - bad[i].text) : (int)strlen(bad[i].text);
        snprintf(text, sizeof text, "%.*s%s%s%s%s", before, bad[i].text, at ? row : "",
                 at ? ", " : "", at ? row : "", at ? at + 6 : "");
        assert_int_equal(load(&arena, text, &site, &err), TDM_E_INVALID);
        if (!strstr(err.text, bad[i].message))
            fail_msg("no '%s' in: %s", bad[i].message, err.text);
        assert_int_equal(site.n_ramps, 7);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_planted),
                                       cmocka_unit_test(test_coverage),
                                       cmocka_unit_test(test_network), cmocka_unit_test(test_block),
                                       cmocka_unit_test(test_bad_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
