/* folded_block.c: schedules one block of each kind by itself: how long a pass over it takes, and
 * what it keeps in memory. */
#include "cost.h"
#include "folded_parts.h"
#include "program.h"
#include "stage_times.h"
#include "stats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* A time in two frames: since the stage's streams were free, and since the host began to issue. */
typedef struct moment {
    double run_s, issued_s;
} moment;

static moment later(moment a, moment b)
{
    return (moment){a.run_s > b.run_s ? a.run_s : b.run_s,
                    a.issued_s > b.issued_s ? a.issued_s : b.issued_s};
}

typedef struct op_times {
    moment start, end;
    int64_t seen; /* compute ops of the block that have ended before it starts; -1: not even all of
                     the block before */
} op_times;

/* A template being scheduled. */
typedef struct block_run {
    const tdm_template *template;
    double launch_s;
    op_times times[2 * TDM_MAX_DRAFT_OPS];
    uint32_t on_stream[TDM_N_STREAMS][2 * TDM_MAX_DRAFT_OPS], n_on_stream[TDM_N_STREAMS];
    moment end;
} block_run;

/* What the seconds of ops depend on. */
typedef struct pricing {
    const tdm_dims *dims;
    const tdm_plan *plan;
    const tdm_device *device;
    tdm_fold_net *net;
    uint32_t stage;
    /* of the experts, and of them those that come to one rank; on average, and of the fullest */
    double mean_tokens, largest_tokens, mean_received, largest_received;
} pricing;

double tdm_fold_mean_received(const tdm_dims *dims)
{
    return (double)dims->routed_tokens * dims->scenario->model.moe_router_topk;
}

/* Of n exchangeable, nearly normal counts: the expected largest over their mean. One token's share
 * on a rank is hypergeometric: it chooses topk of the experts, so many of which are the rank's. The
 * largest of n normal variables by Blom's formula. Source: Blom 1958, Statistical Estimates and
 * Transformed Beta-Variables. */
double tdm_fold_largest_share(const tdm_dims *dims, double mean)
{
    const tdm_model *m = &dims->scenario->model;
    double n = dims->ep, experts = m->num_experts;
    if (m->num_experts < 2 || dims->ep < 2 || mean <= 0 ||
        dims->scenario->routing.model == TDM_ROUTING_BALANCED)
        return 1;
    double variance = mean * (1 - 1 / n) * (experts - m->moe_router_topk) / (experts - 1);
    double quantile = tdm_stats_normal_quantile((n - 0.375) / (n + 0.25));
    return 1 + sqrt(variance / (1 - 1 / n)) * quantile / mean;
}

static double collective_seconds(const pricing *p, const tdm_op *op)
{
    double bytes = (double)op->u.collective.bytes;
    if (op->kind == TDM_OP_ALL_TO_ALL)
        bytes = p->largest_received * (double)op->u.collective.token_bytes;
    else if (tdm_op_is_routed_gather(op))
        bytes = p->largest_tokens * (double)op->u.collective.token_bytes;
    return tdm_fold_net_s(p->net, p->stage, op->kind, op->u.collective.group, bytes);
}

static double compute_seconds(const pricing *p, const tdm_op *op, double tokens)
{
    return tdm_cost_op(p->device, p->plan, op, (uint64_t)(tokens + 0.5));
}

/* ---- time ---- */

/* The op that a wait means, if the block issued it. */
static const op_times *waited_for(const block_run *b, const tdm_wait *wait)
{
    uint32_t issued = b->n_on_stream[wait->stream];
    if (wait->kind != TDM_WAIT_TAIL || issued <= wait->n)
        return NULL;
    return &b->times[b->on_stream[wait->stream][issued - 1 - wait->n]];
}

static void schedule_op(block_run *b, uint32_t i, double seconds)
{
    const tdm_op *op = &b->template->ops[i];
    op_times *t = &b->times[i];
    uint32_t *n = &b->n_on_stream[op->stream];
    moment start = {0, (i + 1) * b->launch_s};
    t->seen = -1;
    if (*n > 0) {
        const op_times *previous = &b->times[b->on_stream[op->stream][*n - 1]];
        start = later(start, previous->end);
        t->seen = previous->seen;
    }
    for (uint32_t w = 0; w < op->n_waits; w++) {
        const op_times *other = waited_for(b, &op->waits[w]);
        bool compute = op->waits[w].stream == TDM_STREAM_COMPUTE;
        int64_t seen = other ? other->seen : -1;
        if (compute && op->waits[w].kind == TDM_WAIT_TAIL)
            seen = (int64_t)b->n_on_stream[TDM_STREAM_COMPUTE] - op->waits[w].n;
        t->seen = seen > t->seen ? seen : t->seen;
        if (other)
            start = later(start, other->end);
    }
    if (op->stream == TDM_STREAM_COMPUTE)
        t->seen = (int64_t)*n + 1;
    t->start = start;
    t->end = (moment){start.run_s + seconds, start.issued_s + seconds};
    b->on_stream[op->stream][(*n)++] = i;
    if (!tdm_op_is_p2p(op->kind)) /* those go by the pass */
        b->end = later(b->end, t->end);
}

