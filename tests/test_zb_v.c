/* test_zb_v.c: chunks placed in a V, and the schedule zb-v on them. */
#include "core/figures.h"
#include "core/layout.h"
#include "core/schedule_csv.h"
#include "core/verify.h"
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

enum { MOST_STAGES = 8 };

static tdm_scenario v_times(tdm_arena *arena, uint32_t p, uint32_t m, double seconds, double send_s)
{
    tdm_scenario sc = support_pass_times(arena, p, m, "zb-v", seconds, seconds, seconds, send_s);
    sc.parallel.vpp = 2;
    return sc;
}

static tdm_figures predict(tdm_arena *arena, const tdm_scenario *sc, bool simulate)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan plan = support_plan(arena, sc);
    tdm_machine machine = support_machine(sc);
    tdm_trace trace = {0};
    tdm_figures figures = {0};
    char path[] = "/tmp/tandem-zb-v-XXXXXX";
    close(mkstemp(path));
    tdm_code code = simulate ? tdm_sim_run(arena, &plan, &machine, path, &trace, err)
                             : tdm_analytic_run(arena, &plan, &machine, &trace, err);
    unlink(path);
    if (code == TDM_OK)
        code = tdm_figures_compute(arena, &plan, &trace, NULL, &machine, &figures, err);
    if (code != TDM_OK)
        fail_msg("%s", err->text);
    return figures;
}

/* ---- placement ---- */

static void test_placement(void **state)
{
    (void)state;
    for (uint32_t p = 1; p <= MOST_STAGES; p++)
        for (uint32_t v = 0; v < 4 * p; v++)
            for (uint32_t i = 0; i < TDM_N_PLACEMENTS; i++) {
                tdm_placement placement = (tdm_placement)i;
                uint32_t stage = tdm_placement_stage(placement, p, v);
                assert_int_equal(tdm_placement_virtual(placement, p, stage, v / p), v);
            }
    static const uint32_t rows[] = {0, 1, 2, 2, 1, 0, 0, 1, 2};
    for (uint32_t v = 0; v < TDM_COUNT(rows); v++)
        assert_int_equal(tdm_placement_stage(TDM_PLACEMENT_V, 3, v), rows[v]);
}

/* Embedding, head and loss are on the first stage; at the turn, on the last, nothing is sent and
 * the next chunk's first block reads what the last one of this chunk wrote. */
static void test_ends_and_turn(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(
        &arena, &(support_spec){.pp = 4, .vpp = 2, .layers = 8, .schedule = "zb-v"});
    tdm_plan plan = support_plan(&arena, &sc);
    for (uint32_t s = 0; s < 4; s++) {
        const tdm_role *role = &plan.roles[s];
        const tdm_chunk *down = &role->chunks[0], *back = &role->chunks[1];
        assert_int_equal(down->virtual_stage, s);
        assert_int_equal(back->virtual_stage, 7 - s);
        assert_int_equal(down->n_blocks, s == 3 ? 2 : 3);
        assert_int_equal(back->n_blocks, s == 3 ? 2 : 3);
        assert_int_equal(tdm_plan_turn(role, 0), s == 3 ? 1 : 2);
        assert_int_equal(tdm_plan_turn(role, 1), 2);
    }
    assert_string_equal(plan.kinds[plan.roles[0].chunks[0].blocks[0].kind].name, "embedding");
    assert_string_equal(plan.kinds[plan.roles[0].chunks[1].blocks[2].kind].name, "head");
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, &plan, 3);
    bool written = false, read = false;
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);)
        for (uint32_t r = 0; r < in.op->n_refs && in.pass.kind == TDM_PASS_F; r++) {
            tdm_place at = tdm_plan_place(&plan.roles[3], &in, &in.op->refs[r]);
            bool x = at.chunk == 1 && at.position == 0 && in.op->refs[r].slot == 0;
            written |= x && in.pass.chunk == 0 && in.op->refs[r].birth;
            read |= x && in.pass.chunk == 1 && in.op->refs[r].read;
        }
    assert_true(written && read);
    tdm_arena_free(&arena);
}

