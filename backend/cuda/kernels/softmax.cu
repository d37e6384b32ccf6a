/* softmax.cu: the softmax between the products of an attention that stores its scores. A block for
 * a row; row i of a sample and head has i + 1 scores. */
#include "partials.cuh"

template <typename T, int N>
__global__ void softmax_kernel(float scale, const T *scores, const T *sinks, uint64_t heads,
                               uint64_t s, T *weights)
{
    float *room = shared_memory<float>();
    uint64_t row = blockIdx.x, n = row % s + 1;
    const T *in = scores + row * s;
    T *out = weights + row * s;
    float most = -INFINITY, sum = 0, x[N];
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        float largest = most;
        load<T, N>(in + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            if (c + i < n)
                largest = fmaxf(largest, x[i] * scale);
        sum = largest > -INFINITY ? sum * __expf(most - largest) : 0;
        most = largest;
#pragma unroll
        for (int i = 0; i < N; i++)
            if (c + i < n)
                sum += __expf(x[i] * scale - most);
    }
    float sink = sinks ? float(sinks[row / s % heads]) : -INFINITY;
    float largest = fmaxf(block_max(most, room), sink);
    sum = block_sum(most > -INFINITY ? sum * __expf(most - largest) : 0, room);
    float factor = 1 / (sum + (sinks ? __expf(sink - largest) : 0));
    for (uint64_t c = threadIdx.x * N; c < s; c += blockDim.x * N) {
        if (c < n)
            load<T, N>(in + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = c + i < n ? __expf(x[i] * scale - largest) * factor : 0;
        store<T, N>(out + c, x);
    }
}

cudaError_t tdm_cuda_softmax(cudaStream_t stream, tdm_cuda_type type, float scale,
                             const void *scores, const void *sinks, uint64_t samples,
                             uint64_t heads, uint64_t s, void *weights)
{
    return by_width(
        type, s,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(samples * heads * s), threads_for(s / N, THREADS),
                          WARP * sizeof(float), softmax_kernel<T, N>, scale,
                          static_cast<const T *>(scores), static_cast<const T *>(sinks), heads, s,
                          static_cast<T *>(weights));
        },
        scores, weights);
}

/* rest [rows] (NULL: none): what a row's sink has of its gradient, subtracted. */
template <typename T, int N>
__global__ void softmax_backward_kernel(float scale, const T *weights, uint64_t s, T *d,
                                        float *rest)
{
    float *room = shared_memory<float>();
    uint64_t row = blockIdx.x, n = row % s + 1;
    const T *w = weights + row * s;
    T *inout = d + row * s;
    float mean = 0, sum = 0, x[N], y[N];
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        load<T, N>(w + c, x);
        load<T, N>(inout + c, y);
#pragma unroll
        for (int i = 0; i < N; i++)
            if (c + i < n) {
                mean += x[i] * y[i];
                sum += x[i];
            }
    }
    mean = block_sum(mean, room);
    if (rest) {
        sum = block_sum(sum, room);
        if (threadIdx.x == 0)
            rest[row] = -(1 - sum) * mean;
    }
    for (uint64_t c = threadIdx.x * N; c < s; c += blockDim.x * N) {
        if (c < n) {
            load<T, N>(w + c, x);
            load<T, N>(inout + c, y);
        }
#pragma unroll
        for (int i = 0; i < N; i++)
            y[i] = c + i < n ? scale * x[i] * (y[i] - mean) : 0;
        store<T, N>(inout + c, y);
    }
}

/* A block for a head: sums over samples and rows. */
static __global__ void sinks_kernel(const float *rest, uint64_t samples, uint64_t heads, uint64_t s,
                                    gradient_of gradient)
{
    float sum = 0;
    for (uint64_t i = threadIdx.x; i < samples * s; i += blockDim.x)
        sum += rest[(i / s * heads + blockIdx.x) * s + i % s];
    sum = block_sum(sum, shared_memory<float>());
    if (threadIdx.x == 0)
        add(gradient, blockIdx.x, sum);
}

cudaError_t add_sinks(cudaStream_t stream, const float *rest, uint64_t samples, uint64_t heads,
                      uint64_t s, gradient_of gradient)
{
    return launch(stream, blocks_of(samples * s > 0 ? heads : 0), threads_for(samples * s, THREADS),
                  WARP * sizeof(float), sinks_kernel, rest, samples, heads, s, gradient);
}

cudaError_t tdm_cuda_softmax_backward(cudaStream_t stream, tdm_cuda_type type,
                                      tdm_cuda_type gradient_type, float scale, const void *weights,
                                      uint64_t samples, uint64_t heads, uint64_t s, void *d,
                                      void *sinks_gradient, void *workspace)
{
    float *rest = sinks_gradient ? static_cast<float *>(workspace) : nullptr;
    cudaError_t error = by_width(
        type, s,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(samples * heads * s), threads_for(s / N, THREADS),
                          WARP * sizeof(float), softmax_backward_kernel<T, N>, scale,
                          static_cast<const T *>(weights), s, static_cast<T *>(d), rest);
        },
        weights, d);
    if (error != cudaSuccess || !rest)
        return error;
    return add_sinks(stream, rest, samples, heads, s, {sinks_gradient, gradient_type});
}

size_t tdm_cuda_softmax_backward_workspace(uint64_t samples, uint64_t heads, uint64_t s)
{
    return samples * heads * s * sizeof(float);
}
