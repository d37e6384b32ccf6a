/* sensitivity.h: which GPU, stage or link lengthens the step most when it alone gets slower:
 * `tandem sim --sensitivity`. Each is slowed in turn, on top of what the scenario's perturbation
 * does, with the same draws, and the step predicted again. */
#ifndef TDM_SENSITIVITY_H
#define TDM_SENSITIVITY_H

#include "output.h"
#include "table.h"

typedef enum tdm_slowed_kind {
    TDM_SLOWED_GPU,   /* its kernels */
    TDM_SLOWED_STAGE, /* the kernels of its GPUs */
    TDM_SLOWED_LINK,  /* a port or an inner link, both directions */
    TDM_SLOWED_CLASS, /* all GPUs, all links of a plane, all transfers between stages */
} tdm_slowed_kind;
const char *tdm_slowed_kind_name(tdm_slowed_kind kind); /* "gpu", "stage", ... */

/* What is slowed, and what came of it. */
typedef struct tdm_slowed {
    tdm_slowed_kind kind;
    const char *name;      /* "GPU 3", "gpu-3-nvlink" */
    uint32_t first, last;  /* GPUs that are slowed, or that hang on the link */
    const uint32_t *links; /* [n_links] */
    uint32_t n_links;
    bool sends;              /* transfers between stages of given pass times */
    double step_s, change_s; /* against the step without the slowing */
    double elasticity;       /* relative change of the step over the slowing */
    double level;            /* change in 1e-9 of the step, rounded: equal ones are alike */
} tdm_slowed;

typedef struct tdm_sensitivity {
    double slowing;    /* 0.1: kernels and transfers take 10 % longer */
    tdm_slowed *items; /* [n], largest change first */
    uint32_t n;
    uint32_t gpu_stride; /* every so many-th GPU was slowed; 1: all */
} tdm_sensitivity;

tdm_code tdm_sensitivity_run(tdm_arena *arena, const tdm_result *result, double slowing,
                             uint32_t n_jobs, bool quiet, tdm_sensitivity *sensitivity,
                             tdm_error *err);
/* The first of a kind; NULL: there is none. */
const tdm_slowed *tdm_sensitivity_worst(const tdm_sensitivity *sensitivity, tdm_slowed_kind kind);

void tdm_sensitivity_report(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s,
                            const tdm_style *style, FILE *file);
/* Text of the document; free() it, NULL when memory is out. */
char *tdm_sensitivity_json(tdm_arena *arena, const tdm_result *result, const tdm_sensitivity *s);
void tdm_sensitivity_csv(const tdm_sensitivity *s, FILE *file);

#endif
