/* comm.c: searches every node of a communicator and agrees on the least of what they find.
 * Source: NCCL 2.28.9, src/init.cc (initTransportsRank), src/graph/connect.cc (ncclTopoPostset),
 * src/transport/nvls.cc (ncclNvlsInit). */
#include "core/nccl/comm.h"

#include "core/nccl/p2p.h"
#include "core/nccl/tuning.h"

#include <math.h>
#include <string.h>

/* Node of each rank: machines that one NVSwitch joins are one. Returns the number of nodes. */
static uint32_t find_nodes(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                           uint32_t n_ranks, uint32_t *node_of)
{
    uint32_t *root = TDM_ALLOC(arena, uint32_t, graph->n_nodes + 1);
    uint32_t *first = TDM_ALLOC(arena, uint32_t, graph->n_vertices + 1);
    uint32_t *number = TDM_ALLOC(arena, uint32_t, graph->n_nodes + 1);
    uint32_t n = 0;
    for (uint32_t m = 0; m < graph->n_nodes; m++)
        root[m] = m;
    memset(first, 0xff, graph->n_vertices * sizeof *first);
    memset(number, 0xff, graph->n_nodes * sizeof *number);
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        const tdm_edge *edge = &graph->edges[e];
        uint32_t machine = graph->vertices[edge->from].node;
        if (edge->wire != TDM_WIRE_NVLINK || machine == TDM_NO_NODE ||
            graph->vertices[edge->to].kind != TDM_VERTEX_NVSWITCH)
            continue;
        if (first[edge->to] == UINT32_MAX)
            first[edge->to] = machine;
        uint32_t a = machine, b = first[edge->to];
        while (root[a] != a)
            a = root[a];
        while (root[b] != b)
            b = root[b];
        root[a > b ? a : b] = a > b ? b : a;
    }
    for (uint32_t i = 0; i < n_ranks; i++) {
        uint32_t m = graph->vertices[graph->gpus[ranks[i]]].node;
        while (root[m] != m)
            m = root[m];
        if (number[m] == UINT32_MAX)
            number[m] = n++;
        node_of[i] = number[m];
    }
    return n;
}

static void least(tdm_nccl_graph *all, const tdm_nccl_graph *one)
{
    all->n_channels = one->n_channels < all->n_channels ? one->n_channels : all->n_channels;
    all->bw_intra = fmin(all->bw_intra, one->bw_intra);
    all->bw_inter = fmin(all->bw_inter, one->bw_inter);
    all->intra = one->intra > all->intra ? one->intra : all->intra;
    all->inter = one->inter > all->inter ? one->inter : all->inter;
    all->latency_inter_us = fmax(all->latency_inter_us, one->latency_inter_us);
    all->same_channels = all->same_channels && one->same_channels;
    all->fallback = all->fallback || one->fallback;
}

static void search_node(tdm_arena *arena, const tdm_nccl_view *view, const tdm_nccl_comm *comm,
                        tdm_nccl_graph found[3])
{
    uint32_t cross = comm->settings.cross_nic;
    tdm_nccl_search(arena, view, TDM_NCCL_PATTERN_RING, 1, TDM_NCCL_GRAPH_CHANNELS, cross,
                    &found[0]);
    tdm_nccl_search(arena, view, TDM_NCCL_PATTERN_BALANCED_TREE, found[0].n_channels,
                    found[0].n_channels, cross, &found[1]);
    found[2] = (tdm_nccl_graph){.pattern = TDM_NCCL_PATTERN_NVLS};
    if (comm->settings.nvls_enable && view->n_of[TDM_NCCL_GPU] > 2)
        tdm_nccl_search(arena, view, TDM_NCCL_PATTERN_NVLS, 1, TDM_NCCL_GRAPH_CHANNELS, cross,
                        &found[2]);
}

static uint32_t clamp(uint32_t n, const tdm_nccl_settings *s)
{
    if (s->min_channels > n)
        n = s->min_channels;
    if (s->max_channels > 0 && s->max_channels < n)
        n = s->max_channels;
    return n > TDM_NCCL_MAX_CHANNELS ? TDM_NCCL_MAX_CHANNELS : n;
}

/* A channel of the search becomes two; on Hopper and later, fast rings over several nodes become
 * four. */
