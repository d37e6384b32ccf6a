/* folded_run.c: plays the passes of a schedule through, then the O pass. */
#include "folded_parts.h"

#include <math.h>
#include <string.h>

/* Times by pass and by edge, and what else is by stage. */
typedef struct player {
    const tdm_fold_order *order;
    const tdm_fold_stages *stages;
    tdm_fold_run *run;
    double *start_s, *end_s, *issue_s; /* [n_passes]; issue: when the host comes to it */
    double *sent_s, *posted_s, *moved_s, *arrived_s; /* [n_edges] own starts, transfer, end */
    /* [n_stages], by stream */
    double *free_s, *send_free_s[TDM_FOLD_N_SENDS], *recv_free_s[TDM_FOLD_N_RECEIVES];
    double (*live)[TDM_FOLD_N_HEAPS], (*peak)[TDM_FOLD_N_HEAPS]; /* [n_stages] */
} player;

enum { PER_PASS = 3, PER_EDGE = 4, PER_STAGE = 13 + 7 + 2 * TDM_FOLD_N_HEAPS };

static double *take(double **values, size_t n)
{
    double *taken = *values;
    *values += n;
    return taken;
}

static void allot(tdm_fold_room *room, player *p)
{
    size_t n = p->order->n_stages;
    size_t needed = PER_PASS * (size_t)p->order->n_passes + PER_EDGE * (size_t)p->order->n_edges +
                    PER_STAGE * n;
    if (room->capacity < needed) {
        tdm_arena_free(&room->arena);
        room->capacity = 2 * needed;
        room->values = TDM_ALLOC(&room->arena, double, room->capacity);
    }
    double *v = room->values;
    tdm_fold_run *r = p->run;
    double **by_stage[] = {
        &r->busy_s,          &r->passes_s,       &r->first_s,        &r->last_s,
        &r->end_of_passes_s, &r->exposed_s,      &r->step_exposed_s, &r->recv_s,
        &r->send_s,          &r->within_s,       &r->waiting_s,      &r->peak_bytes,
        &r->step_busy_s,     &p->free_s,         &p->send_free_s[0], &p->send_free_s[1],
        &p->send_free_s[2],  &p->send_free_s[3], &p->recv_free_s[0], &p->recv_free_s[1]};
    memset(v, 0, PER_STAGE * n * sizeof *v);
    for (size_t i = 0; i < TDM_COUNT(by_stage); i++)
        *by_stage[i] = take(&v, n);
    p->live = (double(*)[TDM_FOLD_N_HEAPS])take(&v, n * TDM_FOLD_N_HEAPS);
    p->peak = (double(*)[TDM_FOLD_N_HEAPS])take(&v, n * TDM_FOLD_N_HEAPS);
    v = room->values + PER_STAGE * n;
    p->start_s = take(&v, p->order->n_passes);
    p->end_s = take(&v, p->order->n_passes);
    p->issue_s = take(&v, p->order->n_passes);
    p->sent_s = take(&v, p->order->n_edges);
    p->posted_s = take(&v, p->order->n_edges);
    p->moved_s = take(&v, p->order->n_edges);
    p->arrived_s = take(&v, p->order->n_edges);
}

static inline const tdm_fold_pass_map *map_of(const player *p, const tdm_fold_pass *pass)
{
    return &p->stages->stages[pass->stage].chunks[pass->chunk][pass->kind];
}

/* When the host begins to issue each pass; it never waits. */
static void issue(player *p)
{
    for (uint32_t s = 0; s < p->order->n_stages; s++) {
        double time_s = 0;
        for (uint32_t i = p->order->first[s]; i < p->order->first[s + 1]; i++) {
            p->issue_s[i] = time_s;
            time_s += map_of(p, &p->order->passes[i])->time.issue_s;
        }
        p->run->end_of_passes_s[s] = time_s; /* the O pass is issued then, and moves it */
    }
}

static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

static inline void play_memory(player *p, uint32_t stage, const tdm_fold_memory *memory)
{
    double *live = p->live[stage], *peak = p->peak[stage];
    for (uint32_t h = 0; h < p->stages->n_carried; h++) {
        peak[h] = larger(peak[h], live[h] + memory->peak[h]);
        live[h] += memory->net[h];
    }
}

