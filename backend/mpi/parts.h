/* parts.h: what the files of the MPI transport share. Private to backend/mpi/. */
#ifndef TDM_MPI_PARTS_H
#define TDM_MPI_PARTS_H

#include "mpi_api.h"
#include "transport.h"

#include <stdatomic.h>

struct tdm_world {
    const mpi_api *mpi;
    MPI_Comm control, data; /* for what is in world.h; for transfers of ops */
    tdm_world_shape shape;
    int *first_on_host; /* [n_processes] the lowest process on the same host */
    char host[MPI_MAX_PROCESSOR_NAME], library[MPI_MAX_LIBRARY_VERSION_STRING];
    double deadline_s;
    bool agreed;
};

typedef enum mpi_wait {
    MPI_WAIT_DONE,
    MPI_WAIT_STOPPED,
    MPI_WAIT_LATE,  /* beyond the deadline */
    MPI_WAIT_FAILED /* MPI says so */
} mpi_wait;

/* Waits for requests. MPI can only be asked, not waited for, without taking a core: so it is asked
 * at first again and again, then after pauses that grow with the time waited. eager: without
 * pauses, for a while. stopped may be NULL. */
mpi_wait mpi_finish(const tdm_world *world, int n, MPI_Request *requests,
                    const atomic_bool *stopped, bool eager);

/* What MPI says about the code. */
tdm_code mpi_failure(const tdm_world *world, const char *what, int code, tdm_error *err);

/* Seconds of this host's monotonic clock. */
double mpi_now_s(void);

/* The clock of this process against that of process 0: clocks.c. */
typedef struct mpi_clocks {
    double offset_s, uncertainty_s; /* this clock minus that of process 0 */
    double round_trip_s;            /* longest of the shortest ones, over all processes */
    bool known;                     /* to be that of process 0 */
    double worst_uncertainty_s;     /* of all steps */
} mpi_clocks;

/* Estimates this clock's offset by messages, and agrees on a moment when all begin: *origin_s, on
 * this clock. */
tdm_code mpi_clocks_align(tdm_world *world, mpi_clocks *clocks, double *origin_s, tdm_error *err);

/* The best of some samples of another clock: asked at sent_s, answered with theirs_s, heard at
 * heard_s. */
typedef struct mpi_sample {
    double sent_s, theirs_s, heard_s;
} mpi_sample;
void mpi_clock_estimate(const mpi_sample *samples, uint32_t n, double *offset_s,
                        double *uncertainty_s);

#endif
