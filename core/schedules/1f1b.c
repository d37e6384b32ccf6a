/* 1f1b: after a warm-up of p - 1 - stage forwards, one forward and one backward in turn.
 * Source: Narayanan et al. 2021, Efficient Large-Scale Language Model Training on GPU Clusters,
 * figure 4. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t m = shape->n_microbatches, warmup = shape->n_stages - 1 - stage;
    uint32_t forward = 0, backward = 0;
    tdm_pass_list list = {passes, capacity, 0};
    while (forward < warmup && forward < m)
        tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
    while (backward < m) {
        if (forward < m)
            tdm_schedule_put(&list, TDM_PASS_F, 0, forward++);
        tdm_schedule_put(&list, TDM_PASS_BW, 0, backward++);
    }
    return list.n;
}

const tdm_schedule tdm_schedule_1f1b = {
    .name = "1f1b",
    .summary = "one forward, one backward; keeps at most p - stage microbatches",
    .order = order,
};
