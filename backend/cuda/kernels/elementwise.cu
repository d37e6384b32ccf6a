/* elementwise.cu: sums, dropout, casts, and fills. */
#include "common.cuh"

/* ---- sums and dropout ---- */

template <typename T, int N>
__global__ void add_kernel(const T *a, const T *b, uint64_t count, tdm_cuda_dropout dropout, T *out,
                           unsigned char *mask)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N], y[N];
        if (mask) {
            unsigned char kept[N];
#pragma unroll
            for (int i = 0; i < N; i++)
                kept[i] = stays(dropout, dropout.first + at + i);
            store_mask<N>(mask + at, kept);
            if (!out)
                continue;
            load<T, N>(b + at, y);
#pragma unroll
            for (int i = 0; i < N; i++)
                y[i] = kept[i] ? y[i] * dropout.scale : 0;
        } else {
            load<T, N>(b + at, y);
        }
        load<T, N>(a + at, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] += y[i];
        store<T, N>(out + at, x);
    }
}

cudaError_t tdm_cuda_add(cudaStream_t stream, tdm_cuda_type type, const void *a, const void *b,
                         uint64_t count, const tdm_cuda_dropout *dropout, void *out,
                         unsigned char *mask)
{
    tdm_cuda_dropout d = dropout ? *dropout : tdm_cuda_dropout();
    return by_width(
        type, count,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(count / N), THREADS, 0, add_kernel<T, N>,
                          static_cast<const T *>(a), static_cast<const T *>(b), count, d,
                          static_cast<T *>(out), dropout ? mask : nullptr);
        },
        a, b, out, mask);
}

cudaError_t tdm_cuda_sum(cudaStream_t stream, tdm_cuda_type type, const void *from, uint64_t count,
                         void *to)
{
    return tdm_cuda_add(stream, type, to, from, count, nullptr, to, nullptr);
}

template <typename T, int N>
__global__ void dropout_backward_kernel(const unsigned char *mask, float scale, const T *in,
                                        uint64_t count, T *out)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        unsigned char kept[N];
        load_mask<N>(mask + at, kept);
        load<T, N>(in + at, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = kept[i] ? x[i] * scale : 0;
        store<T, N>(out + at, x);
    }
}

cudaError_t tdm_cuda_dropout_backward(cudaStream_t stream, tdm_cuda_type type,
                                      const unsigned char *mask, float scale, const void *in,
                                      uint64_t count, void *out)
{
    return by_width(
        type, count,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(count / N), THREADS, 0, dropout_backward_kernel<T, N>,
                          mask, scale, static_cast<const T *>(in), count, static_cast<T *>(out));
        },
        in, out, mask);
}

/* Place of a weight among those of all samples and heads. */
struct weights_place {
    uint64_t first_sample, all_heads, first_head, heads, square; /* square: s s */
    __device__ uint64_t operator()(uint64_t at) const
    {
        uint64_t n = at / square;
        return ((first_sample + n / heads) * all_heads + first_head + n % heads) * square +
               at % square;
    }
};

template <typename T, int N>
__global__ void weights_dropout_kernel(tdm_cuda_dropout dropout, weights_place place,
                                       const T *weights, uint64_t count, T *out,
                                       unsigned char *mask)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        unsigned char kept[N];
        uint64_t first = place(at); /* a square holds whole accesses */
        load<T, N>(weights + at, x);
#pragma unroll
        for (int i = 0; i < N; i++) {
            kept[i] = stays(dropout, first + i);
            x[i] = kept[i] ? x[i] * dropout.scale : 0;
        }
        store<T, N>(out + at, x);
        store_mask<N>(mask + at, kept);
    }
}

