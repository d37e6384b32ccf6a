/* traffic.c: adds up what hops of an operation put on edges, and groups edges by what they carry.
 */
#include "core/nccl/traffic.h"

#include "core/nccl/tuning.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Edges whose loads differ by less than this, relatively, carry the same: sums of shares in another
 * order. */
static const double SAME = 1e-9;

struct tdm_nccl_loads {
    tdm_arena *scratch;
    const tdm_nccl_comm *comm;
    tdm_nccl_func func;
    double *bytes; /* [n_links] of the graph: edges, then vertices */
    /* Shortest ways over the network from one adapter. */
    uint32_t from;
    uint32_t *last_edge, *queue; /* [n_vertices] */
    uint32_t cut[2];             /* adapters that nothing joins; the same: none */
    uint32_t *place_of, *gpu_of; /* [n_ranks] */
};

const tdm_nccl_comm *tdm_nccl_loads_comm(const tdm_nccl_loads *loads)
{
    return loads->comm;
}

tdm_nccl_func tdm_nccl_loads_func(const tdm_nccl_loads *loads)
{
    return loads->func;
}

static void add_link(tdm_nccl_loads *loads, const tdm_nccl_link *link, double share)
{
    for (const tdm_nccl_wire *wire = link->wire; wire; wire = wire->next)
        for (uint32_t e = 0; e < wire->n_edges; e++)
            loads->bytes[wire->edges[e]] += share * wire->bw / link->bw;
}

static void add_path(tdm_nccl_loads *loads, const tdm_nccl_view *view, uint32_t from, uint32_t to,
                     double share)
{
    const tdm_nccl_path *path = tdm_nccl_path_of(view, from, to);
    const tdm_graph *graph = loads->comm->graph;
    for (uint32_t l = 0; l < path->n_links; l++) {
        const tdm_nccl_link *link = &view->links[path->links[l]];
        uint32_t passed = view->nodes[link->to].vertex;
        add_link(loads, link, share);
        if (l + 1 < path->n_links && graph->vertices[passed].through_bytes_per_s > 0)
            loads->bytes[graph->n_edges + passed] += share;
    }
}

void tdm_nccl_load_gpus(tdm_nccl_loads *loads, uint32_t place, uint32_t from, uint32_t to,
                        double share)
{
    const tdm_nccl_view *view = &loads->comm->places[place].view;
    if (from != to)
        add_path(loads, view, view->of[TDM_NCCL_GPU][from], view->of[TDM_NCCL_GPU][to], share);
}

/* Breadth first over the network's wires from one adapter. */
static void search_network(tdm_nccl_loads *loads, uint32_t from)
{
    const tdm_graph *graph = loads->comm->graph;
    uint32_t head = 0, tail = 0;
    if (loads->from == from)
        return;
    memset(loads->last_edge, 0xff, graph->n_vertices * sizeof *loads->last_edge);
    loads->from = from;
    loads->queue[tail++] = from;
    while (head < tail) {
        uint32_t v = loads->queue[head++];
        if (v != from && graph->vertices[v].kind == TDM_VERTEX_NIC)
            continue; /* adapters pass nothing on */
        for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++) {
            uint32_t to = graph->edges[e].to;
            if (graph->edges[e].wire != TDM_WIRE_NETWORK || to == from ||
                loads->last_edge[to] != UINT32_MAX)
                continue;
            loads->last_edge[to] = e;
            loads->queue[tail++] = to;
        }
    }
}

static void add_network(tdm_nccl_loads *loads, uint32_t from, uint32_t to, double share)
{
    search_network(loads, from);
    if (loads->last_edge[to] == UINT32_MAX) {
        loads->cut[0] = from;
        loads->cut[1] = to;
        return;
    }
    while (to != from) {
        loads->bytes[loads->last_edge[to]] += share;
        to = loads->comm->graph->edges[loads->last_edge[to]].from;
    }
}

void tdm_nccl_load_across(tdm_nccl_loads *loads, uint32_t from_place, uint32_t from_gpu,
                          uint32_t from_port, uint32_t to_place, uint32_t to_port, uint32_t to_gpu,
                          double share)
{
    const tdm_nccl_view *out = &loads->comm->places[from_place].view,
                        *in = &loads->comm->places[to_place].view;
    uint32_t from = out->of[TDM_NCCL_PORT][from_port], to = in->of[TDM_NCCL_PORT][to_port];
    add_path(loads, out, out->of[TDM_NCCL_GPU][from_gpu], from, share);
    add_network(loads, out->nodes[from].vertex, in->nodes[to].vertex, share);
    add_path(loads, in, to, in->of[TDM_NCCL_GPU][to_gpu], share);
}

