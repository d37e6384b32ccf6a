/* One machine, told by what is in it: sockets and their processors, PCIe switches, GPUs, how NVLink
 * joins them, and where the network adapters sit. Everything is spread evenly: GPUs over switches
 * (sockets where there are none), switches over sockets, adapters over either. Speeds are NCCL's
 * for what the file names (graph_rates.h): they are what payload gets of large messages. */
#include "fabric.h"
#include "graph_rates.h"
#include "import.h"
#include "network.h"

typedef enum wiring { NONE, SWITCH, CUBE_MESH, PAIRS, ALL_TO_ALL } wiring;
typedef enum place { BY_DEFAULT, AT_SWITCH, AT_SOCKET } place;

typedef struct adapters {
    uint32_t count;
    tdm_value rate, latency;
    int beside, indirect;
} adapters;

typedef struct spec {
    uint32_t sockets, switches, gpus, pcie, links_per_pair;
    int cpu, nvlink;
    tdm_value nvlink_rate, c2c, switch_capacity, socket_capacity;
    adapters adapters;
} spec;

static const tdm_choice wirings[] = {{"none", NONE, false},
                                     {"switch", SWITCH, false},
                                     {"hybrid-cube-mesh", CUBE_MESH, false},
                                     {"pairs", PAIRS, false},
                                     {"all-to-all", ALL_TO_ALL, false},
                                     {NULL, 0, false}};
static const tdm_choice places[] = {
    {"switch", AT_SWITCH, false}, {"socket", AT_SOCKET, false}, {NULL, 0, false}};

static const tdm_choice directness[] = {{"true", 0, false}, {"false", 1, false}, {NULL, 0, false}};

#define COUNT(type_, name, is_required, low, high, text)                                           \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_UINT32, .offset = offsetof(type_, name),                   \
        .required = is_required, .min = low, .max = high, .doc = text                              \
    }
#define QUANTITY(type_, name, what, is_required, is_positive, text)                                \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_VALUE, .offset = offsetof(type_, name),                    \
        .required = is_required, .unit = what, .positive = is_positive, .doc = text                \
    }
#define CHOICE(type_, name, is_required, names, text)                                              \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_CHOICE, .offset = offsetof(type_, name),                   \
        .required = is_required, .choices = names, .doc = text                                     \
    }

static const tdm_field adapter_fields[] = {
    COUNT(adapters, count, true, 1, 128, "adapter ports that the GPUs use"),
    QUANTITY(adapters, rate, TDM_UNIT_BYTES_PER_S, true, true, "line rate of one, as NCCL sees it"),
    QUANTITY(adapters, latency, TDM_UNIT_SECONDS, false, false, "that NCCL's XML gives it"),
    CHOICE(adapters, beside, false, places, "what they hang on (switches where there are some)"),
    {.key = "gpu_direct",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(adapters, indirect),
     .choices = directness,
     .doc = "whether they read GPU memory themselves (true when left out)"},
    {.key = NULL},
};

static const tdm_field fields[] = {
    COUNT(spec, gpus, true, 1, 128, "GPUs"),
    COUNT(spec, sockets, true, 1, 16, "processor sockets, or NUMA nodes"),
    CHOICE(spec, cpu, true, tdm_fabric_cpus, "processor"),
    COUNT(spec, switches, false, 0, 64, "PCIe switches in all (none when left out)"),
    COUNT(spec, pcie, true, 1, 6, "PCIe generation of all its links, 16 lanes each"),
    CHOICE(spec, nvlink, true, wirings, "how NVLink joins the GPUs"),
    COUNT(
        spec, links_per_pair, false, 1, 64,
        "NVLinks between two GPUs that are joined directly (all of a GPU, shared out evenly, when "
        "left out)"),
    QUANTITY(spec, nvlink_rate, TDM_UNIT_BYTES_PER_S, false, true,
             "one NVLink, payload, one direction (what NCCL counts when left out)"),
    QUANTITY(spec, c2c, TDM_UNIT_BYTES_PER_S, false, true,
             "of a GPU to its own processor, one direction"),
    QUANTITY(spec, switch_capacity, TDM_UNIT_BYTES_PER_S, false, true,
             "of all that passes one PCIe switch, both directions together (what its links take "
             "when left out)"),
    QUANTITY(spec, socket_capacity, TDM_UNIT_BYTES_PER_S, false, true,
             "of all that passes one socket from device to device (what its links take when left "
             "out)"),
    {.key = "adapters",
     .type = TDM_FIELD_MAP,
     .offset = offsetof(spec, adapters),
     .fields = adapter_fields,
     .doc = "network adapters, as 8 x 400Gbit/s"},
    {.key = NULL},
};

static tdm_code prepare(tdm_arena *arena, tdm_node *root, tdm_error *err)
{
    return tdm_network_expand(arena, root, "adapters", false, "count", adapter_fields, err);
}

