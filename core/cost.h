/* cost.h: how long a compute op takes on a device: as its profile's tables say, where they have it
 * (rates.h), else by the roofline: time = max(flops / (peak * efficiency), bytes / (bandwidth *
 * efficiency)), at least the device's kernel floor. */
#ifndef TDM_COST_H
#define TDM_COST_H

#include "plan.h"

/* Seconds of a compute op (GEMM ... TIMED) of a rank whose experts receive so many token-expert
 * pairs; never negative. */
double tdm_cost_op(const tdm_device *device, const tdm_plan *plan, const tdm_op *op,
                   uint64_t tokens);

/* The worst grade among the numbers that tdm_cost_op uses. */
tdm_grade tdm_cost_grade(const tdm_device *device);

#endif