static uint64_t params_of(const tdm_plan *plan, const tdm_role *role)
{
    uint64_t n = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_kind *kind = &plan->kinds[role->chunks[c].blocks[b].kind];
            for (uint32_t i = 0; i < kind->n_params; i++)
                n += kind->params[i].count * role->chunks[c].blocks[b].count;
        }
    return n;
}

/* Tied embeddings are one tensor on one stage, and no sum over stages is needed. */
static void test_tied(void **state)
{
    (void)state;
    uint64_t n[2] = {0};
    tdm_scenario sc;
    for (int tied = 0; tied < 2; tied++) {
        tdm_arena arena = {0};
        sc = support_scenario(
            &arena, &(support_spec){.pp = 2, .vpp = 2, .tied = tied == 1, .schedule = "zb-v"});
        tdm_plan plan = support_plan(&arena, &sc);
        for (uint32_t s = 0; s < 2; s++) {
            n[tied] += params_of(&plan, &plan.roles[s]);
            for (uint32_t i = 0; i < plan.roles[s].optimizer.n_ops; i++)
                assert_string_not_equal(plan.roles[s].optimizer.ops[i].name, "grads.embedding");
        }
        assert_int_equal(n[tied], tdm_model_params(&sc.model));
        tdm_arena_free(&arena);
    }
    assert_int_equal(n[0] - n[1], (uint64_t)sc.model.vocab_size * sc.model.hidden_size);
}

/* ---- zb-v ---- */

/* With F = B = W and free transfers no stage idles from 2p - 1 microbatches on; of fewer, m, the
 * first stage's span is that of 2p - 1 less four passes of a chunk for each that is missing, while
 * its work is less six. */
static double bubble_of(uint32_t p, uint32_t m)
{
    uint32_t full = 2 * p - 1;
    return m < full ? (full - m) / (double)(full + 2 * m) : 0;
}

static void test_bubble(void **state)
{
    (void)state;
    for (uint32_t p = 2; p <= MOST_STAGES; p++)
        for (uint32_t m = 1; m <= 4 * p; m++)
            for (int simulate = 0; simulate < (p > 4 || tdm_sim_missing() ? 1 : 2); simulate++) {
                tdm_arena arena = {0};
                tdm_scenario sc = v_times(&arena, p, m, 2e-3, 0);
                tdm_figures f = predict(&arena, &sc, simulate);
                if (fabs(f.bubble_fraction - bubble_of(p, m)) > 1e-9)
                    fail_msg("p %u m %u: %.12f, not %.12f", p, m, f.bubble_fraction,
                             bubble_of(p, m));
                /* The last stage begins p - 1 forwards of a chunk after the first. */
                if (m >= 2 * p - 1)
                    assert_true(fabs(f.step_time_s - (6e-3 * m + 1e-3 * (p - 1))) < 1e-9);
                tdm_arena_free(&arena);
            }
}

/* Published pass times, those of a stage shared out over its two chunks: less bubble than 1F1B and
 * ZB-H1, which hold no less. Source: Qi et al. 2024, Zero Bubble Pipeline Parallelism, table
 * 6, 1.5B and 6.2B, m = 24. */
static void test_published_times(void **state)
{
    (void)state;
    static const double times_ms[][4] = {{18.522, 18.086, 9.337, 0.601},
                                         {29.718, 29.444, 19.927, 0.527}};
    for (size_t i = 0; i < TDM_COUNT(times_ms); i++) {
        const double *t = times_ms[i];
        static const char *const names[] = {"zb-v", "zb-h1", "1f1b"};
        double bubble[TDM_COUNT(names)];
        for (size_t k = 0; k < TDM_COUNT(names); k++) {
            tdm_arena arena = {0};
            tdm_scenario sc = support_pass_times(&arena, 8, 24, names[k], 1e-3 * t[0], 1e-3 * t[1],
                                                 1e-3 * t[2], 1e-3 * t[3]);
            sc.parallel.vpp = k == 0 ? 2 : 1;
            bubble[k] = predict(&arena, &sc, false).bubble_fraction;
            tdm_arena_free(&arena);
        }
        assert_true(bubble[0] < 0.5 * bubble[1] && bubble[1] < bubble[2]);
    }
}

