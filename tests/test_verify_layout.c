/* test_verify_layout.c: faults planted in placements, and the checker's verdict against brute
 * force. */
#include "core/verify.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- planted faults ---- */

typedef struct fixture {
    tdm_arena arena;
    tdm_error err;
    tdm_plan plan;
    tdm_layout layout;
} fixture;

static fixture *setup(uint32_t rank)
{
    tdm_arena arena = {0};
    fixture *f = TDM_ALLOC(&arena, fixture, 1);
    tdm_scenario *scenario = TDM_ALLOC(&arena, tdm_scenario, 1);
    *scenario = support_scenario(
        &arena, &(support_spec){.tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2});
    f->plan = support_plan(&arena, scenario);
    assert_int_equal(tdm_layout_build(&arena, &f->plan, rank, true, &f->layout, &f->err), TDM_OK);
    assert_int_equal(tdm_verify_layout(&f->plan, &f->layout, &f->err), TDM_OK);
    f->arena = arena;
    return f;
}

static void finish(fixture *f)
{
    tdm_arena arena = f->arena;
    tdm_arena_free(&arena);
}

/* Where the tensor of chunk 0, microbatch 0 at a position lies; to write to. */
static uint64_t *place_of(const fixture *f, uint32_t position, const char *slot)
{
    const tdm_chunk *chunk = &f->plan.roles[f->plan.role_of[f->layout.rank]].chunks[0];
    const tdm_kind *kind = tdm_plan_kind_at(&f->plan, chunk, position);
    for (uint32_t s = 0; s < kind->n_slots; s++)
        if (strcmp(kind->slots[s].name, slot) == 0)
            return (uint64_t *)&f->layout.offsets[tdm_layout_index(&f->layout, 0, 0, position, s)];
    fail_msg("no slot %s", slot);
    return NULL;
}

static void expect_fault(fixture *f, const char *tensor, const char *fault)
{
    if (tdm_verify_layout(&f->plan, &f->layout, &f->err) != TDM_E_INVALID)
        fail_msg("not found: %s", fault);
    if (!strstr(f->err.text, tensor) || !strstr(f->err.text, fault))
        fail_msg("no \"%s\" and \"%s\" in:\n%s", tensor, fault, f->err.text);
    finish(f);
}

static const char born[] =
    "rank 3: tensor \"qkv\" (mb 0, layer 0), born by op \"qkv\" (F mb 0, layer 0)";

static void overlapping(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") = *place_of(f, 1, "n1"); /* read while qkv is written, and kept for BW */
    expect_fault(f, born, "overlaps tensor \"n1\" (mb 0, layer 0)");
}

static void overlapping_by_a_little(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "o") = *place_of(f, 1, "qkv") + 2 * TDM_ALIGNMENT;
    expect_fault(f,
                 "rank 3: tensor \"o\" (mb 0, layer 0), born by op \"attention\" (F mb 0, layer 0)",
                 "overlaps tensor \"qkv\" (mb 0, layer 0)");
}

/* The dispatch buffer dies with the all-to-all on ep; compute may not write there before it has
 * waited for that. */
static void reused_too_early(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "dispatch.recv") = *place_of(f, 1, "dispatch.send");
    expect_fault(f, "rank 3: tensor \"dispatch.recv\" (mb 0, layer 0), born by op \"dispatch\"",
                 "while op \"dispatch\" (F mb 0, layer 0) on stream ep may still use that");
}

static void misaligned(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") += 8;
    expect_fault(f, born, "is not aligned to 256 bytes");
}

static void outside(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") = f->layout.arena_bytes - f->layout.arena_bytes % TDM_ALIGNMENT;
    expect_fault(f, born, "reaches past the end of the arena");
}

static void outside_by_overflow(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") = UINT64_MAX - (TDM_ALIGNMENT - 1);
    expect_fault(f, born, "reaches past the end of the arena");
}

static void on_the_weights(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") = 0;
    expect_fault(f, born, "overlaps the static tensors");
}

static void nowhere(void **state)
{
    (void)state;
    fixture *f = setup(3);
    *place_of(f, 1, "qkv") = UINT64_MAX;
    expect_fault(f, born, "has no place");
}

static void without_offsets(void **state)
{
    (void)state;
    fixture *f = setup(3);
    f->layout.offsets = NULL;
    expect_fault(f, "rank 3: ", "the layout has no offsets");
}

/* A placement that is right for one plan, held against the same plan without a wait. */
static void plan_lost_a_wait(void **state)
{
    (void)state;
    fixture *f = setup(3);
    f->plan = edit_copy(&f->arena, &f->plan);
    edit_drop_wait(edit_op(&f->plan, 3, "sort"), TDM_STREAM_EP);
    expect_fault(f, "rank 3: tensor", "on stream ep may still use that");
}

/* ---- verdicts ---- */

static uint64_t bytes_at(const tdm_plan *plan, const tdm_layout *layout, uint64_t index)
{
    const tdm_kind *kind = &plan->kinds[0];
    (void)layout;
    return kind->slots[index % kind->n_slots].bytes.fixed;
}

/* Users of a tensor (an index into the offsets) are all before those of another. */
static bool over_before(const order *o, const tdm_layout *layout, uint64_t a, uint64_t b,
                        bool *used)
{
    bool before = true;
    used[0] = used[1] = false;
    for (uint32_t i = 0; i < o->n_ops; i++)
        for (uint32_t r = 0; r < o->ops[i].op->n_refs; r++) {
            const tdm_instance *x = &o->ops[i];
            if (tdm_layout_index(layout, 0, x->pass.microbatch, x->position, x->op->refs[r].slot) !=
                a)
                continue;
            used[0] = true;
            for (uint32_t k = 0; k < o->n_ops; k++)
                for (uint32_t q = 0; q < o->ops[k].op->n_refs; q++) {
                    const tdm_instance *y = &o->ops[k];
                    if (tdm_layout_index(layout, 0, y->pass.microbatch, y->position,
                                         y->op->refs[q].slot) != b)
                        continue;
                    used[1] = true;
                    before &= o->before[(size_t)i * o->n_ops + k];
                }
        }
    return before;
}

