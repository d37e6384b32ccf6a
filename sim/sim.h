/* sim.h: the SimGrid engine: compute ops are arithmetic, every communication op is a set of flows
 * that share the topology's links max-min fairly. */
#ifndef TDM_SIM_H
#define TDM_SIM_H

#include "../core/engine.h"

/* NULL when the engine is built in; otherwise what is missing and how to get it. */
const char *tdm_sim_missing(void);

/* Simulates the plan in a forked child and fills the trace. platform_path: where the platform XML
 * is written and kept; NULL: in memory, for the simulation only. */
tdm_code tdm_sim_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                     const char *platform_path, tdm_trace *trace, tdm_error *err);

/* Writes the topology's links, and the routes of the plan's flows over them, as a SimGrid 4.1
 * platform. Needs no SimGrid. */
tdm_code tdm_sim_write_platform(const tdm_plan *plan, const tdm_topology *topology,
                                const char *path, tdm_error *err);

#endif
