/* data.cu: what the host device's data.c and params.c make of keys: words, initial values. */
#include "common.cuh"

#include <math.h>

tdm_cuda_dropout tdm_cuda_dropout_of(double rate, uint64_t key, uint64_t first)
{
    tdm_cuda_dropout d = {};
    d.key = key;
    d.first = first;
    d.threshold = static_cast<uint64_t>(ceil(rate * 9007199254740992.0)); /* 2^53 */
    d.scale = static_cast<float>(1 / (1 - rate));
    return d;
}

static __global__ void words_kernel(uint64_t key, uint64_t first_sample, uint64_t n, uint64_t s,
                                    uint32_t vocabulary, int32_t *words)
{
    for (uint64_t at = grid_thread(); at < n; at += grid_threads()) {
        double u = uniform(mix(key, first_sample + at / (s + 1)), at % (s + 1));
        words[at] = static_cast<int32_t>(u * vocabulary);
    }
}

cudaError_t tdm_cuda_words(cudaStream_t stream, uint64_t key, uint64_t first_sample,
                           uint64_t n_samples, uint64_t s, uint32_t vocabulary, int32_t *words)
{
    uint64_t n = n_samples * (s + 1);
    return launch(stream, strided(n), THREADS, 0, words_kernel, key, first_sample, n, s, vocabulary,
                  words);
}

/* Place of a rank's number in the parameter of the whole model; as host_shape_global. */
static __device__ uint64_t global_place(const tdm_cuda_shape &shape, uint64_t local)
{
    uint64_t row = local / shape.columns, column = local % shape.columns, before = 0;
    for (uint32_t i = 0; i < shape.n_sections; i++) {
        if (column < shape.width[i]) {
            column += before * shape.n_parts + shape.part * shape.width[i];
            break;
        }
        column -= shape.width[i];
        before += shape.width[i];
    }
    return (shape.row0 + row) * shape.columns * shape.n_parts + column;
}

template <typename T>
__global__ void start_kernel(const __grid_constant__ tdm_cuda_shape shape, uint64_t key,
                             uint64_t count, T *weight, uint64_t first, uint64_t n_master,
                             float *master)
{
    for (uint64_t i = grid_thread(); i < count; i += grid_threads()) {
        float x = i < shape.n_start ? shape.start : 0;
        if (shape.bound > 0)
            x = static_cast<float>((2 * uniform(key, global_place(shape, i)) - 1) * shape.bound);
        weight[i] = T(x);
        if (master && i >= first && i < first + n_master)
            master[i - first] = x;
    }
}

cudaError_t tdm_cuda_start(cudaStream_t stream, tdm_cuda_type type, const tdm_cuda_shape *shape,
                           uint64_t key, uint64_t count, void *weight, uint64_t first,
                           uint64_t n_master, float *master)
{
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        return launch(stream, strided(count), THREADS, 0, start_kernel<T>, *shape, key, count,
                      static_cast<T *>(weight), first, n_master, master);
    });
}
