/* test_executor.c: the paced device: threads, streams, waits and transport of a real run, each op
 * as long as planned. Its figures are those of the engine that planned. */
#include "backend/backend.h"
#include "backend/executor.h"
#include "core/figures.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Of the step. Threads wake up late on a loaded machine, so a run may be repeated at half the pace;
 * one that waits for the wrong op is off each time. */
static const double TOLERANCE = 0.02;
enum { ATTEMPTS = 6 };

static tdm_figures figures_of(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                              const tdm_trace *trace)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_figures figures;
    if (tdm_figures_compute(arena, plan, trace, NULL, machine, &figures, err) != TDM_OK)
        fail_msg("%s", err->text);
    return figures;
}

static double worst_difference(const tdm_figures *is, const tdm_figures *planned)
{
    double step_s = planned->step_time_s;
    const double differences[] = {
        (is->step_time_s - step_s) / step_s,
        is->bubble_fraction - planned->bubble_fraction,
        (is->waterfall.peer_wait_s - planned->waterfall.peer_wait_s) / step_s,
        (is->waterfall.bubble_s - planned->waterfall.bubble_s) / step_s,
        (is->waterfall.compute_s - planned->waterfall.compute_s) / step_s,
        (is->waterfall.exposed_transfer_s - planned->waterfall.exposed_transfer_s) / step_s};
    double worst = 0;
    for (size_t i = 0; i < TDM_COUNT(differences); i++)
        worst = fmax(worst, fabs(differences[i]));
    return worst;
}

static void run_paced(tdm_arena *arena, const tdm_scenario *sc, double real_step_s)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan plan = support_plan(arena, sc);
    tdm_machine machine = support_machine(sc);
    tdm_trace planned, trace;
    assert_int_equal(tdm_analytic_run(arena, &plan, &machine, &planned, err), TDM_OK);
    tdm_figures expected = figures_of(arena, &plan, &machine, &planned);
    tdm_run_options options = {.device = "paced",
                               .transport = "threads",
                               .n_steps = 1,
                               .pace = real_step_s / expected.step_time_s};
    double worst = 1;
    for (int attempt = 0; attempt < ATTEMPTS && worst > TOLERANCE; attempt++, options.pace *= 2) {
        tdm_run_report report;
        if (tdm_backend_run(arena, &plan, &planned, &options, &trace, &report, err) != TDM_OK)
            fail_msg("%s", err->text);
        tdm_figures figures = figures_of(arena, &plan, &machine, &trace);
        worst = worst_difference(&figures, &expected);
    }
    if (worst > TOLERANCE)
        fail_msg("%s with tp %u ep %u dp %u pp %u: a figure is %.1f %% of the step off",
                 sc->schedule, plan.mesh.tp, plan.mesh.ep, plan.mesh.dp, plan.mesh.pp, 100 * worst);
}

/* Sixteen stages: their bubbles are those of the schedule, on however few cores. All schedules, and
 * ranks that wait for each other, are in test_paced. */
static void test_bubbles_of_sixteen_ranks(void **state)
{
    (void)state;
    static const char *const schedules[] = {"1f1b", "zb-v"};
    for (size_t i = 0; i < TDM_COUNT(schedules); i++) {
        tdm_arena arena = {0};
        tdm_scenario sc =
            support_pass_times(&arena, 16, 16, schedules[i], 10e-3, 10e-3, 8e-3, 1e-3);
        assert_true(support_suit(&sc));
        run_paced(&arena, &sc, 1.0);
        tdm_arena_free(&arena);
    }
}

/* ---- faults ---- */

/* A device that fills what its ops write, and does one thing wrong. */
typedef struct faulty {
    enum { NO_FAULT, FAILS, PAST_THE_END, AFTER_DEATH, AFTER_ALL, BEFORE_THE_ARENA } fault;
    unsigned char *base, *dead; /* of rank 1 */
} faulty;

static tdm_code faulty_begin(void *self, uint32_t rank, void *statics, tdm_error *err)
{
    (void)err;
    faulty *f = self;
    if (rank == 1)
        f->base = statics;
    return TDM_OK;
}

