/* test_verify.c: plans as they are lowered verify clean, and every planted fault is found with its
 * rank and op. */
#include "core/verify.h"
#include "tests/support.h"
#include "tests/support_mutation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- sound plans ---- */

static void expect_clean(const tdm_plan *plan, tdm_arena *arena)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_verify_report report = {0};
    if (tdm_verify_plan(plan, &report, err) != TDM_OK)
        fail_msg("%s", err->text);
    uint64_t n_ops = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        n_ops += tdm_plan_n_ops(plan, rank);
    assert_true(report.n_ops == n_ops);
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    assert_int_equal(tdm_layout_build_all(arena, plan, true, layouts, err), TDM_OK);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        if (tdm_verify_layout(plan, &layouts[rank], err) != TDM_OK)
            fail_msg("%s", err->text);
}

static void lowered_plans_are_clean(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++)
        for (const tdm_schedule *const *schedule = tdm_schedules; *schedule; schedule++) {
            tdm_arena arena = {0};
            support_spec spec = support_specs[i];
            spec.schedule = (*schedule)->name;
            spec.vpp = 0;
            tdm_scenario scenario = support_scenario(&arena, &spec);
            if (!support_suit(&scenario)) {
                tdm_arena_free(&arena);
                continue;
            }
            tdm_plan plan = support_plan(&arena, &scenario);
            expect_clean(&plan, &arena);
            tdm_plan copy = edit_copy(&arena, &plan);
            edit_separate(&arena, &copy, plan.mesh.world - 1);
            expect_clean(&copy, &arena);
            tdm_arena_free(&arena);
        }
}

static void pass_times_are_clean(void **state)
{
    (void)state;
    for (const tdm_schedule *const *schedule = tdm_schedules; *schedule; schedule++)
        for (uint32_t pp = 1; pp <= 8; pp *= 2)
            for (uint32_t m = 1; m <= 9; m += 4) {
                tdm_arena arena = {0};
                tdm_scenario scenario =
                    support_pass_times(&arena, pp, m, (*schedule)->name, 1, 1, 1, 0.1);
                if (!support_suit(&scenario)) {
                    tdm_arena_free(&arena);
                    continue;
                }
                tdm_plan plan = support_plan(&arena, &scenario);
                expect_clean(&plan, &arena);
                tdm_arena_free(&arena);
            }
}

static uint32_t resident(const support_spec *spec)
{
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_verify_report report = {0};
    assert_int_equal(tdm_verify_plan(&plan, &report, NULL), TDM_OK);
    tdm_arena_free(&arena);
    return report.resident_comm;
}

/* Without communication none; TP alone runs one at a time; a pipeline's middle sends
 * and receives both ways; TP never runs beside all of them. */
static void resident_kernels(void **state)
{
    (void)state;
    assert_int_equal(resident(&(support_spec){0}), 0);
    assert_int_equal(resident(&(support_spec){.tp = 2}), 1);
    assert_int_equal(resident(&(support_spec){.pp = 4}), 4);
    assert_int_equal(resident(&(support_spec){.tp = 2, .pp = 4}), 4);
}

/* ---- planted faults ---- */

/* -- waits -- */

static void drop_wait(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_drop_wait(edit_op(plan, 0, "add1"), TDM_STREAM_TP);
}

static void drop_recv_wait(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_drop_wait(edit_op(plan, 4, "norm1"), TDM_STREAM_PP_RECV);
}

static void drop_send_wait(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_drop_wait(edit_op(plan, 0, "send"), TDM_STREAM_COMPUTE);
}

static void overwrite_early(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "lookup.reduce", "x", true)->write = false;
    edit_drop_wait(edit_op(plan, 0, "position"), TDM_STREAM_TP);
}

static void wait_too_far(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    ((tdm_wait *)edit_op(plan, 0, "add1")->waits)[0].n = 1000;
}

/* -- lifetimes -- */

static void free_early(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "proj.reduce", "y", false)->death = true;
    edit_ref(plan, 0, "add1", "y", false)->death = false;
}

static void use_unborn(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "attention", "o", false)->birth = false;
    edit_ref(plan, 0, "proj", "o", false)->birth = true;
}

static void never_born(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "attention", "lse", false)->birth = false;
}

static void born_twice(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "proj", "o", false)->birth = true;
}

static void never_freed(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "add1", "y", false)->death = false;
}

static void freed_twice(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "proj.wgrad", "o", false)->death = true;
}

static void never_written(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "attention", "o", false)->write = false;
}

static void slot_out_of_range(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_ref(plan, 0, "attention", "o", false)->slot = 500;
}

/* -- passes -- */

static void miss_pass(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_drop_pass(edit_role(plan, 0), TDM_PASS_BW, 2);
}

static void repeat_pass(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_pass(plan, 4, TDM_PASS_F, 2)->microbatch = 1;
}

static void backward_first(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_swap_passes(plan, 4, TDM_PASS_F, 1, TDM_PASS_BW, 1);
}

static void weight_first(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_swap_passes(plan, 4, TDM_PASS_B, 0, TDM_PASS_W, 0);
}

static void optimizer_early(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_swap_passes(plan, 0, TDM_PASS_BW, 3, TDM_PASS_O, 0);
}

static void no_optimizer(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_drop_pass(edit_role(plan, 4), TDM_PASS_O, 0);
}

