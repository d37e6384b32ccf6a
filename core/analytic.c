/* analytic.c: list scheduling over the plan: every communication op takes the time it has on idle
 * links. A work list of ranks; each rank's walker goes on until it blocks; a communication op ends
 * when all members' turns have come. */
#include "cores.h"
#include "fold.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Communication ops handed out and not ended, of one stream of one rank: a ring that grows. */
typedef struct fifo {
    tdm_comm *items;
    uint32_t capacity, head, count;
    bool joined; /* the head waits in its communicator */
} fifo;

/* A member that waits in a communicator. */
typedef struct arrival {
    uint32_t rank;
    tdm_stream stream;
    double start_s;
} arrival;

/* What a communication op takes on idle links. */
typedef struct comm_time {
    double latency_s, transfer_s;
} comm_time;

/* Time of an op of one communicator that does not depend on routing. */
typedef struct known_time {
    const tdm_op *op;
    comm_time time;
} known_time;

/* Times kept by communicator, those of an op always at the same place. */
enum { N_KNOWN = 32, N_WAYS = 2 };

/* Time of a call by the counts of the routing table: backward repeats forward's. */
typedef struct routed_time {
    bool known;
    uint64_t token_bytes;
    comm_time time;
} routed_time;

typedef struct communicator {
    uint64_t id;
    uint32_t n_members, n_arrived;
    uint64_t n_calls;
    arrival *arrivals; /* [n_members] */
    double latest_s;
    known_time known[N_KNOWN];
    routed_time *routed; /* [layer][microbatch][way], made on first use */
} communicator;

typedef struct engine {
    tdm_arena *arena, *scratch;
    const tdm_plan *plan;
    const tdm_machine *machine;
    tdm_walker **walkers; /* [world] */
    fifo (*fifos)[TDM_N_STREAMS];
    communicator ***seats; /* [world][n_users of the role's program], found on first use */
    uint32_t *work;        /* ranks to advance: a stack without duplicates */
    uint32_t n_work;
    bool *in_work;
    communicator **table; /* open addressing by id */
    uint32_t table_size, n_communicators;
    tdm_net *net;
} engine;

static uint32_t table_slot(communicator *const *table, uint32_t size, uint64_t id)
{
    uint32_t slot = (uint32_t)((id * 0x9E3779B97F4A7C15u) >> 40) & (size - 1);
    while (table[slot] && table[slot]->id != id)
        slot = (slot + 1) & (size - 1);
    return slot;
}

static void grow_table(engine *e)
{
    uint32_t size = e->table_size ? e->table_size * 2 : 256;
    communicator **table = TDM_ALLOC(e->arena, communicator *, size);
    for (uint32_t i = 0; i < e->table_size; i++)
        if (e->table[i])
            table[table_slot(table, size, e->table[i]->id)] = e->table[i];
    e->table = table;
    e->table_size = size;
}

static communicator *find_communicator(engine *e, tdm_comm_id id)
{
    if (2 * e->n_communicators >= e->table_size)
        grow_table(e);
    uint32_t slot = table_slot(e->table, e->table_size, id.id);
    if (!e->table[slot]) {
        communicator *c = TDM_ALLOC(e->arena, communicator, 1);
        c->id = id.id;
        c->n_members = id.n_members;
        c->arrivals = TDM_ALLOC(e->arena, arrival, id.n_members);
        e->table[slot] = c;
        e->n_communicators++;
    }
    return e->table[slot];
}

static communicator *communicator_of(engine *e, const tdm_comm *comm)
{
    communicator **seat = &e->seats[comm->rank][comm->user];
    if (!*seat)
        *seat = find_communicator(e, tdm_comm_identify(e->plan, comm->rank, comm->instance));
    return *seat;
}

static void push(engine *e, fifo *f, const tdm_comm *comm)
{
    if (f->count == f->capacity) {
        uint32_t capacity = f->capacity ? f->capacity * 2 : 4;
        tdm_comm *items = TDM_ALLOC(e->arena, tdm_comm, capacity);
        for (uint32_t i = 0; i < f->count; i++)
            items[i] = f->items[(f->head + i) % f->capacity];
        f->items = items;
        f->capacity = capacity;
        f->head = 0;
    }
    f->items[(f->head + f->count++) % f->capacity] = *comm;
}

