/* partials.cu: sums of what blocks have left in a workspace. */
#include "partials.cuh"

/* A block for WARP columns; its warps share out the partial sums. */
static __global__ void partials_kernel(const float *partial, uint64_t n, uint64_t step,
                                       uint64_t columns, uint64_t group_step, gradient_of gradient)
{
    float *room = shared_memory<float>(); /* [warps][WARP] */
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, n_warps = blockDim.x / WARP;
    uint64_t column = static_cast<uint64_t>(blockIdx.x) * WARP + lane;
    const float *from = partial + blockIdx.y * group_step;
    float sum = 0;
    for (uint64_t i = warp; column < columns && i < n; i += n_warps)
        sum += from[i * step + column];
    room[warp * WARP + lane] = sum;
    __syncthreads();
    if (warp > 0 || column >= columns)
        return;
    for (unsigned w = 1; w < n_warps; w++)
        sum += room[w * WARP + lane];
    add(gradient, blockIdx.y * columns + column, sum);
}

cudaError_t add_partials(cudaStream_t stream, const float *partial, uint64_t n, uint64_t step,
                         uint64_t columns, uint64_t groups, uint64_t group_step,
                         gradient_of gradient)
{
    unsigned threads = threads_for(n * WARP, THREADS);
    return launch(stream, blocks_of(ceil_div(columns, WARP), groups), threads,
                  threads * sizeof(float), partials_kernel, partial, n, step, columns, group_step,
                  gradient);
}
