/* absent.c: stands in for the cuda device where CUDA was not found at build time. */
#include "cuda.h"

#include <stdio.h>

const char *tdm_cuda_absent(void)
{
    return "the cuda device needs CUDA 13, which was not found at build time; install it (nvcc and "
           "its headers), build again, or use --device host";
}

static tdm_code refuse(tdm_error *err)
{
    return tdm_error_add(err, TDM_E_DEVICE, "%s", tdm_cuda_absent());
}

const char *tdm_cuda_describe(tdm_arena *arena, char *problem, size_t n_bytes)
{
    (void)arena;
    snprintf(problem, n_bytes, "%s", tdm_cuda_absent());
    return NULL;
}

uint32_t tdm_cuda_n_devices(void)
{
    return 0;
}

tdm_code tdm_cuda_check(const tdm_plan *plan, tdm_error *err)
{
    (void)plan;
    return refuse(err);
}

tdm_code tdm_cuda_open(tdm_arena *arena, const tdm_cuda_options *options, tdm_cuda **cuda,
                       tdm_exec_device *device, tdm_error *err)
{
    (void)arena;
    (void)options;
    (void)cuda;
    (void)device;
    return refuse(err);
}

void tdm_cuda_close(tdm_cuda *cuda)
{
    (void)cuda;
}

double *tdm_cuda_losses(tdm_cuda *cuda, uint32_t rank)
{
    (void)cuda;
    (void)rank;
    return NULL;
}

double *tdm_cuda_grad_norms(tdm_cuda *cuda, uint32_t rank)
{
    return tdm_cuda_losses(cuda, rank);
}

double tdm_cuda_uncertainty_s(const tdm_cuda *cuda)
{
    (void)cuda;
    return 0;
}

tdm_code tdm_shared_open(tdm_arena *arena, tdm_cuda *cuda, tdm_exec_transport *transport,
                         tdm_error *err)
{
    (void)arena;
    (void)cuda;
    (void)transport;
    return refuse(err);
}

void tdm_shared_close(tdm_exec_transport *transport)
{
    (void)transport;
}