static tdm_code check_even(uint32_t n, const char *what, uint32_t places_, const char *where,
                           const tdm_node *root, tdm_error *err)
{
    if (n == 0 || places_ == 0 || n % places_ == 0)
        return TDM_OK;
    return tdm_node_error_at(root, what, err, "%u %s cannot be spread evenly over %u %s", n, what,
                             places_, where);
}

static tdm_code check_nvlink(const spec *s, const tdm_node *root, tdm_error *err)
{
    tdm_code code = TDM_OK;
    bool direct = s->nvlink == PAIRS || s->nvlink == ALL_TO_ALL;
    const tdm_node *given = tdm_node_child(root, "nvlink");
    if (!given || given->faulty || s->gpus == 0)
        return TDM_OK; /* said already */
    if (s->nvlink == CUBE_MESH && s->gpus != 8)
        code = tdm_node_error_at(root, "nvlink", err, "a hybrid-cube-mesh has 8 GPUs, not %u",
                                 s->gpus);
    if (s->nvlink == PAIRS && s->gpus % 2 != 0)
        code = tdm_node_error_at(root, "nvlink", err, "%u GPUs do not make pairs", s->gpus);
    if (!direct && tdm_node_child(root, "links_per_pair"))
        code = tdm_node_error_at(root, "links_per_pair", err,
                                 "nvlink: %s has no use for it: leave it out", given->text);
    if (s->nvlink == NONE && tdm_node_child(root, "nvlink_rate"))
        code = tdm_node_error_at(root, "nvlink_rate", err,
                                 "nvlink: none has no use for it: leave it out");
    return code;
}

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    const spec *s = in;
    tdm_code code = check_nvlink(s, root, err);
    if (check_even(s->switches, "switches", s->sockets, "sockets", root, err) != TDM_OK)
        code = TDM_E_INVALID;
    if (s->switches > 0 ? check_even(s->gpus, "gpus", s->switches, "switches", root, err) != TDM_OK
                        : check_even(s->gpus, "gpus", s->sockets, "sockets", root, err) != TDM_OK)
        code = TDM_E_INVALID;
    if (s->switch_capacity.value > 0 && s->switches == 0)
        code = tdm_node_error_at(root, "switch_capacity", err, "there are no PCIe switches");
    if (s->adapters.beside == AT_SWITCH && s->switches == 0)
        code = tdm_node_error_at(root, "adapters.beside", err,
                                 "there are no PCIe switches: expected socket");
    return code;
}

static tdm_code check_device(const void *in, const tdm_device *device, const tdm_node *root,
                             tdm_error *err)
{
    const spec *s = in;
    uint32_t n = (uint32_t)device->nvlinks.value, needed = 1;
    if (tdm_fabric_check_capability(device, root, err) != TDM_OK)
        return TDM_E_INVALID;
    if (s->nvlink == CUBE_MESH)
        needed = 6;
    else if (s->nvlink == ALL_TO_ALL || s->nvlink == PAIRS)
        needed = (s->links_per_pair ? s->links_per_pair : 1) *
                 (s->nvlink == PAIRS || s->gpus < 2 ? 1 : s->gpus - 1);
    if (s->nvlink == NONE || n >= needed)
        return TDM_OK;
    return tdm_node_error_at(root, "nvlink", err,
                             "takes %u NVLinks of each GPU, and device %s has %u", needed,
                             device->name, n);
}

typedef struct maker {
    tdm_graph_builder builder;
    const spec *spec;
    const tdm_device *device;
    uint32_t *sockets, *switches, *gpus;
} maker;

/* Item i of n over m places, in order. */
static uint32_t spread(uint32_t i, uint32_t n, uint32_t m)
{
    return (uint32_t)((uint64_t)i * m / n);
}

static const char *link_name(const maker *make, uint32_t vertex, const char *what)
{
    return tdm_arena_printf(make->builder.arena, "%s-%s", make->builder.vertices[vertex].name,
                            what);
}

static void hang(maker *make, uint32_t vertex, uint32_t parent)
{
    tdm_graph_link(&make->builder, vertex, parent, TDM_WIRE_PCIE, 16,
                   tdm_rate_pcie(make->spec->pcie, 16), TDM_LATENCY_PCIE_S,
                   link_name(make, vertex, "pcie"));
}

static void add_host(maker *make)
{
    const spec *s = make->spec;
    for (uint32_t k = 0; k < s->sockets; k++) {
        tdm_vertex socket = tdm_fabric_socket(s->cpu, (int32_t)k);
        socket.through_bytes_per_s = s->socket_capacity.value;
        make->sockets[k] = tdm_graph_add(&make->builder, &socket);
    }
    for (uint32_t w = 0; w < s->switches; w++) {
        make->switches[w] = tdm_graph_add(
            &make->builder, &(tdm_vertex){.kind = TDM_VERTEX_PCIE_SWITCH,
                                          .through_bytes_per_s = s->switch_capacity.value});
        hang(make, make->switches[w], make->sockets[spread(w, s->switches, s->sockets)]);
    }
}

