/* blas_api.c: opens cuBLAS and cuBLASLt at run time. */
#include "blas_api.h"

#include "../../core/base.h"
#include "library.h"

/* The sonames of CUDA 13's. */
static const char BLAS[] = "libcublas.so.13", LT[] = "libcublasLt.so.13";

#define FUNCTION(member)                                                                           \
    {                                                                                              \
        "cublas" #member, offsetof(blas_api, member), false                                        \
    }
#define LT_FUNCTION(member)                                                                        \
    {                                                                                              \
        "cublasLt" #member, offsetof(blas_lt_api, member), false                                   \
    }

static const cuda_symbol symbols[] = {
    {"cublasCreate_v2", offsetof(blas_api, Create), false},
    {"cublasDestroy_v2", offsetof(blas_api, Destroy), false},
    {"cublasSetStream_v2", offsetof(blas_api, SetStream), false},
    {"cublasSetWorkspace_v2", offsetof(blas_api, SetWorkspace), false},
    FUNCTION(GemmGroupedBatchedEx),
    FUNCTION(GetStatusString),
};

static const cuda_symbol lt_symbols[] = {
    LT_FUNCTION(Create),
    LT_FUNCTION(Destroy),
    LT_FUNCTION(GetVersion),
    LT_FUNCTION(MatmulDescCreate),
    LT_FUNCTION(MatmulDescDestroy),
    LT_FUNCTION(MatmulDescSetAttribute),
    LT_FUNCTION(MatrixLayoutCreate),
    LT_FUNCTION(MatrixLayoutDestroy),
    LT_FUNCTION(MatrixLayoutSetAttribute),
    LT_FUNCTION(MatmulPreferenceCreate),
    LT_FUNCTION(MatmulPreferenceDestroy),
    LT_FUNCTION(MatmulPreferenceSetAttribute),
    LT_FUNCTION(MatmulAlgoGetHeuristic),
    LT_FUNCTION(Matmul),
};

const blas_lt_api *blas_lt_open(char *problem, size_t n_bytes)
{
    /* One library per process: a mutable global, written once. */
    static blas_lt_api api;
    blas_lt_api found;
    if (api.Create)
        return &api;
    if (!cuda_library_open(LT, lt_symbols, TDM_COUNT(lt_symbols), &found, problem, n_bytes))
        return NULL;
    api = found;
    return &api;
}

const blas_api *blas_open(char *problem, size_t n_bytes)
{
    static blas_api api;
    blas_api found;
    if (api.Create)
        return &api;
    if (!cuda_library_open(BLAS, symbols, TDM_COUNT(symbols), &found, problem, n_bytes))
        return NULL;
    api = found;
    return &api;
}
