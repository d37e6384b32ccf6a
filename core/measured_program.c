/* measured_program.c: the kernels of a rank as a program that the code behind the figures walks. */
#include "measured_parts.h"

#include <math.h>
#include <stdlib.h>

typedef struct order {
    int64_t start_ns;
    uint32_t op;
} order;

static int by_start(const void *a, const void *b)
{
    const order *x = a, *y = b;
    if (x->start_ns != y->start_ns)
        return x->start_ns < y->start_ns ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static uint32_t usual_stream(const tdm_kineto_event *event)
{
    if (event->kind == TDM_OP_SEND)
        return TDM_STREAM_PP_SEND;
    if (event->kind == TDM_OP_RECV)
        return TDM_STREAM_PP_RECV;
    if (event->group == TDM_GROUP_TP)
        return TDM_STREAM_TP;
    return event->group == TDM_GROUP_EP || event->group == TDM_GROUP_ETP ? TDM_STREAM_EP
                                                                         : TDM_STREAM_DP;
}

/* A communication stream on which nothing runs any more: the event's own, the usual one of its
 * group, else any. Where all are busy, the one that is free first: the span then begins there. */
static uint32_t choose_stream(const tdm_kineto_event *event, const double *free_s, tdm_span *span,
                              uint64_t *n_squeezed)
{
    uint32_t wanted = event->stream > TDM_STREAM_COMPUTE && event->stream < TDM_N_STREAMS
                          ? event->stream
                          : usual_stream(event);
    uint32_t first = wanted;
    if (free_s[wanted] <= span->start_s)
        return wanted;
    for (uint32_t s = TDM_STREAM_COMPUTE + 1; s < TDM_N_STREAMS; s++) {
        if (free_s[s] <= span->start_s)
            return s;
        first = free_s[s] < free_s[first] ? s : first;
    }
    ++*n_squeezed;
    span->start_s = free_s[first];
    span->end_s = fmax(span->end_s, span->start_s);
    return first;
}

/* Own traces say which ops are of the O pass; else it begins with the first optimizer kernel behind
 * the last kernel of forward and backward. Either way no kernel of the O pass starts before one of
 * the passes before it. */
static void find_phases(const tdm_kineto *kineto, const tdm_kineto_event **events, uint32_t n,
                        const order *sorted, uint8_t *phase)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < n; i++)
        if (events[sorted[i].op]->class_ <= TDM_CLASS_OF_NORM)
            first = i + 1;
    while (first < n && events[sorted[first].op]->class_ != TDM_CLASS_OF_OPTIMIZER)
        first++;
    bool passes_follow = false;
    for (uint32_t i = n; i-- > 0;) {
        const tdm_kineto_event *event = events[sorted[i].op];
        bool comm = tdm_op_class_is_comm(event->class_);
        bool is_o = kineto->engine ? event->phase_o && (comm || !passes_follow) : i >= first;
        passes_follow = passes_follow || (!is_o && !comm);
        phase[sorted[i].op] = is_o ? TDM_PASS_O : TDM_PASS_F;
    }
}

/* An op that stands for the event: what the figures look at is its kind and group. */
static const tdm_op *op_of(tdm_arena *arena, const tdm_kineto_event *event, const tdm_op **known)
{
    uint32_t key = (uint32_t)event->kind * (TDM_N_GROUP_KINDS + 1) + (uint32_t)event->group;
    if (!known[key]) {
        tdm_op *op = TDM_ALLOC(arena, tdm_op, 1);
        op->name = "";
        op->kind = event->kind;
        if (tdm_op_is_collective(event->kind))
            op->u.collective.group = event->group;
        known[key] = op;
    }
    return known[key];
}