static uint32_t host_of(const maker *make, uint32_t i, uint32_t n, bool at_switch)
{
    return at_switch ? make->switches[spread(i, n, make->spec->switches)]
                     : make->sockets[spread(i, n, make->spec->sockets)];
}

static void add_gpus(maker *make)
{
    const spec *s = make->spec;
    for (uint32_t g = 0; g < s->gpus; g++) {
        tdm_vertex gpu = tdm_fabric_gpu(make->device, 0);
        make->gpus[g] = tdm_graph_add(&make->builder, &gpu);
        hang(make, make->gpus[g], host_of(make, g, s->gpus, s->switches > 0));
        if (s->c2c.value > 0)
            tdm_graph_link(&make->builder, make->gpus[g],
                           make->sockets[spread(g, s->gpus, s->sockets)], TDM_WIRE_C2C, 1,
                           s->c2c.value, TDM_LATENCY_NVLINK_HALF_S,
                           link_name(make, make->gpus[g], "c2c"));
    }
}

static void add_adapters(maker *make)
{
    const adapters *a = &make->spec->adapters;
    bool at_switch = make->spec->switches > 0 && a->beside != AT_SOCKET;
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t nic =
            tdm_graph_add(&make->builder, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                                        .nic_bytes_per_s = a->rate.value,
                                                        .nic_latency_s = a->latency.value,
                                                        .nic_gpu_direct = !a->indirect});
        hang(make, nic, host_of(make, i, a->count, at_switch));
    }
}

static uint32_t links_between(const maker *make, uint32_t a, uint32_t b, uint32_t of_gpu)
{
    const spec *s = make->spec;
    if (s->nvlink == CUBE_MESH)
        return tdm_cube_mesh_links(a, b);
    if (s->nvlink == PAIRS)
        return (a ^ 1) != b ? 0 : s->links_per_pair ? s->links_per_pair : of_gpu;
    return s->links_per_pair ? s->links_per_pair : of_gpu / (s->gpus - 1);
}

static void add_nvlinks(maker *make)
{
    const spec *s = make->spec;
    tdm_graph_builder *b = &make->builder;
    uint32_t of_gpu = make->device ? (uint32_t)make->device->nvlinks.value : 0;
    double rate = s->nvlink_rate.value > 0 ? s->nvlink_rate.value
                                           : tdm_rate_nvlink(b->vertices[make->gpus[0]].sm);
    uint32_t nvswitch = 0;
    if (s->nvlink == SWITCH)
        nvswitch = tdm_graph_add(b, &(tdm_vertex){.kind = TDM_VERTEX_NVSWITCH});
    for (uint32_t g = 0; g < s->gpus && s->nvlink != NONE; g++) {
        uint32_t gpu = make->gpus[g];
        if (s->nvlink == SWITCH)
            tdm_graph_link(b, gpu, nvswitch, TDM_WIRE_NVLINK, of_gpu, of_gpu * rate,
                           TDM_LATENCY_NVLINK_HALF_S, link_name(make, gpu, "nvlink"));
        for (uint32_t h = g + 1; h < s->gpus && s->nvlink != SWITCH; h++) {
            uint32_t n = links_between(make, g, h, of_gpu);
            if (n > 0)
                tdm_graph_link(b, gpu, make->gpus[h], TDM_WIRE_NVLINK, n, n * rate,
                               2 * TDM_LATENCY_NVLINK_HALF_S,
                               tdm_arena_printf(b->arena, "%s-nvlink-%s", b->vertices[gpu].name,
                                                b->vertices[make->gpus[h]].name));
        }
    }
}

static void join_sockets(maker *make)
{
    const tdm_vertex *first = &make->builder.vertices[make->sockets[0]];
    double rate = tdm_rate_socket(first->cpu, first->cpu_family, first->cpu_model);
    for (uint32_t a = 0; a < make->spec->sockets; a++)
        for (uint32_t b = a + 1; b < make->spec->sockets; b++)
            tdm_graph_link(
                &make->builder, make->sockets[a], make->sockets[b], TDM_WIRE_SOCKET, 1, rate,
                TDM_LATENCY_SOCKET_S,
                link_name(make, make->sockets[a], make->builder.vertices[make->sockets[b]].name));
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    maker make = {.spec = in, .device = device};
    make.sockets = TDM_ALLOC(arena, uint32_t, make.spec->sockets);
    make.switches = TDM_ALLOC(arena, uint32_t, make.spec->switches + 1);
    make.gpus = TDM_ALLOC(arena, uint32_t, make.spec->gpus);
    tdm_graph_builder_init(&make.builder, arena);
    add_host(&make);
    add_gpus(&make);
    add_adapters(&make);
    add_nvlinks(&make);
    join_sockets(&make);
    return tdm_graph_finish(&make.builder, name);
}

const tdm_fabric tdm_fabric_server = {
    .name = "server",
    .summary = "one machine: sockets, PCIe switches, GPUs, NVLink and adapters, spread evenly",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .prepare = prepare,
    .check = check,
    .check_device = check_device,
    .graph = graph,
};
