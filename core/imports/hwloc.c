/* hwloc's XML, version 2 (`lstopo --of xml`): packages, NUMA nodes, and the PCI tree below them.
 * NVLinks are not read from it; they are given beside it. Source: hwloc 2 documentation, and
 * hwloc2.dtd. */
#include "core/graph_rates.h"
#include "core/import.h"
#include "core/xml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GPUS = 1024, MAX_SOCKETS = 256 };

/* NVIDIA's number. Source: pci.ids, vendor 10de. */
#define NVIDIA "10de"

typedef struct device {
    const tdm_xml *object;
    uint64_t bus;
    uint32_t vertex;
} device;

typedef struct reader {
    tdm_arena *arena;
    const tdm_import_options *options;
    tdm_error *notes, *err;
    const char *path;
    tdm_graph_builder builder;
    device *gpus;
    uint32_t n_gpus;
} reader;

/* What a device hangs on, on the way down. */
typedef struct place {
    uint32_t socket, parent; /* vertices; parent: socket, root port or switch */
    uint32_t bridges;        /* above it, host bridge included; 0: none */
    const tdm_xml *package;  /* what names the processor */
    const tdm_xml *bridge;   /* the nearest one */
} place;

#define NO_VERTEX UINT32_MAX

static bool is_object(const tdm_xml *element, const char *type)
{
    const char *is = tdm_xml_get(element, "type");
    return tdm_xml_is(element, "object") && is && strcmp(is, type) == 0;
}

static const char *info(const tdm_xml *object, const char *name)
{
    for (const tdm_xml *c = object ? object->first : NULL; c; c = c->next) {
        const char *is = tdm_xml_is(c, "info") ? tdm_xml_get(c, "name") : NULL;
        if (is && strcmp(is, name) == 0)
            return tdm_xml_get(c, "value");
    }
    return NULL;
}

/* "0302 [10de:2330] [10de:16c1] a1": the class, in hexadecimal. */
static uint32_t class_of(const tdm_xml *object)
{
    const char *type = tdm_xml_get(object, "pci_type");
    return type ? (uint32_t)(strtoul(type, NULL, 16) & 0xffff) : 0;
}

static bool is_gpu(const reader *r, const tdm_xml *object, uint64_t bus)
{
    const char *type = tdm_xml_get(object, "pci_type");
    if (r->options->gpu_at)
        return tdm_import_is_gpu_at(r->options, bus);
    return class_of(object) >> 8 == 3 && type && strstr(type, "[" NVIDIA ":");
}

static tdm_code bus_of(reader *r, const tdm_xml *object, uint64_t *bus)
{
    const char *text = tdm_xml_get(object, "pci_busid");
    if (!text || !tdm_bus_id_parse(text, bus))
        return tdm_xml_error(object, r->err, "pci_busid: expected a PCI bus id, as 0000:a4:00.0");
    return TDM_OK;
}

/* hwloc gives GB/s of the link as it is now, lanes included; NCCL's usable rate of the generation
 * whose wire is nearest, over 16 lanes or as many as fit. A link that sleeps runs at generation 1.
 * Source: PCI Express base specification: GB/s of one lane after coding. */
static double rate_of(const reader *r, const tdm_xml *object, uint32_t *lanes)
{
    static const double lane_gb_per_s[] = {0.25, 0.5, 0.985, 1.969, 3.938, 7.563};
    const char *text = tdm_xml_get(object, "pci_link_speed");
    double speed = text ? strtod(text, NULL) : 0, best = INFINITY;
    uint32_t generation = r->options->pcie_generation ? r->options->pcie_generation : 3;
    *lanes = 16;
    if (!(speed > 0 && speed < 1000))
        return tdm_rate_pcie(generation, 16);
    for (uint32_t width = 16; width > 0; width /= 2)
        for (uint32_t g = 0; g < TDM_COUNT(lane_gb_per_s); g++) {
            double off = fabs(lane_gb_per_s[g] * width - speed) / speed;
            if (off < best - 0.01) {
                best = off;
                generation = g + 1;
                *lanes = width;
            }
        }
    return tdm_rate_pcie(generation, *lanes);
}

static tdm_code collect(reader *r, const tdm_xml *element)
{
    tdm_code code = TDM_OK;
    for (const tdm_xml *c = element->first; c; c = c->next) {
        uint64_t bus = 0;
        if (is_object(c, "PCIDev")) {
            if (bus_of(r, c, &bus) != TDM_OK)
                code = TDM_E_INVALID;
            else if (is_gpu(r, c, bus) && r->n_gpus == MAX_GPUS)
                return tdm_xml_error(c, r->err, "more than %d GPUs", MAX_GPUS);
            else if (is_gpu(r, c, bus))
                r->gpus[r->n_gpus++] = (device){.object = c, .bus = bus};
        }
        if (collect(r, c) != TDM_OK)
            code = TDM_E_INVALID;
    }
    return code;
}

