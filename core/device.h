/* device.h: a device profile: what one GPU can do, with the source and grade of every number. */
#ifndef TDM_DEVICE_H
#define TDM_DEVICE_H

#include "model.h"

/* How far a number can be trusted, best first. */
typedef enum tdm_grade {
    TDM_GRADE_MEASURED,
    TDM_GRADE_PUBLISHED,
    TDM_GRADE_DATASHEET,
    TDM_GRADE_GUESS
} tdm_grade;

typedef struct tdm_value {
    double value;
    tdm_grade grade;
    const char *source;
} tdm_value;

typedef struct tdm_device {
    const char *name;
    tdm_value memory_bytes;
    tdm_value memory_bytes_per_s;
    tdm_value peak_flops_per_s[TDM_N_DTYPES]; /* dense; value 0: the dtype is not supported */
    tdm_value launch_s;                       /* host time to issue one kernel */
    tdm_value kernel_floor_s;                 /* least time of any kernel on the device */
    tdm_value gemm_efficiency; /* share of the peak that a large matrix product reaches */
    tdm_value grouped_gemm_efficiency;
    tdm_value attention_efficiency;          /* fused, forward */
    tdm_value attention_backward_efficiency; /* fused, backward */
    tdm_value memory_efficiency; /* share of memory bandwidth that an element-wise kernel reaches */
    tdm_value context_bytes;     /* CUDA context and library workspaces, outside the arena */
    tdm_value compute_capability; /* 9.0; value 0: the profile does not say */
    tdm_value nvlinks;            /* of one GPU; 0 without a source: the profile does not say */
} tdm_device;

const char *tdm_grade_name(tdm_grade grade);

#endif
