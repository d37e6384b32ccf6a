/* figures_experts.h: the figures of routing. Private to figures.c. */
#ifndef TDM_FIGURES_EXPERTS_H
#define TDM_FIGURES_EXPERTS_H

#include "figures.h"

/* expert_efficiency, dropped_fraction and the hottest rank and expert. */
void tdm_figures_experts(const tdm_plan *plan, tdm_figures *figures);

#endif
