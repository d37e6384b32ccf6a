/* attention_plain.cu: attention for any type, size and alignment: a warp for a row, which takes as
 * many partners at a time as it has lanes. */
#include "attention.cuh"

constexpr uint32_t PER_LANE = 8; /* numbers of a row of 256 */

/* A lane's numbers of a row, WARP apart. */
template <typename T>
static __device__ void add_row(float (&sum)[PER_LANE], float factor, const T *row, uint32_t size)
{
    unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (uint32_t k = 0; k < PER_LANE; k++)
        if (lane + k * WARP < size)
            sum[k] += factor * float(row[lane + k * WARP]);
}

template <typename T>
static __device__ void store_row(const float (&sum)[PER_LANE], float factor, T *row, uint32_t size)
{
    unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (uint32_t k = 0; k < PER_LANE; k++)
        if (lane + k * WARP < size)
            row[lane + k * WARP] = T(factor * sum[k]);
}

template <typename T> static __device__ float dot(const T *a, const T *b, uint32_t size)
{
    float sum = 0;
    for (uint32_t c = 0; c < size; c++)
        sum += float(a[c]) * float(b[c]);
    return sum;
}

/* A row of the output: [sample][place][head]. */
struct row_of {
    uint64_t token, sample, i;
    uint32_t head;
};

template <typename T> static __device__ row_of row_at(const attention_of<T> &a, uint64_t r)
{
    uint64_t token = r / a.heads;
    return {token, token / a.s, token % a.s, static_cast<uint32_t>(r % a.heads)};
}

template <typename T>
__global__ void plain_kernel(attention_of<T> a, uint64_t rows, T *o, float *lse)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t r = grid_thread() / WARP; r < rows; r += grid_threads() / WARP) {
        row_of row = row_at(a, r);
        uint64_t first = row.sample * a.s, place = a.place(row.sample, row.head, row.i);
        const T *q = a.q + row.token * a.qk_step + row.head * a.size;
        const T *k = a.k + first * a.qk_step + row.head / a.per_group * a.size;
        const T *v = a.v + first * a.v_step + row.head / a.per_group * a.size;
        float most = a.sink(row.head), sum = a.sinks ? 1 : 0, out[PER_LANE] = {};
        for (uint64_t j0 = 0; j0 <= row.i; j0 += WARP) {
            uint64_t j = j0 + lane;
            float score = j <= row.i ? a.scale * dot(q, k + j * a.qk_step, a.size) : -INFINITY;
            float largest = fmaxf(most, warp_max(score)), shrink = expf(most - largest);
            float weight = expf(score - largest);
            most = largest;
            sum = sum * shrink + warp_sum(weight);
            weight *= j <= row.i ? a.kept(place + j) : 0;
#pragma unroll
            for (uint32_t c = 0; c < PER_LANE; c++)
                out[c] *= shrink;
            for (unsigned n = 0; n < WARP && j0 + n <= row.i; n++)
                add_row(out, __shfl_sync(ALL_LANES, weight, static_cast<int>(n)),
                        v + (j0 + n) * a.v_step, a.size);
        }
        store_row(out, 1 / sum, o + r * a.size, a.size);
        if (lane == 0)
            lse[r] = most + logf(sum);
    }
}

template <typename T>
cudaError_t plain_forward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples, T *o,
                          float *lse)
{
    uint64_t rows = samples * a.s * a.heads;
    return launch(stream, strided(rows * WARP), THREADS, 0, plain_kernel<T>, a, rows, o, lse);
}

/* ---- backward ---- */

/* A weight, and the gradient of its score before scaling. */
struct weight_and_gradient {
    float weight, score;
};

template <typename T>
static __device__ weight_and_gradient pair_at(const attention_of<T> &a, const T *q, const T *k,
                                              const T *v, const T *d_o, uint64_t row,
                                              uint64_t place)
{
    float weight = expf(a.scale * dot(q, k, a.size) - a.lse[row]), kept = a.kept(place);
    float d = kept * dot(d_o, v, a.size) - a.delta[row];
    return {weight * kept, a.scale * weight * d};
}

