/* breadth-first: every microbatch through a chunk before the next chunk begins, backwards alike.
 * Fewer switches between chunks than interleaved 1F1B, so sharded weights are gathered once per
 * chunk; keeps the activations of every microbatch. Source: Lamy-Poirier 2023, Breadth-First
 * Pipeline Parallelism. */
#include "schedule.h"

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    (void)stage;
    tdm_pass_list list = {passes, capacity, 0};
    for (uint32_t c = 0; c < shape->n_chunks; c++)
        for (uint32_t i = 0; i < shape->n_microbatches; i++)
            tdm_schedule_put(&list, TDM_PASS_F, c, i);
    for (uint32_t c = shape->n_chunks; c-- > 0;)
        for (uint32_t i = 0; i < shape->n_microbatches; i++)
            tdm_schedule_put(&list, TDM_PASS_BW, c, i);
    return list.n;
}

const tdm_schedule tdm_schedule_breadth_first = {
    .name = "breadth-first",
    .summary = "chunk by chunk, all microbatches each; keeps the activations of every microbatch",
    .chunked = true,
    .holds_sends = true,
    .order = order,
};
