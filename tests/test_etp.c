/* test_etp.c: experts split over an ETP group, and experts padded to their capacity: closed forms
 * of what each rank holds, moves and computes. */
#include "core/figures.h"
#include "core/plan_text.h"
#include "core/verify.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static tdm_plan verified(tdm_arena *arena, const tdm_scenario *sc)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan plan = support_plan(arena, sc);
    tdm_verify_report report;
    if (tdm_verify_plan(&plan, &report, err) != TDM_OK)
        fail_msg("%s", err->text);
    rules_plan(sc->name, &plan, &sc->topology);
    return plan;
}

static tdm_figures measure(tdm_arena *arena, const tdm_scenario *sc, tdm_plan *plan)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_machine machine = support_machine(sc);
    tdm_trace trace = {0};
    tdm_figures figures;
    *plan = verified(arena, sc);
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    if (tdm_layout_build_all(arena, plan, true, layouts, err) != TDM_OK ||
        tdm_analytic_run(arena, plan, &machine, &trace, err) != TDM_OK ||
        tdm_figures_compute(arena, plan, &trace, layouts, &machine, &figures, err) != TDM_OK)
        fail_msg("%s", err->text);
    rules_figures(sc->name, plan, &trace, &figures);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        rules_layout(sc->name, plan, &layouts[rank]);
    return figures;
}

/* Elements of a parameter on one rank. */
static uint64_t count_of(const tdm_plan *plan, const char *name)
{
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t i = 0; i < plan->kinds[k].n_params; i++)
            if (strcmp(plan->kinds[k].params[i].name, name) == 0)
                return plan->kinds[k].params[i].count;
    fail_msg("no parameter %s", name);
    return 0;
}

static const tdm_slot *slot_of(const tdm_plan *plan, const char *name)
{
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t i = 0; i < plan->kinds[k].n_slots; i++)
            if (strcmp(plan->kinds[k].slots[i].name, name) == 0)
                return &plan->kinds[k].slots[i];
    return NULL;
}

/* ---- what a rank holds ---- */

static void test_parameters(void **state)
{
    (void)state;
    static const uint32_t etps[] = {1, 2, 4};
    for (size_t i = 0; i < TDM_COUNT(etps); i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 4,
                                                                   .dp = 2,
                                                                   .ep = 2,
                                                                   .etp = etps[i],
                                                                   .experts = 8,
                                                                   .topk = 2,
                                                                   .swiglu = true,
                                                                   .bias = true,
                                                                   .shared = 96});
        tdm_plan plan = verified(&arena, &sc);
        uint64_t h = 64, f = 128 / etps[i];
        assert_int_equal(count_of(&plan, "fc1"), 4 * h * 2 * f);
        assert_int_equal(count_of(&plan, "fc2"), 4 * f * h);
        assert_int_equal(count_of(&plan, "fc1.bias"), 4 * 2 * f);
        assert_int_equal(count_of(&plan, "fc2.bias"), 4 * h);
        assert_int_equal(count_of(&plan, "shared.fc1"), h * 2 * 96 / 4); /* stay on TP */
        assert_int_equal(plan.mesh.edp, 8 / 2 / etps[i]);
        tdm_arena_free(&arena);
    }
}

/* The gathered input of the experts stays for the gradient; the rank's own rows do not. */
static void test_tensors(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec spec = {.tp = 2, .dp = 2, .ep = 2, .etp = 2, .experts = 8, .topk = 2};
    tdm_scenario sc = support_scenario(&arena, &spec);
    tdm_plan plan = verified(&arena, &sc);
    const tdm_slot *in = slot_of(&plan, "experts.in"), *own = slot_of(&plan, "dispatch.own");
    assert_int_equal(in->bytes.per_token, 2 * 64);
    assert_int_equal(in->class_, TDM_CLASS_ACTIVATION);
    assert_int_equal(own->bytes.per_received, 2 * 64);
    assert_int_equal(own->bytes.per_token, 0);
    assert_int_equal(own->class_, TDM_CLASS_COMM);
    assert_int_equal(slot_of(&plan, "u")->bytes.per_token, 2 * 128 / 2);
    spec.ep = 1; /* no all-to-all: gathered from the tokens' own ranks */
    sc = support_scenario(&arena, &spec);
    plan = verified(&arena, &sc);
    assert_null(slot_of(&plan, "dispatch.own"));
    assert_int_equal(slot_of(&plan, "dispatch.send")->bytes.per_received, 2 * 64);
    spec.etp = 1;
    sc = support_scenario(&arena, &spec);
    plan = verified(&arena, &sc);
    assert_null(slot_of(&plan, "dispatch.send"));
    tdm_arena_free(&arena);
}

