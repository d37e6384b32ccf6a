/* test_layout.c: placements against brute force, memory figures against an independent count,
 * static tensors by hand. */
#include "core/layout.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_layout lay_out(tdm_arena *arena, const tdm_plan *plan, uint32_t rank)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_layout layout;
    if (tdm_layout_build(arena, plan, rank, true, &layout, err) != TDM_OK)
        fail_msg("layout failed: %s", err->text);
    return layout;
}

static uint32_t layer_at(const tdm_chunk *chunk, uint32_t position)
{
    uint32_t b = 0;
    for (; position >= chunk->blocks[b].count; b++)
        position -= chunk->blocks[b].count;
    return chunk->blocks[b].first_layer + position;
}

static uint64_t bytes_of(const tdm_plan *plan, uint32_t rank, const tdm_instance *in,
                         const tdm_ref *ref)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    tdm_place at = tdm_plan_place(role, in, ref);
    const tdm_chunk *chunk = &role->chunks[at.chunk];
    tdm_size size = tdm_plan_kind_at(plan, chunk, at.position)->slots[ref->slot].bytes;
    assert_int_equal(size.per_received, 0);
    uint64_t tokens = size.per_token ? tdm_plan_tokens(plan, rank, layer_at(chunk, at.position),
                                                       in->pass.microbatch)
                                     : 0;
    return size.fixed + size.per_token * tokens;
}

/* ---- no two tensors in the same bytes ---- */

typedef struct tensor {
    uint64_t offset, bytes;
    uint32_t *ops; /* that use it */
    uint32_t n_ops;
} tensor;

static bool all_before(const order *o, const tensor *a, const tensor *b)
{
    for (uint32_t i = 0; i < a->n_ops; i++)
        for (uint32_t k = 0; k < b->n_ops; k++)
            if (!o->before[(size_t)a->ops[i] * o->n_ops + b->ops[k]])
                return false;
    return true;
}

static tensor *collect(tdm_arena *arena, const tdm_plan *plan, const tdm_layout *layout,
                       const order *o)
{
    tensor *tensors = TDM_ALLOC(arena, tensor, layout->n_offsets);
    for (uint32_t i = 0; i < o->n_ops; i++)
        for (uint32_t r = 0; r < o->ops[i].op->n_refs; r++) {
            const tdm_instance *in = &o->ops[i];
            const tdm_ref *ref = &in->op->refs[r];
            tdm_place at = tdm_plan_place(&plan->roles[plan->role_of[0]], in, ref);
            tensor *t = &tensors[tdm_layout_index(layout, at.chunk, in->pass.microbatch,
                                                  at.position, ref->slot)];
            if (!t->ops)
                t->ops = TDM_ALLOC(arena, uint32_t, o->n_ops);
            t->ops[t->n_ops++] = i;
            t->bytes = bytes_of(plan, 0, in, ref);
            t->offset = layout->offsets[t - tensors];
        }
    return tensors;
}

static void check_disjoint(tdm_arena *arena, const tdm_plan *plan)
{
    order o = order_of(arena, plan);
    tdm_layout layout = lay_out(arena, plan, 0);
    const tensor *tensors = collect(arena, plan, &layout, &o);
    for (uint64_t i = 0; i < layout.n_offsets; i++) {
        const tensor *a = &tensors[i];
        if (a->n_ops == 0) {
            assert_true(layout.offsets[i] == UINT64_MAX);
            continue;
        }
        assert_int_equal(a->offset % TDM_ALIGNMENT, 0);
        assert_true(a->offset >= layout.static_bytes);
        assert_true(a->offset + a->bytes <= layout.arena_bytes);
        for (uint64_t k = 0; k < i; k++) {
            const tensor *b = &tensors[k];
            bool apart = a->bytes == 0 || b->bytes == 0 || a->offset + a->bytes <= b->offset ||
                         b->offset + b->bytes <= a->offset;
            if (b->n_ops > 0 && !apart && !all_before(&o, a, b) && !all_before(&o, b, a))
                fail_msg("tensors %u and %u share bytes unordered", (unsigned)i, (unsigned)k);
        }
    }
}

