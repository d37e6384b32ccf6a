/* shared.cu: what ranks on one GPU move: reductions of their buffers, and copies. */
#include "common.cuh"

struct members {
    const void *in[TDM_CUDA_MAX_MEMBERS];
    void *out[TDM_CUDA_MAX_MEMBERS];
    uint32_t n, m;
};

/* Row y of the grid: numbers [y run, y run + run) of the inputs, to `m` outputs, or to output y
 * alone where they are scattered. */
template <typename T, int N>
__global__ void reduce_kernel(const __grid_constant__ members all, bool largest, bool scatters,
                              uint64_t count, uint64_t run)
{
    uint64_t first = blockIdx.y * run, end = first + run < count ? first + run : count;
    for (uint64_t at = first + grid_thread() * N; at < end; at += grid_threads() * N) {
        float sum[N], x[N];
        load<T, N>(static_cast<const T *>(all.in[0]) + at, sum);
        for (uint32_t i = 1; i < all.n; i++) {
            load<T, N>(static_cast<const T *>(all.in[i]) + at, x);
#pragma unroll
            for (int k = 0; k < N; k++)
                sum[k] = largest ? fmaxf(sum[k], x[k]) : sum[k] + x[k];
        }
        if (scatters)
            store<T, N>(static_cast<T *>(all.out[blockIdx.y]) + (at - first), sum);
        else
            for (uint32_t i = 0; i < all.m; i++)
                store<T, N>(static_cast<T *>(all.out[i]) + at, sum);
    }
}

static cudaError_t reduce(cudaStream_t stream, tdm_cuda_type type, bool largest, bool scatters,
                          const void *const *in, uint32_t n, void *const *out, uint32_t m,
                          uint64_t count)
{
    if (n == 0 || n > TDM_CUDA_MAX_MEMBERS || m > TDM_CUDA_MAX_MEMBERS)
        return cudaErrorInvalidValue;
    members all = {};
    uintptr_t addresses = 0;
    all.n = n;
    all.m = m;
    for (uint32_t i = 0; i < n; i++)
        addresses |= reinterpret_cast<uintptr_t>(all.in[i] = in[i]);
    for (uint32_t i = 0; i < m; i++)
        addresses |= reinterpret_cast<uintptr_t>(all.out[i] = out[i]);
    uint64_t run = scatters ? ceil_div(count, n) : count;
    return by_type(type, [&](auto zero) {
        using T = decltype(zero);
        constexpr int N = WIDE<T>;
        bool wide = aligned(16, (run | count) * sizeof(T) | addresses);
        dim3 blocks = strided(run / (wide ? N : 1));
        blocks.y = scatters ? n : 1;
        return launch(stream, blocks, THREADS, 0, wide ? reduce_kernel<T, N> : reduce_kernel<T, 1>,
                      all, largest, scatters, count, run);
    });
}

cudaError_t tdm_cuda_reduce(cudaStream_t stream, tdm_cuda_type type, bool largest,
                            const void *const *in, uint32_t n, void *const *out, uint32_t m,
                            uint64_t count)
{
    return reduce(stream, type, largest, false, in, n, out, m, count);
}

cudaError_t tdm_cuda_reduce_scatter(cudaStream_t stream, tdm_cuda_type type, const void *const *in,
                                    void *const *out, uint32_t n, uint64_t count)
{
    return reduce(stream, type, false, true, in, n, out, n, count);
}

/* ---- copies ---- */

constexpr uint32_t COPIES = 128; /* of a launch */

struct copy_list {
    tdm_cuda_copy at[COPIES];
};

/* Copies whole pieces of P, and returns the bytes that they are. */
template <typename P> static __device__ uint64_t copy_pieces(const tdm_cuda_copy &c, uint64_t done)
{
    const unsigned char *from = static_cast<const unsigned char *>(c.from);
    unsigned char *to = static_cast<unsigned char *>(c.to);
    if ((reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to) | done) % sizeof(P))
        return done;
    uint64_t n = (c.bytes - done) / sizeof(P);
    for (uint64_t i = grid_thread(); i < n; i += grid_threads())
        *access_as<P>(to + done + i * sizeof(P)) = *access_as<P>(from + done + i * sizeof(P));
    return done + n * sizeof(P);
}

/* Row y of the grid is copy y. */
static __global__ void copies_kernel(const __grid_constant__ copy_list list)
{
    const tdm_cuda_copy &c = list.at[blockIdx.y];
    if (c.from == c.to)
        return;
    uint64_t done = copy_pieces<uint4>(c, 0);
    done = copy_pieces<uint32_t>(c, done);
    done = copy_pieces<uint16_t>(c, done);
    copy_pieces<unsigned char>(c, done);
}

cudaError_t tdm_cuda_copies(cudaStream_t stream, const tdm_cuda_copy *copies, uint32_t n)
{
    constexpr uint64_t MOST = 512; /* blocks of a copy */
    for (uint32_t first = 0; first < n; first += COPIES) {
        copy_list list = {};
        uint32_t some = static_cast<uint32_t>(at_most(n - first, COPIES));
        uint64_t largest = 0;
        for (uint32_t i = 0; i < some; i++) {
            list.at[i] = copies[first + i];
            largest = list.at[i].bytes > largest ? list.at[i].bytes : largest;
        }
        uint64_t blocks = at_most(ceil_div(largest, THREADS * sizeof(uint4)), MOST);
        cudaError_t error =
            launch(stream, blocks_of(blocks, some), THREADS, 0, copies_kernel, list);
        if (error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}
