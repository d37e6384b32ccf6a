/* test_layers.c: models whose layers are of two kinds, and shared experts: where the layers are,
 * what they hold and compute, and what runs beside the all-to-alls. That such plans verify, read
 * back and run is tested with all others: support_specs, test_random.c. */
#include "core/figures.h"
#include "core/folded.h"
#include "core/layout.h"
#include "core/scenario.h"
#include "core/verify.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ROOT TANDEM_SOURCE_ROOT

/* ---- where the layers are ---- */

/* Kinds of the layers of all virtual stages in order, from the blocks: D dense, M with experts. */
static void letters_of(const tdm_plan *plan, char *letters)
{
    uint32_t n_virtual = plan->mesh.pp * plan->roles[0].n_chunks, layer = 0;
    for (uint32_t v = 0; v < n_virtual; v++) {
        uint32_t stage = tdm_placement_stage(plan->placement, plan->mesh.pp, v);
        const tdm_chunk *chunk = &plan->roles[stage].chunks[v / plan->mesh.pp];
        const tdm_kind *before = NULL;
        for (uint32_t b = 0; b < chunk->n_blocks; b++) {
            const tdm_block *block = &chunk->blocks[b];
            const tdm_kind *kind = &plan->kinds[block->kind];
            bool moe = strcmp(kind->name, "moe-layer") == 0;
            assert_ptr_not_equal(kind, before);
            before = kind;
            if (!moe && strcmp(kind->name, "layer") != 0)
                continue;
            assert_int_equal(block->first_layer, layer);
            for (uint32_t i = 0; i < block->count; i++)
                letters[layer++] = moe ? 'M' : 'D';
        }
    }
    letters[layer] = 0;
}

static void test_runs_of_layers(void **state)
{
    (void)state;
    static const struct {
        support_spec spec;
        const char *letters;
        uint32_t n_kinds;
    } cases[] = {
        {{.layers = 8}, "DDDDDDDD", 3},
        {{.layers = 8, .experts = 4, .topk = 2}, "MMMMMMMM", 3},
        {{.layers = 8, .experts = 4, .topk = 2, .dense_first = 3}, "DDDMMMMM", 4},
        {{.layers = 8, .experts = 4, .topk = 2, .dense_first = 3, .pp = 2}, "DDDMMMMM", 6},
        {{.layers = 8, .experts = 4, .topk = 2, .dense_first = 4, .pp = 2}, "DDDDMMMM", 6},
        {{.layers = 8, .experts = 4, .topk = 2, .moe_every = 2, .moe_offset = 1, .pp = 4},
         "DMDMDMDM",
         6},
        {{.layers = 8, .experts = 4, .topk = 2, .moe_every = 2, .pp = 2}, "MDMDMDMD", 6},
        {{.layers = 8, .experts = 4, .topk = 2, .moe_every = 3, .dense_first = 1}, "DDDMDDMD", 4},
        {{.layers = 8,
          .experts = 4,
          .topk = 2,
          .dense_first = 5,
          .pp = 2,
          .vpp = 2,
          .schedule = "interleaved-1f1b"},
         "DDDDDMMM",
         6},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &cases[i].spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        char letters[64];
        letters_of(&plan, letters);
        assert_string_equal(letters, cases[i].letters);
        assert_int_equal(plan.n_kinds, cases[i].n_kinds);
        for (uint32_t layer = 0; layer < 8; layer++)
            assert_int_equal(tdm_plan_tokens(&plan, 0, layer, 0),
                             cases[i].letters[layer] == 'M' ? 2u * 32 * 2 : 0u);
        tdm_arena_free(&arena);
    }
}

static void test_dense_layers_route_nothing(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_verify_report report;
    tdm_scenario scenario = support_scenario(
        &arena, &(support_spec){.dp = 2, .ep = 2, .experts = 4, .topk = 2, .dense_first = 1});
    tdm_plan plan = support_plan(&arena, &scenario);
    assert_int_equal(tdm_verify_plan(&plan, &report, &err), TDM_OK);
    ((uint32_t *)plan.routing.sent)[0] = 1;
    assert_int_equal(tdm_verify_plan(&plan, &report, &err), TDM_E_INVALID);
    assert_non_null(strstr(err.text, "layer 0, which no all-to-all belongs to"));
    tdm_arena_free(&arena);
}

/* ---- what they compute and hold ---- */

static double flops_of(const tdm_plan *plan, const char *prefix)
{
    double flops = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_instance in;
        tdm_cursor_init(&cursor, plan, rank);
        while (tdm_cursor_next(&cursor, &in))
            if (!in.op->recompute && strncmp(in.op->name, prefix, strlen(prefix)) == 0)
                flops += tdm_op_flops(plan, rank, &in);
    }
    return flops;
}

/* Every token passes the shared experts: forward 2 x 2 h f, three such passes with the gradients;
 * half as much again when gated. Whatever the layout. */
