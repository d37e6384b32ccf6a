/* flows.c: how long a set of flows that start together takes, shared max-min fairly.
 *
 * Progressive filling: all rates rise together until a link is full; the flows on it are fixed, the
 * others rise on. When a flow ends, rates are found anew. Source: Bertsekas and Gallager, Data
 * Networks, section 6.5.2; it is what SimGrid's CM02 model computes for links without latency.
 * Flows that share no link need none of it: each runs at the speed of its narrowest link. A flow's
 * own limit is a link that only it crosses. */
#include "net.h"

#include <math.h>
#include <string.h>

/* Flows whose ends differ by less than this, relatively, end in the same event. */
static const double SAME_TIME = 1e-13;
/* The rate of a flow that still rises. */
static const double UNFIXED = -1;

typedef struct problem {
    uint32_t n_flows;   /* that have something to move */
    uint32_t n_links;   /* in use */
    bool shared;        /* some link carries two flows */
    uint32_t *first;    /* [n_flows + 1] into links */
    uint32_t *links;    /* local link numbers of every flow's route */
    uint32_t *begin;    /* [n_links + 1] into users */
    uint32_t *users;    /* flows that cross a link */
    double *remaining;  /* [n_flows] bytes */
    double *rate;       /* [n_flows] bytes/s */
    uint32_t *order;    /* [n_flows] active flows first */
    double *capacity;   /* [n_links] bytes/s */
    double *spare;      /* [n_links] not given to a fixed flow */
    double *share;      /* [n_links] spare over crossing; infinite when nothing is left to fix */
    uint32_t *crossing; /* [n_links] flows not fixed yet */
    uint32_t *keys;     /* [n_buckets] link number + 1, hashed: local numbers of the links in use */
    uint32_t *locals;   /* [n_buckets] */
    uint32_t mask;      /* n_buckets - 1 */
} problem;

/* Sets up to the pairs of 16 GPUs over routes of 6 links live on the stack, so that a call
 * allocates nothing. */
enum { STACK_BYTES = 80 * 1024 };

static uint32_t n_buckets_for(uint32_t n_uses)
{
    uint32_t n = 64;
    while (n < 2 * n_uses)
        n *= 2;
    return n;
}

static size_t bytes_for(uint32_t n_flows, uint32_t n_uses, uint32_t n_buckets)
{
    size_t doubles = 2 * (size_t)n_flows + 3 * (size_t)n_uses;
    size_t words = 2 * (size_t)n_flows + 2 + 4 * (size_t)n_uses + 1 + 2 * (size_t)n_buckets;
    return doubles * sizeof(double) + words * sizeof(uint32_t);
}

/* Lays the arrays out in one block, doubles first. */
static void place(problem *p, void *block, uint32_t n_flows, uint32_t n_uses, uint32_t n_buckets)
{
    double *d = block;
    p->remaining = d;
    p->rate = p->remaining + n_flows;
    p->capacity = p->rate + n_flows;
    p->spare = p->capacity + n_uses;
    p->share = p->spare + n_uses;
    uint32_t *u = (uint32_t *)(p->share + n_uses);
    p->first = u;
    p->order = p->first + n_flows + 1;
    p->links = p->order + n_flows + 1;
    p->users = p->links + n_uses;
    p->begin = p->users + n_uses;
    p->crossing = p->begin + n_uses + 1;
    p->keys = p->crossing + n_uses;
    p->locals = p->keys + n_buckets;
    p->mask = n_buckets - 1;
    memset(p->keys, 0, n_buckets * sizeof *p->keys);
}

/* Local number of a link, a new one at first sight. */
static uint32_t local_link(problem *p, const tdm_topology *topology, uint32_t link)
{
    uint32_t bucket = link * 2654435761u & p->mask;
    while (p->keys[bucket] != 0 && p->keys[bucket] != link + 1)
        bucket = (bucket + 1) & p->mask;
    if (p->keys[bucket] == 0) {
        p->keys[bucket] = link + 1;
        p->locals[bucket] = p->n_links;
        p->crossing[p->n_links] = 0;
        p->capacity[p->n_links++] = topology->links[link].bytes_per_s;
    }
    return p->locals[bucket];
}

static void add_use(problem *p, uint32_t *at, uint32_t link)
{
    p->links[(*at)++] = link;
    if (p->crossing[link]++ > 0)
        p->shared = true;
}

static void add_flow(problem *p, const tdm_net *net, const tdm_load *load)
{
    const tdm_path *path = tdm_net_path(net, load->path);
    bool limited = !isinf(load->max_bytes_per_s);
    if (load->bytes == 0 || (path->n_links == 0 && !limited))
        return; /* ends at once */
    uint32_t at = p->first[p->n_flows];
    for (uint32_t l = 0; l < path->n_links; l++)
        add_use(p, &at, local_link(p, tdm_net_topology(net), path->links[l]));
    if (limited) {
        p->crossing[p->n_links] = 0;
        p->capacity[p->n_links] = load->max_bytes_per_s;
        add_use(p, &at, p->n_links++);
    }
    p->remaining[p->n_flows] = (double)load->bytes;
    p->order[p->n_flows] = p->n_flows;
    p->first[++p->n_flows] = at;
}

