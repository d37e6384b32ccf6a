/* partials.cuh: gradients of parameters: blocks leave sums of their own in a workspace, which are
 * then added up in order. */
#ifndef TDM_CUDA_PARTIALS_CUH
#define TDM_CUDA_PARTIALS_CUH

#include "common.cuh"

/* Blocks that sum gradients of parameters besides other work. */
constexpr uint64_t PARTIAL_BLOCKS = 512;

/* gradient[c] += the sum over n of partial[i * step + c], c < columns; the same for `groups` of
 * them, group_step further on in partial and `columns` in gradient. */
cudaError_t add_partials(cudaStream_t stream, const float *partial, uint64_t n, uint64_t step,
                         uint64_t columns, uint64_t groups, uint64_t group_step,
                         gradient_of gradient);

#endif
