/* launched.h: a verb that several processes carry out together, as mpirun or srun started them:
 * joining, who prints, and how they end. */
#ifndef TDM_LAUNCHED_H
#define TDM_LAUNCHED_H

#include "backend/launch.h"
#include "backend/world.h"
#include "cli.h"

/* How long one waits for the others. Source: torch.distributed, init_process_group, the default of
 * its timeout with NCCL. */
#define TDM_LAUNCHED_DEADLINE_S 600.0

typedef struct tdm_launched {
    tdm_launch launch;
    tdm_world *world; /* NULL: this process is alone */
    bool quiet;       /* not process 0: prints no results and no remarks */
} tdm_launched;

/* Joins the processes that were started together. transport: "auto" (MPI where a launcher of MPI
 * started them), "mpi" (also alone) or "threads" (one process; refused where there are several).
 * Says on standard error who launched, unless `silent`. Returns TDM_CLI_GO_ON or the exit code,
 * after a message by process 0. */
int tdm_launched_open(const char *verb, const char *transport, double deadline_s, bool silent,
                      tdm_launched *launched);

/* Where preparations that may fail on one process alone are done: waits until all are ready.
 * Returns TDM_CLI_GO_ON, or the exit code when another one failed, and has said so. */
int tdm_launched_ready(tdm_launched *launched);

/* The end of a verb whose processes could fail each on its own. Where all fail alike only process 0
 * prints; whoever fails alone says who it is, and takes the others down. Without a message another
 * one failed, and says so. Returns the exit code. */
int tdm_launched_fail(tdm_launched *launched, const tdm_error *err);

/* Leaves the others; code is returned. */
int tdm_launched_close(tdm_launched *launched, int code);

#endif
