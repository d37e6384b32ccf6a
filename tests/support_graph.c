/* support_graph.c: machines as graphs. */
#include "tests/support_graph.h"

/* Usable by payload, one direction; what NCCL counts (core/nccl/view.c). */
static double nvlink_bytes_per_s(uint32_t sm)
{
    return sm >= 100 ? 40.1e9 : sm >= 90 ? 20.6e9 : 20e9;
}

static uint32_t add(tdm_graph_builder *b, tdm_vertex_kind kind, uint32_t node, uint32_t sm)
{
    return tdm_graph_add(b, &(tdm_vertex){.kind = kind, .node = node, .sm = sm});
}

static uint32_t add_socket(tdm_graph_builder *b, uint32_t node, tdm_cpu_vendor cpu)
{
    return tdm_graph_add(b, &(tdm_vertex){.kind = TDM_VERTEX_SOCKET,
                                          .node = node,
                                          .cpu = cpu,
                                          .cpu_family = 6,
                                          .cpu_model = cpu == TDM_CPU_INTEL ? 0x8F : 1});
}

static void join(tdm_graph_builder *b, uint32_t from, uint32_t to, tdm_wire wire, uint32_t count,
                 double bytes_per_s)
{
    const char *name = tdm_arena_printf(b->arena, "link-%u-%u", from, to);
    tdm_graph_link(b, from, to, wire, count, bytes_per_s, 1e-6, name);
}

static void add_nic(tdm_graph_builder *b, uint32_t node, uint32_t pcie, uint32_t fabric,
                    double pcie_bytes_per_s, double nic_bytes_per_s)
{
    uint32_t nic = tdm_graph_add(b, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                                  .node = node,
                                                  .nic_bytes_per_s = nic_bytes_per_s,
                                                  .nic_gpu_direct = true});
    join(b, nic, pcie, TDM_WIRE_PCIE, 16, pcie_bytes_per_s);
    join(b, nic, fabric, TDM_WIRE_NETWORK, 1, nic_bytes_per_s);
}

tdm_graph support_graph_nvswitch(tdm_arena *arena, const char *name, uint32_t n_nodes,
                                 uint32_t gpus_per_node, uint32_t sm, uint32_t n_links,
                                 double pcie_bytes_per_s, double nic_bytes_per_s)
{
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, arena);
    uint32_t fabric = nic_bytes_per_s > 0 ? add(&b, TDM_VERTEX_SWITCH, TDM_NO_NODE, 0) : 0;
    for (uint32_t node = 0; node < n_nodes; node++) {
        uint32_t nvs = add(&b, TDM_VERTEX_NVSWITCH, node, 0);
        uint32_t sockets[2] = {add_socket(&b, node, TDM_CPU_INTEL),
                               add_socket(&b, node, TDM_CPU_INTEL)};
        join(&b, sockets[0], sockets[1], TDM_WIRE_SOCKET, 1, 22e9);
        for (uint32_t g = 0, pcie = 0; g < gpus_per_node; g++) {
            uint32_t gpu = add(&b, TDM_VERTEX_GPU, node, sm);
            if (g % (sm < 90 ? 2 : 1) == 0) {
                pcie = add(&b, TDM_VERTEX_PCIE_SWITCH, node, 0);
                join(&b, pcie, sockets[2 * g / gpus_per_node], TDM_WIRE_PCIE, 16, pcie_bytes_per_s);
            }
            join(&b, gpu, nvs, TDM_WIRE_NVLINK, n_links, n_links * nvlink_bytes_per_s(sm));
            join(&b, gpu, pcie, TDM_WIRE_PCIE, 16, pcie_bytes_per_s);
            if (nic_bytes_per_s > 0 && (sm >= 80 || g % 2 == 0)) /* DGX-2: eight for sixteen */
                add_nic(&b, node, pcie, fabric, pcie_bytes_per_s, nic_bytes_per_s);
        }
    }
    return tdm_graph_finish(&b, name);
}

tdm_graph support_graph_pcie(tdm_arena *arena, const char *name, uint32_t sockets,
                             uint32_t switches, uint32_t gpus, uint32_t sm, tdm_cpu_vendor cpu)
{
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, arena);
    uint32_t last = 0;
    for (uint32_t k = 0; k < sockets; k++) {
        uint32_t socket = add_socket(&b, 0, cpu);
        if (k > 0)
            join(&b, last, socket, TDM_WIRE_SOCKET, 1, 16e9);
        last = socket;
        for (uint32_t w = 0; w < (switches ? switches : 1); w++) {
            uint32_t port = add(&b, TDM_VERTEX_ROOT_PORT, 0, 0), above = port;
            join(&b, port, socket, TDM_WIRE_PCIE, 16, 24e9);
            if (switches > 0) {
                above = add(&b, TDM_VERTEX_PCIE_SWITCH, 0, 0);
                join(&b, above, port, TDM_WIRE_PCIE, 16, 24e9);
            }
            for (uint32_t g = 0; g < gpus; g++)
                join(&b, add(&b, TDM_VERTEX_GPU, 0, sm), above, TDM_WIRE_PCIE, 16, 24e9);
        }
    }
    return tdm_graph_finish(&b, name);
}