typedef struct stretch {
    double from_s, to_s;
} stretch;

static double in_frame(moment m, bool issued)
{
    return issued ? m.issued_s : m.run_s;
}

/* Stretches with communication of the layer, in order of time and apart; returns how many. */
static uint32_t list_transfers(const block_run *b, bool issued, stretch *list)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->template->n_ops; i++) {
        const tdm_op *op = &b->template->ops[i];
        if (!tdm_op_is_collective(op->kind))
            continue;
        stretch one = {in_frame(b->times[i].start, issued), in_frame(b->times[i].end, issued)};
        uint32_t at = n++;
        for (; at > 0 && list[at - 1].from_s > one.from_s; at--)
            list[at] = list[at - 1];
        list[at] = one;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (kept > 0 && list[i].from_s <= list[kept - 1].to_s)
            list[kept - 1].to_s = fmax(list[kept - 1].to_s, list[i].to_s);
        else
            list[kept++] = list[i];
    }
    return kept;
}

/* Time with communication while no kernel runs, and all time with communication. */
static void add_exposed(const block_run *b, tdm_fold_time *time)
{
    bool issued = time->run_s < time->issue_s; /* in a run of such blocks the host holds it up */
    stretch list[2 * TDM_MAX_DRAFT_OPS];
    uint32_t n = list_transfers(b, issued, list), at = 0;
    double free_s = issued ? time->issued_s - time->issue_s : 0;
    for (uint32_t i = 0; i < n; i++)
        time->comm_s += list[i].to_s - list[i].from_s;
    for (uint32_t c = 0; c <= b->n_on_stream[TDM_STREAM_COMPUTE]; c++) {
        bool last = c == b->n_on_stream[TDM_STREAM_COMPUTE];
        const op_times *op = last ? NULL : &b->times[b->on_stream[TDM_STREAM_COMPUTE][c]];
        double to_s = in_frame(last ? b->end : op->start, issued);
        while (at < n && list[at].to_s <= free_s)
            at++;
        for (uint32_t i = at; i < n && list[i].from_s < to_s; i++)
            time->exposed_s += fmax(0, fmin(list[i].to_s, to_s) - fmax(list[i].from_s, free_s));
        free_s = last ? to_s : in_frame(op->end, issued);
    }
}

static double op_flops(const pricing *p, const tdm_op *op)
{
    if (op->kind == TDM_OP_GROUPED_GEMM)
        return 2 * p->mean_tokens * (double)op->u.grouped.n * (double)op->u.grouped.k;
    return tdm_op_flops(p->plan, 0, &(tdm_instance){.op = op});
}

static void add_op(const pricing *p, const tdm_op *op, double seconds, tdm_fold_time *time)
{
    if (op->stream == TDM_STREAM_COMPUTE) {
        double flops = op_flops(p, op);
        time->compute_s += tdm_op_is_routed(op) ? compute_seconds(p, op, p->mean_tokens) : seconds;
        time->hardware_flops += flops;
        time->model_flops += op->recompute ? 0 : flops;
        return;
    }
    if (op->kind != TDM_OP_ALL_REDUCE && op->kind != TDM_OP_ALL_TO_ALL)
        return;
    uint32_t which = op->kind == TDM_OP_ALL_TO_ALL;
    time->calls[which]++;
    time->call_s[which] += seconds;
    time->longest_s[which] = fmax(time->longest_s[which], seconds);
}

