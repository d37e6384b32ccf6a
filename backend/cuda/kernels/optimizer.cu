/* optimizer.cu: squares of the gradient, and Adam, over all parameters at once: blocks of BLOCK
 * numbers, each of one piece. Source: Kingma and Ba 2015, Adam, algorithm 1. */
#include "common.cuh"

#include <math.h>

constexpr uint64_t BLOCK = 4096, SQUARE_BLOCKS = 1024;

uint64_t tdm_cuda_pieces_number(tdm_cuda_piece *pieces, uint32_t n)
{
    uint64_t blocks = 0;
    for (uint32_t i = 0; i < n; i++) {
        pieces[i].first_block = blocks;
        blocks += ceil_div(pieces[i].count, BLOCK);
    }
    return blocks;
}

/* The piece that a block is of: the last that begins at or before it. */
static __device__ tdm_cuda_piece piece_of(const tdm_cuda_piece *pieces, uint32_t n, uint64_t block)
{
    uint32_t low = 0, high = n;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (pieces[middle].first_block <= block)
            low = middle;
        else
            high = middle;
    }
    return pieces[low];
}

/* Numbers [first, end) of a piece. */
struct part {
    uint64_t first, end;
};

static __device__ part part_of(const tdm_cuda_piece &p, uint64_t block)
{
    uint64_t first = (block - p.first_block) * BLOCK, end = first + BLOCK;
    return {first, end < p.count ? end : p.count};
}

template <int N> static __device__ void load_gradient(gradient_of g, uint64_t at, float (&x)[N])
{
    if (g.type == TDM_CUDA_FP32)
        load<float, N>(static_cast<const float *>(g.data) + at, x);
    else if (g.type == TDM_CUDA_BF16)
        load<bf16, N>(static_cast<const bf16 *>(g.data) + at, x);
    else
        load<fp16, N>(static_cast<const fp16 *>(g.data) + at, x);
}

