/* hb.c: happens-before within one rank as vector clocks: per op, how many ops of each stream have
 * ended before it starts. Host order issues ops but orders nothing; streams and waits do. */
#include "layout.h"

enum { RECENT = TDM_TAIL_MAX + 1 };

struct tdm_hb {
    uint32_t n_issued[TDM_N_STREAMS];
    /* What has ended when the stream's op of position p has ended: [stream][p % RECENT]. */
    tdm_clock ended[TDM_N_STREAMS][RECENT];
    /* The same for each stream's last op before a pass began: [pass][stream]. */
    tdm_clock (*at_pass)[TDM_N_STREAMS];
    uint32_t n_begun; /* passes entered in at_pass */
    uint32_t n_passes;
};

tdm_hb *tdm_hb_new(tdm_arena *arena, uint32_t n_passes)
{
    tdm_hb *hb = TDM_ALLOC(arena, tdm_hb, 1);
    hb->at_pass = tdm_arena_alloc(arena, sizeof *hb->at_pass * n_passes);
    hb->n_passes = n_passes;
    return hb;
}

static const tdm_clock *last_ended(const tdm_hb *hb, tdm_stream stream)
{
    return &hb->ended[stream][hb->n_issued[stream] % RECENT];
}

/* Notes the streams' tails for every pass up to this one; passes without ops begin together with
 * the next. */
static void begin_passes(tdm_hb *hb, uint32_t pass_index)
{
    for (; hb->n_begun <= pass_index && hb->n_begun < hb->n_passes; hb->n_begun++)
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
            hb->at_pass[hb->n_begun][s] = *last_ended(hb, (tdm_stream)s);
}

/* The clock a wait brings, or NULL when there is no such op or it is too far back to be known. */
static const tdm_clock *awaited(const tdm_hb *hb, const tdm_wait *wait, uint32_t pass_index)
{
    if (wait->kind == TDM_WAIT_PASS)
        return wait->n <= pass_index ? &hb->at_pass[pass_index - wait->n][wait->stream] : NULL;
    uint32_t n_issued = hb->n_issued[wait->stream];
    return wait->n < n_issued && wait->n < RECENT
               ? &hb->ended[wait->stream][(n_issued - wait->n) % RECENT]
               : NULL;
}

void tdm_hb_step(tdm_hb *hb, const tdm_instance *instance, tdm_clock *before, uint32_t *position)
{
    const tdm_op *op = instance->op;
    if (instance->pass_index >= hb->n_begun)
        begin_passes(hb, instance->pass_index);
    tdm_clock clock = *last_ended(hb, op->stream);
    for (uint32_t w = 0; w < op->n_waits; w++) {
        const tdm_clock *other = awaited(hb, &op->waits[w], instance->pass_index);
        for (uint32_t s = 0; other && s < TDM_N_STREAMS; s++)
            clock.seen[s] = clock.seen[s] > other->seen[s] ? clock.seen[s] : other->seen[s];
    }
    *before = clock;
    *position = ++hb->n_issued[op->stream];
    clock.seen[op->stream] = *position;
    hb->ended[op->stream][*position % RECENT] = clock;
}
