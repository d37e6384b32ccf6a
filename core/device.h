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

typedef enum tdm_product_way { TDM_FORWARD, TDM_DGRAD, TDM_WGRAD } tdm_product_way;

/* How fast a matrix product was measured to be, or those of several experts one after the other. */
typedef struct tdm_product_rate {
    int way; /* tdm_product_way */
    bool grouped;
    uint32_t m, n, k; /* grouped: m, for wgrad k, are the rows of one expert on average */
    double flops_per_s;
} tdm_product_rate;

/* How long kernels of one name were measured to take: floor + work / rate. */
typedef struct tdm_kernel_rate {
    const char *name; /* by tdm_kernel_name: "swiglu", "layer-norm.bwd", "topk" */
    bool optimizer;   /* of the optimizer's ops of that name */
    double floor_s;
    double bytes_per_s, flops_per_s; /* the one that is not 0: bytes of memory-bound kernels, or
                                        FLOPs, as tdm_op_flops counts them */
} tdm_kernel_rate;

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
    tdm_value compute_capability; /* 9.0: Hopper; value 0: not given */
    tdm_value nvlinks;            /* of one GPU; 0: none, or not given */
    tdm_value pcie_bytes_per_s;   /* wire of its PCIe link, one direction; 0: not given */
    /* What was measured op by op, and is believed before the shares of peaks above. */
    uint32_t n_products, n_kernels;
    const tdm_product_rate *products; /* [n_products] */
    const tdm_kernel_rate *kernels;   /* [n_kernels] */
} tdm_device;

const char *tdm_grade_name(tdm_grade grade);

#endif
