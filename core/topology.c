/* topology.c: routes by climbing the two branches to their lowest common vertex. */
#include "topology.h"

#include "nccl/comm.h"

#include <assert.h>
#include <math.h>

/* Links from a vertex to its root; more than TDM_ROUTE_MAX: not counted further (no route is that
 * long). */
static uint32_t depth_of(const tdm_plane *plane, uint32_t vertex)
{
    uint32_t depth = 0;
    while (plane->parent[vertex] >= 0 && depth <= TDM_ROUTE_MAX) {
        vertex = (uint32_t)plane->parent[vertex];
        depth++;
    }
    return depth;
}

static void push(const tdm_topology *topology, tdm_route *route, uint32_t link)
{
    assert(link < topology->n_links);
    if (topology->link_stand_in)
        link = topology->link_stand_in[link];
    route->links[route->n_links++] = link;
    route->latency_s += topology->links[link].latency_s;
}

/* Up from src to the common vertex, then down to dst, within one plane. */
static bool route_in_plane(const tdm_topology *topology, const tdm_plane *plane, uint32_t src,
                           uint32_t dst, tdm_route *route)
{
    uint32_t src_depth = depth_of(plane, src);
    uint32_t dst_depth = depth_of(plane, dst);
    if (src_depth == 0 || dst_depth == 0 || src_depth + dst_depth > 2 * TDM_ROUTE_MAX)
        return false; /* a GPU that hangs on nothing is not in this plane */
    uint32_t down[TDM_ROUTE_MAX];
    uint32_t n_down = 0;
    tdm_route found = {0};
    while (src != dst) {
        bool climb_src = src_depth >= dst_depth;
        bool climb_dst = dst_depth >= src_depth;
        if (src_depth == 0 && dst_depth == 0)
            return false; /* two roots */
        if (found.n_links + n_down + climb_src + climb_dst > TDM_ROUTE_MAX)
            return false;
        if (climb_src) {
            push(topology, &found, plane->up[src]);
            src = (uint32_t)plane->parent[src];
            src_depth--;
        }
        if (climb_dst) {
            down[n_down++] = plane->down[dst];
            dst = (uint32_t)plane->parent[dst];
            dst_depth--;
        }
    }
    while (n_down > 0)
        push(topology, &found, down[--n_down]);
    *route = found;
    return true;
}

bool tdm_topology_route(const tdm_topology *topology, uint32_t src, uint32_t dst, tdm_route *route)
{
    assert(src < topology->n_gpus && dst < topology->n_gpus);
    if (src == dst) {
        *route = (tdm_route){0};
        return true;
    }
    for (uint32_t p = 0; p < topology->n_planes; p++)
        if (route_in_plane(topology, &topology->planes[p], src, dst, route)) {
            route->plane = p;
            return true;
        }
    return false;
}

/* Whether every GPU of the machine is on one NVSwitch. */
static bool is_on_one_nvswitch(const tdm_graph *graph)
{
    uint32_t common = UINT32_MAX;
    for (uint32_t g = 0; g < graph->n_gpus; g++) {
        uint32_t own = UINT32_MAX - 1, v = graph->gpus[g];
        for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++)
            if (graph->vertices[graph->edges[e].to].kind == TDM_VERTEX_NVSWITCH)
                own = graph->edges[e].to;
        if (g > 0 && own != common)
            return false;
        common = own;
    }
    return common < graph->n_vertices;
}

bool tdm_topology_is_single_switch(const tdm_topology *topology)
{
    if (topology->graph)
        return topology->same_gpus;
    if (topology->n_planes == 0)
        return false;
    const tdm_plane *plane = &topology->planes[0];
    int32_t root = plane->parent[0];
    if (root < 0 || plane->parent[root] >= 0)
        return false;
    for (uint32_t g = 1; g < topology->n_gpus; g++)
        if (plane->parent[g] != root)
            return false;
    return true;
}

bool tdm_topology_has_ports_only(const tdm_topology *topology)
{
    for (uint32_t p = 0; p < topology->n_planes; p++) {
        const tdm_plane *plane = &topology->planes[p];
        for (uint32_t v = 0; v < plane->n_vertices; v++)
            if (plane->parent[v] >= 0 &&
                (v >= topology->n_gpus || plane->parent[plane->parent[v]] >= 0))
                return false;
    }
    return topology->n_planes > 0;
}

void tdm_topology_of_graph(tdm_arena *arena, const tdm_graph *graph, tdm_topology *topology)
{
    uint32_t n_links = graph->n_edges, widest = 0;
    bool limited = false;
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        limited |= graph->vertices[v].through_bytes_per_s > 0;
    n_links += limited ? graph->n_vertices : 0;
    tdm_link *links = TDM_ALLOC(arena, tdm_link, n_links + 1);
    for (uint32_t e = 0; e < graph->n_edges; e++)
        links[e] = (tdm_link){graph->edges[e].name, graph->edges[e].bytes_per_s,
                              graph->edges[e].latency_s};
    for (uint32_t v = 0; v < graph->n_vertices && limited; v++) {
        double through = graph->vertices[v].through_bytes_per_s;
        links[graph->n_edges + v] =
            (tdm_link){tdm_arena_printf(arena, "%s-through", graph->vertices[v].name),
                       through > 0 ? through : INFINITY, 0};
    }
    uint32_t gpu = graph->n_gpus ? graph->gpus[0] : 0;
    for (uint32_t e = graph->first_edge[gpu]; e < graph->first_edge[gpu + 1]; e++)
        if (e == graph->first_edge[gpu] || links[e].bytes_per_s > links[widest].bytes_per_s)
            widest = e;
    topology->n_gpus = graph->n_gpus;
    topology->gpus_per_node = graph->n_nodes ? graph->n_gpus / graph->n_nodes : graph->n_gpus;
    topology->n_links = n_links;
    topology->links = links;
    topology->link_bytes_per_s.value = graph->n_edges ? links[widest].bytes_per_s : 0;
    topology->graph = graph;
    topology->known = TDM_ALLOC(arena, tdm_nccl_known, 1);
    topology->known->arena = arena;
    topology->same_gpus = is_on_one_nvswitch(graph);
}
