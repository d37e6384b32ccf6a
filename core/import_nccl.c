/* import_nccl.c: the links of NCCL's XML that are beside the PCI tree. */
#include "import_nccl.h"

#include "graph_rates.h"

#include <stdlib.h>
#include <string.h>

typedef tdm_nccl_device device;
typedef tdm_nccl_reader reader;

enum { MAX_NUMBER = 1 << 24 };

bool tdm_nccl_begins(const char *text, const char *prefix)
{
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

tdm_code tdm_nccl_node_of(reader *r, const tdm_xml *cpu, uint32_t *node)
{
    const char *text = tdm_xml_get(cpu, "host_hash");
    uint64_t hash = text ? strtoull(text, NULL, 16) : 0;
    for (*node = 0; *node < r->n_hosts; (*node)++)
        if (r->hosts[*node] == hash)
            return TDM_OK;
    if (r->n_hosts == TDM_NCCL_MAX_HOSTS)
        return tdm_xml_error(cpu, r->err, "host_hash: more than %d hosts", (int)TDM_NCCL_MAX_HOSTS);
    r->hosts[r->n_hosts++] = hash;
    return TDM_OK;
}

static const device *device_at(const reader *r, uint32_t node, uint64_t bus)
{
    for (uint32_t i = 0; i < r->n_devices; i++)
        if (r->devices[i].bus == bus && r->devices[i].node == node)
            return &r->devices[i];
    return NULL;
}

/* The socket above a vertex that is in the tree. */
static uint32_t socket_above(const reader *r, uint32_t vertex)
{
    for (uint32_t e = 0; e < r->builder.n_edges; e++) {
        const tdm_edge *edge = &r->builder.edges[e];
        /* The first link that leaves it is the one upwards. */
        if (edge->from == vertex && edge->wire == TDM_WIRE_PCIE)
            return r->builder.vertices[edge->to].kind == TDM_VERTEX_SOCKET
                       ? edge->to
                       : socket_above(r, edge->to);
    }
    return vertex;
}

/* Where an <nvlink> leads: "0x068000" is a switch, "0x068001" the processor, "0x03" a GPU; without
 * a class, a target that is one of the GPUs, or what a virtual machine shows of its switch. */
static tdm_code nvlink_class(reader *r, const tdm_xml *nvlink, const device *d, uint64_t target,
                             bool has_target, const char **class)
{
    *class = tdm_xml_get(nvlink, "tclass");
    if (*class && (tdm_nccl_begins(*class, "0x068000") || tdm_nccl_begins(*class, "0x068001") ||
                   tdm_nccl_begins(*class, "0x03")))
        return TDM_OK;
    if (tdm_nccl_begins(tdm_xml_get(nvlink, "target"), "fffffff:ff:ff"))
        *class = "0x068000";
    else if (!*class && has_target && device_at(r, d->node, target))
        *class = "0x03";
    else if (*class)
        return tdm_xml_error(nvlink, r->err,
                             "tclass: \"%.20s\": expected 0x068000 (a switch), 0x0302 (a GPU) or "
                             "0x068001 (a processor)",
                             *class);
    else
        return tdm_xml_error(nvlink, r->err, "tclass: missing, and the target is none of the GPUs");
    return TDM_OK;
}

/* Counts of one GPU's links, by where they lead. */
typedef struct nvlinks {
    uint32_t to_switch, to_socket;
    uint32_t *to_gpu; /* [n_devices] */
} nvlinks;

static tdm_code count_nvlink(reader *r, const tdm_xml *element, const device *d, nvlinks *links)
{
    int64_t count = 0;
    uint64_t target = 0;
    const char *class = NULL, *text = tdm_xml_get(element, "target");
    bool has_target = text && tdm_bus_id_parse(text, &target);
    if (tdm_xml_integer(element, "count", 1, 1, 1024, &count, r->err) != TDM_OK ||
        nvlink_class(r, element, d, target, has_target, &class) != TDM_OK)
        return TDM_E_INVALID;
    r->has_nvlinks = true;
    if (tdm_nccl_begins(class, "0x068000")) {
        links->to_switch += (uint32_t)count;
        return TDM_OK;
    }
    if (tdm_nccl_begins(class, "0x068001")) {
        links->to_socket += (uint32_t)count;
        return TDM_OK;
    }
    if (!has_target)
        return tdm_xml_error(element, r->err, "target: expected the bus id of a GPU");
    const device *other = device_at(r, d->node, target);
    if (!other || other == d) {
        tdm_error_add(r->notes, TDM_E_INVALID, "%s:%u:%u: <nvlink>: %s, left out as NCCL does",
                      element->path, element->line, element->column,
                      other ? "leads from a GPU to itself" : "its target is not in the file");
        return TDM_OK;
    }
    links->to_gpu[other - r->devices] += (uint32_t)count;
    return TDM_OK;
}

/* The one switch of a node, made when first asked for; *made: [n_hosts] vertex + 1. */
static uint32_t switch_of(reader *r, uint32_t node, uint32_t *made)
{
    if (made[node] == 0)
        made[node] = 1 + tdm_graph_add(&r->builder,
                                       &(tdm_vertex){.kind = TDM_VERTEX_NVSWITCH, .node = node});
    return made[node] - 1;
}

static tdm_code add_c2c(reader *r, const tdm_xml *c2c, const device *d)
{
    int64_t bw = 0, count = 0;
    if (tdm_xml_integer(c2c, "bw", 0, 1, MAX_NUMBER, &bw, r->err) != TDM_OK ||
        tdm_xml_integer(c2c, "count", 1, 1, 1024, &count, r->err) != TDM_OK)
        return TDM_E_INVALID;
    if (bw == 0)
        return tdm_xml_error(c2c, r->err, "bw: missing: MB/s of one link");
    const char *name = r->builder.vertices[d->vertex].name;
    tdm_graph_link(&r->builder, d->vertex, socket_above(r, d->vertex), TDM_WIRE_C2C,
                   (uint32_t)count, (double)(bw * count) * 1e6, TDM_LATENCY_NVLINK_HALF_S,
                   tdm_arena_printf(r->arena, "%s-c2c", name));
    return TDM_OK;
}

/* Links between GPUs go both ways; a file that says otherwise is broken. */
static tdm_code check_return(reader *r, const nvlinks *links)
{
    tdm_code code = TDM_OK;
    for (uint32_t a = 0; a < r->n_devices; a++)
        for (uint32_t b = 0; b < r->n_devices; b++)
            if (links[a].to_gpu[b] > 0 && links[b].to_gpu[a] == 0)
                code = tdm_xml_error(r->devices[a].gpu, r->err,
                                     "has %u NVLinks to the GPU at %s, which has none back",
                                     links[a].to_gpu[b],
                                     tdm_bus_id_write(r->arena, r->devices[b].bus));
    return code;
}

static void add_nvlinks(reader *r, const nvlinks *links)
{
    uint32_t *made = TDM_ALLOC(r->arena, uint32_t, r->n_hosts + 1);
    for (uint32_t i = 0; i < r->n_devices; i++) {
        const device *d = &r->devices[i];
        if (links[i].to_switch > 0)
            tdm_import_to_switch(&r->builder, d->vertex, switch_of(r, d->node, made),
                                 links[i].to_switch);
        if (links[i].to_socket > 0)
            tdm_import_to_switch(&r->builder, d->vertex, socket_above(r, d->vertex),
                                 links[i].to_socket);
        for (uint32_t k = 0; k < r->n_devices; k++)
            if (links[i].to_gpu[k] > 0)
                tdm_import_to_gpu(&r->builder, d->vertex, r->devices[k].vertex, links[i].to_gpu[k]);
    }
}

/* Where the file has no NVLinks at all: those that are given beside it, node by node. */
static tdm_code wire_nodes(reader *r)
{
    tdm_code code = TDM_OK;
    uint32_t *gpus = TDM_ALLOC(r->arena, uint32_t, r->n_devices);
    for (uint32_t node = 0; node < r->n_hosts; node++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < r->n_devices; i++)
            if (r->devices[i].node == node)
                gpus[n++] = r->devices[i].vertex;
        if (tdm_import_wire(&r->builder, gpus, n, r->options, r->path, r->notes, r->err) != TDM_OK)
            code = TDM_E_INVALID;
    }
    return code;
}