static inline void play_pass(player *p, uint32_t index)
{
    const tdm_fold_pass *pass = &p->order->passes[index];
    const tdm_fold_pass_map *map = map_of(p, pass);
    double free_s = p->free_s[pass->stage];
    if (pass->recv != TDM_FOLD_NONE)
        free_s = larger(free_s, p->arrived_s[pass->recv]);
    for (size_t i = 0; i < TDM_COUNT(pass->sent); i++)
        if (pass->sent[i] != TDM_FOLD_NONE)
            free_s = larger(free_s, p->arrived_s[pass->sent[i]]);
    p->start_s[index] = larger(free_s, p->issue_s[index] + map->time.first_s);
    p->end_s[index] = larger(free_s + map->time.run_s, p->issue_s[index] + map->time.issued_s);
    p->free_s[pass->stage] = p->end_s[index];
    play_memory(p, pass->stage, &map->memory);
}

static inline void play_edge(player *p, uint32_t i)
{
    const tdm_fold_edge *e = &p->order->edges[i];
    const tdm_fold_pass *sender = &p->order->passes[e->sender];
    double *send_free_s = &p->send_free_s[e->stream][e->source];
    double *recv_free_s = &p->recv_free_s[e->stream % TDM_FOLD_N_RECEIVES][e->target];
    double sent_s = larger(p->end_s[e->sender], *send_free_s);
    sent_s = larger(sent_s, p->issue_s[e->sender] + map_of(p, sender)->time.issue_s);
    double posted_s = larger(*recv_free_s, p->issue_s[e->receiver] + p->stages->launch_s);
    if (e->posted != TDM_FOLD_NONE)
        posted_s = larger(posted_s, p->end_s[e->posted]);
    p->sent_s[i] = sent_s;
    p->posted_s[i] = posted_s;
    p->moved_s[i] = larger(sent_s, posted_s);
    p->arrived_s[i] = p->moved_s[i] + tdm_fold_net_transfer_s(p->stages->net, e->source,
                                                              e->direction, p->stages->x_bytes);
    *send_free_s = *recv_free_s = p->arrived_s[i];
}

static void play(player *p)
{
    const tdm_fold_order *order = p->order;
    for (uint32_t i = 0; i < order->n_passes + order->n_edges; i++) {
        uint32_t event = order->events[i];
        if (event < order->n_passes)
            play_pass(p, event);
        else
            play_edge(p, event - order->n_passes);
    }
}

/* ---- sums ---- */

/* The transfers of one stage along time: its receives and sends by stream, each in order. */
enum { MOST_LISTS = TDM_FOLD_N_RECEIVES + TDM_FOLD_N_SENDS };
typedef struct sweep {
    const uint32_t *edges[MOST_LISTS];
    uint32_t n[MOST_LISTS], at[MOST_LISTS], n_lists;
} sweep;

static sweep sweep_of(const tdm_fold_order *order, uint32_t stage)
{
    uint32_t first = order->first[stage];
    sweep sw = {.n_lists = TDM_FOLD_N_RECEIVES + order->n_send_streams};
    for (uint32_t l = 0; l < sw.n_lists; l++) {
        bool receives = l < TDM_FOLD_N_RECEIVES;
        uint32_t stream = receives ? l : l - TDM_FOLD_N_RECEIVES;
        sw.edges[l] = (receives ? order->receives[stream] : order->sends[stream]) + first;
        sw.n[l] = (receives ? order->n_receives[stream] : order->n_sends[stream])[stage];
    }
    return sw;
}

/* Seconds of [from_s, to_s] with some transfer between its begin and its end, by edge; those of
 * sends and of receives apart. Stretches of one sweep come in order of time. */
static double cover_s(const player *p, sweep *sw, const double *const begin_s[MOST_LISTS],
                      double from_s, double to_s)
{
    double covered_s = 0;
    uint32_t at[MOST_LISTS];
    for (uint32_t l = 0; l < sw->n_lists; l++) {
        while (sw->at[l] < sw->n[l] && p->arrived_s[sw->edges[l][sw->at[l]]] <= from_s)
            sw->at[l]++;
        at[l] = sw->at[l];
    }
    for (;;) {
        uint32_t first = MOST_LISTS;
        double begins_s = to_s;
        for (uint32_t l = 0; l < sw->n_lists; l++)
            if (at[l] < sw->n[l] && begin_s[l][sw->edges[l][at[l]]] < begins_s) {
                first = l;
                begins_s = begin_s[l][sw->edges[l][at[l]]];
            }
        if (first == MOST_LISTS)
            return covered_s;
        double ends_s = fmin(p->arrived_s[sw->edges[first][at[first]++]], to_s);
        if (ends_s > fmax(begins_s, from_s)) {
            covered_s += ends_s - fmax(begins_s, from_s);
            from_s = ends_s;
        }
    }
}

