/* measured_match.c: which communication kernels of different ranks are one call. Operations of one
 * communicator run in the same order on all its members, so it is the k-th of each. */
#include "measured_parts.h"

#include <math.h>
#include <stdlib.h>

typedef struct entry {
    uint32_t key;     /* communicator, or the call's number in own traces */
    uint32_t ordinal; /* of the rank on the communicator */
    uint32_t rank, comm;
    double start_s;
    uint32_t group_size;
    bool p2p;
} entry;

static int by_call(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->ordinal != y->ordinal)
        return x->ordinal < y->ordinal ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static int by_key_rank_start(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->start_s != y->start_s)
        return x->start_s < y->start_s ? -1 : 1;
    return x->comm < y->comm ? -1 : x->comm > y->comm;
}

/* Until it is matched, a collective's transfer begins with the kernel, and a transfer's with its
 * end. Returns the number of entries that can be matched. */
static size_t collect(const tdm_kineto *kineto, tdm_measured_rank *ranks, uint32_t n_ranks,
                      entry *entries, tdm_measured *measured)
{
    size_t n = 0;
    for (uint32_t r = 0; r < n_ranks; r++) {
        for (uint32_t c = 0; c < ranks[r].program.n_comms; c++) {
            uint32_t op = ranks[r].program.comm_op[c];
            const tdm_kineto_event *event = ranks[r].events[op];
            bool p2p = tdm_op_is_p2p(event->kind);
            uint32_t key = kineto->engine ? event->call : event->comm;
            ranks[r].arrived_s[c] = p2p ? ranks[r].spans[op].end_s : ranks[r].spans[op].start_s;
            bool known =
                key != TDM_KINETO_NONE && (p2p ? event->group_size == 2 : event->group_size > 0);
            if (known)
                entries[n++] =
                    (entry){key, 0, r, c, ranks[r].spans[op].start_s, event->group_size, p2p};
            else
                ++*(p2p ? &measured->n_transfers_unmatched : &measured->n_unmatched);
        }
    }
    return n;
}

static void count_ordinals(entry *entries, size_t n)
{
    qsort(entries, n, sizeof *entries, by_key_rank_start);
    for (size_t i = 1; i < n; i++)
        if (entries[i].key == entries[i - 1].key && entries[i].rank == entries[i - 1].rank)
            entries[i].ordinal = entries[i - 1].ordinal + 1;
    qsort(entries, n, sizeof *entries, by_call);
}

void tdm_measured_match(tdm_arena *scratch, const tdm_kineto *kineto, tdm_measured_rank *ranks,
                        uint32_t n_ranks, tdm_measured *measured)
{
    size_t most = 0;
    for (uint32_t r = 0; r < n_ranks; r++)
        most += ranks[r].program.n_comms;
    entry *entries = TDM_ALLOC(scratch, entry, most);
    size_t n = collect(kineto, ranks, n_ranks, entries, measured);
    count_ordinals(entries, n);
    for (size_t i = 0; i < n;) {
        double last_s = -INFINITY;
        size_t j = i;
        for (;
             j < n && entries[j].key == entries[i].key && entries[j].ordinal == entries[i].ordinal;
             j++)
            last_s = fmax(last_s, entries[j].start_s);
        bool complete = j - i == entries[i].group_size;
        for (; i < j; i++) {
            tdm_measured_rank *rank = &ranks[entries[i].rank];
            double end_s = rank->spans[rank->program.comm_op[entries[i].comm]].end_s;
            if (complete)
                rank->arrived_s[entries[i].comm] = fmin(last_s, end_s);
            else
                ++*(entries[i].p2p ? &measured->n_transfers_unmatched : &measured->n_unmatched);
        }
    }
}
