/* calls.c: finds which communication ops of different ranks are one call. */
#include "calls.h"

#include <inttypes.h>
#include <math.h>

typedef struct communicator {
    uint64_t id;
    uint32_t first_rank; /* that was seen on it */
    uint32_t n_ops;      /* which that rank issues on it */
    uint32_t base;       /* its k-th call is number base + k */
    bool used;
} communicator;

/* Open addressing; grows before it is half full. */
typedef struct table {
    tdm_arena *arena;
    communicator *slots;
    uint32_t capacity, n;
} table;

static communicator *table_probe(const table *t, uint64_t id)
{
    /* Fibonacci hashing; source: Knuth, The Art of Computer Programming vol. 3, section 6.4. */
    uint64_t i = (id * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    for (i &= t->capacity - 1; t->slots[i].used && t->slots[i].id != id;)
        i = (i + 1) & (t->capacity - 1);
    return &t->slots[i];
}

static void table_grow(table *t)
{
    table bigger = {t->arena, NULL, t->capacity ? t->capacity * 2 : 64, t->n};
    bigger.slots = TDM_ALLOC(t->arena, communicator, bigger.capacity);
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->slots[i].used)
            *table_probe(&bigger, t->slots[i].id) = t->slots[i];
    *t = bigger;
}

/* Finds or enters the communicator; fails when another rank issues a different number of ops on it.
 */
static tdm_code enter(table *t, uint64_t id, uint32_t rank, uint32_t n_ops, uint32_t *n_calls,
                      uint32_t *base, tdm_error *err)
{
    if (2 * (t->n + 1) > t->capacity)
        table_grow(t);
    communicator *c = table_probe(t, id);
    if (!c->used) {
        *c = (communicator){id, rank, n_ops, *n_calls, true};
        t->n++;
        *n_calls += n_ops;
    }
    *base = c->base;
    if (c->n_ops == n_ops)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INTERNAL,
                         "rank %" PRIu32 " issues %" PRIu32
                         " ops on a communicator on which rank %" PRIu32 " issues %" PRIu32,
                         rank, n_ops, c->first_rank, c->n_ops);
}

/* Counters of one rank by user; users of one communicator share the counter of the first of them.
 */
typedef struct user_counter {
    uint64_t id;
    uint32_t shared_with;
    uint32_t n_ops;
    uint32_t next_call;
} user_counter;

static tdm_code start_rank(const tdm_plan *plan, const tdm_program *program, uint32_t rank,
                           table *t, user_counter *counters, uint32_t *n_calls, tdm_error *err)
{
    for (uint32_t u = 0; u < program->n_users; u++) {
        counters[u] = (user_counter){.id = tdm_comm_identify(plan, rank, &program->users[u]).id};
        while (counters[counters[u].shared_with].id != counters[u].id)
            counters[u].shared_with++;
    }
    for (uint32_t i = 0; i < program->n_comms; i++)
        counters[counters[program->comm_user[i]].shared_with].n_ops++;
    for (uint32_t u = 0; u < program->n_users; u++) {
        if (counters[u].shared_with != u)
            continue;
        tdm_code code =
            enter(t, counters[u].id, rank, counters[u].n_ops, n_calls, &counters[u].next_call, err);
        if (code != TDM_OK)
            return code;
    }
    return TDM_OK;
}

/* Upper bound of the number of calls: one per op. */
static uint64_t count_comms(const tdm_plan *plan, const tdm_program *programs)
{
    uint64_t n = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++)
        n += programs[plan->role_of[rank]].n_comms;
    return n;
}

static void match_rank(const tdm_program *program, const tdm_rank_trace *trace,
                       user_counter *counters, uint32_t *call_of, double *arrived_s)
{
    for (uint32_t i = 0; i < program->n_comms; i++) {
        call_of[i] = counters[counters[program->comm_user[i]].shared_with].next_call++;
        arrived_s[call_of[i]] =
            fmax(arrived_s[call_of[i]], trace->spans[program->comm_op[i]].start_s);
    }
}

static uint32_t most_users(const tdm_plan *plan, const tdm_program *programs)
{
    uint32_t most = 0;
    for (uint32_t role = 0; role < plan->n_roles; role++)
        most = programs[role].n_users > most ? programs[role].n_users : most;
    return most;
}

tdm_code tdm_calls_match(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                         const tdm_trace *trace, tdm_calls *calls, tdm_error *err)
{
    uint64_t n_comms = count_comms(plan, programs);
    tdm_calls found = {.of_rank = TDM_ALLOC(arena, const uint32_t *, plan->mesh.world),
                       .arrived_s = TDM_ALLOC(arena, double, n_comms)};
    for (uint64_t i = 0; i < n_comms; i++)
        found.arrived_s[i] = -INFINITY;
    table t = {.arena = arena};
    user_counter *counters = TDM_ALLOC(arena, user_counter, most_users(plan, programs));
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        const tdm_program *program = &programs[plan->role_of[rank]];
        if (trace->ranks[rank].n_ops != program->n_ops)
            return tdm_error_add(err, TDM_E_INTERNAL,
                                 "rank %" PRIu32 ": the trace has %" PRIu32
                                 " ops, the plan %" PRIu32,
                                 rank, trace->ranks[rank].n_ops, program->n_ops);
        tdm_code code = start_rank(plan, program, rank, &t, counters, &found.n_calls, err);
        if (code != TDM_OK)
            return code;
        uint32_t *call_of = TDM_ALLOC(arena, uint32_t, program->n_comms);
        match_rank(program, &trace->ranks[rank], counters, call_of, found.arrived_s);
        found.of_rank[rank] = call_of;
    }
    *calls = found;
    return TDM_OK;
}
