/* transport.c: the mpi transport, see transport.h.
 *
 * Every stream's thread sends and receives itself, and asks MPI how far its own messages are; none
 * waits inside MPI. A thread of its own that asks for all was slower in one process (214 against
 * 162 ms a step, of sixteen ranks on two cores) and no better in 4 and 16. Members meet first, as
 * they do on hardware: nothing moves before the last has come. Messages are sent to ranks of the
 * same process, too. */
#include "seat.h"

#include "../../core/engine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct transport {
    const tdm_plan *plan;
    tdm_world *world;
    mpi_seat **seats; /* [world][n_users] of this process's ranks; NULL: another's */
    const tdm_program *programs;
    uint32_t per_process;
    atomic_bool stopped;
    mpi_clocks clocks;
} transport;

/* ---- an op ---- */

/* The same on all members, and another for the op before and the op behind. */
static uint64_t mark_of(const tdm_exec_op *op)
{
    const tdm_instance *in = op->instance;
    uint64_t kind = tdm_op_is_p2p(in->op->kind) ? 0 : (uint64_t)in->op->kind + 1;
    return ((uint64_t)op->step << 40) ^ ((uint64_t)in->pass.microbatch << 16) ^ kind;
}

/* "1, 5, 9", the first ones. */
static const char *list_ranks(char *text, size_t n_bytes, const mpi_seat *seat, const bool *wanted)
{
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t k = 0; k < seat->n_members && n + 16 < n_bytes; k++)
        if (!wanted || wanted[k])
            n += (size_t)snprintf(text + n, n_bytes - n, "%s%" PRIu32, n > 0 ? ", " : "",
                                  seat->ranks[k]);
    if (n + 16 >= n_bytes)
        snprintf(text + n, n_bytes - n, ", ...");
    return text;
}

/* Where an op stands: "rank 3: all-reduce grads.dense over dp (ranks 1, 3), step 2". */
static const char *name_op(char *text, size_t n_bytes, const tdm_exec_op *op, const mpi_seat *seat)
{
    const tdm_instance *in = op->instance;
    char ranks[160];
    snprintf(text, n_bytes,
             "rank %" PRIu32 ": %s %s over %s (ranks %s), step %" PRIu32 ", pass %s, microbatch "
             "%" PRIu32,
             op->rank, tdm_op_kind_name(in->op->kind), in->op->name,
             tdm_op_is_p2p(in->op->kind) ? "pp" : tdm_group_kind_name(in->op->u.collective.group),
             list_ranks(ranks, sizeof ranks, seat, NULL), op->step + 1,
             tdm_pass_kind_name(in->pass.kind), in->pass.microbatch);
    return text;
}

/* Says why the wait did not end well; nothing when it was stopped. */
static void complain(const transport *t, const tdm_exec_op *op, const mpi_seat *seat, mpi_wait wait,
                     tdm_error *err)
{
    char where[400], ranks[160];
    name_op(where, sizeof where, op, seat);
    if (wait == MPI_WAIT_LATE) {
        bool *late = calloc(seat->n_members, sizeof *late);
        for (uint32_t i = 0; late && i < seat->n_requests; i++)
            if (seat->requests[i] != t->world->mpi->request_null)
                late[seat->request_peers[i]] = true;
        tdm_error_add(err, TDM_E_DEVICE, "%s: waited %g s for rank %s (--timeout)", where,
                      t->world->deadline_s, list_ranks(ranks, sizeof ranks, seat, late));
        free(late);
    } else if (wait == MPI_WAIT_FAILED && seat->without_memory) {
        tdm_error_add(err, TDM_E_INTERNAL, "%s: no memory for its messages", where);
    } else if (wait == MPI_WAIT_FAILED) {
        mpi_failure(t->world, where, seat->failed_code, err);
    }
}

