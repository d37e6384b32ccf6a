/* places.cu: where the pairs of tokens and experts go: in order of the expert, then of the pair.
 * Chunks of pairs are counted by expert, then each pair's place is the number of rows before it. */
#include "scan.cuh"

constexpr unsigned CHUNK = 1024;

/* counts [chunks][n_experts]. */
static __global__ void count_kernel(const int32_t *choice, uint64_t pairs, uint32_t n_experts,
                                    uint32_t *counts)
{
    uint32_t *own = shared_memory<uint32_t>(); /* [n_experts] */
    for (uint32_t e = threadIdx.x; e < n_experts; e += blockDim.x)
        own[e] = 0;
    __syncthreads();
    uint64_t i = grid_thread();
    if (i < pairs && choice[i] >= 0)
        atomicAdd(&own[choice[i]], 1u);
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < n_experts; e += blockDim.x)
        counts[static_cast<uint64_t>(blockIdx.x) * n_experts + e] = own[e];
}

/* next[e]: the place of the chunk's first pair with expert e. */
static __device__ void find_begins(const uint32_t *counts, const uint32_t *sent, uint32_t n_experts,
                                   uint32_t *next, uint32_t *room)
{
    for (uint32_t e = threadIdx.x; e < n_experts; e += blockDim.x)
        next[e] = sent[e];
    __syncthreads();
    block_scan(next, n_experts, room);
    for (uint32_t e = threadIdx.x; e < n_experts; e += blockDim.x)
        for (unsigned c = 0; c < blockIdx.x; c++)
            next[e] += counts[static_cast<uint64_t>(c) * n_experts + e];
    __syncthreads();
}

static __global__ void place_kernel(const int32_t *choice, uint64_t pairs, uint32_t n_experts,
                                    const uint32_t *counts, const uint32_t *sent, uint32_t *places)
{
    uint32_t *room = shared_memory<uint32_t>(), *next = room + WARP; /* [n_experts] */
    find_begins(counts, sent, n_experts, next, room);
    uint64_t i = grid_thread();
    unsigned lane = threadIdx.x % WARP;
    int32_t expert = i < pairs && choice[i] >= 0 ? choice[i] : -1;
    unsigned same = __match_any_sync(ALL_LANES, static_cast<unsigned>(expert));
    unsigned before = static_cast<unsigned>(__popc(same & ((1u << lane) - 1)));
    for (unsigned w = 0; w < blockDim.x / WARP; w++) {
        if (w == threadIdx.x / WARP) {
            uint32_t place = expert >= 0 ? next[expert] + before : UINT32_MAX;
            if (i < pairs)
                places[i] = place;
            __syncwarp();
            if (expert >= 0 && before == 0)
                next[expert] += static_cast<uint32_t>(__popc(same));
        }
        __syncthreads();
    }
}

cudaError_t tdm_cuda_places(cudaStream_t stream, const int32_t *choice, uint64_t pairs,
                            uint32_t n_experts, const uint32_t *sent, uint32_t *places,
                            void *workspace)
{
    uint32_t *counts = static_cast<uint32_t *>(workspace);
    dim3 chunks = blocks_of(ceil_div(pairs, CHUNK));
    cudaError_t error = launch(stream, chunks, CHUNK, n_experts * sizeof(uint32_t), count_kernel,
                               choice, pairs, n_experts, counts);
    if (error != cudaSuccess)
        return error;
    return launch(stream, chunks, CHUNK, (WARP + n_experts) * sizeof(uint32_t), place_kernel,
                  choice, pairs, n_experts, counts, sent, places);
}

size_t tdm_cuda_places_workspace(uint64_t pairs, uint32_t n_experts)
{
    return ceil_div(pairs, CHUNK) * n_experts * sizeof(uint32_t);
}
