/* attention_tiled_backward.cu: the backward pass of attention on tensor cores: one kernel for the
 * gradients of keys and values, one for that of queries. Both make the weights again from the
 * log-sum-exp; that costs two products more than one kernel with atomics, and gives the same bits
 * every time. Source: Dao 2023, FlashAttention-2, algorithm 2. */
#include "attention.cuh"
#include "tiles.cuh"

constexpr int ROWS = 64, TILE_THREADS = 128;
constexpr float LOG2_E = 1.44269504F;
/* Partners at a time: what registers and 48 KiB allow. */
template <int D> constexpr int PARTNERS = D == 64 ? 64 : 32;

/* Of a query: its log-sum-exp in powers of 2, and delta. Behind the sequence weights become 0. */
struct query_numbers {
    float lse, delta;
};

template <typename T>
static __device__ query_numbers numbers_of(const attention_of<T> &a, uint64_t first, uint64_t i,
                                           uint32_t head)
{
    if (i >= a.s)
        return {INFINITY, 0};
    uint64_t at = (first + i) * a.heads + head;
    return {a.lse[at] * LOG2_E, a.delta[at]};
}

/* The score of query i and key j, and the gradient of its weight, become the weight after dropout,
 * and the gradient of the score. */
template <typename T>
static __device__ void make_gradient(const attention_of<T> &a, const query_numbers &query,
                                     uint64_t i, uint64_t j, uint64_t sample, uint32_t head,
                                     float &score, float &d)
{
    float weight = j <= i ? exp2f(score * a.scale * LOG2_E - query.lse) : 0;
    float kept = a.drops ? a.kept(a.place(sample, head, i) + j) : 1;
    d = a.scale * weight * (kept * d - query.delta);
    score = weight * kept;
}

/* ---- keys and values ---- */

/* A block has ROWS keys, 16 for each warp, and goes through the queries behind them, of all heads
 * of the group. */
template <typename T, int D>
__global__ void __launch_bounds__(TILE_THREADS)
    tiled_dkv_kernel(const __grid_constant__ attention_of<T> a, T *dk, T *dv)
{
    constexpr int P = PARTNERS<D>, N = P / 8;
    T *k = shared_memory<T>(), *v = k + ROWS * D, *q = v + ROWS * D, *d_o = q + P * D;
    query_numbers *queries = reinterpret_cast<query_numbers *>(d_o + P * D); /* [P] */
    uint32_t group = blockIdx.y;
    uint64_t sample = blockIdx.z, first = sample * a.s, key0 = blockIdx.x * uint64_t(ROWS),
             o_step = static_cast<uint64_t>(a.heads) * a.size;
    int warp_row = static_cast<int>(threadIdx.x / WARP * 16),
        row = warp_row + static_cast<int>(threadIdx.x % WARP / 4),
        column = 2 * static_cast<int>(threadIdx.x % 4);
    float out_k[D / 8][4] = {}, out_v[D / 8][4] = {};
    load_tile<ROWS, T, D>(k, a.k + first * a.qk_step + group * a.size, a.qk_step, key0, a.s);
    load_tile<ROWS, T, D>(v, a.v + first * a.v_step + group * a.size, a.v_step, key0, a.s);
    for (uint32_t head = group * a.per_group; head < (group + 1) * a.per_group; head++)
        for (uint64_t i0 = key0; i0 < a.s; i0 += P) {
            load_tile<P, T, D>(q, a.q + first * a.qk_step + head * a.size, a.qk_step, i0, a.s);
            load_tile<P, T, D>(d_o, a.d_o + first * o_step + head * a.size, o_step, i0, a.s);
            commit_copies();
            if (threadIdx.x < P)
                queries[threadIdx.x] = numbers_of(a, first, i0 + threadIdx.x, head);
            wait_copies<0>();
            __syncthreads();
            float scores[N][4] = {}, d[N][4] = {};
            by_rows<T, D, N>(scores, k, warp_row, q);
            by_rows<T, D, N>(d, v, warp_row, d_o);
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int query = 8 * n + column + i % 2;
                    make_gradient(a, queries[query], i0 + static_cast<uint64_t>(query),
                                  key0 + static_cast<uint64_t>(row + i / 2 * 8), sample, head,
                                  scores[n][i], d[n][i]);
                }
            by_columns<T, D, N>(out_v, scores, d_o);
            by_columns<T, D, N>(out_k, d, q);
            __syncthreads();
        }
    uint64_t key = key0 + static_cast<uint64_t>(warp_row);
    store_rows<T, D>(out_k, 1, 1, k, warp_row, dk + first * a.d_step + group * a.size, a.d_step,
                     key, a.s);
    store_rows<T, D>(out_v, 1, 1, v, warp_row, dv + first * a.d_step + group * a.size, a.d_step,
                     key, a.s);
}

