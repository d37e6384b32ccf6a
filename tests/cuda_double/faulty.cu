/* faulty.cu: see faulty.h. */
#include "faulty.h"

#include "include/primitives.cuh"

template <typename... P, typename... A>
static cudaError_t launch(cudaStream_t stream, unsigned blocks, size_t shared, void (*kernel)(P...),
                          A... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(FAULTY_THREADS);
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

static __global__ void increment(const int *from, int *to, int n)
{
    for (int i = static_cast<int>(threadIdx.x); i < n; i += FAULTY_THREADS)
        to[i] = from[i] + 1;
}

cudaError_t faulty_increment(cudaStream_t stream, const int *from, int *to, int n)
{
    return launch(stream, 1, 0, increment, from, to, n);
}

static __global__ void reverse(const int *from, int *to, bool has_barrier)
{
    int *room = shared_memory<int>();
    room[threadIdx.x] = from[threadIdx.x];
    if (has_barrier)
        __syncthreads();
    to[threadIdx.x] = room[FAULTY_THREADS - 1 - threadIdx.x];
}

cudaError_t faulty_reverse(cudaStream_t stream, const int *from, int *to, int has_barrier,
                           size_t shared_bytes)
{
    return launch(stream, 1, shared_bytes, reverse, from, to, has_barrier != 0);
}

static __global__ void swap(const int *from, int *to, bool has_barrier)
{
    int *room = shared_memory<int>();
    room[threadIdx.x] = from[threadIdx.x];
    if (has_barrier)
        __syncwarp();
    to[threadIdx.x] = room[threadIdx.x ^ 1];
}

cudaError_t faulty_swap(cudaStream_t stream, const int *from, int *to, int has_barrier)
{
    return launch(stream, 1, FAULTY_THREADS * sizeof(int), swap, from, to, has_barrier != 0);
}

static __global__ void blocks(unsigned *to, bool is_atomic)
{
    if (threadIdx.x > 0)
        return;
    if (is_atomic)
        atomicAdd(to, 1u);
    else
        *to = 1;
}

cudaError_t faulty_blocks(cudaStream_t stream, unsigned *to, int is_atomic)
{
    return launch(stream, 4, 0, blocks, to, is_atomic != 0);
}

static __global__ void diverge()
{
    if (threadIdx.x < FAULTY_THREADS / 2)
        __syncthreads();
    else if (threadIdx.x % 2 == 0)
        __syncwarp();
}

cudaError_t faulty_diverge(cudaStream_t stream)
{
    return launch(stream, 1, 0, diverge);
}

static __global__ void wide(const int *from, int *to)
{
    uint4 x = *access_as<uint4>(from);
    to[threadIdx.x] = static_cast<int>(x.x + x.y + x.z + x.w);
}

cudaError_t faulty_wide(cudaStream_t stream, const int *from, int *to)
{
    return launch(stream, 1, 0, wide, from, to);
}

static __global__ void later(const int *from, int *to, bool waits)
{
    int *room = shared_memory<int>();
    if (threadIdx.x < FAULTY_THREADS / 4)
        copy_16_later(room + 4 * threadIdx.x, from + 4 * threadIdx.x, threadIdx.x > 0);
    commit_copies();
    if (waits)
        wait_copies<0>();
    __syncthreads();
    to[threadIdx.x] = room[threadIdx.x];
}

cudaError_t faulty_later(cudaStream_t stream, const int *from, int *to, int waits)
{
    return launch(stream, 1, FAULTY_THREADS * sizeof(int), later, from, to, waits != 0);
}

static __global__ void warp(unsigned *to)
{
    unsigned sum = threadIdx.x;
    for (int d = 16; d > 0; d /= 2)
        sum += __shfl_xor_sync(0xFFFFFFFFu, sum, d);
    to[threadIdx.x] = sum;
    to[FAULTY_THREADS + threadIdx.x] = __ballot_sync(0xFFFFFFFFu, threadIdx.x % 2);
    to[2 * FAULTY_THREADS + threadIdx.x] = __match_any_sync(0xFFFFFFFFu, threadIdx.x % 32 / 3);
}

cudaError_t faulty_warp(cudaStream_t stream, unsigned *to)
{
    return launch(stream, 1, 0, warp, to);
}
