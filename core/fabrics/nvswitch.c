/* GPUs on NVSwitch: within a node every GPU has one port into a switch that never is the
 * bottleneck; nodes are joined by a network into which every GPU has its own adapter. */
#include "fabric.h"

typedef struct network {
    tdm_value per_gpu_link;
    tdm_value latency;
    tdm_value adapter;
} network;

typedef struct spec {
    uint32_t nodes, gpus_per_node;
    tdm_value link, latency;
    network network;
} spec;

static const tdm_field network_fields[] = {
    {.key = "per_gpu_link",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(network, per_gpu_link),
     .required = true,
     .unit = TDM_UNIT_BYTES_PER_S,
     .positive = true,
     .doc = "what one GPU can send into the network, payload, one direction"},
    {.key = "latency",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(network, latency),
     .required = true,
     .unit = TDM_UNIT_SECONDS,
     .doc = "from GPU to GPU through the network"},
    {.key = "adapter",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(network, adapter),
     .unit = TDM_UNIT_BYTES_PER_S,
     .positive = true,
     .doc = "line rate of an adapter, as NCCL is told it (per_gpu_link when left out)"},
    {.key = NULL},
};

static const tdm_field fields[] = {
    {.key = "nodes",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(spec, nodes),
     .min = 1,
     .max = TDM_MAX_GPUS,
     .doc = "number of nodes (1 when left out)"},
    {.key = "gpus_per_node",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(spec, gpus_per_node),
     .required = true,
     .min = 1,
     .max = TDM_MAX_GPUS,
     .doc = "GPUs of one node"},
    {.key = "link",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(spec, link),
     .required = true,
     .unit = TDM_UNIT_BYTES_PER_S,
     .positive = true,
     .doc = "what one GPU can send into the switch, payload, one direction"},
    {.key = "latency",
     .type = TDM_FIELD_VALUE,
     .offset = offsetof(spec, latency),
     .required = true,
     .unit = TDM_UNIT_SECONDS,
     .doc = "from GPU to GPU through the switch"},
    {.key = "network",
     .type = TDM_FIELD_MAP,
     .offset = offsetof(spec, network),
     .fields = network_fields,
     .doc = "what joins the nodes"},
    {.key = NULL},
};

/* 1 when the file does not say; 0 when what it says was refused. */
static uint32_t n_nodes(const spec *s, const tdm_node *root)
{
    return tdm_node_child(root, "nodes") ? s->nodes : 1;
}

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    const spec *s = in;
    tdm_code code = TDM_OK;
    uint32_t nodes = n_nodes(s, root);
    bool joined = tdm_node_child(root, "network") != NULL;
    if (nodes > 1 && !joined)
        code = tdm_node_error_at(root, "network", err, "missing: %u nodes need a network", nodes);
    if (nodes == 1 && joined)
        code = tdm_node_error_at(root, "network", err,
                                 "one node has no use for it: set nodes or leave it out");
    if ((uint64_t)nodes * s->gpus_per_node > TDM_MAX_GPUS)
        code = tdm_node_error_at(root, "nodes", err,
                                 "%u nodes of %u GPUs are more than the %u this program handles",
                                 nodes, s->gpus_per_node, TDM_MAX_GPUS);
    return code;
}

/* A plane of GPU ports: GPU g hangs on switch g / gpus_per_switch. Half of the latency is on either
 * link. */
static tdm_plane port_plane(tdm_plane_builder *builder, const char *name, const char *port,
                            uint32_t n_gpus, uint32_t gpus_per_switch, double bytes_per_s,
                            double latency_s)
{
    tdm_plane_begin(builder, name, n_gpus + n_gpus / gpus_per_switch);
    for (uint32_t g = 0; g < n_gpus; g++)
        tdm_plane_hang(builder, g, n_gpus + g / gpus_per_switch,
                       tdm_arena_printf(builder->arena, "gpu-%u-%s", g, port), bytes_per_s,
                       latency_s / 2);
    return builder->plane;
}

