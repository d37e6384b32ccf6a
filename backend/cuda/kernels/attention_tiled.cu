/* attention_tiled.cu: the forward pass of attention on tensor cores. A block has ROWS queries, 16
 * for each warp, and goes through tiles of as many keys; each copy overlaps a product.
 * Source: Dao 2023, FlashAttention-2, algorithm 1. */
#include "attention.cuh"
#include "tiles.cuh"

constexpr int ROWS = 64, TILE_THREADS = 128, N = ROWS / 8;
constexpr float LOG2_E = 1.44269504F;

/* Of the two rows of a lane, in units of scores: maximum, and sum of exponentials less it. */
struct row_state {
    float most[2], sum[2];
};

/* Keys behind a query take no part. Both count from the start of the same diagonal tile. */
static __device__ void mask_diagonal(float (&scores)[N][4], int row)
{
    int t = static_cast<int>(threadIdx.x % 4);
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (8 * n + 2 * t + i % 2 > row + i / 2 * 8)
                scores[n][i] = -INFINITY;
}

/* Scores become weights less the new maximum; the output shrinks accordingly. `unit`: of a score,
 * in powers of 2. */
template <int D>
static __device__ void update(float (&scores)[N][4], row_state &state, float (&out)[D / 8][4],
                              float unit)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = state.most[half];
#pragma unroll
        for (int n = 0; n < N; n++)
            most = fmaxf(most, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        most = quad_max(most);
        float shrink = exp2f((state.most[half] - most) * unit), sum = 0;
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++)
                sum += scores[n][i] = exp2f((scores[n][i] - most) * unit);
        state.most[half] = most;
        state.sum[half] = state.sum[half] * shrink + sum;
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
            out[n][2 * half] *= shrink;
            out[n][2 * half + 1] *= shrink;
        }
    }
}

template <typename T>
static __device__ void drop_weights(const attention_of<T> &a, float (&weights)[N][4], uint64_t row,
                                    uint64_t key0, uint64_t sample, uint32_t head)
{
    uint64_t t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            weights[n][i] *= a.kept(a.place(sample, head, row + static_cast<uint64_t>(i / 2 * 8)) +
                                    key0 + static_cast<uint64_t>(8 * n + i % 2) + 2 * t);
}

/* What a row's output is multiplied by, and its log-sum-exp; with the sink. */
static __device__ float finish(float most, float sum, float scale, float sink, float *lse)
{
    float scaled = most * scale, largest = fmaxf(scaled, sink);
    float all = quad_sum(sum) * __expf(scaled - largest) + __expf(sink - largest);
    *lse = largest + logf(all);
    return __expf(scaled - largest) / all;
}

template <typename T, int D>
__global__ void __launch_bounds__(TILE_THREADS)
    tiled_kernel(const __grid_constant__ attention_of<T> a, T *o, float *lse)
{
    T *q = shared_memory<T>(), *k = q + ROWS * D, *v = k + ROWS * D;
    uint32_t head = blockIdx.y, group = head / a.per_group;
    uint64_t sample = blockIdx.z, first = sample * a.s,
             tile = gridDim.x - 1 - blockIdx.x; /* the longest first */
    const T *q_from = a.q + first * a.qk_step + head * a.size;
    const T *k_from = a.k + first * a.qk_step + group * a.size;
    const T *v_from = a.v + first * a.v_step + group * a.size;
    int warp_row = static_cast<int>(threadIdx.x / WARP * 16),
        row = warp_row + static_cast<int>(threadIdx.x % WARP / 4);
    row_state state = {{-INFINITY, -INFINITY}, {0, 0}};
    float out[D / 8][4] = {};
    load_tile<ROWS, T, D>(q, q_from, a.qk_step, tile * ROWS, a.s);
    load_tile<ROWS, T, D>(k, k_from, a.qk_step, 0, a.s);
    commit_copies();
    for (uint64_t j = 0; j <= tile; j++) {
        float scores[N][4] = {};
        load_tile<ROWS, T, D>(v, v_from, a.v_step, j * ROWS, a.s);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        by_rows<T, D, N>(scores, q, warp_row, k);
        __syncthreads();
        if (j < tile)
            load_tile<ROWS, T, D>(k, k_from, a.qk_step, (j + 1) * ROWS, a.s);
        commit_copies();
        if (j == tile)
            mask_diagonal(scores, row);
        update<D>(scores, state, out, a.scale * LOG2_E);
        if (a.drops)
            drop_weights(a, scores, tile * ROWS + static_cast<uint64_t>(row), j * ROWS, sample,
                         head);
        wait_copies<1>();
        __syncthreads();
        by_columns<T, D, N>(out, scores, v);
        __syncthreads();
    }
    float factor[2], log_sum[2], sink = a.sink(head);
    for (int half = 0; half < 2; half++) {
        uint64_t i = tile * ROWS + static_cast<uint64_t>(row + 8 * half);
        factor[half] = finish(state.most[half], state.sum[half], a.scale, sink, &log_sum[half]);
        if (threadIdx.x % 4 == 0 && i < a.s)
            lse[(first + i) * a.heads + head] = log_sum[half];
    }
    store_rows<T, D>(out, factor[0], factor[1], q, warp_row, o + (first * a.heads + head) * a.size,
                     static_cast<uint64_t>(a.heads) * a.size,
                     tile * ROWS + static_cast<uint64_t>(warp_row), a.s);
}

template <typename T, int D>
static cudaError_t forward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples, T *o,
                           float *lse)
{
    return launch(stream, blocks_of(ceil_div(a.s, ROWS), a.heads, samples), TILE_THREADS,
                  3 * ROWS * D * sizeof(T), tiled_kernel<T, D>, a, o, lse);
}

template <typename T>
cudaError_t tiled_forward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples, T *o,
                          float *lse)
{
    if (a.size == 64)
        return forward<T, 64>(stream, a, samples, o, lse);
    return forward<T, 128>(stream, a, samples, o, lse);
}

template cudaError_t tiled_forward(cudaStream_t, const attention_of<bf16> &, uint64_t, bf16 *,
                                   float *);
template cudaError_t tiled_forward(cudaStream_t, const attention_of<fp16> &, uint64_t, fp16 *,
                                   float *);
