/* verify_run.c: runs the communication of all ranks against each other as hardware would: an op
 * starts when its stream has come to it, its waits are done and its communicator has ended all that
 * was issued before; it ends when it has started on all members. What then cannot go on is a
 * deadlock, whatever the times are. Source: NCCL user guide, sections "Using multiple NCCL
 * communicators concurrently" and "Group calls": operations of one communicator run in issue order,
 * and a send ends only with its receive. */
#include "verify_comm.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Progress of one rank: counts of communication ops that ended. */
typedef struct progress {
    uint32_t on_stream[TDM_N_STREAMS];
    uint32_t on_channel[TDM_MAX_CHANNELS];
    uint32_t started; /* streams whose next op has started, as bits */
    bool queued;
} progress;

typedef struct machine {
    const tdm_verify_comms *comms;
    progress *ranks;     /* [world] */
    uint32_t *n_started; /* [n_communicators] members that started its next op */
    uint32_t *queue;     /* ranks with news, a ring of `world` */
    uint32_t queue_from, n_queued;
} machine;

static void enqueue(machine *m, uint32_t rank)
{
    uint32_t world = m->comms->plan->mesh.world;
    if (m->ranks[rank].queued)
        return;
    m->ranks[rank].queued = true;
    m->queue[(m->queue_from + m->n_queued++) % world] = rank;
}

static uint32_t dequeue(machine *m)
{
    uint32_t rank = m->queue[m->queue_from];
    m->queue_from = (m->queue_from + 1) % m->comms->plan->mesh.world;
    m->n_queued--;
    m->ranks[rank].queued = false;
    return rank;
}

/* ---- one rank ---- */

/* The op its stream has come to; NULL at the stream's end. */
static const tdm_verify_comm_op *head(const tdm_verify_comm_role *role, const progress *p,
                                      uint32_t stream)
{
    uint32_t at = p->on_stream[stream];
    return at < role->n_on_stream[stream] ? &role->ops[role->streams[stream][at]] : NULL;
}

/* A stream with an op that must end before `op` starts; TDM_N_STREAMS: none. */
static uint32_t unmet_wait(const progress *p, const tdm_verify_comm_op *op)
{
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (op->need[s] > p->on_stream[s])
            return s;
    return TDM_N_STREAMS;
}

static bool may_start(const progress *p, const tdm_verify_comm_op *op)
{
    return p->on_channel[op->channel] == op->turn && unmet_wait(p, op) == TDM_N_STREAMS;
}

static void complete(machine *m, const tdm_verify_communicator *c)
{
    for (uint32_t i = 0; i < c->n_members; i++) {
        uint32_t rank = c->members[i].rank, channel = c->members[i].channel;
        const tdm_verify_comm_role *role = tdm_verify_role(m->comms, rank);
        progress *p = &m->ranks[rank];
        uint32_t op = role->channels[channel].ops[p->on_channel[channel]++];
        tdm_stream stream = role->ops[op].instance.op->stream;
        p->on_stream[stream]++;
        p->started &= ~(1u << stream);
        enqueue(m, rank);
    }
}

/* Starts what can start on the rank, and ends what has then started on all members. */
static void advance(machine *m, uint32_t rank)
{
    const tdm_verify_comm_role *role = tdm_verify_role(m->comms, rank);
    progress *p = &m->ranks[rank];
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
        const tdm_verify_comm_op *op = head(role, p, s);
        if (!op || (p->started >> s & 1) || !may_start(p, op))
            continue;
        p->started |= 1u << s;
        uint32_t id = tdm_verify_communicator_of(m->comms, rank, op->channel);
        const tdm_verify_communicator *c = &m->comms->communicators[id];
        if (++m->n_started[id] < c->size)
            continue;
        m->n_started[id] = 0;
        complete(m, c);
    }
}

/* ---- the deadlock ---- */

typedef struct node {
    uint32_t rank;
    const tdm_verify_comm_op *op;
} node;

typedef enum reason { BEHIND, WAITS, IN_TURN, FOR_PEER } reason;

