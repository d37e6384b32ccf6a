/* test_paced.c: sixteen ranks on the paced device, with the times that the sim engine plans on
 * links that operations share: what threads make of them, by the clock, is what sim predicts. Every
 * schedule, with balanced and with skewed routing. */
#include "backend/backend.h"
#include "core/figures.h"
#include "core/schedule.h"
#include "sim/sim.h"
#include "tests/support.h"
#include "tests/support_planes.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Of the step. */
static const double TOLERANCE = 0.02;
/* Contention makes steps longer than the analytic engine says by more than this, so that its times
 * would be found. */
static const double LEAST_CONTENTION = 0.05;
/* So many ops a second are within half of the tolerance on two cores that do nothing else. */
static const double OPS_PER_S = 3000;
/* A run in which an op ended this much late (share of the step) says nothing when it is off: other
 * work took its cores. */
static const double DISTURBED = 0.005;
enum { N_STAGES = 4, N_MICROBATCHES = 4, ATTEMPTS = 3 };

typedef struct tally {
    uint32_t n_cases, n_disturbed; /* those that all attempts left undecided */
} tally;

/* An order of passes as a file could give it: that of zb-h1. */
static const tdm_pass_table *make_table(tdm_arena *arena)
{
    enum { MOST_PASSES = 3 * N_MICROBATCHES };
    const tdm_schedule_shape shape = {
        .n_stages = N_STAGES, .n_chunks = 1, .n_microbatches = N_MICROBATCHES};
    const tdm_pass **passes = TDM_ALLOC(arena, const tdm_pass *, N_STAGES);
    uint32_t *n_passes = TDM_ALLOC(arena, uint32_t, N_STAGES);
    tdm_pass_table *table = TDM_ALLOC(arena, tdm_pass_table, 1);
    for (uint32_t s = 0; s < N_STAGES; s++) {
        tdm_pass *order = TDM_ALLOC(arena, tdm_pass, MOST_PASSES);
        n_passes[s] =
            tdm_schedule_find("zb-h1")->order(arena, &shape, s, order, (uint32_t)MOST_PASSES);
        assert_int_equal(n_passes[s], MOST_PASSES);
        passes[s] = order;
    }
    *table = (tdm_pass_table){.n_stages = N_STAGES,
                              .n_chunks = 1,
                              .n_microbatches = N_MICROBATCHES,
                              .split = true,
                              .passes = passes,
                              .n_passes = n_passes};
    return table;
}

/* Four stages on four switches of four GPUs each: transfers between stages share the uplinks. False
 * when the schedule takes no such shape. */
static bool make_scenario(tdm_arena *arena, const tdm_schedule *schedule, tdm_routing_model routing,
                          tdm_scenario *scenario)
{
    tdm_scenario sc = support_scenario(arena, &(support_spec){.tp = 2,
                                                              .dp = 2,
                                                              .ep = 4,
                                                              .pp = N_STAGES,
                                                              .experts = 16,
                                                              .topk = 2,
                                                              .layers = N_STAGES,
                                                              .microbatches = N_MICROBATCHES,
                                                              .micro_batch = 64,
                                                              .seq = 128,
                                                              .hidden = 1024,
                                                              .schedule = schedule->name});
    sc.topology = support_planes_pcie(arena);
    sc.routing.model = routing;
    sc.routing.hot_share = 0.6;
    if (schedule->needs_table)
        sc.pass_table = make_table(arena);
    else if (!support_suit(&sc))
        return false;
    *scenario = sc;
    return true;
}

static tdm_figures figures_of(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                              const tdm_trace *trace)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_figures figures;
    if (tdm_figures_compute(arena, plan, trace, NULL, machine, &figures, err) != TDM_OK)
        fail_msg("%s", err->text);
    return figures;
}

/* Waiting for others, in collectives and between passes, as a share of the planned step. */
static double waiting(const tdm_figures *f, double step_s)
{
    return (f->waterfall.peer_wait_s + f->waterfall.bubble_s) / step_s;
}

/* What a case is about, and how far the last run was off. */
typedef struct paced_case {
    tdm_plan plan;
    tdm_machine machine;
    tdm_trace planned;
    tdm_figures expected;
    const char *name;
    double step_error, bubble_error, waiting_error, late;
} paced_case;

static double worst(const paced_case *c)
{
    return fmax(fabs(c->step_error), fmax(fabs(c->bubble_error), fabs(c->waiting_error)));
}

