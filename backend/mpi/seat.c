/* seat.c: messages of a rank within one communicator, see seat.h. */
#include "seat.h"

#include <stdlib.h>
#include <string.h>

/* Of one message: MPI counts in int. */
enum { PIECE_BYTES = 1 << 30 };

static MPI_Request *new_request(mpi_seat *seat, uint32_t member)
{
    if (seat->n_requests == seat->capacity) {
        uint32_t capacity = 2 * seat->capacity + 16;
        MPI_Request *requests = realloc(seat->requests, capacity * sizeof(MPI_Request));
        seat->requests = requests ? requests : seat->requests;
        uint32_t *peers = realloc(seat->request_peers, capacity * sizeof *peers);
        seat->request_peers = peers ? peers : seat->request_peers;
        seat->without_memory = seat->without_memory || !requests || !peers;
        if (seat->without_memory)
            return NULL;
        seat->capacity = capacity;
    }
    seat->request_peers[seat->n_requests] = member;
    return &seat->requests[seat->n_requests++];
}

static bool goes_on(const mpi_seat *seat)
{
    return seat->failed_code == MPI_SUCCESS && !seat->without_memory;
}

void mpi_seat_send(mpi_seat *seat, uint32_t member, const void *data, uint64_t n_bytes)
{
    const mpi_api *mpi = seat->world->mpi;
    for (const char *next = data; n_bytes > 0 && goes_on(seat);) {
        int piece = n_bytes < PIECE_BYTES ? (int)n_bytes : PIECE_BYTES;
        MPI_Request *request = new_request(seat, member);
        if (request)
            seat->failed_code = mpi->Isend(next, piece, mpi->type_byte, seat->processes[member],
                                           seat->tags_to[member], seat->world->data, request);
        next += piece;
        n_bytes -= (uint64_t)piece;
    }
}

void mpi_seat_receive(mpi_seat *seat, uint32_t member, void *data, uint64_t n_bytes)
{
    const mpi_api *mpi = seat->world->mpi;
    for (char *next = data; n_bytes > 0 && goes_on(seat);) {
        int piece = n_bytes < PIECE_BYTES ? (int)n_bytes : PIECE_BYTES;
        MPI_Request *request = new_request(seat, member);
        if (request)
            seat->failed_code = mpi->Irecv(next, piece, mpi->type_byte, seat->processes[member],
                                           seat->tags_from[member], seat->world->data, request);
        next += piece;
        n_bytes -= (uint64_t)piece;
    }
}

mpi_wait mpi_seat_finish(mpi_seat *seat)
{
    if (!goes_on(seat))
        return MPI_WAIT_FAILED;
    mpi_wait wait =
        mpi_finish(seat->world, (int)seat->n_requests, seat->requests, seat->stopped, false);
    if (wait == MPI_WAIT_DONE)
        seat->n_requests = 0;
    return wait;
}

float *mpi_seat_scratch(mpi_seat *seat, uint64_t count)
{
    if (count <= seat->n_scratch)
        return seat->scratch;
    free(seat->scratch);
    seat->scratch = malloc(count * sizeof *seat->scratch);
    seat->n_scratch = seat->scratch ? count : 0;
    seat->without_memory = seat->without_memory || !seat->scratch;
    return seat->scratch;
}

void mpi_seat_close(mpi_seat *seat)
{
    free(seat->requests);
    free(seat->request_peers);
    free(seat->scratch);
}

/* ---- meeting ---- */

typedef struct greeting {
    double value;
    uint64_t what;
} greeting;

/* In rounds: after that of distance d everybody knows of the 2 d members up to itself. Source:
 * Hensgen, Finkel, Manber 1988, Two algorithms for barrier synchronization, the dissemination
 * barrier. */
mpi_wait mpi_seat_meet(mpi_seat *seat, double value, uint64_t what, double *latest, bool *matches)
{
    greeting mine = {value, what}, theirs = {value, what};
    bool same = true;
    uint32_t n = seat->n_members;
    for (uint64_t d = 1; d < n; d *= 2) {
        mpi_seat_receive(seat, (uint32_t)((seat->me + n - d) % n), &theirs, sizeof theirs);
        mpi_seat_send(seat, (uint32_t)((seat->me + d) % n), &mine, sizeof mine);
        mpi_wait wait = mpi_seat_finish(seat);
        if (wait != MPI_WAIT_DONE)
            return wait;
        same = same && theirs.what == what;
        mine.value = theirs.value > mine.value ? theirs.value : mine.value;
    }
    *latest = mine.value;
    *matches = same;
    return MPI_WAIT_DONE;
}

/* ---- moving data ---- */

static uint64_t bytes_of(tdm_exec_range r)
{
    return (r.to - r.from) * sizeof(float);
}

/* Every member gets what all have of its shard, and sums it up (or takes the largest) in order of
 * members, into its part of `out`: at its start when `packed`, else where it lies in the whole. */
