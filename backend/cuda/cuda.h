/* cuda.h: the device that computes on NVIDIA GPUs: ops are queued on CUDA streams, in the model's
 * dtype with fp32 sums and fp32 master weights; and its transports. */
#ifndef TDM_CUDA_H
#define TDM_CUDA_H

#include "../backend.h"
#include "../rank.h"

typedef struct tdm_cuda tdm_cuda;

/* NULL when built in; otherwise what is missing and how to get it. */
const char *tdm_cuda_absent(void);

/* What this machine has: "NVIDIA H100 80GB HBM3 x 8, driver 13.0"; NULL, with the reason in
 * problem [n_bytes], when nothing can run on it. */
const char *tdm_cuda_describe(tdm_arena *arena, char *problem, size_t n_bytes);

/* GPUs that this process sees; 0: none, or no driver. */
uint32_t tdm_cuda_n_devices(void);

/* What of the plan cannot be computed here; all of it at once. */
tdm_code tdm_cuda_check(const tdm_plan *plan, tdm_error *err);

typedef struct tdm_cuda_options {
    const tdm_plan *plan;
    const tdm_program *programs;  /* [n_roles] */
    uint32_t first_rank, n_ranks; /* those carried out here */
    const int *gpus;              /* [n_ranks] the GPU of each, as this process numbers them */
    uint32_t n_steps;
    tdm_watch *watch; /* NULL: none */
    void *context;    /* of the watch */
} tdm_cuda_options;

/* Fails (DEVICE) where a GPU, a library or memory is missing; the message says which. */
tdm_code tdm_cuda_open(tdm_arena *arena, const tdm_cuda_options *options, tdm_cuda **cuda,
                       tdm_exec_device *device, tdm_error *err);
void tdm_cuda_close(tdm_cuda *cuda);

/* What a rank computed [n_steps]: the sum of its tokens' losses, and the gradient's norm. */
double *tdm_cuda_losses(tdm_cuda *cuda, uint32_t rank);
double *tdm_cuda_grad_norms(tdm_cuda *cuda, uint32_t rank);

/* Most by which the time of a mark may be off on this machine's clock. */
double tdm_cuda_uncertainty_s(const tdm_cuda *cuda);

/* What was run on, and GPU memory in use by purpose; as they are now. */
void tdm_cuda_report(tdm_arena *arena, tdm_cuda *cuda, tdm_run_report *report);

/* ---- transports ---- */

/* All ranks on one GPU: copies and sums by kernels, between streams that wait for each other. */
tdm_code tdm_shared_open(tdm_arena *arena, tdm_cuda *cuda, tdm_exec_transport *transport,
                         tdm_error *err);
void tdm_shared_close(tdm_exec_transport *transport);

/* A rank per GPU, connected by NCCL. world NULL: all ranks are in this process. */
tdm_code tdm_nccl_open(tdm_arena *arena, tdm_cuda *cuda, tdm_world *world, double deadline_s,
                       tdm_exec_transport *transport, tdm_error *err);
void tdm_nccl_close(tdm_exec_transport *transport);
/* "2.28.9", or NULL with the reason in problem [n_bytes]. */
const char *tdm_nccl_version(tdm_arena *arena, char *problem, size_t n_bytes);

/* One rank alone: communication takes its planned time, [world][n_ops] in seconds, and moves
 * nothing. */
tdm_code tdm_solo_open(tdm_arena *arena, tdm_cuda *cuda, const double *const *seconds,
                       tdm_exec_transport *transport, tdm_error *err);

#endif
