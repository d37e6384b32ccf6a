/* zb-h1: 1F1B with the weight gradients apart: on stage s they lag s microbatches behind the input
 * gradients and fill the bubble at the end, with no more activations than 1F1B.
 * Source: Qi et al. 2024, Zero Bubble Pipeline Parallelism, section 2. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t m = shape->n_microbatches, warmup = shape->n_stages - 1 - stage;
    uint32_t forward = 0, backward = 0, weight = 0;
    tdm_pass_list list = {passes, capacity, 0};
    while (forward < warmup && forward < m)
        tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
    while (backward < m) {
        if (forward < m)
            tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
        tdm_schedule_put(&list, TDM_PASS_B, 0, backward++);
        if (backward - weight > stage)
            tdm_schedule_put(&list, TDM_PASS_W, 0, weight++);
    }
    while (weight < m)
        tdm_schedule_put(&list, TDM_PASS_W, 0, weight++);
    return list.n;
}

const tdm_schedule tdm_schedule_zb_h1 = {
    .name = "zb-h1",
    .summary = "1f1b with weight gradients apart; about a third of its bubble at the same memory",
    .splits_backward = true,
    .order = order,
};
