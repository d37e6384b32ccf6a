/* folded_order.c: the passes of all stages and the transfers between them, once per schedule and
 * shape, in an order in which each comes after all it waits for. Every set of durations can then be
 * played through in one sweep. */
#include "folded_parts.h"

#include <string.h>

typedef struct builder {
    uint32_t p, v, m, send_lag;
    bool train;
    tdm_fold_order *order;
    tdm_fold_pass *passes;
    uint32_t *microbatch; /* [n_passes] */
    tdm_fold_edge *edges;
    uint32_t *first, *events, n_events;
    uint32_t *next; /* [stage] first pass not done */
    /* by direction: edges of a stage from its first pass on; of them, done; by stage */
    uint32_t *sends[2], *receives[2], *n_sends[2], *n_receives[2], *n_sent[2], *n_received[2];
    bool *done; /* [n_edges] */
} builder;

/* Whether a pass receives from the virtual stage next to it, and sends. */
static bool receives(const builder *b, const tdm_fold_pass *pass)
{
    uint32_t at = pass->chunk * b->p + pass->stage;
    if (pass->kind == TDM_PASS_F)
        return at > 0;
    return pass->kind != TDM_PASS_W && at + 1 < b->p * b->v;
}

static bool sends(const builder *b, const tdm_fold_pass *pass)
{
    uint32_t at = pass->chunk * b->p + pass->stage;
    if (pass->kind == TDM_PASS_F)
        return at + 1 < b->p * b->v;
    return pass->kind != TDM_PASS_W && at > 0;
}

static void list_passes(tdm_arena *arena, tdm_arena *scratch, builder *b,
                        const tdm_schedule *schedule, const tdm_schedule_shape *shape)
{
    b->first = TDM_ALLOC(arena, uint32_t, b->p + 1);
    for (uint32_t s = 0; s < b->p; s++)
        b->first[s + 1] = b->first[s] + schedule->order(scratch, shape, s, NULL, 0);
    b->order->n_passes = b->first[b->p];
    b->passes = TDM_ALLOC(arena, tdm_fold_pass, b->order->n_passes);
    b->microbatch = TDM_ALLOC(scratch, uint32_t, b->order->n_passes);
    for (uint32_t s = 0; s < b->p; s++) {
        uint32_t n = b->first[s + 1] - b->first[s];
        tdm_pass *passes = TDM_ALLOC(scratch, tdm_pass, n);
        schedule->order(scratch, shape, s, passes, n);
        for (uint32_t i = 0; i < n; i++) {
            b->microbatch[b->first[s] + i] = passes[i].microbatch;
            b->order->has[passes[i].kind] = true;
            b->passes[b->first[s] + i] = (tdm_fold_pass){.stage = s,
                                                         .chunk = passes[i].chunk,
                                                         .kind = passes[i].kind,
                                                         .recv = TDM_FOLD_NONE,
                                                         .send = TDM_FOLD_NONE,
                                                         .sent = {TDM_FOLD_NONE, TDM_FOLD_NONE}};
        }
    }
}

static uint32_t direction_of(const tdm_fold_pass *pass)
{
    return pass->kind == TDM_PASS_F ? 0 : 1;
}

/* The next pass of a stage, after *at, that receives from the given direction; TDM_FOLD_NONE: no
 * more. */
static uint32_t next_receiver(const builder *b, uint32_t target, uint32_t direction, uint32_t *at)
{
    for (; *at < b->first[target + 1]; (*at)++)
        if (receives(b, &b->passes[*at]) && direction_of(&b->passes[*at]) == direction)
            return (*at)++;
    return TDM_FOLD_NONE;
}

/* Pairs sends with receives as a communicator does: in issue order. Lists the edges by stage. */
static bool pair_transfers(tdm_arena *arena, builder *b)
{
    b->edges = TDM_ALLOC(arena, tdm_fold_edge, b->order->n_passes);
    for (uint32_t s = 0; s < b->p; s++) {
        const uint32_t targets[2] = {(s + 1) % b->p, (s + b->p - 1) % b->p};
        uint32_t at[2] = {b->first[targets[0]], b->first[targets[1]]};
        for (uint32_t i = b->first[s]; i < b->first[s + 1]; i++) {
            tdm_fold_pass *pass = &b->passes[i];
            if (!sends(b, pass))
                continue;
            uint32_t direction = direction_of(pass), target = targets[direction];
            uint32_t receiver = next_receiver(b, target, direction, &at[direction]);
            if (receiver == TDM_FOLD_NONE)
                return false;
            uint32_t edge = b->order->n_edges++;
            bool early = receiver - b->first[target] < 2;
            b->edges[edge] = (tdm_fold_edge){.sender = i,
                                             .receiver = receiver,
                                             .posted = early ? TDM_FOLD_NONE : receiver - 2,
                                             .source = s,
                                             .target = target,
                                             .direction = direction};
            pass->send = edge;
            b->passes[receiver].recv = edge;
            b->sends[direction][b->first[s] + b->n_sends[direction][s]++] = edge;
            b->receives[direction][b->first[target] + b->n_receives[direction][target]++] = edge;
        }
    }
    return true;
}

