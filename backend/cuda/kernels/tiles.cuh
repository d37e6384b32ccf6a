/* tiles.cuh: matrices of 16-bit numbers in shared memory, and their products by a warp on tensor
 * cores. A tile has rows of D numbers, in chunks of 16 bytes that are permuted within the row so
 * that eight rows' chunks of one column lie in different banks. */
#ifndef TDM_CUDA_TILES_CUH
#define TDM_CUDA_TILES_CUH

#include "common.cuh"

constexpr int CHUNK = 8; /* numbers of 16 bytes */

template <typename T, int D> __device__ __forceinline__ T *chunk_at(T *tile, int row, int chunk)
{
    return tile + row * D + (chunk ^ (row & 7)) * CHUNK;
}

/* Rows [first, first + ROWS) of a matrix of s, those behind it zero, to arrive later. */
template <int ROWS, typename T, int D>
__device__ __forceinline__ void load_tile(T *tile, const T *from, uint64_t step, uint64_t first,
                                          uint64_t s)
{
    constexpr int CHUNKS = D / CHUNK;
    for (int i = static_cast<int>(threadIdx.x); i < ROWS * CHUNKS;
         i += static_cast<int>(blockDim.x)) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        bool there = first + static_cast<uint64_t>(row) < s;
        const T *at = from + (there ? first + static_cast<uint64_t>(row) : 0) * step +
                      static_cast<uint64_t>(chunk) * CHUNK;
        copy_16_later(chunk_at<T, D>(tile, row, chunk), at, there);
    }
}

/* A warp's product of 16 rows of a, from `row` on, with the rows of b: out[n] are the columns of
 * rows 8n to 8n + 7 of b. */
template <typename T, int D, int N>
__device__ __forceinline__ void by_rows(float (&out)[N][4], T *a, int row, T *b)
{
    int lane = static_cast<int>(threadIdx.x % WARP);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        uint32_t of_a[4];
        load_matrices(of_a, chunk_at<T, D>(a, row + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int n = 0; n < N / 2; n++) {
            uint32_t of_b[4];
            load_matrices(
                of_b, chunk_at<T, D>(b, 16 * n + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            const uint32_t left[2] = {of_b[0], of_b[1]}, right[2] = {of_b[2], of_b[3]};
            mma_16x8x16(out[2 * n], of_a, left, T());
            mma_16x8x16(out[2 * n + 1], of_a, right, T());
        }
    }
}

/* out += p b: p a warp's 16 rows with the N x 8 columns that by_rows gives, b with a row for each.
 */
template <typename T, int D, int N>
__device__ __forceinline__ void by_columns(float (&out)[D / 8][4], const float (&p)[N][4], T *b)
{
    int lane = static_cast<int>(threadIdx.x % WARP);
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
        const uint32_t of_p[4] = {pair_of(p[2 * k][0], p[2 * k][1], T()),
                                  pair_of(p[2 * k][2], p[2 * k][3], T()),
                                  pair_of(p[2 * k + 1][0], p[2 * k + 1][1], T()),
                                  pair_of(p[2 * k + 1][2], p[2 * k + 1][3], T())};
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t of_b[4];
            load_matrices_transposed(of_b,
                                     chunk_at<T, D>(b, 16 * k + lane % 16, 2 * n + lane / 16));
            const uint32_t left[2] = {of_b[0], of_b[1]}, right[2] = {of_b[2], of_b[3]};
            mma_16x8x16(out[2 * n], of_p, left, T());
            mma_16x8x16(out[2 * n + 1], of_p, right, T());
        }
    }
}

/* A warp's 16 rows times two factors, for rows g and g + 8, by way of its rows of a tile to rows of
 * a matrix of s, of which the first is `first`. */
template <typename T, int D>
__device__ __forceinline__ void store_rows(const float (&x)[D / 8][4], float upper, float lower,
                                           T *tile, int row, T *to, uint64_t step, uint64_t first,
                                           uint64_t s)
{
    int lane = static_cast<int>(threadIdx.x % WARP), g = lane / 4, t = lane % 4;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        uint32_t *high = reinterpret_cast<uint32_t *>(chunk_at<T, D>(tile, row + g, n));
        uint32_t *low = reinterpret_cast<uint32_t *>(chunk_at<T, D>(tile, row + g + 8, n));
        high[t] = pair_of(upper * x[n][0], upper * x[n][1], T());
        low[t] = pair_of(lower * x[n][2], lower * x[n][3], T());
    }
    __syncwarp();
    for (int i = lane; i < 16 * (D / CHUNK); i += static_cast<int>(WARP)) {
        int r = i / (D / CHUNK), chunk = i % (D / CHUNK);
        if (first + static_cast<uint64_t>(r) < s)
            *access_as<uint4>(to + (first + static_cast<uint64_t>(r)) * step +
                              static_cast<uint64_t>(chunk) * CHUNK) =
                *access_as<uint4>(chunk_at<T, D>(tile, row + r, chunk));
    }
}

/* Over the four lanes that share a row. */
__device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

#endif
