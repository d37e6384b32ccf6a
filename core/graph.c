/* graph.c: building a graph, and its adjacency. */
#include "graph.h"

#include <string.h>

void tdm_graph_builder_init(tdm_graph_builder *builder, tdm_arena *arena)
{
    *builder = (tdm_graph_builder){.arena = arena};
}

/* An array of twice the capacity with the old contents. */
static void *grown(tdm_arena *arena, const void *old, size_t n, size_t size, uint32_t *capacity)
{
    *capacity = *capacity ? 2 * *capacity : 64;
    void *new = tdm_arena_alloc(arena, *capacity * size);
    if (n > 0)
        memcpy(new, old, n * size);
    return new;
}

uint32_t tdm_graph_add(tdm_graph_builder *builder, const tdm_vertex *vertex)
{
    if (builder->n_vertices == builder->vertex_capacity)
        builder->vertices = grown(builder->arena, builder->vertices, builder->n_vertices,
                                  sizeof *vertex, &builder->vertex_capacity);
    tdm_vertex *v = &builder->vertices[builder->n_vertices];
    *v = *vertex;
    v->index = builder->n_of_kind[v->kind]++;
    if (!v->name)
        v->name =
            tdm_arena_printf(builder->arena, "%s-%u", tdm_vertex_kind_name(v->kind), v->index);
    return builder->n_vertices++;
}

void tdm_graph_edge(tdm_graph_builder *builder, const tdm_edge *edge)
{
    if (builder->n_edges == builder->edge_capacity)
        builder->edges = grown(builder->arena, builder->edges, builder->n_edges, sizeof *edge,
                               &builder->edge_capacity);
    builder->edges[builder->n_edges++] = *edge;
}

void tdm_graph_link(tdm_graph_builder *builder, uint32_t a, uint32_t b, tdm_wire wire,
                    uint32_t count, double bytes_per_s, double latency_s, const char *name)
{
    tdm_edge edge = {.from = a,
                     .to = b,
                     .wire = wire,
                     .count = count,
                     .bytes_per_s = bytes_per_s,
                     .latency_s = latency_s,
                     .name = tdm_arena_printf(builder->arena, "%s-up", name)};
    tdm_graph_edge(builder, &edge);
    edge.from = b;
    edge.to = a;
    edge.name = tdm_arena_printf(builder->arena, "%s-down", name);
    tdm_graph_edge(builder, &edge);
}

/* Edges by the vertex they leave, in the order in which they were added. */
static void sort_edges(const tdm_graph_builder *builder, tdm_edge *edges, uint32_t *first)
{
    for (uint32_t e = 0; e < builder->n_edges; e++)
        first[builder->edges[e].from + 1]++;
    for (uint32_t v = 0; v < builder->n_vertices; v++)
        first[v + 1] += first[v];
    uint32_t *next = TDM_ALLOC(builder->arena, uint32_t, builder->n_vertices + 1);
    memcpy(next, first, (builder->n_vertices + 1) * sizeof *next);
    for (uint32_t e = 0; e < builder->n_edges; e++)
        edges[next[builder->edges[e].from]++] = builder->edges[e];
}

/* Vertices by their node; those of none come after the last. */
static void sort_by_node(const tdm_graph_builder *builder, tdm_graph *graph)
{
    uint32_t *sorted = TDM_ALLOC(builder->arena, uint32_t, builder->n_vertices + 1);
    uint32_t *first = TDM_ALLOC(builder->arena, uint32_t, graph->n_nodes + 3);
    uint32_t none = graph->n_nodes;
    for (uint32_t v = 0; v < builder->n_vertices; v++) {
        uint32_t node = builder->vertices[v].node;
        first[(node < none ? node : none) + 2]++;
    }
    for (uint32_t n = 0; n <= none; n++)
        first[n + 2] += first[n + 1];
    for (uint32_t v = 0; v < builder->n_vertices; v++) {
        uint32_t node = builder->vertices[v].node;
        sorted[first[(node < none ? node : none) + 1]++] = v;
    }
    graph->by_node = sorted;
    graph->first_of_node = first;
}

tdm_graph tdm_graph_finish(tdm_graph_builder *builder, const char *name)
{
    tdm_arena *arena = builder->arena;
    uint32_t n_gpus = builder->n_of_kind[TDM_VERTEX_GPU], n_nodes = 0;
    tdm_edge *edges = TDM_ALLOC(arena, tdm_edge, builder->n_edges + 1);
    uint32_t *first = TDM_ALLOC(arena, uint32_t, builder->n_vertices + 2);
    uint32_t *gpus = TDM_ALLOC(arena, uint32_t, n_gpus + 1);
    sort_edges(builder, edges, first);
    for (uint32_t v = 0; v < builder->n_vertices; v++) {
        const tdm_vertex *vertex = &builder->vertices[v];
        if (vertex->kind == TDM_VERTEX_GPU)
            gpus[vertex->index] = v;
        if (vertex->node != TDM_NO_NODE && vertex->node >= n_nodes)
            n_nodes = vertex->node + 1;
    }
    tdm_graph graph = {.name = name,
                       .n_nodes = n_nodes,
                       .n_gpus = n_gpus,
                       .gpus = gpus,
                       .n_vertices = builder->n_vertices,
                       .vertices = builder->vertices,
                       .n_edges = builder->n_edges,
                       .edges = edges,
                       .first_edge = first};
    sort_by_node(builder, &graph);
    return graph;
}

const char *tdm_vertex_kind_name(tdm_vertex_kind kind)
{
    static const char *const names[TDM_N_VERTEX_KINDS] = {
        "gpu", "nvswitch", "pcie-switch", "root-port", "socket", "nic", "switch"};
    return names[kind];
}

const char *tdm_wire_name(tdm_wire wire)
{
    static const char *const names[TDM_N_WIRES] = {"nvlink", "c2c", "pcie", "socket", "network"};
    return names[wire];
}