static void random_programs_are_disjoint(void **state)
{
    (void)state;
    uint64_t seed = 99;
    for (uint32_t round = 0; round < 60; round++) {
        tdm_arena arena = {0};
        tdm_plan plan = edit_random_plan(&arena, &seed);
        check_disjoint(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

static void lowered_programs_are_disjoint(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.tp = 2, .pp = 2, .sequence_parallel = true},
        {.tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2, .schedule = "zb-h1", .layers = 2},
    };
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        check_disjoint(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

/* ---- figures ---- */

static uint64_t sum(const uint64_t bytes[TDM_N_CLASSES])
{
    uint64_t total = 0;
    for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
        total += bytes[k];
    return total;
}

/* Counts what is alive op by op, from the flags alone. */
static void check_figures(const tdm_plan *plan, const tdm_layout *layout)
{
    const tdm_role *role = &plan->roles[plan->role_of[layout->rank]];
    uint64_t live[TDM_N_CLASSES], peak = 0, class_peak[TDM_N_CLASSES] = {0};
    uint32_t peak_op = 0, pass = 0;
    tdm_layout_static(plan, layout->rank, live);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, layout->rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        for (; pass < in.pass_index; pass++)
            assert_memory_equal(layout->timeline + (size_t)pass * TDM_N_CLASSES, live, sizeof live);
        for (uint32_t death = 0; death < 2; death++)
            for (uint32_t r = 0; r < in.op->n_refs; r++) {
                const tdm_ref *ref = &in.op->refs[r];
                tdm_place at = tdm_plan_place(role, &in, ref);
                const tdm_chunk *chunk = &role->chunks[at.chunk];
                const tdm_slot *slot =
                    &tdm_plan_kind_at(plan, chunk, at.position)->slots[ref->slot];
                if (!death && ref->birth)
                    live[slot->class_] += bytes_of(plan, layout->rank, &in, ref);
                if (!death && sum(live) > peak) {
                    peak = sum(live);
                    peak_op = in.index;
                }
                for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
                    class_peak[k] = live[k] > class_peak[k] ? live[k] : class_peak[k];
                if (death && ref->death)
                    live[slot->class_] -= bytes_of(plan, layout->rank, &in, ref);
            }
    }
    for (; pass < role->n_passes; pass++)
        assert_memory_equal(layout->timeline + (size_t)pass * TDM_N_CLASSES, live, sizeof live);
    assert_true(layout->live_peak_bytes == peak);
    assert_int_equal(layout->peak_op, peak_op);
    assert_true(sum(layout->class_at_peak) == peak);
    assert_memory_equal(layout->class_peak, class_peak, sizeof class_peak);
    assert_true(layout->arena_bytes >= peak);
}

static void figures_equal_a_count(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &support_specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        tdm_layout *all = TDM_ALLOC(&arena, tdm_layout, plan.mesh.world);
        assert_int_equal(tdm_layout_build_all(&arena, &plan, true, all, NULL), TDM_OK);
        for (uint32_t rank = 0; rank < plan.mesh.world; rank++) {
            tdm_layout one = lay_out(&arena, &plan, rank);
            check_figures(&plan, &one);
            assert_int_equal(all[rank].rank, rank);
            assert_true(all[rank].arena_bytes == one.arena_bytes &&
                        all[rank].peak_op == one.peak_op);
            assert_memory_equal(all[rank].offsets, one.offsets,
                                sizeof *one.offsets * one.n_offsets);
        }
        tdm_arena_free(&arena);
    }
}

/* Placement wastes little: the sequence that a reference of this shape goes through, on fewer
 * layers. */
static void little_is_wasted(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.tp = 8,
         .ep = 8,
         .pp = 2,
         .layers = 40,
         .experts = 64,
         .topk = 2,
         .microbatches = 8,
         .micro_batch = 8,
         .seq = 512,
         .hidden = 1024,
         .heads = 16},
        {.tp = 8,
         .ep = 8,
         .pp = 2,
         .layers = 40,
         .experts = 64,
         .topk = 2,
         .microbatches = 8,
         .micro_batch = 8,
         .seq = 512,
         .hidden = 1024,
         .heads = 16,
         .sequence_parallel = true},
        {.tp = 4,
         .pp = 2,
         .dp = 2,
         .layers = 32,
         .hidden = 1024,
         .seq = 1024,
         .microbatches = 16,
         .micro_batch = 1},
    };
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        tdm_layout *all = TDM_ALLOC(&arena, tdm_layout, plan.mesh.world);
        assert_int_equal(tdm_layout_build_all(&arena, &plan, false, all, NULL), TDM_OK);
        for (uint32_t rank = 0; rank < plan.mesh.world; rank++)
            if ((double)all[rank].arena_bytes > 1.03 * (double)all[rank].live_peak_bytes)
                fail_msg("spec %zu, rank %u: an arena of %.0f bytes for %.0f alive", i, rank,
                         (double)all[rank].arena_bytes, (double)all[rank].live_peak_bytes);
        tdm_arena_free(&arena);
    }
}

/* ---- static tensors ---- */