/* ---- what a rank moves and computes ---- */

static const tdm_comm_figures *comm_of(const tdm_figures *f, tdm_op_kind kind, tdm_group_kind group)
{
    for (uint32_t i = 0; i < f->n_comms; i++)
        if (f->comms[i].kind == kind && f->comms[i].group == group)
            return &f->comms[i];
    return NULL;
}

/* Even routing: each of the 1/t of the tokens comes k times, from each member of the ETP group.
 * Both ways and both passes take the same. */
static void test_bytes(void **state)
{
    (void)state;
    static const uint32_t etps[] = {2, 4, 8};
    for (size_t i = 0; i < TDM_COUNT(etps); i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 4,
                                                                   .dp = 4,
                                                                   .ep = 2,
                                                                   .etp = etps[i],
                                                                   .experts = 8,
                                                                   .topk = 2,
                                                                   .balanced = true});
        tdm_plan plan;
        tdm_figures f = measure(&arena, &sc, &plan);
        uint64_t received = 2 * 32 / 4 * 2,
                 calls = 4 * 4 * 2 * 16; /* layers, microbatches, ranks */
        uint64_t bytes = received * etps[i] * 64 * 2;
        static const tdm_op_kind kinds[] = {TDM_OP_ALL_GATHER, TDM_OP_REDUCE_SCATTER};
        for (size_t k = 0; k < TDM_COUNT(kinds); k++) {
            const tdm_comm_figures *comm = comm_of(&f, kinds[k], TDM_GROUP_ETP);
            assert_non_null(comm);
            assert_int_equal(comm->n_calls, calls);
            assert_int_equal(comm->bytes, calls / 16 * bytes); /* a rank */
        }
        const tdm_comm_figures *all = comm_of(&f, TDM_OP_ALL_TO_ALL, TDM_GROUP_EP);
        assert_int_equal(all->bytes, 2 * calls / 16 * received * 64 * 2);
        tdm_arena_free(&arena);
    }
}

static double expert_flops(const tdm_plan *plan)
{
    double flops = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance in; tdm_cursor_next(&cursor, &in);)
            if (in.op->kind == TDM_OP_GROUPED_GEMM)
                flops += tdm_op_flops(plan, rank, &in);
    }
    return flops;
}

/* All ranks together do the same for every etp, whatever the routing, and drop the same. */
static void test_same_work(void **state)
{
    (void)state;
    static const tdm_routing routings[] = {
        {.model = TDM_ROUTING_UNIFORM, .seed = 5},
        {.model = TDM_ROUTING_ZIPF, .seed = 5, .exponent = 1.5},
        {.model = TDM_ROUTING_ZIPF, .seed = 5, .exponent = 1.5, .capacity_factor = 1},
    };
    for (size_t r = 0; r < TDM_COUNT(routings); r++) {
        double flops = 0, dropped = 0;
        for (uint32_t etp = 1; etp <= 8; etp *= 2) {
            tdm_arena arena = {0};
            tdm_plan plan;
            tdm_scenario sc = support_scenario(
                &arena,
                &(support_spec){.tp = 2, .dp = 4, .ep = 1, .etp = etp, .experts = 8, .topk = 2});
            sc.routing = routings[r];
            tdm_figures f = measure(&arena, &sc, &plan);
            if (etp == 1) {
                flops = expert_flops(&plan);
                dropped = f.dropped_fraction;
            }
            assert_true(flops > 0 && fabs(expert_flops(&plan) / flops - 1) < 1e-12);
            assert_true(fabs(f.dropped_fraction - dropped) <= 0);
            assert_true((dropped > 0) == (routings[r].capacity_factor > 0));
            tdm_arena_free(&arena);
        }
    }
}

