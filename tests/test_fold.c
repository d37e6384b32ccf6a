/* test_fold.c: a folded run is the run of all ranks: every op of every rank, and every figure. */
#include "core/figures.h"
#include "core/fold.h"
#include "core/lower.h"
#include "core/plan_text.h"
#include "core/verify.h"
#include "sim/sim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const double TOLERANCE = 1e-9;

enum { MAX_SETS = 16 };

/* Scenarios of 16 GPUs and what is set to make them those of a case. */
typedef struct fold_case {
    const char *scenario;
    uint32_t copies;
    const char *sets[MAX_SETS];
} fold_case;

#define SMALL                                                                                      \
    "model.num_layers=4", "num_microbatches=4", "seq_length=64", "topology=dgx-2x8-h100",          \
        "micro_batch_size=1"
#define MOE SMALL, "routing.model=balanced", "etp=1"

static const fold_case cases[] = {
    /* TP of half a node: two replicas to a unit; TP of a node: a unit's ring meets itself */
    {"llama-16gpu-tp4-pp2-dp2", 4, {SMALL, "nodes=8", "dp=8"}},
    {"llama-16gpu-tp4-pp2-dp2", 4, {SMALL, "nodes=8", "dp=4", "tp=8"}},
    {"llama-16gpu-tp4-pp2-dp2", 8, {SMALL, "nodes=8", "dp=16", "pp=1", "clip_grad=0"}},
    {"llama-16gpu-tp4-pp2-dp2",
     4,
     {SMALL, "nodes=8", "dp=32", "tp=1", "distributed_optimizer=true"}},
    {"llama-16gpu-tp4-pp2-dp2",
     2,
     {SMALL, "nodes=8", "dp=8", "tp=2", "pp=4", "schedule.name=zb-h1"}},
    {"llama-16gpu-tp4-pp2-dp2",
     4,
     {SMALL, "nodes=2", "dp=4", "tp=1", "pp=4", "schedule.name=gpipe"}},
    {"llama-16gpu-tp4-pp2-dp2", 3, {SMALL, "nodes=6", "dp=6", "sequence_parallel=true"}},
    {"llama-16gpu-tp4-pp2-dp2", 8, {SMALL, "topology=a2-megagpu-16g", "dp=8", "tp=1"}},
    /* EP within a replica, over two of them, over nodes */
    {"small-moe-16gpu", 4, {MOE, "nodes=8", "dp=8", "tp=4", "pp=2", "ep=4"}},
    {"small-moe-16gpu", 4, {MOE, "nodes=8", "dp=16", "tp=2", "pp=2", "ep=8"}},
    {"small-moe-16gpu",
     2,
     {MOE, "nodes=8", "dp=16", "tp=2", "pp=2", "ep=16", "model.num_experts=16",
      "distributed_optimizer=true"}},
};

static tdm_scenario load(tdm_arena *arena, const char *name, const char *const *sets)
{
    tdm_scenario scenario;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    size_t n = 0;
    while (n < MAX_SETS && sets[n])
        n++;
    const char *path = tdm_arena_printf(arena, TANDEM_SOURCE_ROOT "/scenarios/%s.yaml", name);
    if (tdm_scenario_load(arena, TANDEM_SOURCE_ROOT, path, sets, n, &scenario, err) != TDM_OK)
        fail_msg("%s", err->text);
    return scenario;
}

typedef struct outcome {
    tdm_plan plan;
    tdm_trace trace;
    tdm_figures figures;
} outcome;

static tdm_code run(tdm_arena *arena, const char *engine, const tdm_plan *plan,
                    const tdm_machine *machine, tdm_trace *trace, tdm_error *err)
{
    return strcmp(engine, "sim") == 0 ? tdm_sim_run(arena, plan, machine, NULL, trace, err)
                                      : tdm_analytic_run(arena, plan, machine, trace, err);
}

static outcome predict(tdm_arena *arena, const tdm_scenario *scenario, const char *engine,
                       uint32_t copies)
{
    outcome o;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_machine machine = {.topology = &scenario->topology, .device = &scenario->device};
    tdm_verify_report report;
    tdm_code code = tdm_lower_folded(arena, scenario, scenario->schedule,
                                     scenario->num_microbatches, copies, &o.plan, err);
    if (code == TDM_OK)
        code = tdm_verify_plan(&o.plan, &report, err);
    tdm_layout *layouts = NULL;
    if (code == TDM_OK) {
        layouts = TDM_ALLOC(arena, tdm_layout, o.plan.mesh.world);
        code = tdm_layout_build_all(arena, &o.plan, false, layouts, err);
    }
    if (code == TDM_OK)
        code = run(arena, engine, &o.plan, &machine, &o.trace, err);
    if (code == TDM_OK)
        code = tdm_figures_compute(arena, &o.plan, &o.trace, layouts, &machine, &o.figures, err);
    if (code != TDM_OK)
        fail_msg("%s", err->text);
    return o;
}

static void same_time(double a, double b, double step_s)
{
    if (fabs(a - b) > TOLERANCE * step_s)
        fail_msg("%.17g s folded, %.17g s with all ranks", a, b);
}

/* Every rank of the whole does what the rank does that stands for it. */
static void same_spans(const outcome *folded, const outcome *whole)
{
    const tdm_mesh *mesh = &folded->plan.mesh;
    double step_s = whole->figures.step_time_s;
    for (uint32_t rank = 0; rank < mesh->world; rank++)
        for (uint32_t copy = 0; copy < mesh->copies; copy++) {
            const tdm_rank_trace *a = &folded->trace.ranks[rank];
            uint32_t other = tdm_mesh_whole_rank(mesh, rank) + copy * mesh->per_stage;
            const tdm_rank_trace *b = &whole->trace.ranks[other];
            assert_int_equal(a->n_ops, b->n_ops);
            for (uint32_t i = 0; i < a->n_ops; i++) {
                same_time(a->spans[i].start_s, b->spans[i].start_s, step_s);
                same_time(a->spans[i].end_s, b->spans[i].end_s, step_s);
            }
        }
}