/* The transfers out of its own buffers that a pass waits for. */
static void find_sent(builder *b, uint32_t stage, uint32_t *of_forward, uint32_t *of_backward)
{
    uint32_t last[2] = {TDM_FOLD_NONE, TDM_FOLD_NONE}; /* lag passes before or earlier */
    uint32_t lag = b->send_lag + 1;
    for (uint32_t i = b->first[stage]; i < b->first[stage + 1]; i++) {
        tdm_fold_pass *pass = &b->passes[i];
        uint32_t work = pass->chunk * b->m + b->microbatch[i];
        const tdm_fold_pass *past = i >= b->first[stage] + lag ? &b->passes[i - lag] : NULL;
        if (past && past->send != TDM_FOLD_NONE)
            last[direction_of(past)] = past->send;
        switch (pass->kind) {
        case TDM_PASS_F:
            of_forward[work] = pass->send;
            pass->sent[0] = b->train ? TDM_FOLD_NONE : last[0];
            break;
        case TDM_PASS_W:
            pass->sent[0] = of_backward[work];
            break;
        default:
            of_backward[work] = pass->send;
            pass->sent[0] = of_forward[work];
            pass->sent[1] = pass->kind == TDM_PASS_BW ? last[1] : TDM_FOLD_NONE;
            break;
        }
    }
}

static bool edge_done(const builder *b, uint32_t edge)
{
    return edge == TDM_FOLD_NONE || b->done[edge];
}

static bool pass_ready(const builder *b, uint32_t pass)
{
    const tdm_fold_pass *p = &b->passes[pass];
    return edge_done(b, p->recv) && edge_done(b, p->sent[0]) && edge_done(b, p->sent[1]);
}

/* The transfer at the head of the stage's sends, when both sides have come to it. */
static bool transfer_ready(const builder *b, uint32_t stage, uint32_t direction, uint32_t *edge)
{
    uint32_t n = b->n_sent[direction][stage];
    if (n == b->n_sends[direction][stage])
        return false;
    *edge = b->sends[direction][b->first[stage] + n];
    const tdm_fold_edge *e = &b->edges[*edge];
    const uint32_t *list = &b->receives[direction][b->first[e->target]];
    return e->sender < b->next[stage] && list[b->n_received[direction][e->target]] == *edge &&
           (e->posted == TDM_FOLD_NONE || e->posted < b->next[e->target]);
}

static bool advance(builder *b, uint32_t stage)
{
    bool moved = false;
    for (;;) {
        uint32_t edge;
        if (transfer_ready(b, stage, 0, &edge) || transfer_ready(b, stage, 1, &edge)) {
            const tdm_fold_edge *e = &b->edges[edge];
            b->done[edge] = true;
            b->n_sent[e->direction][stage]++;
            b->n_received[e->direction][e->target]++;
            b->events[b->n_events++] = b->order->n_passes + edge;
        } else if (b->next[stage] < b->first[stage + 1] && pass_ready(b, b->next[stage])) {
            b->events[b->n_events++] = b->next[stage]++;
        } else {
            return moved;
        }
        moved = true;
    }
}

static bool sort_events(builder *b)
{
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t s = 0; s < b->p; s++)
            moved |= advance(b, s);
    }
    return b->n_events == b->order->n_passes + b->order->n_edges;
}

/* Arrays of edges: kept ones for the order, others for the way there. */
static void allocate_edges(tdm_arena *arena, tdm_arena *scratch, builder *b)
{
    tdm_fold_order *order = b->order;
    for (uint32_t d = 0; d < 2; d++) {
        order->sends[d] = b->sends[d] = TDM_ALLOC(arena, uint32_t, order->n_passes + 1);
        order->receives[d] = b->receives[d] = TDM_ALLOC(arena, uint32_t, order->n_passes + 1);
        order->n_sends[d] = b->n_sends[d] = TDM_ALLOC(arena, uint32_t, b->p);
        order->n_receives[d] = b->n_receives[d] = TDM_ALLOC(arena, uint32_t, b->p);
        b->n_sent[d] = TDM_ALLOC(scratch, uint32_t, b->p);
        b->n_received[d] = TDM_ALLOC(scratch, uint32_t, b->p);
    }
    b->done = TDM_ALLOC(scratch, bool, order->n_passes);
    b->next = TDM_ALLOC(scratch, uint32_t, b->p);
    memcpy(b->next, b->first, b->p * sizeof *b->next);
}

static void find_all_sent(tdm_arena *scratch, builder *b)
{
    uint32_t n = b->v * b->m;
    uint32_t *of_forward = TDM_ALLOC(scratch, uint32_t, n);
    uint32_t *of_backward = TDM_ALLOC(scratch, uint32_t, n);
    for (uint32_t s = 0; s < b->p; s++) {
        memset(of_forward, 0xff, n * sizeof *of_forward);
        memset(of_backward, 0xff, n * sizeof *of_backward);
        find_sent(b, s, of_forward, of_backward);
    }
}

tdm_fold_order *tdm_fold_order_new(tdm_arena *arena, const tdm_schedule *schedule,
                                   const tdm_schedule_shape *shape)
{
    tdm_arena scratch = {0};
    tdm_fold_order *order = TDM_ALLOC(arena, tdm_fold_order, 1);
    builder b = {.p = shape->n_stages,
                 .v = shape->n_chunks,
                 .send_lag = tdm_schedule_send_lag(schedule, shape->n_microbatches),
                 .m = shape->n_microbatches,
                 .train = !schedule->forward_only,
                 .order = order};
    order->n_stages = b.p;
    order->n_chunks = b.v;
    order->n_microbatches = b.m;
    list_passes(arena, &scratch, &b, schedule, shape);
    allocate_edges(arena, &scratch, &b);
    bool sound = pair_transfers(arena, &b);
    order->events = b.events = TDM_ALLOC(arena, uint32_t, order->n_passes + order->n_edges);
    if (sound) {
        find_all_sent(&scratch, &b);
        sound = sort_events(&b);
    }
    tdm_arena_free(&scratch);
    order->passes = b.passes;
    order->edges = b.edges;
    order->first = b.first;
    order->deadlocks = !sound;
    return order;
}