/* What goes on while the stage computes nothing. */
static void add_gap(player *p, uint32_t stage, sweep sweeps[2], double from_s, double to_s)
{
    const double *const moving[MOST_LISTS] = {p->moved_s, p->moved_s, p->moved_s,
                                              p->moved_s, p->moved_s, p->moved_s};
    const double *const running[MOST_LISTS] = {p->posted_s, p->posted_s, p->sent_s,
                                               p->sent_s,   p->sent_s,   p->sent_s};
    double moving_s = cover_s(p, &sweeps[0], moving, from_s, to_s);
    p->run->exposed_s[stage] += moving_s;
    p->run->waiting_s[stage] += cover_s(p, &sweeps[1], running, from_s, to_s) - moving_s;
}

/* What does not depend on when: every chunk passes each microbatch once in each kind. */
static void sum_work(player *p, uint32_t stage)
{
    tdm_fold_run *r = p->run;
    const tdm_fold_stage *of = &p->stages->stages[stage];
    for (uint32_t c = 0; c < p->order->n_chunks; c++)
        for (uint32_t k = 0; k < TDM_FOLD_N_PASSES; k++) {
            const tdm_fold_time *time = &of->chunks[c][k].time;
            double n = p->order->n_microbatches;
            if (!p->order->has[k])
                continue;
            r->busy_s[stage] += n * time->compute_s;
            r->exposed_s[stage] += n * time->exposed_s;
            r->within_s[stage] += n * time->comm_s;
            r->model_flops += n * time->model_flops;
            r->hardware_flops += n * time->hardware_flops;
            for (int i = 0; i < 2; i++) {
                r->calls[i] += n * time->calls[i];
                r->call_s[i] += n * time->call_s[i];
                r->longest_s[i] = larger(r->longest_s[i], time->longest_s[i]);
            }
            for (uint32_t h = p->stages->n_carried; h < TDM_FOLD_N_HEAPS; h++)
                p->peak[stage][h] = larger(p->peak[stage][h], of->chunks[c][k].memory.peak[h]);
        }
}

static void sum_stage(player *p, uint32_t stage)
{
    tdm_fold_run *r = p->run;
    double before_s = 0;
    sweep sweeps[2] = {sweep_of(p->order, stage), sweep_of(p->order, stage)};
    r->first_s[stage] = INFINITY;
    for (uint32_t i = p->order->first[stage]; i < p->order->first[stage + 1]; i++) {
        const tdm_fold_pass *pass = &p->order->passes[i];
        double start_s = p->start_s[i], end_s = p->end_s[i];
        r->passes_s[stage] += end_s - start_s;
        if (start_s > before_s)
            add_gap(p, stage, sweeps, before_s, start_s);
        before_s = end_s;
        if (pass->kind == TDM_PASS_F && r->first_s[stage] == INFINITY)
            r->first_s[stage] = start_s;
    }
    if (p->stages->stages[stage].n_step == 0)
        add_gap(p, stage, sweeps, before_s, r->end_s);
    r->last_s[stage] = before_s;
    r->peak_bytes[stage] = p->stages->stages[stage].static_bytes;
    for (int h = 0; h < TDM_FOLD_N_HEAPS; h++)
        r->peak_bytes[stage] += p->peak[stage][h];
}

static double stage_end_s(const player *p, uint32_t stage)
{
    double end_s = p->free_s[stage];
    for (int i = 0; i < TDM_FOLD_N_SENDS; i++)
        end_s = larger(end_s, p->send_free_s[i][stage]);
    for (int i = 0; i < TDM_FOLD_N_RECEIVES; i++)
        end_s = larger(end_s, p->recv_free_s[i][stage]);
    return end_s;
}

/* Without an O pass the step ends with the last op of any stream. */
static void end_passes(player *p)
{
    for (uint32_t s = 0; s < p->order->n_stages; s++)
        if (p->stages->stages[s].n_step == 0)
            p->run->end_s = larger(p->run->end_s, stage_end_s(p, s));
}

