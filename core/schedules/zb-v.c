/* zb-v: two chunks per stage placed in a V, weight gradients apart. On stage s 2 (p - s) - 1
 * forwards of the way down come first, then s of the way back in turn with more of the way down,
 * then p - s of the way back, each followed by its backwards; from there on both ways take one
 * forward, one backward and its weight gradients in turn. At the end weight gradients are put off
 * while other stages wait for input gradients. With equal pass times and free transfers no stage
 * idles from 2 p - 1 microbatches on, and every stage holds the activations of 2 p chunks, which is
 * p microbatches and what the first stage of 1F1B holds. Source: Qi et al. 2024, Pipeline
 * Parallelism with Controllable Memory, V-ZB; the order is that of torch.distributed.pipelining,
 * ScheduleZBVZeroBubble. */
#include "schedule.h"

enum { DOWN, BACK, N_CHUNKS };

/* The order for a full pipeline, less the microbatches that there are not. */
typedef struct v_order {
    tdm_pass_list list;
    uint32_t microbatches;
    uint32_t n[TDM_N_PASS_KINDS][N_CHUNKS]; /* passes so far, those left out included */
} v_order;

static void put(v_order *o, tdm_pass_kind kind, uint32_t chunk)
{
    uint32_t microbatch = o->n[kind][chunk]++;
    if (microbatch < o->microbatches)
        tdm_schedule_put(&o->list, kind, chunk, microbatch);
}

static void put_backward_and_weights(v_order *o, uint32_t chunk)
{
    put(o, TDM_PASS_B, chunk);
    put(o, TDM_PASS_W, chunk);
}

static void warm_up(v_order *o, uint32_t p, uint32_t stage)
{
    for (uint32_t i = 0; i < 2 * (p - stage) - 1; i++)
        put(o, TDM_PASS_F, DOWN);
    for (uint32_t i = 0; i < stage; i++) {
        put(o, TDM_PASS_F, BACK);
        put(o, TDM_PASS_F, DOWN);
    }
    for (uint32_t i = stage; i < p; i++) {
        put(o, TDM_PASS_F, BACK);
        put_backward_and_weights(o, BACK);
    }
}

static void go_on(v_order *o, uint32_t n)
{
    while (o->n[TDM_PASS_F][BACK] < n) {
        if (o->n[TDM_PASS_F][DOWN] < n)
            put(o, TDM_PASS_F, DOWN);
        put_backward_and_weights(o, DOWN);
        put(o, TDM_PASS_F, BACK);
        put_backward_and_weights(o, BACK);
    }
}

static void cool_down(v_order *o, uint32_t p, uint32_t stage, uint32_t n)
{
    for (uint32_t i = 0; i < stage; i++) {
        put(o, TDM_PASS_B, DOWN);
        put(o, TDM_PASS_B, BACK);
    }
    for (uint32_t i = stage; i < p; i++)
        put_backward_and_weights(o, DOWN);
    while (o->n[TDM_PASS_W][BACK] < n)
        put(o, TDM_PASS_W, BACK);
    while (o->n[TDM_PASS_W][DOWN] < n)
        put(o, TDM_PASS_W, DOWN);
}

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t p = shape->n_stages, m = shape->n_microbatches, full = 2 * p - 1;
    uint32_t n = m > full ? m : full;
    v_order o = {.list = {passes, capacity, 0}, .microbatches = m};
    warm_up(&o, p, stage);
    go_on(&o, n);
    cool_down(&o, p, stage, n);
    return o.list.n;
}

static const char *refuse(const tdm_schedule_shape *shape)
{
    if (shape->n_stages < 2)
        return "needs at least 2 pipeline stages";
    if (shape->n_chunks != N_CHUNKS)
        return "needs exactly 2 chunks of layers per stage "
               "(parallel.num_virtual_stages_per_pipeline_rank: 2)";
    return NULL;
}

const tdm_schedule tdm_schedule_zb_v = {
    .name = "zb-v",
    .summary = "2 chunks per stage in a V, weight gradients apart; no bubble in theory at the "
               "memory of 1f1b, evenly over the stages",
    .splits_backward = true,
    .chunked = true,
    .refuse = refuse,
    .order = order,
    .placement = TDM_PLACEMENT_V,
};
