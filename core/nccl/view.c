/* view.c: from the wired graph to NCCL's view of one node.
 * Source of all figures: NCCL 2.28.9, src/graph/topo.h and topo.cc. */
#include "core/nccl/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double tdm_nccl_nvlink_bw(uint32_t sm)
{
    return sm >= 100 ? 40.1 : sm >= 90 ? 20.6 : sm == 86 ? 12 : sm >= 70 ? 20 : sm >= 60 ? 18 : 20;
}

/* PCIe: NCCL counts 15 x 2^(generation - 1) / 80 GB/s per lane. The generation is the fastest that
 * the lanes reach with what they carry, be it the wire's rate or what payload gets of it. */
static double pcie_bw(const tdm_edge *edge)
{
    const double first = 15.0 / 80;
    double per_lane = edge->bytes_per_s * 1e-9 / edge->count;
    if (edge->count == 0 || per_lane < first)
        return edge->bytes_per_s * 1e-9;
    return edge->count * first * pow(2, fmin(floor(log2(per_lane / first) + 1e-9), 5));
}

static double socket_bw(const tdm_edge *edge, const tdm_vertex *socket)
{
    switch (socket->cpu) {
    case TDM_CPU_INTEL:
        return socket->cpu_model >= 0xCF   ? 40
               : socket->cpu_model >= 0x8F ? 22
               : socket->cpu_model >= 0x55 ? 10
                                           : 6;
    case TDM_CPU_AMD:
        return 16;
    case TDM_CPU_ARM:
        return 6;
    case TDM_CPU_IBM:
        return 32;
    case TDM_CPU_ZHAOXIN:
        return 6;
    default:
        return edge->bytes_per_s * 1e-9;
    }
}

typedef struct maker {
    tdm_arena *arena;
    const tdm_graph *graph;
    uint32_t *node_of;          /* [n_vertices] node, UINT32_MAX: not in the view */
    uint32_t *wanted, n_wanted; /* vertices of the view, and root ports */
    tdm_nccl_node *nodes;
    tdm_nccl_link *links;
    uint32_t n_nodes, n_links;
} maker;

static tdm_nccl_kind kind_of(tdm_vertex_kind kind)
{
    switch (kind) {
    case TDM_VERTEX_GPU:
        return TDM_NCCL_GPU;
    case TDM_VERTEX_NVSWITCH:
        return TDM_NCCL_NVS;
    case TDM_VERTEX_SOCKET:
        return TDM_NCCL_CPU;
    case TDM_VERTEX_NIC:
        return TDM_NCCL_NIC;
    default:
        return TDM_NCCL_PCI;
    }
}

static uint32_t add_node(maker *make, uint32_t v, tdm_nccl_kind kind)
{
    const tdm_vertex *vertex = &make->graph->vertices[v];
    make->nodes[make->n_nodes] = (tdm_nccl_node){.kind = kind,
                                                 .vertex = v,
                                                 .sm = vertex->sm,
                                                 .vendor = vertex->cpu,
                                                 .bw = vertex->nic_bytes_per_s * 1e-9,
                                                 .latency_us = vertex->nic_latency_s * 1e6,
                                                 .gpu_direct = vertex->nic_gpu_direct};
    return make->n_nodes++;
}

static bool is_port_of_processor(const maker *make, uint32_t v)
{
    return make->graph->vertices[v].kind == TDM_VERTEX_ROOT_PORT;
}

/* The edge from v that leads on from a root port, which NCCL does not see, to its socket. */
static const tdm_edge *edge_to_socket(const maker *make, uint32_t v)
{
    const tdm_graph *graph = make->graph;
    for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++)
        if (graph->vertices[graph->edges[e].to].kind == TDM_VERTEX_SOCKET)
            return &graph->edges[e];
    return NULL;
}

static void add_wire(maker *make, tdm_nccl_link *link, tdm_nccl_wire wire)
{
    tdm_nccl_wire *made = TDM_ALLOC(make->arena, tdm_nccl_wire, 1);
    wire.next = link->wire;
    *made = wire;
    link->wire = made;
}

/* Bundles between the same two nodes become one. wires: of the two directions, NULL: none. */
static void add_pair(maker *make, uint32_t a, uint32_t b, tdm_nccl_link link,
                     const tdm_nccl_wire wires[2])
{
    uint32_t l = 0;
    while (l < make->n_links && (make->links[l].from != a || make->links[l].to != b ||
                                 make->links[l].reach != link.reach))
        l++;
    if (l == make->n_links) {
        make->links[l] = make->links[l + 1] = link;
        make->links[l].from = make->links[l + 1].to = a;
        make->links[l].to = make->links[l + 1].from = b;
        make->links[l].back = l + 1;
        make->links[l + 1].back = l;
        make->n_links += 2;
    } else {
        make->links[l].bw += link.bw;
        make->links[make->links[l].back].bw += link.bw;
    }
    if (wires) {
        add_wire(make, &make->links[l], wires[0]);
        add_wire(make, &make->links[make->links[l].back], wires[1]);
    }
}

