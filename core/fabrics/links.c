/* One machine, link by link: what no other fabric describes, as asymmetric directions, broken or
 * missing links, adapters in odd places. */
#include "fabric.h"
#include "graph_rates.h"

#include <string.h>

typedef struct vertex {
    const char *name;
    int kind, cpu;
    tdm_value rate, latency;
    uint32_t numa;
} vertex;

typedef struct link_line {
    const char *from, *to;
    int wire;
    uint32_t count;
    tdm_value bandwidth, back, latency;
} link_line;

typedef struct spec {
    tdm_list vertices; /* of vertex */
    tdm_list links;    /* of link_line */
} spec;

static const tdm_choice kinds[] = {{"gpu", TDM_VERTEX_GPU, false},
                                   {"nvswitch", TDM_VERTEX_NVSWITCH, false},
                                   {"pcie-switch", TDM_VERTEX_PCIE_SWITCH, false},
                                   {"root-port", TDM_VERTEX_ROOT_PORT, false},
                                   {"socket", TDM_VERTEX_SOCKET, false},
                                   {"nic", TDM_VERTEX_NIC, false},
                                   {NULL, 0, false}};
static const tdm_choice wires[] = {{"nvlink", TDM_WIRE_NVLINK, false},
                                   {"c2c", TDM_WIRE_C2C, false},
                                   {"pcie", TDM_WIRE_PCIE, false},
                                   {"socket", TDM_WIRE_SOCKET, false},
                                   {NULL, 0, false}};

#define TEXT(type_, name, text)                                                                    \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_TEXT, .offset = offsetof(type_, name), .required = true,   \
        .doc = text                                                                                \
    }
#define CHOICE(type_, name, is_required, names, text)                                              \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_CHOICE, .offset = offsetof(type_, name),                   \
        .required = is_required, .choices = names, .doc = text                                     \
    }
#define QUANTITY(type_, name, what, is_required, is_positive, text)                                \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_VALUE, .offset = offsetof(type_, name),                    \
        .required = is_required, .unit = what, .positive = is_positive, .doc = text                \
    }

static const tdm_field vertex_fields[] = {
    TEXT(vertex, name, "its name, by which links call it"),
    CHOICE(vertex, kind, true, kinds, "what it is"),
    CHOICE(vertex, cpu, false, tdm_fabric_cpus, "processor of a socket"),
    {.key = "numa",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(vertex, numa),
     .max = 4096,
     .doc = "NUMA node of a socket"},
    QUANTITY(vertex, rate, TDM_UNIT_BYTES_PER_S, false, true, "line rate of a nic"),
    QUANTITY(vertex, latency, TDM_UNIT_SECONDS, false, false, "of a nic, as NCCL's XML gives it"),
    {.key = NULL},
};

static const tdm_field link_fields[] = {
    TEXT(link_line, from, "name of a vertex"),
    TEXT(link_line, to, "name of a vertex; on PCIe the one nearer to the socket"),
    CHOICE(link_line, wire, true, wires, "what it is"),
    {.key = "count",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(link_line, count),
     .min = 1,
     .max = 1024,
     .doc = "NVLinks or PCIe lanes in it (1; PCIe 16)"},
    QUANTITY(link_line, bandwidth, TDM_UNIT_BYTES_PER_S, true, true,
             "payload of all of it, from the one to the other"),
    QUANTITY(link_line, back, TDM_UNIT_BYTES_PER_S, false, false,
             "the same of the other direction (as there when left out; 0GB/s: there is none)"),
    QUANTITY(link_line, latency, TDM_UNIT_SECONDS, false, false,
             "of one direction (what NCCL counts for such a wire when left out)"),
    {.key = NULL},
};

