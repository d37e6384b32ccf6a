/* primitives.cuh of the tests' double: what backend/cuda/kernels/ptx/primitives.cuh has in PTX,
 * with plain bodies. What a fragment holds is written down there. */
#ifndef TDM_CUDA_PRIMITIVES_CUH
#define TDM_CUDA_PRIMITIVES_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdint.h>

template <typename T> T *shared_memory()
{
    return reinterpret_cast<T *>(cuda_double_here()->shared);
}

namespace cuda_double
{

template <typename T> float half_of(uint32_t pair, int which)
{
    T x;
    x.bits = static_cast<uint16_t>(pair >> (16 * which));
    return float(x);
}

template <typename T> struct product {
    const uint32_t *a, *b;
    float *d;

    static void resolve(void *const *arguments, uint32_t)
    {
        float a[16][16], b[16][8];
        for (int l = 0; l < 32; l++) {
            const product *p = static_cast<const product *>(arguments[l]);
            int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++)
                for (int w = 0; w < 2; w++)
                    a[g + i % 2 * 8][2 * t + w + i / 2 * 8] = half_of<T>(p->a[i], w);
            for (int i = 0; i < 2; i++)
                for (int w = 0; w < 2; w++)
                    b[2 * t + w + i * 8][g] = half_of<T>(p->b[i], w);
        }
        for (int l = 0; l < 32; l++) {
            const product *p = static_cast<const product *>(arguments[l]);
            int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++) {
                int row = g + i / 2 * 8, column = 2 * t + i % 2;
                for (int k = 0; k < 16; k++)
                    p->d[i] += a[row][k] * b[k][column];
            }
        }
    }
};

struct matrices {
    const uint16_t *row;
    uint32_t *r;
    bool transposed;

    static uint16_t at(void *const *arguments, int matrix, int row, int column)
    {
        return static_cast<const matrices *>(arguments[8 * matrix + row])->row[column];
    }

    static void resolve(void *const *arguments, uint32_t)
    {
        for (int l = 0; l < 32; l++) {
            const matrices *m = static_cast<const matrices *>(arguments[l]);
            int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++) {
                uint32_t low =
                    m->transposed ? at(arguments, i, 2 * t, g) : at(arguments, i, g, 2 * t);
                uint32_t high =
                    m->transposed ? at(arguments, i, 2 * t + 1, g) : at(arguments, i, g, 2 * t + 1);
                m->r[i] = low | high << 16;
            }
        }
    }
};

static inline void load(uint32_t (&r)[4], const void *row, bool transposed)
{
    uint32_t out[4];
    uint16_t copy[8];
    cuda_double_aligned(row, 16);
    const uint16_t *from = static_cast<const uint16_t *>(row);
    for (int i = 0; i < 8; i++)
        copy[i] = from[i];
    matrices m = {copy, out, transposed};
    cuda_double_warp(0xFFFFFFFFu, &m, matrices::resolve);
    for (int i = 0; i < 4; i++)
        r[i] = out[i];
}

} // namespace cuda_double

template <typename P> P *access_as(void *at)
{
    cuda_double_aligned(at, alignof(P));
    return static_cast<P *>(at);
}

template <typename P> const P *access_as(const void *at)
{
    cuda_double_aligned(at, alignof(P));
    return static_cast<const P *>(at);
}

template <typename W, int N> void store_words(void *to, const W (&x)[N])
{
    cuda_double_aligned(to, sizeof x);
    for (int i = 0; i < N; i++)
        static_cast<W *>(to)[i] = x[i];
}

template <typename T> uint32_t pair_of(float low, float high, T)
{
    return T(low).bits | static_cast<uint32_t>(T(high).bits) << 16;
}

template <typename T>
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T)
{
    uint32_t a_[4] = {a[0], a[1], a[2], a[3]}, b_[2] = {b[0], b[1]};
    cuda_double::product<T> p = {a_, b_, d};
    cuda_double_warp(0xFFFFFFFFu, &p, cuda_double::product<T>::resolve);
}

static inline void load_matrices(uint32_t (&r)[4], const void *row)
{
    cuda_double::load(r, row, false);
}

static inline void load_matrices_transposed(uint32_t (&r)[4], const void *row)
{
    cuda_double::load(r, row, true);
}

static inline void copy_16_later(void *to, const void *from, bool there)
{
    cuda_double_aligned(to, 16);
    cuda_double_aligned(from, 16);
    cuda_double_copy_later(to, from, there);
}

static inline void commit_copies()
{
    cuda_double_commit();
}

template <int N> void wait_copies()
{
    cuda_double_arrive(N);
}

#endif
