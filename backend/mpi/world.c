/* world.c: the processes that MPI started together, see world.h. */
#include "parts.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *tdm_mpi_missing(void)
{
    char problem[256];
    if (mpi_api_open(problem, sizeof problem))
        return NULL;
    return "the mpi transport was built with Open MPI, but its shared library does not open here; "
           "install it (apt-get install libopenmpi3 openmpi-bin), or use --transport threads";
}

double mpi_now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

tdm_code mpi_failure(const tdm_world *world, const char *what, int code, tdm_error *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    world->mpi->Error_string(code, text, &n);
    return tdm_error_add(err, TDM_E_DEVICE, "process %u on %s: %s: %s", world->shape.process,
                         world->shape.host, what, text);
}

/* ---- waiting ---- */

/* Time of asking without pauses; a pause takes at most that share of the time waited already, so
 * that pauses make nothing much longer; and no longer than that. */
static const double BUSY_S = 50e-6, EAGER_S = 5e-3, PAUSE_SHARE = 0.125, LONGEST_PAUSE_S = 1e-3;

static void rest(double waited_s, bool eager)
{
    if (waited_s < (eager ? EAGER_S : BUSY_S)) {
        sched_yield();
        return;
    }
    double pause_s = PAUSE_SHARE * waited_s;
    pause_s = pause_s < LONGEST_PAUSE_S ? pause_s : LONGEST_PAUSE_S;
    nanosleep(&(struct timespec){.tv_nsec = (long)(1e9 * pause_s)}, NULL);
}

mpi_wait mpi_finish(const tdm_world *world, int n, MPI_Request *requests,
                    const atomic_bool *stopped, bool eager)
{
    double start_s = mpi_now_s();
    for (;;) {
        int done = 0;
        if (world->mpi->Testall(n, requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
            return MPI_WAIT_FAILED;
        if (done)
            return MPI_WAIT_DONE;
        if (stopped && atomic_load(stopped))
            return MPI_WAIT_STOPPED;
        double waited_s = mpi_now_s() - start_s;
        if (waited_s > world->deadline_s)
            return MPI_WAIT_LATE;
        rest(waited_s, eager);
    }
}

/* Waits for an operation of all processes that was begun with `code`. */
static tdm_code await_all(const tdm_world *world, int code, MPI_Request *request, const char *what,
                          tdm_error *err)
{
    if (code != MPI_SUCCESS)
        return mpi_failure(world, what, code, err);
    mpi_wait wait = mpi_finish(world, 1, request, NULL, false);
    if (wait == MPI_WAIT_DONE)
        return TDM_OK;
    if (wait == MPI_WAIT_FAILED)
        return tdm_error_add(err, TDM_E_DEVICE, "process %u on %s: %s failed", world->shape.process,
                             world->shape.host, what);
    return tdm_error_add(err, TDM_E_DEVICE,
                         "process %u on %s: %s: waited %g s for the other processes",
                         world->shape.process, world->shape.host, what, world->deadline_s);
}

/* ---- joining and leaving ---- */

static tdm_code find_hosts(tdm_world *world, tdm_error *err)
{
    const mpi_api *mpi = world->mpi;
    MPI_Comm on_host;
    int n_on_host = 0, first = (int)world->shape.process, length = 0;
    int code =
        mpi->Comm_split_type(world->control, MPI_COMM_TYPE_SHARED, first, mpi->info_null, &on_host);
    if (code != MPI_SUCCESS)
        return mpi_failure(world, "MPI_Comm_split_type", code, err);
    mpi->Comm_size(on_host, &n_on_host);
    MPI_Request request = mpi->request_null;
    code = mpi->Ibcast(&first, sizeof first, mpi->type_byte, 0, on_host, &request);
    tdm_code done = await_all(world, code, &request, "finding the hosts", err);
    if (done == TDM_OK) {
        code = mpi->Iallgather(&first, sizeof first, mpi->type_byte, world->first_on_host,
                               sizeof first, mpi->type_byte, world->control, &request);
        done = await_all(world, code, &request, "finding the hosts", err);
    }
    mpi->Comm_free(&on_host);
    mpi->Get_processor_name(world->host, &length);
    world->shape.host = world->host;
    world->shape.n_on_host = (uint32_t)n_on_host;
    for (uint32_t p = 0; p < world->shape.n_processes; p++)
        world->shape.n_hosts += world->first_on_host[p] == (int)p;
    return done;
}

/* MPI's own threads are to leave this program's signals alone. */
static bool begin(const mpi_api *mpi, int *provided)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    int code = mpi->Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, provided);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code == MPI_SUCCESS;
}

