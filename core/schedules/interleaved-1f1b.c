/* interleaved-1f1b: 1F1B over v chunks of layers per stage, which divides the bubble by v.
 * Microbatches go in groups of p through each chunk in turn; the warm-up is 2 (p - 1 - stage) + (v
 * - 1) p passes. Source: Narayanan et al. 2021, section 2.2; Megatron-LM's
 * forward_backward_pipelining_with_interleaving. */
#include "schedule.h"

static const char *refuse(const tdm_schedule_shape *shape)
{
    if (shape->n_stages < 2)
        return "needs at least 2 pipeline stages";
    if (shape->n_chunks < 2)
        return "needs at least 2 chunks of layers per stage "
               "(parallel.num_virtual_stages_per_pipeline_rank: 2 or more)";
    if (shape->n_microbatches % shape->n_stages != 0)
        return "needs a number of microbatches that is a multiple of the pipeline stages";
    return NULL;
}

/* The k-th pass in forward order: groups of p microbatches, chunk by chunk within a group. */
static uint32_t chunk_of(const tdm_schedule_shape *shape, uint32_t k)
{
    return k / shape->n_stages % shape->n_chunks;
}

static uint32_t microbatch_of(const tdm_schedule_shape *shape, uint32_t k)
{
    return k / (shape->n_stages * shape->n_chunks) * shape->n_stages + k % shape->n_stages;
}

static void put_forward(const tdm_schedule_shape *shape, tdm_pass_list *list, uint32_t k)
{
    tdm_schedule_put(list, TDM_PASS_F, chunk_of(shape, k), microbatch_of(shape, k));
}

/* Backwards take the chunks from the last to the first. */
static void put_backward(const tdm_schedule_shape *shape, tdm_pass_list *list, uint32_t k)
{
    uint32_t chunk = shape->n_chunks - 1 - chunk_of(shape, k);
    tdm_schedule_put(list, TDM_PASS_BW, chunk, microbatch_of(shape, k));
}

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t n = shape->n_microbatches * shape->n_chunks;
    uint32_t warmup = 2 * (shape->n_stages - 1 - stage) + (shape->n_chunks - 1) * shape->n_stages;
    uint32_t forward = 0, backward = 0;
    tdm_pass_list list = {passes, capacity, 0};
    while (forward < warmup && forward < n)
        put_forward(shape, &list, forward++);
    while (backward < n) {
        if (forward < n)
            put_forward(shape, &list, forward++);
        put_backward(shape, &list, backward++);
    }
    return list.n;
}

const tdm_schedule tdm_schedule_interleaved_1f1b = {
    .name = "interleaved-1f1b",
    .summary = "1f1b over v chunks per stage; bubble divided by v, for more transfers and memory",
    .chunked = true,
    .refuse = refuse,
    .order = order,
};