static void plan_case(tdm_arena *arena, const tdm_scenario *sc, paced_case *c)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_trace alone;
    c->plan = support_plan(arena, sc);
    c->machine = support_machine(sc);
    if (tdm_sim_run(arena, &c->plan, &c->machine, NULL, &c->planned, err) != TDM_OK ||
        tdm_analytic_run(arena, &c->plan, &c->machine, &alone, err) != TDM_OK)
        fail_msg("%s: %s", c->name, err->text);
    c->expected = figures_of(arena, &c->plan, &c->machine, &c->planned);
    tdm_figures idle = figures_of(arena, &c->plan, &c->machine, &alone);
    assert_true(c->expected.step_time_s > (1 + LEAST_CONTENTION) * idle.step_time_s);
}

static void run_once(tdm_arena *arena, paced_case *c, double real_s)
{
    double step_s = c->expected.step_time_s;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_trace trace;
    tdm_run_report report;
    const tdm_run_options options = {
        .device = "paced", .transport = "threads", .n_steps = 1, .pace = real_s / step_s};
    if (tdm_backend_run(arena, &c->plan, &c->planned, &options, &trace, &report, err) != TDM_OK)
        fail_msg("%s: %s", c->name, err->text);
    tdm_figures is = figures_of(arena, &c->plan, &c->machine, &trace);
    c->step_error = is.step_time_s / step_s - 1;
    c->bubble_error = is.bubble_fraction - c->expected.bubble_fraction;
    c->waiting_error = waiting(&is, step_s) - waiting(&c->expected, step_s);
    c->late = report.late_s / step_s;
    print_message("%-34s %.1f s: step %+.2f %%, bubble %+.2f, waiting %+.2f points, late %.2f %%\n",
                  c->name, real_s, 100 * c->step_error, 100 * c->bubble_error,
                  100 * c->waiting_error, 100 * c->late);
}

/* A run that is off is believed when nothing disturbed it, else tried again at half the pace, at
 * which the same delay is half as much of the step. */
static void check_case(tdm_arena *arena, paced_case *c, tally *t)
{
    uint64_t n_ops = 0;
    for (uint32_t r = 0; r < c->planned.n_ranks; r++)
        n_ops += c->planned.ranks[r].n_ops;
    double real_s = fmax(0.5, (double)n_ops / OPS_PER_S);
    t->n_cases++;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++, real_s *= 2) {
        run_once(arena, c, real_s);
        if (worst(c) <= TOLERANCE)
            return;
        if (c->late <= DISTURBED)
            fail_msg("%s: %.1f %% of the step off, though no op was late", c->name, 100 * worst(c));
    }
    t->n_disturbed++;
}

static void check_schedule(const tdm_schedule *schedule, tdm_routing_model routing, tally *t)
{
    tdm_arena arena = {0};
    tdm_scenario sc;
    paced_case *c = TDM_ALLOC(&arena, paced_case, 1);
    c->name = tdm_arena_printf(&arena, "%s, %s routing", schedule->name,
                               routing == TDM_ROUTING_HOT ? "skewed" : "balanced");
    if (make_scenario(&arena, schedule, routing, &sc)) {
        plan_case(&arena, &sc, c);
        check_case(&arena, c, t);
    } else {
        print_message("%s: does not take %d stages\n", c->name, N_STAGES);
    }
    tdm_arena_free(&arena);
}

static void test_sixteen_ranks(void **state)
{
    if (tdm_sim_missing())
        skip();
    for (const tdm_schedule *const *s = tdm_schedules; *s; s++) {
        check_schedule(*s, TDM_ROUTING_BALANCED, *state);
        check_schedule(*s, TDM_ROUTING_HOT, *state);
    }
}

/* Threads that wake up when they should, where that is allowed. */
static void ask_for_time(void)
{
    const struct sched_param least = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    if (sched_setscheduler(0, SCHED_RR, &least) != 0)
        print_message("no real-time scheduling: other work may disturb\n");
}

int main(void)
{
    tally t = {0};
    ask_for_time();
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_sixteen_ranks, &t)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed)
        return failed;
    if (t.n_cases > 0 && 4 * t.n_disturbed <= t.n_cases)
        return 0;
    print_message("skipped: no sim engine, or other work disturbed %u of %u cases\n", t.n_disturbed,
                  t.n_cases);
    return 77;
}