static tdm_code enter(tdm_world *world, tdm_error *err)
{
    const mpi_api *mpi = world->mpi;
    int provided = 0, process = 0, n_processes = 0, length = 0;
    if (!begin(mpi, &provided))
        return tdm_error_add(err, TDM_E_DEVICE, "MPI_Init_thread failed");
    if (provided < MPI_THREAD_MULTIPLE)
        return tdm_error_add(err, TDM_E_DEVICE,
                             "this MPI library lets one thread call it only, and streams are "
                             "threads (MPI_THREAD_MULTIPLE is wanted)");
    mpi->Comm_set_errhandler(mpi->comm_world, mpi->errors_return);
    mpi->Comm_dup(mpi->comm_world, &world->control);
    mpi->Comm_dup(mpi->comm_world, &world->data);
    mpi->Comm_rank(world->control, &process);
    mpi->Comm_size(world->control, &n_processes);
    mpi->Get_library_version(world->library, &length);
    world->library[strcspn(world->library, ",")] = '\0';
    world->shape = (tdm_world_shape){.process = (uint32_t)process,
                                     .n_processes = (uint32_t)n_processes,
                                     .host = world->host,
                                     .library = world->library};
    world->first_on_host = calloc((size_t)n_processes, sizeof *world->first_on_host);
    if (!world->first_on_host)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    return find_hosts(world, err);
}

tdm_code tdm_world_open(double deadline_s, tdm_world **world, tdm_error *err)
{
    char problem[256];
    const mpi_api *mpi = mpi_api_open(problem, sizeof problem);
    if (!mpi)
        return tdm_error_add(err, TDM_E_INVALID, "%s", tdm_mpi_missing());
    tdm_world *made = calloc(1, sizeof *made);
    if (!made)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    made->mpi = mpi;
    made->deadline_s = deadline_s;
    tdm_code code = enter(made, err);
    if (code == TDM_OK)
        *world = made;
    else
        tdm_world_close(made);
    return code;
}

void tdm_world_close(tdm_world *world)
{
    if (!world)
        return;
    world->mpi->Finalize();
    free(world->first_on_host);
    free(world);
}

void tdm_world_abort(tdm_world *world, int exit_code)
{
    if (world)
        world->mpi->Abort(world->mpi->comm_world, exit_code);
}

const tdm_world_shape *tdm_world_shape_of(const tdm_world *world)
{
    return &world->shape;
}

/* ---- what all do ---- */

