/* scan.cuh: where groups of rows begin. */
#ifndef TDM_CUDA_SCAN_CUH
#define TDM_CUDA_SCAN_CUH

#include "common.cuh"

/* Numbers of n groups become the sums of those before, in shared memory, by all threads. room
 * [WARP]. Ends with a barrier. */
__device__ __forceinline__ void block_scan(uint32_t *counts, uint32_t n, uint32_t *room)
{
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    uint32_t before = 0;
    for (uint32_t first = 0; first < n; first += blockDim.x) {
        uint32_t i = first + threadIdx.x, own = i < n ? counts[i] : 0, sum = own;
#pragma unroll
        for (unsigned d = 1; d < WARP; d *= 2) {
            uint32_t left = __shfl_up_sync(ALL_LANES, sum, d);
            sum += lane >= d ? left : 0;
        }
        __syncthreads();
        if (lane == WARP - 1)
            room[warp] = sum;
        __syncthreads();
        uint32_t all = before;
        for (unsigned w = 0; w < blockDim.x / WARP; w++) {
            before += w < warp ? room[w] : 0;
            all += room[w];
        }
        if (i < n)
            counts[i] = before + sum - own;
        before = all;
    }
    __syncthreads();
}

/* The last of n groups that begins at or before a row. Groups without rows are skipped. */
__device__ __forceinline__ uint32_t group_of(const uint32_t *begins, uint32_t n, uint64_t row)
{
    uint32_t low = 0, high = n;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (begins[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

#endif
