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
    double *bytes;          /* [n_links] of the graph: edges, then vertices */
    uint32_t *used, n_used; /* links with bytes */
    uint32_t *into;         /* [n_vertices] the one edge of the network that leads to an adapter */
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

static void add(tdm_nccl_loads *loads, uint32_t link, double share)
{
    if (loads->bytes[link] == 0 && share > 0)
        loads->used[loads->n_used++] = link;
    loads->bytes[link] += share;
}

static void add_link(tdm_nccl_loads *loads, const tdm_nccl_link *link, double share)
{
    for (const tdm_nccl_wire *wire = link->wire; wire; wire = wire->next)
        for (uint32_t e = 0; e < wire->n_edges; e++)
            add(loads, wire->edges[e], share * wire->bw / link->bw);
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
            add(loads, graph->n_edges + passed, share);
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

/* Adapters on one switch: most, and found without a search. */
static bool add_one_switch(tdm_nccl_loads *loads, uint32_t from, uint32_t to, double share)
{
    const tdm_graph *graph = loads->comm->graph;
    uint32_t last = loads->into[to];
    for (uint32_t e = graph->first_edge[from];
         last != UINT32_MAX && e < graph->first_edge[from + 1]; e++)
        if (graph->edges[e].wire == TDM_WIRE_NETWORK &&
            graph->edges[e].to == graph->edges[last].from) {
            add(loads, e, share);
            add(loads, last, share);
            return true;
        }
    return false;
}

static void add_network(tdm_nccl_loads *loads, uint32_t from, uint32_t to, double share)
{
    if (add_one_switch(loads, from, to, share))
        return;
    search_network(loads, from);
    if (loads->last_edge[to] == UINT32_MAX) {
        loads->cut[0] = from;
        loads->cut[1] = to;
        return;
    }
    while (to != from) {
        add(loads, loads->last_edge[to], share);
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

static void find_edges_into(tdm_nccl_loads *loads)
{
    const tdm_graph *graph = loads->comm->graph;
    uint8_t *n = TDM_ALLOC(loads->scratch, uint8_t, graph->n_vertices + 1);
    loads->into = TDM_ALLOC(loads->scratch, uint32_t, graph->n_vertices + 1);
    memset(loads->into, 0xff, graph->n_vertices * sizeof *loads->into);
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        uint32_t to = graph->edges[e].to;
        if (graph->edges[e].wire != TDM_WIRE_NETWORK || graph->vertices[to].kind != TDM_VERTEX_NIC)
            continue;
        loads->into[to] = n[to] == 0 ? e : UINT32_MAX;
        n[to] = 1;
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
        .used = TDM_ALLOC(scratch, uint32_t, comm->graph->n_edges + comm->graph->n_vertices + 1),
        .from = UINT32_MAX,
        .last_edge = TDM_ALLOC(scratch, uint32_t, comm->graph->n_vertices + 1),
        .queue = TDM_ALLOC(scratch, uint32_t, comm->graph->n_vertices + 1),
        .place_of = TDM_ALLOC(scratch, uint32_t, comm->n_ranks + 1),
        .gpu_of = TDM_ALLOC(scratch, uint32_t, comm->n_ranks + 1),
    };
    find_edges_into(loads);
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
    uint32_t n = loads->n_used, n_parts = 0;
    loaded *all = TDM_ALLOC(loads->scratch, loaded, n + 1);
    for (uint32_t i = 0; i < n; i++)
        all[i] = (loaded){loads->used[i], loads->bytes[loads->used[i]]};
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

static tdm_code check_cut(const tdm_nccl_loads *loads, tdm_error *err)
{
    const tdm_vertex *vertices = loads->comm->graph->vertices;
    if (loads->cut[0] != loads->cut[1])
        return tdm_error_add(err, TDM_E_INVALID, "%s: the network does not join %s and %s",
                             loads->comm->name, vertices[loads->cut[0]].name,
                             vertices[loads->cut[1]].name);
    return TDM_OK;
}

static tdm_code finish(tdm_arena *arena, const tdm_nccl_loads *loads, tdm_nccl_traffic *traffic,
                       tdm_error *err)
{
    tdm_code code = check_cut(loads, err);
    if (code == TDM_OK)
        *traffic = group(arena, loads);
    return code;
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

/* A message on a link. */
typedef struct use {
    uint32_t link, message;
    double weight;
} use;

/* A link by what it carries: hashes of its messages, and of them the other way. */
typedef struct carrier {
    uint32_t link, first_use, n_uses;
    uint64_t key[2]; /* the smaller first */
    bool turned;     /* the hash of its own messages is the larger */
} carrier;

static int by_link(const void *a, const void *b)
{
    const use *x = a, *y = b;
    if (x->link != y->link)
        return x->link < y->link ? -1 : 1;
    return (x->message > y->message) - (x->message < y->message);
}

static int by_key(const void *a, const void *b)
{
    const carrier *x = a, *y = b;
    for (int i = 0; i < 2; i++)
        if (x->key[i] != y->key[i])
            return x->key[i] < y->key[i] ? -1 : 1;
    return (x->link > y->link) - (x->link < y->link);
}

/* SplitMix64's finaliser; source: Steele, Lea and Flood 2014. */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

/* Every message's links, by link. */
static use *list_uses(tdm_nccl_loads *loads, uint32_t *n_uses)
{
    uint32_t n = loads->comm->n_ranks, capacity = 64, n_all = 0;
    use *all = TDM_ALLOC(loads->scratch, use, capacity);
    for (uint32_t m = 0; m < n * n; m++) {
        if (m / n == m % n)
            continue;
        loads->n_used = 0;
        tdm_nccl_load_message(loads, m / n, m % n, 1);
        for (uint32_t i = 0; i < loads->n_used; i++) {
            if (n_all == capacity) {
                use *larger = TDM_ALLOC(loads->scratch, use, 2 * (size_t)capacity);
                memcpy(larger, all, capacity * sizeof *all);
                all = larger;
                capacity *= 2;
            }
            all[n_all++] = (use){loads->used[i], m, loads->bytes[loads->used[i]]};
            loads->bytes[loads->used[i]] = 0;
        }
    }
    loads->n_used = 0;
    if (n_all > 0)
        qsort(all, n_all, sizeof *all, by_link);
    *n_uses = n_all;
    return all;
}

static carrier *list_carriers(const tdm_nccl_loads *loads, const use *uses, uint32_t n_uses,
                              uint32_t *n_carriers)
{
    uint32_t n = loads->comm->n_ranks, n_all = 0;
    carrier *all = TDM_ALLOC(loads->scratch, carrier, n_uses + 1);
    for (uint32_t u = 0; u < n_uses; u++) {
        if (u == 0 || uses[u].link != uses[u - 1].link)
            all[n_all++] = (carrier){.link = uses[u].link, .first_use = u};
        carrier *c = &all[n_all - 1];
        uint64_t weight = (uint64_t)(uses[u].weight * (1 << 20) + 0.5);
        uint32_t from = uses[u].message / n, to = uses[u].message % n;
        c->key[0] += mixed((uint64_t)from << 40 | (uint64_t)to << 20 | weight);
        c->key[1] += mixed((uint64_t)to << 40 | (uint64_t)from << 20 | weight);
        c->n_uses++;
    }
    for (uint32_t i = 0; i < n_all; i++) {
        carrier *c = &all[i];
        uint64_t own = c->key[0];
        c->turned = own > c->key[1];
        if (c->turned) {
            c->key[0] = c->key[1];
            c->key[1] = own;
        }
    }
    if (n_all > 0)
        qsort(all, n_all, sizeof *all, by_key);
    *n_carriers = n_all;
    return all;
}

static tdm_nccl_class make_class(tdm_arena *arena, const carrier *carriers, uint32_t n,
                                 const use *uses)
{
    uint32_t *links = TDM_ALLOC(arena, uint32_t, n);
    uint32_t *messages = TDM_ALLOC(arena, uint32_t, carriers->n_uses);
    double *weights = TDM_ALLOC(arena, double, carriers->n_uses);
    tdm_nccl_class made = {.n_links = n,
                           .links = links,
                           .n_messages = carriers->n_uses,
                           .messages = messages,
                           .weights = weights};
    for (uint32_t i = 0; i < n; i++) {
        links[i] = carriers[i].link;
        made.both_ways |= carriers[i].turned != carriers->turned;
    }
    for (uint32_t i = 0; i < carriers->n_uses; i++) {
        messages[i] = uses[carriers->first_use + i].message;
        weights[i] = uses[carriers->first_use + i].weight;
    }
    return made;
}

tdm_code tdm_nccl_traffic_classes(tdm_arena *arena, const tdm_nccl_comm *comm, uint32_t *n_classes,
                                  const tdm_nccl_class **classes, tdm_error *err)
{
    tdm_arena scratch = {0};
    tdm_nccl_loads *loads = loads_new(&scratch, comm, TDM_NCCL_ALL_TO_ALL);
    uint32_t n_uses, n_carriers, n = 0;
    const use *uses = list_uses(loads, &n_uses);
    const carrier *carriers = list_carriers(loads, uses, n_uses, &n_carriers);
    tdm_nccl_class *made = TDM_ALLOC(arena, tdm_nccl_class, n_carriers + 1);
    for (uint32_t i = 0, next; i < n_carriers; i = next) {
        next = i + 1;
        while (next < n_carriers && carriers[next].key[0] == carriers[i].key[0] &&
               carriers[next].key[1] == carriers[i].key[1])
            next++;
        made[n++] = make_class(arena, carriers + i, next - i, uses);
    }
    tdm_code code = check_cut(loads, err);
    tdm_arena_free(&scratch);
    if (code == TDM_OK) {
        *n_classes = n;
        *classes = made;
    }
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