static int by_bus(const void *a, const void *b)
{
    const device *x = a, *y = b;
    return x->bus < y->bus ? -1 : x->bus > y->bus;
}

static uint32_t number(const char *text)
{
    return text ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

/* The NUMA node that is a child of an object, or of the first thing in it that has one. */
static const tdm_xml *numa_in(const tdm_xml *object)
{
    for (const tdm_xml *c = object->first; c; c = c->next)
        if (is_object(c, "NUMANode"))
            return c;
    return NULL;
}

/* A socket for an object that holds PCI devices: its own NUMA node, or the package around it. */
static tdm_code add_socket(reader *r, const tdm_xml *object, const tdm_xml *package,
                           uint32_t *vertex)
{
    const tdm_xml *numa = numa_in(object);
    const char *vendor = info(package, "CPUVendor"), *index = NULL;
    if (r->builder.n_of_kind[TDM_VERTEX_SOCKET] == MAX_SOCKETS)
        return tdm_xml_error(object, r->err, "more than %d NUMA nodes", MAX_SOCKETS);
    if (numa)
        index = tdm_xml_get(numa, "os_index");
    *vertex = tdm_graph_add(
        &r->builder,
        &(tdm_vertex){.kind = TDM_VERTEX_SOCKET,
                      .cpu = tdm_import_cpu_vendor(vendor ? vendor : ""),
                      .cpu_family = number(info(package, "CPUFamilyNumber")),
                      .cpu_model = number(info(package, "CPUModelNumber")),
                      .cpus = tdm_import_cpu_ranges(r->arena, tdm_xml_get(object, "cpuset")),
                      .numa = index ? (int32_t)(number(index) & 0xffff) : -1});
    return TDM_OK;
}

static void add_gpu(reader *r, const tdm_xml *object, uint32_t parent)
{
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < r->n_gpus; i++)
        if (r->gpus[i].object == object) {
            double bytes_per_s = rate_of(r, object, &lanes);
            tdm_import_hang(&r->builder, r->gpus[i].vertex, parent, lanes, bytes_per_s);
        }
}

/* The name of an adapter's port: OpenFabrics before the network's (in hwloc 2, in hwloc 3); NULL
 * when it is none. */
static const char *port_name(const tdm_xml *object)
{
    static const char *const kinds[] = {"3", "32", "2", "16"};
    for (size_t k = 0; k < TDM_COUNT(kinds); k++)
        for (const tdm_xml *c = object->first; c; c = c->next) {
            const char *type = is_object(c, "OSDev") ? tdm_xml_get(c, "osdev_type") : NULL;
            if (type && strcmp(type, kinds[k]) == 0)
                return tdm_xml_get(c, "name");
        }
    return NULL;
}

static tdm_code add_device(reader *r, const tdm_xml *object, uint32_t parent)
{
    uint64_t bus = 0;
    uint32_t lanes = 0;
    if (bus_of(r, object, &bus) != TDM_OK)
        return TDM_E_INVALID;
    if (is_gpu(r, object, bus)) {
        add_gpu(r, object, parent);
        return TDM_OK;
    }
    const char *name = port_name(object);
    if (class_of(object) >> 8 != 2 || !name)
        return TDM_OK; /* a disk, a BMC, an NVSwitch, an adapter without a driver */
    uint32_t nic =
        tdm_graph_add(&r->builder, &(tdm_vertex){.kind = TDM_VERTEX_NIC,
                                                 .address = tdm_bus_id_write(r->arena, bus),
                                                 .label = name,
                                                 .nic_bytes_per_s = r->options->nic_bytes_per_s,
                                                 .nic_gpu_direct = true});
    double bytes_per_s = rate_of(r, object, &lanes);
    tdm_import_hang(&r->builder, nic, parent, lanes, bytes_per_s);
    return TDM_OK;
}

static tdm_code walk(reader *r, const tdm_xml *element, place at);

/* Host bridge, root port, a switch's upper port, its lower ports, and so on by turns: a root port
 * and an upper port are vertices, the others are in between. */
static tdm_code walk_bridge(reader *r, const tdm_xml *bridge, place at)
{
    uint64_t bus = 0;
    uint32_t lanes = 0;
    const char *text = tdm_xml_get(bridge, "pci_busid");
    at.bridges++;
    at.bridge = bridge;
    if (at.bridges == 1)
        return walk(r, bridge, at);
    bool is_vertex = at.bridges == 2 || at.bridges % 2 == 1;
    if (!is_vertex)
        return walk(r, bridge, at);
    bool known = text && tdm_bus_id_parse(text, &bus);
    uint32_t vertex = tdm_graph_add(
        &r->builder,
        &(tdm_vertex){.kind = at.bridges == 2 ? TDM_VERTEX_ROOT_PORT : TDM_VERTEX_PCIE_SWITCH,
                      .address = known ? tdm_bus_id_write(r->arena, bus) : NULL});
    double bytes_per_s = rate_of(r, bridge, &lanes);
    tdm_import_hang(&r->builder, vertex, at.parent, lanes, bytes_per_s);
    at.parent = vertex;
    return walk(r, bridge, at);
}

