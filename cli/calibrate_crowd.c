/* calibrate_crowd.c: what it costs that threads wait for each other, from runs in which they do all
 * the time. */
#include "calibrate.h"

#include <math.h>
#include <stdlib.h>

#define SMALL                                                                                      \
    "model.num_layers=4", "model.hidden_size=64", "model.num_attention_heads=4",                   \
        "model.ffn_hidden_size=256", "model.moe_ffn_hidden_size=128", "batch.micro_batch_size=2",  \
        "batch.seq_length=32", "parallel.expert_tensor_parallel_size=1",                           \
        "parallel.tensor_model_parallel_size=2", "parallel.sequence_parallel=true",                \
        "schedule.name=1f1b"

/* Tensor, expert and pipeline parallelism on many more threads than cores: a thread that goes on
 * waits for a core. */
static const char *const crowd_sets[] = {SMALL, "parallel.pipeline_model_parallel_size=2",
                                         "parallel.expert_model_parallel_size=4",
                                         "parallel.data_parallel_size=4", NULL};
/* Two ranks: a thread that goes on finds a core idle, often as not. */
static const char *const pair_sets[] = {SMALL, "parallel.pipeline_model_parallel_size=1",
                                        "parallel.expert_model_parallel_size=1",
                                        "parallel.data_parallel_size=1", NULL};
enum { CROWD = 16, MOST_SETS = 20 };

/* Median step of such a run, or as predicted on a topology. */
static tdm_code ride(const tdm_calibrate_options *o, const char *const *given,
                     const tdm_run_options *run, const char *topology, double *step_s,
                     tdm_error *err)
{
    tdm_arena scratch = {0};
    const char *sets[MOST_SETS];
    size_t n = 0;
    while (given[n]) {
        sets[n] = given[n];
        n++;
    }
    if (topology)
        sets[n++] = tdm_arena_printf(&scratch, "topology=%s", topology);
    const tdm_predict_options options = {
        .root = o->root,
        .scenario_path = tdm_arena_printf(&scratch, "%s/scenarios/calibrate/gelu.yaml", o->root),
        .sets = sets,
        .n_sets = n,
        .engine = run ? run->device : "analytic",
        .run = run};
    tdm_result *result = TDM_ALLOC(&scratch, tdm_result, 1);
    tdm_code code = tdm_predict(&scratch, &options, result, err);
    if (code == TDM_OK)
        *step_s = result->step.figures.step_time_s;
    tdm_arena_free(&scratch);
    return code;
}

static tdm_code run_steps(const tdm_calibrate_options *o, const char *const *sets, double *step_s,
                          tdm_error *err)
{
    const tdm_run_options run = {
        .device = "host", .transport = "threads", .n_steps = o->quick ? 9 : 25};
    return ride(o, sets, &run, NULL, step_s, err);
}

tdm_code tdm_calibrate_again(const tdm_calibrate_options *o, const tdm_calibration *c,
                             double *step_s, tdm_error *err)
{
    *step_s = 0;
    return c->crowd_ranks > 0 ? run_steps(o, crowd_sets, step_s, err) : TDM_OK;
}

/* A number of the profile, and the run whose step it has to give. */
typedef struct fit {
    const char *const *sets;
    double *seconds; /* of the calibration */
    double most_s;
    double step_s;      /* as run */
    double predicted_s; /* with the number as it was */
} fit;

/* The step grows with the number: halving finds it, from 0 to most_s. */
static tdm_code fit_step(tdm_arena *arena, const tdm_calibrate_options *o,
                         const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                         tdm_calibration *c, fit *f, tdm_error *err)
{
    enum { MOST_TRIES = 14 };
    static const double NEAR = 0.002;
    double low_s = 0, high_s = f->most_s;
    tdm_code code = run_steps(o, f->sets, &f->step_s, err);
    if (code == TDM_OK)
        code = ride(o, f->sets, NULL, c->topology_path, &f->predicted_s, err);
    double now_s = f->predicted_s;
    for (int i = 0; i < MOST_TRIES && code == TDM_OK && fabs(now_s / f->step_s - 1) > NEAR; i++) {
        if (now_s < f->step_s)
            low_s = *f->seconds;
        else
            high_s = *f->seconds;
        *f->seconds = (low_s + high_s) / 2;
        code = tdm_calibrate_write(arena, o, products, kernels, c, err);
        if (code == TDM_OK)
            code = ride(o, f->sets, NULL, c->topology_path, &now_s, err);
    }
    return code;
}

tdm_code tdm_calibrate_crowd(tdm_arena *arena, const tdm_calibrate_options *o,
                             const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                             tdm_calibration *c, tdm_error *err)
{
    enum { MOST = 8 }; /* times what waking takes alone */
    tdm_cores *cores = &c->machine.cores;
    fit crowd = {.sets = crowd_sets, .seconds = &cores->switch_s, .most_s = MOST * cores->switch_s};
    fit pair = {.sets = pair_sets, .seconds = &cores->wake_s, .most_s = MOST * cores->wake_s};
    c->switch_alone_s = cores->switch_s;
    c->wake_alone_s = cores->wake_s;
    if (o->ranks < CROWD)
        return TDM_OK;
    tdm_code code = fit_step(arena, o, products, kernels, c, &crowd, err);
    if (code == TDM_OK)
        code = fit_step(arena, o, products, kernels, c, &pair, err);
    c->crowd_ranks = CROWD;
    c->crowd_s = crowd.step_s;
    c->crowd_predicted_s = crowd.predicted_s;
    c->pair_s = pair.step_s;
    c->pair_predicted_s = pair.predicted_s;
    return code;
}
