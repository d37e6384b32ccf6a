/* faulty.h: small kernels, some of them with a fault, for the test of the double. */
#ifndef CUDA_DOUBLE_FAULTY_H
#define CUDA_DOUBLE_FAULTY_H

#include "include/cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FAULTY_THREADS = 64 };

/* to[i] = from[i] + 1, i < n. */
cudaError_t faulty_increment(cudaStream_t stream, const int *from, int *to, int n);
/* Reverses FAULTY_THREADS numbers in shared memory; without the barrier, or with too little. */
cudaError_t faulty_reverse(cudaStream_t stream, const int *from, int *to, int has_barrier,
                           size_t shared_bytes);
/* Neighbours in a warp exchange numbers by shared memory. */
cudaError_t faulty_swap(cudaStream_t stream, const int *from, int *to, int has_barrier);
/* Every block writes the same number, or adds to it. */
cudaError_t faulty_blocks(cudaStream_t stream, unsigned *to, int is_atomic);
/* Half of the threads go to a barrier, the other half to lanes that never come. */
cudaError_t faulty_diverge(cudaStream_t stream);
/* Reads 16 bytes at a time, from an address that may not allow it. */
cudaError_t faulty_wide(cudaStream_t stream, const int *from, int *to);
/* Copies by way of shared memory, later, with or without waiting. */
cudaError_t faulty_later(cudaStream_t stream, const int *from, int *to, int waits);
/* to[i]: sum of i over the warp by shuffles, ballot of odd lanes, lanes with equal i / 3. */
cudaError_t faulty_warp(cudaStream_t stream, unsigned *to);

#ifdef __cplusplus
}
#endif

#endif
