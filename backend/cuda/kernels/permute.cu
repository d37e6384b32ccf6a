/* permute.cu: rows of tokens to their places by expert and back, a block for a token; and rows by
 * sender to rows by expert. */
#include "scan.cuh"

constexpr uint32_t DROPPED = UINT32_MAX;

template <typename T, int N>
__global__ void permute_kernel(const T *x, const uint32_t *places, uint32_t k, uint64_t columns,
                               T *rows)
{
    const uint32_t *mine = places + static_cast<uint64_t>(blockIdx.x) * k;
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        float v[N];
        load<T, N>(x + blockIdx.x * columns + c, v);
        for (uint32_t j = 0; j < k; j++)
            if (mine[j] != DROPPED)
                store<T, N>(rows + mine[j] * columns + c, v);
    }
}

/* Sums of a token's rows; probability NULL: each counts once. */
template <typename T, int N>
__global__ void gather_kernel(const T *rows, const uint32_t *places, const float *probability,
                              uint32_t k, uint64_t columns, T *y)
{
    uint64_t first = static_cast<uint64_t>(blockIdx.x) * k;
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        float sum[N] = {}, v[N];
        for (uint32_t j = 0; j < k; j++) {
            uint32_t place = places[first + j];
            if (place == DROPPED)
                continue;
            float p = probability ? probability[first + j] : 1;
            load<T, N>(rows + place * columns + c, v);
#pragma unroll
            for (int i = 0; i < N; i++)
                sum[i] += p * v[i];
        }
        store<T, N>(y + blockIdx.x * columns + c, sum);
    }
}

template <typename T, int N>
__global__ void unpermute_backward_kernel(const T *dy, const T *rows, const uint32_t *places,
                                          const float *probability, uint32_t k, uint64_t columns,
                                          float *dprobability, T *drows)
{
    for (uint32_t j = 0; j < k; j++) {
        uint64_t pair = static_cast<uint64_t>(blockIdx.x) * k + j, place = places[pair];
        float product = 0, p = probability[pair];
        for (uint64_t c = threadIdx.x * N; place != DROPPED && c < columns; c += blockDim.x * N) {
            float d[N], v[N];
            load<T, N>(dy + blockIdx.x * columns + c, d);
            load<T, N>(rows + place * columns + c, v);
#pragma unroll
            for (int i = 0; i < N; i++) {
                product += d[i] * v[i];
                d[i] *= p;
            }
            store<T, N>(drows + place * columns + c, d);
        }
        product = block_sum(product, shared_memory<float>());
        if (threadIdx.x == 0)
            dprobability[pair] = product;
    }
}

cudaError_t tdm_cuda_permute(cudaStream_t stream, tdm_cuda_type type, const void *x,
                             const uint32_t *places, uint64_t tokens, uint32_t k, uint64_t columns,
                             void *rows)
{
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(columns / N, THREADS), 0,
                          permute_kernel<T, N>, static_cast<const T *>(x), places, k, columns,
                          static_cast<T *>(rows));
        },
        x, rows);
}

cudaError_t tdm_cuda_unpermute(cudaStream_t stream, tdm_cuda_type type, const void *rows,
                               const uint32_t *places, const float *probability, uint64_t tokens,
                               uint32_t k, uint64_t columns, void *y)
{
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(columns / N, THREADS), 0,
                          gather_kernel<T, N>, static_cast<const T *>(rows), places, probability, k,
                          columns, static_cast<T *>(y));
        },
        rows, y);
}

cudaError_t tdm_cuda_permute_backward(cudaStream_t stream, tdm_cuda_type type, const void *drows,
                                      const uint32_t *places, uint64_t tokens, uint32_t k,
                                      uint64_t columns, void *dx)
{
    return tdm_cuda_unpermute(stream, type, drows, places, nullptr, tokens, k, columns, dx);
}

cudaError_t tdm_cuda_unpermute_backward(cudaStream_t stream, tdm_cuda_type type, const void *dy,
                                        const void *rows, const uint32_t *places,
                                        const float *probability, uint64_t tokens, uint32_t k,
                                        uint64_t columns, float *dprobability, void *drows)
{
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(columns / N, THREADS),
                          WARP * sizeof(float), unpermute_backward_kernel<T, N>,
                          static_cast<const T *>(dy), static_cast<const T *>(rows), places,
                          probability, k, columns, dprobability, static_cast<T *>(drows));
        },
        dy, rows, drows);
}

/* ---- by sender and by expert ---- */

/* A warp for a row, of those by expert. */
template <typename T, int N>
__global__ void sort_kernel(bool back, const T *in, const uint32_t *counts, uint64_t step,
                            uint32_t n_senders, uint32_t n_local, uint64_t rows, uint64_t columns,
                            T *out)
{
    uint32_t n = n_senders * n_local;
    uint32_t *room = shared_memory<uint32_t>(), *by_expert = room + WARP,
             *by_sender = by_expert + n;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        by_sender[i] = counts[i / n_local * step + i % n_local];
        by_expert[i] = counts[i % n_senders * step + i / n_senders];
    }
    __syncthreads();
    block_scan(by_sender, n, room);
    block_scan(by_expert, n, room);
    for (uint64_t row = grid_thread() / WARP; row < rows; row += grid_threads() / WARP) {
        uint32_t i = group_of(by_expert, n, row);
        uint64_t other = by_sender[i % n_senders * n_local + i / n_senders] + (row - by_expert[i]);
        const T *from = in + (back ? row : other) * columns;
        T *to = out + (back ? other : row) * columns;
        for (uint64_t c = threadIdx.x % WARP * N; c < columns; c += WARP * N) {
            float v[N];
            load<T, N>(from + c, v);
            store<T, N>(to + c, v);
        }
    }
}

cudaError_t tdm_cuda_sort(cudaStream_t stream, tdm_cuda_type type, bool back, const void *in,
                          const uint32_t *counts, uint64_t step, uint32_t n_senders,
                          uint32_t n_local, uint64_t rows, uint64_t columns, void *out)
{
    constexpr uint64_t MOST = 1024; /* each scans the counts */
    uint64_t blocks = at_most(ceil_div(rows * WARP, THREADS), MOST);
    size_t shared = (WARP + 2 * static_cast<size_t>(n_senders) * n_local) * sizeof(uint32_t);
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(blocks), THREADS, shared, sort_kernel<T, N>, back,
                          static_cast<const T *>(in), counts, step, n_senders, n_local, rows,
                          columns, static_cast<T *>(out));
        },
        in, out);
}
