/* test_plan_text.c: plan text: round trips, the hash, the group tables. */
#include "tests/support_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- equality that does not go through the text ---- */

static void assert_same_op(const tdm_op *a, const tdm_op *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->stream, b->stream);
    assert_int_equal(a->pass, b->pass);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->recompute, b->recompute);
    assert_int_equal(a->n_waits, b->n_waits);
    assert_int_equal(a->n_refs, b->n_refs);
    for (uint32_t i = 0; i < a->n_waits; i++) {
        assert_int_equal(a->waits[i].stream, b->waits[i].stream);
        assert_int_equal(a->waits[i].kind, b->waits[i].kind);
        assert_int_equal(a->waits[i].n, b->waits[i].n);
    }
    for (uint32_t i = 0; i < a->n_refs; i++) {
        const tdm_ref *x = &a->refs[i], *y = &b->refs[i];
        assert_int_equal(x->slot, y->slot);
        assert_int_equal(x->next, y->next);
        assert_int_equal(x->read, y->read);
        assert_int_equal(x->write, y->write);
        assert_int_equal(x->birth, y->birth);
        assert_int_equal(x->death, y->death);
    }
}

/* The same ops in the same order on every rank, with the same work and tokens. */
static void assert_same_programs(const tdm_plan *a, const tdm_plan *b)
{
    assert_int_equal(a->mesh.world, b->mesh.world);
    assert_memory_equal(&a->mesh, &b->mesh, sizeof a->mesh);
    for (uint32_t rank = 0; rank < a->mesh.world; rank++) {
        tdm_cursor x, y;
        tdm_instance left, right;
        tdm_cursor_init(&x, a, rank);
        tdm_cursor_init(&y, b, rank);
        while (tdm_cursor_next(&x, &left)) {
            assert_true(tdm_cursor_next(&y, &right));
            assert_same_op(left.op, right.op);
            assert_int_equal(left.layer, right.layer);
            assert_int_equal(left.position, right.position);
            assert_int_equal(left.pass.kind, right.pass.kind);
            assert_int_equal(left.pass.microbatch, right.pass.microbatch);
            assert_true(tdm_op_flops(a, rank, &left) == tdm_op_flops(b, rank, &right));
        }
        assert_false(tdm_cursor_next(&y, &right));
    }
}

static void assert_round_trip(tdm_arena *arena, const tdm_plan *plan)
{
    support_text first = support_write(plan);
    tdm_plan again = support_read(arena, first.bytes, first.length);
    support_text second = support_write(&again);
    assert_int_equal(first.length, second.length);
    assert_string_equal(first.bytes, second.bytes);
    assert_int_equal(tdm_plan_hash(plan), tdm_plan_hash(&again));
    assert_same_programs(plan, &again);
    free(first.bytes);
    free(second.bytes);
}

/* ---- round trips ---- */