static void build(tdm_arena *arena, const void *in, tdm_topology *topology)
{
    const spec *s = in;
    uint32_t nodes = s->nodes > 0 ? s->nodes : 1;
    uint32_t n_gpus = nodes * s->gpus_per_node;
    uint32_t n_planes = nodes > 1 ? 2 : 1;
    tdm_plane *planes = TDM_ALLOC(arena, tdm_plane, n_planes);
    tdm_plane_builder builder;
    tdm_plane_builder_init(&builder, arena, 2 * n_gpus * n_planes);
    planes[0] = port_plane(&builder, "nvlink", "nvlink", n_gpus, s->gpus_per_node, s->link.value,
                           s->latency.value);
    if (nodes > 1)
        planes[1] = port_plane(&builder, "network", "nic", n_gpus, n_gpus,
                               s->network.per_gpu_link.value, s->network.latency.value);
    topology->n_gpus = n_gpus;
    topology->gpus_per_node = s->gpus_per_node;
    topology->n_links = builder.n_links;
    topology->links = builder.links;
    topology->n_planes = n_planes;
    topology->planes = planes;
    topology->link_bytes_per_s = s->link;
    topology->adapter_bytes_per_s = s->network.adapter;
}

static void add_network(tdm_graph_builder *builder, const spec *s, uint32_t n_gpus)
{
    uint32_t top =
        tdm_graph_add(builder, &(tdm_vertex){.kind = TDM_VERTEX_SWITCH, .node = TDM_NO_NODE});
    double bytes_per_s = s->network.per_gpu_link.value;
    for (uint32_t g = 0; g < n_gpus; g++) {
        uint32_t nic = tdm_graph_add(builder, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                                            .node = g / s->gpus_per_node,
                                                            .nic_bytes_per_s = bytes_per_s,
                                                            .nic_gpu_direct = true});
        /* How GPU and adapter hang together is not told: no bottleneck beside the adapter. */
        tdm_graph_link(builder, nic, g, TDM_WIRE_PCIE, 16, bytes_per_s, 0,
                       tdm_arena_printf(builder->arena, "nic-%u-pcie", g));
        tdm_graph_link(builder, nic, top, TDM_WIRE_NETWORK, 1, bytes_per_s,
                       s->network.latency.value / 2,
                       tdm_arena_printf(builder->arena, "gpu-%u-nic", g));
    }
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    tdm_graph_builder builder;
    uint32_t nodes = s->nodes > 0 ? s->nodes : 1, n_gpus = nodes * s->gpus_per_node;
    uint32_t n_links = device ? (uint32_t)device->nvlinks.value : 0;
    tdm_graph_builder_init(&builder, arena);
    for (uint32_t g = 0; g < n_gpus; g++) {
        tdm_vertex gpu = tdm_fabric_gpu(device, g / s->gpus_per_node);
        tdm_graph_add(&builder, &gpu);
    }
    for (uint32_t node = 0; node < nodes; node++) {
        uint32_t nvswitch =
            tdm_graph_add(&builder, &(tdm_vertex){.kind = TDM_VERTEX_NVSWITCH, .node = node});
        for (uint32_t g = node * s->gpus_per_node; g < (node + 1) * s->gpus_per_node; g++)
            tdm_graph_link(&builder, g, nvswitch, TDM_WIRE_NVLINK, n_links ? n_links : 1,
                           s->link.value, s->latency.value / 2,
                           tdm_arena_printf(arena, "gpu-%u-nvlink", g));
    }
    if (nodes > 1)
        add_network(&builder, s, n_gpus);
    return tdm_graph_finish(&builder, name);
}

const tdm_fabric tdm_fabric_nvswitch = {
    .name = "nvswitch",
    .summary = "nodes of GPUs on NVSwitch, joined by a network with one adapter per GPU",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .build = build,
    .graph = graph,
};