cudaError_t tdm_cuda_weights_dropout_forward(cudaStream_t stream, tdm_cuda_type type,
                                             const tdm_cuda_weights_dropout *dropout,
                                             const void *weights, uint64_t samples, uint64_t heads,
                                             uint64_t s, void *out, unsigned char *mask)
{
    weights_place place = {dropout->first_sample, dropout->all_heads, dropout->first_head, heads,
                           s * s};
    uint64_t count = samples * heads * s * s;
    return by_width(
        type, s,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(count / N), THREADS, 0, weights_dropout_kernel<T, N>,
                          dropout->dropout, place, static_cast<const T *>(weights), count,
                          static_cast<T *>(out), mask);
        },
        weights, out, mask);
}

/* ---- casts ---- */

template <typename F, typename T, int N>
__global__ void cast_kernel(const F *from, T *to, uint64_t count)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        load<F, N>(from + at, x);
        store<T, N>(to + at, x);
    }
}

cudaError_t tdm_cuda_cast(cudaStream_t stream, tdm_cuda_type from_type, const void *from,
                          tdm_cuda_type to_type, void *to, uint64_t count)
{
    return by_type(from_type, [&](auto from_zero) {
        return by_type(to_type, [&](auto to_zero) {
            using F = decltype(from_zero);
            using T = decltype(to_zero);
            constexpr int N = 8;
            const F *f = static_cast<const F *>(from);
            T *t = static_cast<T *>(to);
            if (count % N == 0 && aligned(16, 0, from, to))
                return launch(stream, strided(count / N), THREADS, 0, cast_kernel<F, T, N>, f, t,
                              count);
            return launch(stream, strided(count), THREADS, 0, cast_kernel<F, T, 1>, f, t, count);
        });
    });
}

/* ---- fills ---- */

static __device__ unsigned char byte_of(uint32_t word, uint64_t place)
{
    return static_cast<unsigned char>(word >> (8 * (place % 4)));
}

static __global__ void fill_kernel(uint32_t word, unsigned char *to, uint64_t bytes, bool wide)
{
    uint64_t n_wide = wide ? bytes / 16 : 0;
    for (uint64_t i = grid_thread(); i < n_wide; i += grid_threads())
        *access_as<uint4>(to + 16 * i) = uint4{word, word, word, word};
    for (uint64_t i = 16 * n_wide + grid_thread(); i < bytes; i += grid_threads())
        to[i] = byte_of(word, i);
}

cudaError_t tdm_cuda_fill(cudaStream_t stream, uint32_t word, void *to, uint64_t bytes)
{
    bool wide = aligned(16, 0, to);
    return launch(stream, strided(wide ? ceil_div(bytes, 16) : bytes), THREADS, 0, fill_kernel,
                  word, static_cast<unsigned char *>(to), bytes, wide);
}

static __device__ void least(uint64_t *first, uint64_t place)
{
    atomicMin(reinterpret_cast<unsigned long long *>(first), place);
}

static __global__ void find_other_kernel(uint32_t word, const unsigned char *bytes, uint64_t n,
                                         bool wide, uint64_t *first)
{
    uint64_t n_wide = wide ? n / 16 : 0;
    for (uint64_t i = grid_thread(); i < n_wide; i += grid_threads()) {
        uint4 x = *access_as<uint4>(bytes + 16 * i);
        if (x.x == word && x.y == word && x.z == word && x.w == word)
            continue;
        uint64_t at = 16 * i;
        while (bytes[at] == byte_of(word, at))
            at++;
        least(first, at);
    }
    for (uint64_t i = 16 * n_wide + grid_thread(); i < n; i += grid_threads())
        if (bytes[i] != byte_of(word, i))
            least(first, i);
}

cudaError_t tdm_cuda_find_other(cudaStream_t stream, uint32_t word, const void *bytes, uint64_t n,
                                uint64_t *first)
{
    bool wide = aligned(16, 0, bytes);
    return launch(stream, strided(wide ? ceil_div(n, 16) : n), THREADS, 0, find_other_kernel, word,
                  static_cast<const unsigned char *>(bytes), n, wide, first);
}
