/* head_norm.cu: norms of each head's query and key: rows of one head, a warp for each. */
#include "partials.cuh"

constexpr unsigned MOST_WARPS = 8;

struct head_rows {
    uint64_t columns, tokens, heads_q, heads, size; /* heads: of queries and keys */
    float epsilon;
    bool layer;
};

struct head_moments {
    float mean, scale;
};

template <typename T, int N>
static __device__ head_moments moments_of(const head_rows &h, const T *x)
{
    unsigned lane = threadIdx.x % WARP;
    float sum = 0, squares = 0, n = static_cast<float>(h.size), v[N];
    for (uint64_t c = lane * N; h.layer && c < h.size; c += WARP * N) {
        load<T, N>(x + c, v);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum += v[i];
    }
    float mean = h.layer ? warp_sum(sum) / n : 0;
    for (uint64_t c = lane * N; c < h.size; c += WARP * N) {
        load<T, N>(x + c, v);
#pragma unroll
        for (int i = 0; i < N; i++)
            squares += (v[i] - mean) * (v[i] - mean);
    }
    return {mean, rsqrtf(warp_sum(squares) / n + h.epsilon)};
}

template <typename T, int N>
__global__ void head_norm_kernel(head_rows h, const T *x, const T *q_weight, const T *k_weight,
                                 T *y)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t r = grid_thread() / WARP; r < h.tokens * h.heads; r += grid_threads() / WARP) {
        uint64_t head = r % h.heads;
        const T *row = x + r / h.heads * h.columns + head * h.size;
        const T *weight = head < h.heads_q ? q_weight : k_weight;
        head_moments m = moments_of<T, N>(h, row);
        for (uint64_t c = lane * N; c < h.size; c += WARP * N) {
            float v[N], w[N], shift[N] = {};
            load<T, N>(row + c, v);
            load<T, N>(weight + c, w);
            if (h.layer)
                load<T, N>(weight + h.size + c, shift);
#pragma unroll
            for (int i = 0; i < N; i++)
                v[i] = (v[i] - m.mean) * m.scale * w[i] + shift[i];
            store<T, N>(y + r * h.size + c, v);
        }
    }
}

/* Like by_width, for rows of a head within rows of all columns. */
template <typename F, typename... P>
static cudaError_t by_head_width(tdm_cuda_type type, const head_rows &h, F f, P... pointers)
{
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        if (aligned(16, (h.size | h.columns) * sizeof(T), pointers...))
            return f(zero, constant<WIDE<T>>());
        return f(zero, constant<1>());
    });
}

cudaError_t tdm_cuda_head_norm(cudaStream_t stream, tdm_cuda_type type, bool layer, float epsilon,
                               const void *x, uint64_t columns, const void *q_weight,
                               const void *k_weight, uint64_t tokens, uint64_t heads_q,
                               uint64_t heads_k, uint64_t size, void *y)
{
    head_rows h = {columns, tokens, heads_q, heads_q + heads_k, size, epsilon, layer};
    return by_head_width(
        type, h,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(tokens * h.heads * WARP), THREADS, 0,
                          head_norm_kernel<T, N>, h, static_cast<const T *>(x),
                          static_cast<const T *>(q_weight), static_cast<const T *>(k_weight),
                          static_cast<T *>(y));
        },
        x, q_weight, k_weight, y);
}

/* ---- backward ---- */

/* One row; its part of the weight's gradient goes to the warp's sums. */
template <typename T, int N>
static __device__ void head_backward(const head_rows &h, const T *x, const T *weight, T *d,
                                     float *sums)
{
    unsigned lane = threadIdx.x % WARP;
    head_moments m = moments_of<T, N>(h, x);
    float sum = 0, product = 0, n = static_cast<float>(h.size), v[N], g[N], w[N];
    for (uint64_t c = lane * N; c < h.size; c += WARP * N) {
        load<T, N>(x + c, v);
        load<T, N>(d + c, g);
        load<T, N>(weight + c, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum += g[i] * w[i];
            product += g[i] * w[i] * (v[i] - m.mean) * m.scale;
        }
    }
    sum = h.layer ? warp_sum(sum) / n : 0;
    product = warp_sum(product) / n;
    for (uint64_t c = lane * N; c < h.size; c += WARP * N) {
        load<T, N>(x + c, v);
        load<T, N>(d + c, g);
        load<T, N>(weight + c, w);
        float gain[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            float normed = (v[i] - m.mean) * m.scale;
            gain[i] = g[i] * normed;
            v[i] = m.scale * (g[i] * w[i] - sum - normed * product);
        }
        add_near<N>(sums + c, gain);
        if (h.layer)
            add_near<N>(sums + h.size + c, g);
        store<T, N>(d + c, v);
    }
}