/* No shared link: every flow for itself. */
static double separate_time(const problem *p)
{
    double longest = 0;
    for (uint32_t f = 0; f < p->n_flows; f++) {
        double narrowest = INFINITY;
        for (uint32_t i = p->first[f]; i < p->first[f + 1]; i++)
            narrowest = fmin(narrowest, p->capacity[p->links[i]]);
        longest = fmax(longest, p->remaining[f] / narrowest);
    }
    return longest;
}

static double least_share(const problem *p)
{
    double least = INFINITY;
    for (uint32_t l = 0; l < p->n_links; l++)
        least = p->share[l] < least ? p->share[l] : least;
    return least;
}

/* Lists the flows of every link, from their counts in `crossing`. */
static void list_users(problem *p)
{
    p->begin[0] = 0;
    for (uint32_t l = 0; l < p->n_links; l++)
        p->begin[l + 1] = p->begin[l] + p->crossing[l];
    for (uint32_t f = p->n_flows; f-- > 0;)
        for (uint32_t i = p->first[f]; i < p->first[f + 1]; i++)
            p->users[p->begin[p->links[i]] + --p->crossing[p->links[i]]] = f;
}

static void fix(problem *p, uint32_t flow, double share)
{
    p->rate[flow] = share;
    for (uint32_t i = p->first[flow]; i < p->first[flow + 1]; i++) {
        uint32_t l = p->links[i];
        double spare = p->spare[l] - share;
        p->spare[l] = spare > 0 ? spare : 0;
        p->share[l] = --p->crossing[l] > 0 ? p->spare[l] / p->crossing[l] : INFINITY;
    }
}

/* Max-min fair rates of the first n_active flows of `order`. */
static void fill(problem *p, uint32_t n_active)
{
    for (uint32_t l = 0; l < p->n_links; l++) {
        p->spare[l] = p->capacity[l];
        p->crossing[l] = 0;
    }
    for (uint32_t a = 0; a < n_active; a++) {
        uint32_t f = p->order[a];
        p->rate[f] = UNFIXED;
        for (uint32_t i = p->first[f]; i < p->first[f + 1]; i++)
            p->crossing[p->links[i]]++;
    }
    for (uint32_t l = 0; l < p->n_links; l++)
        p->share[l] = p->crossing[l] > 0 ? p->spare[l] / p->crossing[l] : INFINITY;
    for (uint32_t n_fixed = 0; n_fixed < n_active;) {
        double share = least_share(p);
        double limit = share * (1 + SAME_TIME);
        for (uint32_t l = 0; l < p->n_links; l++) {
            if (p->share[l] > limit)
                continue;
            for (uint32_t u = p->begin[l]; u < p->begin[l + 1]; u++)
                if (p->rate[p->users[u]] == UNFIXED) {
                    fix(p, p->users[u], share);
                    n_fixed++;
                }
        }
    }
}

static double shared_time(problem *p)
{
    double now = 0;
    uint32_t n_active = p->n_flows;
    list_users(p);
    while (n_active > 0) {
        fill(p, n_active);
        double step = INFINITY;
        for (uint32_t a = 0; a < n_active; a++) {
            double left = p->remaining[p->order[a]] / p->rate[p->order[a]];
            step = left < step ? left : step;
        }
        now += step;
        uint32_t kept = 0;
        for (uint32_t a = 0; a < n_active; a++) {
            uint32_t f = p->order[a];
            p->remaining[f] -= step * p->rate[f];
            if (p->remaining[f] > now * SAME_TIME * p->rate[f])
                p->order[kept++] = f;
            else
                p->rate[f] = 0; /* ended: nothing to fix any more */
        }
        n_active = kept;
    }
    return now;
}

double tdm_net_time(tdm_arena *scratch, const tdm_net *net, const tdm_load *loads, uint32_t n)
{
    uint32_t n_uses = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (loads[i].path == TDM_NO_PATH)
            return -1;
        n_uses += tdm_net_path(net, loads[i].path)->n_links + 1;
    }
    uint32_t n_buckets = n_buckets_for(n_uses);
    size_t n_bytes = bytes_for(n, n_uses, n_buckets);
    _Alignas(double) unsigned char stack[STACK_BYTES];
    void *block = n_bytes <= sizeof stack ? stack : tdm_arena_alloc(scratch, n_bytes);
    problem p = {0};
    place(&p, block, n, n_uses, n_buckets);
    p.first[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        add_flow(&p, net, &loads[i]);
    return p.shared ? shared_time(&p) : separate_time(&p);
}
