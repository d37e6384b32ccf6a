/* forward-only: inference, and the measure of one microbatch's forward latency. */
#include "schedule.h"

static uint32_t order(uint32_t stage, uint32_t n_stages, uint32_t n_microbatches, tdm_pass *passes,
                      uint32_t capacity)
{
    (void)stage;
    (void)n_stages;
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_microbatches; i++)
        tdm_schedule_put(passes, capacity, &n, TDM_PASS_F, i);
    return n;
}

const tdm_schedule tdm_schedule_forward_only = {
    .name = "forward-only",
    .summary = "forwards alone, no gradients and no optimizer",
    .forward_only = true,
    .order = order,
};
