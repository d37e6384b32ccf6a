/* network.c: flows as SimGrid communications.
 *
 * SimGrid's C API moves bytes between two hosts by a call that blocks its actor, so concurrent
 * flows need an actor each. Actors form teams: a team carries out one transfer after another, one
 * flow per actor. One of them leads: it sleeps until the transfer begins, then opens the barrier at
 * which the others wait. Whoever ends last reports the end and leads the next transfer, so a chain
 * of collectives needs no hand-over between actors. Measured on 2 cores: 7,000 collectives of 8
 * flows take 0.18 s, nearly all of it inside SimGrid's communications; barriers and sleeps together
 * take 0.03 s. */
#include "network.h"

#include "simgrid_api.h"

#include <assert.h>

/* Transfers up to this many flows get a team of their exact size; larger ones are rounded up to a
 * multiple. */
enum { EXACT_SIZE = 16 };

typedef struct team team;

typedef struct member {
    team *team;
    uint32_t index;
} member;

struct team {
    tdm_network *network;
    team *next;           /* in the list of idle teams, or of teams to wake */
    uint32_t size;        /* actors */
    uint32_t n_running;   /* actors that have not ended their part of the transfer */
    bool created, asleep; /* asleep: the leader waits for work */
    bool assigned;
    sg_bar_t barrier;
    sg_sem_t work;
    member *members;      /* [size] */
    tdm_site_flow *flows; /* [n_flows] */
    uint32_t n_flows;
    double begin_s;
    void *transfer;
};

struct tdm_network {
    tdm_arena *arena;
    sg_host_t *hosts;  /* [n sites][2] */
    sg_link_t *limits; /* [n sites] NULL: none */
    double *limit_now; /* [n sites] as set last */
    sg_host_t home;    /* where actors sleep */
    team **idle;       /* [largest size class + 1] lists by size */
    team *to_wake;
    tdm_network_ended *ended;
    void *context;
};

/* CM02 is the plain max-min model; TCP windows and acknowledgement traffic do not exist on NVLink
 * or RDMA networks; the default precision of 1e-9 s would merge events of ranks that differ by
 * less. Guard pages make SimGrid map the stacks, so that only touched pages cost memory, and turn
 * an overflow into a reported crash; each stack takes two of the 65,530 memory maps of a process.
 * Source: SimGrid 3.32, "Configuring SimGrid". */
static char *const settings[] = {
    "tandem",
    "--cfg=contexts/factory:raw",
    "--cfg=contexts/stack-size:128",
    "--cfg=contexts/guard-size:1",
    "--cfg=network/model:CM02",
    "--cfg=network/TCP-gamma:0",
    "--cfg=network/crosstraffic:0",
    "--cfg=surf/precision:1e-12",
    "--cfg=maxmin/precision:1e-12",
    "--log=root.thresh:critical",
};

/* tdm_network_open has made sure that it opens. */
static const tdm_simgrid *simgrid(void)
{
    const tdm_simgrid *sg = tdm_simgrid_open(NULL, 0);
    assert(sg);
    return sg;
}

static uint32_t size_class(uint32_t n_flows)
{
    if (n_flows <= 1)
        return 1;
    if (n_flows <= EXACT_SIZE)
        return n_flows;
    return (uint32_t)tdm_ceil_div(n_flows, EXACT_SIZE) * EXACT_SIZE;
}

tdm_network *tdm_network_open(tdm_arena *arena, const char *platform_path, const tdm_sites *sites)
{
    char *argv[TDM_COUNT(settings) + 1] = {0};
    int argc = TDM_COUNT(settings);
    for (size_t i = 0; i < TDM_COUNT(settings); i++)
        argv[i] = settings[i];
    const tdm_simgrid *sg = simgrid();
    sg->init(&argc, argv);
    sg->load_platform(platform_path);

    tdm_network *network = TDM_ALLOC(arena, tdm_network, 1);
    network->arena = arena;
    network->home = sg->host_by_name(TDM_HOME_HOST);
    network->hosts = TDM_ALLOC(arena, sg_host_t, 2 * (size_t)sites->n + 1);
    network->limits = TDM_ALLOC(arena, sg_link_t, sites->n + 1);
    network->limit_now = TDM_ALLOC(arena, double, sites->n + 1);
    for (uint32_t i = 0; i < sites->n; i++) {
        char name[TDM_HOST_NAME_SIZE];
        for (int to = 0; to < 2; to++) {
            tdm_site_host_name(i, to, name);
            network->hosts[2 * i + (uint32_t)to] = sg->host_by_name(name);
        }
        tdm_site_limit_name(i, name);
        if (sites->items[i].limited)
            network->limits[i] = sg->link_by_name(name);
    }
    network->idle = TDM_ALLOC(arena, team *, size_class(sites->max_flows) + 1);
    return network;
}

