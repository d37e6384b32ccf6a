/* graph_paths.c: NVLink paths by looking one switch or one GPU far, all others by Dijkstra's
 * algorithm over what is no GPU. */
#include "graph_paths.h"

#include <math.h>
#include <string.h>

#define NOWHERE UINT32_MAX

/* How good the way to a vertex is, compared from the top. */
typedef struct cost {
    uint32_t network; /* network edges */
    uint32_t sockets; /* links between sockets */
    uint32_t bridges; /* processors and root ports passed */
    uint32_t edges;
    double bytes_per_s;
} cost;

struct tdm_pathfinder {
    tdm_arena *arena;
    const tdm_graph *graph;
    uint32_t from;       /* whose tree is below; NOWHERE: none yet */
    uint32_t *last_edge; /* [n_vertices] the edge that leads there, NOWHERE: none */
    cost *costs;         /* [n_vertices] */
    bool *done;
    uint32_t *heap, *place; /* vertices by cost; place [n_vertices]: index in heap + 1, 0: out */
    uint32_t n_heap;
    uint32_t *edges; /* [n_vertices] of the path returned last */
};

tdm_pathfinder *tdm_pathfinder_new(tdm_arena *arena, const tdm_graph *graph)
{
    tdm_pathfinder *finder = TDM_ALLOC(arena, tdm_pathfinder, 1);
    size_t n = graph->n_vertices + 2u;
    *finder = (tdm_pathfinder){.arena = arena,
                               .graph = graph,
                               .from = NOWHERE,
                               .last_edge = TDM_ALLOC(arena, uint32_t, n),
                               .costs = TDM_ALLOC(arena, cost, n),
                               .done = TDM_ALLOC(arena, bool, n),
                               .heap = TDM_ALLOC(arena, uint32_t, n),
                               .place = TDM_ALLOC(arena, uint32_t, n),
                               .edges = TDM_ALLOC(arena, uint32_t, n)};
    return finder;
}

static bool is_less(const cost *a, const cost *b)
{
    if (a->network != b->network)
        return a->network < b->network;
    if (a->sockets != b->sockets)
        return a->sockets < b->sockets;
    if (a->bridges != b->bridges)
        return a->bridges < b->bridges;
    if (a->edges != b->edges)
        return a->edges < b->edges;
    return a->bytes_per_s > b->bytes_per_s;
}

static void put(tdm_pathfinder *f, uint32_t i, uint32_t vertex)
{
    f->heap[i] = vertex;
    f->place[vertex] = i + 1;
}

/* Moves the vertex at i up to where it belongs. */
static void rise(tdm_pathfinder *f, uint32_t i)
{
    uint32_t vertex = f->heap[i];
    for (; i > 0; i = (i - 1) / 2) {
        uint32_t above = f->heap[(i - 1) / 2];
        if (!is_less(&f->costs[vertex], &f->costs[above]))
            break;
        put(f, i, above);
    }
    put(f, i, vertex);
}

static uint32_t take_least(tdm_pathfinder *f)
{
    uint32_t least = f->heap[0], i = 0;
    uint32_t moved = f->heap[--f->n_heap];
    f->place[least] = 0;
    if (f->n_heap == 0)
        return least;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child + 1 < f->n_heap &&
            is_less(&f->costs[f->heap[child + 1]], &f->costs[f->heap[child]]))
            child++;
        if (child >= f->n_heap || !is_less(&f->costs[f->heap[child]], &f->costs[moved]))
            break;
        put(f, i, f->heap[child]);
        i = child;
    }
    put(f, i, moved);
    return least;
}

static bool is_end(tdm_vertex_kind kind)
{
    return kind == TDM_VERTEX_GPU || kind == TDM_VERTEX_NVSWITCH;
}

static cost along(const tdm_pathfinder *f, const cost *before, const tdm_edge *edge)
{
    tdm_vertex_kind kind = f->graph->vertices[edge->to].kind;
    return (cost){.network = before->network + (edge->wire == TDM_WIRE_NETWORK),
                  .sockets = before->sockets + (edge->wire == TDM_WIRE_SOCKET),
                  .bridges =
                      before->bridges + (kind == TDM_VERTEX_SOCKET || kind == TDM_VERTEX_ROOT_PORT),
                  .edges = before->edges + 1,
                  .bytes_per_s = fmin(before->bytes_per_s, edge->bytes_per_s)};
}

