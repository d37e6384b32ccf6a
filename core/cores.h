/* cores.h: machines whose ranks are threads that share the cores of a processor, as the host device
 * runs them: no links, but more threads than cores, which wake each other, wait for a core, and
 * copy what they communicate themselves. */
#ifndef TDM_CORES_H
#define TDM_CORES_H

#include "engine.h"

/* Predicts the plan on a machine with cores (machine->topology->cores). Every stream is a thread,
 * and so is the issue of a rank's ops; threads that are ready get free cores in the order in which
 * they became so. Members of a communicator meet, move their share each, and meet again
 * (backend/threads.c). */
tdm_code tdm_cores_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                       const char *engine, tdm_trace *trace, tdm_error *err);

/* About how long n members need for an op of so many bytes (those of the whole buffer) when nothing
 * else runs: for estimates outside of a run. */
double tdm_cores_transfer_s(const tdm_cores *cores, tdm_op_kind kind, uint32_t n, uint64_t bytes);

#endif