/* The members of an ETP group have equal loads: those of the group of all EP groups they are in. */
static void test_hot_rank(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_plan plan;
    tdm_scenario sc = support_scenario(
        &arena, &(support_spec){.tp = 2, .dp = 4, .ep = 4, .etp = 2, .experts = 8, .topk = 1});
    sc.routing =
        (tdm_routing){.model = TDM_ROUTING_HOT, .seed = 3, .hot_expert = 5, .hot_share = 0.65};
    tdm_figures f = measure(&arena, &sc, &plan);
    assert_int_equal(f.hot_rank, 4); /* expert 5 is on place 2: ranks 4 and 5 */
    assert_int_equal(f.hot_expert, 5);
    for (uint32_t layer = 0; layer < 4; layer++) {
        uint64_t tokens = tdm_plan_tokens(&plan, 4, layer, 0);
        assert_int_equal(tokens, tdm_plan_tokens(&plan, 5, layer, 0));
        assert_int_equal(tokens, tdm_plan_routed(&plan, 4, layer, 0).received +
                                     tdm_plan_routed(&plan, 5, layer, 0).received);
        assert_true(tokens > tdm_plan_tokens(&plan, 0, layer, 0));
    }
    /* On average 65 % and a seventh of the rest of all pairs, where a fourth would be even. */
    assert_true(fabs(f.hot_rank_share - 4 * (0.65 + 0.05)) < 0.15);
    assert_true(f.expert_efficiency < 0.45);
    tdm_arena_free(&arena);
}

/* ---- together with the rest ---- */

static void test_all_together(void **state)
{
    (void)state;
    for (uint32_t variant = 0; variant < 32; variant++) {
        tdm_arena arena = {0};
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        support_spec spec = {.tp = 4,
                             .dp = 2,
                             .pp = 2,
                             .ep = variant & 1 ? 2 : 1,
                             .etp = variant & 2 ? 4 : 2,
                             .layers = 8,
                             .experts = 8,
                             .topk = 3,
                             .dense_first = 1,
                             .moe_every = 2,
                             .shared = 64,
                             .swiglu = true,
                             .rope = true,
                             .bias = true,
                             .sequence_parallel = (variant & 4) != 0,
                             .distributed_optimizer = true,
                             .clip = true,
                             .recompute = variant & 8 ? TDM_RECOMPUTE_FULL : TDM_RECOMPUTE_NONE,
                             .schedule = variant & 16 ? "zb-h1" : "1f1b"};
        tdm_plan plan, again;
        tdm_scenario sc = support_scenario(&arena, &spec);
        sc.model.num_query_groups = 4;
        sc.model.norm = TDM_NORM_RMS;
        measure(&arena, &sc, &plan);
        char *text = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&text, &length);
        assert_int_equal(tdm_plan_write(&plan, file, err), TDM_OK);
        fclose(file);
        if (tdm_plan_parse(&arena, "p.txt", text, length, &again, err) != TDM_OK)
            fail_msg("%s", err->text);
        assert_true(tdm_plan_hash(&plan) == tdm_plan_hash(&again));
        free(text);
        tdm_arena_free(&arena);
    }
}

/* ---- padding ---- */

/* Sizes, and so times and memory, are those of the capacity, whatever the routing; figures of the
 * routing count what is real. */
static void test_padding(void **state)
{
    (void)state;
    for (uint32_t etp = 1; etp <= 2; etp++) {
        tdm_arena arena = {0};
        tdm_figures f[2];
        for (int skewed = 0; skewed < 2; skewed++) {
            tdm_plan plan;
            tdm_scenario sc = support_scenario(&arena, &(support_spec){.tp = 2,
                                                                       .dp = 4,
                                                                       .ep = 4,
                                                                       .etp = etp,
                                                                       .experts = 8,
                                                                       .topk = 2,
                                                                       .capacity = 1.25,
                                                                       .padded = true,
                                                                       .balanced = !skewed});
            if (skewed) {
                sc.routing.model = TDM_ROUTING_ZIPF;
                sc.routing.exponent = 1;
            }
            f[skewed] = measure(&arena, &sc, &plan);
            uint64_t capacity = 10; /* 32 tokens of a rank x 2 / 8 x 1.25 */
            for (uint32_t i = 0; i < 4 * 4; i++)
                assert_int_equal(tdm_plan_sent(&plan, 3, 1, 2)[i], 2 * capacity);
            assert_int_equal(tdm_plan_tokens(&plan, 3, 1, 2), etp * 4 * 2 * capacity);
            assert_int_equal(slot_of(&plan, "results")->bytes.fixed, 8 * capacity * 64 * 2);
        }
        assert_true(fabs(f[0].step_time_s - f[1].step_time_s) <= 0);
        assert_int_equal(f[0].peak_memory_bytes, f[1].peak_memory_bytes);
        assert_true(fabs(f[0].hfu - f[1].hfu) <= 0);
        assert_true(fabs(f[0].dropped_fraction) <= 0 && fabs(f[0].expert_efficiency - 1) <= 0);
        assert_true(f[1].dropped_fraction > 0.1 && f[1].expert_efficiency < 0.95);
        assert_true(f[0].mfu < f[0].hfu && f[1].mfu < f[0].mfu);
        tdm_arena_free(&arena);
    }
}

