/* One server of GPUs on PCIe: GPUs under switches, switches under sockets, sockets joined by their
 * own link. Traffic takes the shortest way through the tree; what several GPUs send through one
 * uplink shares it. */
#include "fabric.h"

typedef struct spec {
    uint32_t sockets, switches_per_socket, gpus_per_switch;
    tdm_value gpu_link, switch_link, socket_link;
    tdm_value latency, socket_latency;
    tdm_value switch_capacity, socket_capacity;
} spec;

#define COUNT(name, text)                                                                          \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_UINT32, .offset = offsetof(spec, name), .required = true,  \
        .min = 1, .max = 64, .doc = text                                                           \
    }
#define QUANTITY(name, what, is_positive, is_required, text)                                       \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_VALUE, .offset = offsetof(spec, name),                     \
        .required = is_required, .unit = what, .positive = is_positive, .doc = text                \
    }

static const tdm_field fields[] = {
    COUNT(sockets, "processor sockets"),
    COUNT(switches_per_socket, "PCIe switches under one socket"),
    COUNT(gpus_per_switch, "GPUs under one switch"),
    QUANTITY(gpu_link, TDM_UNIT_BYTES_PER_S, true, true,
             "GPU to its switch, payload, one direction"),
    QUANTITY(switch_link, TDM_UNIT_BYTES_PER_S, true, true,
             "a switch's uplink, payload, one direction"),
    QUANTITY(socket_link, TDM_UNIT_BYTES_PER_S, true, false,
             "between sockets, payload, one direction"),
    QUANTITY(latency, TDM_UNIT_SECONDS, false, true, "of one PCIe link"),
    QUANTITY(socket_latency, TDM_UNIT_SECONDS, false, false, "from socket to socket"),
    QUANTITY(switch_capacity, TDM_UNIT_BYTES_PER_S, true, false,
             "of all that passes one switch, both directions together (what its links take when "
             "left out)"),
    QUANTITY(socket_capacity, TDM_UNIT_BYTES_PER_S, true, false,
             "of all that passes one socket from device to device (what its links take when left "
             "out)"),
    {.key = NULL},
};

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    static const char *const keys[] = {"socket_link", "socket_latency"};
    const spec *s = in;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < TDM_COUNT(keys); i++) {
        bool given = tdm_node_child(root, keys[i]) != NULL;
        if (s->sockets > 1 && !given)
            code = tdm_node_error_at(root, keys[i], err, "missing: %u sockets are joined by links",
                                     s->sockets);
        if (s->sockets == 1 && given)
            code = tdm_node_error_at(root, keys[i], err,
                                     "one socket has no use for it: set sockets or leave it out");
    }
    if ((uint64_t)s->sockets * s->switches_per_socket * s->gpus_per_switch > TDM_MAX_GPUS)
        code =
            tdm_node_error_at(root, "sockets", err,
                              "%u sockets of %u switches of %u GPUs are more than the %u GPUs this "
                              "program handles",
                              s->sockets, s->switches_per_socket, s->gpus_per_switch, TDM_MAX_GPUS);
    return code;
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    tdm_graph_builder builder;
    const tdm_pcie_tree tree = {.sockets = s->sockets,
                                .switches_per_socket = s->switches_per_socket,
                                .gpus_per_switch = s->gpus_per_switch,
                                .gpu_link_bytes_per_s = s->gpu_link.value,
                                .switch_link_bytes_per_s = s->switch_link.value,
                                .socket_link_bytes_per_s = s->socket_link.value,
                                .latency_s = s->latency.value,
                                .socket_latency_s = s->socket_latency.value,
                                .switch_capacity_bytes_per_s = s->switch_capacity.value,
                                .socket_capacity_bytes_per_s = s->socket_capacity.value};
    tdm_graph_builder_init(&builder, arena);
    tdm_pcie_tree_add(&builder, &tree, device);
    return tdm_graph_finish(&builder, name);
}

const tdm_fabric tdm_fabric_pcie_tree = {
    .name = "pcie-tree",
    .summary = "one server: GPUs under PCIe switches, switches under sockets",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .graph = graph,
};
