/* plan_views.h: a plan seen from one side: its memory, its order of passes. What `tandem plan`
 * prints on request. */
#ifndef TDM_PLAN_VIEWS_H
#define TDM_PLAN_VIEWS_H

#include "core/plan.h"

#include <stdio.h>

/* Memory of each stage's largest rank by class. limit_bytes and context_bytes: 0 where the machine
 * is unknown. Returns TDM_E_INFEASIBLE, with a message and after printing, when a rank needs more
 * than the limit. */
tdm_code tdm_view_memory(tdm_arena *arena, const tdm_plan *plan, uint64_t context_bytes,
                         uint64_t limit_bytes, FILE *file, tdm_error *err);

/* The order of passes on a time axis: every pass as early as its stage and its neighbours allow. */
tdm_code tdm_view_schedule(tdm_arena *arena, const tdm_plan *plan, FILE *file, tdm_error *err);

/* The compute-only schedule format of torch.distributed.pipelining: a row per pipeline rank, cells
 * STAGE ACTION MICROBATCH with actions F, B (whole backward), I (gradient of the input), W (of the
 * weights). */
void tdm_view_schedule_csv(const tdm_plan *plan, FILE *file);

#endif