/* An adapter is passed into or out of the network, never from PCIe to PCIe; GPUs are ends. */
static bool may_pass(const tdm_pathfinder *f, uint32_t vertex, const tdm_edge *next)
{
    tdm_vertex_kind kind = f->graph->vertices[vertex].kind;
    if (vertex == f->from)
        return true;
    if (is_end(kind))
        return false;
    if (kind != TDM_VERTEX_NIC)
        return true;
    const tdm_edge *before = &f->graph->edges[f->last_edge[vertex]];
    return before->wire == TDM_WIRE_NETWORK || next->wire == TDM_WIRE_NETWORK;
}

static void grow_tree(tdm_pathfinder *f, uint32_t from)
{
    const tdm_graph *g = f->graph;
    f->from = from;
    memset(f->done, 0, g->n_vertices * sizeof *f->done);
    memset(f->place, 0, g->n_vertices * sizeof *f->place);
    for (uint32_t v = 0; v < g->n_vertices; v++)
        f->last_edge[v] = NOWHERE;
    f->costs[from] = (cost){.bytes_per_s = INFINITY};
    f->n_heap = 0;
    put(f, f->n_heap++, from);
    while (f->n_heap > 0) {
        uint32_t at = take_least(f);
        f->done[at] = true;
        for (uint32_t e = g->first_edge[at]; e < g->first_edge[at + 1]; e++) {
            const tdm_edge *edge = &g->edges[e];
            bool nvlink_to_cpu = g->vertices[edge->to].kind == TDM_VERTEX_SOCKET ||
                                 g->vertices[at].kind == TDM_VERTEX_SOCKET;
            if (f->done[edge->to] || !may_pass(f, at, edge) ||
                (edge->wire == TDM_WIRE_NVLINK && !nvlink_to_cpu))
                continue;
            cost found = along(f, &f->costs[at], edge);
            if (f->last_edge[edge->to] != NOWHERE && !is_less(&found, &f->costs[edge->to]))
                continue;
            f->last_edge[edge->to] = e;
            f->costs[edge->to] = found;
            if (f->place[edge->to] == 0)
                put(f, f->n_heap++, edge->to);
            rise(f, f->place[edge->to] - 1);
        }
    }
}

/* Bandwidth, latency and links of the n edges in f->edges. */
static tdm_graph_path sum_up(const tdm_pathfinder *f, tdm_path_type type, uint32_t n)
{
    tdm_graph_path path = {.type = type, .n_edges = n, .edges = f->edges};
    for (uint32_t i = 0; i < n; i++) {
        const tdm_edge *edge = &f->graph->edges[f->edges[i]];
        if (i == 0 || edge->bytes_per_s < path.bytes_per_s)
            path.bytes_per_s = edge->bytes_per_s;
        if (edge->wire == TDM_WIRE_NVLINK && (path.n_nvlinks == 0 || edge->count < path.n_nvlinks))
            path.n_nvlinks = edge->count;
        path.latency_s += edge->latency_s;
    }
    return path;
}

/* The NVLink edge from one vertex to another; NOWHERE: none. */
static uint32_t nvlink_between(const tdm_graph *g, uint32_t from, uint32_t to)
{
    for (uint32_t e = g->first_edge[from]; e < g->first_edge[from + 1]; e++)
        if (g->edges[e].to == to && g->edges[e].wire == TDM_WIRE_NVLINK)
            return e;
    return NOWHERE;
}