/* partial [blocks][query, key][gains, shifts][size]. */
template <typename T, int N>
__global__ void head_norm_backward_kernel(head_rows h, const T *x, const T *q_weight,
                                          const T *k_weight, T *d, float *partial)
{
    uint64_t n_sums = 2 * (h.layer ? 2 : 1) * h.size;
    unsigned warp = threadIdx.x / WARP, n_warps = blockDim.x / WARP;
    float *all = shared_memory<float>(), *sums = all + warp * n_sums; /* [warps][n_sums] */
    for (uint64_t i = threadIdx.x; i < n_warps * n_sums; i += blockDim.x)
        all[i] = 0;
    __syncthreads();
    for (uint64_t r = grid_thread() / WARP; r < h.tokens * h.heads; r += grid_threads() / WARP) {
        uint64_t head = r % h.heads, at = r / h.heads * h.columns + head * h.size;
        bool query = head < h.heads_q;
        head_backward<T, N>(h, x + at, query ? q_weight : k_weight, d + at,
                            sums + (query ? 0 : n_sums / 2));
    }
    __syncthreads();
    for (uint64_t i = threadIdx.x; i < n_sums; i += blockDim.x) {
        float sum = 0;
        for (unsigned w = 0; w < n_warps; w++)
            sum += all[w * n_sums + i];
        partial[blockIdx.x * n_sums + i] = sum;
    }
}

cudaError_t tdm_cuda_head_norm_backward(cudaStream_t stream, tdm_cuda_type type,
                                        tdm_cuda_type gradient_type, bool layer, float epsilon,
                                        const void *x, uint64_t columns, const void *q_weight,
                                        const void *k_weight, uint64_t tokens, uint64_t heads_q,
                                        uint64_t heads_k, uint64_t size, void *d, void *q_gradient,
                                        void *k_gradient, void *workspace)
{
    constexpr size_t MOST_SHARED = 48 * 1024;
    head_rows h = {columns, tokens, heads_q, heads_q + heads_k, size, epsilon, layer};
    uint64_t n_sums = 2 * (layer ? 2 : 1) * size, rows = tokens * h.heads;
    unsigned warps = MOST_WARPS;
    while (warps > 1 && warps * n_sums * sizeof(float) > MOST_SHARED)
        warps /= 2;
    uint64_t blocks = at_most(ceil_div(rows, warps), PARTIAL_BLOCKS);
    float *partial = static_cast<float *>(workspace);
    cudaError_t error = by_head_width(
        type, h,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(blocks), warps * WARP, warps * n_sums * sizeof(float),
                          head_norm_backward_kernel<T, N>, h, static_cast<const T *>(x),
                          static_cast<const T *>(q_weight), static_cast<const T *>(k_weight),
                          static_cast<T *>(d), partial);
        },
        x, q_weight, k_weight, d);
    if (error == cudaSuccess)
        error = add_partials(stream, partial, blocks, n_sums, n_sums / 2, blocks > 0, 0,
                             {q_gradient, gradient_type});
    if (error == cudaSuccess)
        error = add_partials(stream, partial + n_sums / 2, blocks, n_sums, n_sums / 2, blocks > 0,
                             0, {k_gradient, gradient_type});
    return error;
}

size_t tdm_cuda_head_norm_backward_workspace(uint64_t size)
{
    return PARTIAL_BLOCKS * 4 * size * sizeof(float);
}