static void count_channels(tdm_nccl_comm *comm)
{
    uint32_t n = comm->ring.n_channels < comm->tree.n_channels ? comm->ring.n_channels
                                                               : comm->tree.n_channels;
    comm->ring.n_channels = comm->tree.n_channels = n;
    n = 2 * n < TDM_NCCL_MAX_CHANNELS ? 2 * n : TDM_NCCL_MAX_CHANNELS;
    if (comm->min_sm >= 90 && comm->n_nodes > 1 && comm->ring.bw_intra > 45 && n < 16)
        n *= 2;
    comm->n_channels = clamp(n, &comm->settings);
    comm->has_multicast = comm->nvls.n_channels > 0;
    uint32_t nvls = comm->min_sm < 100 ? 16 : comm->n_nodes > 1 ? 32 : 24; /* NVLS_NCHANNELS_ */
    if (comm->settings.nvls_channels > 0)
        nvls = comm->settings.nvls_channels;
    comm->nvls_channels = comm->has_multicast ? clamp(nvls, &comm->settings) : 0;
}

static void take_node(tdm_nccl_comm *comm, const tdm_nccl_view *view, const tdm_nccl_graph found[3],
                      bool is_first)
{
    uint32_t n_local = view->n_of[TDM_NCCL_GPU];
    if (is_first) {
        comm->ring = found[0];
        comm->tree = found[1];
        comm->nvls = found[2];
        comm->min_local = n_local;
        comm->min_sm = view->min_sm;
        comm->vendor = view->vendor;
    }
    least(&comm->ring, &found[0]);
    least(&comm->tree, &found[1]);
    least(&comm->nvls, &found[2]);
    comm->min_local = n_local < comm->min_local ? n_local : comm->min_local;
    comm->max_local = n_local > comm->max_local ? n_local : comm->max_local;
    comm->min_sm = view->min_sm < comm->min_sm ? view->min_sm : comm->min_sm;
    comm->max_sm = view->max_sm > comm->max_sm ? view->max_sm : comm->max_sm;
    comm->vendor = comm->vendor == view->vendor ? view->vendor : TDM_CPU_UNKNOWN;
}

/* Ranks of one node, and their numbers within the communicator. */
typedef struct local {
    uint32_t n, *ranks, *numbers;
} local;

static const local *sort_ranks(tdm_arena *arena, const uint32_t *ranks, uint32_t n_ranks,
                               const uint32_t *node_of, uint32_t n_nodes)
{
    local *locals = TDM_ALLOC(arena, local, n_nodes + 1);
    for (uint32_t i = 0; i < n_ranks; i++)
        locals[node_of[i]].n++;
    for (uint32_t node = 0; node < n_nodes; node++) {
        locals[node].ranks = TDM_ALLOC(arena, uint32_t, locals[node].n + 1);
        locals[node].numbers = TDM_ALLOC(arena, uint32_t, locals[node].n + 1);
        locals[node].n = 0;
    }
    for (uint32_t i = 0; i < n_ranks; i++) {
        local *it = &locals[node_of[i]];
        it->ranks[it->n] = ranks[i];
        it->numbers[it->n++] = i;
    }
    return locals;
}

/* Numbers within the communicator of a view's GPUs. */
static const uint32_t *members_of(tdm_arena *arena, const tdm_graph *graph, const local *it,
                                  const tdm_nccl_view *view)
{
    uint32_t n = view->n_of[TDM_NCCL_GPU];
    uint32_t *members = TDM_ALLOC(arena, uint32_t, n + 1);
    for (uint32_t g = 0; g < n; g++)
        for (uint32_t i = 0; i < it->n; i++)
            if (graph->gpus[it->ranks[i]] == view->nodes[view->of[TDM_NCCL_GPU][g]].vertex)
                members[g] = it->numbers[i];
    return members;
}

typedef struct tdm_nccl_searched {
    struct tdm_nccl_searched *next;
    tdm_nccl_view view; /* nodes and links only */
    tdm_nccl_graph found[3];
} tdm_nccl_searched;

static void *copy(tdm_arena *arena, const void *from, size_t n_bytes)
{
    void *to = tdm_arena_alloc(arena, n_bytes + 1);
    if (n_bytes > 0)
        memcpy(to, from, n_bytes);
    return to;
}

