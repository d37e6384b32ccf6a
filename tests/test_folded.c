/* The folded evaluation against the analytic engine, over random layouts with balanced routing. */
#include "core/folded.h"
#include "tests/support.h"
#include "tests/support_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { N_SEEDS = 600, LEAST_COMPARED = 250, LEAST_SPLIT = 10 };

/* What the comment of folded.h promises; shares absolute. */
#define STEP_TOLERANCE   0.01
#define BUBBLE_TOLERANCE 0.01
/* Where the host holds up stages with unequal layers. */
#define UNEVEN_TOLERANCE 0.03
#define MEMORY_TOLERANCE 0.02

static tdm_figures analytic(tdm_arena *arena, const tdm_scenario *sc, const char *schedule,
                            uint32_t num_microbatches)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan *plan = TDM_ALLOC(arena, tdm_plan, 1);
    tdm_machine machine = {.topology = &sc->topology, .device = &sc->device};
    tdm_trace trace;
    tdm_figures figures;
    if (tdm_lower(arena, sc, schedule, num_microbatches, plan, err) != TDM_OK)
        fail_msg("%s", err->text);
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, plan->mesh.world);
    bool memory = !sc->pass_times.given;
    if (tdm_analytic_run(arena, plan, &machine, &trace, err) != TDM_OK ||
        (memory && tdm_layout_build_all(arena, plan, false, layouts, err) != TDM_OK) ||
        tdm_figures_compute(arena, plan, &trace, memory ? layouts : NULL, &machine, &figures,
                            err) != TDM_OK)
        fail_msg("%s", err->text);
    return figures;
}

static tdm_figures folded(tdm_arena *arena, const tdm_scenario *sc)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_folded *f = tdm_folded_new(sc);
    tdm_fold_choice choice = tdm_fold_choice_of(sc);
    tdm_figures figures;
    if (tdm_folded_evaluate(f, &choice, &figures, err) != TDM_OK)
        fail_msg("%s", err->text);
    tdm_folded_free(f);
    figures.comms = NULL;
    figures.n_comms = 0;
    return figures;
}

/* Every expert gets the same number of tokens, and all replicas have equal links. */
static bool is_uniform(const tdm_scenario *sc)
{
    const tdm_parallel *p = &sc->parallel;
    if (sc->pass_times.given)
        return true;
    uint64_t pairs =
        (uint64_t)sc->micro_batch_size * sc->seq_length / p->tp * sc->model.moe_router_topk;
    bool even = sc->model.num_experts == 0 || p->ep == 1 || pairs % sc->model.num_experts == 0;
    return even && (p->dp == 1 || tdm_topology_is_single_switch(&sc->topology));
}

static void compare(tdm_arena *arena, const random_scenario *drawn)
{
    const tdm_scenario *sc = &drawn->scenario;
    tdm_figures want = analytic(arena, sc, sc->schedule, sc->num_microbatches);
    if (want.step_time_s <= 0)
        return;
    tdm_figures got = folded(arena, sc);
    if (fabs(got.step_time_s / want.step_time_s - 1) > STEP_TOLERANCE)
        fail_msg("step %g s, not %g s: %s", got.step_time_s, want.step_time_s, drawn->text);
    double bubble = sc->stage_layers ? UNEVEN_TOLERANCE : BUBBLE_TOLERANCE;
    if (fabs(got.bubble_fraction - want.bubble_fraction) > bubble)
        fail_msg("bubble %g, not %g: %s", got.bubble_fraction, want.bubble_fraction, drawn->text);
    if (fabs(got.gpu_utilization - want.gpu_utilization) > BUBBLE_TOLERANCE)
        fail_msg("utilization %g, not %g: %s", got.gpu_utilization, want.gpu_utilization,
                 drawn->text);
    if (sc->pass_times.given)
        return;
    double bytes = (double)got.peak_memory_bytes, least = (double)want.peak_memory_bytes;
    if (fabs(bytes / least - 1) > MEMORY_TOLERANCE)
        fail_msg("memory %g, not %g: %s", bytes, least, drawn->text);
    if (want.mfu > 0 && fabs(got.mfu / want.mfu - 1) > STEP_TOLERANCE)
        fail_msg("mfu %g, not %g: %s", got.mfu, want.mfu, drawn->text);
}

