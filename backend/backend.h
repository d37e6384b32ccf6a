/* backend.h: runs a plan: every rank's streams and host thread as threads of this process, or of
 * one of several that share the ranks; a device for kernels, a transport between ranks. */
#ifndef TDM_BACKEND_H
#define TDM_BACKEND_H

#include "../core/trace.h"
#include "launch.h"
#include "world.h"

typedef struct tdm_run_options {
    const char *device;    /* "host" or "paced" */
    const char *transport; /* "threads" or "mpi" */
    tdm_world *world;      /* mpi: the processes that share the ranks */
    tdm_launch launch;     /* who started them */
    uint32_t n_steps;      /* at least 1 */
    double pace;           /* paced: real seconds for one of the plan; 0: as the machine allows */
    const char *dump;      /* host: a new folder for what was computed, host/host.h; NULL: none */
    bool check_memory;     /* host: poison, red zones, and a count of the bytes in use */
} tdm_run_options;

/* One training step. */
typedef struct tdm_run_step {
    double step_s;
    double loss;      /* mean over the tokens of the global batch; NAN where nothing is computed */
    double grad_norm; /* before clipping; NAN without gradients or without clipping */
} tdm_run_step;

typedef struct tdm_run_report {
    const char *device, *transport; /* device NULL: nothing was run */
    const char *times_of;           /* paced: the engine that planned; NULL elsewhere */
    double pace;                    /* 1 but on the paced device */
    double late_s;       /* paced: most by which an op ended later than planned, in plan time */
    bool memory_checked; /* and found as planned */
    uint32_t n_steps;
    const tdm_run_step *steps; /* [n_steps] */
    uint32_t traced_step;      /* the step of median time: that of the trace */
    tdm_world_shape processes; /* mpi: n_processes 0 elsewhere */
    tdm_launch launch;
    double clock_uncertainty_s; /* most by which a process's clock may be off in the trace */
} tdm_run_report;

/* NULL when the host device is built in; otherwise what is missing and how to get it. */
const char *tdm_host_missing(void);

/* What the device cannot run, each as one message that names the scenario's key; TDM_OK: nothing.
 */
tdm_code tdm_backend_check(const tdm_plan *plan, const tdm_run_options *options, tdm_error *err);

/* What the processes that the launcher started cannot run; NULL: as many as there are ranks, or a
 * divisor of them. */
tdm_code tdm_backend_check_world(uint32_t n_ranks, const tdm_run_options *options, tdm_error *err);

/* Runs the plan; fills the trace with the step of median time. `planned` is a trace of this plan by
 * any engine, whose times the paced device takes; NULL for other devices. Times in the trace are in
 * seconds of the plan. */
tdm_code tdm_backend_run(tdm_arena *arena, const tdm_plan *plan, const tdm_trace *planned,
                         const tdm_run_options *options, tdm_trace *trace, tdm_run_report *report,
                         tdm_error *err);

#endif
