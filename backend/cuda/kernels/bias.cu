/* bias.cu: biases of linear layers, and their gradients: sums of rows, of all or of each expert's.
 */
#include "partials.cuh"
#include "scan.cuh"

/* ---- forward ---- */

/* Y: type of the rows, B: of the bias. */
template <typename Y, typename B, int N>
__global__ void bias_kernel(const B *bias, const uint32_t *counts, uint32_t n_groups, uint64_t rows,
                            uint64_t columns, Y *y)
{
    uint32_t *room = shared_memory<uint32_t>(), *begins = room + WARP;
    for (uint32_t g = threadIdx.x; counts && g < n_groups; g += blockDim.x)
        begins[g] = counts[g];
    __syncthreads();
    if (counts)
        block_scan(begins, n_groups, room);
    for (uint64_t at = grid_thread() * N; at < rows * columns; at += grid_threads() * N) {
        uint64_t group = counts ? group_of(begins, n_groups, at / columns) : 0;
        float x[N], b[N];
        load<Y, N>(y + at, x);
        load<B, N>(bias + group * columns + at % columns, b);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] += b[i];
        store<Y, N>(y + at, x);
    }
}

cudaError_t tdm_cuda_bias(cudaStream_t stream, tdm_cuda_type type, const void *bias,
                          const uint32_t *counts, uint32_t n_groups, uint64_t rows,
                          uint64_t columns, void *y)
{
    size_t shared = (WARP + static_cast<size_t>(counts ? n_groups : 0)) * sizeof(uint32_t);
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(rows * columns / N), THREADS, shared,
                          bias_kernel<T, T, N>, static_cast<const T *>(bias), counts, n_groups,
                          rows, columns, static_cast<T *>(y));
        },
        bias, y);
}

cudaError_t tdm_cuda_bias_fp32(cudaStream_t stream, tdm_cuda_type type, const void *bias,
                               uint64_t rows, uint64_t columns, float *y)
{
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        return launch(stream, strided(rows * columns), THREADS, WARP * sizeof(uint32_t),
                      bias_kernel<float, T, 1>, static_cast<const T *>(bias), nullptr, 1u, rows,
                      columns, y);
    });
}

/* ---- backward ---- */

/* Runs into which the rows of a group are cut, so that all groups together fill the GPU. */
static uint64_t runs_of(uint64_t n_groups)
{
    constexpr uint64_t RUNS = 64;
    return n_groups < RUNS ? RUNS / n_groups : 1;
}

/* Block (x, y, z): N columns for each lane, a run of rows, a group; partial
 * [groups][runs][columns].
 */
template <typename T, int N>
__global__ void bias_backward_kernel(const T *dy, const uint32_t *counts, uint64_t rows,
                                     uint64_t columns, float *partial)
{
    float *room = shared_memory<float>(); /* [warps][WARP N] */
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n_warps = blockDim.x / WARP;
    uint64_t first = 0, n = rows, column = (static_cast<uint64_t>(blockIdx.x) * WARP + lane) * N;
    for (unsigned g = 0; counts && g < blockIdx.z; g++)
        first += counts[g];
    if (counts)
        n = counts[blockIdx.z];
    uint64_t run = (n + gridDim.y - 1) / gridDim.y, from = blockIdx.y * run,
             to = from + run < n ? from + run : n;
    float sum[N] = {}, x[N];
    for (uint64_t r = from + warp; column < columns && r < to; r += n_warps) {
        load<T, N>(dy + (first + r) * columns + column, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] += x[i];
    }
    store_near<N>(room + (warp * WARP + lane) * N, sum);
    __syncthreads();
    if (warp > 0 || column >= columns)
        return;
    for (unsigned w = 1; w < n_warps; w++) {
        load<float, N>(room + (w * WARP + lane) * N, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum[i] += x[i];
    }
    uint64_t group_and_run = static_cast<uint64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
    store<float, N>(partial + group_and_run * columns + column, sum);
}

cudaError_t tdm_cuda_bias_backward(cudaStream_t stream, tdm_cuda_type type,
                                   tdm_cuda_type gradient_type, const void *dy,
                                   const uint32_t *counts, uint32_t n_groups, uint64_t rows,
                                   uint64_t columns, void *gradient, void *workspace)
{
    uint64_t runs = runs_of(n_groups);
    float *partial = static_cast<float *>(workspace);
    if (rows == 0)
        return cudaSuccess;
    cudaError_t error = by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(ceil_div(columns, WARP * N), runs, n_groups), THREADS,
                          THREADS * N * sizeof(float), bias_backward_kernel<T, N>,
                          static_cast<const T *>(dy), counts, rows, columns, partial);
        },
        dy);
    if (error != cudaSuccess)
        return error;
    return add_partials(stream, partial, runs, columns, columns, n_groups, runs * columns,
                        {gradient, gradient_type});
}

size_t tdm_cuda_bias_backward_workspace(uint32_t n_groups, uint64_t columns)
{
    return n_groups * runs_of(n_groups) * columns * sizeof(float);
}