static void same_figures(const outcome *folded, const outcome *whole)
{
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++) {
        double a = tdm_figures_get(&folded->figures, info->name);
        double b = tdm_figures_get(&whole->figures, info->name);
        if (fabs(a - b) > TOLERANCE * (1 + fabs(b)))
            fail_msg("%s: %.17g folded, %.17g with all ranks", info->name, a, b);
    }
    const tdm_figures *f = &folded->figures, *w = &whole->figures;
    assert_int_equal(f->ranks[f->peak_memory_rank].rank, w->ranks[w->peak_memory_rank].rank);
    assert_int_equal(f->n_comms, w->n_comms);
    for (uint32_t i = 0; i < f->n_comms; i++)
        assert_int_equal(f->comms[i].n_calls * folded->plan.mesh.copies, w->comms[i].n_calls);
}

static void equals_all_ranks(void **state)
{
    (void)state;
    static const char *const engines[] = {"analytic", "sim"};
    for (size_t c = 0; c < TDM_COUNT(cases); c++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = load(&arena, cases[c].scenario, cases[c].sets);
        tdm_fold fold = tdm_fold_find(&arena, &scenario);
        if (fold.copies != cases[c].copies || !fold.exact)
            fail_msg("case %zu: %u copies instead of %u: %s", c, fold.copies, cases[c].copies,
                     fold.why);
        for (size_t e = 0; e < TDM_COUNT(engines); e++) {
            if (strcmp(engines[e], "sim") == 0 && tdm_sim_missing())
                continue;
            outcome folded = predict(&arena, &scenario, engines[e], fold.copies);
            outcome whole = predict(&arena, &scenario, engines[e], 1);
            assert_int_equal(folded.plan.mesh.world * fold.copies, whole.plan.mesh.world);
            same_spans(&folded, &whole);
            same_figures(&folded, &whole);
        }
        tdm_arena_free(&arena);
    }
}

static char *text_of(tdm_arena *arena, const tdm_plan *plan)
{
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    assert_int_equal(tdm_plan_write(plan, file, err), TDM_OK);
    assert_int_equal(fclose(file), 0);
    char *kept = tdm_arena_strndup(arena, text, n);
    free(text);
    return kept;
}

static void reads_back(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_scenario scenario = load(&arena, cases[0].scenario, cases[0].sets);
    tdm_plan plan, read;
    assert_int_equal(tdm_lower_folded(&arena, &scenario, scenario.schedule,
                                      scenario.num_microbatches, 4, &plan, err),
                     TDM_OK);
    const char *text = text_of(&arena, &plan);
    assert_non_null(strstr(text, " copies=4"));
    if (tdm_plan_parse(&arena, "plan", text, strlen(text), &read, err) != TDM_OK)
        fail_msg("%s", err->text);
    assert_int_equal(read.mesh.copies, 4);
    assert_string_equal(text_of(&arena, &read), text);
    tdm_arena_free(&arena);
}

/* What is not symmetric is not folded, with the reason; skewed routing only as an approximation. */
static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *scenario, *sets[MAX_SETS], *why;
    } refused[] = {
        {"llama-16gpu-tp4-pp2-dp2", {"dp=1", "tp=8"}, "there is one replica"},
        {"llama-16gpu-tp4-pp2-dp2",
         {"topology=pcie-16-a100-40g"},
         "GPUs of topology pcie-16-a100-40g share inner links"},
        {"llama-16gpu-tp4-pp2-dp2",
         {"nodes=3", "dp=3"},
         "no part of the 12 ranks of a stage is placed on topology dgx-2x8-h100 as the next"},
    };
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(refused); i++) {
        tdm_scenario scenario = load(&arena, refused[i].scenario, refused[i].sets);
        tdm_fold fold = tdm_fold_find(&arena, &scenario);
        assert_int_equal(fold.copies, 1);
        assert_string_equal(fold.why, refused[i].why);
    }
    static const char *const skewed[MAX_SETS] = {SMALL,  "etp=1", "nodes=8", "dp=8",
                                                 "tp=4", "pp=2",  "ep=4",    "routing.model=zipf"};
    tdm_scenario scenario = load(&arena, "small-moe-16gpu", skewed);
    tdm_fold fold = tdm_fold_find(&arena, &scenario);
    assert_int_equal(fold.copies, 4);
    assert_false(fold.exact);
    assert_string_equal(fold.why, "with zipf routing each replica's tokens choose other experts");
    tdm_arena_free(&arena);
}

/* A slower port on one GPU takes the symmetry away. */
static void one_slow_link(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = load(&arena, cases[0].scenario, cases[0].sets);
    tdm_topology *topology = &scenario.topology;
    tdm_link *links = TDM_ALLOC(&arena, tdm_link, topology->n_links);
    memcpy(links, topology->links, topology->n_links * sizeof *links);
    topology->links = links;
    assert_int_equal(tdm_fold_find(&arena, &scenario).copies, 4);
    for (uint32_t l = 0; l < topology->n_links; l++)
        if (topology->graph->edges[l].from == topology->graph->gpus[17])
            links[l].bytes_per_s /= 2;
    assert_int_equal(tdm_fold_find(&arena, &scenario).copies, 1);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_all_ranks),
        cmocka_unit_test(reads_back),
        cmocka_unit_test(refusals),
        cmocka_unit_test(one_slow_link),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
