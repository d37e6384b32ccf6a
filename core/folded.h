/* folded.h: the folded evaluation: the figures of a layout over passes instead of ops.
 *
 * The analytic engine walks every op of every rank. Here one layer of each kind is scheduled once
 * per way to split it; identical layers are counted, the ranks of a stage are one, and only the
 * order of passes is played through, with the transfers between stages as the plan makes them
 * (receives posted one pass ahead, sends done two passes later). Lowering's own kinds of blocks,
 * its O pass and the same collectives are used, so that only the walk differs.
 *
 * Routing is balanced: every rank's experts get the mean number of tokens. Of uniformly random
 * routing the expected largest share over the ranks of an expert group is taken instead for times
 * (the slowest rank holds up the group), and the mean for memory. Some shares of the step are
 * approximations: comm_busy_fraction and nvml_utilization take overlaps of independent streams as
 * independent, comm_exposed_fraction counts a layer's as it is in a run of such layers.
 * tests/test_folded.c says how near the figures are to those of the analytic engine. */
#ifndef TDM_FOLDED_H
#define TDM_FOLDED_H

#include "figures.h"
#include "schedule.h"

/* What can be chosen without another model or machine. */
typedef struct tdm_fold_choice {
    tdm_parallel parallel; /* dp included: no more ranks than the topology has GPUs */
    tdm_recompute recompute;
    const tdm_schedule *schedule;
    uint32_t num_microbatches, micro_batch_size;
} tdm_fold_choice;

/* The choice that a scenario makes, and a scenario that makes another one (copied flat). */
tdm_fold_choice tdm_fold_choice_of(const tdm_scenario *scenario);
tdm_scenario tdm_fold_choice_apply(const tdm_scenario *scenario, const tdm_fold_choice *choice);

/* Why a scenario with this choice would be refused when it is loaded, for what a choice can break;
 * NULL: it would not. */
const char *tdm_fold_refuse(const tdm_scenario *scenario, const tdm_fold_choice *choice);

/* Evaluates choices for one scenario, and remembers what they have in common. The scenario must
 * outlive it. */
typedef struct tdm_folded tdm_folded;
tdm_folded *tdm_folded_new(const tdm_scenario *scenario);
void tdm_folded_free(tdm_folded *folded);

/* The scalar figures of a choice that tdm_fold_refuse accepts; ranks and stages are NULL, comms
 * holds all-reduce and all-to-all and is overwritten by the next call. Fast where choices that
 * differ only in schedule and optimizer follow each other. */
tdm_code tdm_folded_evaluate(tdm_folded *folded, const tdm_fold_choice *choice,
                             tdm_figures *figures, tdm_error *err);

#endif