static const mutation mutations[] = {
    {"dropped wait",
     MOE,
     drop_wait,
     {"rank 0: op \"add1\" (F mb 0, layer 0) on stream compute reads tensor \"y\"",
      "without waiting for op \"proj.reduce\" (F mb 0, layer 0) on stream tp"}},
    {"dropped receive wait",
     MOE,
     drop_recv_wait,
     {"rank 4: op \"norm1\" (F mb 0, layer 2) on stream compute reads tensor \"x\"",
      "without waiting for op \"recv\" (F mb 0, boundary-in) on stream pp-recv"}},
    {"send before its data",
     MOE,
     drop_send_wait,
     {"rank 0: op \"send\" (F mb 0, boundary-out) on stream pp-send reads",
      "without waiting for op \"add2\" (F mb 0, layer 1) on stream compute"}},
    {"overwritten while read",
     MOE,
     overwrite_early,
     {"rank 0: op \"position\" (F mb 0, embedding)", "overwrites tensor \"x\"",
      "op \"lookup.reduce\" (F mb 0, embedding) on stream tp, which reads it"}},
    {"wait too far back", MOE, wait_too_far, {"op \"add1\"", "too far back"}},
    {"early free",
     MOE,
     free_early,
     {"rank 0: op \"add1\" (F mb 0, layer 0) uses tensor \"y\" (mb 0, layer 0) after its death: op \"proj.reduce\" (F mb 0, layer 0) freed it"}},
    {"use before birth",
     MOE,
     use_unborn,
     {"rank 0: op \"attention\" (F mb 0, layer 0) uses tensor \"o\" (mb 0, layer 0) before its birth"}},
    {"never born",
     MOE,
     never_born,
     {"rank 0: op \"attention\" (F mb 0, layer 0) uses tensor \"lse\" (mb 0, layer 0) before its birth"}},
    {"double birth",
     MOE,
     born_twice,
     {"rank 0: op \"proj\" (F mb 0, layer 0) gives birth to tensor \"o\" (mb 0, layer 0) again: op \"attention\" (F mb 0, layer 0) gave birth to it"}},
    {"leak",
     MOE,
     never_freed,
     {"rank 0: op \"proj\" (F mb 0, layer 0) gives birth to tensor \"y\" (mb 0, layer 0), which is never freed"}},
    {"double free",
     MOE,
     freed_twice,
     {"rank 0: op \"attention.bwd\" (BW mb 0, layer 1) uses tensor \"o\" (mb 0, layer 1) after its death",
      "rank 0: op \"attention.bwd\" (BW mb 0, layer 1) frees tensor \"o\" (mb 0, layer 1) again: op \"proj.wgrad\" (BW mb 0, layer 1) freed it"}},
    {"read of what nothing wrote",
     MOE,
     never_written,
     {"rank 0: op \"proj\" (F mb 0, layer 0) reads tensor \"o\" (mb 0, layer 0), which nothing has written"}},
    {"unknown tensor",
     MOE,
     slot_out_of_range,
     {"op \"attention\"", "uses a tensor its kind does not have"}},
    {"missing pass", MOE, miss_pass, {"rank 0 (stage 0): pass BW mb 2: is missing"}},
    {"duplicate pass",
     MOE,
     repeat_pass,
     {"rank 4 (stage 1): pass F mb 1: runs twice", "rank 4 (stage 1): pass F mb 2: is missing"}},
    {"B before F", MOE, backward_first, {"rank 4 (stage 1): pass BW mb 1: runs before F"}},
    {"W before B", MOE_SPLIT, weight_first, {"rank 4 (stage 1): pass W mb 0: runs before B"}},
    {"O not last",
     MOE,
     optimizer_early,
     {"rank 0 (stage 0): pass O: the optimizer's pass is not the last one"}},
    {"O missing", MOE, no_optimizer, {"rank 4 (stage 1): pass O: is missing"}},
};

static void planted_faults_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < TDM_COUNT(mutations); i++)
        mutation_check(&mutations[i]);
}

/* Every wait that can be dropped from a plan either is found missing or leaves a plan that is still
 * ordered: then so are all its layouts. */
static void any_dropped_wait_is_harmless_or_found(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec spec = MOE;
    tdm_scenario scenario = support_scenario(&arena, &spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    uint32_t n_found = 0, n_harmless = 0;
    for (uint32_t k = 0; k < plan.n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            for (uint32_t i = 0; i < plan.kinds[k].templates[p].n_ops; i++)
                for (uint32_t w = 0; w < plan.kinds[k].templates[p].ops[i].n_waits; w++) {
                    tdm_arena inner = {0};
                    tdm_error *err = TDM_ALLOC(&inner, tdm_error, 1);
                    tdm_plan copy = edit_copy(&inner, &plan);
                    tdm_op *op = (tdm_op *)&copy.kinds[k].templates[p].ops[i];
                    ((tdm_wait *)op->waits)[w] = op->waits[--op->n_waits];
                    if (tdm_verify_plan(&copy, NULL, err) == TDM_OK) {
                        n_harmless++;
                        expect_clean(&copy, &inner);
                    } else {
                        n_found++;
                        assert_non_null(strstr(err->text, "without waiting for"));
                    }
                    tdm_arena_free(&inner);
                }
    assert_true(n_found >= 20);
    assert_true(n_harmless < n_found);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lowered_plans_are_clean),
        cmocka_unit_test(pass_times_are_clean),
        cmocka_unit_test(resident_kernels),
        cmocka_unit_test(planted_faults_are_found),
        cmocka_unit_test(any_dropped_wait_is_harmless_or_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
