/* shared.c: the transport between ranks that share one GPU. An op is put on the GPU when all
 * members of its communicator have come to it: on the stream of the first member, which waits for
 * the others' streams, and they for it. So the members meet as they do on several GPUs, and every
 * kernel waits for earlier ones only. */
#include "parts.h"

#include "../../core/engine.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct member {
    uint32_t rank;
    bool waits, served; /* has come to its op; that op is on the GPU */
    tdm_exec_op op;
    tdm_exec_transfer transfer;
    cudaEvent_t ready; /* its stream has come here */
} member;

typedef struct meeting {
    uint64_t id;
    uint32_t n, n_waiting;
    member *members; /* [n] in order of ranks */
    cudaEvent_t done;
} meeting;

typedef struct shared {
    tdm_cuda *cuda;
    meeting *meetings; /* [n_meetings] */
    uint32_t n_meetings;
    meeting ***seats;      /* [world][user] */
    tdm_cuda_copy *copies; /* [n_copies] room for a list */
    uint32_t n_copies;
} shared;

static tdm_cuda_type type_of(const tdm_exec_transfer *t)
{
    return t->dtype == TDM_DTYPE_BF16   ? TDM_CUDA_BF16
           : t->dtype == TDM_DTYPE_FP16 ? TDM_CUDA_FP16
                                        : TDM_CUDA_FP32;
}

/* ---- moving data ---- */

typedef struct range {
    uint64_t from, to;
} range;

static range shard_of(uint64_t count, uint32_t n, uint32_t i)
{
    uint64_t run = tdm_ceil_div(count, n), from = i * run, to = from + run;
    return (range){from < count ? from : count, to < count ? to : count};
}

static void add_copy(shared *s, const void *from, void *to, uint64_t bytes)
{
    if (bytes > 0)
        s->copies[s->n_copies++] = (tdm_cuda_copy){from, to, bytes};
}

static cudaError_t reduce(const meeting *m, uint32_t segment, bool scatters, cudaStream_t stream)
{
    const void *in[TDM_CUDA_MAX_MEMBERS];
    void *out[TDM_CUDA_MAX_MEMBERS];
    const tdm_exec_transfer *first = &m->members[0].transfer;
    for (uint32_t k = 0; k < m->n; k++) {
        in[k] = m->members[k].transfer.segments[segment].in;
        out[k] = m->members[k].transfer.segments[segment].out;
    }
    uint64_t count = first->segments[segment].count;
    return scatters ? tdm_cuda_reduce_scatter(stream, type_of(first), in, out, m->n, count)
                    : tdm_cuda_reduce(stream, type_of(first), first->largest, in, m->n, out, m->n,
                                      count);
}

/* Every member's shard goes to all. */
static void gather(shared *s, const meeting *m, uint32_t segment)
{
    uint64_t element = tdm_dtype_bytes(m->members[0].transfer.dtype);
    for (uint32_t k = 0; k < m->n; k++) {
        const tdm_exec_segment *from = &m->members[k].transfer.segments[segment];
        range r = shard_of(from->count, m->n, k);
        for (uint32_t i = 0; i < m->n; i++) {
            char *to = (char *)m->members[i].transfer.segments[segment].out + r.from * element;
            if (from->in != to)
                add_copy(s, from->in, to, (r.to - r.from) * element);
        }
    }
}

/* The first member's goes to all others; a send is to the one that receives. */
static void spread(shared *s, const meeting *m, uint32_t segment, uint32_t from)
{
    const tdm_exec_transfer *t = &m->members[from].transfer;
    uint64_t bytes = t->segments[segment].count * tdm_dtype_bytes(t->dtype);
    for (uint32_t k = 0; k < m->n; k++)
        if (k != from)
            add_copy(s, t->segments[segment].in, m->members[k].transfer.segments[segment].out,
                     bytes);
}

static uint64_t rows_between(const tdm_exec_transfer *t, uint32_t n, uint32_t src, uint32_t dst)
{
    return t->back ? t->sent[dst * n + src] : t->sent[src * n + dst];
}

static void exchange(shared *s, const meeting *m)
{
    const tdm_exec_transfer *t = &m->members[0].transfer;
    uint64_t row = t->row * tdm_dtype_bytes(t->dtype);
    for (uint32_t dst = 0; dst < m->n; dst++) {
        char *out = m->members[dst].transfer.segments[0].out;
        for (uint32_t src = 0; src < m->n; src++) {
            uint64_t skip = 0, rows = rows_between(t, m->n, src, dst);
            for (uint32_t k = 0; k < dst; k++)
                skip += rows_between(t, m->n, src, k);
            const char *in = m->members[src].transfer.segments[0].in;
            add_copy(s, in + skip * row, out, rows * row);
            out += rows * row;
        }
    }
}

