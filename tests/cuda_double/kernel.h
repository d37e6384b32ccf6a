/* kernel.h: between the headers that kernels are compiled with and the double's own files. */
#ifndef CUDA_DOUBLE_KERNEL_H
#define CUDA_DOUBLE_KERNEL_H

#include "include/cuda_runtime_api.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_double_vector {
    unsigned x, y, z;
} cuda_double_vector;

/* Where a thread is. */
typedef struct cuda_double_place {
    cuda_double_vector thread, block, block_size, grid_size;
    unsigned char *shared;
} cuda_double_place;

typedef struct cuda_double_kernel {
    void (*thread)(void *closure); /* the body of one thread */
    void *closure;                 /* what threads may read of the host; freed by free() */
    size_t closure_bytes;
    const void *function;
    cuda_double_vector grid, block;
    size_t shared_bytes;
} cuda_double_kernel;

/* Takes the closure, whatever it returns. */
cudaError_t cuda_double_launch(cudaStream_t stream, const cuda_double_kernel *kernel);

/* Does not change while a thread runs. */
const cuda_double_place *cuda_double_here(void) __attribute__((const));
void cuda_double_barrier(void);
/* Meets the lanes of the mask; resolve sees the arguments of all [32], and works for all. */
void cuda_double_warp(uint32_t mask, void *argument,
                      void (*resolve)(void *const *arguments, uint32_t mask));
/* Of four and eight bytes; returns the old value. */
uint64_t cuda_double_atomic(void *at, size_t bytes, uint64_t operand,
                            uint64_t (*change)(uint64_t old, uint64_t operand));
/* A fault if an address of the device, or in shared memory, is not a multiple of so many bytes. */
void cuda_double_aligned(const void *at, size_t bytes);
/* Copies 16 bytes, or clears them, as copies that arrive later do: at cuda_double_arrive. */
void cuda_double_copy_later(void *to, const void *from, int there);
void cuda_double_commit(void);
void cuda_double_arrive(int newest_that_may_miss);

#ifdef __cplusplus
}
#endif

#endif
