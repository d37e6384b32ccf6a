/* conductor_explain.c: why the ranks cannot finish: who is in which operation, and whom it waits
 * for. */
#include "conductor_parts.h"

#include <stdarg.h>
#include <stdio.h>

/* A deadlock among thousands of ranks repeats itself. */
enum { N_RANKS_SHOWN = 8, N_PEERS_SHOWN = 4 };

typedef struct writer {
    char *text;
    size_t room, length;
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->length, w->room - w->length, format, args);
    va_end(args);
    if (n > 0)
        w->length += (size_t)n < w->room - w->length ? (size_t)n : w->room - w->length - 1;
}

static void put_op(writer *w, const tdm_comm *comm)
{
    const tdm_instance *instance = comm->instance;
    const tdm_op *op = instance->op;
    put(w, "%s \"%s\" on stream %s (op %u, pass %s, chunk %u, microbatch %u)",
        tdm_op_kind_name(op->kind), op->name, tdm_stream_name(op->stream), instance->index,
        tdm_pass_kind_name(instance->pass.kind), instance->pass.chunk, instance->pass.microbatch);
}

static bool has_arrived(const tdm_communicator *k, uint32_t rank)
{
    for (uint32_t i = 0; i < k->n_arrived; i++)
        if (k->arrived[i]->comm.rank == rank)
            return true;
    return false;
}

/* The partners of an op that have not come. */
static void put_missing(writer *w, const tdm_plan *plan, const tdm_pending *p)
{
    const tdm_op *op = p->comm.instance->op;
    const tdm_communicator *k = p->communicator;
    if (tdm_op_is_p2p(op->kind)) {
        put(w, "rank %u", tdm_plan_peer(plan, p->comm.rank, p->comm.instance));
        return;
    }
    tdm_group group = tdm_mesh_group(&plan->mesh, op->u.collective.group, p->comm.rank);
    uint32_t n_missing = 0;
    for (uint32_t i = 0; i < group.size; i++) {
        uint32_t rank = tdm_group_member(&group, i);
        if (!has_arrived(k, rank) && n_missing++ < N_PEERS_SHOWN)
            put(w, "%s%u", n_missing == 1 ? "rank " : ", ", rank);
    }
    if (n_missing > N_PEERS_SHOWN)
        put(w, " and %u more", n_missing - N_PEERS_SHOWN);
}

static void put_pending(writer *w, const tdm_plan *plan, const tdm_pending *p)
{
    const tdm_communicator *k = p->communicator;
    put(w, "deadlock: rank %u: ", p->comm.rank);
    put_op(w, &p->comm);
    if (k->n_arrived < k->n_members) {
        put(w, " waits for ");
        put_missing(w, plan, p);
        put(w, "\n");
    } else {
        const tdm_pending *other = k->arrived[0] == p ? k->arrived[1] : k->arrived[0];
        put(w, " meets rank %u in ", other->comm.rank);
        put_op(w, &other->comm);
        put(w, ", which does not match\n");
    }
}

static void put_rank(writer *w, const tdm_conductor *c, uint32_t rank)
{
    const tdm_conducted *conducted = &c->ranks[rank];
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (conducted->queues[s].first)
            put_pending(w, c->plan, conducted->queues[s].first);
    if (conducted->n_pending == 0)
        put(w, "deadlock: rank %u waits for op %llu of stream %s, which is never issued\n", rank,
            (unsigned long long)conducted->blocked_sequence,
            tdm_stream_name(conducted->blocked_on));
}

void tdm_conductor_explain(const tdm_conductor *c, char *text, size_t n_bytes)
{
    writer w = {.text = text, .room = n_bytes};
    text[0] = '\0';
    uint32_t n_stuck = 0;
    for (uint32_t rank = 0; rank < c->n_ranks; rank++) {
        bool is_done = c->ranks[rank].ended && c->ranks[rank].n_pending == 0;
        if (!is_done && n_stuck++ < N_RANKS_SHOWN)
            put_rank(&w, c, rank);
    }
    if (n_stuck > N_RANKS_SHOWN)
        put(&w, "deadlock: %u more ranks wait in the same way\n", n_stuck - N_RANKS_SHOWN);
}
