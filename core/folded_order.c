/* folded_order.c: the passes of all stages and the transfers between them, once per schedule and
 * shape, in an order in which each comes after all it waits for. Every set of durations can then be
 * played through in one sweep. */
#include "folded_parts.h"

#include <string.h>

typedef struct builder {
    uint32_t p, v, m;
    tdm_fold_order *order;
    tdm_fold_pass *passes;
    tdm_fold_edge *edges;
    uint32_t *first, *events, n_events;
    /* by stage: passes done; edges sent and received, of those in lists */
    uint32_t *next, *n_sent, *n_received;
    uint32_t *sends, *receives; /* [n_passes] edges of a stage from its first pass on */
    uint32_t *n_sends, *n_receives;
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

static void list_passes(tdm_arena *arena, builder *b, const tdm_schedule *schedule,
                        const tdm_schedule_shape *shape)
{
    b->first = TDM_ALLOC(arena, uint32_t, b->p + 1);
    tdm_arena scratch = {0};
    for (uint32_t s = 0; s < b->p; s++)
        b->first[s + 1] = b->first[s] + schedule->order(&scratch, shape, s, NULL, 0);
    b->order->n_passes = b->first[b->p];
    b->passes = TDM_ALLOC(arena, tdm_fold_pass, b->order->n_passes);
    for (uint32_t s = 0; s < b->p; s++) {
        uint32_t n = b->first[s + 1] - b->first[s];
        tdm_pass *passes = TDM_ALLOC(&scratch, tdm_pass, n);
        schedule->order(&scratch, shape, s, passes, n);
        for (uint32_t i = 0; i < n; i++)
            b->passes[b->first[s] + i] = (tdm_fold_pass){.stage = s,
                                                         .chunk = passes[i].chunk,
                                                         .kind = passes[i].kind,
                                                         .recv = TDM_FOLD_NONE,
                                                         .send = TDM_FOLD_NONE,
                                                         .sent = TDM_FOLD_NONE};
    }
    tdm_arena_free(&scratch);
}

/* Passes that receive from stage `source`, in issue order after `*at`; TDM_FOLD_NONE: no more. */
static uint32_t next_receiver(const builder *b, uint32_t target, uint32_t source, uint32_t *at)
{
    for (; *at < b->first[target + 1]; (*at)++) {
        const tdm_fold_pass *pass = &b->passes[*at];
        bool forward = pass->kind == TDM_PASS_F;
        uint32_t from = forward ? (target + b->p - 1) % b->p : (target + 1) % b->p;
        if (receives(b, pass) && from == source)
            return (*at)++;
    }
    return TDM_FOLD_NONE;
}

/* Pairs sends with receives as a communicator does: in issue order, by source and target. */
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
            uint32_t direction = pass->kind == TDM_PASS_F ? 0 : 1;
            /* Of two stages each is the other's neighbour on both sides. */
            uint32_t queue = targets[0] == targets[1] ? 0 : direction;
            uint32_t receiver = next_receiver(b, targets[direction], s, &at[queue]);
            if (receiver == TDM_FOLD_NONE)
                return false;
            uint32_t edge = b->order->n_edges++;
            bool early = receiver - b->first[targets[direction]] < 2;
            b->edges[edge] = (tdm_fold_edge){.sender = i,
                                             .receiver = receiver,
                                             .posted = early ? TDM_FOLD_NONE : receiver - 2,
                                             .source = s,
                                             .target = targets[direction],
                                             .direction = direction};
            pass->send = edge;
            b->passes[receiver].recv = edge;
        }
    }
    return true;
}

static void list_edges(builder *b)
{
    for (uint32_t s = 0; s < b->p; s++) {
        uint32_t last = TDM_FOLD_NONE; /* sent in passes three before or earlier */
        for (uint32_t i = b->first[s]; i < b->first[s + 1]; i++) {
            tdm_fold_pass *pass = &b->passes[i];
            if (i >= b->first[s] + 3 && b->passes[i - 3].send != TDM_FOLD_NONE)
                last = b->passes[i - 3].send;
            pass->sent = last;
            if (pass->send != TDM_FOLD_NONE)
                b->sends[b->first[s] + b->n_sends[s]++] = pass->send;
            if (pass->recv != TDM_FOLD_NONE)
                b->receives[b->first[s] + b->n_receives[s]++] = pass->recv;
        }
    }
}

static bool pass_ready(const builder *b, uint32_t pass)
{
    const tdm_fold_pass *p = &b->passes[pass];
    return (p->recv == TDM_FOLD_NONE || b->done[p->recv]) &&
           (p->sent == TDM_FOLD_NONE || b->done[p->sent]);
}

/* The transfer at the head of the stage's sends, when both sides have come to it. */
static bool transfer_ready(const builder *b, uint32_t stage, uint32_t *edge)
{
    if (b->n_sent[stage] == b->n_sends[stage])
        return false;
    *edge = b->sends[b->first[stage] + b->n_sent[stage]];
    const tdm_fold_edge *e = &b->edges[*edge];
    uint32_t head = b->receives[b->first[e->target] + b->n_received[e->target]];
    return e->sender < b->next[stage] && head == *edge &&
           (e->posted == TDM_FOLD_NONE || e->posted < b->next[e->target]);
}

static bool advance(builder *b, uint32_t stage)
{
    bool moved = false;
    for (;;) {
        uint32_t edge;
        if (transfer_ready(b, stage, &edge)) {
            b->done[edge] = true;
            b->n_sent[stage]++;
            b->n_received[b->edges[edge].target]++;
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

tdm_fold_order *tdm_fold_order_new(tdm_arena *arena, const tdm_schedule *schedule,
                                   const tdm_schedule_shape *shape)
{
    tdm_arena scratch = {0};
    tdm_fold_order *order = TDM_ALLOC(arena, tdm_fold_order, 1);
    builder b = {
        .p = shape->n_stages, .v = shape->n_chunks, .m = shape->n_microbatches, .order = order};
    order->n_stages = b.p;
    list_passes(arena, &b, schedule, shape);
    bool sound = pair_transfers(arena, &b);
    b.events = TDM_ALLOC(arena, uint32_t, order->n_passes + order->n_edges);
    b.next = TDM_ALLOC(&scratch, uint32_t, b.p);
    memcpy(b.next, b.first, b.p * sizeof *b.next);
    b.n_sent = TDM_ALLOC(&scratch, uint32_t, b.p);
    b.n_received = TDM_ALLOC(&scratch, uint32_t, b.p);
    b.n_sends = TDM_ALLOC(arena, uint32_t, b.p);
    b.n_receives = TDM_ALLOC(arena, uint32_t, b.p);
    b.sends = TDM_ALLOC(arena, uint32_t, order->n_passes + 1);
    b.receives = TDM_ALLOC(arena, uint32_t, order->n_passes + 1);
    b.done = TDM_ALLOC(&scratch, bool, order->n_edges);
    if (sound) {
        list_edges(&b);
        sound = sort_events(&b);
    }
    tdm_arena_free(&scratch);
    order->passes = b.passes;
    order->edges = b.edges;
    order->first = b.first;
    order->events = b.events;
    order->sends = b.sends;
    order->receives = b.receives;
    order->n_sends = b.n_sends;
    order->n_receives = b.n_receives;
    order->deadlocks = !sound;
    return order;
}
