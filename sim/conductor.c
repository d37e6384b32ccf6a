/* conductor.c: see conductor.h. */
#include "conductor_parts.h"

#include <assert.h>

tdm_conductor *tdm_conductor_new(tdm_arena *arena, const tdm_plan *plan, tdm_net *net,
                                 const tdm_sites *sites, const tdm_costs *costs,
                                 tdm_rank_trace *traces, tdm_network *network)
{
    tdm_conductor *c = TDM_ALLOC(arena, tdm_conductor, 1);
    c->arena = arena;
    c->plan = plan;
    c->net = net;
    c->sites = sites;
    c->perturbed = costs->perturbed;
    c->network = network;
    c->n_ranks = plan->mesh.world;
    c->ranks = TDM_ALLOC(arena, tdm_conducted, c->n_ranks);
    for (uint32_t rank = 0; rank < c->n_ranks; rank++) {
        uint32_t n_users = costs->programs[plan->role_of[rank]].n_users;
        c->ranks[rank].walker = tdm_walker_new(arena, plan, costs, rank, &traces[rank]);
        c->ranks[rank].seats =
            TDM_ALLOC(arena, tdm_communicator *, n_users * (size_t)TDM_N_STREAMS);
    }
    c->flows = TDM_ALLOC(arena, tdm_site_flow, sites->max_flows + 1);
    return c;
}

static tdm_communicator *new_communicator(tdm_conductor *c, tdm_comm_id id)
{
    tdm_communicator *made = TDM_ALLOC(c->arena, tdm_communicator, 1);
    made->id = id.id;
    made->n_members = id.n_members;
    made->arrived = TDM_ALLOC(c->arena, tdm_pending *, id.n_members);
    made->members = TDM_ALLOC(c->arena, tdm_member, id.n_members);
    return made;
}

static tdm_communicator *find_communicator(tdm_conductor *c, tdm_comm_id id)
{
    /* Multiplicative hashing; source: Knuth, The Art of Computer Programming 3, 6.4. */
    tdm_communicator **bucket =
        &c->buckets[(id.id * UINT64_C(0x9E3779B97F4A7C15)) >> TDM_BUCKET_SHIFT];
    for (tdm_communicator *known = *bucket; known; known = known->next)
        if (known->id == id.id)
            return known;
    tdm_communicator *made = new_communicator(c, id);
    made->next = *bucket;
    *bucket = made;
    return made;
}

/* Operations without partners only meet those of their own stream. */
static tdm_communicator *communicator_of(tdm_conductor *c, const tdm_comm *comm)
{
    tdm_stream stream = comm->instance->op->stream;
    tdm_communicator **seat =
        &c->ranks[comm->rank].seats[comm->user * (uint32_t)TDM_N_STREAMS + stream];
    if (!*seat) {
        tdm_comm_id id = tdm_comm_identify(c->plan, comm->rank, comm->instance);
        *seat = id.n_members > 1 ? find_communicator(c, id) : new_communicator(c, id);
    }
    return *seat;
}

/* What the members do must fit together; a send and its receive are told apart by kind. */
static bool is_matched(const tdm_communicator *k)
{
    const tdm_op *first = k->arrived[0]->comm.instance->op;
    for (uint32_t i = 1; i < k->n_members; i++) {
        const tdm_op *op = k->arrived[i]->comm.instance->op;
        bool fits = tdm_op_is_p2p(first->kind) ? tdm_op_is_p2p(op->kind) && op->kind != first->kind
                                               : op->kind == first->kind;
        if (!fits)
            return false;
    }
    return true;
}

static void launch(tdm_conductor *c, tdm_communicator *k)
{
    if (!is_matched(k))
        return; /* the members wait for ever; the explanation finds them */
    const tdm_comm *comm = &k->arrived[0]->comm;
    tdm_transfer transfer = tdm_comm_transfer(c->plan, c->net, comm->rank, comm->instance);
    uint32_t n = 0; /* the network is not asked to move nothing */
    for (uint32_t i = 0; i < transfer.n_loads; i++) {
        const tdm_load *load = &transfer.loads[i];
        if (load->bytes > 0)
            c->flows[n++] = (tdm_site_flow){tdm_sites_find(c->sites, k->id, load->path),
                                            load->bytes, load->max_bytes_per_s};
    }
    double latency_s = transfer.latency_s;
    latency_s *= tdm_perturbed_latency(c->perturbed, k->id, k->n_calls++);
    double begin_s = k->start_s + latency_s;
    /* Nothing is handed out late: what has passed (but for rounding) could not be simulated. */
    assert(begin_s >= tdm_network_now_s() * (1 - 1e-12));
    tdm_network_transfer(c->network, c->flows, n, begin_s, k);
}

