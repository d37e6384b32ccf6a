/* world.h: the processes that MPI started together: what they know in common, what they tell each
 * other outside of steps, and how they end. Every function but abort is to be called by all
 * processes, in the same order, by one thread of each. */
#ifndef TDM_WORLD_H
#define TDM_WORLD_H

#include "../core/base.h"

typedef struct tdm_world tdm_world;

/* NULL when MPI is built in and its library opens; otherwise what is missing and how to get it. */
const char *tdm_mpi_missing(void);

typedef struct tdm_world_shape {
    uint32_t process, n_processes;
    uint32_t n_on_host; /* processes on this one's host, itself included */
    uint32_t n_hosts;
    const char *host;    /* name of this process's host */
    const char *library; /* "Open MPI v4.1.4" */
} tdm_world_shape;

/* Joins the world that the launcher made. A process that hears nothing of the others for deadline_s
 * (real seconds, above 0) gives up. Once per process. */
tdm_code tdm_world_open(double deadline_s, tdm_world **world, tdm_error *err);
/* Leaves it. NULL: nothing to leave. */
void tdm_world_close(tdm_world *world);
/* Ends all processes with this exit code. Does not return. world NULL: does nothing. */
void tdm_world_abort(tdm_world *world, int exit_code);

const tdm_world_shape *tdm_world_shape_of(const tdm_world *world);

/* How a preparation that all processes make alike went. */
typedef struct tdm_world_verdict {
    uint32_t n_failed;
    uint32_t first_failed; /* the lowest of them */
    bool alike;            /* all processes, with the same message */
    tdm_code code;         /* the largest of all */
} tdm_world_verdict;
/* own: this process's code, what: its message (NULL: none). Counts once: later calls find out
 * nothing new and return false, as does a call that waits beyond the deadline. */
bool tdm_world_agree(tdm_world *world, tdm_code own, const char *what, tdm_world_verdict *verdict);

/* Element by element the largest over all processes; the result is on all. */
tdm_code tdm_world_largest(tdm_world *world, double *values, uint32_t n, tdm_error *err);
/* The same bytes for all: those of the process `from`. */
tdm_code tdm_world_share(tdm_world *world, uint32_t from, void *data, uint64_t n_bytes,
                         tdm_error *err);

/* ---- messages between process 0 and the others, one at a time ---- */

/* Returns when the receiver has it, or MPI has taken it over. */
tdm_code tdm_world_send(tdm_world *world, uint32_t to, const void *data, uint64_t n_bytes,
                        tdm_error *err);
/* The next message from process `from`, or from anybody (UINT32_MAX), without waiting: *n_bytes is
 * 0 when there is none. The text is NUL-terminated in the arena. */
tdm_code tdm_world_take(tdm_arena *arena, tdm_world *world, uint32_t *from, char **data,
                        uint64_t *n_bytes, tdm_error *err);

#endif
