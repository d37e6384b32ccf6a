/* calibrate_crowd.c: what it costs that ranks share cores, from a run in which many do. */
#include "calibrate.h"

#include <math.h>
#include <stdlib.h>

/* Tensor, expert and pipeline parallelism, so that threads wait for each other all the time. */
static const char *const crowd_sets[] = {"model.num_layers=4",
                                         "model.hidden_size=64",
                                         "model.num_attention_heads=4",
                                         "model.ffn_hidden_size=256",
                                         "model.moe_ffn_hidden_size=128",
                                         "batch.micro_batch_size=2",
                                         "batch.seq_length=32",
                                         "parallel.tensor_model_parallel_size=2",
                                         "parallel.pipeline_model_parallel_size=2",
                                         "parallel.expert_model_parallel_size=4",
                                         "parallel.expert_tensor_parallel_size=1",
                                         "parallel.sequence_parallel=true",
                                         "parallel.data_parallel_size=4",
                                         "schedule.name=1f1b"};
enum { CROWD = 16 };

/* Median step of the crowd, run or predicted. */
static tdm_code ride(const tdm_calibrate_options *o, const tdm_run_options *run,
                     const char *topology, double *step_s, tdm_error *err)
{
    tdm_arena scratch = {0};
    const char *sets[TDM_COUNT(crowd_sets) + 1];
    size_t n = 0;
    for (; n < TDM_COUNT(crowd_sets); n++)
        sets[n] = crowd_sets[n];
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

tdm_code tdm_calibrate_crowd(tdm_arena *arena, const tdm_calibrate_options *o,
                             const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                             tdm_calibration *c, tdm_error *err)
{
    static const double NEAR = 0.002, MOST = 8; /* times what waking alone takes */
    const tdm_run_options run = {
        .device = "host", .transport = "threads", .n_steps = o->quick ? 9 : 25};
    tdm_cores *cores = &c->machine.cores;
    double alone_s = cores->switch_s, low_s = 0, high_s = MOST * alone_s;
    c->switch_alone_s = alone_s;
    if (o->ranks < CROWD)
        return TDM_OK;
    tdm_code code = ride(o, &run, NULL, &c->crowd_s, err);
    if (code == TDM_OK)
        code = ride(o, NULL, c->topology_path, &c->crowd_predicted_s, err);
    c->crowd_ranks = CROWD;
    double predicted_s = c->crowd_predicted_s;
    /* The step grows with switch_s, nearly in proportion: halving finds it. */
    for (int i = 0; i < 16 && code == TDM_OK && fabs(predicted_s / c->crowd_s - 1) > NEAR; i++) {
        if (predicted_s < c->crowd_s)
            low_s = cores->switch_s;
        else
            high_s = cores->switch_s;
        cores->switch_s = (low_s + high_s) / 2;
        code = tdm_calibrate_write(arena, o, products, kernels, c, err);
        if (code == TDM_OK)
            code = ride(o, NULL, c->topology_path, &predicted_s, err);
    }
    return code;
}