/* The edge of the other direction; of bundles beside each other the one of the same place. */
static uint32_t edge_back(const tdm_graph *graph, uint32_t e)
{
    const tdm_edge *edge = &graph->edges[e];
    uint32_t place = 0, back = UINT32_MAX;
    for (uint32_t i = graph->first_edge[edge->from]; i < e; i++)
        place += graph->edges[i].to == edge->to && graph->edges[i].wire == edge->wire;
    for (uint32_t i = graph->first_edge[edge->to]; i < graph->first_edge[edge->to + 1]; i++)
        if (graph->edges[i].to == edge->from && graph->edges[i].wire == edge->wire) {
            back = i;
            if (place-- == 0)
                break;
        }
    return back;
}

/* NCCL's figure for an edge. NVLinks to processors do not occur on what this program knows. */
static bool link_of(const maker *make, const tdm_edge *edge, tdm_nccl_link *link)
{
    const tdm_vertex *from = &make->graph->vertices[edge->from];
    const tdm_vertex *to = &make->graph->vertices[edge->to];
    switch (edge->wire) {
    case TDM_WIRE_NVLINK: {
        uint32_t sm = from->kind == TDM_VERTEX_GPU ? from->sm : to->sm;
        link->reach = TDM_NCCL_NVL;
        link->is_nvlink = true;
        link->bw = edge->count ? edge->count * tdm_nccl_nvlink_bw(sm) : edge->bytes_per_s * 1e-9;
        return true;
    }
    case TDM_WIRE_C2C:
        link->reach = TDM_NCCL_C2C;
        link->bw = edge->bytes_per_s * 1e-9;
        return true;
    case TDM_WIRE_PCIE:
        link->reach = TDM_NCCL_PIX;
        link->is_pcie = true;
        link->bw = pcie_bw(edge);
        return true;
    case TDM_WIRE_SOCKET:
        link->reach = TDM_NCCL_SYS;
        link->bw = socket_bw(edge, from);
        return true;
    default:
        return false;
    }
}

/* Links of both directions from an edge that has a counterpart; a root port is passed over. */
static void add_edge(maker *make, uint32_t e)
{
    const tdm_graph *graph = make->graph;
    const tdm_edge *edge = &graph->edges[e];
    tdm_nccl_link link = {0};
    if (edge->from > edge->to || !link_of(make, edge, &link))
        return;
    uint32_t ends[2] = {edge->from, edge->to}, back = edge_back(graph, e);
    tdm_nccl_wire wires[2] = {{1, {e, 0}, 0, NULL}, {1, {back, 0}, 0, NULL}};
    for (int i = 0; i < 2 && back != UINT32_MAX; i++) {
        const tdm_edge *on =
            is_port_of_processor(make, ends[i]) ? edge_to_socket(make, ends[i]) : NULL;
        if (!on)
            continue;
        uint32_t up = (uint32_t)(on - graph->edges), down = edge_back(graph, up);
        link.bw = fmin(link.bw, pcie_bw(on));
        ends[i] = on->to;
        if (down == UINT32_MAX)
            continue;
        /* Towards the socket the port's own edge comes last, away from it first. */
        wires[i] = (tdm_nccl_wire){2, {down, i ? back : e}, 0, NULL};
        wires[1 - i] = (tdm_nccl_wire){2, {i ? e : back, up}, 0, NULL};
    }
    uint32_t a = make->node_of[ends[0]], b = make->node_of[ends[1]];
    wires[0].bw = wires[1].bw = link.bw;
    if (a != UINT32_MAX && b != UINT32_MAX && a != b)
        add_pair(make, a, b, link, back == UINT32_MAX ? NULL : wires);
}

static void add_links(maker *make)
{
    const tdm_graph *graph = make->graph;
    for (uint32_t w = 0; w < make->n_wanted; w++)
        for (uint32_t e = graph->first_edge[make->wanted[w]];
             e < graph->first_edge[make->wanted[w] + 1]; e++)
            add_edge(make, e);
}

