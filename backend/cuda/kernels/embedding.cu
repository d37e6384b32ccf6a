/* embedding.cu: rows of words and of learned positions, and their gradients. */
#include "common.cuh"

/* A word's row in a rank's share; -1: another rank has it. */
struct word_rows {
    const int32_t *words;
    uint64_t s, first, n;
    __device__ int64_t operator()(uint64_t token) const
    {
        uint64_t word = static_cast<uint64_t>(words[token / s * (s + 1) + token % s]);
        return word >= first && word < first + n ? static_cast<int64_t>(word - first) : -1;
    }
};

/* ---- words ---- */

template <typename T, int N>
__global__ void lookup_kernel(word_rows rows, const T *table, uint64_t columns, T *out)
{
    int64_t row = rows(blockIdx.x);
    float x[N] = {};
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        if (row >= 0)
            load<T, N>(table + static_cast<uint64_t>(row) * columns + c, x);
        store<T, N>(out + blockIdx.x * columns + c, x);
    }
}

cudaError_t tdm_cuda_lookup(cudaStream_t stream, tdm_cuda_type type, const int32_t *words,
                            uint64_t s, uint64_t tokens, const void *table, uint64_t first_word,
                            uint64_t n_words, uint64_t columns, void *out)
{
    word_rows rows = {words, s, first_word, n_words};
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(columns / N, THREADS), 0,
                          lookup_kernel<T, N>, rows, static_cast<const T *>(table), columns,
                          static_cast<T *>(out));
        },
        table, out);
}

constexpr uint32_t NONE = UINT32_MAX;

/* next[t]: the next token with the same word; is_later[t]: there is one before. All of is_later is
 * 0 before. */
static __global__ void links_kernel(word_rows rows, uint32_t tokens, uint32_t *next,
                                    unsigned char *is_later)
{
    int32_t *tile = shared_memory<int32_t>(); /* [blockDim] */
    uint32_t token = blockIdx.x * blockDim.x + threadIdx.x, found = NONE;
    int32_t mine = token < tokens ? static_cast<int32_t>(rows(token)) : -1;
    for (uint32_t first = blockIdx.x * blockDim.x; first < tokens; first += blockDim.x) {
        uint32_t other = first + threadIdx.x, left = tokens - first;
        __syncthreads();
        tile[threadIdx.x] = other < tokens ? static_cast<int32_t>(rows(other)) : -1;
        __syncthreads();
        for (uint32_t i = 0; mine >= 0 && found == NONE && i < blockDim.x && i < left; i++)
            if (tile[i] == mine && first + i > token)
                found = first + i;
    }
    if (token < tokens)
        next[token] = found;
    if (found != NONE)
        is_later[found] = 1;
}

template <typename T, int N>
__global__ void lookup_backward_kernel(word_rows rows, const uint32_t *next,
                                       const unsigned char *is_later, const T *dout,
                                       uint64_t columns, gradient_of gradient)
{
    int64_t row = rows(blockIdx.x);
    if (row < 0 || is_later[blockIdx.x])
        return;
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        float sum[N] = {}, x[N];
        for (uint32_t t = blockIdx.x; t != NONE; t = next[t]) {
            load<T, N>(dout + t * columns + c, x);
#pragma unroll
            for (int i = 0; i < N; i++)
                sum[i] += x[i];
        }
        add<N>(gradient, static_cast<uint64_t>(row) * columns + c, sum);
    }
}

cudaError_t tdm_cuda_lookup_backward(cudaStream_t stream, tdm_cuda_type type,
                                     tdm_cuda_type gradient_type, const int32_t *words, uint64_t s,
                                     uint64_t tokens, const void *dout, uint64_t first_word,
                                     uint64_t n_words, uint64_t columns, void *gradient,
                                     void *workspace)
{
    word_rows rows = {words, s, first_word, n_words};
    uint32_t *next = static_cast<uint32_t *>(workspace);
    unsigned char *is_later = reinterpret_cast<unsigned char *>(next + tokens);
    cudaError_t error = cudaMemsetAsync(is_later, 0, tokens, stream);
    if (error == cudaSuccess)
        error = launch(stream, blocks_of(ceil_div(tokens, THREADS)), THREADS,
                       THREADS * sizeof(int32_t), links_kernel, rows, tokens, next, is_later);
    if (error != cudaSuccess)
        return error;
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(tokens), threads_for(columns / N, THREADS), 0,
                          lookup_backward_kernel<T, N>, rows, next, is_later,
                          static_cast<const T *>(dout), columns,
                          gradient_of{gradient, gradient_type});
        },
        dout, gradient);
}