static tdm_code faulty_compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    faulty *f = self;
    const tdm_op *what = op->instance->op;
    bool here = op->rank == 1;
    for (uint32_t i = 0; i < what->n_refs; i++)
        if (what->refs[i].write)
            memset(op->tensors[i].data, 0, op->tensors[i].bytes);
    if (here && f->fault == FAILS && strcmp(what->name, "fc1.dgrad") == 0)
        return tdm_error_add(err, TDM_E_DEVICE, "a kernel failed");
    if (here && f->fault == PAST_THE_END && strcmp(what->name, "add1") == 0)
        ((unsigned char *)op->tensors[2].data)[op->tensors[2].bytes] = 1;
    if (here && f->fault == BEFORE_THE_ARENA && strcmp(what->name, "add1") == 0)
        f->base[-1] = 1;
    bool last = strcmp(what->name, "adam") == 0;
    if (here && f->dead && (last || f->fault == AFTER_DEATH))
        *f->dead = 1;
    if (here && f->fault >= AFTER_DEATH && f->fault <= AFTER_ALL &&
        strcmp(what->name, "lookup.wgrad") == 0)
        f->dead = op->tensors[0].data;
    return TDM_OK;
}

static void faulty_moved(void *self, tdm_exec_op *op, double latest_s)
{
    (void)self;
    op->done_s = latest_s;
}

/* A run of two replicas on the device, whose tensors are all on one stream; returns its code, with
 * the message in err. */
static tdm_code run_faulty(faulty *f, tdm_error *err)
{
    tdm_arena arena = {0};
    tdm_scenario sc = support_scenario(
        &arena, &(support_spec){.dp = 2, .layers = 2, .hidden = 40, .seq = 6, .micro_batch = 1});
    sc.training.dtype = TDM_DTYPE_FP32;
    tdm_plan plan = support_plan(&arena, &sc);
    const tdm_program *programs = tdm_programs_of(&arena, &plan);
    tdm_layout layouts[2];
    tdm_trace trace;
    tdm_exec_transport transport;
    tdm_exec_count counts[2];
    tdm_exec_device device = {.name = "faulty",
                              .self = f,
                              .has_memory = true,
                              .begin = faulty_begin,
                              .compute = faulty_compute,
                              .moved = faulty_moved};
    assert_int_equal(tdm_layout_build_all(&arena, &plan, true, layouts, err), TDM_OK);
    assert_int_equal(tdm_threads_open(&arena, &plan, programs, &transport, err), TDM_OK);
    tdm_exec_job job = {.plan = &plan,
                        .programs = programs,
                        .layouts = layouts,
                        .device = &device,
                        .transport = &transport,
                        .placement = TDM_EXEC_CHECKED,
                        .n_steps = 1,
                        .pace = 1};
    tdm_code code = tdm_execute(&arena, &job, &trace, counts, err);
    tdm_threads_close(&transport);
    tdm_arena_free(&arena);
    return code;
}

/* A failure on one rank ends the others, wherever they wait; memory faults are found. */
static void test_faults(void **state)
{
    (void)state;
    static const struct {
        int fault;
        tdm_code code;
        const char *says;
    } cases[] = {
        {NO_FAULT, TDM_OK, ""},
        {FAILS, TDM_E_DEVICE, "a kernel failed\n"},
        {PAST_THE_END, TDM_E_INTERNAL, "tensor r was written past its end"},
        {BEFORE_THE_ARENA, TDM_E_INTERNAL, "something was written outside the arena"},
        {AFTER_DEATH, TDM_E_INTERNAL, "is born where something was written that nobody owns"},
        {AFTER_ALL, TDM_E_INTERNAL, "after the step something lives or was written"},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_arena arena = {0};
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        faulty f = {.fault = cases[i].fault};
        assert_int_equal(run_faulty(&f, err), cases[i].code);
        if (!strstr(err->text, cases[i].says))
            fail_msg("'%s' instead of '%s'", err->text, cases[i].says);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bubbles_of_sixteen_ranks),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
