/* support_cuda.c: plans that run on the cuda device, see support_cuda.h. */
#include "tests/cuda/support_cuda.h"

#include "tests/cuda_double/double.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_code open_transport(tdm_arena *arena, const cuda_setting *setting, tdm_cuda *cuda,
                               tdm_exec_transport *transport, tdm_error *err)
{
    (void)setting;
    return tdm_shared_open(arena, cuda, transport, err);
}

static void close_transport(const cuda_setting *setting, tdm_exec_transport *transport)
{
    (void)setting;
    tdm_shared_close(transport);
}

static tdm_code run(tdm_arena *arena, const cuda_setting *setting, tdm_exec_job *job,
                    tdm_cuda *cuda, cuda_outcome *outcome, tdm_error *err)
{
    tdm_exec_transport transport;
    tdm_code code = open_transport(arena, setting, cuda, &transport, err);
    job->transport = &transport;
    if (code == TDM_OK)
        code = tdm_execute(arena, job, outcome->traces, NULL, err);
    close_transport(setting, &transport);
    const tdm_plan *plan = job->plan;
    double tokens =
        (double)plan->micro_batch_size * plan->seq_length * plan->num_microbatches * plan->mesh.dp;
    for (uint32_t i = 0; i < HOST_STEPS; i++) {
        outcome->loss[i] = 0;
        outcome->grad_norm[i] = tdm_cuda_grad_norms(cuda, 0)[i];
        for (uint32_t r = 0; r < plan->mesh.world; r++)
            outcome->loss[i] += tdm_cuda_losses(cuda, r)[i] / tokens;
    }
    return code;
}

tdm_code cuda_run_scenario(tdm_arena *arena, const tdm_scenario *sc, const cuda_setting *setting,
                           host_book *book, cuda_outcome *outcome, tdm_error *err)
{
    tdm_plan *plan = &outcome->plan;
    tdm_cuda *cuda = NULL;
    tdm_exec_device device;
    char faults[2000];
    tdm_code code = tdm_lower(arena, sc, sc->schedule, sc->num_microbatches, plan, err);
    if (code == TDM_OK)
        code = tdm_cuda_check(plan, err);
    if (code != TDM_OK)
        return code;
    uint32_t world = plan->mesh.world;
    tdm_layout *layouts = TDM_ALLOC(arena, tdm_layout, world);
    code = tdm_layout_build_all(arena, plan, true, layouts, err);
    int *gpus = TDM_ALLOC(arena, int, world);
    for (uint32_t r = 0; r < world && strcmp(setting->transport, "shared") != 0; r++)
        gpus[r] = (int)r;
    tdm_cuda_options options = {.plan = plan,
                                .programs = tdm_programs_of(arena, plan),
                                .n_ranks = world,
                                .gpus = gpus,
                                .n_steps = HOST_STEPS,
                                .watch = book ? host_see : NULL,
                                .context = book};
    if (book)
        book->plan = plan;
    if (code == TDM_OK)
        code = tdm_cuda_open(arena, &options, &cuda, &device, err);
    if (code != TDM_OK)
        return code;
    tdm_exec_job job = {.plan = plan,
                        .programs = options.programs,
                        .layouts = layouts,
                        .device = &device,
                        .n_steps = HOST_STEPS,
                        .pace = 1,
                        .deadline_s = setting->deadline_s,
                        .rehearse = setting->rehearse};
    code = run(arena, setting, &job, cuda, outcome, err);
    tdm_cuda_close(cuda);
    if (cuda_double_faults(faults, sizeof faults) > 0)
        fail_msg("the double found: %s", faults);
    return code;
}

void cuda_compare(const char *what, const tdm_scenario *scenario, const cuda_setting *setting,
                  double loss_tolerance, double gradient_tolerance)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    host_book book = host_book_new(&arena);
    host_outcome alone;
    cuda_outcome *spread = TDM_ALLOC(&arena, cuda_outcome, 1);
    tdm_scenario one = host_alone(scenario);
    one.training.dtype = one.training.grad_dtype = TDM_DTYPE_FP32;
    host_run(&arena, what, &one, TDM_EXEC_ARENA, HOST_STEPS, &book, NULL, NULL, &alone);
    book.compares = true;
    if (cuda_run_scenario(&arena, scenario, setting, &book, spread, err) != TDM_OK)
        fail_msg("%s: %s", what, err->text);
    for (int i = 0; i < HOST_STEPS; i++)
        if (!(fabs(spread->loss[i] - alone.loss[i]) <= loss_tolerance * alone.loss[i]))
            fail_msg("%s: loss of step %d is %.9g, on one rank of the host device %.9g", what, i,
                     spread->loss[i], alone.loss[i]);
    host_check_gradients(what, &book, gradient_tolerance);
    tdm_arena_free(&arena);
}
