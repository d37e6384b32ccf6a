/* norm.cu: layer norm and RMS norm of rows.
 * Source: Ba et al. 2016, Layer Normalization, eq. 4; Zhang and Sennrich 2019, RMSNorm, eq. 4. */
#include "partials.cuh"

constexpr unsigned ROW_THREADS = 512;

struct moments {
    float mean, scale; /* 0 for RMS norm; 1 / deviation */
};

template <typename T, int N>
static __device__ float row_sum(const T *x, uint64_t columns, float *room)
{
    float sum = 0, v[N];
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        load<T, N>(x + c, v);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum += v[i];
    }
    return block_sum(sum, room);
}

/* A block for a row. The row is read again rather than kept: it is in the first cache. */
template <typename T, int N>
__global__ void norm_kernel(bool layer, float epsilon, const T *x, const T *weight, uint64_t rows,
                            uint64_t columns, T *y)
{
    float *room = shared_memory<float>(), n = static_cast<float>(columns);
    for (uint64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        const T *row = x + r * columns;
        float mean = layer ? row_sum<T, N>(row, columns, room) / n : 0, squares = 0, v[N], w[N];
        for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
            load<T, N>(row + c, v);
#pragma unroll
            for (int i = 0; i < N; i++)
                squares += (v[i] - mean) * (v[i] - mean);
        }
        float scale = rsqrtf(block_sum(squares, room) / n + epsilon);
        for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
            load<T, N>(row + c, v);
            load<T, N>(weight + c, w);
#pragma unroll
            for (int i = 0; i < N; i++)
                v[i] = (v[i] - mean) * scale * w[i];
            if (layer) {
                load<T, N>(weight + columns + c, w);
#pragma unroll
                for (int i = 0; i < N; i++)
                    v[i] += w[i];
            }
            store<T, N>(y + r * columns + c, v);
        }
    }
}

cudaError_t tdm_cuda_norm(cudaStream_t stream, tdm_cuda_type type, bool layer, float epsilon,
                          const void *x, const void *weight, uint64_t rows, uint64_t columns,
                          void *y)
{
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(rows), threads_for(columns / N, ROW_THREADS),
                          WARP * sizeof(float), norm_kernel<T, N>, layer, epsilon,
                          static_cast<const T *>(x), static_cast<const T *>(weight), rows, columns,
                          static_cast<T *>(y));
        },
        x, weight, y);
}

/* ---- backward ---- */

/* What the gradient of a row needs: mean of g = dy gain, and of g times the normed row. */
struct row_means {
    moments m;
    float g, product;
};

template <typename T, int N>
static __device__ row_means means_of(bool layer, float epsilon, const T *dy, const T *x,
                                     const T *weight, uint64_t columns, float *room)
{
    float n = static_cast<float>(columns);
    float mean = layer ? row_sum<T, N>(x, columns, room) / n : 0;
    float squares = 0, sum = 0, product = 0, v[N], d[N], w[N];
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        load<T, N>(x + c, v);
        load<T, N>(dy + c, d);
        load<T, N>(weight + c, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float centred = v[i] - mean, g = d[i] * w[i];
            squares += centred * centred;
            sum += g;
            product += g * centred;
        }
    }
    float scale = rsqrtf(block_sum(squares, room) / n + epsilon);
    product = block_sum(product, room) * scale / n;
    sum = layer ? block_sum(sum, room) / n : 0;
    return {{mean, scale}, sum, product};
}

/* Blocks share out the rows. A thread has the same columns of each, and the sums of those for the
 * gradient of the weight. */
template <typename T, int N>
__global__ void norm_backward_kernel(bool layer, float epsilon, const T *dy, const T *x,
                                     const T *beside, const T *weight, uint64_t rows,
                                     uint64_t columns, T *dx, float *partial, bool in_shared)
{
    float *room = shared_memory<float>();
    uint64_t n_sums = (layer ? 2 : 1) * columns;
    float *mine = partial + blockIdx.x * n_sums, *sums = in_shared ? room + WARP : mine;
    const float zeros[N] = {};
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        store_near<N>(sums + c, zeros);
        if (layer)
            store_near<N>(sums + columns + c, zeros);
    }
    for (uint64_t r = blockIdx.x; r < rows; r += gridDim.x) {
        uint64_t at = r * columns;
        row_means means = means_of<T, N>(layer, epsilon, dy + at, x + at, weight, columns, room);
        for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
            float v[N], d[N], w[N], gain[N];
            load<T, N>(x + at + c, v);
            load<T, N>(dy + at + c, d);
            load<T, N>(weight + c, w);
#pragma unroll
            for (int i = 0; i < N; i++) {
                float normed = (v[i] - means.m.mean) * means.m.scale;
                gain[i] = d[i] * normed;
                v[i] = means.m.scale * (d[i] * w[i] - means.g - normed * means.product);
            }
            add_near<N>(sums + c, gain);
            if (layer)
                add_near<N>(sums + columns + c, d);
            if (beside) {
                load<T, N>(beside + at + c, w);
#pragma unroll
                for (int i = 0; i < N; i++)
                    v[i] += w[i];
            }
            store<T, N>(dx + at + c, v);
        }
    }
    float v[N];
    for (uint64_t c = threadIdx.x * N; in_shared && c < columns; c += blockDim.x * N) {
        load<float, N>(sums + c, v);
        store<float, N>(mine + c, v);
        if (!layer)
            continue;
        load<float, N>(sums + columns + c, v);
        store<float, N>(mine + columns + c, v);
    }
}

cudaError_t tdm_cuda_norm_backward(cudaStream_t stream, tdm_cuda_type type,
                                   tdm_cuda_type gradient_type, bool layer, float epsilon,
                                   const void *dy, const void *x, const void *beside,
                                   const void *weight, uint64_t rows, uint64_t columns, void *dx,
                                   void *gradient, void *workspace)
{
    constexpr size_t MOST_SHARED = 48 * 1024;
    uint64_t n_sums = (layer ? 2 : 1) * columns, blocks = at_most(rows, PARTIAL_BLOCKS);
    size_t shared = (WARP + n_sums) * sizeof(float);
    bool in_shared = shared <= MOST_SHARED;
    float *partial = static_cast<float *>(workspace);
    cudaError_t error = by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(blocks), threads_for(columns / N, ROW_THREADS),
                          in_shared ? shared : WARP * sizeof(float), norm_backward_kernel<T, N>,
                          layer, epsilon, static_cast<const T *>(dy), static_cast<const T *>(x),
                          static_cast<const T *>(beside), static_cast<const T *>(weight), rows,
                          columns, static_cast<T *>(dx), partial, in_shared);
        },
        dy, x, beside, weight, dx);
    if (error != cudaSuccess || blocks == 0)
        return error;
    return add_partials(stream, partial, blocks, n_sums, n_sums, 1, 0, {gradient, gradient_type});
}

size_t tdm_cuda_norm_backward_workspace(uint64_t columns)
{
    return PARTIAL_BLOCKS * 2 * columns * sizeof(float);
}
