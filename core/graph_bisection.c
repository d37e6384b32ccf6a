/* graph_bisection.c: a maximum flow (Dinic) for each split. */
#include "graph_bisection.h"

#include "graph_paths.h"

#include <math.h>
#include <string.h>

typedef struct arc {
    uint32_t to, back; /* back: the arc in the opposite direction */
    int64_t room, capacity;
} arc;

typedef struct network {
    uint32_t n;      /* vertices of the graph, then source and sink */
    uint32_t *first; /* [n + 1] into arcs */
    arc *arcs;
    uint32_t *level, *next, *queue; /* [n] */
    uint32_t *at_source, *at_sink;  /* [n_gpus] each GPU's arc from the source, to the sink */
} network;

static const int64_t WIDE = INT64_C(1) << 60;

/* Marks the edges of the best paths between all GPUs. */
static void mark_used(tdm_arena *arena, const tdm_graph *graph, bool *used)
{
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    for (uint32_t a = 0; a < graph->n_gpus; a++)
        for (uint32_t b = 0; b < graph->n_gpus; b++) {
            tdm_graph_path path = tdm_pathfinder_find(finder, graph->gpus[a], graph->gpus[b]);
            for (uint32_t i = 0; i < path.n_edges; i++)
                used[path.edges[i]] = true;
        }
}

typedef struct pair {
    uint32_t from, to;
    int64_t capacity;
} pair;

static void place_arcs(network *net, const pair *pairs, uint32_t n_pairs, uint32_t *forward)
{
    for (uint32_t p = 0; p < n_pairs; p++) {
        net->first[pairs[p].from + 1]++;
        net->first[pairs[p].to + 1]++;
    }
    for (uint32_t v = 0; v < net->n; v++)
        net->first[v + 1] += net->first[v];
    memcpy(net->next, net->first, net->n * sizeof *net->next);
    for (uint32_t p = 0; p < n_pairs; p++) {
        uint32_t there = net->next[pairs[p].from]++, back = net->next[pairs[p].to]++;
        net->arcs[there] = (arc){.to = pairs[p].to, .back = back, .capacity = pairs[p].capacity};
        net->arcs[back] = (arc){.to = pairs[p].from, .back = there};
        forward[p] = there;
    }
}

static network build(tdm_arena *arena, const tdm_graph *graph)
{
    uint32_t n_pairs = 0, source = graph->n_vertices, n = source + 2;
    bool *used = TDM_ALLOC(arena, bool, graph->n_edges + 1);
    pair *pairs = TDM_ALLOC(arena, pair, graph->n_edges + 2u * graph->n_gpus + 1);
    mark_used(arena, graph, used);
    for (uint32_t e = 0; e < graph->n_edges; e++)
        if (used[e])
            pairs[n_pairs++] = (pair){graph->edges[e].from, graph->edges[e].to,
                                      (int64_t)llround(graph->edges[e].bytes_per_s)};
    uint32_t first_gpu = n_pairs;
    for (uint32_t g = 0; g < graph->n_gpus; g++) {
        pairs[n_pairs++] = (pair){source, graph->gpus[g], 0};
        pairs[n_pairs++] = (pair){graph->gpus[g], source + 1, 0};
    }
    network net = {.n = n,
                   .first = TDM_ALLOC(arena, uint32_t, n + 1),
                   .arcs = TDM_ALLOC(arena, arc, 2u * n_pairs + 1),
                   .level = TDM_ALLOC(arena, uint32_t, n),
                   .next = TDM_ALLOC(arena, uint32_t, n),
                   .queue = TDM_ALLOC(arena, uint32_t, n),
                   .at_source = TDM_ALLOC(arena, uint32_t, graph->n_gpus + 1),
                   .at_sink = TDM_ALLOC(arena, uint32_t, graph->n_gpus + 1)};
    uint32_t *forward = TDM_ALLOC(arena, uint32_t, n_pairs + 1);
    place_arcs(&net, pairs, n_pairs, forward);
    for (uint32_t g = 0; g < graph->n_gpus; g++) {
        net.at_source[g] = forward[first_gpu + 2 * g];
        net.at_sink[g] = forward[first_gpu + 2 * g + 1];
    }
    return net;
}

/* Distances from the source over arcs with room; false when the sink is out of reach. */
static bool find_levels(network *net, uint32_t source, uint32_t sink)
{
    uint32_t n_queue = 0;
    memset(net->level, 0, net->n * sizeof *net->level);
    net->level[source] = 1;
    net->queue[n_queue++] = source;
    for (uint32_t q = 0; q < n_queue; q++)
        for (uint32_t a = net->first[net->queue[q]]; a < net->first[net->queue[q] + 1]; a++)
            if (net->arcs[a].room > 0 && net->level[net->arcs[a].to] == 0) {
                net->level[net->arcs[a].to] = net->level[net->queue[q]] + 1;
                net->queue[n_queue++] = net->arcs[a].to;
            }
    return net->level[sink] > 0;
}

/* Sends flow along one way of rising levels, found by walking forward and backing out of dead
 * ends; returns how much, 0 when there is none left. queue holds the arcs of the way. */