static cudaError_t move(shared *s, const meeting *m, cudaStream_t stream)
{
    tdm_op_kind kind = m->members[0].op.instance->op->kind;
    cudaError_t error = cudaSuccess;
    s->n_copies = 0;
    for (uint32_t i = 0; i < m->members[0].transfer.n_segments && error == cudaSuccess; i++) {
        s->n_copies = 0;
        if (kind == TDM_OP_ALL_REDUCE || kind == TDM_OP_REDUCE_SCATTER)
            error = reduce(m, i, kind == TDM_OP_REDUCE_SCATTER, stream);
        else if (kind == TDM_OP_ALL_GATHER)
            gather(s, m, i);
        else if (kind == TDM_OP_ALL_TO_ALL)
            exchange(s, m);
        else
            spread(s, m, i, kind == TDM_OP_RECV);
        if (error == cudaSuccess && s->n_copies > 0)
            error = tdm_cuda_copies(stream, s->copies, s->n_copies);
    }
    return error;
}

/* ---- meeting ---- */

static tdm_code complain(const meeting *m, const member *a, const member *b, const char *what,
                         tdm_error *err)
{
    const tdm_instance *x = a->op.instance, *y = b->op.instance;
    return tdm_error_add(
        err, TDM_E_DEVICE,
        "%s of %s %s: rank %" PRIu32 " is at pass %s, microbatch %" PRIu32 ", and rank %" PRIu32
        ", with it in a communicator of %" PRIu32 ", at %s %s, pass %s, microbatch %" PRIu32,
        what, tdm_op_kind_name(x->op->kind), x->op->name, a->rank, tdm_pass_kind_name(x->pass.kind),
        x->pass.microbatch, b->rank, m->n, tdm_op_kind_name(y->op->kind), y->op->name,
        tdm_pass_kind_name(y->pass.kind), y->pass.microbatch);
}

/* What NCCL requires of the members of a call: the same kind, type and counts. */
static tdm_code check(const meeting *m, tdm_error *err)
{
    const member *first = &m->members[0];
    const tdm_op *op = first->op.instance->op;
    for (uint32_t k = 1; k < m->n; k++) {
        const member *other = &m->members[k];
        const tdm_exec_transfer *a = &first->transfer, *b = &other->transfer;
        tdm_op_kind wanted = op->kind == TDM_OP_SEND   ? TDM_OP_RECV
                             : op->kind == TDM_OP_RECV ? TDM_OP_SEND
                                                       : op->kind;
        if (other->op.instance->op->kind != wanted ||
            other->op.instance->pass.microbatch != first->op.instance->pass.microbatch)
            return complain(m, first, other, "the members do not agree on the kind", err);
        if (a->dtype != b->dtype || a->n_segments != b->n_segments || a->largest != b->largest ||
            a->row != b->row || a->back != b->back)
            return complain(m, first, other, "the members do not agree on the numbers", err);
        for (uint32_t i = 0; i < a->n_segments && op->kind != TDM_OP_ALL_TO_ALL; i++)
            if (a->segments[i].count != b->segments[i].count)
                return complain(m, first, other, "the members do not agree on the count", err);
    }
    return TDM_OK;
}

/* All have come: onto the first one's stream, which the others meet before and behind. */
static tdm_code serve(shared *s, meeting *m, tdm_error *err)
{
    cudaStream_t stream = m->members[0].op.stream;
    const cuda_rank *rank = &s->cuda->ranks[m->members[0].rank];
    tdm_code code = check(m, err);
    if (code != TDM_OK)
        return code;
    cudaError_t error = cudaSuccess;
    for (uint32_t k = 1; k < m->n && error == cudaSuccess; k++)
        error = cudaStreamWaitEvent(stream, m->members[k].ready, cudaEventWaitDefault);
    cuda_range_push(m->members[0].op.instance->op->name);
    if (error == cudaSuccess)
        error = move(s, m, stream);
    cuda_range_pop();
    if (error == cudaSuccess)
        error = cudaEventRecord(m->done, stream);
    for (uint32_t k = 1; k < m->n && error == cudaSuccess; k++)
        error = cudaStreamWaitEvent(m->members[k].op.stream, m->done, cudaEventWaitDefault);
    for (uint32_t k = 0; k < m->n; k++) {
        m->members[k].waits = false;
        m->members[k].served = true;
    }
    m->n_waiting = 0;
    return cuda_rank_ok(rank, m->members[0].op.instance->op->name, error, err);
}

static member *find_member(const meeting *m, uint32_t rank)
{
    uint32_t i = 0;
    while (m->members[i].rank != rank)
        i++;
    return &m->members[i];
}

