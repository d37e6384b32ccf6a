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
    /* by stream: edges of a stage from its first pass on; of them, done; by stage */
    uint32_t *sends[TDM_FOLD_N_SENDS], *n_sends[TDM_FOLD_N_SENDS], *n_sent[TDM_FOLD_N_SENDS];
    uint32_t *receives[TDM_FOLD_N_RECEIVES], *n_receives[TDM_FOLD_N_RECEIVES],
        *n_received[TDM_FOLD_N_RECEIVES];
    bool *done; /* [n_edges] */
    tdm_placement placement;
} builder;

/* Stage that a pass takes its input from, or gives its output to; TDM_FOLD_NONE: none. */
static uint32_t neighbour(const builder *b, const tdm_fold_pass *pass, bool gives)
{
    if (pass->kind == TDM_PASS_W)
        return TDM_FOLD_NONE;
    uint32_t at = tdm_placement_virtual(b->placement, b->p, pass->stage, pass->chunk);
    bool up = (pass->kind == TDM_PASS_F) == gives;
    if (up ? at + 1 == b->p * b->v : at == 0)
        return TDM_FOLD_NONE;
    return tdm_placement_stage(b->placement, b->p, up ? at + 1 : at - 1);
}

/* Whether a pass receives from another stage, and sends to one. */
static bool receives(const builder *b, const tdm_fold_pass *pass)
{
    uint32_t from = neighbour(b, pass, false);
    return from != TDM_FOLD_NONE && from != pass->stage;
}

static bool sends(const builder *b, const tdm_fold_pass *pass)
{
    uint32_t to = neighbour(b, pass, true);
    return to != TDM_FOLD_NONE && to != pass->stage;
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
            b->passes[b->first[s] + i] =
                (tdm_fold_pass){.stage = s,
                                .chunk = passes[i].chunk,
                                .kind = passes[i].kind,
                                .recv = TDM_FOLD_NONE,
                                .send = TDM_FOLD_NONE,
                                .sent = {TDM_FOLD_NONE, TDM_FOLD_NONE, TDM_FOLD_NONE}};
        }
    }
}

/* Stream of a pass's transfers. Both ends are in chunks that run the same way. */
static uint32_t stream_of(const builder *b, const tdm_fold_pass *pass)
{
    bool back = b->placement == TDM_PLACEMENT_V && pass->chunk % 2 == 1;
    return (pass->kind == TDM_PASS_F ? 0u : 1u) + (back ? 2u : 0u);
}

/* The next pass of a stage, after *at, that receives from the given stream; TDM_FOLD_NONE: no
 * more. */
static uint32_t next_receiver(const builder *b, uint32_t target, uint32_t stream, uint32_t *at)
{
    for (; *at < b->first[target + 1]; (*at)++)
        if (receives(b, &b->passes[*at]) && stream_of(b, &b->passes[*at]) == stream)
            return (*at)++;
    return TDM_FOLD_NONE;
}

static void add_edge(builder *b, uint32_t sender, uint32_t receiver, uint32_t target)
{
    tdm_fold_pass *pass = &b->passes[sender];
    uint32_t edge = b->order->n_edges++, stream = stream_of(b, pass);
    bool early = receiver - b->first[target] < 2;
    b->edges[edge] = (tdm_fold_edge){.sender = sender,
                                     .receiver = receiver,
                                     .posted = early ? TDM_FOLD_NONE : receiver - 2,
                                     .source = pass->stage,
                                     .target = target,
                                     .stream = stream,
                                     .direction = stream == 1 || stream == 2};
    pass->send = edge;
    b->passes[receiver].recv = edge;
    b->sends[stream][b->first[pass->stage] + b->n_sends[stream][pass->stage]++] = edge;
}

/* Pairs sends with receives as a communicator does: in issue order. Lists the edges by stage. */
static bool pair_transfers(tdm_arena *arena, builder *b)
{
    b->edges = TDM_ALLOC(arena, tdm_fold_edge, b->order->n_passes);
    for (uint32_t s = 0; s < b->p; s++) {
        uint32_t at[TDM_FOLD_N_SENDS] = {0}; /* a stream leads to one stage */
        for (uint32_t i = b->first[s]; i < b->first[s + 1]; i++) {
            if (!sends(b, &b->passes[i]))
                continue;
            uint32_t stream = stream_of(b, &b->passes[i]);
            uint32_t target = neighbour(b, &b->passes[i], true);
            at[stream] = at[stream] < b->first[target] ? b->first[target] : at[stream];
            uint32_t receiver = next_receiver(b, target, stream, &at[stream]);
            if (receiver == TDM_FOLD_NONE)
                return false;
            add_edge(b, i, receiver, target);
        }
    }
    for (uint32_t i = 0; i < b->order->n_passes; i++)
        if (b->passes[i].recv != TDM_FOLD_NONE) {
            uint32_t way = stream_of(b, &b->passes[i]) % TDM_FOLD_N_RECEIVES;
            uint32_t s = b->passes[i].stage;
            b->receives[way][b->first[s] + b->n_receives[way][s]++] = b->passes[i].recv;
        }
    return true;
}

/* Whether every pass whose input is handed over on its own stage comes after the one that makes it.
 */