static tdm_code connect_gpus(reader *r)
{
    tdm_code code = TDM_OK;
    nvlinks *links = TDM_ALLOC(r->arena, nvlinks, r->n_devices);
    for (uint32_t i = 0; i < r->n_devices; i++) {
        const device *d = &r->devices[i];
        links[i].to_gpu = TDM_ALLOC(r->arena, uint32_t, r->n_devices);
        for (const tdm_xml *e = d->gpu ? d->gpu->first : NULL; e; e = e->next)
            if ((tdm_xml_is(e, "nvlink") && count_nvlink(r, e, d, &links[i]) != TDM_OK) ||
                (tdm_xml_is(e, "c2c") && add_c2c(r, e, d) != TDM_OK))
                code = TDM_E_INVALID;
    }
    if (code != TDM_OK || check_return(r, links) != TDM_OK)
        return TDM_E_INVALID;
    if (!r->has_nvlinks)
        return wire_nodes(r);
    add_nvlinks(r, links);
    return TDM_OK;
}

static uint32_t switch_at(const reader *r, uint32_t node, uint64_t bus)
{
    const char *address = tdm_bus_id_write(r->arena, bus);
    for (uint32_t v = 0; v < r->builder.n_vertices; v++) {
        const tdm_vertex *vertex = &r->builder.vertices[v];
        if (vertex->kind == TDM_VERTEX_PCIE_SWITCH && vertex->node == node &&
            strcmp(vertex->address, address) == 0)
            return v;
    }
    return UINT32_MAX;
}

