/* perturbation.h: how a machine differs from what its files say: GPUs that run slower, links that
 * lost bandwidth, noise, stragglers.
 * It belongs to the machine, not to the plan: the plan and its hash stay the same, and every engine
 * multiplies the same durations by the same numbers. Whatever is random is a pure function of a
 * seed, the repetition and the place in the plan, so that neither the order in which an engine
 * works nor which engine it is matters. */
#ifndef TDM_PERTURBATION_H
#define TDM_PERTURBATION_H

#include "topology.h"

/* GPUs whose kernels run at a share of their speed. Several entries for one GPU multiply. */
typedef struct tdm_gpu_speed {
    uint32_t first, last; /* both included */
    double speed;
} tdm_gpu_speed;

/* Links with a share of their bandwidth and more latency. Of several entries for one link the
 * shares multiply and the latencies add up. */
typedef struct tdm_link_change {
    const char *name; /* as tdm_link_is_named takes it */
    double bandwidth;
    double extra_latency_s;
} tdm_link_change;

/* As the scenario gives it; all zero: none. */
typedef struct tdm_perturbation {
    const tdm_gpu_speed *speeds; /* [n_speeds] */
    uint32_t n_speeds;
    const tdm_link_change *changes; /* [n_changes] */
    uint32_t n_changes;
    /* Lognormal factors of mean 1 with these coefficients of variation (0: none): one for every
     * kernel, one for the latency of every communication, launch included. */
    double compute_jitter, communication_jitter;
    uint64_t jitter_seed;
    /* GPUs whose kernels take straggler_slowdown times as long for a whole step: each with a
     * probability, or so many of them. */
    double straggler_probability;
    uint32_t n_stragglers;
    double straggler_slowdown; /* at least 1; 0: no stragglers */
    uint64_t straggler_seed;
} tdm_perturbation;

/* What a perturbation comes to on one machine in one repetition. */
typedef struct tdm_perturbed {
    uint32_t repetition; /* from 0 */
    uint32_t n_gpus;
    const double *stretch;  /* [n_gpus] a GPU's kernels take so many times as long */
    const bool *straggling; /* [n_gpus] in this repetition */
    double compute_jitter, communication_jitter;
    uint64_t jitter_seed;
} tdm_perturbed;

/* Whether there is anything to it, and whether repetitions differ. */
bool tdm_perturbation_is_given(const tdm_perturbation *perturbation);
bool tdm_perturbation_is_random(const tdm_perturbation *perturbation);

/* Whether a name means the link: the link's own, a pattern with * for any characters and ? for one,
 * or what stands before a dash ("gpu-3": all ports of GPU 3, "gpu-3-nvlink": both directions). */
bool tdm_link_is_named(const char *name, const char *link);

/* A perturbation for GPUs 0 to n_gpus - 1 in one repetition. */
tdm_perturbed tdm_perturbation_draw(tdm_arena *arena, const tdm_perturbation *perturbation,
                                    uint32_t n_gpus, uint32_t repetition);
/* The topology with its changed links; the same one where none changes. */
const tdm_topology *tdm_perturbation_links(tdm_arena *arena, const tdm_perturbation *perturbation,
                                           const tdm_topology *topology);

/* Factors on the duration of a rank's op (by its index in program order) and on the latency of a
 * communicator's n-th call (from 0). 1 where perturbed is NULL. */
double tdm_perturbed_kernel(const tdm_perturbed *perturbed, uint32_t rank, uint32_t op);
double tdm_perturbed_latency(const tdm_perturbed *perturbed, uint64_t communicator, uint64_t call);

#endif