/* What an op that cannot end waits for. */
static node blocker(const machine *m, node n, reason *why)
{
    assert(n.op);
    const tdm_verify_comm_role *role = tdm_verify_role(m->comms, n.rank);
    const progress *p = &m->ranks[n.rank];
    uint32_t stream = n.op->instance.op->stream, unmet = unmet_wait(p, n.op);
    if (p->on_stream[stream] < n.op->on_stream) {
        *why = BEHIND;
        return (node){n.rank, head(role, p, stream)};
    }
    if (unmet < TDM_N_STREAMS) {
        *why = WAITS;
        return (node){n.rank, &role->ops[role->streams[unmet][n.op->need[unmet] - 1]]};
    }
    const tdm_verify_channel *channel = &role->channels[n.op->channel];
    if (p->on_channel[n.op->channel] < n.op->turn) {
        *why = IN_TURN;
        return (node){n.rank, &role->ops[channel->ops[p->on_channel[n.op->channel]]]};
    }
    *why = FOR_PEER;
    uint32_t id = tdm_verify_communicator_of(m->comms, n.rank, n.op->channel);
    const tdm_verify_communicator *c = &m->comms->communicators[id];
    for (uint32_t i = 0; i < c->n_members; i++) {
        uint32_t rank = c->members[i].rank;
        const tdm_verify_comm_role *other = tdm_verify_role(m->comms, rank);
        const tdm_verify_channel *their = &other->channels[c->members[i].channel];
        const tdm_verify_comm_op *op =
            &other->ops[their->ops[m->ranks[rank].on_channel[c->members[i].channel]]];
        if (!(m->ranks[rank].started >> op->instance.op->stream & 1) ||
            head(other, &m->ranks[rank], op->instance.op->stream) != op)
            return (node){rank, op};
    }
    return n; /* cannot be: then it would have ended */
}

static bool same_node(node a, node b)
{
    return a.rank == b.rank && a.op == b.op;
}

/* Follows the waiting to where it goes in a circle. Source: Floyd's tortoise and hare (Knuth, The
 * Art of Computer Programming vol. 2, section 3.1, exercise 6). */
static node on_circle(const machine *m, node start)
{
    reason why;
    node slow = blocker(m, start, &why), fast = blocker(m, slow, &why);
    while (!same_node(slow, fast)) {
        slow = blocker(m, slow, &why);
        fast = blocker(m, fast, &why);
        fast = blocker(m, fast, &why);
    }
    return slow;
}

static tdm_verify_text node_text(node n)
{
    assert(n.op);
    tdm_verify_text t;
    snprintf(t.s, sizeof t.s, "rank %u: %.130s on stream %s", n.rank,
             tdm_verify_op_text(&n.op->instance).s, tdm_stream_name(n.op->instance.op->stream));
    return t;
}

static tdm_code report_circle(const machine *m, node start, uint64_t n_left, tdm_error *err)
{
    static const char *const reasons[] = {
        [BEHIND] = "stands on its stream behind",
        [WAITS] = "waits for",
        [IN_TURN] = "comes later on their communicator than",
        [FOR_PEER] = "is ready and needs its counterpart on",
    };
    enum { MAX_LINES = 16, LINE = 2 * sizeof(tdm_verify_text) + 64 };
    char lines[MAX_LINES * LINE] = "";
    node first = on_circle(m, start), n = first;
    bool closed = false;
    for (size_t used = 0, line = 0; line < MAX_LINES && !closed; line++) {
        reason why;
        node next = blocker(m, n, &why);
        used += (size_t)snprintf(lines + used, LINE, "\n    %s %s %s", node_text(n).s, reasons[why],
                                 node_text(next).s);
        closed = same_node(next, first);
        n = next;
    }
    return tdm_error_add(err, TDM_E_INVALID, "deadlock: %llu communication ops can never end:%s%s",
                         (unsigned long long)n_left, lines,
                         closed ? "" : "\n    ... and so on in a circle");
}

static tdm_code report_rest(const machine *m, tdm_error *err)
{
    uint64_t n_left = 0;
    node start = {0, NULL};
    for (uint32_t rank = m->comms->plan->mesh.world; rank-- > 0;) {
        const tdm_verify_comm_role *role = tdm_verify_role(m->comms, rank);
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            n_left += role->n_on_stream[s] - m->ranks[rank].on_stream[s];
            if (head(role, &m->ranks[rank], s))
                start = (node){rank, head(role, &m->ranks[rank], s)};
        }
    }
    return n_left == 0 ? TDM_OK : report_circle(m, start, n_left, err);
}

tdm_code tdm_verify_comms_run(const tdm_verify_comms *comms, tdm_error *err)
{
    tdm_arena scratch = {0};
    uint32_t world = comms->plan->mesh.world;
    machine m = {.comms = comms,
                 .ranks = TDM_ALLOC(&scratch, progress, world),
                 .n_started = TDM_ALLOC(&scratch, uint32_t, comms->n_communicators),
                 .queue = TDM_ALLOC(&scratch, uint32_t, world)};
    for (uint32_t rank = 0; rank < world; rank++)
        enqueue(&m, rank);
    while (m.n_queued > 0)
        advance(&m, dequeue(&m));
    tdm_code code = report_rest(&m, err);
    tdm_arena_free(&scratch);
    return code;
}
