/* walker.c: takes one rank through its program: known durations by arithmetic, communication by the engine. */
#include "engine.h"

#include <assert.h>
#include <math.h>

/* Waits reach back at most this many ops of a stream, and this many passes (powers of two). */
enum { REACH_OPS = 128, REACH_PASSES = 16 };

/* Durations of ops by kind, pass kind and place in the template; NAN: depends on the tokens routed. */
struct tdm_costs {
    const tdm_plan *plan;
    const tdm_device *device;
    double launch_s;
    double *(*by_kind)[TDM_N_PASS_KINDS]; /* [n_kinds][pass kind][op] */
    double **optimizer;                   /* [n_roles][op] */
};

static bool depends_on_tokens(const tdm_op *op)
{
    return op->kind == TDM_OP_GROUPED_GEMM || (op->kind == TDM_OP_MEMORY && op->u.memory.bytes.per_token > 0);
}

static double *template_costs(tdm_arena *arena, const tdm_costs *costs, const tdm_template *template)
{
    double *seconds = TDM_ALLOC(arena, double, template->n_ops);
    for (uint32_t i = 0; i < template->n_ops; i++) {
        tdm_instance instance = {.op = &template->ops[i]};
        bool comm = instance.op->stream != TDM_STREAM_COMPUTE;
        if (comm || depends_on_tokens(instance.op))
            seconds[i] = NAN;
        else
            seconds[i] = tdm_cost_op(costs->device, costs->plan, 0, &instance);
    }
    return seconds;
}

tdm_costs *tdm_costs_new(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine)
{
    tdm_costs *costs = TDM_ALLOC(arena, tdm_costs, 1);
    costs->plan = plan;
    costs->device = machine->device;
    costs->launch_s = plan->pass_times ? 0 : machine->device->launch_s.value;
    costs->by_kind = tdm_arena_alloc(arena, plan->n_kinds * sizeof *costs->by_kind);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            costs->by_kind[k][p] = template_costs(arena, costs, &plan->kinds[k].templates[p]);
    costs->optimizer = TDM_ALLOC(arena, double *, plan->n_roles);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        costs->optimizer[r] = template_costs(arena, costs, &plan->roles[r].optimizer);
    return costs;
}

double tdm_costs_launch_s(const tdm_costs *costs)
{
    return costs->launch_s;
}

/* State of one stream. Ops are numbered from 1; ends of the last REACH_OPS are kept. */
typedef struct stream_state {
    uint64_t issued, done;
    double ends[REACH_OPS];
} stream_state;

/* Where a stream stood when a pass began: its last op, and when that ended (once it is done). */
typedef struct mark {
    uint64_t sequence;
    double end_s;
} mark;

struct tdm_walker {
    const tdm_plan *plan;
    const tdm_costs *costs;
    uint32_t rank;
    tdm_rank_trace *trace;
    tdm_cursor cursor;
    tdm_instance instance; /* the op under way, when `held` */
    bool held;
    uint32_t passes_begun;
    stream_state streams[TDM_N_STREAMS];
    mark marks[REACH_PASSES][TDM_N_STREAMS];
};

tdm_walker *tdm_walker_new(tdm_arena *arena, const tdm_plan *plan, const tdm_costs *costs, uint32_t rank,
                           tdm_rank_trace *trace)
{
    tdm_walker *walker = TDM_ALLOC(arena, tdm_walker, 1);
    walker->plan = plan;
    walker->costs = costs;
    walker->rank = rank;
    walker->trace = trace;
    tdm_cursor_init(&walker->cursor, plan, rank);
    return walker;
}

/* Notes how much every stream had issued when the passes up to `pass_index` began; passes without ops count. */
static void begin_passes(tdm_walker *w, uint32_t pass_index)
{
    for (; w->passes_begun <= pass_index; w->passes_begun++)
        for (int s = 0; s < TDM_N_STREAMS; s++)
            w->marks[w->passes_begun % REACH_PASSES][s] =
                (mark){w->streams[s].issued, w->streams[s].ends[w->streams[s].issued % REACH_OPS]};
}

