/* common.cuh: what the kernels share: types, accesses of 16 bytes, sums over warps and blocks,
 * launches. */
#ifndef TDM_CUDA_COMMON_CUH
#define TDM_CUDA_COMMON_CUH

#include "../kernels.h"
#include "primitives.cuh"

using bf16 = __nv_bfloat16;
using fp16 = __half;

constexpr unsigned WARP = 32, ALL_LANES = 0xFFFFFFFFu;
constexpr unsigned THREADS = 256;
/* Blocks of a kernel that goes through its work in strides of the grid: a few waves on any GPU. */
constexpr uint64_t MOST_BLOCKS = 4096;

/* ---- accesses ---- */

/* Numbers of T in an access of 16 bytes. */
template <typename T> constexpr int WIDE = 16 / sizeof(T);

template <typename T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) pack {
    T x[N];
};

template <typename T, int N> __device__ __forceinline__ void load(const T *from, float (&x)[N])
{
    const pack<T, N> p = *access_as<pack<T, N>>(from);
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = float(p.x[i]);
}

/* To the device's memory. */
template <typename T, int N> __device__ __forceinline__ void store(T *to, const float (&x)[N])
{
    if constexpr (N == 1) {
        *to = T(x[0]);
    } else if constexpr (sizeof(T) == sizeof(float)) {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float words[4] = {x[i], x[i + 1], x[i + 2], x[i + 3]};
            store_words(to + i, words);
        }
    } else {
        uint32_t words[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            words[i] = pair_of(x[2 * i], x[2 * i + 1], T());
        store_words(to, words);
    }
}

/* To shared memory, or to whichever of both. */
template <int N> __device__ __forceinline__ void store_near(float *to, const float (&x)[N])
{
    pack<float, N> p;
#pragma unroll
    for (int i = 0; i < N; i++)
        p.x[i] = x[i];
    *access_as<pack<float, N>>(to) = p;
}

template <int N>
__device__ __forceinline__ void load_mask(const unsigned char *from, unsigned char (&x)[N])
{
    const pack<unsigned char, N> p = *access_as<pack<unsigned char, N>>(from);
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] = p.x[i];
}

template <int N>
__device__ __forceinline__ void store_mask(unsigned char *to, const unsigned char (&x)[N])
{
    pack<unsigned char, N> p;
#pragma unroll
    for (int i = 0; i < N; i++)
        p.x[i] = x[i];
    *access_as<pack<unsigned char, N>>(to) = p;
}

/* The gradient of a parameter, of any type: only its additions branch on it. */
struct gradient_of {
    void *data;
    tdm_cuda_type type;
};

template <typename G, int N> __device__ __forceinline__ void add_as(G *to, const float (&x)[N])
{
    float sum[N];
    load<G, N>(to, sum);
#pragma unroll
    for (int i = 0; i < N; i++)
        sum[i] += x[i];
    store<G, N>(to, sum);
}

template <int N>
__device__ __forceinline__ void add(gradient_of g, uint64_t at, const float (&x)[N])
{
    if (g.type == TDM_CUDA_FP32)
        add_as(static_cast<float *>(g.data) + at, x);
    else if (g.type == TDM_CUDA_BF16)
        add_as(static_cast<bf16 *>(g.data) + at, x);
    else
        add_as(static_cast<fp16 *>(g.data) + at, x);
}

__device__ __forceinline__ void add(gradient_of g, uint64_t at, float x)
{
    const float one[1] = {x};
    add<1>(g, at, one);
}

/* The same to sums in shared memory, or in a workspace; nobody else adds to them meanwhile. */
template <int N> __device__ __forceinline__ void add_near(float *sums, const float (&x)[N])
{
    float sum[N];
    load<float, N>(sums, sum);
#pragma unroll
    for (int i = 0; i < N; i++)
        sum[i] += x[i];
    store_near<N>(sums, sum);
}

/* ---- sums ---- */

__device__ __forceinline__ float warp_sum(float x)
{
#pragma unroll
    for (unsigned d = WARP / 2; d > 0; d /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, static_cast<int>(d));
    return x;
}