static void test_shared_flops(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.experts = 4, .topk = 2, .shared = 96},
        {.tp = 4, .ep = 4, .experts = 4, .topk = 2, .shared = 96},
        {.tp = 4, .ep = 2, .experts = 4, .topk = 2, .shared = 96, .sequence_parallel = true},
        {.tp = 2, .pp = 2, .experts = 4, .topk = 2, .shared = 96, .schedule = "zb-h1"},
        {.tp = 2, .experts = 4, .topk = 2, .shared = 96, .recompute = TDM_RECOMPUTE_FULL},
    };
    for (size_t i = 0; i < TDM_COUNT(specs); i++)
        for (unsigned gated = 0; gated < 2; gated++) {
            tdm_arena arena = {0};
            support_spec spec = specs[i];
            spec.swiglu = gated;
            spec.dense_first = 1;
            tdm_scenario scenario = support_scenario(&arena, &spec);
            tdm_plan plan = support_plan(&arena, &scenario);
            double tokens = 4.0 * 2 * 32, layers = 3, h = 64, f = 96;
            double expected = 3 * layers * tokens * 2 * h * f * (gated ? 3 : 2);
            assert_true(fabs(flops_of(&plan, "shared.") / expected - 1) < 1e-12);
            tdm_arena_free(&arena);
        }
}

static uint64_t stored_bytes(const tdm_kind *kind, const char *prefix)
{
    uint64_t bytes = 0;
    const tdm_template *forward = &kind->templates[TDM_PASS_F];
    for (uint32_t slot = 0; slot < kind->n_slots; slot++) {
        bool born = false, dead = false;
        for (uint32_t i = 0; i < forward->n_ops; i++)
            for (uint32_t r = 0; r < forward->ops[i].n_refs; r++) {
                const tdm_ref *ref = &forward->ops[i].refs[r];
                if (ref->slot != slot || ref->next)
                    continue;
                born |= ref->birth;
                dead |= ref->death;
            }
        if (born && !dead && strncmp(kind->slots[slot].name, prefix, strlen(prefix)) == 0)
            bytes += kind->slots[slot].bytes.fixed;
    }
    return bytes;
}

/* Kept for the backward pass: columns before and after the activation; nothing with full
 * recompute. */
static void test_shared_activations(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec spec = {.tp = 4, .experts = 4, .topk = 2, .shared = 96, .swiglu = true};
    for (unsigned sp = 0; sp < 2; sp++)
        for (unsigned full = 0; full < 2; full++) {
            spec.sequence_parallel = sp;
            spec.recompute = full ? TDM_RECOMPUTE_FULL : TDM_RECOMPUTE_NONE;
            tdm_scenario scenario = support_scenario(&arena, &spec);
            tdm_plan plan = support_plan(&arena, &scenario);
            assert_string_equal(plan.kinds[1].name, "moe-layer");
            assert_int_equal(stored_bytes(&plan.kinds[1], "shared."),
                             full ? 0 : 2 * 32 * 2 * (3 * 96 / 4));
        }
    tdm_arena_free(&arena);
}

/* ---- beside the all-to-alls ---- */

static uint32_t place_of(const tdm_template *template, const char *name)
{
    for (uint32_t i = 0; i < template->n_ops; i++)
        if (strcmp(template->ops[i].name, name) == 0)
            return i;
    fail_msg("no op %s", name);
    return 0;
}

static bool waits_for(const tdm_template *template, const char *name, tdm_stream stream)
{
    const tdm_op *op = &template->ops[place_of(template, name)];
    for (uint32_t i = 0; i < op->n_waits; i++)
        if (op->waits[i].stream == stream)
            return true;
    return false;
}

static void test_shared_experts_run_beside(void **state)
{
    (void)state;
    static const char *const forward[] = {"dispatch", "shared.fc1", "sort",      "fc1",
                                          "combine",  "shared.fc2", "unpermute", "shared.add"};
    static const char *const gradient[] = {"combine.bwd", "shared.fc2.dgrad", "unsort.bwd",
                                           "fc2.dgrad",   "dispatch.bwd",     "shared.fc1.dgrad",
                                           "permute.bwd", "shared.dadd"};
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(
        &arena, &(support_spec){.tp = 2, .ep = 2, .experts = 4, .topk = 2, .shared = 64});
    tdm_plan plan = support_plan(&arena, &scenario);
    const tdm_template *f = &plan.kinds[1].templates[TDM_PASS_F],
                       *bw = &plan.kinds[1].templates[TDM_PASS_BW];
    for (size_t i = 1; i < TDM_COUNT(forward); i++)
        assert_true(place_of(f, forward[i - 1]) < place_of(f, forward[i]));
    for (size_t i = 1; i < TDM_COUNT(gradient); i++)
        assert_true(place_of(bw, gradient[i - 1]) < place_of(bw, gradient[i]));
    assert_false(waits_for(f, "shared.fc1", TDM_STREAM_EP));
    assert_false(waits_for(f, "shared.fc2", TDM_STREAM_EP));
    assert_true(waits_for(f, "sort", TDM_STREAM_EP));
    assert_true(waits_for(f, "unpermute", TDM_STREAM_EP));
    assert_true(waits_for(f, "shared.add", TDM_STREAM_TP));
    assert_false(waits_for(bw, "shared.fc2.dgrad", TDM_STREAM_EP));
    assert_false(waits_for(bw, "shared.fc1.dgrad", TDM_STREAM_EP));
    tdm_arena_free(&arena);
}