static int64_t push_once(network *net, uint32_t source, uint32_t sink)
{
    uint32_t depth = 0, at = source;
    while (at != sink) {
        while (net->next[at] < net->first[at + 1]) {
            const arc *a = &net->arcs[net->next[at]];
            if (a->room > 0 && net->level[a->to] == net->level[at] + 1)
                break;
            net->next[at]++;
        }
        if (net->next[at] < net->first[at + 1]) {
            net->queue[depth++] = net->next[at];
            at = net->arcs[net->next[at]].to;
        } else if (depth > 0) {
            at = net->arcs[net->arcs[net->queue[--depth]].back].to;
            net->next[at]++;
        } else {
            return 0;
        }
    }
    int64_t least = WIDE;
    for (uint32_t i = 0; i < depth; i++)
        least = net->arcs[net->queue[i]].room < least ? net->arcs[net->queue[i]].room : least;
    for (uint32_t i = 0; i < depth; i++) {
        arc *a = &net->arcs[net->queue[i]];
        a->room -= least;
        net->arcs[a->back].room += least;
    }
    return least;
}

/* The largest flow from the GPUs in `half` to the others. */
static int64_t flow(network *net, const bool *half, uint32_t n_gpus, bool reverse)
{
    uint32_t source = net->n - 2, sink = net->n - 1;
    int64_t total = 0;
    for (uint32_t g = 0; g < n_gpus; g++) {
        bool sends = half[g] != reverse;
        net->arcs[net->at_source[g]].capacity = sends ? WIDE : 0;
        net->arcs[net->at_sink[g]].capacity = sends ? 0 : WIDE;
    }
    for (uint32_t a = 0; a < net->first[net->n]; a++)
        net->arcs[a].room = net->arcs[a].capacity;
    while (find_levels(net, source, sink)) {
        memcpy(net->next, net->first, net->n * sizeof *net->next);
        for (int64_t pushed; (pushed = push_once(net, source, sink)) > 0;)
            total += pushed;
    }
    return total;
}

typedef struct search {
    network net;
    const tdm_graph *graph;
    bool *half; /* [n_gpus] the split being tried */
    bool *worst;
    int64_t least; /* -1: none yet */
    uint32_t n_splits;
} search;

static void try_split(search *s)
{
    for (int reverse = 0; reverse <= 1; reverse++) {
        int64_t carried = flow(&s->net, s->half, s->graph->n_gpus, reverse == 1);
        if (s->least >= 0 && carried >= s->least)
            continue;
        s->least = carried;
        memcpy(s->worst, s->half, s->graph->n_gpus * sizeof *s->worst);
    }
    s->n_splits++;
}

/* All splits; of n even GPUs, GPU 0 is always in the half, since both directions are tried. */
static void try_all(search *s)
{
    uint32_t n = s->graph->n_gpus, n_half = n / 2;
    for (uint32_t bits = 0; bits < 1u << n; bits++) {
        uint32_t count = 0;
        for (uint32_t g = 0; g < n; g++)
            count += bits >> g & 1;
        if (count != n_half || (n % 2 == 0 && !(bits & 1)))
            continue;
        for (uint32_t g = 0; g < n; g++)
            s->half[g] = bits >> g & 1;
        try_split(s);
    }
}

/* The socket of a GPU by its wires upwards; its own number where there is none. */
static uint32_t socket_of(const tdm_graph *graph, uint32_t gpu)
{
    uint32_t at = gpu;
    for (uint32_t climbed = 0; climbed < 64; climbed++) {
        uint32_t e = graph->first_edge[at];
        while (e < graph->first_edge[at + 1] && graph->edges[e].wire != TDM_WIRE_PCIE)
            e++;
        if (e == graph->first_edge[at + 1])
            return gpu;
        at = graph->edges[e].to;
        if (graph->vertices[at].kind == TDM_VERTEX_SOCKET)
            return at;
    }
    return gpu;
}

/* A key per GPU; the GPUs with the smaller keys are one half, ties by rank. */
static void try_by(search *s, const uint32_t *keys)
{
    uint32_t n = s->graph->n_gpus;
    for (uint32_t g = 0; g < n; g++) {
        uint32_t before = 0;
        for (uint32_t k = 0; k < n; k++)
            before += keys[k] < keys[g] || (keys[k] == keys[g] && k < g);
        s->half[g] = before < n / 2;
    }
    try_split(s);
}

static void try_natural(tdm_arena *arena, search *s)
{
    enum { BY_RANK, BY_NODE, BY_SOCKET, BY_PARITY, N_WAYS };
    const tdm_graph *g = s->graph;
    uint32_t *keys = TDM_ALLOC(arena, uint32_t, g->n_gpus);
    for (int way = BY_RANK; way < N_WAYS; way++) {
        for (uint32_t i = 0; i < g->n_gpus; i++) {
            const uint32_t by[] = {i, g->vertices[g->gpus[i]].node, socket_of(g, g->gpus[i]),
                                   i % 2};
            keys[i] = by[way];
        }
        try_by(s, keys);
    }
}

tdm_bisection tdm_graph_bisection(tdm_arena *arena, const tdm_graph *graph)
{
    uint32_t n = graph->n_gpus, n_half = 0;
    if (n < 2 || n > TDM_BISECTION_MAX_GPUS)
        return (tdm_bisection){.exact = n < 2};
    search s = {.net = build(arena, graph),
                .graph = graph,
                .half = TDM_ALLOC(arena, bool, n),
                .worst = TDM_ALLOC(arena, bool, n),
                .least = -1};
    bool exact = n <= TDM_BISECTION_EXACT_GPUS;
    if (exact)
        try_all(&s);
    else
        try_natural(arena, &s);
    uint32_t *half = TDM_ALLOC(arena, uint32_t, n);
    for (uint32_t g = 0; g < n; g++)
        if (s.worst[g])
            half[n_half++] = g;
    return (tdm_bisection){.connected = s.least > 0,
                           .exact = exact,
                           .bytes_per_s = (double)s.least,
                           .n_half = n_half,
                           .half = half,
                           .n_splits = s.n_splits};
}