static bool turns_in_order(tdm_arena *scratch, const builder *b)
{
    uint32_t works = b->v * b->m;
    bool *done[2] = {TDM_ALLOC(scratch, bool, works), TDM_ALLOC(scratch, bool, works)};
    for (uint32_t s = 0; s < b->p; s++) {
        memset(done[0], 0, works);
        memset(done[1], 0, works);
        for (uint32_t i = b->first[s]; i < b->first[s + 1]; i++) {
            const tdm_fold_pass *pass = &b->passes[i];
            uint32_t backward = pass->kind != TDM_PASS_F;
            if (pass->kind == TDM_PASS_W)
                continue;
            bool turns = neighbour(b, pass, false) == s;
            uint32_t from = backward ? pass->chunk + 1 : pass->chunk - 1;
            if (turns && !done[backward][from * b->m + b->microbatch[i]])
                return false;
            done[backward][pass->chunk * b->m + b->microbatch[i]] = true;
        }
    }
    return true;
}

/* The transfers out of its own buffers that a pass waits for. */
static void find_sent(builder *b, uint32_t stage, uint32_t *of_forward, uint32_t *of_backward)
{
    uint32_t last[TDM_FOLD_N_SENDS]; /* lag passes before or earlier */
    memset(last, 0xff, sizeof last);
    uint32_t lag = b->send_lag + 1;
    bool in_v = b->placement == TDM_PLACEMENT_V;
    for (uint32_t i = b->first[stage]; i < b->first[stage + 1]; i++) {
        tdm_fold_pass *pass = &b->passes[i];
        uint32_t work = pass->chunk * b->m + b->microbatch[i];
        const tdm_fold_pass *past = i >= b->first[stage] + lag ? &b->passes[i - lag] : NULL;
        if (past && past->send != TDM_FOLD_NONE)
            last[stream_of(b, past)] = past->send;
        switch (pass->kind) {
        case TDM_PASS_F:
            of_forward[work] = pass->send;
            pass->sent[0] = b->train ? TDM_FOLD_NONE : last[0];
            pass->sent[1] = b->train ? TDM_FOLD_NONE : last[2];
            break;
        case TDM_PASS_W:
            pass->sent[0] = in_v ? last[1] : of_backward[work];
            pass->sent[1] = in_v ? last[3] : TDM_FOLD_NONE;
            break;
        default:
            of_backward[work] = pass->send;
            pass->sent[0] = of_forward[work];
            pass->sent[1] = pass->kind == TDM_PASS_BW ? last[1] : TDM_FOLD_NONE;
            pass->sent[2] = pass->kind == TDM_PASS_BW ? last[3] : TDM_FOLD_NONE;
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
    bool sent = true;
    for (size_t i = 0; i < TDM_COUNT(p->sent); i++)
        sent &= edge_done(b, p->sent[i]);
    return sent && edge_done(b, p->recv);
}

/* The transfer at the head of the stage's sends, when both sides have come to it. */
static bool transfer_ready(const builder *b, uint32_t stage, uint32_t *edge)
{
    for (uint32_t stream = 0; stream < TDM_FOLD_N_SENDS; stream++) {
        uint32_t n = b->n_sent[stream][stage], way = stream % TDM_FOLD_N_RECEIVES;
        if (n == b->n_sends[stream][stage])
            continue;
        *edge = b->sends[stream][b->first[stage] + n];
        const tdm_fold_edge *e = &b->edges[*edge];
        const uint32_t *list = &b->receives[way][b->first[e->target]];
        if (e->sender < b->next[stage] && list[b->n_received[way][e->target]] == *edge &&
            (e->posted == TDM_FOLD_NONE || e->posted < b->next[e->target]))
            return true;
    }
    return false;
}

static bool advance(builder *b, uint32_t stage)
{
    bool moved = false;
    for (;;) {
        uint32_t edge;
        if (transfer_ready(b, stage, &edge)) {
            const tdm_fold_edge *e = &b->edges[edge];
            b->done[edge] = true;
            b->n_sent[e->stream][stage]++;
            b->n_received[e->stream % TDM_FOLD_N_RECEIVES][e->target]++;
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
    for (uint32_t i = 0; i < TDM_FOLD_N_SENDS; i++) {
        bool used = i < order->n_send_streams;
        order->sends[i] = b->sends[i] = TDM_ALLOC(arena, uint32_t, used ? order->n_passes + 1 : 1);
        order->n_sends[i] = b->n_sends[i] = TDM_ALLOC(arena, uint32_t, b->p);
        b->n_sent[i] = TDM_ALLOC(scratch, uint32_t, b->p);
    }
    for (uint32_t i = 0; i < TDM_FOLD_N_RECEIVES; i++) {
        order->receives[i] = b->receives[i] = TDM_ALLOC(arena, uint32_t, order->n_passes + 1);
        order->n_receives[i] = b->n_receives[i] = TDM_ALLOC(arena, uint32_t, b->p);
        b->n_received[i] = TDM_ALLOC(scratch, uint32_t, b->p);
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
                                   const tdm_schedule_shape *shape, tdm_placement placement)
{
    tdm_arena scratch = {0};
    tdm_fold_order *order = TDM_ALLOC(arena, tdm_fold_order, 1);
    builder b = {.p = shape->n_stages,
                 .v = shape->n_chunks,
                 .send_lag = tdm_schedule_send_lag(schedule, shape->n_microbatches),
                 .m = shape->n_microbatches,
                 .train = !schedule->forward_only,
                 .placement = placement,
                 .order = order};
    order->n_send_streams = placement == TDM_PLACEMENT_V ? TDM_FOLD_N_SENDS : 2;
    order->n_stages = b.p;
    order->n_chunks = b.v;
    order->n_microbatches = b.m;
    list_passes(arena, &scratch, &b, schedule, shape);
    allocate_edges(arena, &scratch, &b);
    bool sound = pair_transfers(arena, &b) && turns_in_order(&scratch, &b);
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