static const tdm_field fields[] = {
    {.key = "vertices",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(spec, vertices),
     .required = true,
     .fields = vertex_fields,
     .item_bytes = sizeof(vertex),
     .doc = "GPUs (their order is that of their numbers), switches, sockets, adapters"},
    {.key = "links",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(spec, links),
     .required = true,
     .fields = link_fields,
     .item_bytes = sizeof(link_line),
     .doc = "what joins them"},
    {.key = NULL},
};

enum { MAX_VERTICES = 512 };

static const tdm_node *item(const tdm_node *root, const char *list, uint32_t i)
{
    const tdm_node *node = tdm_node_child(root, list);
    node = node ? node->first : NULL;
    for (; node && i > 0; i--)
        node = node->next;
    return node;
}

/* The vertex of that name; n_vertices: none. */
static uint32_t find(const spec *s, const char *name, uint32_t n)
{
    const vertex *all = s->vertices.items;
    for (uint32_t v = 0; v < n; v++)
        if (all[v].name && name && strcmp(all[v].name, name) == 0)
            return v;
    return n;
}

static bool is_xml_name(const char *name)
{
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
           strlen(name);
}

static tdm_code check_vertices(const spec *s, const tdm_node *root, tdm_error *err)
{
    tdm_code code = TDM_OK;
    const vertex *all = s->vertices.items;
    bool has_gpu = false;
    for (uint32_t v = 0; v < s->vertices.n_items; v++) {
        const tdm_node *node = item(root, "vertices", v);
        has_gpu = has_gpu || all[v].kind == TDM_VERTEX_GPU;
        if (!node || node->faulty)
            continue;
        if (!is_xml_name(all[v].name))
            code = tdm_node_error_at(node, "name", err,
                                     "expected letters, digits, dashes, dots and underscores");
        else if (find(s, all[v].name, v) < v)
            code = tdm_node_error_at(node, "name", err, "%s: there is one of that name already",
                                     all[v].name);
        if (all[v].kind == TDM_VERTEX_NIC && !tdm_node_child(node, "rate"))
            code = tdm_node_error_at(node, "rate", err, "missing: the line rate of a nic");
        if (all[v].kind == TDM_VERTEX_SOCKET && !tdm_node_child(node, "cpu"))
            code = tdm_node_error_at(node, "cpu", err, "missing: the processor of a socket");
    }
    const tdm_node *list = tdm_node_child(root, "vertices");
    if (list && !list->faulty && !has_gpu)
        code = tdm_node_error(list, err, "there is no gpu among them");
    if (s->vertices.n_items > MAX_VERTICES)
        code = tdm_node_error_at(root, "vertices", err, "%u of them: at most %d are handled",
                                 s->vertices.n_items, MAX_VERTICES);
    return code;
}

static tdm_code check_end(const spec *s, const tdm_node *link, const char *key, const char *name,
                          tdm_error *err)
{
    const char *names[MAX_VERTICES];
    const vertex *all = s->vertices.items;
    size_t n = 0;
    if (find(s, name, s->vertices.n_items) < s->vertices.n_items)
        return TDM_OK;
    for (uint32_t v = 0; v < s->vertices.n_items && n < MAX_VERTICES; v++)
        if (all[v].name)
            names[n++] = all[v].name;
    const char *near = tdm_suggest(name, names, n);
    char quoted[TDM_QUOTE_SIZE];
    return tdm_node_error_at(link, key, err, "%s: there is no vertex of that name%s%s%s",
                             tdm_node_quote(quoted, name), near ? " (did you mean " : "",
                             near ? near : "", near ? "?)" : "");
}

static tdm_code check(const void *in, const tdm_node *root, tdm_error *err)
{
    const spec *s = in;
    tdm_code code = check_vertices(s, root, err);
    const link_line *all = s->links.items;
    for (uint32_t l = 0; l < s->links.n_items; l++) {
        const tdm_node *node = item(root, "links", l);
        if (!node || node->faulty)
            continue;
        if (check_end(s, node, "from", all[l].from, err) != TDM_OK ||
            check_end(s, node, "to", all[l].to, err) != TDM_OK)
            code = TDM_E_INVALID;
        else if (strcmp(all[l].from, all[l].to) == 0)
            code = tdm_node_error_at(node, "to", err, "%s: leads to itself", all[l].to);
    }
    return code;
}

