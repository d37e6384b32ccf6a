/* One server whose GPUs are joined by NVLink directly, without a switch, beside a PCIe tree: the
 * hybrid cube mesh of DGX-1, cards bridged in pairs, or every GPU to every other. */
#include "fabric.h"
#include "import.h"

typedef enum shape { CUBE_MESH, PAIRS, ALL_TO_ALL } shape;

typedef struct spec {
    int shape;
    uint32_t links_per_pair;
    uint32_t sockets, switches_per_socket, gpus_per_switch;
    tdm_value nvlink, nvlink_latency;
    tdm_value gpu_link, switch_link, socket_link;
    tdm_value latency, socket_latency;
} spec;

static const tdm_choice shapes[] = {{"hybrid-cube-mesh", CUBE_MESH, false},
                                    {"pairs", PAIRS, false},
                                    {"all-to-all", ALL_TO_ALL, false},
                                    {NULL, 0, false}};

#define COUNT(name, is_required, text)                                                             \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_UINT32, .offset = offsetof(spec, name),                    \
        .required = is_required, .min = 1, .max = 64, .doc = text                                  \
    }
#define QUANTITY(name, what, is_positive, is_required, text)                                       \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_VALUE, .offset = offsetof(spec, name),                     \
        .required = is_required, .unit = what, .positive = is_positive, .doc = text                \
    }

static const tdm_field fields[] = {
    {.key = "shape",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(spec, shape),
     .required = true,
     .choices = shapes,
     .doc = "how NVLink joins the GPUs"},
    COUNT(links_per_pair, false, "NVLinks between two GPUs that are joined (not hybrid-cube-mesh)"),
    COUNT(sockets, true, "processor sockets"),
    COUNT(switches_per_socket, true, "PCIe switches under one socket"),
    COUNT(gpus_per_switch, true, "GPUs under one switch"),
    QUANTITY(nvlink, TDM_UNIT_BYTES_PER_S, true, true, "one NVLink, payload, one direction"),
    QUANTITY(nvlink_latency, TDM_UNIT_SECONDS, false, true, "from GPU to GPU by NVLink"),
    QUANTITY(gpu_link, TDM_UNIT_BYTES_PER_S, true, true,
             "GPU to its switch, payload, one direction"),
    QUANTITY(switch_link, TDM_UNIT_BYTES_PER_S, true, true,
             "a switch's uplink, payload, one direction"),
    QUANTITY(socket_link, TDM_UNIT_BYTES_PER_S, true, false,
             "between sockets, payload, one direction"),
    QUANTITY(latency, TDM_UNIT_SECONDS, false, true, "of one PCIe link"),
    QUANTITY(socket_latency, TDM_UNIT_SECONDS, false, false, "from socket to socket"),
    {.key = NULL},
};

static uint64_t n_gpus(const spec *s)
{
    return (uint64_t)s->sockets * s->switches_per_socket * s->gpus_per_switch;
}

static tdm_code check_shape(const spec *s, const tdm_node *root, tdm_error *err)
{
    tdm_code code = TDM_OK;
    bool has_links = tdm_node_child(root, "links_per_pair") != NULL;
    const tdm_node *given = tdm_node_child(root, "shape");
    if (!given || given->faulty || n_gpus(s) == 0)
        return TDM_OK; /* said already */
    if (s->shape == CUBE_MESH && has_links)
        code = tdm_node_error_at(root, "links_per_pair", err,
                                 "a hybrid-cube-mesh has its own numbers: leave it out");
    if (s->shape != CUBE_MESH && !has_links)
        code = tdm_node_error_at(root, "links_per_pair", err, "missing: shape %s needs it",
                                 given->text);
    if (s->shape == CUBE_MESH && n_gpus(s) != 8)
        code = tdm_node_error_at(root, "shape", err, "a hybrid-cube-mesh has 8 GPUs, not %u",
                                 (unsigned)n_gpus(s));
    if (s->shape == PAIRS && n_gpus(s) % 2 != 0)
        code =
            tdm_node_error_at(root, "shape", err, "%u GPUs do not make pairs", (unsigned)n_gpus(s));
    return code;
}

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    static const char *const keys[] = {"socket_link", "socket_latency"};
    const spec *s = in;
    tdm_code code = check_shape(s, root, err);
    for (uint32_t i = 0; i < TDM_COUNT(keys); i++) {
        bool given = tdm_node_child(root, keys[i]) != NULL;
        if (s->sockets > 1 && !given)
            code = tdm_node_error_at(root, keys[i], err, "missing: %u sockets are joined by links",
                                     s->sockets);
        if (s->sockets == 1 && given)
            code = tdm_node_error_at(root, keys[i], err,
                                     "one socket has no use for it: set sockets or leave it out");
    }
    if (n_gpus(s) > TDM_MAX_GPUS)
        code =
            tdm_node_error_at(root, "sockets", err,
                              "%u sockets of %u switches of %u GPUs are more than the %u GPUs "
                              "this program handles",
                              s->sockets, s->switches_per_socket, s->gpus_per_switch, TDM_MAX_GPUS);
    return code;
}

static uint32_t links_between(const spec *s, uint32_t a, uint32_t b)
{
    if (s->shape == CUBE_MESH)
        return tdm_cube_mesh_links(a, b);
    return s->shape == ALL_TO_ALL || (a ^ 1) == b ? s->links_per_pair : 0;
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    uint32_t n = (uint32_t)n_gpus(s);
    tdm_graph_builder builder;
    const tdm_pcie_tree tree = {.sockets = s->sockets,
                                .switches_per_socket = s->switches_per_socket,
                                .gpus_per_switch = s->gpus_per_switch,
                                .gpu_link_bytes_per_s = s->gpu_link.value,
                                .switch_link_bytes_per_s = s->switch_link.value,
                                .socket_link_bytes_per_s = s->socket_link.value,
                                .latency_s = s->latency.value,
                                .socket_latency_s = s->socket_latency.value};
    tdm_graph_builder_init(&builder, arena);
    tdm_pcie_tree_add(&builder, &tree, device);
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = a + 1; b < n; b++)
            if (links_between(s, a, b) > 0)
                tdm_graph_link(&builder, a, b, TDM_WIRE_NVLINK, links_between(s, a, b),
                               links_between(s, a, b) * s->nvlink.value, s->nvlink_latency.value,
                               tdm_arena_printf(arena, "gpu-%u-%u-nvlink", a, b));
    return tdm_graph_finish(&builder, name);
}

const tdm_fabric tdm_fabric_nvlink_mesh = {
    .name = "nvlink-mesh",
    .summary =
        "one server: GPUs joined by NVLink without a switch (shown by topo, not predicted on)",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .graph = graph,
};
