/* test_random.c: random scenarios through the whole program: lowered, verified, laid out, written
 * and read back, ridden by both engines, measured. Every rule of support_rules.h holds of each.
 *
 *     test_random [N [SEED]]    N scenarios, beginning with number SEED */
#include "core/plan_text.h"
#include "core/verify.h"
#include "sim/sim.h"
#include "tests/support.h"
#include "tests/support_random.h"
#include "tests/support_rules.h"
#include "tests/support_text.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Builds with assertions are slow ones. */
#ifdef NDEBUG
enum { N_SCENARIOS = 250 };
#else
enum { N_SCENARIOS = 40 };
#endif

static const double TOLERANCE = 1e-9;
/* SimGrid works to 1e-12 s, which counts where a whole step takes microseconds. */
static const double SLACK_S = 5e-12;

typedef struct campaign {
    uint64_t first, n;
    char platform_path[64];
    bool has_sim;
    uint64_t n_ops, n_disjoint, n_anomalies, n_split, n_padded;
} campaign;

typedef struct ride {
    campaign *campaign;
    tdm_arena *arena;
    const char *what;
    const tdm_scenario *scenario;
    tdm_plan plan;
    tdm_machine machine;
    tdm_layout *layouts;
    tdm_error *err;
} ride;

static void lower(ride *r)
{
    const tdm_scenario *sc = r->scenario;
    tdm_code code = tdm_lower(r->arena, sc, sc->schedule, sc->num_microbatches, &r->plan, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    tdm_verify_report report;
    code = tdm_verify_plan(&r->plan, &report, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    uint64_t n_ops = 0;
    for (uint32_t rank = 0; rank < r->plan.mesh.world; rank++)
        n_ops += tdm_plan_n_ops(&r->plan, rank);
    RULE(r->what, report.n_ops == n_ops, "%" PRIu64 " ops\n", report.n_ops);
    r->campaign->n_ops += n_ops;
    rules_plan(r->what, &r->plan, &sc->topology);
}

static void lay_out(ride *r)
{
    r->layouts = TDM_ALLOC(r->arena, tdm_layout, r->plan.mesh.world);
    tdm_code code = tdm_layout_build_all(r->arena, &r->plan, true, r->layouts, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    for (uint32_t rank = 0; rank < r->plan.mesh.world; rank++) {
        code = tdm_verify_layout(&r->plan, &r->layouts[rank], r->err);
        RULE(r->what, code == TDM_OK, "%s", r->err->text);
        rules_layout(r->what, &r->plan, &r->layouts[rank]);
    }
}

static void write_and_read(const ride *r)
{
    support_text first = support_write(&r->plan);
    tdm_plan plan = {0};
    tdm_code code = support_parse(r->arena, first.bytes, first.length, &plan, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    support_text second = support_write(&plan);
    RULE(r->what,
         first.length == second.length && memcmp(first.bytes, second.bytes, first.length) == 0,
         "text differs\n");
    RULE(r->what, tdm_plan_hash(&plan) == tdm_plan_hash(&r->plan), "hash differs\n");
    tdm_trace trace = {0};
    code = tdm_analytic_run(r->arena, &plan, &r->machine, &trace, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    rules_trace(r->what, &r->plan, &r->machine, &trace, true, 0);
    free(first.bytes);
    free(second.bytes);
}

static void measure(const ride *r, const tdm_trace *trace)
{
    tdm_figures figures;
    tdm_code code =
        tdm_figures_compute(r->arena, &r->plan, trace, r->layouts, &r->machine, &figures, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    rules_figures(r->what, &r->plan, trace, &figures);
    for (uint32_t rank = 0; rank < figures.n_ranks; rank++)
        RULE(r->what,
             figures.ranks[rank].live_peak_bytes == r->layouts[rank].live_peak_bytes &&
                 figures.ranks[rank].peak_memory_bytes >= r->layouts[rank].arena_bytes,
             "rank %u: memory\n", rank);
}

/* Contention can only delay: order is fixed by streams and communicators, so ends are a monotone
 * function of the durations. That holds where each op's flows cross no link together; where they
 * do, other traffic may slow down the right one of them, and the op as a whole may gain. */
static void compare(const ride *r, const tdm_trace *analytic, const tdm_trace *sim, bool disjoint)
{
    bool earlier = false;
    for (uint32_t rank = 0; rank < analytic->n_ranks; rank++)
        for (uint32_t i = 0; i < analytic->ranks[rank].n_ops; i++) {
            tdm_span a = analytic->ranks[rank].spans[i], s = sim->ranks[rank].spans[i];
            bool later = s.start_s >= a.start_s * (1 - TOLERANCE) - SLACK_S &&
                         s.end_s >= a.end_s * (1 - TOLERANCE) - SLACK_S;
            RULE(r->what, later || !disjoint,
                 "rank %u op %u: sim %.17g to %.17g, analytic %.17g to %.17g\n", rank, i, s.start_s,
                 s.end_s, a.start_s, a.end_s);
            earlier |= !later;
        }
    r->campaign->n_disjoint += disjoint;
    r->campaign->n_anomalies += earlier;
}

static void run_engines(const ride *r)
{
    tdm_trace analytic = {0}, sim = {0};
    tdm_code code = tdm_analytic_run(r->arena, &r->plan, &r->machine, &analytic, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    bool disjoint = rules_trace(r->what, &r->plan, &r->machine, &analytic, true, 0);
    measure(r, &analytic);
    if (!r->campaign->has_sim)
        return;
    code = tdm_sim_run(r->arena, &r->plan, &r->machine, r->campaign->platform_path, &sim, r->err);
    RULE(r->what, code == TDM_OK, "%s", r->err->text);
    rules_trace(r->what, &r->plan, &r->machine, &sim, false, TOLERANCE);
    measure(r, &sim);
    compare(r, &analytic, &sim, disjoint);
}

static void test_random_scenarios(void **state)
{
    campaign *c = *state;
    for (uint64_t seed = c->first; seed < c->first + c->n; seed++) {
        tdm_arena arena = {0};
        random_scenario *drawn = TDM_ALLOC(&arena, random_scenario, 1);
        random_scenario_draw(&arena, TANDEM_SOURCE_ROOT, seed, drawn);
        ride r = {.campaign = c,
                  .arena = &arena,
                  .what = drawn->text,
                  .scenario = &drawn->scenario,
                  .machine = tdm_machine_of(&arena, &drawn->scenario, (uint32_t)(seed % 3)),
                  .err = TDM_ALLOC(&arena, tdm_error, 1)};
        bool experts = !r.scenario->pass_times.given && r.scenario->model.num_experts > 0;
        c->n_split += experts && r.scenario->parallel.etp > 1;
        c->n_padded += experts && r.scenario->routing.pad_to_capacity;
        lower(&r);
        lay_out(&r);
        write_and_read(&r);
        run_engines(&r);
        tdm_arena_free(&arena);
    }
    print_message("%" PRIu64 " scenarios, %" PRIu64 " ops; on disjoint links %" PRIu64
                  ", faster under contention %" PRIu64 "; experts split in %" PRIu64
                  ", padded in %" PRIu64 "\n",
                  c->n, c->n_ops, c->n_disjoint, c->n_anomalies, c->n_split, c->n_padded);
}

int main(int argc, char **argv)
{
    campaign c = {.n = argc > 1 ? strtoull(argv[1], NULL, 10) : N_SCENARIOS,
                  .first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1,
                  .has_sim = !tdm_sim_missing()};
    snprintf(c.platform_path, sizeof c.platform_path, "/tmp/tandem-test-random-%ld.xml",
             (long)getpid());
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_random_scenarios, &c)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    remove(c.platform_path);
    return failed;
}