/* FNV-1a. */
static uint64_t hash_of(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; text && *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

typedef struct ballot {
    uint64_t hash;
    int code;
} ballot;

bool tdm_world_agree(tdm_world *world, tdm_code own, const char *what, tdm_world_verdict *verdict)
{
    uint32_t n = world->shape.n_processes;
    ballot mine;
    memset(&mine, 0, sizeof mine);
    mine.hash = hash_of(what);
    mine.code = (int)own;
    ballot *all = world->agreed ? NULL : calloc(n, sizeof *all);
    if (!all)
        return false;
    world->agreed = true;
    MPI_Request request = world->mpi->request_null;
    int code = world->mpi->Iallgather(&mine, sizeof mine, world->mpi->type_byte, all, sizeof mine,
                                      world->mpi->type_byte, world->control, &request);
    if (await_all(world, code, &request, "agreeing", NULL) != TDM_OK)
        return false; /* the answers may still come: `all` stays */
    *verdict = (tdm_world_verdict){.first_failed = n, .alike = true};
    for (uint32_t p = 0; p < n; p++) {
        bool failed = all[p].code != TDM_OK;
        verdict->first_failed = failed && p < verdict->first_failed ? p : verdict->first_failed;
        verdict->n_failed += failed;
        verdict->alike = verdict->alike && failed && all[p].hash == all[0].hash;
        verdict->code = all[p].code > (int)verdict->code ? (tdm_code)all[p].code : verdict->code;
    }
    free(all);
    return true;
}

tdm_code tdm_world_largest(tdm_world *world, double *values, uint32_t n, tdm_error *err)
{
    double *out = malloc(n * sizeof *out + 1);
    if (!out)
        return tdm_error_add(err, TDM_E_INTERNAL, "out of memory");
    MPI_Request request = world->mpi->request_null;
    int code = world->mpi->Iallreduce(values, out, (int)n, world->mpi->type_double,
                                      world->mpi->op_max, world->control, &request);
    tdm_code done = await_all(world, code, &request, "comparing results", err);
    if (done != TDM_OK)
        return done; /* `out` may still be written */
    memcpy(values, out, n * sizeof *out);
    free(out);
    return TDM_OK;
}

tdm_code tdm_world_share(tdm_world *world, uint32_t from, void *data, uint64_t n_bytes,
                         tdm_error *err)
{
    enum { PIECE_BYTES = 1 << 30 };
    char *next = data;
    while (n_bytes > 0) {
        int piece = n_bytes < PIECE_BYTES ? (int)n_bytes : PIECE_BYTES;
        MPI_Request request = world->mpi->request_null;
        int code = world->mpi->Ibcast(next, piece, world->mpi->type_byte, (int)from, world->control,
                                      &request);
        tdm_code done = await_all(world, code, &request, "sharing results", err);
        if (done != TDM_OK)
            return done;
        next += piece;
        n_bytes -= (uint64_t)piece;
    }
    return TDM_OK;
}

/* ---- messages ---- */

enum { MESSAGE_TAG = 1 };

tdm_code tdm_world_send(tdm_world *world, uint32_t to, const void *data, uint64_t n_bytes,
                        tdm_error *err)
{
    if (n_bytes > INT_MAX)
        return tdm_error_add(err, TDM_E_INTERNAL, "a message of %llu bytes is too long",
                             (unsigned long long)n_bytes);
    MPI_Request request = world->mpi->request_null;
    int code = world->mpi->Isend(data, (int)n_bytes, world->mpi->type_byte, (int)to, MESSAGE_TAG,
                                 world->control, &request);
    return await_all(world, code, &request, "sending a message", err);
}

tdm_code tdm_world_take(tdm_arena *arena, tdm_world *world, uint32_t *from, char **data,
                        uint64_t *n_bytes, tdm_error *err)
{
    const mpi_api *mpi = world->mpi;
    MPI_Status status;
    int found = 0, n = 0, source = *from == UINT32_MAX ? MPI_ANY_SOURCE : (int)*from;
    *n_bytes = 0;
    int code = mpi->Iprobe(source, MESSAGE_TAG, world->control, &found, &status);
    if (code != MPI_SUCCESS)
        return mpi_failure(world, "MPI_Iprobe", code, err);
    if (!found)
        return TDM_OK;
    mpi->Get_count(&status, mpi->type_byte, &n);
    *from = (uint32_t)status.MPI_SOURCE;
    *data = tdm_arena_alloc(arena, (size_t)n + 1);
    *n_bytes = (uint64_t)n;
    MPI_Request request = mpi->request_null;
    code = mpi->Irecv(*data, n, mpi->type_byte, status.MPI_SOURCE, MESSAGE_TAG, world->control,
                      &request);
    return await_all(world, code, &request, "taking a message", err);
}
