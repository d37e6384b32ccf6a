/* sharing.c: progressive filling, event by event.
 *
 * All rates rise together until a link is full or a flow at its own limit; those are fixed, the
 * others rise on. Rates are found anew when a flow starts or ends. Source: Bertsekas and Gallager,
 * Data Networks, section 6.5.2. */
#include "sharing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Events closer than this, relatively, are one. */
static const double SAME_TIME = 1e-13;

typedef struct problem {
    const tdm_shared_flow *flows;
    uint32_t n_links;          /* in use */
    uint32_t *first, *links;   /* [n_flows + 1], local link numbers of every flow */
    double *capacity, *spare;  /* [n_links] */
    uint32_t *crossing;        /* [n_links] rising flows */
    double *remaining, *rate;  /* [n_flows] bytes, bytes/s */
    uint32_t *active, *rising; /* lists of flows */
    uint32_t n_active;
} problem;

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Numbers the links in use 0, 1 ... */
static void number_links(tdm_arena *scratch, problem *p, const double *capacity, uint32_t n_flows)
{
    uint32_t n_uses = 0, *known, at = 0;
    for (uint32_t f = 0; f < n_flows; f++)
        n_uses += p->flows[f].n_links;
    known = TDM_ALLOC(scratch, uint32_t, n_uses + 1);
    for (uint32_t f = 0; f < n_flows; f++)
        for (uint32_t l = 0; l < p->flows[f].n_links; l++)
            known[at++] = p->flows[f].links[l];
    if (n_uses > 0)
        qsort(known, n_uses, sizeof *known, by_number);
    for (uint32_t i = 0; i < n_uses; i++)
        if (p->n_links == 0 || known[p->n_links - 1] != known[i])
            known[p->n_links++] = known[i];
    p->first = TDM_ALLOC(scratch, uint32_t, n_flows + 1);
    p->links = TDM_ALLOC(scratch, uint32_t, n_uses + 1);
    p->capacity = TDM_ALLOC(scratch, double, p->n_links + 1);
    p->spare = TDM_ALLOC(scratch, double, p->n_links + 1);
    p->crossing = TDM_ALLOC(scratch, uint32_t, p->n_links + 1);
    for (uint32_t l = 0; l < p->n_links; l++)
        p->capacity[l] = capacity[known[l]];
    at = 0;
    for (uint32_t f = 0; f < n_flows; f++) {
        for (uint32_t l = 0; l < p->flows[f].n_links; l++) {
            const uint32_t *found =
                bsearch(&p->flows[f].links[l], known, p->n_links, sizeof *known, by_number);
            p->links[at++] = (uint32_t)(found - known);
        }
        p->first[f + 1] = at;
    }
}

static double share_of(const problem *p, uint32_t flow)
{
    double share = p->flows[flow].max_bytes_per_s;
    for (uint32_t i = p->first[flow]; i < p->first[flow + 1]; i++)
        share = fmin(share, p->spare[p->links[i]] / p->crossing[p->links[i]]);
    return share;
}

static void fix(problem *p, uint32_t flow, double rate)
{
    p->rate[flow] = rate;
    for (uint32_t i = p->first[flow]; i < p->first[flow + 1]; i++) {
        uint32_t l = p->links[i];
        p->spare[l] = fmax(0, p->spare[l] - rate);
        p->crossing[l]--;
    }
}

/* Max-min fair rates of the active flows. */
static void fill(problem *p)
{
    uint32_t n_rising = p->n_active;
    memcpy(p->spare, p->capacity, p->n_links * sizeof *p->spare);
    memset(p->crossing, 0, p->n_links * sizeof *p->crossing);
    memcpy(p->rising, p->active, p->n_active * sizeof *p->rising);
    for (uint32_t a = 0; a < p->n_active; a++)
        for (uint32_t i = p->first[p->active[a]]; i < p->first[p->active[a] + 1]; i++)
            p->crossing[p->links[i]]++;
    while (n_rising > 0) {
        double least = INFINITY;
        uint32_t kept = 0;
        for (uint32_t r = 0; r < n_rising; r++)
            least = fmin(least, share_of(p, p->rising[r]));
        double limit = least * (1 + SAME_TIME);
        for (uint32_t r = 0; r < n_rising; r++) {
            uint32_t f = p->rising[r];
            if (share_of(p, f) <= limit || isinf(least))
                fix(p, f, least);
            else
                p->rising[kept++] = f;
        }
        n_rising = kept;
    }
}

/* Ends what has ended, and lets in what starts by now. */
static void update(problem *p, uint32_t n_flows, bool *started, double now, double *end_s)
{
    uint32_t kept = 0;
    for (uint32_t a = 0; a < p->n_active; a++) {
        uint32_t f = p->active[a];
        if (p->remaining[f] > p->flows[f].bytes * SAME_TIME)
            p->active[kept++] = f;
        else
            end_s[f] = now;
    }
    p->n_active = kept;
    for (uint32_t f = 0; f < n_flows; f++) {
        if (started[f] || p->flows[f].start_s > now + fabs(now) * SAME_TIME)
            continue;
        bool moves = p->flows[f].bytes > 0 &&
                     (p->flows[f].n_links > 0 || !isinf(p->flows[f].max_bytes_per_s));
        started[f] = true;
        end_s[f] = p->flows[f].start_s;
        if (moves)
            p->active[p->n_active++] = f;
    }
}

void tdm_share_links(tdm_arena *scratch, const double *capacity, const tdm_shared_flow *flows,
                     uint32_t n_flows, double *end_s)
{
    problem p = {.flows = flows};
    bool *started = TDM_ALLOC(scratch, bool, n_flows + 1);
    number_links(scratch, &p, capacity, n_flows);
    p.remaining = TDM_ALLOC(scratch, double, n_flows + 1);
    p.rate = TDM_ALLOC(scratch, double, n_flows + 1);
    p.active = TDM_ALLOC(scratch, uint32_t, n_flows + 1);
    p.rising = TDM_ALLOC(scratch, uint32_t, n_flows + 1);
    double now = INFINITY;
    for (uint32_t f = 0; f < n_flows; f++) {
        p.remaining[f] = flows[f].bytes;
        now = fmin(now, flows[f].start_s);
    }
    for (;;) {
        update(&p, n_flows, started, now, end_s);
        double next = INFINITY, step = INFINITY;
        for (uint32_t f = 0; f < n_flows; f++)
            next = started[f] ? next : fmin(next, flows[f].start_s);
        if (p.n_active == 0 && isinf(next))
            return;
        fill(&p);
        for (uint32_t a = 0; a < p.n_active; a++)
            step = fmin(step, p.remaining[p.active[a]] / p.rate[p.active[a]]);
        double later = now + step;
        if (next < later) {
            later = next;
            step = next - now;
        }
        for (uint32_t a = 0; a < p.n_active; a++)
            p.remaining[p.active[a]] -= step * p.rate[p.active[a]];
        now = later;
    }
}
