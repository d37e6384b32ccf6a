/* zb-h1: 1F1B with the weight gradients apart: on stage s they lag s microbatches behind the input
 * gradients and fill the bubble at the end, with no more activations than 1F1B. Source: Qi et al.
 * 2024, Zero Bubble Pipeline Parallelism, section 2. */
#include "schedule.h"

static uint32_t order(uint32_t stage, uint32_t n_stages, uint32_t n_microbatches, tdm_pass *passes,
                      uint32_t capacity)
{
    uint32_t warmup = n_stages - 1 - stage;
    if (warmup > n_microbatches)
        warmup = n_microbatches;
    uint32_t n = 0, forward = 0, backward = 0, weight = 0;
    while (forward < warmup)
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_F, forward++);
    while (backward < n_microbatches) {
        if (forward < n_microbatches)
            tdm_schedule_put(passes, capacity, &n, TDM_PASS_F, forward++);
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_B, backward++);
        if (backward - weight > stage)
            tdm_schedule_put(passes, capacity, &n, TDM_PASS_W, weight++);
    }
    while (weight < n_microbatches)
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_W, weight++);
    return n;
}

const tdm_schedule tdm_schedule_zb_h1 = {
    .name = "zb-h1",
    .summary = "1f1b with weight gradients apart; about a third of its bubble at the same memory",
    .splits_backward = true,
    .order = order,
};