tdm_graph support_graph_cube_mesh(tdm_arena *arena)
{
    /* Links between GPUs of a DGX-1V. Source: nvidia-smi topo -m of a DGX-1 with V100 (NVIDIA DGX-1
     * System Architecture white paper, figure 4). */
    static const uint8_t links[][3] = {
        {0, 1, 1}, {0, 2, 1}, {0, 3, 2}, {0, 4, 2}, {1, 2, 2}, {1, 3, 1}, {1, 5, 2}, {2, 3, 2},
        {2, 6, 1}, {3, 7, 1}, {4, 5, 1}, {4, 6, 1}, {4, 7, 2}, {5, 6, 2}, {5, 7, 1}, {6, 7, 2}};
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, arena);
    uint32_t gpus[8],
        sockets[2] = {add_socket(&b, 0, TDM_CPU_INTEL), add_socket(&b, 0, TDM_CPU_INTEL)};
    join(&b, sockets[0], sockets[1], TDM_WIRE_SOCKET, 1, 10e9);
    for (uint32_t g = 0; g < 8; g++) {
        gpus[g] = add(&b, TDM_VERTEX_GPU, 0, 70);
        if (g % 2 == 0) {
            uint32_t pcie = add(&b, TDM_VERTEX_PCIE_SWITCH, 0, 0);
            join(&b, pcie, sockets[g / 4], TDM_WIRE_PCIE, 16, 12e9);
            join(&b, gpus[g], pcie, TDM_WIRE_PCIE, 16, 12e9);
        } else {
            join(&b, gpus[g], gpus[g - 1] + 1, TDM_WIRE_PCIE, 16, 12e9);
        }
    }
    for (size_t i = 0; i < TDM_COUNT(links); i++)
        join(&b, gpus[links[i][0]], gpus[links[i][1]], TDM_WIRE_NVLINK, links[i][2],
             links[i][2] * 20e9);
    return tdm_graph_finish(&b, "dgx-1v");
}

/* The first n_nics GPUs of a node have an adapter beside them. */
static tdm_graph mesh4(tdm_arena *arena, const char *name, uint32_t n_nodes, uint32_t sm,
                       uint32_t n_links, uint32_t n_nics, double nic_bytes_per_s)
{
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, arena);
    uint32_t fabric = nic_bytes_per_s > 0 ? add(&b, TDM_VERTEX_SWITCH, TDM_NO_NODE, 0) : 0;
    for (uint32_t node = 0; node < n_nodes; node++) {
        uint32_t gpus[4], socket = add_socket(&b, node, TDM_CPU_AMD);
        for (uint32_t g = 0; g < 4; g++) {
            uint32_t pcie = add(&b, TDM_VERTEX_PCIE_SWITCH, node, 0);
            gpus[g] = add(&b, TDM_VERTEX_GPU, node, sm);
            join(&b, gpus[g], pcie, TDM_WIRE_PCIE, 16, sm >= 90 ? 48e9 : 24e9);
            join(&b, pcie, socket, TDM_WIRE_PCIE, 16, sm >= 90 ? 48e9 : 24e9);
            if (nic_bytes_per_s > 0 && g < n_nics)
                add_nic(&b, node, pcie, fabric, 48e9, nic_bytes_per_s);
        }
        for (uint32_t a = 0; a < 4; a++)
            for (uint32_t c = a + 1; c < 4; c++)
                join(&b, gpus[a], gpus[c], TDM_WIRE_NVLINK, n_links,
                     n_links * nvlink_bytes_per_s(sm));
    }
    return tdm_graph_finish(&b, name);
}

tdm_graph support_graph_mesh4(tdm_arena *arena, const char *name, uint32_t n_nodes, uint32_t sm,
                              uint32_t n_links, double nic_bytes_per_s)
{
    return mesh4(arena, name, n_nodes, sm, n_links, 4, nic_bytes_per_s);
}

tdm_graph support_graph_polaris(tdm_arena *arena, uint32_t n_nodes)
{
    return mesh4(arena, "polaris", n_nodes, 80, 4, 2, 25e9);
}

tdm_graph support_graph_pairs(tdm_arena *arena, uint32_t n_pairs, uint32_t sm, uint32_t n_links)
{
    tdm_graph_builder b;
    tdm_graph_builder_init(&b, arena);
    uint32_t sockets[2] = {add_socket(&b, 0, TDM_CPU_INTEL), add_socket(&b, 0, TDM_CPU_INTEL)};
    join(&b, sockets[0], sockets[1], TDM_WIRE_SOCKET, 1, 22e9);
    for (uint32_t p = 0; p < n_pairs; p++) {
        uint32_t one = add(&b, TDM_VERTEX_GPU, 0, sm), two = add(&b, TDM_VERTEX_GPU, 0, sm);
        join(&b, one, sockets[2 * p / n_pairs], TDM_WIRE_PCIE, 16, 24e9);
        join(&b, two, sockets[2 * p / n_pairs], TDM_WIRE_PCIE, 16, 24e9);
        join(&b, one, two, TDM_WIRE_NVLINK, n_links, n_links * nvlink_bytes_per_s(sm));
    }
    return tdm_graph_finish(&b, "pairs");
}
