/* threads.c: the transport between ranks that are threads of this process. The members of a
 * communicator meet, each sees what the others brought, each does its share of the work, and they
 * meet again before anybody leaves. Sums go in order of the members, whoever comes when: the same
 * run gives the same bits. */
#include "executor.h"

#include "../core/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

typedef struct meeting {
    uint64_t id;
    uint32_t n_members, n_arrived;
    uint64_t n_met; /* times that all have come together */
    double latest_s, result_s;
    const tdm_exec_transfer **brought; /* [n_members] */
    const float **in;                  /* [n_members][n_members] what each adds up, and where to */
    float **out;
    pthread_mutex_t mutex;
    pthread_cond_t all_here;
} meeting;

typedef struct threads {
    meeting *meetings; /* [n_meetings] */
    uint32_t n_meetings;
    meeting ***seats; /* [world][user] */
    const tdm_plan *plan;
    atomic_bool stopped;
} threads;

/* Waits for all members; the last lets the others go. Returns when the last was ready. */
static bool meet(threads *t, meeting *m, double ready_s, double *latest_s)
{
    pthread_mutex_lock(&m->mutex);
    uint64_t number = m->n_met;
    m->latest_s = m->n_arrived == 0 || ready_s > m->latest_s ? ready_s : m->latest_s;
    if (++m->n_arrived == m->n_members) {
        m->n_arrived = 0;
        m->n_met++;
        m->result_s = *latest_s = m->latest_s;
        pthread_mutex_unlock(&m->mutex);
        pthread_cond_broadcast(&m->all_here); /* those who wake up find the mutex free */
        return true;
    }
    while (m->n_met == number && !atomic_load(&t->stopped))
        pthread_cond_wait(&m->all_here, &m->mutex);
    bool met = m->n_met != number;
    *latest_s = m->result_s;
    pthread_mutex_unlock(&m->mutex);
    return met;
}

/* ---- moving data ---- */

void tdm_exec_reduce(const float *const *in, uint32_t n, uint64_t count, bool largest,
                     float *const *out, uint32_t n_out)
{
    enum { BLOCK = 1024 }; /* stays in the nearest cache */
    float sum[BLOCK];
    for (uint64_t from = 0; from < count; from += BLOCK) {
        size_t length = count - from < BLOCK ? (size_t)(count - from) : BLOCK;
        memcpy(sum, in[0] + from, length * sizeof *sum);
        for (uint32_t k = 1; k < n; k++) {
            const float *other = in[k] + from;
            if (largest)
                for (size_t i = 0; i < length; i++)
                    sum[i] = other[i] > sum[i] ? other[i] : sum[i];
            else
                for (size_t i = 0; i < length; i++)
                    sum[i] += other[i];
        }
        for (uint32_t k = 0; k < n_out; k++)
            memcpy(out[k] + from, sum, length * sizeof *sum);
    }
}

/* One shard over all members, for one of them or for all. */
static void reduce_shard(const meeting *m, uint32_t me, uint32_t segment, tdm_exec_range r,
                         bool largest, float *own, bool to_all)
{
    const float **in = m->in + (size_t)me * m->n_members;
    float **out = m->out + (size_t)me * m->n_members;
    for (uint32_t k = 0; k < m->n_members; k++) {
        in[k] = (const float *)m->brought[k]->segments[segment].in + r.from;
        out[k] = (float *)m->brought[k]->segments[segment].out + (to_all ? r.from : 0);
    }
    tdm_exec_reduce(in, m->n_members, r.to - r.from, largest, to_all ? out : &own,
                    to_all ? m->n_members : 1);
}

static void gather(const meeting *m, uint32_t segment, uint32_t me)
{
    const tdm_exec_segment *mine = &m->brought[me]->segments[segment];
    float *out = mine->out;
    for (uint32_t k = 0; k < m->n_members; k++) {
        tdm_exec_range r = tdm_exec_shard(m->brought[me], segment, m->n_members, k);
        const float *from = m->brought[k]->segments[segment].in;
        if (from != out + r.from && r.to > r.from)
            memcpy(out + r.from, from, (r.to - r.from) * sizeof *from);
    }
}

/* Rows that go from src to dst. */
static uint64_t rows_between(const tdm_exec_transfer *t, uint32_t n, uint32_t src, uint32_t dst)
{
    return t->back ? t->sent[dst * n + src] : t->sent[src * n + dst];
}

static void exchange(const meeting *m, uint32_t me)
{
    const tdm_exec_transfer *mine = m->brought[me];
    uint32_t n = m->n_members;
    float *out = mine->segments[0].out;
    for (uint32_t src = 0; src < n; src++) {
        const float *in = m->brought[src]->segments[0].in;
        uint64_t skip = 0, rows = rows_between(mine, n, src, me);
        for (uint32_t dst = 0; dst < me; dst++)
            skip += rows_between(mine, n, src, dst);
        if (rows > 0)
            memcpy(out, in + skip * mine->row, rows * mine->row * sizeof *out);
        out += rows * mine->row;
    }
}