__device__ __forceinline__ float warp_max(float x)
{
#pragma unroll
    for (unsigned d = WARP / 2; d > 0; d /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, static_cast<int>(d)));
    return x;
}

/* Of all threads of the block, known to all. room [WARP] is shared memory; the block's size is a
 * multiple of the warp's. */
__device__ __forceinline__ float block_sum(float x, float *room)
{
    x = warp_sum(x);
    __syncthreads(); /* room may still be read from the time before */
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_sum(threadIdx.x % WARP < blockDim.x / WARP ? room[threadIdx.x % WARP] : 0);
}

__device__ __forceinline__ float block_max(float x, float *room)
{
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_max(threadIdx.x % WARP < blockDim.x / WARP ? room[threadIdx.x % WARP] : -INFINITY);
}

/* Place of a thread among all of a one-dimensional grid, and how many there are. */
__device__ __forceinline__ uint64_t grid_thread()
{
    return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ uint64_t grid_threads()
{
    return static_cast<uint64_t>(gridDim.x) * blockDim.x;
}

/* ---- random numbers ---- */

/* Source: Steele, Lea, Flood 2014, SplitMix64's finalizer; as the host device's host_mix. */
__host__ __device__ __forceinline__ uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* [0, 1) in steps of 2^-53. */
__device__ __forceinline__ double uniform(uint64_t key, uint64_t index)
{
    return static_cast<double>(mix(key, index) >> 11) / 9007199254740992.0;
}

__device__ __forceinline__ bool stays(const tdm_cuda_dropout &d, uint64_t index)
{
    return mix(d.key, index) >> 11 >= d.threshold;
}

/* ---- launches ---- */

inline uint64_t ceil_div(uint64_t a, uint64_t b)
{
    return (a + b - 1) / b;
}

inline uint64_t at_most(uint64_t a, uint64_t most)
{
    return a < most ? a : most;
}

/* Threads, in whole warps, for so many pieces of work of a block. */
inline unsigned threads_for(uint64_t pieces, unsigned most)
{
    return static_cast<unsigned>(at_most(ceil_div(pieces > 0 ? pieces : 1, WARP) * WARP, most));
}

/* Nothing is launched without blocks. */
template <typename... P, typename... A>
cudaError_t launch(cudaStream_t stream, dim3 blocks, unsigned threads, size_t shared_bytes,
                   void (*kernel)(P...), A... arguments)
{
    if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0)
        return cudaSuccess;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, P(arguments)...);
}

inline dim3 blocks_of(uint64_t x, uint64_t y = 1, uint64_t z = 1)
{
    return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

/* Blocks of THREADS that go through so many pieces in strides of the grid. */
inline dim3 strided(uint64_t pieces)
{
    return blocks_of(at_most(ceil_div(pieces, THREADS), MOST_BLOCKS));
}

/* Calls f with a zero of the type. */
template <typename F> cudaError_t by_type(tdm_cuda_type type, F f)
{
    switch (type) {
    case TDM_CUDA_BF16:
        return f(bf16(0.0F));
    case TDM_CUDA_FP16:
        return f(fp16(0.0F));
    case TDM_CUDA_FP32:
        return f(0.0F);
    }
    return cudaErrorInvalidValue;
}

/* An integer that is known when a kernel is compiled. */
template <int N> struct constant {
    static constexpr int value = N;
};

/* Whether rows of so many bytes from these addresses on can be accessed in steps of `step` bytes.
 * NULL can. */
template <typename... P> bool aligned(uint64_t step, uint64_t row_bytes, P... pointers)
{
    return ((reinterpret_cast<uintptr_t>(pointers) | ... | row_bytes) % step) == 0;
}

/* Calls f with a zero of the type, and with how many numbers an access may take: those of 16 bytes
 * where rows of `columns` numbers and all pointers allow it, otherwise 1. */
template <typename F, typename... P>
cudaError_t by_width(tdm_cuda_type type, uint64_t columns, F f, P... pointers)
{
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        if (aligned(16, columns * sizeof(T), pointers...))
            return f(zero, constant<WIDE<T>>());
        return f(zero, constant<1>());
    });
}

#endif