/* Is the one moved tensor in conflict with any other? */
static bool conflicts(const tdm_plan *plan, const tdm_layout *layout, const order *o,
                      uint64_t moved)
{
    uint64_t from = layout->offsets[moved], to = from + bytes_at(plan, layout, moved);
    for (uint64_t i = 0; i < layout->n_offsets; i++) {
        uint64_t low = layout->offsets[i], high = low + bytes_at(plan, layout, i);
        if (i == moved || low == UINT64_MAX || low == high || from == to || to <= low ||
            high <= from)
            continue;
        bool used[2];
        if (!over_before(o, layout, i, moved, used) && !over_before(o, layout, moved, i, used))
            return true;
    }
    return false;
}

/* Moves random tensors of random plans and asks both. */
static void verdicts_equal_brute_force(void **state)
{
    (void)state;
    uint64_t seed = 31;
    uint32_t n_good = 0, n_bad = 0;
    for (uint32_t round = 0; round < 12; round++) {
        tdm_arena arena = {0};
        tdm_plan plan = edit_random_plan(&arena, &seed);
        order o = order_of(&arena, &plan);
        tdm_layout layout;
        assert_int_equal(tdm_layout_build(&arena, &plan, 0, true, &layout, NULL), TDM_OK);
        assert_int_equal(tdm_verify_layout(&plan, &layout, NULL), TDM_OK);
        for (uint32_t trial = 0; trial < 12; trial++) {
            uint64_t moved = edit_random(&seed, (uint32_t)layout.n_offsets);
            uint64_t *place = (uint64_t *)&layout.offsets[moved], kept = *place;
            uint64_t bytes = bytes_at(&plan, &layout, moved);
            uint32_t n_places = (uint32_t)((layout.arena_bytes - bytes) / TDM_ALIGNMENT + 1);
            *place = (uint64_t)edit_random(&seed, n_places) * TDM_ALIGNMENT;
            bool bad = conflicts(&plan, &layout, &o, moved);
            n_good += !bad;
            n_bad += bad;
            if ((tdm_verify_layout(&plan, &layout, NULL) != TDM_OK) != bad)
                fail_msg("round %u, trial %u: brute force says %s", round, trial,
                         bad ? "bad" : "good");
            *place = kept;
        }
        tdm_arena_free(&arena);
    }
    assert_true(n_good > 10 && n_bad > 10);
}

/* ---- one rank after the other ---- */

typedef struct spoiler {
    tdm_layout_proof *proof;
    uint32_t rank; /* whose tensors are spoilt; UINT32_MAX: nobody's */
    uint32_t n_seen;
} spoiler;

static tdm_code spoil_and_prove(void *context, const tdm_layout *layout, tdm_error *err)
{
    spoiler *s = context;
    assert_non_null(layout->offsets);
    if (s->n_seen++ == s->rank)
        for (uint64_t i = 0; i < layout->n_offsets; i++)
            if (layout->offsets[i] != UINT64_MAX)
                ((uint64_t *)layout->offsets)[i] += 1;
    return tdm_layout_prove(s->proof, layout, err);
}

/* All ranks of a plan with routed sizes, and of one without, pass; the one that is spoilt does not.
 */
static void ranks_one_by_one(void **state)
{
    (void)state;
    static const support_spec specs[] = {{.tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2},
                                         {.tp = 2, .pp = 2, .dp = 2}};
    for (size_t i = 0; i < TDM_COUNT(specs); i++)
        for (uint32_t spoilt = 0; spoilt <= 8; spoilt++) {
            tdm_arena arena = {0};
            tdm_scenario scenario = support_scenario(&arena, &specs[i]);
            tdm_plan plan = support_plan(&arena, &scenario);
            plan.programs = tdm_programs_of(&arena, &plan);
            assert_int_equal(plan.mesh.world, 8);
            spoiler s = {tdm_layout_proof_new(&arena, &plan), spoilt, 0};
            tdm_layout layouts[8], all[8];
            tdm_code code =
                tdm_layout_build_each(&arena, &plan, spoil_and_prove, &s, layouts, NULL);
            assert_int_equal(code, spoilt < 8 ? TDM_E_INVALID : TDM_OK);
            assert_int_equal(s.n_seen, spoilt < 8 ? spoilt + 1 : 8);
            assert_int_equal(tdm_layout_build_all(&arena, &plan, true, all, NULL), TDM_OK);
            for (uint32_t rank = 0; rank < 8 && spoilt == 8; rank++) {
                assert_null(layouts[rank].offsets);
                assert_int_equal(layouts[rank].rank, rank);
                assert_int_equal(layouts[rank].arena_bytes, all[rank].arena_bytes);
            }
            tdm_layout_proof_free(s.proof);
            tdm_arena_free(&arena);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlapping),
        cmocka_unit_test(overlapping_by_a_little),
        cmocka_unit_test(reused_too_early),
        cmocka_unit_test(misaligned),
        cmocka_unit_test(outside),
        cmocka_unit_test(outside_by_overflow),
        cmocka_unit_test(on_the_weights),
        cmocka_unit_test(nowhere),
        cmocka_unit_test(without_offsets),
        cmocka_unit_test(plan_lost_a_wait),
        cmocka_unit_test(verdicts_equal_brute_force),
        cmocka_unit_test(ranks_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