static void test_lowered_plans(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &support_specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        assert_round_trip(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

static void test_pass_times(void **state)
{
    (void)state;
    for (const tdm_schedule *const *s = tdm_schedules; *s; s++) {
        tdm_arena arena = {0};
        tdm_scenario scenario =
            support_pass_times(&arena, 4, 9, (*s)->name, 18.522e-3, 18.086e-3, 1.0 / 3, 6.01e-4);
        if (!support_suit(&scenario)) {
            tdm_arena_free(&arena);
            continue;
        }
        tdm_plan plan = support_plan(&arena, &scenario);
        assert_round_trip(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

/* Names with blanks, quotes and control characters come back as they were. */
static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {"two words", "a\"b\\c",     "-x",          "next.x",
                                        "",          "line\nbreak", "caf\xc3\xa9", "#1"};
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, &support_specs[3]);
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        scenario.name = names[i];
        tdm_plan plan = support_plan(&arena, &scenario);
        tdm_kind *kinds = TDM_ALLOC(&arena, tdm_kind, plan.n_kinds);
        memcpy(kinds, plan.kinds, plan.n_kinds * sizeof *kinds);
        tdm_slot *slots = TDM_ALLOC(&arena, tdm_slot, kinds[1].n_slots);
        memcpy(slots, kinds[1].slots, kinds[1].n_slots * sizeof *slots);
        slots[2].name = names[i];
        kinds[1].slots = slots;
        kinds[2].name = names[i];
        plan.kinds = kinds;
        assert_round_trip(&arena, &plan);
        support_text out = support_write(&plan);
        tdm_plan again = support_read(&arena, out.bytes, out.length);
        assert_string_equal(again.name, names[i]);
        assert_string_equal(again.kinds[1].slots[2].name, names[i]);
        free(out.bytes);
    }
    tdm_arena_free(&arena);
}

/* Ranks 0, 2, 3 and 7 of eight have roles of their own: ranges, single ranks and several roles of
 * one stage. */
static void test_roles_by_rank(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, &(support_spec){.dp = 8});
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_role roles[2] = {plan.roles[0], plan.roles[0]};
    const uint16_t role_of[8] = {1, 0, 1, 1, 0, 0, 0, 1};
    roles[1].n_passes--; /* without O */
    plan.roles = roles;
    plan.n_roles = 2;
    plan.role_of = role_of;
    assert_round_trip(&arena, &plan);
    support_text out = support_write(&plan);
    assert_non_null(strstr(out.bytes, "\nrole stage=0 ranks=1,4-6\n"));
    assert_non_null(strstr(out.bytes, "\nrole stage=0 ranks=0,2-3,7\n"));
    free(out.bytes);
    tdm_arena_free(&arena);
}

/* Two chunks on each of two stages: passes carry the chunk in front. */
static void test_chunks(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_pass_times(&arena, 2, 2, "1f1b", 1, 1, 1, 0);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_role roles[2];
    tdm_chunk chunks[2][2];
    static const tdm_pass passes[] = {{TDM_PASS_F, 0, 0},  {TDM_PASS_F, 1, 0},  {TDM_PASS_F, 0, 1},
                                      {TDM_PASS_F, 1, 1},  {TDM_PASS_BW, 1, 0}, {TDM_PASS_BW, 0, 0},
                                      {TDM_PASS_BW, 1, 1}, {TDM_PASS_BW, 0, 1}};
    for (uint32_t s = 0; s < 2; s++) {
        for (uint32_t c = 0; c < 2; c++) {
            chunks[s][c] = plan.roles[s].chunks[0];
            chunks[s][c].virtual_stage = s + 2 * c;
        }
        roles[s] = (tdm_role){.stage = s,
                              .chunks = chunks[s],
                              .n_chunks = 2,
                              .passes = passes,
                              .n_passes = TDM_COUNT(passes)};
    }
    plan.roles = roles;
    assert_round_trip(&arena, &plan);
    support_text out = support_write(&plan);
    assert_non_null(strstr(out.bytes, "\n  passes 0F0 1F0 0F1 1F1 1BW0 0BW0 1BW1 0BW1\n"));
    free(out.bytes);
    tdm_arena_free(&arena);
}

static void test_file(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    char path[] = "/tmp/tandem-plan-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    FILE *file = fdopen(descriptor, "w");
    assert_non_null(file);
    tdm_scenario scenario = support_scenario(&arena, &support_specs[18]);
    tdm_plan plan = support_plan(&arena, &scenario), again = {0};
    assert_int_equal(tdm_plan_write(&plan, file, &err), TDM_OK);
    fclose(file);
    assert_int_equal(tdm_plan_read(&arena, path, &again, &err), TDM_OK);
    assert_int_equal(tdm_plan_hash(&plan), tdm_plan_hash(&again));
    remove(path);
    assert_int_equal(tdm_plan_read(&arena, path, &again, &err), TDM_E_INVALID);
    assert_non_null(strstr(err.text, ": No such file or directory\n"));
    file = fopen("/dev/full", "w");
    if (file) {
        err = (tdm_error){0};
        assert_int_equal(tdm_plan_write(&plan, file, &err), TDM_E_INTERNAL);
        assert_string_equal(err.text, "writing the plan failed: No space left on device\n");
        fclose(file);
    }
    tdm_arena_free(&arena);
}

/* The hash is FNV-1a of the text, and any change of the plan changes it. */
static void test_hash(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, &support_specs[18]);
    tdm_plan plan = support_plan(&arena, &scenario);
    support_text out = support_write(&plan);
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < out.length; i++)
        hash = (hash ^ (unsigned char)out.bytes[i]) * UINT64_C(1099511628211);
    assert_int_equal(tdm_plan_hash(&plan), hash);
    char *again = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&again, &length);
    uint64_t written = 0;
    assert_int_equal(tdm_plan_write_hashed(&plan, file, &written, NULL), TDM_OK);
    fclose(file);
    assert_int_equal(written, hash);
    assert_int_equal(length, out.length);
    assert_memory_equal(again, out.bytes, length);
    free(again);
    plan.routing_spec.seed++;
    assert_int_not_equal(tdm_plan_hash(&plan), hash);
    free(out.bytes);
    tdm_arena_free(&arena);
}

