/* paced.h: a device that does nothing but take the planned time. */
#ifndef TDM_PACED_H
#define TDM_PACED_H

#include "executor.h"

#include "../core/program.h"

/* What an engine plans for the ops of all ranks, apart from waiting. */
typedef struct tdm_paced_times {
    double launch_s;        /* of one op */
    double step_s;          /* of the whole step */
    const double **seconds; /* [world][n_ops]; of communication: from its last member's start */
    uint64_t n_ops;         /* of all ranks */
} tdm_paced_times;

/* From a trace of the plan. */
tdm_code tdm_paced_plan(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                        const tdm_trace *planned, tdm_paced_times *times, tdm_error *err);

typedef struct tdm_paced tdm_paced;
tdm_paced *tdm_paced_open(tdm_arena *arena, const tdm_plan *plan, const tdm_paced_times *times,
                          tdm_exec_device *device);
/* Most by which an op ended later than it was due so far, in plan time. Between steps only. */
double tdm_paced_late_s(const tdm_paced *paced, uint32_t n_ranks);

#endif