/* Links sorted by the node they leave. */
static void sort_links(maker *make, tdm_nccl_view *view)
{
    uint32_t *place = TDM_ALLOC(make->arena, uint32_t, make->n_links + 1);
    uint32_t *next = TDM_ALLOC(make->arena, uint32_t, make->n_nodes + 1);
    view->links = TDM_ALLOC(make->arena, tdm_nccl_link, make->n_links + 1);
    for (uint32_t l = 0; l < make->n_links; l++)
        make->nodes[make->links[l].from].n_links++;
    for (uint32_t n = 0, first = 0; n < make->n_nodes; n++) {
        make->nodes[n].first_link = next[n] = first;
        first += make->nodes[n].n_links;
    }
    for (uint32_t l = 0; l < make->n_links; l++)
        place[l] = next[make->links[l].from]++;
    for (uint32_t l = 0; l < make->n_links; l++) {
        view->links[place[l]] = make->links[l];
        view->links[place[l]].back = place[make->links[l].back];
    }
    view->n_links = make->n_links;
}

static void index_kinds(maker *make, tdm_nccl_view *view)
{
    for (int kind = 0; kind < TDM_NCCL_N_KINDS; kind++) {
        uint32_t *nodes = TDM_ALLOC(make->arena, uint32_t, make->n_nodes + 1);
        for (uint32_t n = 0; n < make->n_nodes; n++)
            if (make->nodes[n].kind == (tdm_nccl_kind)kind) {
                make->nodes[n].index = view->n_of[kind];
                nodes[view->n_of[kind]++] = n;
            }
        view->of[kind] = nodes;
    }
    view->n_nodes = make->n_nodes;
    view->nodes = make->nodes;
}

/* Place of each GPU among all of its machine, as CUDA numbers them. */
static void number_devices(const tdm_graph *graph, tdm_nccl_view *view)
{
    for (uint32_t i = 0; i < view->n_of[TDM_NCCL_GPU]; i++) {
        tdm_nccl_node *node = &view->nodes[view->of[TDM_NCCL_GPU][i]];
        const tdm_vertex *vertex = &graph->vertices[node->vertex];
        for (uint32_t v = graph->first_of_node[vertex->node];
             v < graph->first_of_node[vertex->node + 1]; v++) {
            const tdm_vertex *other = &graph->vertices[graph->by_node[v]];
            node->device += other->kind == TDM_VERTEX_GPU && other->index < vertex->index;
        }
    }
}

static tdm_code check(const tdm_graph *graph, tdm_nccl_view *view, bool with_network,
                      tdm_error *err)
{
    uint32_t n_gpus = view->n_of[TDM_NCCL_GPU], n_ports = view->n_of[TDM_NCCL_PORT];
    if (n_gpus > TDM_NCCL_MAX_LOCAL || n_ports > TDM_NCCL_MAX_LOCAL)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: a node of %u GPUs and %u adapters: at most %u of each can be "
                             "searched for channels",
                             graph->name, n_gpus, n_ports, TDM_NCCL_MAX_LOCAL);
    if (with_network && n_ports == 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: a node without network adapters cannot reach the others",
                             graph->name);
    view->min_sm = UINT32_MAX;
    for (uint32_t i = 0; i < n_gpus; i++) {
        const tdm_nccl_node *gpu = &view->nodes[view->of[TDM_NCCL_GPU][i]];
        if (gpu->sm == 0)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "%s: the compute capability of %s is not known: NCCL's choices "
                                 "depend on it",
                                 graph->name, graph->vertices[gpu->vertex].name);
        view->min_sm = gpu->sm < view->min_sm ? gpu->sm : view->min_sm;
        view->max_sm = gpu->sm > view->max_sm ? gpu->sm : view->max_sm;
    }
    if (view->n_of[TDM_NCCL_CPU] > 0)
        view->vendor = view->nodes[view->of[TDM_NCCL_CPU][0]].vendor;
    return TDM_OK;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Adds the vertices of a machine, or (n_nodes) the NVSwitches of none. */
static void want(maker *make, uint32_t machine, const uint32_t *members, uint32_t n_members,
                 bool with_network)
{
    const tdm_graph *graph = make->graph;
    for (uint32_t i = graph->first_of_node[machine]; i < graph->first_of_node[machine + 1]; i++) {
        uint32_t v = graph->by_node[i];
        tdm_vertex_kind kind = graph->vertices[v].kind;
        bool wanted =
            machine < graph->n_nodes ? kind != TDM_VERTEX_SWITCH : kind == TDM_VERTEX_NVSWITCH;
        wanted &= kind != TDM_VERTEX_NIC || with_network;
        wanted &= kind != TDM_VERTEX_GPU ||
                  bsearch(&v, members, n_members, sizeof *members, by_number) != NULL;
        if (wanted)
            make->wanted[make->n_wanted++] = v;
    }
}