static tdm_fold_time schedule_template(const pricing *p, const tdm_template *template, block_run *b)
{
    tdm_fold_time time = {.issued_s = -INFINITY, .first_s = INFINITY};
    assert(template->n_ops <= 2 * TDM_MAX_DRAFT_OPS);
    *b->n_on_stream = 0;
    memset(b->n_on_stream, 0, sizeof b->n_on_stream);
    b->template = template;
    b->launch_s = p->dims->scenario->pass_times.given ? 0 : p->device->launch_s.value;
    b->end = (moment){0, -INFINITY};
    for (uint32_t i = 0; i < template->n_ops; i++) {
        const tdm_op *op = &template->ops[i];
        double seconds = 0;
        if (tdm_op_is_collective(op->kind))
            seconds = collective_seconds(p, op);
        else if (op->stream == TDM_STREAM_COMPUTE)
            seconds = compute_seconds(p, op, p->largest_tokens);
        schedule_op(b, i, seconds);
        time.serial_s += seconds;
        add_op(p, op, seconds, &time);
        if (!tdm_op_is_p2p(op->kind) && time.first_s == INFINITY)
            time.first_s = (i + 1) * b->launch_s;
    }
    time.run_s = b->end.run_s;
    time.issued_s = b->end.issued_s;
    time.issue_s = template->n_ops * b->launch_s;
    if (time.first_s < INFINITY)
        add_exposed(b, &time);
    return time;
}

void tdm_fold_time_then(tdm_fold_time *t, const tdm_fold_time *next)
{
    t->first_s = t->first_s < INFINITY ? t->first_s : t->issue_s + next->first_s;
    t->issued_s = fmax(t->issued_s + next->run_s, t->issue_s + next->issued_s);
    t->run_s += next->run_s;
    t->issue_s += next->issue_s;
    t->serial_s += next->serial_s;
    t->compute_s += next->compute_s;
    t->exposed_s += next->exposed_s;
    t->comm_s += next->comm_s;
    t->model_flops += next->model_flops;
    t->hardware_flops += next->hardware_flops;
    for (int i = 0; i < 2; i++) {
        t->calls[i] += next->calls[i];
        t->call_s[i] += next->call_s[i];
        t->longest_s[i] = fmax(t->longest_s[i], next->longest_s[i]);
    }
}

tdm_fold_time tdm_fold_time_repeat(const tdm_fold_time *time, uint32_t n)
{
    tdm_fold_time t = *time;
    double more = n - 1.0;
    t.issued_s += more * fmax(t.run_s, t.issue_s);
    t.run_s *= n;
    t.issue_s *= n;
    t.serial_s *= n;
    t.compute_s *= n;
    t.exposed_s *= n;
    t.comm_s *= n;
    t.model_flops *= n;
    t.hardware_flops *= n;
    for (int i = 0; i < 2; i++) {
        t.calls[i] *= n;
        t.call_s[i] *= n;
    }
    return t;
}

/* ---- memory ---- */

static uint32_t ahead_heap(tdm_stream stream)
{
    return stream == TDM_STREAM_TP             ? TDM_FOLD_AHEAD_TP
           : stream == TDM_STREAM_PP_RECV      ? TDM_FOLD_AHEAD_RECV
           : stream == TDM_STREAM_PP_RECV_GRAD ? TDM_FOLD_AHEAD_RECV_GRAD
                                               : TDM_FOLD_AHEAD_EP;
}

/* Passes in which the tensors of a kind are born and die; slots [own slots]. */
typedef struct lifetimes {
    uint32_t born[2 * TDM_MAX_DRAFT_SLOTS], dies[2 * TDM_MAX_DRAFT_SLOTS];
    uint32_t ahead[2 * TDM_MAX_DRAFT_SLOTS]; /* heap of one born ahead of compute */
} lifetimes;

/* Notes where the tensors of a template begin and end, from the schedule of its ops. */
static void note_lifetimes(const block_run *b, uint32_t pass, tdm_fold_kind *kind, lifetimes *lives)
{
    uint32_t n_compute = 0;
    for (uint32_t i = 0; i < b->template->n_ops; i++) {
        const tdm_op *op = &b->template->ops[i];
        bool recv = op->kind == TDM_OP_RECV;
        bool ahead =
            op->stream != TDM_STREAM_COMPUTE && (recv || b->times[i].seen < (int64_t)n_compute);
        uint32_t heap = ahead ? ahead_heap(op->stream) : TDM_FOLD_NONE;
        for (uint32_t r = 0; r < op->n_refs; r++) {
            const tdm_ref *ref = &op->refs[r];
            if (ref->birth && ref->next && ref->slot == TDM_SLOT_X)
                kind->next_x_heap = heap;
            if (ref->death && ref->next && ref->slot == TDM_SLOT_DX)
                kind->next_dx_dies = pass;
            if (ref->next)
                continue;
            if (ref->birth) {
                lives->born[ref->slot] = pass;
                lives->ahead[ref->slot] = heap;
            }
            if (ref->death)
                lives->dies[ref->slot] = pass;
        }
        n_compute += op->stream == TDM_STREAM_COMPUTE;
    }
}