/* <pcilink target>: two switches that are one device. */
static tdm_code add_peer_links(reader *r, const tdm_xml *element, uint32_t node)
{
    tdm_code code = TDM_OK;
    uint64_t here = 0, there = 0;
    for (const tdm_xml *c = element->first; c; c = c->next) {
        if (tdm_xml_is(c, "pci") && add_peer_links(r, c, node) != TDM_OK)
            code = TDM_E_INVALID;
        if (!tdm_xml_is(c, "pcilink"))
            continue;
        const char *target = tdm_xml_get(c, "target"), *bus = tdm_xml_get(element, "busid");
        if (!target || !tdm_bus_id_parse(target, &there)) {
            code = tdm_xml_error(c, r->err, "target: expected the bus id of a switch");
            continue;
        }
        if (!bus || !tdm_bus_id_parse(bus, &here))
            continue; /* below a <cpu>: NCCL has no use for it */
        uint32_t a = switch_at(r, node, here), b = switch_at(r, node, there);
        if (a == UINT32_MAX || b == UINT32_MAX || a == b)
            continue; /* as NCCL: the other one may have been trimmed */
        const tdm_edge edge = {.from = a,
                               .to = b,
                               .wire = TDM_WIRE_PCIE,
                               .count = 1,
                               .bytes_per_s = TDM_RATE_UNLIMITED,
                               .name =
                                   tdm_arena_printf(r->arena, "%s-%s", r->builder.vertices[a].name,
                                                    r->builder.vertices[b].name)};
        tdm_graph_edge(&r->builder, &edge);
    }
    return code;
}

tdm_code tdm_nccl_connect(reader *r, const tdm_xml *system)
{
    tdm_code code = connect_gpus(r);
    for (const tdm_xml *cpu = system->first; cpu && code == TDM_OK; cpu = cpu->next) {
        uint32_t node = 0;
        if (tdm_xml_is(cpu, "cpu") &&
            (tdm_nccl_node_of(r, cpu, &node) != TDM_OK || add_peer_links(r, cpu, node) != TDM_OK))
            code = TDM_E_INVALID;
    }
    return code;
}
