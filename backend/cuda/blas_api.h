/* blas_api.h: what is used of cuBLAS and cuBLASLt 13, opened at run time. Types and numbers are
 * those of cublas_api.h and cublasLt.h of CUDA 13.0, whose binary interface stays the same within a
 * major version: so nothing of them is needed to build. Matrices are column by column. */
#ifndef TDM_CUDA_BLAS_API_H
#define TDM_CUDA_BLAS_API_H

#include <cuda_runtime_api.h>

#include <stddef.h>
#include <stdint.h>

typedef struct cublasContext *blas_handle;      /* cublasHandle_t */
typedef struct cublasLtContext *blas_lt_handle; /* cublasLtHandle_t */
typedef struct blas_opaque *blas_object;        /* descriptors, layouts, preferences */

typedef enum blas_status { BLAS_SUCCESS = 0, BLAS_NOT_SUPPORTED = 15 } blas_status;
typedef enum blas_type { BLAS_32F = 0, BLAS_16F = 2, BLAS_16BF = 14 } blas_type; /* cudaDataType */
enum { BLAS_COMPUTE_32F = 68 };        /* cublasComputeType_t */
enum { BLAS_OP_N = 0, BLAS_OP_T = 1 }; /* cublasOperation_t */
enum { BLAS_EPILOGUE_BIAS = 4 };       /* cublasLtEpilogue_t */
enum {                                 /* cublasLtMatmulDescAttributes_t */
       BLAS_DESC_TRANSA = 3,
       BLAS_DESC_TRANSB = 4,
       BLAS_DESC_EPILOGUE = 7,
       BLAS_DESC_BIAS_POINTER = 8
};
enum { BLAS_LAYOUT_BATCH_COUNT = 5, BLAS_LAYOUT_STRIDED_BATCH_OFFSET = 6 };
enum { /* cublasLtMatmulPreferenceAttributes_t */
       BLAS_PREF_MAX_WORKSPACE_BYTES = 1,
       BLAS_PREF_MIN_ALIGNMENT_A_BYTES = 5 /* then B, C, D */
};

typedef struct blas_algo { /* cublasLtMatmulAlgo_t */
    uint64_t data[8];
} blas_algo;

typedef struct blas_heuristic { /* cublasLtMatmulHeuristicResult_t */
    blas_algo algo;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} blas_heuristic;

/* Member NAME is the function cublasNAME. */
typedef struct blas_api {
    int (*Create)(blas_handle *handle);
    int (*Destroy)(blas_handle handle);
    int (*SetStream)(blas_handle handle, cudaStream_t stream);
    int (*SetWorkspace)(blas_handle handle, void *workspace, size_t bytes);
    int (*GemmGroupedBatchedEx)(blas_handle handle, const int *trans_a, const int *trans_b,
                                const int *m, const int *n, const int *k, const void *alpha,
                                const void *const *a, int a_type, const int *lda,
                                const void *const *b, int b_type, const int *ldb, const void *beta,
                                void *const *c, int c_type, const int *ldc, int n_groups,
                                const int *group_size, int compute);
    const char *(*GetStatusString)(int status);
} blas_api;

/* Member NAME is the function cublasLtNAME. */
typedef struct blas_lt_api {
    int (*Create)(blas_lt_handle *handle);
    int (*Destroy)(blas_lt_handle handle);
    size_t (*GetVersion)(void);
    int (*MatmulDescCreate)(blas_object *desc, int compute, int scale_type);
    int (*MatmulDescDestroy)(blas_object desc);
    int (*MatmulDescSetAttribute)(blas_object desc, int attribute, const void *value, size_t bytes);
    int (*MatrixLayoutCreate)(blas_object *layout, int type, uint64_t rows, uint64_t columns,
                              int64_t ld);
    int (*MatrixLayoutDestroy)(blas_object layout);
    int (*MatrixLayoutSetAttribute)(blas_object layout, int attribute, const void *value,
                                    size_t bytes);
    int (*MatmulPreferenceCreate)(blas_object *preference);
    int (*MatmulPreferenceDestroy)(blas_object preference);
    int (*MatmulPreferenceSetAttribute)(blas_object preference, int attribute, const void *value,
                                        size_t bytes);
    int (*MatmulAlgoGetHeuristic)(blas_lt_handle handle, blas_object desc, blas_object a,
                                  blas_object b, blas_object c, blas_object d,
                                  blas_object preference, int n_wanted, blas_heuristic *results,
                                  int *n_results);
    int (*Matmul)(blas_lt_handle handle, blas_object desc, const void *alpha, const void *a,
                  blas_object a_layout, const void *b, blas_object b_layout, const void *beta,
                  const void *c, blas_object c_layout, void *d, blas_object d_layout,
                  const blas_algo *algo, void *workspace, size_t workspace_bytes,
                  cudaStream_t stream);
} blas_lt_api;

/* Open the libraries on the first call, which must not be one of several at once. NULL when it is
 * missing or lacks a function; `problem` [n_bytes] then says what. */
const blas_api *blas_open(char *problem, size_t n_bytes);
const blas_lt_api *blas_lt_open(char *problem, size_t n_bytes);

#endif