double tdm_network_now_s(void)
{
    return simgrid()->get_clock();
}

static team *team_new(tdm_network *network, uint32_t size)
{
    team *t = TDM_ALLOC(network->arena, team, 1);
    t->network = network;
    t->size = size;
    t->members = TDM_ALLOC(network->arena, member, size);
    t->flows = TDM_ALLOC(network->arena, tdm_site_flow, size);
    t->asleep = true;
    return t;
}

void tdm_network_transfer(tdm_network *network, const tdm_site_flow *flows, uint32_t n_flows,
                          double begin_s, void *transfer)
{
    uint32_t size = size_class(n_flows);
    team *t = network->idle[size];
    if (t)
        network->idle[size] = t->next;
    else
        t = team_new(network, size);
    for (uint32_t i = 0; i < n_flows; i++)
        t->flows[i] = flows[i];
    t->n_flows = n_flows;
    t->begin_s = begin_s;
    t->transfer = transfer;
    t->assigned = true;
    /* Waking is a call into SimGrid, during which other actors run: do it when the caller is
     * through. */
    if (t->asleep) {
        t->asleep = false;
        t->next = network->to_wake;
        network->to_wake = t;
    }
}

static void lead(team *t)
{
    if (!t->assigned) {
        t->asleep = true;
        simgrid()->sem_acquire(t->work);
    }
    t->assigned = false;
    t->n_running = t->size;
    if (t->begin_s > simgrid()->get_clock())
        simgrid()->actor_sleep_until(t->begin_s);
}

static void wake_teams(tdm_network *network);

static void report_end(team *t)
{
    tdm_network *network = t->network;
    /* First in the list: the next transfer of this size, often of the same communicator, comes back
     * to this team, whose leader is awake. */
    t->next = network->idle[t->size];
    network->idle[t->size] = t;
    network->ended(network->context, t->transfer, simgrid()->get_clock());
    wake_teams(network);
}

static void carry(tdm_network *network, const tdm_site_flow *flow)
{
    sg_link_t limit = network->limits[flow->site];
    if (limit && network->limit_now[flow->site] != flow->max_bytes_per_s) {
        network->limit_now[flow->site] = flow->max_bytes_per_s;
        simgrid()->link_set_bandwidth(limit, flow->max_bytes_per_s);
    }
    simgrid()->host_sendto(network->hosts[2 * flow->site], network->hosts[2 * flow->site + 1],
                           (double)flow->bytes);
}

static void run_member(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const member *self = simgrid()->actor_self_get_data();
    team *t = self->team;
    bool leads = self->index == 0;
    for (;;) {
        if (leads)
            lead(t);
        if (t->size > 1)
            simgrid()->barrier_wait(t->barrier);
        if (self->index < t->n_flows)
            carry(t->network, &t->flows[self->index]);
        leads = --t->n_running == 0;
        if (leads)
            report_end(t);
    }
}

static void create_actors(team *t)
{
    const tdm_network *network = t->network;
    t->created = true;
    t->work = simgrid()->sem_init(0);
    if (t->size > 1)
        t->barrier = simgrid()->barrier_init(t->size);
    for (uint32_t i = 0; i < t->size; i++) {
        t->members[i] = (member){.team = t, .index = i};
        sg_actor_t actor = simgrid()->actor_init("flow", network->home);
        simgrid()->actor_set_data(actor, &t->members[i]);
        simgrid()->actor_start_(actor, run_member, 0, NULL);
    }
}

/* Other actors run during each call into SimGrid and may do the same: take one team at a time. */
static void wake_teams(tdm_network *network)
{
    while (network->to_wake) {
        team *t = network->to_wake;
        network->to_wake = t->next;
        if (t->created)
            simgrid()->sem_release(t->work);
        else
            create_actors(t);
    }
}

void tdm_network_run(tdm_network *network, tdm_network_ended *ended, void *context)
{
    network->ended = ended;
    network->context = context;
    wake_teams(network);
    simgrid()->run();
}
