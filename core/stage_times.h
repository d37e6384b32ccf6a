/* stage_times.h: estimated pass times of the stages, for schedules that weigh them. */
#ifndef TDM_STAGE_TIMES_H
#define TDM_STAGE_TIMES_H

#include "schedule.h"

/* Times of one microbatch's passes on each stage of a plan whose kinds, chunks and routing are
 * lowered: of pass-time scenarios as given, otherwise the sum of all ops, communication on idle
 * links included, one after the other. An estimate: it ignores overlap. */
tdm_stage_times *tdm_stage_times_estimate(tdm_arena *arena, const tdm_scenario *scenario,
                                          const tdm_plan *plan);

/* The kept_share of a plan whose kinds have their slots and templates, with so many token-expert
 * pairs on a rank. */
double tdm_stage_times_kept_share(const tdm_plan *plan, tdm_routed routed);

#endif
