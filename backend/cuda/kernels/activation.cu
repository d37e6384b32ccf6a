/* activation.cu: GELU, and SiLU of a gate times the rest. */
#include "common.cuh"

/* Source: Hendrycks and Gimpel 2016, GELU, section 2, the approximation by tanh. */
static __device__ float gelu(float x)
{
    constexpr float A = 0.7978845608F, B = 0.044715F; /* sqrt(2 / pi) */
    return 0.5F * x * (1 + tanhf(A * (x + B * x * x * x)));
}

static __device__ float gelu_slope(float x)
{
    constexpr float A = 0.7978845608F, B = 0.044715F;
    float t = tanhf(A * (x + B * x * x * x));
    return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * A * (1 + 3 * B * x * x);
}

static __device__ float logistic(float x)
{
    return 1 / (1 + __expf(-x));
}

/* N numbers of a row of g, with the bias. */
template <typename T, int N>
static __device__ void load_biased(const T *g, const T *bias, uint64_t row, uint64_t columns,
                                   uint64_t column, float (&x)[N])
{
    load<T, N>(g + row * columns + column, x);
    if (!bias)
        return;
    float b[N];
    load<T, N>(bias + column, b);
#pragma unroll
    for (int i = 0; i < N; i++)
        x[i] += b[i];
}

template <typename T, int N>
__global__ void gelu_kernel(const T *g, const T *bias, uint64_t count, uint64_t f, T *u)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N];
        load_biased<T, N>(g, bias, at / f, f, at % f, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            x[i] = gelu(x[i]);
        store<T, N>(u + at, x);
    }
}

/* Source: Shazeer 2020, GLU Variants, eq. 5. */
template <typename T, int N>
__global__ void swiglu_kernel(const T *g, const T *bias, uint64_t count, uint64_t f, T *u)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float gate[N], up[N];
        load_biased<T, N>(g, bias, at / f, 2 * f, at % f, gate);
        load_biased<T, N>(g, bias, at / f, 2 * f, f + at % f, up);
#pragma unroll
        for (int i = 0; i < N; i++)
            up[i] *= gate[i] * logistic(gate[i]);
        store<T, N>(u + at, up);
    }
}

template <typename T, int N>
__global__ void gelu_backward_kernel(const T *du, const T *g, const T *bias, uint64_t count,
                                     uint64_t f, T *dg)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        float x[N], d[N];
        load_biased<T, N>(g, bias, at / f, f, at % f, x);
        load<T, N>(du + at, d);
#pragma unroll
        for (int i = 0; i < N; i++)
            d[i] *= gelu_slope(x[i]);
        store<T, N>(dg + at, d);
    }
}

template <typename T, int N>
__global__ void swiglu_backward_kernel(const T *du, const T *g, const T *bias, uint64_t count,
                                       uint64_t f, T *dg)
{
    for (uint64_t at = grid_thread() * N; at < count; at += grid_threads() * N) {
        uint64_t row = at / f, column = at % f;
        float gate[N], up[N], d[N];
        load_biased<T, N>(g, bias, row, 2 * f, column, gate);
        load_biased<T, N>(g, bias, row, 2 * f, f + column, up);
        load<T, N>(du + at, d);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float s = logistic(gate[i]), slope = s * (1 + gate[i] * (1 - s));
            up[i] *= d[i] * slope;
            d[i] *= gate[i] * s;
        }
        store<T, N>(dg + row * 2 * f + column, up);
        store<T, N>(dg + row * 2 * f + f + column, d);
    }
}

cudaError_t tdm_cuda_activation(cudaStream_t stream, tdm_cuda_type type, bool gated, const void *g,
                                const void *bias, uint64_t rows, uint64_t f, void *u)
{
    return by_width(
        type, f,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(rows * f / N), THREADS, 0,
                          gated ? swiglu_kernel<T, N> : gelu_kernel<T, N>,
                          static_cast<const T *>(g), static_cast<const T *>(bias), rows * f, f,
                          static_cast<T *>(u));
        },
        g, bias, u);
}

cudaError_t tdm_cuda_activation_backward(cudaStream_t stream, tdm_cuda_type type, bool gated,
                                         const void *du, const void *g, const void *bias,
                                         uint64_t rows, uint64_t f, void *dg)
{
    return by_width(
        type, f,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            constexpr int N = decltype(width)::value;
            return launch(stream, strided(rows * f / N), THREADS, 0,
                          gated ? swiglu_backward_kernel<T, N> : gelu_backward_kernel<T, N>,
                          static_cast<const T *>(du), static_cast<const T *>(g),
                          static_cast<const T *>(bias), rows * f, f, static_cast<T *>(dg));
        },
        du, g, bias, dg);
}