static bool has_gpu_or_nic(const reader *r, const tdm_xml *element)
{
    uint64_t bus = 0;
    for (const tdm_xml *c = element->first; c; c = c->next) {
        const char *text = is_object(c, "PCIDev") ? tdm_xml_get(c, "pci_busid") : NULL;
        if (text && tdm_bus_id_parse(text, &bus) &&
            (is_gpu(r, c, bus) || (class_of(c) >> 8 == 2 && port_name(c))))
            return true;
        if (has_gpu_or_nic(r, c))
            return true;
    }
    return false;
}

static tdm_code walk(reader *r, const tdm_xml *element, place at)
{
    tdm_code code = TDM_OK;
    for (const tdm_xml *c = element->first; c; c = c->next) {
        place here = at;
        bool is_bridge = is_object(c, "Bridge"), is_device = is_object(c, "PCIDev");
        if (is_object(c, "Package"))
            here.package = c;
        if (!tdm_xml_is(c, "object") || !has_gpu_or_nic(r, c))
            if (!is_device)
                continue; /* nothing in it that the graph has */
        if ((is_bridge || is_device) && here.socket == NO_VERTEX) {
            if (add_socket(r, element, here.package, &at.socket) != TDM_OK)
                return TDM_E_INVALID;
            here.socket = at.socket;
            here.parent = at.parent = at.socket;
        }
        tdm_code done = is_bridge   ? walk_bridge(r, c, here)
                        : is_device ? add_device(r, c, here.parent)
                                    : walk(r, c, here);
        code = done == TDM_OK ? code : done;
    }
    return code;
}

static tdm_code read_gpus(reader *r, const tdm_xml *topology)
{
    r->gpus = TDM_ALLOC(r->arena, device, MAX_GPUS);
    if (collect(r, topology) != TDM_OK)
        return TDM_E_INVALID;
    if (r->n_gpus == 0)
        return tdm_xml_error(topology, r->err,
                             "holds no GPUs: no PCI device of NVIDIA's of class 03; if some of its "
                             "devices are GPUs, name their bus ids (--gpu-at)");
    qsort(r->gpus, r->n_gpus, sizeof *r->gpus, by_bus);
    for (uint32_t i = 1; i < r->n_gpus; i++)
        if (r->gpus[i].bus == r->gpus[i - 1].bus)
            return tdm_xml_error(r->gpus[i].object, r->err,
                                 "pci_busid: is another GPU's, too (line %u)",
                                 r->gpus[i - 1].object->line);
    if (r->options->sm == 0)
        return tdm_xml_error(r->gpus[0].object, r->err,
                             "one of %u GPUs, and the file does not say of which kind: name it "
                             "(--gpu h100-80g)",
                             r->n_gpus);
    for (uint32_t i = 0; i < r->n_gpus; i++)
        r->gpus[i].vertex = tdm_graph_add(
            &r->builder, &(tdm_vertex){.kind = TDM_VERTEX_GPU,
                                       .sm = r->options->sm,
                                       .address = tdm_bus_id_write(r->arena, r->gpus[i].bus)});
    return TDM_OK;
}

static bool recognises(const char *text, size_t n_bytes)
{
    return tdm_import_has_root(text, n_bytes, "topology");
}

static tdm_code read_xml(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                         const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                         tdm_error *err)
{
    tdm_xml *topology = NULL;
    reader r = {.arena = arena, .options = options, .notes = notes, .err = err, .path = path};
    tdm_graph_builder_init(&r.builder, arena);
    tdm_code code = tdm_xml_parse(arena, path, text, n_bytes, &topology, err);
    if (code != TDM_OK)
        return code;
    const char *version = tdm_xml_get(topology, "version");
    if (!version || strtod(version, NULL) < 2)
        return tdm_xml_error(
            topology, err, "version: expected 2.0 or newer (lstopo --of xml of hwloc 2 writes it)");
    if (read_gpus(&r, topology) != TDM_OK)
        return TDM_E_INVALID;
    place top = {.socket = NO_VERTEX};
    if (walk(&r, topology, top) != TDM_OK)
        return TDM_E_INVALID;
    uint32_t *gpus = TDM_ALLOC(arena, uint32_t, r.n_gpus);
    for (uint32_t i = 0; i < r.n_gpus; i++)
        gpus[i] = r.gpus[i].vertex;
    code = tdm_import_wire(&r.builder, gpus, r.n_gpus, options, path, notes, err);
    if (code != TDM_OK)
        return code;
    tdm_import_join_sockets(&r.builder);
    *graph = tdm_graph_finish(&r.builder, path);
    return TDM_OK;
}

const tdm_import tdm_import_hwloc = {
    .name = "hwloc",
    .summary = "hwloc's XML, version 2 (lstopo --of xml)",
    .recognises = recognises,
    .read = read_xml,
};