/* ---- queries ---- */

template <typename T, int D>
__global__ void __launch_bounds__(TILE_THREADS)
    tiled_dq_kernel(const __grid_constant__ attention_of<T> a, T *dq)
{
    constexpr int P = PARTNERS<D>, N = P / 8;
    T *q = shared_memory<T>(), *d_o = q + ROWS * D, *k = d_o + ROWS * D, *v = k + P * D;
    uint32_t head = blockIdx.y, group = head / a.per_group;
    uint64_t sample = blockIdx.z, first = sample * a.s,
             query0 = (gridDim.x - 1 - blockIdx.x) * uint64_t(ROWS), /* the longest first */
        o_step = static_cast<uint64_t>(a.heads) * a.size;
    int warp_row = static_cast<int>(threadIdx.x / WARP * 16),
        row = warp_row + static_cast<int>(threadIdx.x % WARP / 4),
        column = 2 * static_cast<int>(threadIdx.x % 4);
    uint64_t rows[2] = {query0 + static_cast<uint64_t>(row),
                        query0 + static_cast<uint64_t>(row + 8)};
    query_numbers queries[2] = {numbers_of(a, first, rows[0], head),
                                numbers_of(a, first, rows[1], head)};
    float out[D / 8][4] = {};
    load_tile<ROWS, T, D>(q, a.q + first * a.qk_step + head * a.size, a.qk_step, query0, a.s);
    load_tile<ROWS, T, D>(d_o, a.d_o + first * o_step + head * a.size, o_step, query0, a.s);
    for (uint64_t j0 = 0; j0 < query0 + ROWS && j0 < a.s; j0 += P) {
        load_tile<P, T, D>(k, a.k + first * a.qk_step + group * a.size, a.qk_step, j0, a.s);
        load_tile<P, T, D>(v, a.v + first * a.v_step + group * a.size, a.v_step, j0, a.s);
        commit_copies();
        wait_copies<0>();
        __syncthreads();
        float scores[N][4] = {}, d[N][4] = {};
        by_rows<T, D, N>(scores, q, warp_row, k);
        by_rows<T, D, N>(d, d_o, warp_row, v);
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                make_gradient(a, queries[i / 2], rows[i / 2],
                              j0 + static_cast<uint64_t>(8 * n + column + i % 2), sample, head,
                              scores[n][i], d[n][i]);
        by_columns<T, D, N>(out, d, k);
        __syncthreads();
    }
    store_rows<T, D>(out, 1, 1, q, warp_row, dq + first * a.d_step + head * a.size, a.d_step,
                     query0 + static_cast<uint64_t>(warp_row), a.s);
}

template <typename T, int D>
static cudaError_t backward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples,
                            const attention_gradients<T> &d)
{
    constexpr int P = PARTNERS<D>;
    constexpr size_t TILES = 2 * (ROWS + P) * D * sizeof(T),
                     WITH_QUERIES = TILES + P * sizeof(query_numbers);
    uint64_t tiles = ceil_div(a.s, ROWS);
    cudaError_t error =
        cudaFuncSetAttribute(tiled_dkv_kernel<T, D>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(WITH_QUERIES));
    if (error == cudaSuccess)
        error = launch(stream, blocks_of(tiles, a.heads / a.per_group, samples), TILE_THREADS,
                       WITH_QUERIES, tiled_dkv_kernel<T, D>, a, d.k, d.v);
    if (error != cudaSuccess)
        return error;
    return launch(stream, blocks_of(tiles, a.heads, samples), TILE_THREADS, TILES,
                  tiled_dq_kernel<T, D>, a, d.q);
}

template <typename T>
cudaError_t tiled_backward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples,
                           const attention_gradients<T> &d)
{
    if (a.size == 64)
        return backward<T, 64>(stream, a, samples, d);
    return backward<T, 128>(stream, a, samples, d);
}

template cudaError_t tiled_backward(cudaStream_t, const attention_of<bf16> &, uint64_t,
                                    const attention_gradients<bf16> &);
template cudaError_t tiled_backward(cudaStream_t, const attention_of<fp16> &, uint64_t,
                                    const attention_gradients<fp16> &);
