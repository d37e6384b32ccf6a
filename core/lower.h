/* lower.h: from a scenario to a plan. */
#ifndef TDM_LOWER_H
#define TDM_LOWER_H

#include "plan.h"

/* Lowers the scenario with the named schedule (usually scenario->schedule) and number of
 * microbatches. The plan lives in the arena and keeps pointers into the scenario. Errors name the
 * scenario's key. copies: as tdm_fold_find has found, or 1. */
tdm_code tdm_lower_folded(tdm_arena *arena, const tdm_scenario *scenario, const char *schedule,
                          uint32_t num_microbatches, uint32_t copies, tdm_plan *plan,
                          tdm_error *err);

/* The same without folding. */
tdm_code tdm_lower(tdm_arena *arena, const tdm_scenario *scenario, const char *schedule,
                   uint32_t num_microbatches, tdm_plan *plan, tdm_error *err);

#endif