/* ---- published models ---- */

static tdm_plan load(tdm_arena *arena, const char *model, const char *pp, tdm_scenario *scenario)
{
    tdm_error err = {0};
    tdm_plan plan = {0};
    const char *sets[] = {tdm_arena_printf(arena, "model={hf: %s}", model),
                          "parallel.tp=2",
                          "parallel.ep=8",
                          "parallel.etp=1",
                          tdm_arena_printf(arena, "parallel.pp=%s", pp),
                          "parallel.sp=true"};
    if (tdm_scenario_load(arena, ROOT, ROOT "/scenarios/small-moe-16gpu.yaml", sets,
                          TDM_COUNT(sets), scenario, &err) != TDM_OK ||
        tdm_lower(arena, scenario, scenario->schedule, scenario->num_microbatches, &plan, &err) !=
            TDM_OK)
        fail_msg("%s: %s", model, err.text);
    return plan;
}

/* DeepSeekMoE 16B: one dense layer of 28, two shared experts; a Qwen3-MoE whose decoder_sparse_step
 * is 2 after a dense start. */
static void test_published_models(void **state)
{
    (void)state;
    static const struct {
        const char *model, *pp;
        uint32_t n_dense;
    } cases[] = {{"../tests/hf/deepseek-moe-16b.json", "2", 1},
                 {"../tests/errors/parts/hf-dense-layers.json", "2", 25}};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        tdm_scenario scenario = {0};
        tdm_verify_report report;
        tdm_plan plan = load(&arena, cases[i].model, cases[i].pp, &scenario);
        char letters[128];
        uint32_t n_dense = 0;
        letters_of(&plan, letters);
        for (const char *c = letters; *c; c++)
            n_dense += *c == 'D';
        assert_int_equal(n_dense, cases[i].n_dense);
        if (tdm_verify_plan(&plan, &report, &err) != TDM_OK)
            fail_msg("%s", err.text);
        tdm_arena_free(&arena);
    }
}

/* ---- folded ---- */

/* The folded evaluation takes two kinds of layers and shared experts as it takes one kind. */
static void test_folded(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.tp = 2, .ep = 2, .experts = 4, .topk = 2, .pp = 2, .dense_first = 1, .shared = 64},
        {.tp = 2,
         .ep = 4,
         .dp = 2,
         .experts = 8,
         .topk = 2,
         .moe_every = 2,
         .shared = 128,
         .sequence_parallel = true},
        {.ep = 2,
         .dp = 2,
         .experts = 4,
         .topk = 2,
         .layers = 8,
         .pp = 2,
         .moe_every = 2,
         .schedule = "zb-h1"},
    };
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        support_spec spec = specs[i];
        spec.balanced = true;
        tdm_scenario scenario = support_scenario(&arena, &spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        tdm_machine machine = support_machine(&scenario);
        tdm_trace trace;
        tdm_figures exact, folded;
        tdm_layout *layouts = TDM_ALLOC(&arena, tdm_layout, plan.mesh.world);
        assert_int_equal(tdm_analytic_run(&arena, &plan, &machine, &trace, &err), TDM_OK);
        assert_int_equal(tdm_layout_build_all(&arena, &plan, false, layouts, &err), TDM_OK);
        assert_int_equal(
            tdm_figures_compute(&arena, &plan, &trace, layouts, &machine, &exact, &err), TDM_OK);
        tdm_fold_choice choice = tdm_fold_choice_of(&scenario);
        assert_null(tdm_fold_refuse(&scenario, &choice));
        tdm_folded *fold = tdm_folded_new(&scenario);
        assert_int_equal(tdm_folded_evaluate(fold, &choice, &folded, &err), TDM_OK);
        print_message("%zu: step %.6g folded %.6g, mfu %.6g %.6g, memory %.6g %.6g\n", i,
                      exact.step_time_s, folded.step_time_s, exact.mfu, folded.mfu,
                      (double)exact.peak_memory_bytes, (double)folded.peak_memory_bytes);
        assert_true(fabs(folded.step_time_s / exact.step_time_s - 1) < 0.01);
        assert_true(fabs(folded.mfu / exact.mfu - 1) < 0.01);
        assert_true(fabs((double)folded.peak_memory_bytes / (double)exact.peak_memory_bytes - 1) <
                    0.01);
        tdm_folded_free(fold);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_of_layers),
        cmocka_unit_test(test_dense_layers_route_nothing),
        cmocka_unit_test(test_shared_flops),
        cmocka_unit_test(test_shared_activations),
        cmocka_unit_test(test_shared_experts_run_beside),
        cmocka_unit_test(test_published_models),
        cmocka_unit_test(test_folded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