static uint32_t place_of(const tdm_ref *ref, const lifetimes *lives)
{
    if (ref->next)
        return ref->slot == TDM_SLOT_X ? TDM_FOLD_NEXT_X : TDM_FOLD_NEXT_DX;
    if (ref->slot == TDM_SLOT_X)
        return TDM_FOLD_X;
    if (ref->slot == TDM_SLOT_DX)
        return TDM_FOLD_DX;
    if (lives->ahead[ref->slot] != TDM_FOLD_NONE)
        return lives->ahead[ref->slot];
    return lives->born[ref->slot] == lives->dies[ref->slot] ? TDM_FOLD_SHORT : TDM_FOLD_LONG;
}

/* Births and deaths of a template in program order. */
static uint32_t list_events(const pricing *p, const tdm_kind *from, const tdm_template *template,
                            const lifetimes *lives, tdm_fold_event *events)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < template->n_ops; i++)
        for (uint32_t deaths = 0; deaths < 2; deaths++)
            for (uint32_t r = 0; r < template->ops[i].n_refs; r++) {
                const tdm_ref *ref = &template->ops[i].refs[r];
                if (deaths ? !ref->death : !ref->birth)
                    continue;
                /* Neighbours' inputs and gradients are as large as the own ones. */
                const tdm_slot *slot = &from->slots[ref->slot];
                double bytes = (double)slot->bytes.fixed +
                               (double)slot->bytes.per_token * p->mean_tokens +
                               (double)slot->bytes.per_received * p->mean_received;
                bytes = ceil(bytes / TDM_ALIGNMENT) * TDM_ALIGNMENT;
                events[n++] = (tdm_fold_event){deaths ? -bytes : bytes, place_of(ref, lives)};
            }
    return n;
}

static uint32_t count_refs(const tdm_template *template)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < template->n_ops; i++)
        n += 2 * template->ops[i].n_refs;
    return n;
}

static void memory_of(const tdm_fold_event *events, uint32_t n, const uint32_t heaps[],
                      tdm_fold_memory *memory)
{
    *memory = (tdm_fold_memory){0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t heap = events[i].heap < TDM_FOLD_N_HEAPS
                            ? events[i].heap
                            : heaps[events[i].heap - TDM_FOLD_N_HEAPS];
        memory->net[heap] += events[i].bytes;
        if (memory->net[heap] > memory->peak[heap])
            memory->peak[heap] = memory->net[heap];
    }
}

static uint32_t x_heap(const tdm_fold_kind *kind, const tdm_fold_kind *previous)
{
    if (!kind || !previous)
        return TDM_FOLD_LONG;
    if (previous->next_x_heap != TDM_FOLD_NONE)
        return previous->next_x_heap;
    return kind->x_dies == TDM_PASS_F ? TDM_FOLD_SHORT : TDM_FOLD_LONG;
}

static uint32_t dx_heap(const tdm_fold_kind *kind, const tdm_fold_kind *previous)
{
    if (!kind || !previous)
        return TDM_FOLD_LONG;
    if (kind->dx_heap != TDM_FOLD_NONE)
        return kind->dx_heap;
    return previous->next_dx_dies == kind->dx_born ? TDM_FOLD_SHORT : TDM_FOLD_LONG;
}

const tdm_fold_memory *tdm_fold_kind_memory(tdm_fold_kind *kind, const tdm_fold_kind *previous,
                                            const tdm_fold_kind *next)
{
    const uint32_t heaps[] = {x_heap(kind, previous), x_heap(next, kind), dx_heap(kind, previous),
                              dx_heap(next, kind)};
    uint32_t key = 0;
    for (size_t i = 0; i < TDM_COUNT(heaps); i++)
        key = key * TDM_FOLD_N_HEAPS + heaps[i];
    for (uint32_t i = 0; i < kind->n_variants; i++)
        if (kind->variants[i].key == key)
            return kind->variants[i].memory;
    assert(kind->n_variants < TDM_FOLD_MAX_VARIANTS);
    tdm_fold_variant *variant = &kind->variants[kind->n_variants++];
    variant->key = key;
    for (uint32_t pass = 0; pass < TDM_FOLD_N_PASSES; pass++)
        memory_of(kind->events[pass], kind->n_events[pass], heaps, &variant->memory[pass]);
    return variant->memory;
}