static void add_work(engine *e, uint32_t rank)
{
    if (!e->in_work[rank]) {
        e->in_work[rank] = true;
        e->work[e->n_work++] = rank;
    }
}

static comm_time find_time(engine *e, const tdm_comm *comm)
{
    tdm_transfer transfer = tdm_comm_transfer(e->plan, e->net, comm->rank, comm->instance);
    comm_time time = {.latency_s = transfer.latency_s};
    if (transfer.n_loads > 0)
        time.transfer_s = tdm_net_time(e->scratch, e->net, transfer.loads, transfer.n_loads);
    tdm_arena_free(e->scratch); /* large sets only: small ones need none */
    return time;
}

/* To the experts, or back. */
static uint32_t way_of(const tdm_op *op)
{
    return op->kind == TDM_OP_ALL_TO_ALL ? op->u.collective.a2a : op->kind == TDM_OP_REDUCE_SCATTER;
}

static comm_time routed_time_of(engine *e, communicator *c, const tdm_comm *comm)
{
    const tdm_routing_table *t = &e->plan->routing;
    const tdm_instance *in = comm->instance;
    tdm_group_kind group = in->op->kind == TDM_OP_ALL_TO_ALL ? TDM_GROUP_EP : TDM_GROUP_ETP;
    if (in->op->u.collective.group != group || t->n_layers == 0)
        return find_time(e, comm);
    if (!c->routed)
        c->routed =
            TDM_ALLOC(e->arena, routed_time, (size_t)t->n_layers * t->n_microbatches * N_WAYS);
    size_t row = (size_t)in->layer * t->n_microbatches + in->pass.microbatch;
    routed_time *known = &c->routed[row * N_WAYS + way_of(in->op)];
    if (!known->known || known->token_bytes != in->op->u.collective.token_bytes)
        *known = (routed_time){true, in->op->u.collective.token_bytes, find_time(e, comm)};
    return known->time;
}

static comm_time time_of(engine *e, communicator *c, const tdm_comm *comm)
{
    const tdm_op *op = comm->instance->op;
    if (tdm_op_is_routed(op))
        return routed_time_of(e, c, comm);
    known_time *known = &c->known[(uintptr_t)op / sizeof *op % N_KNOWN];
    if (known->op != op)
        *known = (known_time){op, find_time(e, comm)};
    return known->time;
}

static void finish(engine *e, communicator *c, const tdm_comm *comm)
{
    comm_time time = time_of(e, c, comm);
    double latency_s =
        time.latency_s * tdm_perturbed_latency(e->machine->perturbed, c->id, c->n_calls++);
    double end_s = c->latest_s + (latency_s + time.transfer_s);
    uint32_t n = c->n_arrived;
    c->n_arrived = 0;
    for (uint32_t i = 0; i < n; i++) {
        const arrival *a = &c->arrivals[i];
        fifo *f = &e->fifos[a->rank][a->stream];
        tdm_walker_done(e->walkers[a->rank], &f->items[f->head], a->start_s, end_s);
        f->head = (f->head + 1) % f->capacity;
        f->count--;
        f->joined = false;
        add_work(e, a->rank);
    }
}

/* Lets the head of a stream join its communicator when its turn has come; ends the op when it is
 * the last member. */
static void join_head(engine *e, uint32_t rank, tdm_stream stream)
{
    fifo *f = &e->fifos[rank][stream];
    if (f->count == 0 || f->joined)
        return;
    f->joined = true;
    tdm_comm comm = f->items[f->head];
    double tail_s;
    tdm_walker_n_done(e->walkers[rank], stream, &tail_s);
    double start_s = fmax(comm.ready_s, tail_s);
    communicator *c = communicator_of(e, &comm);
    assert(c->n_arrived < c->n_members);
    c->latest_s = c->n_arrived == 0 ? start_s : fmax(c->latest_s, start_s);
    c->arrivals[c->n_arrived++] = (arrival){rank, stream, start_s};
    if (c->n_arrived == c->n_members)
        finish(e, c, &comm);
}