/* Chunks that a stage holds between their F and their W. */
static uint32_t most_held(const tdm_role *role)
{
    uint32_t held = 0, most = 0;
    for (uint32_t i = 0; i < role->n_passes; i++) {
        held += role->passes[i].kind == TDM_PASS_F;
        held -= role->passes[i].kind == TDM_PASS_W;
        most = held > most ? held : most;
    }
    return most;
}

static void test_activations(void **state)
{
    (void)state;
    for (uint32_t p = 2; p <= MOST_STAGES; p++)
        for (uint32_t m = 1; m <= 4 * p; m++) {
            tdm_arena arena = {0};
            tdm_scenario sc = v_times(&arena, p, m, 1, 0);
            tdm_plan plan = support_plan(&arena, &sc);
            for (uint32_t s = 0; s < p; s++) {
                uint32_t most = most_held(&plan.roles[s]);
                if (m >= 2 * p - 1)
                    assert_int_equal(most, 2 * p);
                assert_true(most <= 2 * p);
            }
            tdm_arena_free(&arena);
        }
}

/* Bytes of activations at the worst moment of a stage. */
static uint64_t activation_peak(tdm_arena *arena, const tdm_scenario *sc, uint32_t stage)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan plan = support_plan(arena, sc);
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan.mesh.world);
    if (tdm_layout_build_all(arena, &plan, true, layouts, err) != TDM_OK)
        fail_msg("%s", err->text);
    return layouts[stage].class_peak[TDM_CLASS_ACTIVATION];
}

/* In bytes: on every stage about what the first stage of 1F1B holds, whose stages hold less and
 * less. Logits come on top on the stage with the head. */
static void test_activation_bytes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec v = {
        .pp = 4, .vpp = 2, .layers = 16, .microbatches = 12, .schedule = "zb-v"};
    const support_spec f = {.pp = 4, .layers = 16, .microbatches = 12};
    tdm_scenario in_v = support_scenario(&arena, &v), in_loop = support_scenario(&arena, &f);
    double first = (double)activation_peak(&arena, &in_loop, 0);
    for (uint32_t s = 1; s < 4; s++) {
        double share = (double)activation_peak(&arena, &in_v, s) / first;
        if (share < 0.95 || share > 1.08)
            fail_msg("stage %u: %.3f of 1f1b's first stage", s, share);
    }
    assert_true((double)activation_peak(&arena, &in_loop, 3) < 0.5 * first);
    tdm_arena_free(&arena);
}

static void test_refusals(void **state)
{
    (void)state;
    const tdm_schedule *schedule = tdm_schedule_find("zb-v");
    assert_non_null(schedule);
    for (uint32_t p = 1; p <= 4; p++)
        for (uint32_t v = 1; v <= 4; v++)
            for (uint32_t m = 1; m <= 9; m++) {
                tdm_schedule_shape shape = {.n_stages = p, .n_chunks = v, .n_microbatches = m};
                bool accepted = !tdm_schedule_refuse(schedule, &shape);
                assert_int_equal(accepted, p >= 2 && v == 2);
            }
}

/* ---- other orders in a V ---- */

static size_t write_csv(const tdm_plan *plan, char *text, size_t size)
{
    static const char ops[] = {'F', 'I', 'W', 'B'};
    size_t n = 0;
    for (uint32_t s = 0; s < plan->mesh.pp; s++) {
        const tdm_role *role = &plan->roles[s];
        for (uint32_t i = 0; i < role->n_passes; i++)
            n += (size_t)snprintf(text + n, size - n, "%s%u%c%u", i ? "," : "",
                                  role->chunks[role->passes[i].chunk].virtual_stage,
                                  ops[role->passes[i].kind], role->passes[i].microbatch);
        n += (size_t)snprintf(text + n, size - n, "\n");
    }
    return n;
}