void tdm_nccl_load_switch(tdm_nccl_loads *loads, uint32_t place, uint32_t gpu, double up,
                          double down)
{
    const tdm_nccl_view *view = &loads->comm->places[place].view;
    uint32_t from = view->of[TDM_NCCL_GPU][gpu], to = view->of[TDM_NCCL_NVS][0];
    add_path(loads, view, from, to, up);
    for (uint32_t l = view->nodes[to].first_link;
         l < view->nodes[to].first_link + view->nodes[to].n_links; l++)
        if (view->links[l].to == from)
            add_link(loads, &view->links[l], down);
}

/* The port of the sender's node with the number of the receiver's, where the sender reaches it over
 * NVLink and the GPU beside it (PXN); else its own. Source: NCCL 2.28.9, src/graph/search.cc
 * (ncclTopoGetNetDev). */
static uint32_t sending_port(const tdm_nccl_view *view, uint32_t gpu, uint32_t wanted,
                             uint32_t turn)
{
    uint32_t n = view->n_of[TDM_NCCL_PORT];
    if (wanted < n &&
        tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][gpu], view->of[TDM_NCCL_PORT][wanted])
                ->reach <= TDM_NCCL_PXN)
        return wanted;
    return view->gpu_ports[gpu * n + turn % view->n_gpu_ports[gpu]];
}

void tdm_nccl_load_message(tdm_nccl_loads *loads, uint32_t from, uint32_t to, double share)
{
    uint32_t from_place = loads->place_of[from], to_place = loads->place_of[to];
    uint32_t from_gpu = loads->gpu_of[from], to_gpu = loads->gpu_of[to];
    if (from_place == to_place) {
        tdm_nccl_load_gpus(loads, from_place, from_gpu, to_gpu, share);
        return;
    }
    const tdm_nccl_view *in = &loads->comm->places[to_place].view;
    uint32_t n = in->n_gpu_ports[to_gpu];
    for (uint32_t i = 0; i < n; i++) {
        uint32_t port = in->gpu_ports[to_gpu * in->n_of[TDM_NCCL_PORT] + i];
        uint32_t own = sending_port(&loads->comm->places[from_place].view, from_gpu, port, i);
        tdm_nccl_load_across(loads, from_place, from_gpu, own, to_place, port, to_gpu, share / n);
    }
}

static tdm_nccl_loads *loads_new(tdm_arena *scratch, const tdm_nccl_comm *comm, tdm_nccl_func func)
{
    tdm_nccl_loads *loads = TDM_ALLOC(scratch, tdm_nccl_loads, 1);
    *loads = (tdm_nccl_loads){
        .scratch = scratch,
        .comm = comm,
        .func = func,
        .bytes = TDM_ALLOC(scratch, double, comm->graph->n_edges + comm->graph->n_vertices + 1),
        .from = UINT32_MAX,
        .last_edge = TDM_ALLOC(scratch, uint32_t, comm->graph->n_vertices + 1),
        .queue = TDM_ALLOC(scratch, uint32_t, comm->graph->n_vertices + 1),
        .place_of = TDM_ALLOC(scratch, uint32_t, comm->n_ranks + 1),
        .gpu_of = TDM_ALLOC(scratch, uint32_t, comm->n_ranks + 1),
    };
    for (uint32_t p = 0; p < comm->n_nodes; p++)
        for (uint32_t g = 0; g < comm->places[p].view.n_of[TDM_NCCL_GPU]; g++) {
            loads->place_of[comm->places[p].members[g]] = p;
            loads->gpu_of[comm->places[p].members[g]] = g;
        }
    return loads;
}

typedef struct loaded {
    uint32_t link;
    double share;
} loaded;