/* Lists the vertices of the view, ascending, and makes room for what they become. */
static void list_wanted(maker *make, tdm_arena *scratch, const uint32_t *ranks, uint32_t n_ranks,
                        bool with_network)
{
    const tdm_graph *graph = make->graph;
    const uint32_t *first = graph->first_of_node;
    uint32_t *members = TDM_ALLOC(scratch, uint32_t, n_ranks + 1);
    uint32_t *machines = TDM_ALLOC(scratch, uint32_t, n_ranks + 1);
    uint32_t n_edges = 0, room = first[graph->n_nodes + 1] - first[graph->n_nodes];
    for (uint32_t i = 0; i < n_ranks; i++) {
        members[i] = graph->gpus[ranks[i]];
        machines[i] = graph->vertices[members[i]].node;
    }
    qsort(members, n_ranks, sizeof *members, by_number);
    qsort(machines, n_ranks, sizeof *machines, by_number);
    for (uint32_t i = 0; i < n_ranks; i++)
        if (i == 0 || machines[i] != machines[i - 1])
            room += first[machines[i] + 1] - first[machines[i]];
    make->wanted = TDM_ALLOC(scratch, uint32_t, room + 1);
    for (uint32_t i = 0; i < n_ranks; i++)
        if (i == 0 || machines[i] != machines[i - 1])
            want(make, machines[i], members, n_ranks, with_network);
    want(make, graph->n_nodes, members, n_ranks, with_network);
    qsort(make->wanted, make->n_wanted, sizeof *make->wanted, by_number);
    for (uint32_t w = 0; w < make->n_wanted; w++)
        n_edges += graph->first_edge[make->wanted[w] + 1] - graph->first_edge[make->wanted[w]];
    make->nodes = TDM_ALLOC(make->arena, tdm_nccl_node, 2 * (make->n_wanted + 1));
    make->links = TDM_ALLOC(make->arena, tdm_nccl_link, 2 * (n_edges + make->n_wanted + 1));
}

tdm_code tdm_nccl_view_build(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                             uint32_t n_ranks, bool with_network, tdm_nccl_view *view,
                             tdm_error *err)
{
    tdm_arena scratch = {0};
    maker make = {.arena = arena, .graph = graph};
    make.node_of = TDM_ALLOC(&scratch, uint32_t, graph->n_vertices + 1);
    memset(make.node_of, 0xff, graph->n_vertices * sizeof *make.node_of);
    list_wanted(&make, &scratch, ranks, n_ranks, with_network);
    for (uint32_t w = 0; w < make.n_wanted; w++)
        if (!is_port_of_processor(&make, make.wanted[w]))
            make.node_of[make.wanted[w]] =
                add_node(&make, make.wanted[w], kind_of(graph->vertices[make.wanted[w]].kind));
    add_links(&make);
    for (uint32_t n = 0, n_devices = make.n_nodes; n < n_devices; n++)
        if (make.nodes[n].kind == TDM_NCCL_NIC)
            add_pair(&make, n, add_node(&make, make.nodes[n].vertex, TDM_NCCL_PORT),
                     (tdm_nccl_link){.reach = TDM_NCCL_LOC, .bw = make.nodes[n].bw}, NULL);
    tdm_arena_free(&scratch);
    tdm_nccl_view built = {0};
    sort_links(&make, &built);
    index_kinds(&make, &built);
    number_devices(graph, &built);
    tdm_code code = check(graph, &built, with_network, err);
    if (code == TDM_OK)
        code = tdm_nccl_view_paths(arena, &built, with_network, graph->name, err);
    if (code == TDM_OK)
        *view = built;
    return code;
}

bool tdm_nccl_view_same(const tdm_nccl_view *a, const tdm_nccl_view *b)
{
    if (a->n_nodes != b->n_nodes || a->n_links != b->n_links)
        return false;
    for (uint32_t n = 0; n < a->n_nodes; n++) {
        const tdm_nccl_node *x = &a->nodes[n], *y = &b->nodes[n];
        if (x->kind != y->kind || x->sm != y->sm || x->device != y->device || x->bw != y->bw ||
            x->vendor != y->vendor || x->gpu_direct != y->gpu_direct ||
            x->latency_us != y->latency_us || x->n_links != y->n_links)
            return false;
    }
    for (uint32_t l = 0; l < a->n_links; l++)
        if (a->links[l].from != b->links[l].from || a->links[l].to != b->links[l].to ||
            a->links[l].reach != b->links[l].reach || a->links[l].bw != b->links[l].bw)
            return false;
    return true;
}
