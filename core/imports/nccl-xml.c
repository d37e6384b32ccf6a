/* NCCL's topology XML, as NCCL_TOPO_FILE reads and NCCL_TOPO_DUMP_FILE writes it. What is missing
 * or odd in it is taken as NCCL takes it. Source: NCCL 2.28.9, src/graph/topo.cc and xml.cc. */
#include "core/graph_rates.h"
#include "core/import_nccl.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_GPUS = 4096, MAX_SOCKETS = 1024, MAX_NUMBER = 1 << 24 };

typedef tdm_nccl_device device;
typedef tdm_nccl_reader reader;

typedef enum pci_kind { PCI_SWITCH, PCI_GPU, PCI_NIC, PCI_NVSWITCH, PCI_OTHER } pci_kind;

/* By class, as NCCL's kvDictPciClass; a device without class or children is of no use to it. */
static pci_kind kind_of(const reader *r, const tdm_xml *pci, uint64_t bus)
{
    const char *class = tdm_xml_get(pci, "class");
    if (tdm_xml_child(pci, "gpu") || tdm_import_is_gpu_at(r->options, bus))
        return PCI_GPU;
    if (tdm_xml_child(pci, "nic"))
        return PCI_NIC;
    if (tdm_nccl_begins(class, "0x068000"))
        return PCI_NVSWITCH;
    if (tdm_nccl_begins(class, "0x03") && !pci->first)
        return r->options->gpu_at || r->has_gpus ? PCI_OTHER : PCI_GPU;
    if (tdm_nccl_begins(class, "0x02") && !pci->first)
        return PCI_NIC;
    return tdm_nccl_begins(class, "0x0604") || tdm_xml_child(pci, "pci") ? PCI_SWITCH : PCI_OTHER;
}

static tdm_code bus_of(reader *r, const tdm_xml *pci, uint64_t *bus)
{
    const char *text = tdm_xml_get(pci, "busid");
    if (!text)
        return tdm_xml_error(pci, r->err, "busid: missing");
    if (!tdm_bus_id_parse(text, bus))
        return tdm_xml_error(pci, r->err,
                             "busid: \"%.40s\": expected a PCI bus id, as 0000:a4:00.0", text);
    return TDM_OK;
}

static bool has_gpu_element(const tdm_xml *element)
{
    if (tdm_xml_is(element, "gpu"))
        return true;
    for (const tdm_xml *c = element->first; c; c = c->next)
        if (has_gpu_element(c))
            return true;
    return false;
}

static tdm_code add_device(reader *r, const tdm_xml *pci, uint64_t bus, uint32_t node)
{
    device d = {
        .pci = pci, .gpu = tdm_xml_child(pci, "gpu"), .bus = bus, .node = node, .order = bus};
    int64_t number = 0, rank = 0;
    if (r->n_devices == MAX_GPUS)
        return tdm_xml_error(pci, r->err, "more than %d GPUs", MAX_GPUS);
    d.sm = r->options->sm;
    if (d.gpu) {
        if (tdm_xml_integer(d.gpu, "sm", r->options->sm, 10, 999, &number, r->err) != TDM_OK ||
            tdm_xml_integer(d.gpu, "dev", -1, 0, MAX_NUMBER, &rank, r->err) != TDM_OK ||
            tdm_xml_integer(d.gpu, "rank", rank, 0, MAX_NUMBER, &rank, r->err) != TDM_OK)
            return TDM_E_INVALID;
        if (number == 0)
            return tdm_xml_error(d.gpu, r->err, "sm: missing: the GPU's compute capability");
        if (rank < 0)
            return tdm_xml_error(d.gpu, r->err, "rank: missing, and dev too");
        d.sm = (uint32_t)number;
        d.order = (uint64_t)rank;
    }
    r->devices[r->n_devices++] = d;
    return TDM_OK;
}

static tdm_code collect_devices(reader *r, const tdm_xml *parent, uint32_t node)
{
    tdm_code code = TDM_OK;
    for (const tdm_xml *pci = parent->first; pci; pci = pci->next) {
        uint64_t bus = 0;
        if (!tdm_xml_is(pci, "pci"))
            continue;
        if (bus_of(r, pci, &bus) != TDM_OK ||
            (kind_of(r, pci, bus) == PCI_GPU && add_device(r, pci, bus, node) != TDM_OK) ||
            collect_devices(r, pci, node) != TDM_OK)
            code = TDM_E_INVALID;
    }
    return code;
}

