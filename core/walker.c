/* walker.c: takes one rank through its program: known durations by arithmetic, communication by the
 * engine.
 *
 * The host thread issues ops without waiting for any, so a stream that waits holds back no other: a
 * receive posted for the next pass starts while this one is still full of collectives. Every stream
 * is therefore walked on its own. */
#include "engine.h"

#include <assert.h>
#include <math.h>

typedef struct stream_state {
    uint32_t n_issued; /* handed out; of compute ops: done */
    uint32_t n_done;
    double end_s;                    /* of the last op done */
    const tdm_program_wait *missing; /* what the next op was last found to wait for */
} stream_state;

struct tdm_walker {
    const tdm_costs *costs;
    const tdm_program *program;
    const double *seconds;
    uint32_t rank;
    tdm_span *spans;
    stream_state streams[TDM_N_STREAMS];
    /* Tokens routed to the rank in the layer and microbatch that it last computed. */
    uint32_t layer, microbatch;
    uint64_t tokens;
};

tdm_walker *tdm_walker_new(tdm_arena *arena, const tdm_plan *plan, const tdm_costs *costs,
                           uint32_t rank, tdm_rank_trace *trace)
{
    tdm_walker *walker = TDM_ALLOC(arena, tdm_walker, 1);
    walker->costs = costs;
    walker->program = &costs->programs[plan->role_of[rank]];
    walker->seconds = costs->seconds[plan->role_of[rank]];
    walker->rank = rank;
    walker->spans = trace->spans;
    walker->layer = walker->microbatch = UINT32_MAX;
    assert(trace->n_ops == walker->program->n_ops);
    return walker;
}

/* Raises *ready_s to the end of all that `op` waits for; false, with `missing` set, when something
 * has not ended. */
static bool waits_ended(const tdm_walker *w, stream_state *stream, uint32_t op, double *ready_s)
{
    const tdm_program *p = w->program;
    for (uint32_t i = p->first_wait[op]; i < p->first_wait[op + 1]; i++) {
        const tdm_program_wait *wait = &p->waits[i];
        if (wait->number > w->streams[wait->stream].n_done) {
            stream->missing = wait;
            return false;
        }
        double end_s = w->spans[wait->op].end_s;
        *ready_s = end_s > *ready_s ? end_s : *ready_s;
    }
    stream->missing = NULL;
    return true;
}

/* Whether what the stream's next op was last found to wait for has not ended. */
static bool still_missing(const tdm_walker *w, const stream_state *stream)
{
    return stream->missing && stream->missing->number > w->streams[stream->missing->stream].n_done;
}

static double issue_s(const tdm_walker *w, uint32_t op)
{
    return (double)(op + 1) * w->costs->launch_s;
}

/* Seconds of an op whose work depends on the routing. */
static double routed_seconds(tdm_walker *w, const tdm_instance *in)
{
    const tdm_plan *plan = w->costs->plan;
    if (w->layer != in->layer || w->microbatch != in->pass.microbatch) {
        w->layer = in->layer;
        w->microbatch = in->pass.microbatch;
        w->tokens = tdm_plan_tokens(plan, w->rank, w->layer, w->microbatch);
    }
    return tdm_cost_op(w->costs->device, plan, in->op, w->tokens);
}

static void walk_compute(tdm_walker *w)
{
    stream_state *stream = &w->streams[TDM_STREAM_COMPUTE];
    const tdm_program *p = w->program;
    const uint32_t *ops = p->on_stream[TDM_STREAM_COMPUTE];
    uint32_t n = p->n_on_stream[TDM_STREAM_COMPUTE];
    if (still_missing(w, stream))
        return;
    double end_s = stream->end_s;
    uint32_t next = stream->n_done;
    for (; next < n; next++) {
        uint32_t op = ops[next];
        double start_s = issue_s(w, op);
        if (p->first_wait[op] < p->first_wait[op + 1]) {
            stream->n_done = next; /* ops may wait for their own stream */
            if (!waits_ended(w, stream, op, &start_s))
                break;
        }
        start_s = start_s > end_s ? start_s : end_s;
        double seconds = w->seconds[op];
        if (isnan(seconds))
            seconds = routed_seconds(w, &p->ops[op]);
        if (w->costs->perturbed)
            seconds *= tdm_perturbed_kernel(w->costs->perturbed, w->rank, op);
        end_s = start_s + seconds;
        w->spans[op] = (tdm_span){start_s, end_s};
    }
    stream->end_s = end_s;
    stream->n_issued = stream->n_done = next;
}

/* Hands out the next op of a stream of communication if all it waits for has ended. */
static bool hand_out(tdm_walker *w, uint32_t s, tdm_comm *comm)
{
    stream_state *stream = &w->streams[s];
    const tdm_program *p = w->program;
    if (stream->n_issued == p->n_on_stream[s] || still_missing(w, stream))
        return false;
    uint32_t op = p->on_stream[s][stream->n_issued];
    double ready_s = issue_s(w, op);
    if (!waits_ended(w, stream, op, &ready_s))
        return false;
    *comm = (tdm_comm){.rank = w->rank,
                       .user = p->comm_user[p->comm[op]],
                       .instance = &p->ops[op],
                       .ready_s = ready_s,
                       .sequence = ++stream->n_issued};
    return true;
}

tdm_walk tdm_walker_next(tdm_walker *w, tdm_comm *comm, tdm_stream *stream, uint64_t *sequence)
{
    walk_compute(w);
    for (uint32_t s = TDM_STREAM_COMPUTE + 1; s < TDM_N_STREAMS; s++)
        if (hand_out(w, s, comm))
            return TDM_WALK_COMM;
    for (int s = 0; s < TDM_N_STREAMS; s++) {
        const tdm_program_wait *missing = w->streams[s].missing;
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
    stream_state *stream = &w->streams[comm->instance->op->stream];
    assert(comm->sequence == stream->n_done + 1u);
    stream->n_done++;
    stream->end_s = end_s;
    w->spans[comm->instance->index] = (tdm_span){start_s, end_s};
}

uint64_t tdm_walker_n_done(const tdm_walker *w, tdm_stream stream, double *end_s)
{
    *end_s = w->streams[stream].end_s;
    return w->streams[stream].n_done;
}