static bool carry(void *self, const tdm_exec_op *op, uint32_t user,
                  const tdm_exec_transfer *transfer, double *latest_s, tdm_error *err)
{
    transport *t = self;
    mpi_seat *seat = &t->seats[op->rank][user];
    if (seat->n_members < 2) { /* nobody on the other side */
        *latest_s = op->ready_s;
        return true;
    }
    bool matches = true;
    mpi_wait wait = mpi_seat_meet(seat, op->ready_s, mark_of(op), latest_s, &matches);
    if (wait == MPI_WAIT_DONE && matches && transfer)
        wait = mpi_seat_move(seat, op->instance->op->kind, transfer);
    if (wait == MPI_WAIT_DONE && matches)
        return true;
    char where[400];
    if (!matches)
        tdm_error_add(err, TDM_E_DEVICE, "%s: another member carries out another op",
                      name_op(where, sizeof where, op, seat));
    else
        complain(t, op, seat, wait, err);
    return false;
}

static void stop(void *self)
{
    transport *t = self;
    atomic_store(&t->stopped, true);
}

static tdm_code begin_step(void *self, struct timespec *origin, tdm_error *err)
{
    transport *t = self;
    double origin_s = 0;
    tdm_code code = mpi_clocks_align(t->world, &t->clocks, &origin_s, err);
    if (code == TDM_OK) {
        origin->tv_sec = (time_t)origin_s;
        origin->tv_nsec = (long)(1e9 * (origin_s - (double)origin->tv_sec));
    }
    return code;
}

double tdm_mpi_uncertainty_s(const tdm_exec_transport *transport_of)
{
    const transport *t = transport_of->self;
    return t->clocks.worst_uncertainty_s;
}

/* ---- setting up ---- */

/* A communicator of the plan: number `i` of all in order of the lowest rank that uses it, the same
 * on all processes. */
typedef struct members {
    uint64_t id;
    uint32_t n;
    uint32_t *ranks; /* [n] */
} members;

static uint32_t place_of(const tdm_plan *plan, uint32_t rank, const tdm_op *op)
{
    if (tdm_op_is_p2p(op->kind))
        return op->kind == TDM_OP_RECV;
    tdm_group group = tdm_mesh_group(&plan->mesh, op->u.collective.group, rank);
    return tdm_group_index(&group, rank);
}

static uint32_t find_members(tdm_arena *arena, members *all, uint32_t *n_all, tdm_comm_id id)
{
    uint32_t i = 0;
    while (i < *n_all && all[i].id != id.id)
        i++;
    if (i == *n_all) {
        all[i] = (members){id.id, id.n_members, TDM_ALLOC(arena, uint32_t, id.n_members)};
        ++*n_all;
    }
    return i;
}

/* The tag of what `src` sends to `dst` within communicator `comm`: two ranks of the same two
 * processes must not take each other's. */
static int64_t tag_of(const transport *t, uint32_t comm, uint32_t src, uint32_t dst)
{
    int64_t n = t->per_process;
    return (comm * n + src % n) * n + dst % n;
}

static tdm_code take_seat(tdm_arena *arena, transport *t, uint32_t rank, uint32_t user,
                          uint32_t comm, const members *of, tdm_error *err)
{
    mpi_seat *seat = &t->seats[rank][user];
    const tdm_instance *in = &t->programs[t->plan->role_of[rank]].users[user];
    uint32_t n = of->n;
    int *processes = TDM_ALLOC(arena, int, n), *to = TDM_ALLOC(arena, int, n),
        *from = TDM_ALLOC(arena, int, n), *most = NULL, found = 0;
    const mpi_api *mpi = t->world->mpi;
    mpi->Comm_get_attr(t->world->data, MPI_TAG_UB, &most, &found);
    int64_t limit = found && most ? *most : 32767; /* what MPI-4.0, section 9.1.2, guarantees */
    for (uint32_t k = 0; k < n; k++) {
        int64_t tag_to = tag_of(t, comm, rank, of->ranks[k]),
                tag_from = tag_of(t, comm, of->ranks[k], rank);
        if (tag_to > limit || tag_from > limit)
            return tdm_error_add(err, TDM_E_INFEASIBLE,
                                 "%" PRIu32 " ranks in one process and this many communicators "
                                 "need more tags than this MPI has (%" PRId64 "): start more "
                                 "processes",
                                 t->per_process, limit);
        processes[k] = (int)(of->ranks[k] / t->per_process);
        to[k] = (int)tag_to;
        from[k] = (int)tag_from;
    }
    *seat = (mpi_seat){.world = t->world,
                       .stopped = &t->stopped,
                       .n_members = n,
                       .me = n > 1 ? place_of(t->plan, rank, in->op) : 0,
                       .ranks = of->ranks,
                       .processes = processes,
                       .tags_to = to,
                       .tags_from = from};
    return TDM_OK;
}

