/* support_cuda.h: plans that run on the cuda device, on doubles of CUDA and its libraries. */
#ifndef TANDEM_TESTS_SUPPORT_CUDA_H
#define TANDEM_TESTS_SUPPORT_CUDA_H

#include "backend/cuda/cuda.h"
#include "tests/support_host.h"

typedef struct cuda_setting {
    const char *transport; /* "shared" or "nccl" */
    double deadline_s;     /* 0: none */
    bool rehearse;
} cuda_setting;

typedef struct cuda_outcome {
    double loss[HOST_STEPS], grad_norm[HOST_STEPS];
    tdm_trace traces[HOST_STEPS];
    tdm_plan plan;
} cuda_outcome;

/* Lowers, lays out and runs the scenario for HOST_STEPS steps. Gradients go to the book unless it
 * is NULL. What the double found wrong fails the test. */
tdm_code cuda_run_scenario(tdm_arena *arena, const tdm_scenario *scenario,
                           const cuda_setting *setting, host_book *book, cuda_outcome *outcome,
                           tdm_error *err);

/* Runs the scenario so, and the same on one rank of the host device in fp32: losses and gradients
 * within so much. */
void cuda_compare(const char *what, const tdm_scenario *scenario, const cuda_setting *setting,
                  double loss_tolerance, double gradient_tolerance);

#endif