static mpi_wait reduce(mpi_seat *seat, const tdm_exec_transfer *t, bool packed)
{
    uint64_t per_member = 0;
    for (uint32_t s = 0; s < t->n_segments; s++)
        per_member += bytes_of(tdm_exec_shard(t, s, seat->n_members, seat->me)) / sizeof(float);
    float *given = mpi_seat_scratch(seat, per_member * seat->n_members);
    if (!given && per_member > 0)
        return MPI_WAIT_FAILED;
    for (uint32_t k = 0; k < seat->n_members; k++) {
        float *next = given + k * per_member;
        for (uint32_t s = 0; k != seat->me && s < t->n_segments; s++) {
            const tdm_exec_segment *segment = &t->segments[s];
            tdm_exec_range mine = tdm_exec_shard(t, s, seat->n_members, seat->me),
                           theirs = tdm_exec_shard(t, s, seat->n_members, k);
            mpi_seat_receive(seat, k, next, bytes_of(mine));
            mpi_seat_send(seat, k, (const float *)segment->in + theirs.from, bytes_of(theirs));
            next += mine.to - mine.from;
        }
    }
    mpi_wait wait = mpi_seat_finish(seat);
    if (wait != MPI_WAIT_DONE)
        return wait;
    for (uint32_t s = 0; s < t->n_segments; s++) {
        const tdm_exec_segment *segment = &t->segments[s];
        tdm_exec_range r = tdm_exec_shard(t, s, seat->n_members, seat->me);
        float *out = (float *)segment->out + (packed ? 0 : r.from);
        const float *in = segment->in;
        for (uint64_t i = 0; i < r.to - r.from; i++) {
            float own = in[r.from + i], sum = seat->me == 0 ? own : given[i];
            for (uint32_t k = 1; k < seat->n_members; k++) {
                float value = k == seat->me ? own : given[k * per_member + i];
                sum = !t->largest ? sum + value : value > sum ? value : sum;
            }
            out[i] = sum;
        }
        given += r.to - r.from;
    }
    return MPI_WAIT_DONE;
}

/* Every member's shard goes to all: `packed` ones stand at the start of `in`, others in `out`. */
static mpi_wait gather(mpi_seat *seat, const tdm_exec_transfer *t, bool packed)
{
    for (uint32_t s = 0; s < t->n_segments; s++) {
        const tdm_exec_segment *segment = &t->segments[s];
        tdm_exec_range mine = tdm_exec_shard(t, s, seat->n_members, seat->me);
        float *own = (float *)segment->out + mine.from;
        if (packed && segment->in != own && bytes_of(mine) > 0)
            memcpy(own, segment->in, bytes_of(mine));
        for (uint32_t k = 0; k < seat->n_members; k++) {
            tdm_exec_range theirs = tdm_exec_shard(t, s, seat->n_members, k);
            if (k == seat->me)
                continue;
            mpi_seat_receive(seat, k, (float *)segment->out + theirs.from, bytes_of(theirs));
            mpi_seat_send(seat, k, own, bytes_of(mine));
        }
    }
    return mpi_seat_finish(seat);
}

/* Rows that go from src to dst. */
static uint64_t rows_between(const tdm_exec_transfer *t, uint32_t n, uint32_t src, uint32_t dst)
{
    return t->back ? t->sent[dst * n + src] : t->sent[src * n + dst];
}

static mpi_wait exchange(mpi_seat *seat, const tdm_exec_transfer *t)
{
    uint32_t n = seat->n_members, me = seat->me;
    const float *in = t->segments[0].in;
    float *out = t->segments[0].out, *own = NULL;
    const float *to_self = NULL;
    for (uint32_t k = 0; k < n; k++) {
        uint64_t come = rows_between(t, n, k, me) * t->row, go = rows_between(t, n, me, k) * t->row;
        if (k == me) {
            own = out;
            to_self = in;
        } else {
            mpi_seat_receive(seat, k, out, come * sizeof *out);
            mpi_seat_send(seat, k, in, go * sizeof *in);
        }
        out += come;
        in += go;
    }
    uint64_t stays = rows_between(t, n, me, me) * t->row;
    if (stays > 0)
        memcpy(own, to_self, stays * sizeof *own);
    return mpi_seat_finish(seat);
}

/* The first member's go to all others. */
static mpi_wait spread(mpi_seat *seat, const tdm_exec_transfer *t)
{
    for (uint32_t s = 0; s < t->n_segments; s++) {
        const tdm_exec_segment *segment = &t->segments[s];
        uint64_t n_bytes = segment->count * sizeof(float);
        for (uint32_t k = 1; seat->me == 0 && k < seat->n_members; k++)
            mpi_seat_send(seat, k, segment->in, n_bytes);
        if (seat->me > 0)
            mpi_seat_receive(seat, 0, segment->out, n_bytes);
    }
    return mpi_seat_finish(seat);
}

mpi_wait mpi_seat_move(mpi_seat *seat, tdm_op_kind kind, const tdm_exec_transfer *t)
{
    switch (kind) {
    case TDM_OP_ALL_REDUCE: {
        mpi_wait wait = reduce(seat, t, false);
        return wait == MPI_WAIT_DONE ? gather(seat, t, false) : wait;
    }
    case TDM_OP_REDUCE_SCATTER:
        return reduce(seat, t, true);
    case TDM_OP_ALL_GATHER:
        return gather(seat, t, true);
    case TDM_OP_ALL_TO_ALL:
        return exchange(seat, t);
    case TDM_OP_BROADCAST: /* to all others, as a send to its receiver, who sits at 1 */
    case TDM_OP_SEND:
    case TDM_OP_RECV:
        return spread(seat, t);
    default:
        return MPI_WAIT_DONE;
    }
}
