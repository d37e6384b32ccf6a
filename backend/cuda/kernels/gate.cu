/* gate.cu: the router: softmax over all experts, of which the chosen ones' probabilities are taken.
 * A warp for a token. Source: Fedus et al. 2021, Switch Transformer, eq. 1; Megatron Core's
 * moe_router_pre_softmax. */
#include "common.cuh"

/* Largest logit, and the sum of exponentials less it. */
struct softmax_of {
    float most, sum;
    __device__ float operator()(float logit) const
    {
        return expf(logit - most) / sum;
    }
};

static __device__ softmax_of warp_softmax(const float *logits, uint32_t n)
{
    unsigned lane = threadIdx.x % WARP;
    float most = -INFINITY, sum = 0;
    for (uint32_t e = lane; e < n; e += WARP)
        most = fmaxf(most, logits[e]);
    most = warp_max(most);
    for (uint32_t e = lane; e < n; e += WARP)
        sum += expf(logits[e] - most);
    return {most, warp_sum(sum)};
}

static __device__ uint32_t expert_of(int32_t choice)
{
    return static_cast<uint32_t>(choice >= 0 ? choice : -1 - choice);
}

static __global__ void topk_kernel(const float *logits, const int32_t *planned, uint64_t tokens,
                                   uint32_t n_experts, uint32_t k, float *probability,
                                   int32_t *choice)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t t = grid_thread() / WARP; t < tokens; t += grid_threads() / WARP) {
        const float *row = logits + t * n_experts;
        softmax_of p = warp_softmax(row, n_experts);
        for (uint32_t j = lane; j < k; j += WARP) {
            int32_t c = planned[t * k + j];
            probability[t * k + j] = p(row[expert_of(c)]);
            choice[t * k + j] = c;
        }
    }
}

cudaError_t tdm_cuda_topk(cudaStream_t stream, const float *logits, const int32_t *planned,
                          uint64_t tokens, uint32_t n_experts, uint32_t k, float *probability,
                          int32_t *choice)
{
    return launch(stream, strided(tokens * WARP), THREADS, 0, topk_kernel, logits, planned, tokens,
                  n_experts, k, probability, choice);
}

/* The gradient of a probability: of a dropped choice, or of an expert that is none, 0. */
static __device__ float gradient_at(const int32_t *choice, const float *dprobability, uint32_t k,
                                    uint32_t expert)
{
    float d = 0;
    for (uint32_t j = 0; j < k; j++)
        if (choice[j] == static_cast<int32_t>(expert))
            d = dprobability[j];
    return d;
}

static __global__ void topk_backward_kernel(const float *logits, const int32_t *choice,
                                            const float *dprobability, uint64_t tokens,
                                            uint32_t n_experts, uint32_t k, float *dlogits)
{
    unsigned lane = threadIdx.x % WARP;
    for (uint64_t t = grid_thread() / WARP; t < tokens; t += grid_threads() / WARP) {
        const float *row = logits + t * n_experts, *dp = dprobability + t * k;
        const int32_t *chosen = choice + t * k;
        softmax_of p = warp_softmax(row, n_experts);
        float mean = 0;
        for (uint32_t j = lane; j < k; j += WARP)
            if (chosen[j] >= 0)
                mean += dp[j] * p(row[chosen[j]]);
        mean = warp_sum(mean);
        for (uint32_t e = lane; e < n_experts; e += WARP)
            dlogits[t * n_experts + e] = p(row[e]) * (gradient_at(chosen, dp, k, e) - mean);
    }
}

cudaError_t tdm_cuda_topk_backward(cudaStream_t stream, const float *logits, const int32_t *choice,
                                   const float *dprobability, uint64_t tokens, uint32_t n_experts,
                                   uint32_t k, float *dlogits)
{
    return launch(stream, strided(tokens * WARP), THREADS, 0, topk_backward_kernel, logits, choice,
                  dprobability, tokens, n_experts, k, dlogits);
}
