/* walker.c: takes one rank through its program: known durations by arithmetic, communication by the
 * engine.
 *
 * The host thread issues ops without waiting for any, so a stream that waits holds back no other: a
 * receive posted for the next pass starts while this one is still full of collectives. Every stream
 * is therefore walked on its own. */
#include "tape.h"

#include <assert.h>
#include <math.h>

typedef struct stream_state {
    uint32_t n_issued; /* handed out; of compute ops: done */
    uint32_t n_done;
    double end_s;                 /* of the last op done */
    const tdm_tape_wait *missing; /* what the next op was last found to wait for */
} stream_state;

struct tdm_walker {
    const tdm_costs *costs;
    const tdm_tape *tape;
    uint32_t rank;
    tdm_span *spans;
    stream_state streams[TDM_N_STREAMS];
};

tdm_walker *tdm_walker_new(tdm_arena *arena, const tdm_plan *plan, const tdm_costs *costs,
                           uint32_t rank, tdm_rank_trace *trace)
{
    tdm_walker *walker = TDM_ALLOC(arena, tdm_walker, 1);
    walker->costs = costs;
    walker->tape = costs->tapes[plan->role_of[rank]];
    walker->rank = rank;
    walker->spans = trace->spans;
    assert(trace->n_ops == walker->tape->n_ops);
    return walker;
}

/* The stream's next op when all it waits for has ended, else NULL. *ready_s: when that was, its
 * issue included. */
static const tdm_tape_op *next_ready(tdm_walker *w, tdm_stream s, double *ready_s)
{
    stream_state *stream = &w->streams[s];
    if (stream->n_issued == w->tape->n_on_stream[s])
        return NULL;
    if (stream->missing && stream->missing->number > w->streams[stream->missing->stream].n_done)
        return NULL;
    const tdm_tape_op *op = &w->tape->ops[w->tape->streams[s][stream->n_issued]];
    double ready = (double)(op->instance.index + 1) * w->costs->launch_s;
    const tdm_tape_wait *waits = w->tape->waits + op->first_wait;
    for (uint32_t i = 0; i < op->n_waits; i++) {
        if (waits[i].number > w->streams[waits[i].stream].n_done) {
            stream->missing = &waits[i];
            return NULL;
        }
        double end_s = w->spans[waits[i].index].end_s;
        if (end_s > ready)
            ready = end_s;
    }
    stream->missing = NULL;
    *ready_s = ready;
    return op;
}

static void walk_compute(tdm_walker *w)
{
    stream_state *stream = &w->streams[TDM_STREAM_COMPUTE];
    const tdm_tape_op *op;
    double ready_s;
    while ((op = next_ready(w, TDM_STREAM_COMPUTE, &ready_s))) {
        double seconds = op->seconds;
        if (isnan(seconds))
            seconds = tdm_cost_op(w->costs->device, w->costs->plan, w->rank, &op->instance);
        double start_s = ready_s > stream->end_s ? ready_s : stream->end_s;
        stream->end_s = start_s + seconds;
        stream->n_issued = ++stream->n_done;
        w->spans[op->instance.index] = (tdm_span){start_s, stream->end_s};
    }
}

tdm_walk tdm_walker_next(tdm_walker *w, tdm_comm *comm, tdm_stream *stream, uint64_t *sequence)
{
    walk_compute(w);
    for (int s = 0; s < TDM_N_STREAMS; s++) {
        double ready_s;
        const tdm_tape_op *op =
            s == TDM_STREAM_COMPUTE ? NULL : next_ready(w, (tdm_stream)s, &ready_s);
        if (!op)
            continue;
        *comm = (tdm_comm){.rank = w->rank, .instance = op->instance, .ready_s = ready_s};
        comm->sequence = ++w->streams[s].n_issued;
        return TDM_WALK_COMM;
    }
    for (int s = 0; s < TDM_N_STREAMS; s++) {
        const tdm_tape_wait *missing = w->streams[s].missing;
        if (!missing)
            continue;
        *stream = missing->stream;
        *sequence = missing->number;
        return TDM_WALK_BLOCKED;
    }
    return TDM_WALK_END;
}

void tdm_walker_done(tdm_walker *w, const tdm_comm *comm, double start_s, double end_s)
{
    stream_state *stream = &w->streams[comm->instance.op->stream];
    assert(comm->sequence == stream->n_done + 1u);
    stream->n_done++;
    stream->end_s = end_s;
    w->spans[comm->instance.index] = (tdm_span){start_s, end_s};
}

uint64_t tdm_walker_n_done(const tdm_walker *w, tdm_stream stream, double *end_s)
{
    *end_s = w->streams[stream].end_s;
    return w->streams[stream].n_done;
}
