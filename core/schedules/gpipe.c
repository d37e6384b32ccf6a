/* gpipe: all forwards, then all backwards. Source: Huang et al. 2019, GPipe. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    (void)stage;
    tdm_pass_list list = {passes, capacity, 0};
    for (uint32_t i = 0; i < shape->n_microbatches; i++)
        tdm_schedule_put(&list, TDM_PASS_F, 0, i);
    for (uint32_t i = 0; i < shape->n_microbatches; i++)
        tdm_schedule_put(&list, TDM_PASS_BW, 0, i);
    return list.n;
}

const tdm_schedule tdm_schedule_gpipe = {
    .name = "gpipe",
    .summary = "all forwards, then all backwards; keeps the activations of every microbatch",
    .order = order,
};
