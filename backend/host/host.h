/* host.h: the device that computes: fp32 on this machine's cores, a kernel for every op of a plan.
 */
#ifndef TDM_HOST_H
#define TDM_HOST_H

#include "../rank.h"

typedef struct tdm_host tdm_host;

/* NULL when built in; otherwise what is missing and how to get it. */
const char *tdm_host_absent(void);

/* What of the plan has no kernel or cannot be computed here; all of it at once. */
tdm_code tdm_host_check(const tdm_plan *plan, tdm_error *err);

/* programs [n_roles]; at most n_steps steps; watch may be NULL. */
tdm_code tdm_host_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                       uint32_t n_steps, tdm_watch *watch, void *context, tdm_host **host,
                       tdm_exec_device *device, tdm_error *err);

/* Mean loss over the tokens of a step's global batch, and the gradient's norm; NAN: none. */
double tdm_host_loss(const tdm_host *host, uint32_t step);
double tdm_host_grad_norm(const tdm_host *host, uint32_t step);

/* What tdm_host_loss and _grad_norm sum up: the rank's own [n_steps], to be filled in for ranks
 * that another process carries out. */
double *tdm_host_losses(tdm_host *host, uint32_t rank);
double *tdm_host_grad_norms(tdm_host *host, uint32_t rank);

/* What a run computed, for other programs. new: of a plan that trains; take: as the watch of
 * tdm_host_open, with the dump as its context; write: after the last step, into a new folder:
 *
 *     model.json             sizes and kinds of layers
 *     routing.npy            i4 [layer][sample][position][k]: experts, -1 - expert where dropped
 *     step-N/words.npy       u4 [sample][position, and one more: the last target]
 *     step-N/weight.BLOCK.NAME.npy, gradient.BLOCK.NAME.npy
 *                            f4 [rows][columns]
 *     step-N/loss.npy, grad-norm.npy
 *                            f8
 *
 * Weights are those before the step, gradients those before clipping, both of the whole model;
 * BLOCK is embedding, layer-I or head; experts have a row each, whole. */
typedef struct tdm_host_dump tdm_host_dump;
tdm_host_dump *tdm_host_dump_new(tdm_arena *arena, const tdm_plan *plan, uint32_t n_steps);
tdm_watch tdm_host_dump_take;
tdm_code tdm_host_dump_write(tdm_host_dump *dump, const tdm_host *host, const char *folder,
                             tdm_error *err);

#endif