static tdm_plan plan_of_params(tdm_arena *arena, bool train, tdm_dtype dtype, bool shard)
{
    tdm_param *params = TDM_ALLOC(arena, tdm_param, 2);
    tdm_kind *kind = TDM_ALLOC(arena, tdm_kind, 1);
    tdm_block *block = TDM_ALLOC(arena, tdm_block, 1);
    tdm_chunk *chunk = TDM_ALLOC(arena, tdm_chunk, 1);
    tdm_role *role = TDM_ALLOC(arena, tdm_role, 1);
    params[0] = (tdm_param){.name = "dense", .count = 1000};
    params[1] = (tdm_param){.name = "expert", .count = 600, .expert = true};
    *kind = (tdm_kind){.name = "layer", .params = params, .n_params = 2};
    *block = (tdm_block){.count = 3};
    *chunk = (tdm_chunk){.blocks = block, .n_blocks = 1, .n_positions = 3};
    *role = (tdm_role){.chunks = chunk, .n_chunks = 1};
    tdm_plan plan = {.train = train,
                     .training = {.dtype = dtype, .grad_dtype = TDM_DTYPE_FP32},
                     .parallel = {.distributed_optimizer = shard},
                     .num_microbatches = 1,
                     .kinds = kind,
                     .n_kinds = 1,
                     .roles = role,
                     .n_roles = 1,
                     .role_of = TDM_ALLOC(arena, uint16_t, 8)};
    /* 8 replicas of dense parameters, 2 of each expert. */
    assert_int_equal(tdm_mesh_init(&plan.mesh, 1, 1, 8, 1, 4, 1, NULL), TDM_OK);
    return plan;
}

static void check_static(bool train, tdm_dtype dtype, bool shard, uint64_t weights,
                         uint64_t gradients, uint64_t optimizer)
{
    tdm_arena arena = {0};
    tdm_plan plan = plan_of_params(&arena, train, dtype, shard);
    uint64_t bytes[TDM_N_CLASSES];
    tdm_layout_static(&plan, 0, bytes);
    assert_true(bytes[TDM_CLASS_WEIGHTS] == weights);
    assert_true(bytes[TDM_CLASS_GRADIENTS] == gradients);
    assert_true(bytes[TDM_CLASS_OPTIMIZER] == optimizer);
    assert_true(bytes[TDM_CLASS_ACTIVATION] + bytes[TDM_CLASS_COMM] + bytes[TDM_CLASS_WORKSPACE] ==
                0);
    tdm_layout layout = lay_out(&arena, &plan, 0);
    assert_true(layout.live_peak_bytes == weights + gradients + optimizer);
    assert_true(layout.static_bytes == layout.arena_bytes);
    assert_true(layout.static_bytes >= layout.live_peak_bytes);
    assert_int_equal(layout.static_bytes % TDM_ALIGNMENT, 0);
    tdm_arena_free(&arena);
}

static void static_bytes_by_hand(void **state)
{
    (void)state;
    const uint64_t n = 3 * (1000 + 600);
    check_static(true, TDM_DTYPE_BF16, false, 2 * n, 4 * n, 12 * n);
    check_static(true, TDM_DTYPE_FP32, false, 4 * n, 4 * n, 8 * n);
    check_static(true, TDM_DTYPE_BF16, true, 2 * n, 4 * n, 3 * 12 * (1000 / 8 + 600 / 2));
    check_static(false, TDM_DTYPE_BF16, true, 2 * n, 0, 0);
}

/* Alignment: 1000 bf16 weights are 2000 bytes and take 2048, 600 are 1200 and take 1280. */
static void static_tensors_are_aligned(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_plan plan = plan_of_params(&arena, false, TDM_DTYPE_BF16, false);
    tdm_layout layout = lay_out(&arena, &plan, 0);
    assert_true(layout.static_bytes == 3 * (2048 + 1280));
    tdm_arena_free(&arena);
}

/* ---- faults ---- */

static void bad_lifetimes_are_refused(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, &(support_spec){.tp = 2});
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_plan twice = edit_copy(&arena, &plan), unborn = edit_copy(&arena, &plan);
    edit_ref(&twice, 0, "proj", "o", false)->birth = true;
    edit_ref(&unborn, 0, "attention", "o", false)->birth = false;
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_layout layout = {.rank = 77};
    assert_int_equal(tdm_layout_build(&arena, &twice, 0, false, &layout, err), TDM_E_INVALID);
    assert_non_null(strstr(err->text, "rank 0: op proj (F mb 0, layer 0): tensor o is born twice"));
    *err = (tdm_error){0};
    assert_int_equal(tdm_layout_build_all(&arena, &unborn, false, &layout, err), TDM_E_INVALID);
    assert_non_null(strstr(err->text, "tensor o dies before it is born"));
    assert_int_equal(layout.rank, 77);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_programs_are_disjoint),
        cmocka_unit_test(lowered_programs_are_disjoint),
        cmocka_unit_test(figures_equal_a_count),
        cmocka_unit_test(little_is_wasted),
        cmocka_unit_test(static_bytes_by_hand),
        cmocka_unit_test(static_tensors_are_aligned),
        cmocka_unit_test(bad_lifetimes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
