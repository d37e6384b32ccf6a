/* figures_idle.c: splits idle time by what communication does in it and by what the host has
 * issued. */
#include "figures_idle.h"

#include <math.h>

/* Clocks of engines agree to rounding: an op that starts this close to its issue starts at its
 * issue. */
#define SAME_TIME_S 1e-9

/* fmin is a call where NaN counts. */
static inline double least(double a, double b)
{
    return a < b ? a : b;
}

tdm_sweep tdm_sweep_begin(const tdm_rank_run *run, double *transfer_by_key)
{
    return (tdm_sweep){.run = run, .transfer_by_key = transfer_by_key, .until_s = -INFINITY};
}

/* What the stream does at `time_s`; lowers *until_s to the time at which that changes. */
static tdm_activity stream_activity(tdm_sweep *sweep, uint32_t stream, double time_s,
                                    double *until_s, uint32_t *comm)
{
    const tdm_program *program = sweep->run->program;
    const tdm_span *spans = sweep->run->spans;
    const uint32_t *ops = program->on_stream[stream];
    uint32_t i = sweep->next[stream], n = program->n_on_stream[stream];
    while (i < n && spans[ops[i]].end_s <= time_s)
        i++;
    sweep->next[stream] = i;
    if (i == n)
        return TDM_ACTIVITY_NONE;
    const tdm_span *span = &spans[ops[i]];
    if (span->start_s > time_s) {
        *until_s = least(*until_s, span->start_s);
        return TDM_ACTIVITY_NONE;
    }
    *comm = program->comm[ops[i]];
    double arrived_s = sweep->run->arrived_s[sweep->run->call_of[*comm]];
    if (arrived_s > time_s) {
        *until_s = least(*until_s, arrived_s);
        return tdm_op_is_p2p(program->ops[ops[i]].op->kind) ? TDM_ACTIVITY_P2P_WAIT
                                                            : TDM_ACTIVITY_WAIT;
    }
    *until_s = least(*until_s, span->end_s);
    return TDM_ACTIVITY_TRANSFER;
}

/* Finds what goes on at time_s, and until when. */
static void look(tdm_sweep *sweep, double time_s)
{
    const tdm_program *program = sweep->run->program;
    sweep->activity = TDM_ACTIVITY_NONE;
    sweep->until_s = INFINITY;
    for (uint32_t s = TDM_STREAM_COMPUTE + 1; s < TDM_N_STREAMS; s++) {
        if (sweep->next[s] == program->n_on_stream[s])
            continue;
        uint32_t comm = 0;
        tdm_activity what = stream_activity(sweep, s, time_s, &sweep->until_s, &comm);
        if (what > sweep->activity) {
            sweep->activity = what;
            sweep->key = program->comm_key[comm];
        }
    }
}

static void add_activity(tdm_cover *cover, tdm_activity what, double seconds)
{
    switch (what) {
    case TDM_ACTIVITY_TRANSFER:
        cover->transfer_s += seconds;
        break;
    case TDM_ACTIVITY_WAIT:
        cover->wait_s += seconds;
        break;
    case TDM_ACTIVITY_P2P_WAIT:
        cover->p2p_wait_s += seconds;
        break;
    case TDM_ACTIVITY_NONE:
        cover->nothing_s += seconds;
        break;
    }
}

void tdm_sweep_add(tdm_sweep *sweep, double from_s, double to_s, tdm_cover *cover)
{
    for (double time_s = from_s; time_s < to_s;) {
        if (time_s >= sweep->until_s)
            look(sweep, time_s);
        double until_s = least(sweep->until_s, to_s);
        add_activity(cover, sweep->activity, until_s - time_s);
        if (sweep->activity == TDM_ACTIVITY_TRANSFER && sweep->transfer_by_key)
            sweep->transfer_by_key[sweep->key] += until_s - time_s;
        time_s = until_s;
    }
}

/* The latest end, after from_s, of what `op` had to wait for other than its issue; *last is the op
 * that ended then, TDM_NO_OP when all was ready at from_s. */
static double ready_s(const tdm_rank_run *run, uint32_t op, double from_s, uint32_t *last)
{
    const tdm_program *program = run->program;
    double ready = from_s;
    *last = TDM_NO_OP;
    for (uint32_t w = program->first_wait[op]; w < program->first_wait[op + 1]; w++) {
        if (run->spans[program->waits[w].op].end_s > ready) {
            *last = program->waits[w].op;
            ready = run->spans[*last].end_s;
        }
    }
    if (program->number[op] > 1) {
        uint32_t previous = program->on_stream[program->stream[op]][program->number[op] - 2];
        if (run->spans[previous].end_s > ready) {
            *last = previous;
            ready = run->spans[previous].end_s;
        }
    }
    return ready;
}

double tdm_idle_unissued_s(const tdm_sweep *sweep, double from_s, double to_s, uint32_t next_op,
                           tdm_stretch *scratch)
{
    const tdm_rank_run *run = sweep->run;
    uint32_t n = 0, op = next_op;
    /* Back in time along the ops that held up next_op: each ends no later than the one before it
     * starts. */
    while (op != TDM_NO_OP) {
        uint32_t last;
        double start_s = least(run->spans[op].start_s, to_s);
        double ready = ready_s(run, op, from_s, &last);
        if (run->issued_s) {
            if (run->issued_s[op] > ready && ready < start_s)
                scratch[n++] = (tdm_stretch){ready, start_s};
            break; /* what held up the op before is unknown */
        }
        double issued_s = ((double)op + 1) * run->launch_s;
        if (ready < start_s && fabs(run->spans[op].start_s - issued_s) <= SAME_TIME_S) {
            scratch[n++] = (tdm_stretch){ready, start_s};
        }
        op = last;
    }
    tdm_sweep again = *sweep;
    again.transfer_by_key = NULL;
    tdm_cover cover = {0};
    while (n-- > 0)
        tdm_sweep_add(&again, scratch[n].from_s, scratch[n].to_s, &cover);
    /* Without waits, a stage that waits for a neighbour and a host that is late look the same: the
     * neighbour has it. */
    return (double)(run->issued_s ? cover.nothing_s : cover.p2p_wait_s + cover.nothing_s);
}
