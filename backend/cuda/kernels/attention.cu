/* attention.cu: causal attention in one kernel: which way is taken, and what both ways need before
 * the backward pass. Source: Dao et al. 2022, FlashAttention, algorithms 1 and 4. A sink takes part
 * in the softmax and carries no value. */
#include "attention.cuh"

template <typename T> static attention_of<T> view_of(const tdm_cuda_attention *a)
{
    attention_of<T> v = {};
    v.q = static_cast<const T *>(a->q);
    v.k = static_cast<const T *>(a->k);
    v.v = static_cast<const T *>(a->v);
    v.sinks = static_cast<const T *>(a->sinks);
    v.o = static_cast<const T *>(a->o);
    v.lse = a->lse;
    v.s = a->s;
    v.qk_step = a->qk_step;
    v.v_step = a->v_step;
    v.heads = a->heads;
    v.per_group = a->heads / a->kv_heads;
    v.size = a->size;
    v.scale = a->scale;
    v.drops = a->dropout != nullptr;
    if (a->dropout) {
        v.dropout = a->dropout->dropout;
        v.first_sample = a->dropout->first_sample;
        v.all_heads = a->dropout->all_heads;
        v.first_head = a->dropout->first_head;
    }
    return v;
}

static bool is_valid(const tdm_cuda_attention *a)
{
    constexpr uint32_t MOST_SIZE = 256;
    return a->kv_heads > 0 && a->heads % a->kv_heads == 0 && a->size > 0 && a->size <= MOST_SIZE;
}

/* Whether tiles can be loaded by 16 bytes. */
template <typename... P>
static bool takes_tiles(const tdm_cuda_attention *a, uint64_t d_step, P... pointers)
{
    return !a->plain && a->type != TDM_CUDA_FP32 && (a->size == 64 || a->size == 128) &&
           aligned(16, (a->qk_step | a->v_step | d_step) * 2, a->q, a->k, a->v, a->o, pointers...);
}

template <typename T>
static cudaError_t forward(cudaStream_t stream, const tdm_cuda_attention *a, bool tiled)
{
    T *o = static_cast<T *>(a->o);
    if constexpr (sizeof(T) == 2)
        if (tiled)
            return tiled_forward(stream, view_of<T>(a), a->samples, o, a->lse);
    return plain_forward(stream, view_of<T>(a), a->samples, o, a->lse);
}

cudaError_t tdm_cuda_attention_forward(cudaStream_t stream, const tdm_cuda_attention *a)
{
    if (!is_valid(a))
        return cudaErrorInvalidValue;
    bool tiled = takes_tiles(a, 0);
    return by_type(a->type, [&](auto zero) { return forward<decltype(zero)>(stream, a, tiled); });
}

/* A warp for a row: delta [tokens][heads], and of each row what its sink has of its gradient. */
template <typename T>
__global__ void delta_kernel(attention_of<T> a, uint64_t rows, float *delta, float *rest)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t r = grid_thread() / WARP; r < rows; r += grid_threads() / WARP) {
        float sum = 0;
        for (uint32_t c = lane; c < a.size; c += WARP)
            sum += float(a.o[r * a.size + c]) * float(a.d_o[r * a.size + c]);
        sum = warp_sum(sum);
        if (lane > 0)
            continue;
        delta[r] = sum;
        uint32_t head = static_cast<uint32_t>(r % a.heads);
        uint64_t token = r / a.heads, row = (token / a.s * a.heads + head) * a.s + token % a.s;
        if (rest)
            rest[row] = -expf(a.sink(head) - a.lse[r]) * sum;
    }
}

template <typename T>
static cudaError_t backward(cudaStream_t stream, const tdm_cuda_attention *a, const void *d_o,
                            const attention_gradients<T> &d, uint64_t d_step,
                            gradient_of sinks_gradient, float *delta, bool tiled)
{
    uint64_t rows = a->samples * a->s * a->heads;
    float *rest = sinks_gradient.data ? delta + rows : nullptr;
    attention_of<T> v = view_of<T>(a);
    v.d_o = static_cast<const T *>(d_o);
    v.d_step = d_step;
    v.delta = delta;
    cudaError_t error =
        launch(stream, strided(rows * WARP), THREADS, 0, delta_kernel<T>, v, rows, delta, rest);
    if (error == cudaSuccess && rest)
        error = add_sinks(stream, rest, a->samples, a->heads, a->s, sinks_gradient);
    if (error != cudaSuccess)
        return error;
    if constexpr (sizeof(T) == 2)
        if (tiled)
            return tiled_backward(stream, v, a->samples, d);
    return plain_backward(stream, v, a->samples, d);
}

cudaError_t tdm_cuda_attention_backward(cudaStream_t stream, const tdm_cuda_attention *a,
                                        tdm_cuda_type gradient_type, const void *d_o, void *dq,
                                        void *dk, void *dv, uint64_t d_step, void *sinks_gradient,
                                        void *workspace)
{
    if (!is_valid(a))
        return cudaErrorInvalidValue;
    bool tiled = takes_tiles(a, d_step, d_o, dq, dk, dv);
    return by_type(a->type, [&](auto zero) {
        using T = decltype(zero);
        attention_gradients<T> d = {static_cast<T *>(dq), static_cast<T *>(dk),
                                    static_cast<T *>(dv)};
        return backward<T>(stream, a, d_o, d, d_step, {sinks_gradient, gradient_type},
                           static_cast<float *>(workspace), tiled);
    });
}

size_t tdm_cuda_attention_backward_workspace(const tdm_cuda_attention *a)
{
    return 2 * a->samples * a->s * a->heads * sizeof(float);
}