/* Streams in order of start. */
static void fill_streams(tdm_arena *arena, const order *sorted, tdm_measured_rank *rank,
                         uint64_t *n_squeezed)
{
    tdm_program *program = &rank->program;
    uint32_t n = program->n_ops, *of_stream[TDM_N_STREAMS];
    uint8_t *stream = TDM_ALLOC(arena, uint8_t, n);
    uint32_t *number = TDM_ALLOC(arena, uint32_t, n);
    double free_s[TDM_N_STREAMS];
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        free_s[s] = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t op = sorted[i].op, s = TDM_STREAM_COMPUTE;
        if (tdm_op_is_comm(program->ops[op].op))
            s = choose_stream(rank->events[op], free_s, &rank->spans[op], n_squeezed);
        free_s[s] = fmax(free_s[s], rank->spans[op].end_s);
        stream[op] = (uint8_t)s;
        number[op] = ++program->n_on_stream[s];
    }
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        program->on_stream[s] = of_stream[s] = TDM_ALLOC(arena, uint32_t, program->n_on_stream[s]);
    for (uint32_t op = 0; op < n; op++)
        of_stream[stream[op]][number[op] - 1] = op;
    program->stream = stream;
    program->number = number;
}

/* Communication ops in order, and where the O pass begins. */
static void fill_comms(tdm_arena *arena, tdm_measured_rank *rank)
{
    tdm_program *program = &rank->program;
    uint32_t n = program->n_ops, n_comms = 0;
    uint32_t *comm = TDM_ALLOC(arena, uint32_t, n), *comm_op = TDM_ALLOC(arena, uint32_t, n);
    uint8_t *key = TDM_ALLOC(arena, uint8_t, n);
    rank->call_of = TDM_ALLOC(arena, uint32_t, n);
    rank->arrived_s = TDM_ALLOC(arena, double, n);
    program->first_o = program->last_compute = TDM_NO_OP;
    for (uint32_t op = 0; op < n; op++) {
        if (program->phase[op] == TDM_PASS_O && program->first_o == TDM_NO_OP)
            program->first_o = op;
        if (!tdm_op_is_comm(program->ops[op].op)) {
            bool later = program->last_compute == TDM_NO_OP ||
                         rank->spans[op].end_s > rank->spans[program->last_compute].end_s;
            if (program->phase[op] != TDM_PASS_O && later)
                program->last_compute = op; /* the one that ends last: streams may overlap */
            continue;
        }
        comm[op] = n_comms;
        comm_op[n_comms] = op;
        key[n_comms] = tdm_comm_key(program->ops[op].op);
        rank->call_of[n_comms] = n_comms;
        n_comms++;
    }
    program->comm = comm;
    program->comm_op = comm_op;
    program->comm_key = key;
    program->n_comms = n_comms;
}

void tdm_measured_lay_out(tdm_arena *arena, const tdm_kineto *kineto,
                          const tdm_measured_split *split, const tdm_kineto_event **events,
                          uint32_t n_events, int64_t step_start_ns, tdm_measured_rank *rank,
                          uint64_t *n_squeezed)
{
    const tdm_op **known = TDM_ALLOC(arena, const tdm_op *, TDM_N_COMM_KEYS);
    tdm_instance *ops = TDM_ALLOC(arena, tdm_instance, n_events);
    uint8_t *phase = TDM_ALLOC(arena, uint8_t, n_events);
    order *sorted = TDM_ALLOC(arena, order, n_events);
    *rank = (tdm_measured_rank){.events = events, .spans = TDM_ALLOC(arena, tdm_span, n_events)};
    if (split->knows_issue)
        rank->issued_s = TDM_ALLOC(arena, double, n_events);
    for (uint32_t i = 0; i < n_events; i++) {
        const tdm_kineto_event *event = events[i];
        ops[i] = (tdm_instance){.op = op_of(arena, event, known), .index = i};
        rank->spans[i] = (tdm_span){1e-9 * (double)(event->start_ns - step_start_ns),
                                    1e-9 * (double)(event->end_ns - step_start_ns)};
        sorted[i] = (order){event->start_ns, i};
        int64_t issue_ns = split->issue_ns[event - kineto->events];
        if (rank->issued_s)
            rank->issued_s[i] = issue_ns == INT64_MIN
                                    ? -INFINITY
                                    : 1e-9 * ((double)issue_ns - (double)step_start_ns);
    }
    qsort(sorted, n_events, sizeof *sorted, by_start);
    find_phases(kineto, events, n_events, sorted, phase);
    rank->program = (tdm_program){.n_ops = n_events,
                                  .ops = ops,
                                  .phase = phase,
                                  .first_wait = TDM_ALLOC(arena, uint32_t, n_events + 1)};
    fill_streams(arena, sorted, rank, n_squeezed);
    fill_comms(arena, rank);
}