static void random_layouts(void **state)
{
    (void)state;
    uint32_t n_compared = 0, n_split = 0;
    for (uint64_t seed = 1; seed <= N_SEEDS; seed++) {
        tdm_arena arena = {0};
        random_scenario *drawn = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, drawn);
        drawn->scenario.routing = (tdm_routing){.model = TDM_ROUTING_BALANCED};
        tdm_fold_choice choice = tdm_fold_choice_of(&drawn->scenario);
        if (is_uniform(&drawn->scenario) && !tdm_fold_refuse(&drawn->scenario, &choice)) {
            compare(&arena, drawn);
            n_compared++;
            n_split += drawn->scenario.model.num_experts > 0 && drawn->scenario.parallel.etp > 1;
        }
        tdm_arena_free(&arena);
    }
    print_message("%u layouts compared, experts split in %u\n", n_compared, n_split);
    assert_true(n_compared >= LEAST_COMPARED && n_split >= LEAST_SPLIT);
}

static tdm_scenario load(tdm_arena *arena, const char *name, const char *const *sets, size_t n)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_scenario sc;
    const char *path = tdm_arena_printf(arena, "%s/scenarios/%s.yaml", TANDEM_SOURCE_ROOT, name);
    if (tdm_scenario_load(arena, TANDEM_SOURCE_ROOT, path, sets, n, &sc, err) != TDM_OK)
        fail_msg("%s", err->text);
    return sc;
}

/* Every scalar figure of the reference, also with its uniformly random routing. */
static void reference(void **state)
{
    (void)state;
    static const char *const names[] = {"moe-30b-16gpu", "moe-30b-16gpu-sp"};
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        tdm_arena arena = {0};
        tdm_scenario sc = load(&arena, names[i], NULL, 0);
        tdm_figures want = analytic(&arena, &sc, sc.schedule, sc.num_microbatches);
        tdm_figures forward = analytic(&arena, &sc, "forward-only", 1);
        want.forward_latency_s = forward.step_time_s;
        tdm_figures got = folded(&arena, &sc);
        for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++) {
            double a = tdm_figures_get(&want, info->name), b = tdm_figures_get(&got, info->name);
            bool call = strstr(info->name, "_all_") || strncmp(info->name, "hot_", 4) == 0;
            if (!call && fabs(a - b) > 0.01 * fabs(a) + 0.01 * (strcmp(info->unit, "") == 0))
                fail_msg("%s: %s %g, not %g", names[i], info->name, b, a);
        }
        tdm_arena_free(&arena);
    }
}

/* What is not refused can be lowered. */
static void refusals(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec spec = {
        .tp = 2, .ep = 4, .dp = 2, .pp = 3, .experts = 12, .topk = 2, .layers = 12};
    tdm_scenario sc = support_scenario(&arena, &spec);
    uint32_t n_accepted = 0, n_refused = 0;
    for (uint32_t code = 0; code < 4 * 4 * 4 * 4 * 3 * 2; code++) {
        tdm_fold_choice c = tdm_fold_choice_of(&sc);
        c.parallel.tp = 1 + code % 4;
        c.parallel.pp = 1 + code / 4 % 4;
        c.parallel.ep = 1 + code / 16 % 4;
        c.parallel.vpp = 1 + code / 64 % 4;
        c.schedule = tdm_schedules[code / 256 % 3];
        c.parallel.sequence_parallel = code / 768 == 1;
        c.parallel.dp =
            12 % (c.parallel.tp * c.parallel.pp) == 0 ? 12 / (c.parallel.tp * c.parallel.pp) : 5;
        if (tdm_fold_refuse(&sc, &c)) {
            n_refused++;
            continue;
        }
        tdm_scenario changed = tdm_fold_choice_apply(&sc, &c);
        (void)support_plan(&arena, &changed);
        n_accepted++;
    }
    assert_true(n_accepted > 20 && n_refused > 20);
    tdm_arena_free(&arena);
}

/* What was evaluated before does not show. */
static void caches(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = load(&arena, "small-moe-16gpu", NULL, 0);
    tdm_folded *f = tdm_folded_new(&sc);
    tdm_fold_choice first = tdm_fold_choice_of(&sc), other = first;
    tdm_figures before, between, after;
    other.parallel.tp = 4;
    other.parallel.dp = 2;
    other.recompute = TDM_RECOMPUTE_FULL;
    assert_null(tdm_fold_refuse(&sc, &other));
    assert_int_equal(tdm_folded_evaluate(f, &first, &before, NULL), TDM_OK);
    assert_int_equal(tdm_folded_evaluate(f, &other, &between, NULL), TDM_OK);
    assert_int_equal(tdm_folded_evaluate(f, &first, &after, NULL), TDM_OK);
    assert_true(before.step_time_s != between.step_time_s);
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        if (!strstr(info->name, "_all_"))
            assert_true(tdm_figures_get(&before, info->name) ==
                        tdm_figures_get(&after, info->name));
    tdm_folded_free(f);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layouts),
        cmocka_unit_test(reference),
        cmocka_unit_test(refusals),
        cmocka_unit_test(caches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
