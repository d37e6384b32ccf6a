/* paced.c: every op sleeps its planned time, a transfer that from its last member's start, so what
 * other transfers take of its links is in the time that the engine planned for it. An op is
 * due at the planned time after all that it waited for was due, so that waking up late does not add
 * up along a stream. */
#include "paced.h"

#include "../core/calls.h"

struct tdm_paced {
    const tdm_paced_times *times;
    double *late_s; /* [world][TDM_N_STREAMS], each written by its stream alone */
};

tdm_code tdm_paced_plan(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                        const tdm_trace *planned, tdm_paced_times *times, tdm_error *err)
{
    tdm_calls calls;
    tdm_code code = tdm_calls_match(arena, plan, programs, planned, &calls, err);
    if (code != TDM_OK)
        return code;
    tdm_paced_times out = {.launch_s = planned->launch_s,
                           .seconds = TDM_ALLOC(arena, const double *, plan->mesh.world)};
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_program *p = &programs[plan->role_of[rank]];
        double *seconds = TDM_ALLOC(arena, double, p->n_ops);
        for (uint32_t op = 0; op < p->n_ops; op++) {
            tdm_span span = planned->ranks[rank].spans[op];
            if (tdm_op_is_comm(p->ops[op].op))
                span.start_s = calls.arrived_s[calls.of_rank[rank][p->comm[op]]];
            seconds[op] = span.end_s - span.start_s;
            out.step_s = span.end_s > out.step_s ? span.end_s : out.step_s;
        }
        out.seconds[rank] = seconds;
        out.n_ops += p->n_ops;
    }
    *times = out;
    return TDM_OK;
}

static void take_until(tdm_paced *paced, tdm_exec_op *op, double done_s)
{
    op->done_s = done_s;
    double now_s = tdm_exec_now(op->clock);
    if (now_s < done_s) {
        tdm_exec_sleep_until(op->clock, done_s);
        now_s = tdm_exec_now(op->clock);
    }
    double *late_s = &paced->late_s[op->rank * TDM_N_STREAMS + (uint32_t)op->instance->op->stream];
    *late_s = now_s - done_s > *late_s ? now_s - done_s : *late_s;
}

static double planned_s(const tdm_paced *paced, const tdm_exec_op *op)
{
    return paced->times->seconds[op->rank][op->instance->index];
}

static tdm_code begin(void *self, uint32_t rank, void *statics, tdm_error *err)
{
    (void)self;
    (void)rank;
    (void)statics;
    (void)err;
    return TDM_OK;
}

static tdm_code compute(void *self, tdm_exec_op *op, tdm_error *err)
{
    (void)err;
    take_until(self, op, op->ready_s + planned_s(self, op));
    return TDM_OK;
}

static void moved(void *self, tdm_exec_op *op, double latest_s)
{
    take_until(self, op, latest_s + planned_s(self, op));
}

tdm_paced *tdm_paced_open(tdm_arena *arena, const tdm_plan *plan, const tdm_paced_times *times,
                          tdm_exec_device *device)
{
    tdm_paced *paced = TDM_ALLOC(arena, tdm_paced, 1);
    paced->times = times;
    paced->late_s = TDM_ALLOC(arena, double, plan->mesh.world *(size_t)TDM_N_STREAMS);
    *device = (tdm_exec_device){
        .name = "paced", .self = paced, .begin = begin, .compute = compute, .moved = moved};
    return paced;
}

double tdm_paced_late_s(const tdm_paced *paced, uint32_t n_ranks)
{
    double late_s = 0;
    for (uint32_t i = 0; i < n_ranks * TDM_N_STREAMS; i++)
        late_s = paced->late_s[i] > late_s ? paced->late_s[i] : late_s;
    return late_s;
}