static void remember(tdm_nccl_known *known, const tdm_nccl_view *view,
                     const tdm_nccl_graph found[3])
{
    tdm_nccl_searched *made = TDM_ALLOC(known->arena, tdm_nccl_searched, 1);
    uint32_t n_gpus = view->n_of[TDM_NCCL_GPU];
    made->next = known->first;
    made->view = *view;
    made->view.nodes = copy(known->arena, view->nodes, view->n_nodes * sizeof *view->nodes);
    made->view.links = copy(known->arena, view->links, view->n_links * sizeof *view->links);
    for (int i = 0; i < 3; i++) {
        size_t n = found[i].order ? found[i].n_channels : 0;
        made->found[i] = found[i];
        made->found[i].order =
            copy(known->arena, found[i].order, n * n_gpus * sizeof *found[i].order);
        made->found[i].adapters =
            copy(known->arena, found[i].adapters, n * 2 * sizeof *found[i].adapters);
    }
    known->first = made;
}

/* What the search finds on a node, or found on an equal one. */
static void find_channels(tdm_arena *arena, const tdm_nccl_view *view, tdm_nccl_known *known,
                          const tdm_nccl_comm *comm, tdm_nccl_graph found[3])
{
    tdm_nccl_searched *it = known->first;
    while (it && !tdm_nccl_view_same(view, &it->view))
        it = it->next;
    if (it) {
        memcpy(found, it->found, sizeof it->found);
        return;
    }
    search_node(arena, view, comm, found);
    remember(known, view, found);
}

static tdm_code build_node(tdm_arena *arena, const tdm_graph *graph, const local *it, bool is_first,
                           tdm_nccl_known *known, tdm_nccl_comm *comm, tdm_nccl_place *place,
                           tdm_error *err)
{
    tdm_nccl_graph found[3];
    tdm_code code =
        tdm_nccl_view_build(arena, graph, it->ranks, it->n, comm->n_nodes > 1, &place->view, err);
    if (code != TDM_OK)
        return code;
    find_channels(arena, &place->view, known, comm, found);
    if (is_first || !tdm_nccl_view_same(&place->view, &place[-1].view))
        tdm_nccl_p2p_measure(arena, &place->view, comm);
    place->ring = found[0];
    place->tree = found[1];
    place->nvls = found[2];
    place->members = members_of(arena, graph, it, &place->view);
    take_node(comm, &place->view, found, is_first);
    return TDM_OK;
}

tdm_code tdm_nccl_comm_build(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                             uint32_t n_ranks, const tdm_nccl_settings *settings,
                             tdm_nccl_comm *comm, tdm_error *err)
{
    tdm_nccl_known known = {.arena = arena};
    return tdm_nccl_comm_build_known(arena, graph, ranks, n_ranks, settings, &known, comm, err);
}

tdm_code tdm_nccl_comm_build_known(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                                   uint32_t n_ranks, const tdm_nccl_settings *settings,
                                   tdm_nccl_known *known, tdm_nccl_comm *comm, tdm_error *err)
{
    tdm_nccl_comm built = {.name = graph->name, .n_ranks = n_ranks, .settings = *settings};
    uint32_t *node_of = TDM_ALLOC(arena, uint32_t, n_ranks + 1);
    tdm_graph *own = TDM_ALLOC(arena, tdm_graph, 1); /* the communicator outlives the caller's */
    *own = *graph;
    built.graph = own;
    built.n_nodes = find_nodes(arena, graph, ranks, n_ranks, node_of);
    tdm_nccl_place *places = TDM_ALLOC(arena, tdm_nccl_place, built.n_nodes + 1);
    const local *locals = sort_ranks(arena, ranks, n_ranks, node_of, built.n_nodes);
    built.places = places;
    for (uint32_t node = 0; node < built.n_nodes; node++) {
        tdm_code code =
            build_node(arena, graph, &locals[node], node == 0, known, &built, &places[node], err);
        if (code != TDM_OK)
            return code;
    }
    count_channels(&built);
    tdm_nccl_p2p_channels(&built);
    tdm_nccl_tune(&built);
    *comm = built;
    return TDM_OK;
}