size_t tdm_cuda_lookup_backward_workspace(uint64_t tokens)
{
    return tokens * (sizeof(uint32_t) + 1);
}

/* ---- positions ---- */

template <typename T, int N>
__global__ void position_kernel(T *x, const T *positions, uint64_t row0, uint64_t s,
                                uint64_t columns, tdm_cuda_dropout dropout, unsigned char *mask)
{
    uint64_t row = blockIdx.x;
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        uint64_t at = row * columns + c;
        float v[N], p[N] = {};
        load<T, N>(x + at, v);
        if (positions)
            load<T, N>(positions + (row0 + row) % s * columns + c, p);
        unsigned char kept[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            v[i] += p[i];
            kept[i] = mask && stays(dropout, dropout.first + at + i);
            if (mask)
                v[i] = kept[i] ? v[i] * dropout.scale : 0;
        }
        store<T, N>(x + at, v);
        if (mask)
            store_mask<N>(mask + at, kept);
    }
}

cudaError_t tdm_cuda_position(cudaStream_t stream, tdm_cuda_type type, void *x,
                              const void *positions, uint64_t row0, uint64_t s, uint64_t rows,
                              uint64_t columns, const tdm_cuda_dropout *dropout,
                              unsigned char *mask)
{
    tdm_cuda_dropout d = dropout ? *dropout : tdm_cuda_dropout();
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(rows), threads_for(columns / N, THREADS), 0,
                          position_kernel<T, N>, static_cast<T *>(x),
                          static_cast<const T *>(positions), row0, s, columns, d,
                          dropout ? mask : nullptr);
        },
        x, positions, mask);
}

/* A block for a position: rows of the same one are s apart. */
template <typename T, int N>
__global__ void position_backward_kernel(const T *dy, const unsigned char *mask, float scale,
                                         uint64_t row0, uint64_t s, uint64_t rows, uint64_t columns,
                                         T *dx, gradient_of gradient)
{
    for (uint64_t c = threadIdx.x * N; c < columns; c += blockDim.x * N) {
        float sum[N] = {}, x[N];
        for (uint64_t row = blockIdx.x; row < rows; row += s) {
            uint64_t at = row * columns + c;
            load<T, N>(dy + at, x);
            if (mask) {
                unsigned char kept[N];
                load_mask<N>(mask + at, kept);
#pragma unroll
                for (int i = 0; i < N; i++)
                    x[i] = kept[i] ? x[i] * scale : 0;
                store<T, N>(dx + at, x);
            }
#pragma unroll
            for (int i = 0; i < N; i++)
                sum[i] += x[i];
        }
        if (gradient.data)
            add<N>(gradient, (row0 + blockIdx.x) % s * columns + c, sum);
    }
}

cudaError_t tdm_cuda_position_backward(cudaStream_t stream, tdm_cuda_type type,
                                       tdm_cuda_type gradient_type, const void *dy,
                                       const unsigned char *mask, float scale, uint64_t row0,
                                       uint64_t s, uint64_t rows, uint64_t columns, void *dx,
                                       void *gradient)
{
    return by_width(
        type, columns,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, blocks_of(at_most(rows, s)), threads_for(columns / N, THREADS), 0,
                          position_backward_kernel<T, N>, static_cast<const T *>(dy), mask, scale,
                          row0, s, rows, columns, static_cast<T *>(dx),
                          gradient_of{gradient, gradient_type});
        },
        dy, mask, dx, gradient);
}