/* ---- what verify finds ---- */

static void expect_fault(const tdm_plan *plan, const char *message)
{
    tdm_error err = {0};
    tdm_verify_report report;
    assert_int_equal(tdm_verify_plan(plan, &report, &err), TDM_E_INVALID);
    if (!strstr(err.text, message))
        fail_msg("expected '%s' in: %s", message, err.text);
}

static void test_faults(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec spec = {.tp = 2, .dp = 2, .ep = 2, .etp = 2, .experts = 8, .topk = 2};
    tdm_scenario sc = support_scenario(&arena, &spec);
    tdm_plan plan = verified(&arena, &sc), copy = edit_copy(&arena, &plan);
    edit_separate(&arena, &copy, 1);
    edit_op(&copy, 1, "experts.gather")->u.collective.token_bytes += 2;
    expect_fault(&copy, "rank 0 and rank 1: not the same bytes on the etp group");
    copy = edit_copy(&arena, &plan);
    edit_separate(&arena, &copy, 1);
    edit_op(&copy, 1, "experts.reduce")->kind = TDM_OP_ALL_GATHER;
    expect_fault(&copy, "not the same kind on the etp group");
    copy = edit_copy(&arena, &plan);
    edit_drop_op(edit_template(&copy, 0, "moe-layer", TDM_PASS_F), "experts.gather");
    expect_fault(&copy, "dispatch.own");
    /* The second EP group is that of ranks 1 and 3. */
    size_t group = (size_t)4 * 4;
    copy = edit_copy(&arena, &plan);
    ((uint32_t *)(uintptr_t)copy.routing.sent)[group * 4]++;
    expect_fault(&copy, "rank 1: op \"dispatch\"");
    copy = edit_copy(&arena, &plan);
    ((uint32_t *)(uintptr_t)copy.routing.experts)[group * 8 + 7]++;
    expect_fault(&copy, "rank 3: op \"dispatch\"");

    spec.padded = true;
    spec.capacity = 1;
    sc = support_scenario(&arena, &spec);
    plan = verified(&arena, &sc);
    copy = edit_copy(&arena, &plan);
    ((uint32_t *)(uintptr_t)copy.routing.sent)[0]--;
    expect_fault(&copy, "but the capacity of all experts is");
    expect_fault(&copy, "but the capacity of its experts adds up to");
    copy = edit_copy(&arena, &plan);
    ((uint32_t *)(uintptr_t)copy.routing.experts)[0] += 1000;
    expect_fault(&copy, "its experts' counts add up to");
    tdm_arena_free(&arena);
}

/* ---- scenarios ---- */

/* Without the key, as in Megatron, every expert is on a whole tensor-parallel group. */
static void test_default(void **state)
{
    (void)state;
    static const char *const sets[] = {"parallel.expert_model_parallel_size=2",
                                       "parallel.data_parallel_size=2", "parallel.pp=1"};
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_scenario sc;
    const char *path = TANDEM_SOURCE_ROOT "/tests/errors/etp-by-default.yaml";
    if (tdm_scenario_load(&arena, TANDEM_SOURCE_ROOT, path, sets, 3, &sc, &err) != TDM_OK)
        fail_msg("%s", err.text);
    assert_true(sc.parallel.tp == 8 && sc.parallel.ep == 2 && sc.parallel.etp == 8);
    tdm_plan plan = support_plan(&arena, &sc);
    assert_true(plan.mesh.etp == 8 && plan.mesh.edp == 1);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_bytes),      cmocka_unit_test(test_same_work),
        cmocka_unit_test(test_hot_rank),   cmocka_unit_test(test_all_together),
        cmocka_unit_test(test_padding),    cmocka_unit_test(test_faults),
        cmocka_unit_test(test_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
