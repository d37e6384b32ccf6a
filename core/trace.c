/* trace.c: room for the spans of a run. */
#include "trace.h"

void tdm_trace_init(tdm_arena *arena, const tdm_plan *plan, const char *engine, double launch_s,
                    tdm_trace *trace)
{
    trace->engine = engine;
    trace->launch_s = launch_s;
    trace->n_ranks = plan->mesh.world;
    trace->ranks = TDM_ALLOC(arena, tdm_rank_trace, trace->n_ranks);
    /* Ranks of one role issue the same ops. */
    uint32_t *n_ops = TDM_ALLOC(arena, uint32_t, plan->n_roles);
    bool *known = TDM_ALLOC(arena, bool, plan->n_roles);
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++) {
        uint32_t role = plan->role_of[rank];
        if (!known[role]) {
            n_ops[role] = tdm_plan_n_ops(plan, rank);
            known[role] = true;
        }
        trace->ranks[rank].n_ops = n_ops[role];
        trace->ranks[rank].spans = TDM_ALLOC(arena, tdm_span, n_ops[role]);
    }
}
