/* graph_tree.c: parents by a search from the sockets downwards. */
#include "graph_tree.h"

#include "graph_rates.h"

typedef struct maker {
    const tdm_graph *graph;
    uint32_t *roots, n_roots;
    uint32_t *parent, *up, *queue;
    bool *seen;
} maker;

/* Two switches that are one device are side by side, not above each other. */
static bool is_peer_link(const tdm_graph *graph, const tdm_edge *edge)
{
    return graph->vertices[edge->from].kind == TDM_VERTEX_PCIE_SWITCH &&
           graph->vertices[edge->to].kind == TDM_VERTEX_PCIE_SWITCH &&
           edge->bytes_per_s >= TDM_RATE_UNLIMITED;
}

static uint32_t edge_between(const tdm_graph *graph, uint32_t from, uint32_t to, tdm_wire wire)
{
    for (uint32_t e = graph->first_edge[from]; e < graph->first_edge[from + 1]; e++)
        if (graph->edges[e].to == to && graph->edges[e].wire == wire)
            return e;
    return TDM_NO_VERTEX;
}

static void grow(maker *m, uint32_t root)
{
    uint32_t n = 0;
    m->roots[m->n_roots++] = root;
    m->seen[root] = true;
    m->queue[n++] = root;
    for (uint32_t q = 0; q < n; q++) {
        uint32_t at = m->queue[q];
        for (uint32_t e = m->graph->first_edge[at]; e < m->graph->first_edge[at + 1]; e++) {
            const tdm_edge *edge = &m->graph->edges[e];
            if (edge->wire != TDM_WIRE_PCIE || m->seen[edge->to] || is_peer_link(m->graph, edge))
                continue;
            m->seen[edge->to] = true;
            m->parent[edge->to] = at;
            m->up[edge->to] = edge_between(m->graph, edge->to, at, TDM_WIRE_PCIE);
            m->queue[n++] = edge->to;
        }
    }
}

tdm_graph_tree tdm_graph_tree_make(tdm_arena *arena, const tdm_graph *graph)
{
    uint32_t n = graph->n_vertices;
    maker m = {.graph = graph,
               .roots = TDM_ALLOC(arena, uint32_t, n + 1u),
               .parent = TDM_ALLOC(arena, uint32_t, n + 1u),
               .up = TDM_ALLOC(arena, uint32_t, n + 1u),
               .queue = TDM_ALLOC(arena, uint32_t, n + 1u),
               .seen = TDM_ALLOC(arena, bool, n + 1u)};
    uint32_t *first = TDM_ALLOC(arena, uint32_t, n + 1u);
    uint32_t *next = TDM_ALLOC(arena, uint32_t, n + 1u);
    for (uint32_t v = 0; v < n; v++)
        m.parent[v] = m.up[v] = first[v] = next[v] = TDM_NO_VERTEX;
    for (uint32_t v = 0; v < n; v++)
        if (graph->vertices[v].kind == TDM_VERTEX_SOCKET && !m.seen[v])
            grow(&m, v);
    for (uint32_t v = 0; v < n; v++) {
        tdm_vertex_kind kind = graph->vertices[v].kind;
        if (kind != TDM_VERTEX_NVSWITCH && kind != TDM_VERTEX_SWITCH && !m.seen[v])
            grow(&m, v);
    }
    for (uint32_t v = n; v > 0; v--)
        if (m.parent[v - 1] != TDM_NO_VERTEX) {
            next[v - 1] = first[m.parent[v - 1]];
            first[m.parent[v - 1]] = v - 1;
        }
    return (tdm_graph_tree){.n_roots = m.n_roots,
                            .roots = m.roots,
                            .parent = m.parent,
                            .first_child = first,
                            .next_sibling = next,
                            .up = m.up};
}

uint32_t tdm_graph_tree_socket(const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t vertex)
{
    while (vertex != TDM_NO_VERTEX && graph->vertices[vertex].kind != TDM_VERTEX_SOCKET)
        vertex = tree->parent[vertex];
    return vertex;
}