/* The op that a wait means: its number (0: none), and its end when it is done. */
static mark wait_mark(const tdm_walker *w, const tdm_wait *wait)
{
    const stream_state *stream = &w->streams[wait->stream];
    if (wait->kind == TDM_WAIT_TAIL) {
        assert(wait->n < REACH_OPS);
        uint64_t number = stream->issued > wait->n ? stream->issued - wait->n : 0;
        return (mark){number, stream->ends[number % REACH_OPS]};
    }
    assert(wait->n < REACH_PASSES);
    uint32_t begun = w->passes_begun - 1; /* index of the pass under way */
    return wait->n > begun ? (mark){0} : w->marks[(begun - wait->n) % REACH_PASSES][wait->stream];
}

static double duration(const tdm_walker *w)
{
    const tdm_instance *in = &w->instance;
    const tdm_costs *costs = w->costs;
    double seconds;
    if (in->pass.kind == TDM_PASS_O) {
        uint16_t role = w->plan->role_of[w->rank];
        seconds = costs->optimizer[role][in->op - w->plan->roles[role].optimizer.ops];
    } else {
        const tdm_op *first = in->kind->templates[in->pass.kind].ops;
        seconds = costs->by_kind[in->kind - w->plan->kinds][in->pass.kind][in->op - first];
    }
    return isnan(seconds) ? tdm_cost_op(costs->device, w->plan, w->rank, in) : seconds;
}

/* Latest end of what the op waits for, its issue included. False when some of it has not ended yet. */
static bool ready_time(const tdm_walker *w, double *ready_s, tdm_stream *stream, uint64_t *sequence)
{
    const tdm_op *op = w->instance.op;
    double ready = (double)(w->instance.index + 1) * w->costs->launch_s;
    for (uint32_t i = 0; i < op->n_waits; i++) {
        mark wanted = wait_mark(w, &op->waits[i]);
        if (wanted.sequence == 0)
            continue;
        if (wanted.sequence > w->streams[op->waits[i].stream].done) {
            *stream = op->waits[i].stream;
            *sequence = wanted.sequence;
            return false;
        }
        ready = fmax(ready, wanted.end_s);
    }
    *ready_s = ready;
    return true;
}

static void run_compute(tdm_walker *w, double ready_s)
{
    stream_state *stream = &w->streams[TDM_STREAM_COMPUTE];
    double start = fmax(ready_s, stream->ends[stream->done % REACH_OPS]);
    double end = start + duration(w);
    stream->issued = ++stream->done;
    stream->ends[stream->done % REACH_OPS] = end;
    w->trace->spans[w->instance.index] = (tdm_span){start, end};
}

tdm_walk tdm_walker_next(tdm_walker *w, tdm_comm *comm, tdm_stream *stream, uint64_t *sequence)
{
    for (;;) {
        if (!w->held) {
            if (!tdm_cursor_next(&w->cursor, &w->instance))
                return TDM_WALK_END;
            w->held = true;
            if (w->instance.first_of_pass)
                begin_passes(w, w->instance.pass_index);
        }
        double ready_s;
        if (!ready_time(w, &ready_s, stream, sequence))
            return TDM_WALK_BLOCKED;
        w->held = false;
        if (w->instance.op->stream == TDM_STREAM_COMPUTE) {
            run_compute(w, ready_s);
            continue;
        }
        comm->rank = w->rank;
        comm->instance = w->instance;
        comm->ready_s = ready_s;
        comm->sequence = ++w->streams[w->instance.op->stream].issued;
        return TDM_WALK_COMM;
    }
}

void tdm_walker_done(tdm_walker *w, const tdm_comm *comm, double start_s, double end_s)
{
    stream_state *stream = &w->streams[comm->instance.op->stream];
    assert(comm->sequence == stream->done + 1);
    stream->done = comm->sequence;
    stream->ends[stream->done % REACH_OPS] = end_s;
    for (uint32_t i = 0; i < REACH_PASSES; i++) { /* marks made while the op was under way */
        mark *m = &w->marks[i][comm->instance.op->stream];
        if (m->sequence == stream->done)
            m->end_s = end_s;
    }
    w->trace->spans[comm->instance.index] = (tdm_span){start_s, end_s};
}

uint64_t tdm_walker_n_done(const tdm_walker *w, tdm_stream stream, double *end_s)
{
    const stream_state *state = &w->streams[stream];
    *end_s = state->ends[state->done % REACH_OPS];
    return state->done;
}
