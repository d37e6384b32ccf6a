/* forward-only: inference, and the measure of one microbatch's forward latency. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    (void)stage;
    tdm_pass_list list = {passes, capacity, 0};
    /* In groups of p, so that no microbatch waits at the corner from the last stage to the first.
     */
    for (uint32_t from = 0; from < shape->n_microbatches; from += shape->n_stages)
        for (uint32_t c = 0; c < shape->n_chunks; c++)
            for (uint32_t i = from; i < from + shape->n_stages && i < shape->n_microbatches; i++)
                tdm_schedule_put(&list, TDM_PASS_F, c, i);
    return list.n;
}

const tdm_schedule tdm_schedule_forward_only = {
    .name = "forward-only",
    .summary = "forwards alone, no gradients and no optimizer",
    .forward_only = true,
    .chunked = true,
    .order = order,
};