/* Over one vertex of the given kind, the widest; type NONE when there is none. */
static tdm_graph_path nvlink_over(const tdm_pathfinder *f, uint32_t from, uint32_t to,
                                  tdm_vertex_kind kind, tdm_path_type type)
{
    const tdm_graph *g = f->graph;
    tdm_graph_path best = {.type = TDM_PATH_NONE};
    uint32_t edges[2] = {0};
    for (uint32_t e = g->first_edge[from]; e < g->first_edge[from + 1]; e++) {
        if (g->edges[e].wire != TDM_WIRE_NVLINK || g->vertices[g->edges[e].to].kind != kind)
            continue;
        f->edges[0] = e;
        f->edges[1] = nvlink_between(g, g->edges[e].to, to);
        if (f->edges[1] == NOWHERE)
            continue;
        tdm_graph_path path = sum_up(f, type, 2);
        if (best.type == TDM_PATH_NONE || path.bytes_per_s > best.bytes_per_s) {
            best = path;
            memcpy(edges, f->edges, sizeof edges);
        }
    }
    if (best.type != TDM_PATH_NONE)
        memcpy(f->edges, edges, sizeof edges);
    return best;
}

static tdm_graph_path find_nvlink(const tdm_pathfinder *f, uint32_t from, uint32_t to)
{
    f->edges[0] = nvlink_between(f->graph, from, to);
    if (f->edges[0] != NOWHERE)
        return sum_up(f, TDM_PATH_NVL, 1);
    tdm_graph_path path = nvlink_over(f, from, to, TDM_VERTEX_NVSWITCH, TDM_PATH_NVL);
    if (path.type == TDM_PATH_NONE)
        path = nvlink_over(f, from, to, TDM_VERTEX_GPU, TDM_PATH_NVB);
    return path;
}

/* What kind of path the n edges in f->edges make. */
static tdm_path_type type_of(const tdm_pathfinder *f, uint32_t n)
{
    uint32_t switches = 0, sockets = 0, roots = 0, c2c = 0, pcie = 0;
    for (uint32_t i = 0; i < n; i++) {
        const tdm_edge *edge = &f->graph->edges[f->edges[i]];
        tdm_vertex_kind kind = f->graph->vertices[edge->to].kind;
        if (edge->wire == TDM_WIRE_NETWORK)
            return TDM_PATH_NET;
        c2c += edge->wire == TDM_WIRE_C2C;
        pcie += edge->wire == TDM_WIRE_PCIE;
        switches += i + 1 < n && kind == TDM_VERTEX_PCIE_SWITCH;
        sockets += kind == TDM_VERTEX_SOCKET;
        roots += kind == TDM_VERTEX_ROOT_PORT;
    }
    if (sockets > 1)
        return TDM_PATH_SYS;
    if (c2c > 0)
        return pcie == 0 ? TDM_PATH_C2C : TDM_PATH_P2C;
    if (sockets + roots > 0)
        return roots > 1 ? TDM_PATH_NODE : TDM_PATH_PHB;
    return switches > 1 ? TDM_PATH_PXB : TDM_PATH_PIX;
}

tdm_graph_path tdm_pathfinder_find_pcie(tdm_pathfinder *finder, uint32_t from, uint32_t to)
{
    tdm_pathfinder *f = finder;
    uint32_t n = 0;
    if (from == to)
        return (tdm_graph_path){.type = TDM_PATH_LOC};
    if (f->from != from)
        grow_tree(f, from);
    if (f->last_edge[to] == NOWHERE)
        return (tdm_graph_path){.type = TDM_PATH_NONE};
    for (uint32_t at = to; at != from; at = f->graph->edges[f->last_edge[at]].from)
        f->edges[n++] = f->last_edge[at];
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t kept = f->edges[i];
        f->edges[i] = f->edges[n - 1 - i];
        f->edges[n - 1 - i] = kept;
    }
    return sum_up(f, type_of(f, n), n);
}

tdm_graph_path tdm_pathfinder_find(tdm_pathfinder *finder, uint32_t from, uint32_t to)
{
    const tdm_vertex *v = finder->graph->vertices;
    if (from != to && v[from].kind == TDM_VERTEX_GPU && v[to].kind == TDM_VERTEX_GPU) {
        tdm_graph_path path = find_nvlink(finder, from, to);
        if (path.type != TDM_PATH_NONE)
            return path;
    }
    return tdm_pathfinder_find_pcie(finder, from, to);
}

const char *tdm_path_type_name(tdm_path_type type)
{
    static const char *const names[] = {"LOC", "NVL", "NVB",  "C2C", "PIX", "PXB",
                                        "P2C", "PHB", "NODE", "SYS", "NET", "NONE"};
    return names[type];
}
