/* machine.h: what of this machine limits many ranks that run as threads on its cores: measured, in
 * the terms of topology.h's tdm_cores. */
#ifndef TDM_HOST_MACHINE_H
#define TDM_HOST_MACHINE_H

#include "../../core/topology.h"

typedef struct tdm_host_machine {
    const char *cpu; /* "AMD EPYC", as the kernel names it */
    uint64_t memory_bytes;
    double peak_flops_per_s; /* of a core, all cores busy with large fp32 products */
    double issue_s;          /* of handing one op to a stream */
    tdm_cores cores;
    double other_load; /* share of the cores that other programs took while it was measured */
} tdm_host_machine;

/* Takes about two seconds; with quick about half of one. turn_s stays 0: it is seen in traces.
 * Fails where no threads can be had, or OpenBLAS is missing. */
tdm_code tdm_host_measure(tdm_arena *arena, bool quick, tdm_host_machine *machine, tdm_error *err);

/* Cores that this process may use. */
uint32_t tdm_host_n_cores(void);

/* Share of all cores' time between two readings that was not this process's, nor idle; readings by
 * the first call, which fills *reading. 0 where the kernel does not say. */
typedef struct tdm_host_reading {
    double busy_s, own_s, wall_s;
} tdm_host_reading;
tdm_host_reading tdm_host_read_load(void);
double tdm_host_other_load(const tdm_host_reading *before, const tdm_host_reading *after);

#endif
