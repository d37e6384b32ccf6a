/* 1f1b: after a warm-up of p - 1 - stage forwards, one forward and one backward in turn.
 * Source: Narayanan et al. 2021, Efficient Large-Scale Language Model Training on GPU Clusters,
 * figure 4. */
#include "schedule.h"

static uint32_t order(uint32_t stage, uint32_t n_stages, uint32_t n_microbatches, tdm_pass *passes,
                      uint32_t capacity)
{
    uint32_t warmup = n_stages - 1 - stage;
    if (warmup > n_microbatches)
        warmup = n_microbatches;
    uint32_t n = 0, forward = 0, backward = 0;
    while (forward < warmup)
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_F, forward++);
    while (backward < n_microbatches) {
        if (forward < n_microbatches)
            tdm_schedule_put(passes, capacity, &n, TDM_PASS_F, forward++);
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_BW, backward++);
    }
    return n;
}

const tdm_schedule tdm_schedule_1f1b = {
    .name = "1f1b",
    .summary = "one forward, one backward; keeps at most p - stage microbatches",
    .order = order,
};
