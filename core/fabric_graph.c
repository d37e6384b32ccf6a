/* fabric_graph.c: what the graphs of several fabrics have in common. */
#include "fabric.h"

#include <math.h>

tdm_vertex tdm_fabric_gpu(const tdm_device *device, uint32_t node)
{
    double capability = device ? device->compute_capability.value : 0;
    return (tdm_vertex){
        .kind = TDM_VERTEX_GPU, .node = node, .sm = (uint32_t)lround(capability * 10)};
}

tdm_code tdm_fabric_check_capability(const tdm_device *device, const tdm_node *root, tdm_error *err)
{
    if (device->compute_capability.value > 0)
        return TDM_OK;
    return tdm_node_error_at(root, "device", err,
                             "%s: its file does not say compute_capability, on which NCCL's speeds "
                             "and choices depend",
                             device->name);
}

static void join_sockets(tdm_graph_builder *builder, const tdm_pcie_tree *tree,
                         const uint32_t *sockets)
{
    for (uint32_t a = 0; a < tree->sockets; a++)
        for (uint32_t b = a + 1; b < tree->sockets; b++)
            tdm_graph_link(builder, sockets[a], sockets[b], TDM_WIRE_SOCKET, 1,
                           tree->socket_link_bytes_per_s, tree->socket_latency_s,
                           tdm_arena_printf(builder->arena, "socket-%u-%u", a, b));
}

static void add_switch(tdm_graph_builder *builder, const tdm_pcie_tree *tree, uint32_t index,
                       uint32_t socket)
{
    uint32_t root = tdm_graph_add(builder, &(tdm_vertex){.kind = TDM_VERTEX_ROOT_PORT});
    uint32_t pcie_switch = tdm_graph_add(
        builder, &(tdm_vertex){.kind = TDM_VERTEX_PCIE_SWITCH,
                               .through_bytes_per_s = tree->switch_capacity_bytes_per_s});
    /* The port is part of the processor: no latency of its own. */
    tdm_graph_link(builder, root, socket, TDM_WIRE_PCIE, 16, tree->switch_link_bytes_per_s, 0,
                   tdm_arena_printf(builder->arena, "root-port-%u", index));
    tdm_graph_link(builder, pcie_switch, root, TDM_WIRE_PCIE, 16, tree->switch_link_bytes_per_s,
                   tree->latency_s, tdm_arena_printf(builder->arena, "switch-%u-pcie", index));
    for (uint32_t g = 0; g < tree->gpus_per_switch; g++) {
        uint32_t gpu = index * tree->gpus_per_switch + g;
        tdm_graph_link(builder, gpu, pcie_switch, TDM_WIRE_PCIE, 16, tree->gpu_link_bytes_per_s,
                       tree->latency_s, tdm_arena_printf(builder->arena, "gpu-%u-pcie", gpu));
    }
}

void tdm_pcie_tree_add(tdm_graph_builder *builder, const tdm_pcie_tree *tree,
                       const tdm_device *device)
{
    uint32_t n_switches = tree->sockets * tree->switches_per_socket;
    uint32_t *sockets = TDM_ALLOC(builder->arena, uint32_t, tree->sockets);
    tdm_vertex gpu = tdm_fabric_gpu(device, 0);
    for (uint32_t g = 0; g < n_switches * tree->gpus_per_switch; g++)
        tdm_graph_add(builder, &gpu);
    for (uint32_t s = 0; s < tree->sockets; s++) {
        sockets[s] = tdm_graph_add(
            builder, &(tdm_vertex){.kind = TDM_VERTEX_SOCKET,
                                   .numa = (int32_t)s,
                                   .through_bytes_per_s = tree->socket_capacity_bytes_per_s});
        for (uint32_t w = 0; w < tree->switches_per_socket; w++)
            add_switch(builder, tree, s * tree->switches_per_socket + w, sockets[s]);
    }
    join_sockets(builder, tree, sockets);
}