static tdm_code issue(void *self, const tdm_exec_op *op, uint32_t user,
                      const tdm_exec_transfer *transfer, bool *issued, tdm_error *err)
{
    shared *s = self;
    meeting *m = s->seats[op->rank][user];
    *issued = true;
    if (m->n < 2) /* nobody on the other side */
        return TDM_OK;
    member *me = find_member(m, op->rank);
    tdm_code code = TDM_OK;
    if (!me->waits && !me->served) {
        me->waits = true;
        me->op = *op;
        me->transfer = *transfer;
        if (transfer->segments == &transfer->one)
            me->transfer.segments = &me->transfer.one;
        code = cuda_rank_ok(&s->cuda->ranks[op->rank], op->instance->op->name,
                            cudaEventRecord(me->ready, op->stream), err);
        if (code == TDM_OK && ++m->n_waiting == m->n)
            code = serve(s, m, err);
    }
    *issued = me->served;
    me->served = false;
    return code;
}

static void stop(void *self)
{
    (void)self; /* one thread issues, and nobody waits in here */
}

/* ---- setting up ---- */

static meeting *find_meeting(tdm_arena *arena, shared *s, tdm_comm_id id)
{
    uint32_t i = 0;
    while (i < s->n_meetings && s->meetings[i].id != id.id)
        i++;
    meeting *m = &s->meetings[i];
    if (i == s->n_meetings) {
        s->n_meetings++;
        *m = (meeting){.id = id.id, .members = TDM_ALLOC(arena, member, id.n_members)};
    }
    return m;
}

static tdm_code take_seat(tdm_arena *arena, shared *s, uint32_t rank, uint32_t user, tdm_error *err)
{
    const tdm_plan *plan = s->cuda->plan;
    tdm_comm_id id = tdm_comm_identify(plan, rank, &s->cuda->ranks[rank].program->users[user]);
    meeting *m = find_meeting(arena, s, id);
    s->seats[rank][user] = m;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->members[i].rank == rank)
            return TDM_OK;
    if (id.n_members > TDM_CUDA_MAX_MEMBERS)
        return tdm_error_add(err, TDM_E_INFEASIBLE,
                             "%" PRIu32 " ranks in one communicator: on one GPU there are at most "
                             "%d (--transport shared)",
                             id.n_members, TDM_CUDA_MAX_MEMBERS);
    member *me = &m->members[m->n++];
    me->rank = rank;
    cudaError_t error = cudaEventCreateWithFlags(&me->ready, cudaEventDisableTiming);
    if (error == cudaSuccess && m->n == 1)
        error = cudaEventCreateWithFlags(&m->done, cudaEventDisableTiming);
    return cuda_rank_ok(&s->cuda->ranks[rank], "making events", error, err);
}

tdm_code tdm_shared_open(tdm_arena *arena, tdm_cuda *cuda, tdm_exec_transport *transport,
                         tdm_error *err)
{
    const tdm_plan *plan = cuda->plan;
    shared *s = TDM_ALLOC(arena, shared, 1);
    uint32_t most = 0, largest = 1;
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; r < plan->mesh.world; r++)
        most += cuda->ranks[r].program->n_users;
    *s = (shared){.cuda = cuda,
                  .meetings = TDM_ALLOC(arena, meeting, most),
                  .seats = TDM_ALLOC(arena, meeting **, plan->mesh.world)};
    *transport = (tdm_exec_transport){
        .name = "shared", .self = s, .issue = issue, .together = true, .stop = stop};
    for (uint32_t r = 0; r < plan->mesh.world && code == TDM_OK; r++) {
        uint32_t n = cuda->ranks[r].program->n_users;
        s->seats[r] = TDM_ALLOC(arena, meeting *, n);
        for (uint32_t u = 0; u < n && code == TDM_OK; u++)
            code = take_seat(arena, s, r, u, err);
    }
    for (uint32_t i = 0; i < s->n_meetings; i++)
        largest = s->meetings[i].n > largest ? s->meetings[i].n : largest;
    s->copies = TDM_ALLOC(arena, tdm_cuda_copy, (size_t)largest * largest);
    return code;
}

void tdm_shared_close(tdm_exec_transport *transport)
{
    const shared *s = transport->self;
    for (uint32_t i = 0; i < s->n_meetings; i++) {
        for (uint32_t k = 0; k < s->meetings[i].n; k++)
            if (s->meetings[i].members[k].ready)
                cudaEventDestroy(s->meetings[i].members[k].ready);
        if (s->meetings[i].done)
            cudaEventDestroy(s->meetings[i].done);
    }
}
