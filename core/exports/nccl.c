/* NCCL's topology XML, fit for NCCL_TOPO_FILE and to be read back. Several nodes get a host_hash
 * each; the network between them has no place in this format. What has no bus id gets one. */
#include "core/export.h"
#include "core/graph_rates.h"
#include "core/graph_tree.h"

#include <stdlib.h>
#include <string.h>

typedef struct writer {
    tdm_arena *arena;
    const tdm_graph *graph;
    tdm_graph_tree tree;
    const char **addresses; /* [n_vertices] */
    FILE *file;
} writer;

/* Bus ids for what has none, in domains that no machine uses for its devices. */
static void name_addresses(writer *w)
{
    w->addresses = TDM_ALLOC(w->arena, const char *, w->graph->n_vertices + 1u);
    for (uint32_t v = 0; v < w->graph->n_vertices; v++) {
        const char *own = w->graph->vertices[v].address;
        w->addresses[v] =
            own ? own : tdm_arena_printf(w->arena, "%x:%02x:00.0", 0xe0000u + (v >> 8), v & 0xff);
    }
}

static void indent(const writer *w, uint32_t depth)
{
    fprintf(w->file, "%*s", (int)(2 * depth), "");
}

/* <pci ...> without its end; what has no link upwards gets the slot of a GPU of this kind. */
static void open_pci(const writer *w, uint32_t v, const char *class, uint32_t depth)
{
    const tdm_vertex *vertex = &w->graph->vertices[v];
    uint32_t up = w->tree.up[v], lanes = 16, generation = tdm_pcie_of_gpu(vertex->sm);
    if (up != TDM_NO_VERTEX) {
        const tdm_edge *edge = &w->graph->edges[up];
        lanes = edge->count;
        generation = tdm_pcie_nearest(edge->bytes_per_s, lanes);
    }
    indent(w, depth);
    fprintf(w->file, "<pci busid=\"%s\" class=\"%s\" link_speed=\"%s\" link_width=\"%u\"",
            w->addresses[v], class, tdm_pcie_link_speed(generation ? generation : 3), lanes);
}

static void write_nvlinks(const writer *w, uint32_t gpu, uint32_t depth)
{
    const tdm_graph *g = w->graph;
    for (uint32_t e = g->first_edge[gpu]; e < g->first_edge[gpu + 1]; e++) {
        const tdm_edge *edge = &g->edges[e];
        tdm_vertex_kind kind = g->vertices[edge->to].kind;
        if (edge->wire != TDM_WIRE_C2C && edge->wire != TDM_WIRE_NVLINK)
            continue;
        indent(w, depth);
        if (edge->wire == TDM_WIRE_C2C)
            fprintf(w->file, "<c2c bw=\"%.0f\" count=\"%u\"/>\n",
                    edge->bytes_per_s / edge->count / 1e6, edge->count);
        else
            fprintf(w->file, "<nvlink target=\"%s\" count=\"%u\" tclass=\"%s\"/>\n",
                    kind == TDM_VERTEX_GPU ? w->addresses[edge->to] : "fffffff:ff:ff.0",
                    edge->count,
                    kind == TDM_VERTEX_GPU      ? "0x030200"
                    : kind == TDM_VERTEX_SOCKET ? "0x068001"
                                                : "0x068000");
    }
}

static bool has_own_links(const tdm_graph *g, uint32_t gpu)
{
    for (uint32_t e = g->first_edge[gpu]; e < g->first_edge[gpu + 1]; e++)
        if (g->edges[e].wire == TDM_WIRE_NVLINK || g->edges[e].wire == TDM_WIRE_C2C)
            return true;
    return false;
}

static void write_gpu(const writer *w, uint32_t v, uint32_t depth)
{
    const tdm_vertex *gpu = &w->graph->vertices[v];
    uint32_t dev = 0;
    for (uint32_t g = 0; g < gpu->index; g++)
        dev += w->graph->vertices[w->graph->gpus[g]].node == gpu->node;
    open_pci(w, v, "0x030200", depth);
    fprintf(w->file, ">\n");
    indent(w, depth + 1);
    fprintf(w->file, "<gpu dev=\"%u\" sm=\"%u\" rank=\"%u\" gdr=\"1\"", dev, gpu->sm, gpu->index);
    if (has_own_links(w->graph, v)) {
        fprintf(w->file, ">\n");
        write_nvlinks(w, v, depth + 2);
        indent(w, depth + 1);
        fprintf(w->file, "</gpu>\n");
    } else {
        fprintf(w->file, "/>\n");
    }
    indent(w, depth);
    fprintf(w->file, "</pci>\n");
}