static int by_order(const void *a, const void *b)
{
    const device *x = a, *y = b;
    if (x->node != y->node && !(x->gpu && y->gpu))
        return x->node < y->node ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* No two GPUs of one rank, nor at one place in a node. They are sorted by rank. */
static tdm_code check_distinct(const reader *r)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 1; i < r->n_devices; i++) {
        const device *d = &r->devices[i];
        if (d->gpu && d[-1].gpu && d->order == d[-1].order)
            code = tdm_xml_error(d->gpu, r->err, "rank: %u is another GPU's, too (line %u)",
                                 (unsigned)d->order, d[-1].gpu->line);
        for (uint32_t k = 0; k < i; k++)
            if (r->devices[k].bus == d->bus && r->devices[k].node == d->node) {
                code = tdm_xml_error(d->pci, r->err, "busid: is another GPU's, too (line %u)",
                                     r->devices[k].pci->line);
                break;
            }
    }
    return code;
}

static tdm_code collect(reader *r, const tdm_xml *system)
{
    tdm_code code = TDM_OK;
    r->has_gpus = has_gpu_element(system);
    r->devices = TDM_ALLOC(r->arena, device, MAX_GPUS);
    for (const tdm_xml *cpu = system->first; cpu; cpu = cpu->next) {
        uint32_t node = 0;
        if (tdm_xml_is(cpu, "cpu") &&
            (tdm_nccl_node_of(r, cpu, &node) != TDM_OK || collect_devices(r, cpu, node) != TDM_OK))
            code = TDM_E_INVALID;
    }
    if (code != TDM_OK)
        return code;
    if (r->n_devices == 0)
        return tdm_xml_error(system, r->err,
                             "holds no GPUs: no <gpu>, and no device of class 0x03; if some of its "
                             "devices are GPUs, name their bus ids (--gpu-at)");
    qsort(r->devices, r->n_devices, sizeof *r->devices, by_order);
    for (uint32_t i = 0; i < r->n_devices; i++)
        if (!r->devices[i].gpu && r->options->sm == 0)
            return tdm_xml_error(r->devices[i].pci, r->err,
                                 "one of %u GPUs, and the file does not say of which kind: name it "
                                 "(--gpu h100-80g)",
                                 r->n_devices);
    return check_distinct(r);
}

static void add_gpus(reader *r)
{
    for (uint32_t i = 0; i < r->n_devices; i++) {
        device *d = &r->devices[i];
        d->vertex = tdm_graph_add(&r->builder,
                                  &(tdm_vertex){.kind = TDM_VERTEX_GPU,
                                                .node = d->node,
                                                .sm = d->sm,
                                                .address = tdm_bus_id_write(r->arena, d->bus)});
    }
}

/* Rate and lanes of a device's link upwards. No width is 16 lanes, and a speed that is not known is
 * that of generation 3. A GPU whose file has no speed at all gets that of its own slot, if given.
 */
static tdm_code link_of(reader *r, const tdm_xml *pci, uint32_t *lanes, double *bytes_per_s)
{
    int64_t width = 0;
    const char *speed = tdm_xml_get(pci, "link_speed");
    if (tdm_xml_integer(pci, "link_width", 0, 0, 64, &width, r->err) != TDM_OK)
        return TDM_E_INVALID;
    uint32_t generation = tdm_pcie_generation(speed ? speed : "");
    if ((!speed || !speed[0]) && r->options->pcie_generation)
        generation = r->options->pcie_generation;
    *lanes = width == 0 ? 16 : (uint32_t)width;
    *bytes_per_s = tdm_rate_pcie(generation, *lanes);
    return TDM_OK;
}

