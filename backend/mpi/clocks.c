/* clocks.c: what a process's clock shows when that of process 0 shows something: from messages
 * there and back, of which the fastest is believed. Its answer was written in between the two times
 * at process 0, so the offset is known to half the round trip. Source: Cristian 1989, Probabilistic
 * clock synchronization, section 3. */
#include "parts.h"

#include <math.h>

enum { CLOCK_TAG = 2, N_ROUNDS = 10 };

/* All begin that many round trips after process 0 has said so, and this much at least. */
static const double ROUND_TRIPS_TO_START = 4, LEAST_TO_START_S = 1e-3;

void mpi_clock_estimate(const mpi_sample *samples, uint32_t n, double *offset_s,
                        double *uncertainty_s)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (samples[i].heard_s - samples[i].sent_s < samples[best].heard_s - samples[best].sent_s)
            best = i;
    const mpi_sample *s = &samples[best];
    *offset_s = s->theirs_s - (s->sent_s + s->heard_s) / 2;
    *uncertainty_s = (s->heard_s - s->sent_s) / 2;
}

static tdm_code move(tdm_world *world, bool sends, uint32_t peer, double *values, int n, bool eager,
                     tdm_error *err)
{
    const mpi_api *mpi = world->mpi;
    MPI_Request request = mpi->request_null;
    int code = sends ? mpi->Isend(values, n, mpi->type_double, (int)peer, CLOCK_TAG, world->control,
                                  &request)
                     : mpi->Irecv(values, n, mpi->type_double, (int)peer, CLOCK_TAG, world->control,
                                  &request);
    if (code != MPI_SUCCESS)
        return mpi_failure(world, "comparing clocks", code, err);
    if (mpi_finish(world, 1, &request, NULL, eager) == MPI_WAIT_DONE)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_DEVICE,
                         "process %u on %s: comparing clocks: no answer from process %u within "
                         "%g s (--timeout)",
                         world->shape.process, world->shape.host, peer, world->deadline_s);
}

/* The side of process 0: asks, and tells the peer what came out. */
static tdm_code ask(tdm_world *world, uint32_t peer, mpi_clocks *clocks, tdm_error *err)
{
    mpi_sample samples[N_ROUNDS];
    double result[2] = {0};
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < N_ROUNDS && code == TDM_OK; i++) {
        samples[i].sent_s = mpi_now_s();
        code = move(world, true, peer, &samples[i].sent_s, 1, true, err);
        if (code == TDM_OK)
            code = move(world, false, peer, &samples[i].theirs_s, 1, true, err);
        samples[i].heard_s = mpi_now_s();
    }
    if (code != TDM_OK)
        return code;
    mpi_clock_estimate(samples, N_ROUNDS, &result[0], &result[1]);
    clocks->round_trip_s = fmax(clocks->round_trip_s, 2 * result[1]);
    return move(world, true, peer, result, 2, true, err);
}

static tdm_code answer(tdm_world *world, mpi_clocks *clocks, tdm_error *err)
{
    double asked_s, result[2];
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < N_ROUNDS && code == TDM_OK; i++) {
        code = move(world, false, 0, &asked_s, 1, i > 0, err);
        double here_s = mpi_now_s();
        if (code == TDM_OK)
            code = move(world, true, 0, &here_s, 1, true, err);
    }
    if (code == TDM_OK)
        code = move(world, false, 0, result, 2, true, err);
    if (code != TDM_OK)
        return code;
    clocks->offset_s = result[0];
    clocks->uncertainty_s = result[1];
    /* One host has one monotonic clock, unless a namespace has another: then it shows. */
    if (world->first_on_host[world->shape.process] == 0 && fabs(result[0]) <= result[1])
        clocks->offset_s = clocks->uncertainty_s = 0;
    return TDM_OK;
}

static tdm_code measure(tdm_world *world, mpi_clocks *clocks, tdm_error *err)
{
    clocks->round_trip_s = 0;
    if (world->shape.process > 0)
        return answer(world, clocks, err);
    tdm_code code = TDM_OK;
    for (uint32_t p = 1; p < world->shape.n_processes && code == TDM_OK; p++)
        code = ask(world, p, clocks, err);
    return code;
}

tdm_code mpi_clocks_align(tdm_world *world, mpi_clocks *clocks, double *origin_s, tdm_error *err)
{
    tdm_code code = clocks->known ? TDM_OK : measure(world, clocks, err);
    if (code != TDM_OK)
        return code;
    clocks->worst_uncertainty_s = fmax(clocks->worst_uncertainty_s, clocks->uncertainty_s);
    /* Clocks that drift are measured before every step; one clock only once. */
    double unknown = clocks->uncertainty_s > 0;
    if (!clocks->known)
        code = tdm_world_largest(world, &unknown, 1, err);
    clocks->known = !(unknown > 0);
    double moment_s = 0;
    if (code == TDM_OK) /* nobody is late for a moment that is chosen when all are here */
        code = tdm_world_largest(world, &unknown, 1, err);
    if (code == TDM_OK && world->shape.process == 0)
        moment_s = mpi_now_s() + LEAST_TO_START_S + ROUND_TRIPS_TO_START * clocks->round_trip_s;
    if (code == TDM_OK)
        code = tdm_world_share(world, 0, &moment_s, sizeof moment_s, err);
    *origin_s = moment_s + clocks->offset_s;
    return code;
}