void tdm_fold_memory_then(tdm_fold_memory *m, const tdm_fold_memory *next)
{
    for (int h = 0; h < TDM_FOLD_N_HEAPS; h++) {
        double peak = m->net[h] + next->peak[h];
        m->peak[h] = peak > m->peak[h] ? peak : m->peak[h];
        m->net[h] += next->net[h];
    }
}

tdm_fold_memory tdm_fold_memory_repeat(const tdm_fold_memory *memory, uint32_t n)
{
    tdm_fold_memory m = *memory;
    for (int h = 0; h < TDM_FOLD_N_HEAPS; h++) {
        m.peak[h] += m.net[h] > 0 ? (n - 1.0) * m.net[h] : 0;
        m.net[h] *= n;
    }
    return m;
}

/* ---- kinds ---- */

static void fold_kind(tdm_arena *arena, const pricing *p, const tdm_kind *from, block_run *b,
                      tdm_fold_kind *kind)
{
    lifetimes lives;
    memset(&lives, 0xff, sizeof lives);
    kind->next_x_heap = kind->dx_heap = TDM_FOLD_NONE;
    kind->next_dx_dies = kind->x_dies = kind->dx_born = TDM_FOLD_NONE;
    for (uint32_t pass = 0; pass < TDM_FOLD_N_PASSES; pass++) {
        kind->times[pass] = schedule_template(p, &from->templates[pass], b);
        note_lifetimes(b, pass, kind, &lives);
    }
    kind->x_dies = lives.dies[TDM_SLOT_X];
    kind->dx_born = lives.born[TDM_SLOT_DX];
    kind->dx_heap = lives.ahead[TDM_SLOT_DX];
    for (uint32_t pass = 0; pass < TDM_FOLD_N_PASSES; pass++) {
        const tdm_template *template = &from->templates[pass];
        tdm_fold_event *events = TDM_ALLOC(arena, tdm_fold_event, count_refs(template));
        kind->n_events[pass] = list_events(p, from, template, &lives, events);
        kind->events[pass] = events;
    }
}

tdm_fold_kinds *tdm_fold_kinds_new(tdm_arena *arena, tdm_arena *scratch, const tdm_dims *dims,
                                   tdm_fold_net *net, uint32_t stage)
{
    tdm_fold_kinds *out = TDM_ALLOC(arena, tdm_fold_kinds, 1);
    const tdm_scenario *sc = dims->scenario;
    out->plan = (tdm_plan){.model = sc->model,
                           .training = sc->training,
                           .parallel = sc->parallel,
                           .train = dims->train,
                           .pass_times = sc->pass_times.given,
                           .mesh = net->mesh};
    out->plan.training.train = dims->train;
    tdm_plan lowered = out->plan;
    tdm_lower_kinds(scratch, dims, &lowered);
    tdm_kind *kept = TDM_ALLOC(arena, tdm_kind, lowered.n_kinds);
    out->kinds = TDM_ALLOC(arena, tdm_fold_kind, lowered.n_kinds);
    out->x_bytes = (double)dims->x_bytes;
    out->kept_share = sc->pass_times.given ? sc->pass_times.kept_share : 0;
    pricing p = {.dims = dims, .plan = &lowered, .device = &sc->device, .net = net, .stage = stage};
    p.mean_received = sc->pass_times.given ? 0 : tdm_fold_mean_received(dims);
    p.mean_tokens = p.mean_received * dims->etp;
    out->largest_share = sc->pass_times.given ? 1 : tdm_fold_largest_share(dims, p.mean_tokens);
    p.largest_tokens = p.mean_tokens * out->largest_share;
    p.largest_received = p.mean_received *
                         (sc->pass_times.given ? 1 : tdm_fold_largest_share(dims, p.mean_received));
    if (!sc->pass_times.given)
        out->kept_share = tdm_stage_times_kept_share(
            &lowered, (tdm_routed){.tokens = (uint64_t)(p.mean_tokens + 0.5),
                                   .received = (uint64_t)(p.mean_received + 0.5)});
    block_run *b = TDM_ALLOC(scratch, block_run, 1);
    for (uint32_t k = 0; k < lowered.n_kinds; k++) {
        const tdm_kind *from = &lowered.kinds[k];
        tdm_param *params = TDM_ALLOC(arena, tdm_param, from->n_params);
        if (from->n_params)
            memcpy(params, from->params, from->n_params * sizeof *params);
        kept[k] = (tdm_kind){.params = params, .n_params = from->n_params};
        fold_kind(arena, &p, from, b, &out->kinds[k]);
    }
    out->plan.n_kinds = lowered.n_kinds;
    out->plan.kinds = kept;
    return out;
}