/* The ports of one adapter. parent: what it hangs on, by a link of its own for each port. */
static tdm_code add_nets(reader *r, const tdm_xml *nic, tdm_vertex vertex, uint32_t parent,
                         uint32_t lanes, double bytes_per_s)
{
    for (const tdm_xml *net = nic->first; net; net = net->next) {
        int64_t mbps = 0, gdr = 0;
        double latency_us = 0;
        const char *fused = tdm_xml_get(net, "net");
        if (!tdm_xml_is(net, "net") || !tdm_xml_get(net, "dev") ||
            (fused && strcmp(fused, "0") == 0))
            continue; /* NCCL passes over these */
        if (tdm_xml_integer(net, "speed", 0, INT32_MIN, INT32_MAX, &mbps, r->err) != TDM_OK ||
            tdm_xml_integer(net, "gdr", 0, -1, 1, &gdr, r->err) != TDM_OK ||
            tdm_xml_number(net, "latency", 0, 1e6, &latency_us, r->err) != TDM_OK)
            return TDM_E_INVALID;
        if (mbps <= 0)
            mbps = 10000; /* Source: topo.cc, "Some NICs define speed = -1" */
        vertex.nic_bytes_per_s = (double)mbps * 1e6 / 8;
        vertex.nic_latency_s = latency_us / 1e6;
        vertex.nic_gpu_direct = gdr == 1;
        vertex.label = tdm_xml_get(net, "name");
        tdm_import_hang(&r->builder, tdm_graph_add(&r->builder, &vertex), parent, lanes,
                        bytes_per_s);
    }
    return TDM_OK;
}

static tdm_code add_nic(reader *r, const tdm_xml *pci, uint64_t bus, uint32_t node, uint32_t parent)
{
    uint32_t lanes = 0;
    double bytes_per_s = 0;
    tdm_vertex vertex = {.kind = TDM_VERTEX_NIC,
                         .node = node,
                         .address = tdm_bus_id_write(r->arena, bus),
                         .nic_bytes_per_s = r->options->nic_bytes_per_s};
    if (link_of(r, pci, &lanes, &bytes_per_s) != TDM_OK)
        return TDM_E_INVALID;
    const tdm_xml *nic = tdm_xml_child(pci, "nic");
    if (nic)
        return add_nets(r, nic, vertex, parent, lanes, bytes_per_s);
    tdm_import_hang(&r->builder, tdm_graph_add(&r->builder, &vertex), parent, lanes, bytes_per_s);
    return TDM_OK;
}

static tdm_code add_gpu_link(reader *r, const tdm_xml *pci, uint32_t parent)
{
    uint32_t lanes = 0;
    double bytes_per_s = 0;
    for (uint32_t i = 0; i < r->n_devices; i++) {
        if (r->devices[i].pci != pci)
            continue;
        if (link_of(r, pci, &lanes, &bytes_per_s) != TDM_OK)
            return TDM_E_INVALID;
        tdm_import_hang(&r->builder, r->devices[i].vertex, parent, lanes, bytes_per_s);
    }
    return TDM_OK;
}

static tdm_code add_tree(reader *r, const tdm_xml *above, uint32_t node, uint32_t parent)
{
    tdm_code code = TDM_OK;
    for (const tdm_xml *pci = above->first; pci; pci = pci->next) {
        uint64_t bus = 0;
        uint32_t lanes = 0;
        double bytes_per_s = 0;
        if (!tdm_xml_is(pci, "pci") || bus_of(r, pci, &bus) != TDM_OK)
            continue;
        pci_kind kind = kind_of(r, pci, bus);
        tdm_code here = TDM_OK;
        if (kind == PCI_GPU)
            here = add_gpu_link(r, pci, parent);
        else if (kind == PCI_NIC)
            here = add_nic(r, pci, bus, node, parent);
        else if (kind == PCI_SWITCH) {
            here = link_of(r, pci, &lanes, &bytes_per_s);
            uint32_t vertex = tdm_graph_add(
                &r->builder, &(tdm_vertex){.kind = TDM_VERTEX_PCIE_SWITCH,
                                           .node = node,
                                           .address = tdm_bus_id_write(r->arena, bus)});
            tdm_import_hang(&r->builder, vertex, parent, lanes, bytes_per_s);
            if (add_tree(r, pci, node, vertex) != TDM_OK)
                here = TDM_E_INVALID;
        }
        code = here == TDM_OK ? code : here;
    }
    return code;
}