static int by_share(const void *a, const void *b)
{
    const loaded *x = a, *y = b;
    if (x->share != y->share)
        return x->share > y->share ? -1 : 1;
    return (x->link > y->link) - (x->link < y->link);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static tdm_nccl_traffic group(tdm_arena *arena, const tdm_nccl_loads *loads)
{
    const tdm_graph *graph = loads->comm->graph;
    uint32_t n_links = graph->n_edges + graph->n_vertices, n = 0, n_parts = 0;
    loaded *all = TDM_ALLOC(loads->scratch, loaded, n_links + 1);
    for (uint32_t l = 0; l < n_links; l++)
        if (loads->bytes[l] > 0)
            all[n++] = (loaded){l, loads->bytes[l]};
    if (n > 0)
        qsort(all, n, sizeof *all, by_share);
    tdm_nccl_part *parts = TDM_ALLOC(arena, tdm_nccl_part, n + 1);
    uint32_t *links = TDM_ALLOC(arena, uint32_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (n_parts == 0 || all[i].share < parts[n_parts - 1].share * (1 - SAME))
            parts[n_parts++] = (tdm_nccl_part){all[i].share, 0, links + i};
        parts[n_parts - 1].n_links++;
        links[i] = all[i].link;
    }
    for (uint32_t p = 0, first = 0; p < n_parts; first += parts[p++].n_links)
        qsort(links + first, parts[p].n_links, sizeof *links, by_number);
    return (tdm_nccl_traffic){n_parts, parts};
}

static tdm_code finish(tdm_arena *arena, const tdm_nccl_loads *loads, tdm_nccl_traffic *traffic,
                       tdm_error *err)
{
    const tdm_vertex *vertices = loads->comm->graph->vertices;
    if (loads->cut[0] != loads->cut[1])
        return tdm_error_add(err, TDM_E_INVALID, "%s: the network does not join %s and %s",
                             loads->comm->name, vertices[loads->cut[0]].name,
                             vertices[loads->cut[1]].name);
    *traffic = group(arena, loads);
    return TDM_OK;
}

/* All messages of an all-to-all, those that leave a place by one adapter in a row: the ways from it
 * are searched once. Places choose adapters by the receiver's number in its place. */
static void load_all_pairs(tdm_nccl_loads *loads)
{
    const tdm_nccl_comm *comm = loads->comm;
    for (uint32_t p = 0; p < comm->n_nodes; p++)
        for (uint32_t g = 0; g < comm->max_local; g++)
            for (uint32_t i = 0; i < comm->places[p].view.n_of[TDM_NCCL_GPU]; i++)
                for (uint32_t q = 0; q < comm->n_nodes; q++) {
                    const tdm_nccl_place *to = &comm->places[q];
                    uint32_t from = comm->places[p].members[i];
                    if (g < to->view.n_of[TDM_NCCL_GPU] && to->members[g] != from)
                        tdm_nccl_load_message(loads, from, to->members[g], 1.0 / comm->n_ranks);
                }
}

static void load_messages(tdm_nccl_loads *loads, tdm_nccl_func func)
{
    uint32_t n = loads->comm->n_ranks;
    for (uint32_t i = 0; i < n && func == TDM_NCCL_SEND_RECV; i++)
        tdm_nccl_load_message(loads, i, (i + 1) % n, 1);
    if (func == TDM_NCCL_ALL_TO_ALL)
        load_all_pairs(loads);
}

tdm_code tdm_nccl_traffic_of(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                             tdm_nccl_algo algo, tdm_nccl_traffic *traffic, tdm_error *err)
{
    tdm_arena scratch = {0};
    tdm_nccl_loads *loads = loads_new(&scratch, comm, func);
    if (algo == TDM_NCCL_P2P)
        load_messages(loads, func);
    else
        tdm_nccl_algorithm_find(algo)->load(loads);
    tdm_code code = finish(arena, loads, traffic, err);
    tdm_arena_free(&scratch);
    return code;
}

tdm_code tdm_nccl_traffic_of_messages(tdm_arena *arena, const tdm_nccl_comm *comm,
                                      const uint64_t *bytes, tdm_nccl_traffic *traffic,
                                      tdm_error *err)
{
    tdm_arena scratch = {0};
    uint32_t n = comm->n_ranks;
    tdm_nccl_loads *loads = loads_new(&scratch, comm, TDM_NCCL_ALL_TO_ALL);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            if (i != j && bytes[(size_t)i * n + j] > 0)
                tdm_nccl_load_message(loads, i, j, (double)bytes[(size_t)i * n + j]);
    tdm_code code = finish(arena, loads, traffic, err);
    tdm_arena_free(&scratch);
    return code;
}

double tdm_nccl_link_capacity(const tdm_graph *graph, uint32_t link)
{
    return link < graph->n_edges ? graph->edges[link].bytes_per_s
                                 : graph->vertices[link - graph->n_edges].through_bytes_per_s;
}

double tdm_nccl_traffic_bw(const tdm_nccl_comm *comm, const tdm_nccl_traffic *traffic)
{
    double bw = INFINITY;
    for (uint32_t p = 0; p < traffic->n_parts; p++)
        for (uint32_t l = 0; l < traffic->parts[p].n_links; l++)
            bw = fmin(bw, tdm_nccl_link_capacity(comm->graph, traffic->parts[p].links[l]) /
                              traffic->parts[p].share);
    return bw * 1e-9;
}
