/* blas_api.h: the functions of OpenBLAS that the host device calls, found when it first needs them.
 * OpenBLAS takes buffers and starts threads as soon as it is loaded; opening it at run time keeps
 * that out of every command that computes nothing, and lets the program start where it is not
 * installed. */
#ifndef TDM_HOST_BLAS_API_H
#define TDM_HOST_BLAS_API_H

#include <cblas.h>
#include <stddef.h>

/* Member NAME is the function cblas_NAME or openblas_NAME; see OpenBLAS's header. */
typedef struct host_blas {
    void (*sgemm)(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a,
                  enum CBLAS_TRANSPOSE trans_b, blasint m, blasint n, blasint k, float alpha,
                  const float *a, blasint lda, const float *b, blasint ldb, float beta, float *c,
                  blasint ldc);
    void (*set_num_threads)(int n);
} host_blas;

/* Opens the library on the first call, which must not be one of several at once. NULL when it is
 * missing or lacks a function; `problem` [n_bytes] then says what. */
const host_blas *host_blas_open(char *problem, size_t n_bytes);

#endif