static __device__ bool is_aligned(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

/* ---- squares ---- */

template <int N> static __device__ double squares_of(gradient_of g, part of)
{
    double sum = 0;
    for (uint64_t at = of.first + threadIdx.x * N; at + N <= of.end; at += blockDim.x * N) {
        float x[N], few = 0;
        load_gradient<N>(g, at, x);
#pragma unroll
        for (int i = 0; i < N; i++)
            few += x[i] * x[i];
        sum += static_cast<double>(few);
    }
    return sum;
}

/* Of all threads, for the first; parts [blockDim] in shared memory. */
static __device__ double block_total(double x, double *parts)
{
    parts[threadIdx.x] = x;
    for (unsigned n = blockDim.x / 2; n > 0; n /= 2) {
        __syncthreads();
        if (threadIdx.x < n)
            parts[threadIdx.x] += parts[threadIdx.x + n];
    }
    return threadIdx.x == 0 ? parts[0] : 0;
}

static __global__ void squares_kernel(tdm_cuda_type type, const tdm_cuda_piece *pieces, uint32_t n,
                                      uint64_t n_blocks, double *partial)
{
    double sum = 0;
    for (uint64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
        const tdm_cuda_piece p = piece_of(pieces, n, block);
        part of = part_of(p, block);
        gradient_of g = {p.gradient, type};
        uint64_t tail = is_aligned(p.gradient) ? of.first + (of.end - of.first) / 4 * 4 : of.first;
        sum += squares_of<4>(g, {of.first, tail}) + squares_of<1>(g, {tail, of.end});
    }
    sum = block_total(sum, shared_memory<double>());
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

static __global__ void squares_total_kernel(const double *partial, uint64_t n, float *sum)
{
    double own = 0;
    for (uint64_t i = threadIdx.x; i < n; i += blockDim.x)
        own += partial[i];
    own = block_total(own, shared_memory<double>());
    if (threadIdx.x == 0)
        *sum = static_cast<float>(own);
}

cudaError_t tdm_cuda_squares(cudaStream_t stream, tdm_cuda_type gradient_type,
                             const tdm_cuda_piece *pieces, uint32_t n, uint64_t n_blocks,
                             float *sum, void *workspace)
{
    double *partial = static_cast<double *>(workspace);
    uint64_t blocks = at_most(n_blocks, SQUARE_BLOCKS);
    cudaError_t error = launch(stream, blocks_of(blocks), THREADS, THREADS * sizeof(double),
                               squares_kernel, gradient_type, pieces, n, n_blocks, partial);
    if (error != cudaSuccess)
        return error;
    return launch(stream, blocks_of(1), THREADS, THREADS * sizeof(double), squares_total_kernel,
                  partial, blocks, sum);
}

size_t tdm_cuda_squares_workspace(void)
{
    return SQUARE_BLOCKS * sizeof(double);
}

/* ---- Adam ---- */

struct adam_numbers {
    float rate, beta_1, rest_1, beta_2, rest_2, epsilon; /* rest: 1 - beta */
    float inverse_1, inverse_2;                          /* of the bias corrections */
    double clip;
    const float *square;
    double *norm;
};

template <typename T, int N>
static __device__ void update(const adam_numbers &a, float scale, const tdm_cuda_piece &p,
                              tdm_cuda_type gradient_type, part of)
{
    T *weight = static_cast<T *>(p.weight);
    for (uint64_t at = of.first + threadIdx.x * N; at + N <= of.end; at += blockDim.x * N) {
        float g[N], m[N], v[N], w[N];
        load_gradient<N>({p.gradient, gradient_type}, at, g);
        load<float, N>(p.first_moment + at, m);
        load<float, N>(p.second_moment + at, v);
        if (p.master)
            load<float, N>(p.master + at, w);
        else
            load<T, N>(weight + at, w);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float x = scale * g[i];
            m[i] = a.beta_1 * m[i] + a.rest_1 * x;
            v[i] = a.beta_2 * v[i] + a.rest_2 * x * x;
            w[i] -= a.rate * (m[i] * a.inverse_1) / (sqrtf(v[i] * a.inverse_2) + a.epsilon);
        }
        store<float, N>(p.first_moment + at, m);
        store<float, N>(p.second_moment + at, v);
        if (p.master)
            store<float, N>(p.master + at, w);
        store<T, N>(weight + at, w);
    }
}

template <typename T>
__global__ void adam_kernel(adam_numbers a, tdm_cuda_type gradient_type,
                            const tdm_cuda_piece *pieces, uint32_t n, uint64_t n_blocks)
{
    float scale = 1;
    if (a.clip > 0) {
        double norm = sqrt(static_cast<double>(*a.square)), factor = a.clip / (norm + 1e-6);
        scale = factor < 1 ? static_cast<float>(factor) : 1;
        if (a.norm && grid_thread() == 0)
            *a.norm = norm;
    }
    for (uint64_t block = blockIdx.x; block < n_blocks; block += gridDim.x) {
        const tdm_cuda_piece p = piece_of(pieces, n, block);
        part of = part_of(p, block);
        bool wide = is_aligned(p.weight) && is_aligned(p.master) && is_aligned(p.gradient) &&
                    is_aligned(p.first_moment) && is_aligned(p.second_moment);
        uint64_t tail = wide ? of.first + (of.end - of.first) / 4 * 4 : of.first;
        update<T, 4>(a, scale, p, gradient_type, {of.first, tail});
        update<T, 1>(a, scale, p, gradient_type, {tail, of.end});
    }
}

cudaError_t tdm_cuda_adam_step(cudaStream_t stream, tdm_cuda_type type, tdm_cuda_type gradient_type,
                               const tdm_cuda_adam *adam, const tdm_cuda_piece *pieces, uint32_t n,
                               uint64_t n_blocks)
{
    double steps = adam->step + 1.0;
    adam_numbers a = {static_cast<float>(adam->rate),
                      static_cast<float>(adam->beta_1),
                      static_cast<float>(1 - adam->beta_1),
                      static_cast<float>(adam->beta_2),
                      static_cast<float>(1 - adam->beta_2),
                      static_cast<float>(adam->epsilon),
                      static_cast<float>(1 / (1 - pow(adam->beta_1, steps))),
                      static_cast<float>(1 / (1 - pow(adam->beta_2, steps))),
                      adam->clip,
                      adam->square,
                      adam->norm};
    /* Somebody must write the norm. */
    uint64_t blocks = n_blocks == 0 && adam->clip > 0 && adam->norm ? 1 : n_blocks;
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        return launch(stream, blocks_of(at_most(blocks, MOST_BLOCKS)), THREADS, 0, adam_kernel<T>,
                      a, gradient_type, pieces, n, n_blocks);
    });
}