static void sum_up(player *p)
{
    end_passes(p);
    for (uint32_t s = 0; s < p->order->n_stages; s++) {
        sum_work(p, s);
        sum_stage(p, s);
    }
    for (uint32_t i = 0; i < p->order->n_edges; i++) {
        const tdm_fold_edge *e = &p->order->edges[i];
        p->run->recv_s[e->target] += p->arrived_s[i] - p->posted_s[i];
        p->run->send_s[e->source] += p->arrived_s[i] - p->sent_s[i];
    }
}

/* ---- O pass ---- */

typedef struct stepper {
    double tails_s[TDM_N_STREAMS];
    double issue_s;
    uint32_t next;
} stepper;

static bool spans_stages(const tdm_fold_step_op *op)
{
    return op->group == TDM_GROUP_EMBED || op->group == TDM_GROUP_WORLD;
}

static double step_start_s(const stepper *st, const tdm_fold_step_op *op, double launch_s)
{
    double start_s = larger(st->tails_s[op->stream], st->issue_s + launch_s);
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (op->waits & (1u << s))
            start_s = larger(start_s, st->tails_s[s]);
    return start_s;
}

static void end_op(player *p, uint32_t stage, stepper *st, const tdm_fold_step_op *op,
                   double arrived_s)
{
    st->tails_s[op->stream] = arrived_s + op->seconds;
    st->issue_s += p->stages->launch_s;
    st->next++;
    p->run->end_s = larger(p->run->end_s, st->tails_s[op->stream]);
    if (op->stream == TDM_STREAM_COMPUTE) {
        p->run->busy_s[stage] += op->seconds;
        p->run->step_busy_s[stage] += op->seconds;
        return;
    }
    p->run->step_exposed_s[stage] += op->seconds;
    p->run->within_s[stage] += op->seconds;
    if (op->kind == TDM_OP_ALL_REDUCE) {
        p->run->calls[0]++;
        p->run->call_s[0] += op->seconds;
        p->run->longest_s[0] = larger(p->run->longest_s[0], op->seconds);
    }
}

/* Goes on until an op that other stages take part in; NULL at the end. */
static const tdm_fold_step_op *step_stage(player *p, uint32_t stage, stepper *st)
{
    const tdm_fold_stage *of = &p->stages->stages[stage];
    while (st->next < of->n_step) {
        const tdm_fold_step_op *op = &of->step[st->next];
        if (spans_stages(op))
            return op;
        end_op(p, stage, st, op, step_start_s(st, op, p->stages->launch_s));
    }
    return NULL;
}

/* All stages that stand at the same kind of op end it together: EMBED comes before WORLD on the
 * stages that have both. */
static bool meet(player *p, stepper *st, tdm_group_kind group)
{
    double arrived_s = -INFINITY;
    for (uint32_t s = 0; s < p->order->n_stages; s++) {
        const tdm_fold_step_op *op = step_stage(p, s, &st[s]);
        if (op && op->group == group)
            arrived_s = larger(arrived_s, step_start_s(&st[s], op, p->stages->launch_s));
    }
    for (uint32_t s = 0; s < p->order->n_stages; s++) {
        const tdm_fold_step_op *op = step_stage(p, s, &st[s]);
        if (op && op->group == group)
            end_op(p, s, &st[s], op, arrived_s);
    }
    return arrived_s > -INFINITY;
}

static void step(player *p, tdm_arena *scratch)
{
    stepper *st = TDM_ALLOC(scratch, stepper, p->order->n_stages);
    for (uint32_t s = 0; s < p->order->n_stages; s++) {
        st[s].issue_s = p->run->end_of_passes_s[s];
        p->run->end_of_passes_s[s] = p->free_s[s];
        for (int stream = 0; stream <= TDM_STREAM_DP; stream++)
            st[s].tails_s[stream] = p->free_s[s];
    }
    while (meet(p, st, TDM_GROUP_EMBED) || meet(p, st, TDM_GROUP_WORLD)) {
    }
}

tdm_fold_run tdm_fold_run_order(tdm_fold_room *room, const tdm_fold_order *order,
                                const tdm_fold_stages *stages)
{
    tdm_fold_run run = {.start_s = stages->launch_s};
    player p = {.order = order, .stages = stages, .run = &run};
    allot(room, &p);
    issue(&p);
    play(&p);
    sum_up(&p);
    tdm_arena scratch = {0};
    step(&p, &scratch);
    tdm_arena_free(&scratch);
    return run;
}
