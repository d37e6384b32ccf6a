/* seat.h: the place of a rank in a communicator: with whom it talks, and what is under way. An op's
 * transfer is a few rounds of messages between pairs of members; those of one communicator follow
 * each other, so pairs need one tag each. Private to backend/mpi/. */
#ifndef TDM_MPI_SEAT_H
#define TDM_MPI_SEAT_H

#include "parts.h"

typedef struct mpi_seat {
    const tdm_world *world;
    const atomic_bool *stopped;
    uint32_t n_members, me;
    const uint32_t *ranks;   /* [n_members] */
    const int *processes;    /* [n_members] where they are */
    const int *tags_to;      /* [n_members] of messages to them */
    const int *tags_from;    /* [n_members] of messages from them */
    MPI_Request *requests;   /* [n_requests] of [capacity] under way */
    uint32_t *request_peers; /* [n_requests] the member of each */
    uint32_t n_requests, capacity;
    int failed_code;     /* of MPI; MPI_SUCCESS */
    bool without_memory; /* there was none for a request */
    float *scratch;      /* [n_scratch] what others gave to a sum */
    uint64_t n_scratch;
} mpi_seat;

/* Begin to send to, or to receive from, a member. Nothing is done for 0 bytes, nor once something
 * has failed: mpi_seat_finish says so. */
void mpi_seat_send(mpi_seat *seat, uint32_t member, const void *data, uint64_t n_bytes);
void mpi_seat_receive(mpi_seat *seat, uint32_t member, void *data, uint64_t n_bytes);
/* Waits for all that was begun. */
mpi_wait mpi_seat_finish(mpi_seat *seat);
/* Room for so many numbers; NULL when memory is out, which mpi_seat_finish then says. */
float *mpi_seat_scratch(mpi_seat *seat, uint64_t count);
void mpi_seat_close(mpi_seat *seat);

/* All members have come: *latest is the largest of their values. `what` must be the same on all;
 * *matches is false when some member's is not. */
mpi_wait mpi_seat_meet(mpi_seat *seat, double value, uint64_t what, double *latest, bool *matches);

/* Moves what an op of this kind moves, between all members. Sums go in order of members. */
mpi_wait mpi_seat_move(mpi_seat *seat, tdm_op_kind kind, const tdm_exec_transfer *transfer);

#endif
