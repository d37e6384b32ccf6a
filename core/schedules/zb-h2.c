/* zb-h2: weight gradients apart, and enough forwards in advance to fill the warm-up: stage s runs
 * 2 (p - s) - 1 forwards first, and its weight gradients lag 2 s microbatches behind. With equal
 * pass times and free transfers no bubble is left, at up to twice the activations of 1F1B. Source:
 * Qi et al. 2024, Zero Bubble Pipeline Parallelism, section 2. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t m = shape->n_microbatches, warmup = 2 * (shape->n_stages - 1 - stage);
    uint32_t forward = 0, backward = 0, weight = 0;
    tdm_pass_list list = {passes, capacity, 0};
    while (forward < warmup && forward < m)
        tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
    while (backward < m) {
        if (forward < m)
            tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
        tdm_schedule_put(&list, TDM_PASS_B, 0, backward++);
        if (backward - weight > 2 * stage)
            tdm_schedule_put(&list, TDM_PASS_W, 0, weight++);
    }
    while (weight < m)
        tdm_schedule_put(&list, TDM_PASS_W, 0, weight++);
    return list.n;
}

const tdm_schedule tdm_schedule_zb_h2 = {
    .name = "zb-h2",
    .summary =
        "weight gradients apart and a longer warm-up; no bubble in theory at twice the memory",
    .splits_backward = true,
    .order = order,
};