static tdm_code check_device(const void *in, const tdm_device *device, const tdm_node *root,
                             tdm_error *err)
{
    (void)in;
    return tdm_fabric_check_capability(device, root, err);
}

static void add_vertex(tdm_graph_builder *builder, const vertex *v, const tdm_device *device)
{
    tdm_vertex made = {.kind = (tdm_vertex_kind)v->kind};
    if (v->kind == TDM_VERTEX_GPU)
        made = tdm_fabric_gpu(device, 0);
    else if (v->kind == TDM_VERTEX_SOCKET)
        made = tdm_fabric_socket(v->cpu, (int32_t)v->numa);
    made.name = v->name;
    made.nic_bytes_per_s = v->rate.value;
    made.nic_latency_s = v->latency.value;
    made.nic_gpu_direct = v->kind == TDM_VERTEX_NIC;
    tdm_graph_add(builder, &made);
}

static double usual_latency(const link_line *l, const vertex *from, const vertex *to)
{
    if (l->latency.source)
        return l->latency.value;
    if (l->wire == TDM_WIRE_NVLINK)
        return from->kind == TDM_VERTEX_GPU && to->kind == TDM_VERTEX_GPU
                   ? 2 * TDM_LATENCY_NVLINK_HALF_S
                   : TDM_LATENCY_NVLINK_HALF_S;
    return l->wire == TDM_WIRE_C2C    ? TDM_LATENCY_NVLINK_HALF_S
           : l->wire == TDM_WIRE_PCIE ? TDM_LATENCY_PCIE_S
                                      : TDM_LATENCY_SOCKET_S;
}

static void add_link(tdm_graph_builder *builder, const spec *s, uint32_t l)
{
    const vertex *vertices = s->vertices.items;
    const link_line *line = &((const link_line *)s->links.items)[l];
    uint32_t from = find(s, line->from, s->vertices.n_items);
    uint32_t to = find(s, line->to, s->vertices.n_items);
    const char *stem = tdm_arena_printf(builder->arena, "link-%u-%s-%s", l, line->from, line->to);
    tdm_edge edge = {.from = from,
                     .to = to,
                     .wire = (tdm_wire)line->wire,
                     .count = line->count                   ? line->count
                              : line->wire == TDM_WIRE_PCIE ? 16
                                                            : 1,
                     .bytes_per_s = line->bandwidth.value,
                     .latency_s = usual_latency(line, &vertices[from], &vertices[to]),
                     .name = tdm_arena_printf(builder->arena, "%s-up", stem)};
    tdm_graph_edge(builder, &edge);
    edge.from = to;
    edge.to = from;
    edge.name = tdm_arena_printf(builder->arena, "%s-down", stem);
    if (line->back.source)
        edge.bytes_per_s = line->back.value;
    if (edge.bytes_per_s > 0)
        tdm_graph_edge(builder, &edge);
}

static tdm_graph graph(tdm_arena *arena, const void *in, const tdm_device *device, const char *name)
{
    const spec *s = in;
    const vertex *vertices = s->vertices.items;
    tdm_graph_builder builder;
    tdm_graph_builder_init(&builder, arena);
    for (uint32_t v = 0; v < s->vertices.n_items; v++)
        add_vertex(&builder, &vertices[v], device);
    for (uint32_t l = 0; l < s->links.n_items; l++)
        add_link(&builder, s, l);
    return tdm_graph_finish(&builder, name);
}

const tdm_fabric tdm_fabric_links = {
    .name = "links",
    .summary = "one machine, told vertex by vertex and link by link, each direction by itself",
    .fields = fields,
    .spec_bytes = sizeof(spec),
    .check = check,
    .check_device = check_device,
    .graph = graph,
};
