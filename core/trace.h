/* trace.h: what an engine leaves behind: start and end of every op of every rank, nothing else.
 * Everything said about a run (figures, tables, files) is derived from the plan and this, by code
 * that does not know which engine wrote it. */
#ifndef TDM_TRACE_H
#define TDM_TRACE_H

#include "plan.h"

typedef struct tdm_span {
    double start_s; /* the op's turn came: streams and waits were done. Communication may still wait
                       for peers */
    double end_s;
} tdm_span;

typedef struct tdm_rank_trace {
    uint32_t n_ops;
    tdm_span *spans; /* [n_ops] by index in program order */
} tdm_rank_trace;

typedef struct tdm_trace {
    const char *engine; /* "analytic", "sim", "host", "cuda" */
    double launch_s;    /* host time to issue one op; the i-th op is issued at (i + 1) * launch_s */
    uint32_t n_ranks;
    tdm_rank_trace *ranks; /* [n_ranks] */
} tdm_trace;

/* Allocates the spans for a plan. */
void tdm_trace_init(tdm_arena *arena, const tdm_plan *plan, const char *engine, double launch_s,
                    tdm_trace *trace);

#endif