/* Lets the first op of a stream arrive at its communicator. */
static void arrive(tdm_conductor *c, tdm_queue *queue)
{
    tdm_pending *p = queue->first;
    if (!p || p->arrived)
        return;
    p->turn_s = p->comm.ready_s > queue->end_s ? p->comm.ready_s : queue->end_s;
    p->arrived = true;
    tdm_communicator *k = p->communicator;
    assert(k->n_arrived <
           k->n_members); /* a rank's ops of a communicator come one after the other */
    if (k->n_arrived == 0 || p->turn_s > k->start_s)
        k->start_s = p->turn_s;
    k->arrived[k->n_arrived++] = p;
    if (k->n_arrived == k->n_members)
        launch(c, k);
}

static void hand_out(tdm_conductor *c, const tdm_comm *comm)
{
    tdm_pending *p = c->unused;
    if (p)
        c->unused = p->next;
    else
        p = TDM_ALLOC(c->arena, tdm_pending, 1);
    *p = (tdm_pending){.comm = *comm, .communicator = communicator_of(c, comm)};
    tdm_conducted *rank = &c->ranks[comm->rank];
    rank->n_pending++;
    tdm_queue *queue = &rank->queues[comm->instance->op->stream];
    if (queue->first)
        queue->last->next = p;
    else
        queue->first = p;
    queue->last = p;
    arrive(c, queue);
}

/* Takes a rank on until it waits for communication. */
static void advance(tdm_conductor *c, tdm_conducted *rank)
{
    for (;;) {
        tdm_comm comm;
        switch (tdm_walker_next(rank->walker, &comm, &rank->blocked_on, &rank->blocked_sequence)) {
        case TDM_WALK_COMM:
            hand_out(c, &comm);
            break;
        case TDM_WALK_BLOCKED:
            return;
        case TDM_WALK_END:
            rank->ended = true;
            return;
        }
    }
}

static void note_finished(tdm_conductor *c, const tdm_conducted *rank)
{
    if (rank->ended && rank->n_pending == 0)
        c->n_finished++;
}

void tdm_conductor_start(tdm_conductor *c)
{
    for (uint32_t rank = 0; rank < c->n_ranks; rank++) {
        advance(c, &c->ranks[rank]);
        note_finished(c, &c->ranks[rank]);
    }
}

/* Takes an ended op off its stream. */
static void retire(tdm_conductor *c, tdm_pending *p, double end_s)
{
    tdm_conducted *rank = &c->ranks[p->comm.rank];
    tdm_queue *queue = &rank->queues[p->comm.instance->op->stream];
    assert(queue->first == p);
    tdm_walker_done(rank->walker, &p->comm, p->turn_s, end_s);
    queue->first = p->next;
    queue->end_s = end_s;
    rank->n_pending--;
    p->next = c->unused;
    c->unused = p;
}

/* Goes on with a rank after its first op of a stream has ended. */
static void resume(tdm_conductor *c, tdm_conducted *rank, tdm_stream stream)
{
    arrive(c, &rank->queues[stream]);
    if (!rank->ended)
        advance(c, rank);
    note_finished(c, rank);
}

void tdm_conductor_ended(tdm_conductor *c, void *transfer, double end_s)
{
    tdm_communicator *k = transfer;
    if (end_s < k->start_s) /* the network's clock is a sum of steps: a rounding behind */
        end_s = k->start_s;
    for (uint32_t i = 0; i < k->n_members; i++) {
        const tdm_comm *comm = &k->arrived[i]->comm;
        k->members[i] = (tdm_member){.rank = comm->rank, .stream = comm->instance->op->stream};
        retire(c, k->arrived[i], end_s);
    }
    /* Only now: a member that goes on may arrive here again. */
    k->n_arrived = 0;
    for (uint32_t i = 0; i < k->n_members; i++)
        resume(c, &c->ranks[k->members[i].rank], k->members[i].stream);
}

bool tdm_conductor_finished(const tdm_conductor *c)
{
    return c->n_finished == c->n_ranks;
}