static tdm_cpu_vendor vendor_of(const tdm_xml *cpu)
{
    const char *arch = tdm_xml_get(cpu, "arch"), *vendor = tdm_xml_get(cpu, "vendor");
    if (tdm_nccl_begins(arch, "arm64"))
        return TDM_CPU_ARM;
    if (tdm_nccl_begins(arch, "ppc64"))
        return TDM_CPU_IBM;
    return tdm_import_cpu_vendor(vendor ? vendor : "");
}

static tdm_code add_cpu(reader *r, const tdm_xml *cpu)
{
    uint32_t node = 0;
    int64_t numa = -1, family = 0, model = 0;
    if (r->builder.n_of_kind[TDM_VERTEX_SOCKET] == MAX_SOCKETS)
        return tdm_xml_error(cpu, r->err, "more than %d of them", MAX_SOCKETS);
    if (tdm_nccl_node_of(r, cpu, &node) != TDM_OK ||
        tdm_xml_integer(cpu, "numaid", -1, -1, MAX_NUMBER, &numa, r->err) != TDM_OK ||
        tdm_xml_integer(cpu, "familyid", 0, 0, MAX_NUMBER, &family, r->err) != TDM_OK ||
        tdm_xml_integer(cpu, "modelid", 0, 0, MAX_NUMBER, &model, r->err) != TDM_OK)
        return TDM_E_INVALID;
    uint32_t socket = tdm_graph_add(
        &r->builder,
        &(tdm_vertex){.kind = TDM_VERTEX_SOCKET,
                      .node = node,
                      .cpu = vendor_of(cpu),
                      .cpu_family = (uint32_t)family,
                      .cpu_model = (uint32_t)model,
                      .cpus = tdm_import_cpu_ranges(r->arena, tdm_xml_get(cpu, "affinity")),
                      .numa = (int32_t)numa});
    tdm_code code = add_tree(r, cpu, node, socket);
    for (const tdm_xml *nic = cpu->first; nic; nic = nic->next) {
        /* A virtual adapter: NCCL lets nothing but its own speed limit it. */
        const tdm_vertex vertex = {.kind = TDM_VERTEX_NIC, .node = node};
        if (tdm_xml_is(nic, "nic") &&
            add_nets(r, nic, vertex, socket, 1, TDM_RATE_UNLIMITED) != TDM_OK)
            code = TDM_E_INVALID;
    }
    return code;
}

static bool recognises(const char *text, size_t n_bytes)
{
    return tdm_import_has_root(text, n_bytes, "system");
}

static tdm_code read_xml(tdm_arena *arena, const char *path, const char *text, size_t n_bytes,
                         const tdm_import_options *options, tdm_graph *graph, tdm_error *notes,
                         tdm_error *err)
{
    tdm_xml *system = NULL;
    reader *r = TDM_ALLOC(arena, reader, 1);
    *r = (reader){.arena = arena, .options = options, .notes = notes, .err = err, .path = path};
    tdm_graph_builder_init(&r->builder, arena);
    tdm_code code = tdm_xml_parse(arena, path, text, n_bytes, &system, err);
    if (code != TDM_OK)
        return code;
    if (!tdm_xml_is(system, "system"))
        return tdm_xml_error(system, err, "expected <system>");
    if (collect(r, system) != TDM_OK)
        return TDM_E_INVALID;
    add_gpus(r);
    for (const tdm_xml *cpu = system->first; cpu; cpu = cpu->next)
        if (tdm_xml_is(cpu, "cpu") && add_cpu(r, cpu) != TDM_OK)
            code = TDM_E_INVALID;
    if (code != TDM_OK || tdm_nccl_connect(r, system) != TDM_OK)
        return TDM_E_INVALID;
    tdm_import_join_sockets(&r->builder);
    *graph = tdm_graph_finish(&r->builder, path);
    return TDM_OK;
}

const tdm_import tdm_import_nccl_xml = {
    .name = "nccl-xml",
    .summary = "NCCL's topology XML (NCCL_TOPO_FILE, NCCL_TOPO_DUMP_FILE)",
    .recognises = recognises,
    .read = read_xml,
};