static tdm_code take_seats(tdm_arena *arena, transport *t, tdm_error *err)
{
    const tdm_plan *plan = t->plan;
    uint32_t most = 0, n_all = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        most += t->programs[plan->role_of[rank]].n_users;
    members *all = TDM_ALLOC(arena, members, most);
    uint32_t **comms = TDM_ALLOC(arena, uint32_t *, plan->mesh.world);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_program *p = &t->programs[plan->role_of[rank]];
        comms[rank] = TDM_ALLOC(arena, uint32_t, p->n_users);
        for (uint32_t u = 0; u < p->n_users; u++) {
            uint32_t i =
                find_members(arena, all, &n_all, tdm_comm_identify(plan, rank, &p->users[u]));
            comms[rank][u] = i;
            all[i].ranks[all[i].n > 1 ? place_of(plan, rank, p->users[u].op) : 0] = rank;
        }
    }
    t->seats = TDM_ALLOC(arena, mpi_seat *, plan->mesh.world);
    uint32_t first = t->world->shape.process * t->per_process;
    tdm_code code = TDM_OK;
    for (uint32_t rank = first; rank < first + t->per_process; rank++) {
        const tdm_program *p = &t->programs[plan->role_of[rank]];
        t->seats[rank] = TDM_ALLOC(arena, mpi_seat, p->n_users);
        for (uint32_t u = 0; u < p->n_users && code == TDM_OK; u++)
            code = take_seat(arena, t, rank, u, comms[rank][u], &all[comms[rank][u]], err);
    }
    return code;
}

/* Hash of what all processes must have in common. */
static uint64_t hash_of(const tdm_plan *plan, const tdm_program *programs)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_program *p = &programs[plan->role_of[rank]];
        for (uint32_t i = 0; i < p->n_ops; i++) {
            const tdm_instance *in = &p->ops[i];
            uint64_t word = ((uint64_t)in->op->kind << 48) ^ ((uint64_t)in->pass.microbatch << 24) ^
                            in->layer ^ ((uint64_t)p->stream[i] << 40);
            hash = (hash ^ word) * UINT64_C(0x100000001b3);
        }
    }
    return hash ^ plan->routing_spec.seed;
}

static tdm_code compare_plans(const transport *t, tdm_error *err)
{
    uint64_t hash = hash_of(t->plan, t->programs);
    /* Halves fit into a double; the largest and the negative of the smallest must be the same. */
    double high = (double)(hash >> 32), low = (double)(hash & UINT32_MAX);
    double values[4] = {high, -high, low, -low};
    tdm_code code = tdm_world_largest(t->world, values, 4, err);
    if (code == TDM_OK && (values[0] != -values[1] || values[2] != -values[3]))
        return tdm_error_add(err, TDM_E_INVALID,
                             "the processes have different plans: the scenario or a file that it "
                             "names is not the same on all hosts");
    return code;
}

tdm_code tdm_mpi_transport_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                                tdm_world *world, tdm_exec_transport *out, tdm_error *err)
{
    transport *t = TDM_ALLOC(arena, transport, 1);
    *t = (transport){.plan = plan,
                     .world = world,
                     .programs = programs,
                     .per_process = plan->mesh.world / world->shape.n_processes};
    atomic_init(&t->stopped, false);
    tdm_code code = compare_plans(t, err);
    if (code == TDM_OK)
        code = take_seats(arena, t, err);
    *out = (tdm_exec_transport){
        .name = "mpi", .self = t, .carry = carry, .stop = stop, .begin_step = begin_step};
    return code;
}

void tdm_mpi_transport_close(tdm_exec_transport *transport_of)
{
    const transport *t = transport_of->self;
    for (uint32_t rank = 0; t && t->seats && rank < t->plan->mesh.world; rank++)
        for (uint32_t u = 0; t->seats[rank] && u < t->programs[t->plan->role_of[rank]].n_users; u++)
            mpi_seat_close(&t->seats[rank][u]);
}