static void advance(engine *e, uint32_t rank)
{
    for (int s = 0; s < TDM_N_STREAMS; s++)
        join_head(e, rank, (tdm_stream)s);
    for (;;) {
        tdm_comm comm;
        tdm_stream stream;
        uint64_t sequence;
        tdm_walk walk = tdm_walker_next(e->walkers[rank], &comm, &stream, &sequence);
        if (walk == TDM_WALK_COMM) {
            push(e, &e->fifos[rank][comm.instance->op->stream], &comm);
            join_head(e, rank, comm.instance->op->stream);
            continue;
        }
        double tail_s;
        if (walk == TDM_WALK_BLOCKED &&
            tdm_walker_n_done(e->walkers[rank], stream, &tail_s) >= sequence)
            continue;
        break;
    }
}

/* Names the first rank whose program did not end, and what it stands at. */
static tdm_code report_stuck(const engine *e, tdm_error *err)
{
    for (uint32_t rank = 0; rank < e->plan->mesh.world; rank++)
        for (int s = 0; s < TDM_N_STREAMS; s++) {
            const fifo *f = &e->fifos[rank][s];
            if (f->count == 0)
                continue;
            const tdm_comm *comm = &f->items[f->head];
            return tdm_error_add(
                err, TDM_E_INTERNAL,
                "deadlock: rank %u waits in %s '%s' on stream %s, pass %s of microbatch %u, for members "
                "that never come",
                rank, tdm_op_kind_name(comm->instance->op->kind), comm->instance->op->name,
                tdm_stream_name((tdm_stream)s), tdm_pass_kind_name(comm->instance->pass.kind),
                comm->instance->pass.microbatch);
        }
    return TDM_OK;
}

/* Room for the state of every rank; all ranks are to be advanced. */
static void init(engine *e, const tdm_costs *costs, tdm_trace *trace)
{
    uint32_t world = e->plan->mesh.world;
    e->walkers = TDM_ALLOC(e->arena, tdm_walker *, world);
    e->fifos = tdm_arena_alloc(e->arena, world * sizeof *e->fifos);
    e->seats = TDM_ALLOC(e->arena, communicator **, world);
    e->in_work = TDM_ALLOC(e->arena, bool, world);
    e->work = TDM_ALLOC(e->arena, uint32_t, world);
    e->net = tdm_net_new(e->arena, e->machine->topology);
    for (uint32_t rank = 0; rank < world; rank++) {
        e->seats[rank] =
            TDM_ALLOC(e->arena, communicator *, costs->programs[e->plan->role_of[rank]].n_users);
        e->walkers[rank] = tdm_walker_new(e->arena, e->plan, costs, rank, &trace->ranks[rank]);
        add_work(e, world - 1 - rank);
    }
}

tdm_code tdm_analytic_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                          tdm_trace *trace, tdm_error *err)
{
    if (machine->topology->cores)
        return tdm_cores_run(arena, plan, machine, "analytic", trace, err);
    tdm_arena scratch = {0};
    tdm_topology topology;
    tdm_code code = tdm_topology_fold(&scratch, machine->topology, &plan->mesh, &topology, err);
    if (code != TDM_OK) {
        tdm_arena_free(&scratch);
        return code;
    }
    tdm_machine used = *machine;
    used.topology = &topology;
    engine e = {.arena = &scratch, .plan = plan, .machine = &used};
    tdm_arena flow_scratch = {0};
    e.scratch = &flow_scratch;
    const tdm_costs *costs = tdm_costs_new(&scratch, plan, machine);
    tdm_trace out;
    tdm_trace_init(arena, plan, "analytic", costs->launch_s, &out);
    init(&e, costs, &out);
    while (e.n_work > 0) {
        uint32_t rank = e.work[--e.n_work];
        e.in_work[rank] = false;
        advance(&e, rank);
    }
    code = tdm_net_check(e.net, err);
    if (code == TDM_OK)
        code = report_stuck(&e, err);
    tdm_arena_free(&flow_scratch);
    tdm_arena_free(&scratch);
    if (code == TDM_OK)
        *trace = out;
    return code;
}
