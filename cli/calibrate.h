/* calibrate.h: from runs of small plans on a machine to its profile: what `tandem calibrate` and
 * `tandem validate` do. */
#ifndef TDM_CALIBRATE_H
#define TDM_CALIBRATE_H

#include "backend/host/machine.h"
#include "predict.h"

/* Times of one kernel in a run: a shape of a product, or a number of bytes or FLOPs. */
typedef struct tdm_kernel_sample {
    const char *name; /* without ".r"; of products: of the first op that had the shape */
    bool is_product, grouped, optimizer, by_flops;
    tdm_product_way way;
    uint32_t m, n, k;
    double work;    /* FLOPs of products and attention, else bytes: mean over the ops */
    double seconds; /* median over the ops */
} tdm_kernel_sample;

typedef struct tdm_kernel_samples {
    tdm_kernel_sample *items;
    uint32_t n;
    double turn_s; /* median time from one op of the compute stream to the next */
} tdm_kernel_samples;

/* What a run shows of its kernels. */
tdm_kernel_samples tdm_kernel_samples_of(tdm_arena *arena, const tdm_plan *plan,
                                         const tdm_trace *trace);

/* A line floor + work / rate through each kernel's samples, by relative error. */
tdm_kernel_rate *tdm_kernel_fit(tdm_arena *arena, const tdm_kernel_samples *samples, uint32_t n,
                                uint32_t *n_kernels);

typedef struct tdm_calibrate_options {
    const char *root;        /* holds scenarios/calibrate/ */
    const char *scenario;    /* whose sizes are measured too; NULL: none */
    const char *const *sets; /* [n_sets] of it */
    size_t n_sets;
    const char *folder; /* where NAME.yaml and devices/NAME.yaml go */
    bool is_apart;      /* not the root's topologies, where names find both */
    const char *name;
    uint32_t ranks;
    bool quick, quiet;
} tdm_calibrate_options;

/* What was written, and how far it fits. */
typedef struct tdm_calibration {
    const char *topology_path, *device_path;
    tdm_host_machine machine;
    uint32_t n_products, n_kernels;
    double kernel_error;  /* median of |fitted / measured - 1| over the samples of fitted kernels */
    uint32_t crowd_ranks; /* of the run that switch_s was fitted to */
    double crowd_s, crowd_predicted_s; /* its step, and with switch_s as measured alone */
    double pair_s, pair_predicted_s;   /* the same of two ranks and wake_s */
    double switch_alone_s, wake_alone_s;
    double seconds;
} tdm_calibration;

/* Measures this machine's cores and writes both files, each under another name first. */
tdm_code tdm_calibrate_host(tdm_arena *arena, const tdm_calibrate_options *options,
                            tdm_calibration *calibration, tdm_error *err);

/* Writes the profile: of the device (products [n_products], kernels [n_kernels]) and of the machine
 * on which so many ranks share it. */
tdm_code tdm_calibrate_write(tdm_arena *arena, const tdm_calibrate_options *options,
                             const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                             tdm_calibration *calibration, tdm_error *err);

/* Runs a plan of many ranks and one of two, and lets switch_s and wake_s be what their steps come
 * out with: what a thread loses that goes on behind others (caches, locks), or on a core that
 * slept, is more than waking it takes. The profile is there already, and is written again. */
tdm_code tdm_calibrate_crowd(tdm_arena *arena, const tdm_calibrate_options *options,
                             const tdm_kernel_samples *products, const tdm_kernel_rate *kernels,
                             tdm_calibration *calibration, tdm_error *err);

/* The crowd's step once more, as long after as the caller likes: whether the machine is still what
 * it was. 0: there was no crowd. */
tdm_code tdm_calibrate_again(const tdm_calibrate_options *options,
                             const tdm_calibration *calibration, double *step_s, tdm_error *err);

#endif
