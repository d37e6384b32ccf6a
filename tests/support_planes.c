/* support_planes.c: see support_planes.h. */
#include "support_planes.h"

#include <assert.h>
#include <math.h>

void support_plane_builder_init(support_plane_builder *builder, tdm_arena *arena, uint32_t n_links)
{
    *builder = (support_plane_builder){.arena = arena, .capacity = n_links};
    builder->links = TDM_ALLOC(arena, tdm_link, n_links);
}

void support_plane_begin(support_plane_builder *builder, const char *name, uint32_t n_vertices)
{
    builder->parent = TDM_ALLOC(builder->arena, int32_t, n_vertices);
    builder->up = TDM_ALLOC(builder->arena, uint32_t, n_vertices);
    builder->down = TDM_ALLOC(builder->arena, uint32_t, n_vertices);
    for (uint32_t v = 0; v < n_vertices; v++)
        builder->parent[v] = -1;
    builder->plane = (tdm_plane){.name = name,
                                 .n_vertices = n_vertices,
                                 .parent = builder->parent,
                                 .up = builder->up,
                                 .down = builder->down};
}

static uint32_t add_link(support_plane_builder *builder, const char *name, double bytes_per_s,
                         double latency_s)
{
    assert(builder->n_links < builder->capacity);
    builder->links[builder->n_links] =
        (tdm_link){.name = name, .bytes_per_s = bytes_per_s, .latency_s = latency_s};
    return builder->n_links++;
}

void support_plane_hang(support_plane_builder *builder, uint32_t vertex, uint32_t parent,
                        const char *vertex_name, double bytes_per_s, double latency_s)
{
    assert(vertex < builder->plane.n_vertices && parent < builder->plane.n_vertices);
    builder->parent[vertex] = (int32_t)parent;
    builder->up[vertex] = add_link(builder, tdm_arena_printf(builder->arena, "%s-up", vertex_name),
                                   bytes_per_s, latency_s);
    builder->down[vertex] = add_link(
        builder, tdm_arena_printf(builder->arena, "%s-down", vertex_name), bytes_per_s, latency_s);
}

tdm_plane support_ports(support_plane_builder *builder, const char *name, const char *port,
                        uint32_t n_gpus, uint32_t gpus_per_switch, double bytes_per_s,
                        double latency_s)
{
    support_plane_begin(builder, name, n_gpus + n_gpus / gpus_per_switch);
    for (uint32_t g = 0; g < n_gpus; g++)
        support_plane_hang(builder, g, n_gpus + g / gpus_per_switch,
                           tdm_arena_printf(builder->arena, "gpu-%u-%s", g, port), bytes_per_s,
                           latency_s / 2);
    return builder->plane;
}

static tdm_topology made(const char *name, uint32_t n_gpus, uint32_t gpus_per_node,
                         const support_plane_builder *builder, const tdm_plane *planes,
                         uint32_t n_planes)
{
    static const tdm_value launch = {8e-6, TDM_GRADE_GUESS, "test"};
    return (tdm_topology){.name = name,
                          .n_gpus = n_gpus,
                          .gpus_per_node = gpus_per_node,
                          .device_name = "test-gpu",
                          .n_links = builder->n_links,
                          .links = builder->links,
                          .n_planes = n_planes,
                          .planes = planes,
                          .collective_launch_s = launch,
                          .p2p_launch_s = launch,
                          .grade = TDM_GRADE_GUESS};
}

tdm_topology support_planes_switch(tdm_arena *arena)
{
    support_plane_builder builder;
    tdm_plane *plane = TDM_ALLOC(arena, tdm_plane, 1);
    support_plane_builder_init(&builder, arena, 32);
    *plane = support_ports(&builder, "nvlink", "nvlink", 16, 16, 180e9, 0.7e-6);
    return made("planes-switch", 16, 16, &builder, plane, 1);
}

tdm_topology support_planes_two_nodes(tdm_arena *arena, uint32_t n_nodes)
{
    support_plane_builder builder;
    tdm_plane *planes = TDM_ALLOC(arena, tdm_plane, 2);
    support_plane_builder_init(&builder, arena, 4 * 8 * n_nodes);
    planes[0] = support_ports(&builder, "nvlink", "nvlink", 8 * n_nodes, 8, 280e9, 0.5e-6);
    planes[1] = support_ports(&builder, "network", "nic", 8 * n_nodes, 8 * n_nodes, 45.9e9, 1e-6);
    return made("planes-two-nodes", 8 * n_nodes, 8, &builder, planes, 2);
}

tdm_topology support_planes_pcie(tdm_arena *arena)
{
    enum { GPUS = 16, SWITCHES = 4, SOCKETS = 2, TOP = GPUS + SWITCHES + SOCKETS };
    support_plane_builder builder;
    tdm_plane *plane = TDM_ALLOC(arena, tdm_plane, 1);
    support_plane_builder_init(&builder, arena, 2 * TOP);
    support_plane_begin(&builder, "pcie", TOP + 1);
    for (uint32_t g = 0; g < GPUS; g++)
        support_plane_hang(&builder, g, GPUS + g / 4, tdm_arena_printf(arena, "gpu-%u-pcie", g),
                           24e9, 0.5e-6);
    for (uint32_t w = 0; w < SWITCHES; w++)
        support_plane_hang(&builder, GPUS + w, GPUS + SWITCHES + w / 2,
                           tdm_arena_printf(arena, "switch-%u-pcie", w), 24e9, 0.5e-6);
    for (uint32_t k = 0; k < SOCKETS; k++)
        support_plane_hang(&builder, GPUS + SWITCHES + k, TOP,
                           tdm_arena_printf(arena, "socket-%u", k), 16e9, 0.25e-6);
    *plane = builder.plane;
    return made("planes-pcie", GPUS, GPUS, &builder, plane, 1);
}

static bool is_of_gpu(const tdm_topology *topology, uint32_t link, uint32_t gpu, bool into)
{
    if (topology->graph) {
        const tdm_edge *edge = &topology->graph->edges[link];
        return link < topology->graph->n_edges &&
               (into ? edge->to : edge->from) == topology->graph->gpus[gpu];
    }
    for (uint32_t p = 0; p < topology->n_planes; p++)
        if (topology->planes[p].parent[gpu] >= 0 &&
            (into ? topology->planes[p].down[gpu] : topology->planes[p].up[gpu]) == link)
            return true;
    return false;
}

uint64_t support_gpu_bytes(const tdm_net *net, const tdm_transfer *transfer, uint32_t gpu,
                           bool into)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < transfer->n_loads; i++) {
        const tdm_path *path = tdm_net_path(net, transfer->loads[i].path);
        for (uint32_t l = 0; l < path->n_links; l++)
            if (is_of_gpu(tdm_net_topology(net), path->links[l], gpu, into))
                bytes += transfer->loads[i].bytes;
    }
    return bytes;
}

tdm_load *support_loads(tdm_arena *arena, tdm_net *net, const tdm_flow *flows, uint32_t n)
{
    tdm_load *loads = TDM_ALLOC(arena, tdm_load, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        /* A message tells the path of its pair. */
        tdm_transfer one = tdm_net_message(net, flows[i].src, flows[i].dst, flows[i].bytes);
        if (one.n_loads > 0)
            loads[i] = one.loads[0];
        else /* to itself: nothing, over any path */
            loads[i] = (tdm_load){.path = tdm_net_message(net, 0, 1, 0).loads[0].path,
                                  .max_bytes_per_s = INFINITY};
    }
    return loads;
}