static void move(const meeting *m, tdm_op_kind kind, uint32_t me)
{
    const tdm_exec_transfer *mine = m->brought[me];
    for (uint32_t s = 0; s < mine->n_segments; s++) {
        const tdm_exec_segment *segment = &mine->segments[s];
        tdm_exec_range r = tdm_exec_shard(mine, s, m->n_members, me);
        switch (kind) {
        case TDM_OP_ALL_REDUCE:
            reduce_shard(m, me, s, r, mine->largest, NULL, true);
            break;
        case TDM_OP_REDUCE_SCATTER:
            reduce_shard(m, me, s, r, mine->largest, segment->out, false);
            break;
        case TDM_OP_ALL_GATHER:
            gather(m, s, me);
            break;
        case TDM_OP_ALL_TO_ALL:
            exchange(m, me);
            break;
        case TDM_OP_BROADCAST:
            if (me > 0)
                memcpy(segment->out, m->brought[0]->segments[s].in, segment->count * sizeof(float));
            break;
        case TDM_OP_RECV: /* the sender sits at 0 */
            memcpy(segment->out, m->brought[0]->segments[s].in, segment->count * sizeof(float));
            break;
        default:
            break;
        }
    }
}

static uint32_t place_of(const tdm_plan *plan, const tdm_exec_op *op, const meeting *m)
{
    const tdm_op *what = op->instance->op;
    if (tdm_op_is_p2p(what->kind) || m->n_members < 2)
        return what->kind == TDM_OP_RECV;
    tdm_group group = tdm_mesh_group(&plan->mesh, what->u.collective.group, op->rank);
    return tdm_group_index(&group, op->rank);
}

static bool carry(void *self, const tdm_exec_op *op, uint32_t user,
                  const tdm_exec_transfer *transfer, double *latest_s, tdm_error *err)
{
    (void)err;
    threads *t = self;
    meeting *m = t->seats[op->rank][user];
    uint32_t me = place_of(t->plan, op, m);
    if (m->n_members < 2) { /* nobody on the other side */
        *latest_s = op->ready_s;
        return true;
    }
    if (transfer)
        m->brought[me] = transfer;
    if (!meet(t, m, op->ready_s, latest_s))
        return false;
    if (!transfer)
        return true;
    move(m, op->instance->op->kind, me);
    double ignored_s;
    return meet(t, m, 0, &ignored_s);
}

static void stop(void *self)
{
    threads *t = self;
    atomic_store(&t->stopped, true);
    for (uint32_t i = 0; i < t->n_meetings; i++) {
        pthread_mutex_lock(&t->meetings[i].mutex);
        pthread_cond_broadcast(&t->meetings[i].all_here);
        pthread_mutex_unlock(&t->meetings[i].mutex);
    }
}

/* ---- setting up ---- */

static meeting *find_meeting(tdm_arena *arena, threads *t, tdm_comm_id id)
{
    uint32_t i = 0;
    while (i < t->n_meetings && t->meetings[i].id != id.id)
        i++;
    meeting *m = &t->meetings[i];
    if (i == t->n_meetings) {
        t->n_meetings++;
        m->id = id.id;
        m->n_members = id.n_members;
        m->brought = TDM_ALLOC(arena, const tdm_exec_transfer *, id.n_members);
        m->in = TDM_ALLOC(arena, const float *, (size_t)id.n_members *id.n_members);
        m->out = TDM_ALLOC(arena, float *, (size_t)id.n_members *id.n_members);
        pthread_mutex_init(&m->mutex, NULL);
        pthread_cond_init(&m->all_here, NULL);
    }
    return m;
}

tdm_code tdm_threads_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                          tdm_exec_transport *transport, tdm_error *err)
{
    (void)err;
    threads *t = TDM_ALLOC(arena, threads, 1);
    uint32_t most = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        most += programs[plan->role_of[rank]].n_users;
    t->plan = plan;
    t->meetings = TDM_ALLOC(arena, meeting, most);
    t->seats = TDM_ALLOC(arena, meeting **, plan->mesh.world);
    atomic_init(&t->stopped, false);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_program *p = &programs[plan->role_of[rank]];
        t->seats[rank] = TDM_ALLOC(arena, meeting *, p->n_users);
        for (uint32_t u = 0; u < p->n_users; u++)
            t->seats[rank][u] = find_meeting(arena, t, tdm_comm_identify(plan, rank, &p->users[u]));
    }
    *transport = (tdm_exec_transport){.name = "threads", .self = t, .carry = carry, .stop = stop};
    return TDM_OK;
}

void tdm_threads_close(tdm_exec_transport *transport)
{
    threads *t = transport->self;
    for (uint32_t i = 0; i < t->n_meetings; i++) {
        pthread_cond_destroy(&t->meetings[i].all_here);
        pthread_mutex_destroy(&t->meetings[i].mutex);
    }
}