/* ---- by hand ---- */

static void test_by_hand(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_plan plan = support_read(&arena, support_text_base, strlen(support_text_base));
    assert_round_trip(&arena, &plan);
    assert_int_equal(plan.kinds[0].slots[1].bytes.fixed, 16);
    assert_int_equal(plan.kinds[0].slots[1].bytes.per_token, 8);
    assert_true(plan.kinds[0].params[0].expert);
    assert_int_equal(plan.kinds[0].templates[TDM_PASS_F].ops[0].u.gemm.batch, 1);
    assert_int_equal(plan.kinds[0].templates[TDM_PASS_F].ops[0].waits[1].n, 1);
    assert_int_equal(plan.kinds[0].templates[TDM_PASS_BW].ops[0].pass, TDM_PASS_W);
    assert_true(plan.kinds[0].templates[TDM_PASS_BW].ops[0].u.timed.seconds == 0.25);
    assert_int_equal(tdm_plan_tokens(&plan, 1, 1, 1), 5);
    assert_int_equal(tdm_plan_tokens(&plan, 1, 1, 0), 4);
    assert_int_equal(tdm_plan_n_ops(&plan, 0), 2 * (2 * 2 + 2 * 1) + 1);
    tdm_arena_free(&arena);
}

/* ---- groups ---- */

static void test_groups(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_text out = {0};
    tdm_scenario scenario = support_scenario(
        &arena, &(support_spec){.tp = 2, .dp = 4, .pp = 2, .ep = 4, .experts = 8, .topk = 2});
    tdm_plan plan = support_plan(&arena, &scenario);
    FILE *file = open_memstream(&out.bytes, &out.length);
    assert_non_null(file);
    tdm_plan_write_groups(&plan, file);
    fclose(file);
    assert_string_equal(out.bytes, "test: 16 ranks in order tp-cp-ep-dp-pp, tp fastest\n"
                                   "\n"
                                   "attention: tp 2 x cp 1 x dp 4 x pp 2 = 16\n"
                                   "  group  size  ranks\n"
                                   "  tp        2  0-1 2-3 4-5 6-7 8-9 10-11 12-13 14-15\n"
                                   "  cp        1  every rank alone\n"
                                   "  dp        4  0-6:2 1-7:2 8-14:2 9-15:2\n"
                                   "  pp        2  0,8 1,9 2,10 3,11 4,12 5,13 6,14 7,15\n"
                                   "\n"
                                   "experts: etp 1 x ep 4 x edp 2 x pp 2 = 16\n"
                                   "  group  size  ranks\n"
                                   "  etp       1  every rank alone\n"
                                   "  ep        4  0-3 4-7 8-11 12-15\n"
                                   "  edp       2  0,4 1,5 2,6 3,7 8,12 9,13 10,14 11,15\n"
                                   "  pp        2  0,8 1,9 2,10 3,11 4,12 5,13 6,14 7,15\n");
    free(out.bytes);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lowered_plans), cmocka_unit_test(test_pass_times),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_roles_by_rank),
        cmocka_unit_test(test_chunks),        cmocka_unit_test(test_file),
        cmocka_unit_test(test_hash),          cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
