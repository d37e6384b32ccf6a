/* cuda_runtime.h of the tests' double: CUDA C++ as far as the kernels use it, for a C++ compiler.
 */
#ifndef CUDA_DOUBLE_RUNTIME_H
#define CUDA_DOUBLE_RUNTIME_H

#include "../kernel.h"
#include "cuda_runtime_api.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

/* ---- where a thread is ---- */

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
};

/* Reads as a number: which of the thread's four places, and which of its axes. */
template <cuda_double_vector cuda_double_place::*V, unsigned cuda_double_vector::*A>
struct cuda_double_axis {
    operator unsigned() const
    {
        return cuda_double_here()->*V.*A;
    }
};

template <cuda_double_vector cuda_double_place::*V> struct cuda_double_axes {
    cuda_double_axis<V, &cuda_double_vector::x> x;
    cuda_double_axis<V, &cuda_double_vector::y> y;
    cuda_double_axis<V, &cuda_double_vector::z> z;
};

constexpr cuda_double_axes<&cuda_double_place::thread> threadIdx = {};
constexpr cuda_double_axes<&cuda_double_place::block> blockIdx = {};
constexpr cuda_double_axes<&cuda_double_place::block_size> blockDim = {};
constexpr cuda_double_axes<&cuda_double_place::grid_size> gridDim = {};

struct float2 {
    float x, y;
} __attribute__((aligned(8)));

static inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}

struct uint4 {
    unsigned x, y, z, w;
} __attribute__((aligned(16)));

/* ---- barriers and warps ---- */

static inline void __syncthreads()
{
    cuda_double_barrier();
}

static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu)
{
    cuda_double_warp(mask, nullptr, nullptr);
}

template <typename T> struct cuda_double_shuffle {
    T in, out;
    int source;
    static void resolve(void *const *arguments, uint32_t mask)
    {
        for (int l = 0; l < 32; l++) {
            if (!(mask >> l & 1))
                continue;
            auto *to = static_cast<cuda_double_shuffle *>(arguments[l]);
            auto *from = static_cast<cuda_double_shuffle *>(arguments[to->source]);
            to->out = from ? from->in : to->in; /* of a lane outside of the mask: anything */
        }
    }
};

template <typename T> static inline T cuda_double_shuffle_from(unsigned mask, T x, int source)
{
    cuda_double_shuffle<T> s = {x, x, source};
    cuda_double_warp(mask, &s, cuda_double_shuffle<T>::resolve);
    return s.out;
}

static inline int cuda_double_lane()
{
    return static_cast<int>(threadIdx.x % 32);
}

template <typename T> static inline T __shfl_sync(unsigned mask, T x, int source, int width = 32)
{
    int first = cuda_double_lane() / width * width;
    return cuda_double_shuffle_from(mask, x, first + (source & (width - 1)));
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32)
{
    int lane = cuda_double_lane(), source = lane ^ bits;
    return cuda_double_shuffle_from(mask, x, source < lane / width * width + width ? source : lane);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T x, unsigned n, int width = 32)
{
    int lane = cuda_double_lane(), source = lane - static_cast<int>(n);
    return cuda_double_shuffle_from(mask, x, source >= lane / width * width ? source : lane);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T x, unsigned n, int width = 32)
{
    int lane = cuda_double_lane(), source = lane + static_cast<int>(n);
    return cuda_double_shuffle_from(mask, x, source < lane / width * width + width ? source : lane);
}

struct cuda_double_vote {
    unsigned in, out;
    static void ballot(void *const *arguments, uint32_t mask)
    {
        unsigned votes = 0;
        for (int l = 0; l < 32; l++)
            if (mask >> l & 1 && static_cast<cuda_double_vote *>(arguments[l])->in)
                votes |= 1u << l;
        for (int l = 0; l < 32; l++)
            if (mask >> l & 1)
                static_cast<cuda_double_vote *>(arguments[l])->out = votes;
    }
    static void match(void *const *arguments, uint32_t mask)
    {
        for (int l = 0; l < 32; l++) {
            if (!(mask >> l & 1))
                continue;
            auto *to = static_cast<cuda_double_vote *>(arguments[l]);
            to->out = 0;
            for (int k = 0; k < 32; k++)
                if (mask >> k & 1 && static_cast<cuda_double_vote *>(arguments[k])->in == to->in)
                    to->out |= 1u << k;
        }
    }
};

static inline unsigned __ballot_sync(unsigned mask, int vote)
{
    cuda_double_vote v = {vote != 0, 0};
    cuda_double_warp(mask, &v, cuda_double_vote::ballot);
    return v.out;
}

static inline int __any_sync(unsigned mask, int vote)
{
    return __ballot_sync(mask, vote) != 0;
}

static inline int __all_sync(unsigned mask, int vote)
{
    return __ballot_sync(mask, vote) == mask;
}

static inline unsigned __match_any_sync(unsigned mask, unsigned value)
{
    cuda_double_vote v = {value, 0};
    cuda_double_warp(mask, &v, cuda_double_vote::match);
    return v.out;
}

/* ---- arithmetic ---- */

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

#define __expf(x) expf(x) /* the C library has another function of that name */

static inline float rsqrtf(float x)
{
    return 1 / sqrtf(x);
}

static inline float __fdividef(float a, float b)
{
    return a / b;
}

template <typename T> static inline T __ldg(const T *from)
{
    return *from;
}

template <typename T> static inline T min(T a, T b)
{
    return a < b ? a : b;
}

template <typename T> static inline T max(T a, T b)
{
    return a > b ? a : b;
}

/* ---- atomics ---- */

static inline uint64_t cuda_double_sum(uint64_t old, uint64_t x)
{
    return old + x;
}

static inline uint64_t cuda_double_least(uint64_t old, uint64_t x)
{
    return x < old ? x : old;
}

static inline unsigned atomicAdd(unsigned *at, unsigned x)
{
    return static_cast<unsigned>(cuda_double_atomic(at, sizeof *at, x, cuda_double_sum));
}

static inline unsigned long long atomicMin(unsigned long long *at, unsigned long long x)
{
    return cuda_double_atomic(at, sizeof *at, x, cuda_double_least);
}

/* ---- launches ---- */

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
    void *attrs;
    unsigned numAttrs;
};

template <typename... P> struct cuda_double_closure {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void thread(void *self)
    {
        auto *c = static_cast<cuda_double_closure *>(self);
        auto arguments = c->arguments; /* a thread's own, on its stack */
        std::apply(c->kernel, arguments);
    }
};

template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                               A &&...arguments)
{
    using closure = cuda_double_closure<P...>;
    void *room = malloc(sizeof(closure));
    new (room) closure{kernel, std::tuple<P...>(static_cast<P>(arguments)...)};
    cuda_double_kernel k = {};
    k.thread = closure::thread;
    k.closure = room;
    k.closure_bytes = sizeof(closure);
    k.function = reinterpret_cast<const void *>(kernel);
    k.grid = {config->gridDim.x, config->gridDim.y, config->gridDim.z};
    k.block = {config->blockDim.x, config->blockDim.y, config->blockDim.z};
    k.shared_bytes = config->dynamicSmemBytes;
    return cuda_double_launch(config->stream, &k);
}

template <typename F> cudaError_t cudaFuncSetAttribute(F *f, cudaFuncAttribute attr, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(f), attr, value);
}

#endif
