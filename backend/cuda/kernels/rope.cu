/* rope.cu: rotary positions. Element i of a head's first half turns with element i of its second.
 * Source: Su et al. 2021, RoFormer, section 3.2.2; halves as in Llama and GPT-NeoX. */
#include "common.cuh"

static __global__ void table_kernel(uint64_t s, uint64_t half, double base, float *table)
{
    for (uint64_t at = grid_thread(); at < s * half; at += grid_threads()) {
        double exponent = -static_cast<double>(at % half) / static_cast<double>(half);
        double angle = static_cast<double>(at / half) * pow(base, exponent);
        table[2 * at] = static_cast<float>(cos(angle));
        table[2 * at + 1] = static_cast<float>(sin(angle));
    }
}

cudaError_t tdm_cuda_rope_table(cudaStream_t stream, uint64_t s, uint64_t size, double base,
                                float *table)
{
    return launch(stream, strided(s * (size / 2)), THREADS, 0, table_kernel, s, size / 2, base,
                  table);
}

/* A block for a token. */
template <typename T, int N>
__global__ void rope_kernel(const float *table, float sign, uint64_t s, uint64_t heads,
                            uint64_t half, uint64_t columns, T *x)
{
    const float *turns = table + blockIdx.x % s * half * 2;
    T *row = x + blockIdx.x * columns;
    for (uint64_t at = threadIdx.x * N; at < heads * half; at += blockDim.x * N) {
        uint64_t i = at % half;
        T *first = row + at / half * 2 * half + i;
        float a[N], b[N], turn[2 * N];
        load<T, N>(first, a);
        load<T, N>(first + half, b);
        load<float, 2 * N>(turns + 2 * i, turn);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float cosine = turn[2 * k], sine = sign * turn[2 * k + 1], before = a[k];
            a[k] = before * cosine - b[k] * sine;
            b[k] = b[k] * cosine + before * sine;
        }
        store<T, N>(first, a);
        store<T, N>(first + half, b);
    }
}

cudaError_t tdm_cuda_rope(cudaStream_t stream, tdm_cuda_type type, const float *table, bool back,
                          uint64_t s, uint64_t tokens, uint64_t heads, uint64_t size,
                          uint64_t columns, void *x)
{
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = WIDE<T>;
        bool wide = aligned(16, (size / 2 | columns) * sizeof(T), x, table);
        uint64_t pieces = heads * (size / 2) / (wide ? N : 1);
        return launch(stream, blocks_of(tokens), threads_for(pieces, THREADS), 0,
                      wide ? rope_kernel<T, N> : rope_kernel<T, 1>, table, back ? -1.0F : 1.0F, s,
                      heads, size / 2, columns, static_cast<T *>(x));
    });
}