static void write_net(const writer *w, uint32_t v, uint32_t port, uint32_t depth)
{
    const tdm_vertex *nic = &w->graph->vertices[v];
    indent(w, depth);
    fprintf(w->file, "<net name=\"");
    tdm_export_xml_text(w->file, nic->label ? nic->label : nic->name);
    fprintf(w->file,
            "\" dev=\"%u\" speed=\"%.0f\" port=\"%u\" latency=\"%f\" guid=\"0x%x\" "
            "maxconn=\"131072\" gdr=\"%d\"/>\n",
            nic->index, nic->nic_bytes_per_s * 8 / 1e6, port, nic->nic_latency_s * 1e6,
            nic->index + 1, nic->nic_gpu_direct);
}

static bool same_adapter(const writer *w, uint32_t a, uint32_t b)
{
    const tdm_vertex *x = &w->graph->vertices[a], *y = &w->graph->vertices[b];
    return x->kind == TDM_VERTEX_NIC && y->kind == TDM_VERTEX_NIC && x->address && y->address &&
           strcmp(x->address, y->address) == 0;
}

/* An adapter's ports together, when v is the first of them. */
static void write_nic(const writer *w, uint32_t v, uint32_t depth)
{
    const tdm_vertex *nic = &w->graph->vertices[v];
    uint32_t parent = w->tree.parent[v], port = 1;
    for (uint32_t s = parent == TDM_NO_VERTEX ? v : w->tree.first_child[parent]; s != v;
         s = w->tree.next_sibling[s])
        if (same_adapter(w, s, v))
            return;
    bool bare = nic->nic_bytes_per_s <= 0;
    bool is_virtual = !nic->address && parent != TDM_NO_VERTEX &&
                      w->graph->edges[w->tree.up[v]].bytes_per_s >= TDM_RATE_UNLIMITED;
    if (!is_virtual) {
        open_pci(w, v, "0x020000", depth++);
        fprintf(w->file, bare ? "/>\n" : ">\n");
    }
    if (bare)
        return;
    indent(w, depth);
    fprintf(w->file, "<nic>\n");
    for (uint32_t s = v; s != TDM_NO_VERTEX; s = w->tree.next_sibling[s])
        if (s == v || same_adapter(w, s, v))
            write_net(w, s, port++, depth + 1);
    indent(w, depth);
    fprintf(w->file, "</nic>\n");
    if (!is_virtual) {
        indent(w, depth - 1);
        fprintf(w->file, "</pci>\n");
    }
}

static void write_peers(const writer *w, uint32_t v, uint32_t depth)
{
    const tdm_graph *g = w->graph;
    for (uint32_t e = g->first_edge[v]; e < g->first_edge[v + 1]; e++) {
        const tdm_edge *edge = &g->edges[e];
        if (g->vertices[edge->to].kind != TDM_VERTEX_PCIE_SWITCH ||
            edge->bytes_per_s < TDM_RATE_UNLIMITED)
            continue;
        indent(w, depth);
        fprintf(w->file, "<pcilink target=\"%s\"/>\n", w->addresses[edge->to]);
    }
}

static void write_below(const writer *w, uint32_t parent, uint32_t depth);

/* An adapter that the graph hangs on its GPU: both under one switch, as near as NCCL can see. */
static void write_gpu_and_below(const writer *w, uint32_t v, uint32_t depth)
{
    bool alone = w->tree.first_child[v] == TDM_NO_VERTEX;
    if (!alone) {
        indent(w, depth++);
        fprintf(w->file,
                "<pci busid=\"%x:%02x:01.0\" class=\"0x060400\" link_speed=\"%s\" "
                "link_width=\"16\">\n",
                0xe0000u + (v >> 8), v & 0xff, tdm_pcie_link_speed(5));
    }
    write_gpu(w, v, depth);
    write_below(w, v, depth);
    if (!alone) {
        indent(w, depth - 1);
        fprintf(w->file, "</pci>\n");
    }
}

