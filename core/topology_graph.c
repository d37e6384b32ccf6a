/* topology_graph.c: from planes to the wired machine. */
#include "core/topology_graph.h"

#include <string.h>

typedef struct maker {
    tdm_graph_builder builder;
    const tdm_topology *topology;
    const tdm_device *device;
    uint32_t sm;
} maker;

static const tdm_plane *find_plane(const tdm_topology *topology, const char *name)
{
    for (uint32_t i = 0; i < topology->n_planes; i++)
        if (strcmp(topology->planes[i].name, name) == 0)
            return &topology->planes[i];
    return NULL;
}

static uint32_t add(maker *make, tdm_vertex_kind kind, uint32_t node)
{
    return tdm_graph_add(
        &make->builder,
        &(tdm_vertex){.kind = kind, .node = node, .sm = kind == TDM_VERTEX_GPU ? make->sm : 0});
}

static void join(maker *make, uint32_t a, uint32_t b, tdm_wire wire, uint32_t count,
                 double bytes_per_s, double latency_s)
{
    const tdm_vertex *vertices = make->builder.vertices;
    const char *name = tdm_arena_printf(make->builder.arena, "%s-%s-%s", vertices[a].name,
                                        tdm_wire_name(wire), vertices[b].name);
    tdm_graph_link(&make->builder, a, b, wire, count, bytes_per_s, latency_s, name);
}

static void add_adapter(maker *make, const tdm_plane *network, uint32_t node, uint32_t pcie,
                        uint32_t fabric, uint32_t gpu)
{
    const tdm_topology *topology = make->topology;
    const tdm_link *link = &topology->links[network->up[gpu]];
    double rate = topology->adapter_bytes_per_s.value;
    uint32_t nic = tdm_graph_add(
        &make->builder, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                      .node = node,
                                      .nic_bytes_per_s = rate > 0 ? rate : link->bytes_per_s,
                                      .nic_gpu_direct = true});
    join(make, nic, pcie, TDM_WIRE_PCIE, 16, make->device->pcie_bytes_per_s.value, 0);
    join(make, nic, fabric, TDM_WIRE_NETWORK, 1, link->bytes_per_s, link->latency_s);
}

static void lay_out_nvswitch(maker *make, const tdm_plane *nvlink)
{
    /* Source: NVIDIA DGX A100 and DGX H100 user guides, system topology. */
    const uint32_t per_switch = make->sm >= 90 ? 1 : 2;
    const tdm_topology *topology = make->topology;
    const tdm_plane *network = find_plane(topology, "network");
    uint32_t fabric = network ? add(make, TDM_VERTEX_SWITCH, TDM_NO_NODE) : 0;
    uint32_t per_node = topology->gpus_per_node;
    double pcie_bytes_per_s = make->device->pcie_bytes_per_s.value;
    for (uint32_t node = 0; node < topology->n_gpus / per_node; node++) {
        uint32_t sockets[2] = {add(make, TDM_VERTEX_SOCKET, node),
                               add(make, TDM_VERTEX_SOCKET, node)};
        uint32_t nvs = add(make, TDM_VERTEX_NVSWITCH, node), pcie = 0;
        join(make, sockets[0], sockets[1], TDM_WIRE_SOCKET, 1, pcie_bytes_per_s, 0);
        for (uint32_t g = 0; g < per_node; g++) {
            const tdm_link *link = &topology->links[nvlink->up[node * per_node + g]];
            if (g % per_switch == 0) {
                pcie = add(make, TDM_VERTEX_PCIE_SWITCH, node);
                join(make, pcie, sockets[2 * g / per_node], TDM_WIRE_PCIE, 16, pcie_bytes_per_s, 0);
            }
            uint32_t gpu = add(make, TDM_VERTEX_GPU, node);
            join(make, gpu, nvs, TDM_WIRE_NVLINK, (uint32_t)make->device->nvlinks.value,
                 link->bytes_per_s, link->latency_s);
            join(make, gpu, pcie, TDM_WIRE_PCIE, 16, pcie_bytes_per_s, 0);
            if (network)
                add_adapter(make, network, node, pcie, fabric, node * per_node + g);
        }
    }
}

/* GPUs, their parents (switches), theirs (sockets); where the sockets meet is no vertex. */
static void lay_out_pcie(maker *make, const tdm_plane *plane)
{
    const tdm_topology *topology = make->topology;
    uint32_t *vertex = TDM_ALLOC(make->builder.arena, uint32_t, plane->n_vertices);
    uint8_t *height = TDM_ALLOC(make->builder.arena, uint8_t, plane->n_vertices);
    for (uint32_t v = 0; v < plane->n_vertices; v++)
        if (plane->parent[v] >= 0)
            height[plane->parent[v]] = (uint8_t)(height[v] + 1);
    for (uint32_t v = 0; v < plane->n_vertices; v++)
        if (height[v] <= 2)
            vertex[v] = add(make,
                            height[v] == 0   ? TDM_VERTEX_GPU
                            : height[v] == 1 ? TDM_VERTEX_PCIE_SWITCH
                                             : TDM_VERTEX_SOCKET,
                            0);
    for (uint32_t v = 0; v < plane->n_vertices; v++) {
        const tdm_link *link = &topology->links[plane->up[v]];
        if (height[v] < 2)
            join(make, vertex[v], vertex[plane->parent[v]], TDM_WIRE_PCIE, 16, link->bytes_per_s,
                 link->latency_s);
        for (uint32_t w = v + 1; w < plane->n_vertices && height[v] == 2; w++)
            if (height[w] == 2)
                join(make, vertex[v], vertex[w], TDM_WIRE_SOCKET, 1, link->bytes_per_s,
                     2 * link->latency_s);
    }
}

tdm_code tdm_topology_graph(tdm_arena *arena, const tdm_topology *topology,
                            const tdm_device *device, tdm_graph *graph, tdm_error *err)
{
    const tdm_plane *nvlink = find_plane(topology, "nvlink"), *pcie = find_plane(topology, "pcie");
    maker make = {.topology = topology,
                  .device = device,
                  .sm = (uint32_t)(10 * device->compute_capability.value + .5)};
    const char *missing = make.sm == 0                                    ? "compute_capability"
                          : nvlink && device->nvlinks.value < 1           ? "nvlinks"
                          : nvlink && device->pcie_bytes_per_s.value == 0 ? "pcie"
                                                                          : NULL;
    if (missing)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: its device %s does not say %s, on which NCCL's choices depend",
                             topology->name, device->name, missing);
    if (!nvlink && !pcie)
        return tdm_error_add(err, TDM_E_INVALID, "%s: how its GPUs are wired is not known",
                             topology->name);
    tdm_graph_builder_init(&make.builder, arena);
    if (nvlink)
        lay_out_nvswitch(&make, nvlink);
    else
        lay_out_pcie(&make, pcie);
    *graph = tdm_graph_finish(&make.builder, topology->name);
    return TDM_OK;
}
