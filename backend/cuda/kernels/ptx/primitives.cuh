/* primitives.cuh: what the kernels take from the GPU beyond CUDA C++. The tests' double of the
 * runtime has a file of the same name with plain bodies.
 *
 * A warp's fragments, lane = 4 g + t. Source: PTX ISA 8.0, sections 9.7.13.4.8 (mma.m16n8k16) and
 * 9.7.13.4.15 (ldmatrix).
 *     a [16][16]: a[0] at (g, 2t) and (g, 2t + 1), a[1] 8 rows below, a[2] 8 columns on, a[3] both
 *     b [16][8]:  b[0] at (2t, g) and (2t + 1, g), b[1] 8 rows below
 *     d [16][8]:  d[0], d[1] at (g, 2t), (g, 2t + 1); d[2], d[3] 8 rows below */
#ifndef TDM_CUDA_PRIMITIVES_CUH
#define TDM_CUDA_PRIMITIVES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdint.h>

extern __shared__ __align__(16) unsigned char tdm_block_bytes[];

/* The block's shared memory, of the size that the launch gave. */
template <typename T> __device__ __forceinline__ T *shared_memory()
{
    return reinterpret_cast<T *>(tdm_block_bytes);
}

/* The bytes there as a P, to be accessed at once: the address is a multiple of P's alignment. */
template <typename P> __device__ __forceinline__ P *access_as(void *at)
{
    return static_cast<P *>(at);
}

template <typename P> __device__ __forceinline__ const P *access_as(const void *at)
{
    return static_cast<const P *>(at);
}

/* To the device's memory, at once: compilers split the store of a struct that was put together from
 * numbers. The address is a multiple of what is stored. */
__device__ __forceinline__ void store_words(void *to, const float (&x)[4])
{
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                 : "memory");
}

__device__ __forceinline__ void store_words(void *to, const uint32_t (&x)[4])
{
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3])
                 : "memory");
}

__device__ __forceinline__ void store_words(void *to, const uint32_t (&x)[2])
{
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(x[0]),
                 "r"(x[1])
                 : "memory");
}

/* Two numbers of 16 bits, the first in the low half. */
__device__ __forceinline__ uint32_t pair_of(float low, float high, __nv_bfloat16)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

__device__ __forceinline__ uint32_t pair_of(float low, float high, __half)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

/* d += a b, in fp32. */
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], __nv_bfloat16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2], __half)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit numbers from shared memory; lane l gives the address of row l % 8 of
 * matrix l / 8, and gets of each matrix (g, 2t) and (g, 2t + 1). */
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *row)
{
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* The same of the transposed matrices: (2t, g) and (2t + 1, g). */
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void *row)
{
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* 16 bytes to shared memory, later; zeros when `there` is false. */
__device__ __forceinline__ void copy_16_later(void *to, const void *from, bool there)
{
    uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

/* Closes a group of copies. */
__device__ __forceinline__ void commit_copies()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until all but the N newest groups of this thread have arrived; others need a barrier after it. */
template <int N> __device__ __forceinline__ void wait_copies()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