static void write_vertex(const writer *w, uint32_t v, uint32_t depth)
{
    switch (w->graph->vertices[v].kind) {
    case TDM_VERTEX_GPU:
        write_gpu_and_below(w, v, depth);
        break;
    case TDM_VERTEX_NIC:
        write_nic(w, v, depth);
        break;
    case TDM_VERTEX_PCIE_SWITCH:
        open_pci(w, v, "0x060400", depth);
        fprintf(w->file, ">\n");
        write_below(w, v, depth + 1);
        write_peers(w, v, depth + 1);
        indent(w, depth);
        fprintf(w->file, "</pci>\n");
        break;
    default:
        write_below(w, v, depth); /* NCCL does not know root ports */
    }
}

static void write_below(const writer *w, uint32_t parent, uint32_t depth)
{
    for (uint32_t c = w->tree.first_child[parent]; c != TDM_NO_VERTEX; c = w->tree.next_sibling[c])
        write_vertex(w, c, depth);
}

/* "0-23,48-71" as words of 32 bits in hexadecimal, the last one for the first processors. */
static void write_affinity(const writer *w, const char *cpus)
{
    enum { MAX_CPUS = 4096 };
    uint32_t words[MAX_CPUS / 32] = {0}, n_words = 1;
    for (const char *at = cpus; *at;) {
        char *end;
        unsigned long first = strtoul(at, &end, 10), last = first;
        if (end == at)
            break;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        for (unsigned long c = first; c <= last && c < MAX_CPUS; c++) {
            words[c / 32] |= 1u << c % 32;
            n_words = c / 32 + 1 > n_words ? (uint32_t)(c / 32 + 1) : n_words;
        }
        at = *end == ',' ? end + 1 : end;
    }
    fprintf(w->file, " affinity=\"");
    for (uint32_t i = n_words; i > 0; i--)
        fprintf(w->file, "%08x%s", words[i - 1], i > 1 ? "," : "\"");
}

static void open_cpu(const writer *w, const tdm_vertex *cpu)
{
    static const char *const kinds[] = {
        [TDM_CPU_UNKNOWN] = "",
        [TDM_CPU_INTEL] = " arch=\"x86_64\" vendor=\"GenuineIntel\"",
        [TDM_CPU_AMD] = " arch=\"x86_64\" vendor=\"AuthenticAMD\"",
        [TDM_CPU_ARM] = " arch=\"arm64\"",
        [TDM_CPU_IBM] = " arch=\"ppc64\"",
        [TDM_CPU_ZHAOXIN] = " arch=\"x86_64\" vendor=\"CentaurHauls\"",
    };
    fprintf(w->file, "  <cpu");
    if (w->graph->n_nodes > 1)
        fprintf(w->file, " host_hash=\"0x%x\"", cpu->node + 1);
    fprintf(w->file, " numaid=\"%d\"", (int)cpu->numa);
    if (cpu->cpus)
        write_affinity(w, cpu->cpus);
    fprintf(w->file, "%s familyid=\"%u\" modelid=\"%u\">\n", kinds[cpu->cpu], cpu->cpu_family,
            cpu->cpu_model);
}

static tdm_code write_xml(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    writer w = {.arena = arena, .graph = graph, .file = file};
    (void)err;
    w.tree = tdm_graph_tree_make(arena, graph);
    name_addresses(&w);
    fprintf(file, "<system version=\"1\">\n");
    for (uint32_t i = 0; i < w.tree.n_roots; i++) {
        const tdm_vertex *root = &graph->vertices[w.tree.roots[i]];
        bool is_socket = root->kind == TDM_VERTEX_SOCKET;
        const tdm_vertex none = {.node = root->node, .numa = -1};
        open_cpu(&w, is_socket ? root : &none);
        write_vertex(&w, w.tree.roots[i], 2);
        fprintf(file, "  </cpu>\n");
    }
    fprintf(file, "</system>\n");
    return TDM_OK;
}

const tdm_export tdm_export_nccl = {
    .name = "nccl",
    .summary = "NCCL's topology XML, for NCCL_TOPO_FILE",
    .write = write_xml,
};
