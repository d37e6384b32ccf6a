/* attention.cuh: what the ways to compute attention in one kernel share. */
#ifndef TDM_CUDA_ATTENTION_CUH
#define TDM_CUDA_ATTENTION_CUH

#include "common.cuh"

/* Of the device's T; see tdm_cuda_attention. */
template <typename T> struct attention_of {
    const T *q, *k, *v, *sinks, *o, *d_o;
    const float *lse, *delta; /* delta [tokens][heads]: o . d_o */
    uint64_t s, qk_step, v_step, d_step;
    uint32_t heads, per_group, size;
    float scale;
    bool drops;
    tdm_cuda_dropout dropout;
    uint64_t first_sample, all_heads, first_head;

    __device__ float sink(uint32_t head) const
    {
        return sinks ? float(sinks[head]) : -INFINITY;
    }

    /* Place of a query's weights among the model's; that of key j is j further on. */
    __device__ uint64_t place(uint64_t sample, uint32_t head, uint64_t i) const
    {
        return (((first_sample + sample) * all_heads + first_head + head) * s + i) * s;
    }

    /* Factor on a weight. */
    __device__ float kept(uint64_t at) const
    {
        if (!drops)
            return 1;
        return stays(dropout, at) ? dropout.scale : 0;
    }
};

/* Where gradients go. */
template <typename T> struct attention_gradients {
    T *q, *k, *v;
};

/* The launches of one way. `delta` and `lse` are there when the backward pass begins. */
template <typename T>
cudaError_t plain_forward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples, T *o,
                          float *lse);
template <typename T>
cudaError_t plain_backward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples,
                           const attention_gradients<T> &d);
template <typename T>
cudaError_t tiled_forward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples, T *o,
                          float *lse);
template <typename T>
cudaError_t tiled_backward(cudaStream_t stream, const attention_of<T> &a, uint64_t samples,
                           const attention_gradients<T> &d);

/* Adds to sinks' gradients: softmax.cu. rest [samples][heads][s]. */
cudaError_t add_sinks(cudaStream_t stream, const float *rest, uint64_t samples, uint64_t heads,
                      uint64_t s, gradient_of gradient);

#endif
