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

/* What a graph is made of besides the spec. */
typedef struct maker {
    tdm_graph_builder builder;
    const spec *spec;
    const tdm_device *device; /* NULL: not known */
    uint32_t network;         /* its switch; only with several nodes */
    bool networked;
} maker;

static uint32_t add(maker *make, tdm_vertex_kind kind, uint32_t node)
{
    return tdm_graph_add(&make->builder, &(tdm_vertex){.kind = kind, .node = node});
}

static uint32_t add_gpu(maker *make, uint32_t node, uint32_t nvswitch)
{
    tdm_vertex vertex = tdm_fabric_gpu(make->device, node);
    uint32_t gpu = tdm_graph_add(&make->builder, &vertex);
    uint32_t n_links = make->device ? (uint32_t)make->device->nvlinks.value : 0;
    tdm_graph_link(
        &make->builder, gpu, nvswitch, TDM_WIRE_NVLINK, n_links ? n_links : 1,
        make->spec->link.value, make->spec->latency.value / 2,
        tdm_arena_printf(make->builder.arena, "%s-nvlink", make->builder.vertices[gpu].name));
    return gpu;
}

/* The adapter of a GPU, hanging on `host`: a PCIe switch, or the GPU itself. */
static void add_adapter(maker *make, uint32_t gpu, uint32_t node, uint32_t host,
                        double host_bytes_per_s)
{
    const network *n = &make->spec->network;
    const char *name = make->builder.vertices[gpu].name;
    double rate = n->adapter.value > 0 ? n->adapter.value : n->per_gpu_link.value;
    uint32_t nic = tdm_graph_add(&make->builder, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                                               .node = node,
                                                               .nic_bytes_per_s = rate,
                                                               .nic_gpu_direct = true});
    tdm_graph_link(&make->builder, nic, host, TDM_WIRE_PCIE, 16, host_bytes_per_s, 0,
                   tdm_arena_printf(make->builder.arena, "%s-nic-pcie", name));
    tdm_graph_link(&make->builder, nic, make->network, TDM_WIRE_NETWORK, 1, n->per_gpu_link.value,
                   n->latency.value / 2, tdm_arena_printf(make->builder.arena, "%s-nic", name));
}

static void link_pcie(maker *make, uint32_t lower, uint32_t upper)
{
    tdm_graph_link(
        &make->builder, lower, upper, TDM_WIRE_PCIE, 16, make->device->pcie_bytes_per_s.value, 0,
        tdm_arena_printf(make->builder.arena, "%s-pcie", make->builder.vertices[lower].name));
}

/* The host side, which the file does not tell, as the makers of such nodes lay it out: two sockets,
 * and under them PCIe switches with one GPU and one adapter each (Hopper and later) or two of both
 * (Ampere and before). Source: NVIDIA DGX A100 and DGX H100 user guides, system topology. */
static void add_node(maker *make, uint32_t node)
{
    const uint32_t per_node = make->spec->gpus_per_node;
    const uint32_t per_switch = make->device->compute_capability.value >= 9 ? 1 : 2;
    double pcie_bytes_per_s = make->device->pcie_bytes_per_s.value;
    uint32_t sockets[2];
    for (int32_t i = 0; i < 2; i++)
        sockets[i] = tdm_graph_add(
            &make->builder, &(tdm_vertex){.kind = TDM_VERTEX_SOCKET, .node = node, .numa = i});
    uint32_t nvswitch = add(make, TDM_VERTEX_NVSWITCH, node), pcie = 0;
    tdm_graph_link(&make->builder, sockets[0], sockets[1], TDM_WIRE_SOCKET, 1, pcie_bytes_per_s, 0,
                   tdm_arena_printf(make->builder.arena, "node-%u-sockets", node));
    for (uint32_t g = 0; g < per_node; g++) {
        if (g % per_switch == 0) {
            pcie = add(make, TDM_VERTEX_PCIE_SWITCH, node);
            link_pcie(make, pcie, sockets[2 * g / per_node]);
        }
        uint32_t gpu = add_gpu(make, node, nvswitch);
        link_pcie(make, gpu, pcie);
        if (make->networked)
            add_adapter(make, gpu, node, pcie, pcie_bytes_per_s);
    }
}

/* Where the device does not say what its PCIe link carries: GPUs and adapters alone, with no
 * bottleneck between them. */
static void add_bare_node(maker *make, uint32_t node)
{
    uint32_t nvswitch = add(make, TDM_VERTEX_NVSWITCH, node);
    for (uint32_t g = 0; g < make->spec->gpus_per_node; g++) {
        uint32_t gpu = add_gpu(make, node, nvswitch);
        if (make->networked)
            add_adapter(make, gpu, node, gpu, make->spec->network.per_gpu_link.value);
    }
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    uint32_t nodes = s->nodes > 0 ? s->nodes : 1;
    maker make = {.spec = s, .device = device, .networked = nodes > 1};
    bool host = device && device->pcie_bytes_per_s.value > 0;
    tdm_graph_builder_init(&make.builder, arena);
    if (make.networked)
        make.network = add(&make, TDM_VERTEX_SWITCH, TDM_NO_NODE);
    for (uint32_t node = 0; node < nodes; node++)
        if (host)
            add_node(&make, node);
        else
            add_bare_node(&make, node);
    return tdm_graph_finish(&make.builder, name);
}

const tdm_fabric tdm_fabric_nvswitch = {
    .name = "nvswitch",
    .summary = "nodes of GPUs on NVSwitch, joined by a network with one adapter per GPU",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .graph = graph,
};