/* A V read from a file is the same plan, but for the schedule's name. */
static void test_csv(void **state)
{
    (void)state;
    for (uint32_t p = 2; p <= 5; p++) {
        tdm_arena arena = {0};
        tdm_scenario sc = v_times(&arena, p, 7, 1, 0.25);
        tdm_plan plan = support_plan(&arena, &sc);
        char text[16384];
        size_t n = write_csv(&plan, text, sizeof text);
        tdm_pass_table table;
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        assert_int_equal(tdm_schedule_csv_parse(&arena, "s", text, n, &table, err), TDM_OK);
        assert_int_equal(table.placement, TDM_PLACEMENT_V);
        assert_true(table.split && table.n_chunks == 2);
        sc.schedule = "csv";
        sc.pass_table = &table;
        tdm_plan again = support_plan(&arena, &sc);
        char copy[16384];
        assert_int_equal(write_csv(&again, copy, sizeof copy), n);
        assert_memory_equal(text, copy, n);
        tdm_figures f = predict(&arena, &sc, false);
        sc.schedule = "zb-v";
        assert_true(f.step_time_s == predict(&arena, &sc, false).step_time_s);
        tdm_arena_free(&arena);
    }
}

/* A file in which a stage takes a chunk before the one that it follows on the same stage. */
static void test_turn_out_of_order(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const char text[] = "0F0,3F0,3B0,0B0\n2F0,1F0,2B0,1B0\n";
    tdm_pass_table table;
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    assert_int_equal(tdm_schedule_csv_parse(&arena, "s", text, strlen(text), &table, err), TDM_OK);
    tdm_scenario sc = v_times(&arena, 2, 1, 1, 0);
    sc.schedule = "csv";
    sc.pass_table = &table;
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_verify_report report;
    assert_int_equal(tdm_verify_plan(&plan, &report, err), TDM_E_INVALID);
    assert_non_null(strstr(err->text, "before its birth"));
    tdm_arena_free(&arena);
}

/* Whole backwards, three chunks (a V and a way down again), and forwards alone beside a V. */
static void test_other_orders(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "0F0,3F0,3B0,0B0,0F1,3F1,3B1,0B1\n1F0,2F0,2B0,1B0,1F1,2F1,2B1,1B1\n",
        "0F0,3F0,4F0,4B0,3B0,0B0\n1F0,2F0,5F0,5B0,2B0,1B0\n",
        "0F0,3F0,4F0,4I0,3I0,0I0,4W0,3W0,0W0\n1F0,2F0,5F0,5I0,5W0,2I0,1I0,2W0,1W0\n",
    };
    for (size_t i = 0; i < TDM_COUNT(texts); i++) {
        tdm_arena arena = {0};
        tdm_pass_table table;
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        assert_int_equal(
            tdm_schedule_csv_parse(&arena, "s", texts[i], strlen(texts[i]), &table, err), TDM_OK);
        assert_int_equal(table.placement, TDM_PLACEMENT_V);
        tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2, .pp = 2, .layers = 12});
        sc.parallel.vpp = table.n_chunks;
        sc.num_microbatches = table.n_microbatches;
        sc.schedule = "csv";
        sc.pass_table = &table;
        for (int forward = 0; forward < 2; forward++) {
            tdm_plan plan = {0};
            tdm_verify_report report;
            tdm_code code = tdm_lower(&arena, &sc, forward ? "forward-only" : "csv",
                                      sc.num_microbatches, &plan, err);
            if (code == TDM_OK)
                code = tdm_verify_plan(&plan, &report, err);
            if (code != TDM_OK)
                fail_msg("%s: %s", texts[i], err->text);
            assert_int_equal(plan.placement, TDM_PLACEMENT_V);
        }
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_ends_and_turn),
        cmocka_unit_test(test_tied),
        cmocka_unit_test(test_bubble),
        cmocka_unit_test(test_published_times),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_activation_bytes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_turn_out_of_order),
        cmocka_unit_test(test_other_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