template <typename T> __global__ void plain_dq_kernel(attention_of<T> a, uint64_t rows, T *dq)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t r = grid_thread() / WARP; r < rows; r += grid_threads() / WARP) {
        row_of row = row_at(a, r);
        uint64_t first = row.sample * a.s, place = a.place(row.sample, row.head, row.i);
        const T *q = a.q + row.token * a.qk_step + row.head * a.size, *d_o = a.d_o + r * a.size;
        const T *k = a.k + first * a.qk_step + row.head / a.per_group * a.size;
        const T *v = a.v + first * a.v_step + row.head / a.per_group * a.size;
        float out[PER_LANE] = {};
        for (uint64_t j0 = 0; j0 <= row.i; j0 += WARP) {
            uint64_t j = j0 + lane;
            float d = 0;
            if (j <= row.i)
                d = pair_at(a, q, k + j * a.qk_step, v + j * a.v_step, d_o, r, place + j).score;
            for (unsigned n = 0; n < WARP && j0 + n <= row.i; n++)
                add_row(out, __shfl_sync(ALL_LANES, d, static_cast<int>(n)),
                        k + (j0 + n) * a.qk_step, a.size);
        }
        store_row(out, 1, dq + row.token * a.d_step + row.head * a.size, a.size);
    }
}

/* A warp for a key and value: all queries behind it, of all heads of its group. */
template <typename T>
__global__ void plain_dkv_kernel(attention_of<T> a, uint64_t rows, T *dk, T *dv)
{
    unsigned lane = threadIdx.x % WARP;
    uint32_t kv_heads = a.heads / a.per_group;
    for (uint64_t r = grid_thread() / WARP; r < rows; r += grid_threads() / WARP) {
        uint64_t token = r / kv_heads, sample = token / a.s, j = token % a.s, first = sample * a.s;
        uint32_t group = static_cast<uint32_t>(r % kv_heads);
        const T *k = a.k + token * a.qk_step + group * a.size;
        const T *v = a.v + token * a.v_step + group * a.size;
        float out_k[PER_LANE] = {}, out_v[PER_LANE] = {};
        for (uint32_t head = group * a.per_group; head < (group + 1) * a.per_group; head++)
            for (uint64_t i0 = j; i0 < a.s; i0 += WARP) {
                uint64_t i = i0 + lane;
                weight_and_gradient w = {};
                if (i < a.s) {
                    uint64_t row = (first + i) * a.heads + head;
                    w = pair_at(a, a.q + (first + i) * a.qk_step + head * a.size, k, v,
                                a.d_o + row * a.size, row, a.place(sample, head, i) + j);
                }
                for (unsigned n = 0; n < WARP && i0 + n < a.s; n++) {
                    uint64_t other = first + i0 + n;
                    add_row(out_k, __shfl_sync(ALL_LANES, w.score, static_cast<int>(n)),
                            a.q + other * a.qk_step + head * a.size, a.size);
                    add_row(out_v, __shfl_sync(ALL_LANES, w.weight, static_cast<int>(n)),
                            a.d_o + (other * a.heads + head) * a.size, a.size);
                }
            }
        store_row(out_k, 1, dk + token * a.d_step + group * a.size, a.size);
        store_row(out_v, 1, dv + token * a.d_step + group * a.size, a.size);
    }
}

template <typename T>
cudaError_t plain_backward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples,
                           const attention_gradients<T> &d)
{
    uint64_t rows = samples * a.s * a.heads, kv_rows = rows / a.per_group;
    cudaError_t error =
        launch(stream, strided(rows * WARP), THREADS, 0, plain_dq_kernel<T>, a, rows, d.q);
    if (error != cudaSuccess)
        return error;
    return launch(stream, strided(kv_rows * WARP), THREADS, 0, plain_dkv_kernel<T>, a, kv_rows, d.k,
                  d.v);
}

#define INSTANCE(T)                                                                                \
    template cudaError_t plain_forward(cudaStream_t, const attention_of<T> &, uint64_t, T *,       \
                                       float *);                                                   \
    template cudaError_t plain_backward(cudaStream_t, const attention_of<T> &, uint64_t,           \
                                        const attention_gradients<T> &);
INSTANCE(bf16)
INSTANCE(fp16)
INSTANCE(float)
