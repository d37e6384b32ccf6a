/* loss.cu: cross-entropy over a vocabulary that is shared out over TP: what lies between its
 * collectives. A block for a token. Source: Megatron Core's vocab_parallel_cross_entropy. */
#include "common.cuh"

constexpr unsigned ROW_THREADS = 512;
constexpr uint64_t NOT_HERE = UINT64_MAX;

/* Where a token's target lies in this rank's words. */
struct targets {
    const int32_t *words;
    uint64_t s, first, n;
    __device__ uint64_t operator()(uint64_t token) const
    {
        uint64_t word = static_cast<uint64_t>(words[token / s * (s + 1) + token % s + 1]);
        return word >= first && word < first + n ? word - first : NOT_HERE;
    }
};

template <int N> __global__ void loss_max_kernel(const float *logits, uint64_t n, float *max)
{
    const float *row = logits + blockIdx.x * n;
    float most = -INFINITY, x[N];
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        load<float, N>(row + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            most = fmaxf(most, x[i]);
    }
    most = block_max(most, shared_memory<float>());
    if (threadIdx.x == 0)
        max[blockIdx.x] = most;
}

/* Calls f with how many numbers an access of a row of fp32 may take. */
template <typename F, typename... P> static cudaError_t by_row(uint64_t n, F f, P... pointers)
{
    if (aligned(16, n * sizeof(float), pointers...))
        return f(constant<4>());
    return f(constant<1>());
}

cudaError_t tdm_cuda_loss_max(cudaStream_t stream, const float *logits, uint64_t tokens,
                              uint64_t n_words, float *max)
{
    return by_row(
        n_words,
        [&](auto width) {
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(n_words / N, ROW_THREADS),
                          WARP * sizeof(float), loss_max_kernel<N>, logits, n_words, max);
        },
        logits);
}

template <int N>
__global__ void loss_exp_kernel(const float *max, targets target_of, uint64_t n, float *logits,
                                float *sums)
{
    float *row = logits + blockIdx.x * n, most = max[blockIdx.x], sum = 0, x[N];
    uint64_t target = target_of(blockIdx.x);
    float at_target = target != NOT_HERE ? row[target] - most : 0;
    __syncthreads(); /* all have read the target's logit */
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        load<float, N>(row + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            sum += x[i] = __expf(x[i] - most);
        store<float, N>(row + c, x);
    }
    sum = block_sum(sum, shared_memory<float>());
    if (threadIdx.x == 0) {
        sums[2 * blockIdx.x] = sum;
        sums[2 * blockIdx.x + 1] = at_target;
    }
}

cudaError_t tdm_cuda_loss_exp(cudaStream_t stream, const float *max, const int32_t *words,
                              uint64_t s, uint64_t tokens, uint64_t first_word, uint64_t n_words,
                              float *logits, float *sums)
{
    return by_row(
        n_words,
        [&](auto width) {
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(n_words / N, ROW_THREADS),
                          WARP * sizeof(float), loss_exp_kernel<N>, max,
                          targets{words, s, first_word, n_words}, n_words, logits, sums);
        },
        logits);
}

template <int N> __global__ void divide_kernel(const float *sums, uint64_t n, float *logits)
{
    float *row = logits + blockIdx.x * n, factor = 1 / sums[2 * blockIdx.x], x[N];
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        load<float, N>(row + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] *= factor;
        store<float, N>(row + c, x);
    }
}

static __global__ void total_kernel(const float *sums, uint64_t tokens, double *loss)
{
    double *parts = shared_memory<double>(); /* [blockDim] */
    double sum = 0;
    for (uint64_t t = threadIdx.x; t < tokens; t += blockDim.x)
        sum += log(static_cast<double>(sums[2 * t])) - static_cast<double>(sums[2 * t + 1]);
    parts[threadIdx.x] = sum;
    for (unsigned n = blockDim.x / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n)
            parts[threadIdx.x] += parts[threadIdx.x + n];
    }
    if (threadIdx.x == 0)
        *loss += parts[0];
}

cudaError_t tdm_cuda_loss(cudaStream_t stream, const float *sums, uint64_t tokens, uint64_t n_words,
                          float *logits, double *loss)
{
    constexpr unsigned ALL = 1024;
    cudaError_t error = by_row(
        n_words,
        [&](auto width) {
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(n_words / N, ROW_THREADS), 0,
                          divide_kernel<N>, sums, n_words, logits);
        },
        logits);
    if (error != cudaSuccess || !loss)
        return error;
    return launch(stream, blocks_of(1), ALL, ALL * sizeof(double), total_kernel, sums, tokens,
                  loss);
}

template <typename T, int N>
__global__ void loss_backward_kernel(float scale, const float *softmax, targets target_of,
                                     uint64_t n, T *dlogits)
{
    uint64_t target = target_of(blockIdx.x);
    for (uint64_t c = threadIdx.x * N; c < n; c += blockDim.x * N) {
        float x[N];
        load<float, N>(softmax + blockIdx.x * n + c, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = scale * (x[i] - (c + i == target ? 1 : 0));
        store<T, N>(dlogits + blockIdx.x * n + c, x);
    }
}

cudaError_t tdm_cuda_loss_backward(cudaStream_t stream, tdm_cuda_type type, float scale,
                                   const float *softmax, const int32_t *words, uint64_t s,
                                   uint64_t tokens, uint64_t first_word, uint64_t n_words,
                                   void *dlogits)
{
    return by_width(
        type, n_words,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(n_words / N, ROW_THREADS), 0,
                          loss_backward_kernel<T, N>, scale, softmax,
                          targets{words, s, first_word, n_words}, n_words,
                          static_cast<T *>(dlogits));
        },
        softmax, dlogits);
}
