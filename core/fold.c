/* fold.c: see fold.h. */
#include "fold.h"

#include "collective.h"
#include "fold_graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- the topology ---- */

/* The rank, and the GPU, that takes the place of `rank` when all move by `unit`. */
static uint32_t moved(const tdm_mesh *whole, uint32_t unit, uint32_t rank)
{
    uint32_t first = rank / whole->per_stage * whole->per_stage;
    return first + (rank - first + unit) % whole->per_stage;
}

static bool same_link(const tdm_link *a, const tdm_link *b)
{
    return a->bytes_per_s == b->bytes_per_s && a->latency_s == b->latency_s;
}

/* Whether moving takes the GPUs under one root to the GPUs under one root, over equal links. */
static bool plane_is_symmetric(tdm_arena *scratch, const tdm_topology *topology,
                               const tdm_plane *plane, const tdm_mesh *whole, uint32_t unit)
{
    int32_t *image = TDM_ALLOC(scratch, int32_t, plane->n_vertices),
            *source = TDM_ALLOC(scratch, int32_t, plane->n_vertices);
    memset(image, 0xff, plane->n_vertices * sizeof *image);
    memset(source, 0xff, plane->n_vertices * sizeof *source);
    for (uint32_t rank = 0; rank < whole->world; rank++) {
        uint32_t to = moved(whole, unit, rank);
        int32_t from_root = plane->parent[rank], to_root = plane->parent[to];
        if ((from_root < 0) != (to_root < 0))
            return false;
        if (from_root < 0)
            continue;
        if (image[from_root] < 0 && source[to_root] < 0) {
            image[from_root] = to_root;
            source[to_root] = from_root;
        }
        if (image[from_root] != to_root || source[to_root] != from_root ||
            !same_link(&topology->links[plane->up[rank]], &topology->links[plane->up[to]]) ||
            !same_link(&topology->links[plane->down[rank]], &topology->links[plane->down[to]]))
            return false;
    }
    return true;
}

/* On a wired machine: whether links move with the GPUs. */
static bool graph_is_symmetric(const tdm_topology *topology, const tdm_mesh *whole, uint32_t unit)
{
    tdm_arena scratch = {0};
    uint32_t *gpus = TDM_ALLOC(&scratch, uint32_t, topology->n_gpus + 1);
    uint32_t *links = TDM_ALLOC(&scratch, uint32_t, topology->n_links + 1);
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        gpus[g] = g < whole->world ? moved(whole, unit, g) : g;
    bool symmetric = whole->world <= topology->n_gpus && tdm_fold_graph_may_move(topology->graph) &&
                     tdm_fold_graph_move(&scratch, topology, gpus, links);
    tdm_arena_free(&scratch);
    return symmetric;
}

static bool is_symmetric(const tdm_topology *topology, const tdm_mesh *whole, uint32_t unit)
{
    if (topology->graph)
        return graph_is_symmetric(topology, whole, unit);
    tdm_arena scratch = {0};
    bool symmetric = whole->world <= topology->n_gpus && tdm_topology_has_ports_only(topology);
    for (uint32_t p = 0; p < topology->n_planes && symmetric; p++)
        symmetric = plane_is_symmetric(&scratch, topology, &topology->planes[p], whole, unit);
    tdm_arena_free(&scratch);
    return symmetric;
}

tdm_code tdm_topology_fold(tdm_arena *arena, const tdm_topology *topology, const tdm_mesh *mesh,
                           tdm_topology *folded, tdm_error *err)
{
    tdm_mesh whole = tdm_mesh_whole(mesh);
    *folded = *topology;
    if (!tdm_mesh_is_folded(mesh) || (topology->n_planes == 0 && !topology->graph))
        return TDM_OK;
    if (!is_symmetric(topology, &whole, mesh->per_stage))
        return tdm_error_add(err, TDM_E_INVALID,
                             "topology %s is not the same for each %" PRIu32
                             " ranks of a stage, as the folded plan takes it to be",
                             topology->name, mesh->per_stage);
    uint32_t *gpus = TDM_ALLOC(arena, uint32_t, topology->n_gpus),
             *links = TDM_ALLOC(arena, uint32_t, topology->n_links);
    for (uint32_t g = 0; g < topology->n_gpus; g++)
        gpus[g] = g < whole.world ? g / whole.per_stage * whole.per_stage +
                                        g % whole.per_stage % mesh->per_stage
                                  : g;
    if (topology->graph) {
        tdm_arena scratch = {0};
        tdm_fold_graph_move(&scratch, topology, gpus, links);
        tdm_arena_free(&scratch);
    }
    for (uint32_t l = 0; l < topology->n_links && !topology->graph; l++)
        links[l] = l;
    for (uint32_t p = 0; p < topology->n_planes; p++) {
        const tdm_plane *plane = &topology->planes[p];
        for (uint32_t g = 0; g < topology->n_gpus; g++)
            if (plane->parent[g] >= 0) {
                links[plane->up[g]] = plane->up[gpus[g]];
                links[plane->down[g]] = plane->down[gpus[g]];
            }
    }
    folded->gpu_stand_in = gpus;
    folded->link_stand_in = links;
    return TDM_OK;
}

/* ---- collectives ---- */

static int compare_flows(const void *a, const void *b)
{
    const tdm_flow *x = a, *y = b;
    if (x->src != y->src)
        return x->src < y->src ? -1 : 1;
    if (x->dst != y->dst)
        return x->dst < y->dst ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool same_flows(tdm_flow *a, tdm_flow *b, uint32_t n)
{
    qsort(a, n, sizeof *a, compare_flows);
    qsort(b, n, sizeof *b, compare_flows);
    for (uint32_t i = 0; i < n; i++)
        if (compare_flows(&a[i], &b[i]) != 0)
            return false;
    return true;
}

/* What a case of folding is examined with. */
typedef struct inquiry {
    const tdm_topology *topology;
    tdm_mesh whole;
    uint32_t unit;
} inquiry;

/* Whether moving takes the flows to flows of the same collective. */
static bool flows_move(const inquiry *q, const tdm_flow *flows, tdm_flow *a, tdm_flow *b,
                       uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        a[i] = flows[i];
        b[i] = (tdm_flow){moved(&q->whole, q->unit, flows[i].src),
                          moved(&q->whole, q->unit, flows[i].dst), flows[i].bytes};
    }
    return same_flows(a, b, n);
}

/* Whether every GPU's ports have the same load as those of the GPU that it moves to. Enough for a
 * collective of all ranks, which is alone: its ring visits stage after stage and cannot be moved
 * within them. */
static bool loads_move(const inquiry *q, const tdm_flow *flows, tdm_flow *a, tdm_flow *b,
                       uint32_t n)
{
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < n; i++) {
            uint32_t gpu = side == 0 ? flows[i].src : flows[i].dst;
            tdm_route route = {0};
            tdm_topology_route(q->topology, flows[i].src, flows[i].dst, &route);
            a[i] = (tdm_flow){gpu, route.plane, flows[i].bytes};
            b[i] = (tdm_flow){moved(&q->whole, q->unit, gpu), route.plane, flows[i].bytes};
        }
        if (!same_flows(a, b, n))
            return false;
    }
    return true;
}

/* Collectives over the group of `rank`, of any kind that the optimizer uses. */
static bool group_moves(const inquiry *q, tdm_group_kind kind, uint32_t rank)
{
    static const tdm_op_kind kinds[] = {TDM_OP_ALL_REDUCE, TDM_OP_REDUCE_SCATTER,
                                        TDM_OP_ALL_GATHER};
    enum { BYTES = 1 << 20 }; /* any number: all edges of a ring carry the same */
    tdm_collective_call call = {
        .topology = q->topology, .group = tdm_mesh_group(&q->whole, kind, rank), .bytes = BYTES};
    tdm_arena scratch = {0};
    bool moves = true;
    for (uint32_t k = 0; k < TDM_COUNT(kinds) && moves; k++) {
        const tdm_collective *algorithm = tdm_collective_for(kinds[k]);
        uint32_t most = algorithm->max_flows(q->topology, call.group.size);
        tdm_flow *flows = TDM_ALLOC(&scratch, tdm_flow, most),
                 *a = TDM_ALLOC(&scratch, tdm_flow, most), *b = TDM_ALLOC(&scratch, tdm_flow, most);
        double latency_s;
        uint32_t n = algorithm->flows(&call, flows, &latency_s);
        moves =
            kind == TDM_GROUP_WORLD ? loads_move(q, flows, a, b, n) : flows_move(q, flows, a, b, n);
    }
    tdm_arena_free(&scratch);
    return moves;
}

/* On a wired machine NCCL's channels load the links of all replicas alike, but for its trees over
 * nodes: there the fullest replica's links stand for all. */
static bool collectives_move(const inquiry *q)
{
    if (q->topology->graph)
        return true;
    bool move = group_moves(q, TDM_GROUP_WORLD, 0);
    for (uint32_t stage = 0; stage < q->whole.pp && move; stage++) {
        uint32_t first = stage * q->whole.per_stage;
        for (uint32_t i = 0; i < q->whole.tp && move; i++)
            move = group_moves(q, TDM_GROUP_DP, first + i);
        for (uint32_t i = 0; i < q->whole.ep * q->whole.etp && move; i++)
            move = group_moves(q, TDM_GROUP_EDP, first + i);
    }
    return move;
}

/* ---- the scenario ---- */

static uint32_t common_multiple(uint32_t a, uint32_t b)
{
    uint32_t multiple = a;
    while (multiple % b != 0)
        multiple += a;
    return multiple;
}

/* The least unit that repeats; 0: none. */
static uint32_t find_unit(const tdm_topology *topology, const tdm_mesh *whole)
{
    uint32_t least = common_multiple(whole->tp * whole->cp, whole->ep * whole->etp);
    for (uint32_t unit = least; unit < whole->per_stage; unit += least) {
        inquiry q = {topology, *whole, unit};
        if (whole->per_stage % unit == 0 && is_symmetric(topology, whole, unit) &&
            collectives_move(&q))
            return unit;
    }
    return 0;
}

static tdm_fold refused(const char *why)
{
    return (tdm_fold){.copies = 1, .exact = true, .why = why};
}

tdm_fold tdm_fold_find(tdm_arena *arena, const tdm_scenario *sc)
{
    const tdm_parallel *p = &sc->parallel;
    bool experts = !sc->pass_times.given && sc->model.num_experts > 0;
    tdm_mesh whole;
    if (sc->pass_times.given)
        return refused("given pass times have one replica");
    if (tdm_mesh_init(&whole, p->tp, p->cp, p->dp, p->pp, experts ? p->ep : 1, experts ? p->etp : 1,
                      NULL) != TDM_OK ||
        whole.dp < 2)
        return refused("there is one replica");
    if (tdm_perturbation_is_given(&sc->perturbation))
        return refused("the perturbation makes replicas differ");
    bool shared = sc->topology.graph ? !tdm_fold_graph_may_move(sc->topology.graph)
                                     : !tdm_topology_has_ports_only(&sc->topology);
    if (shared)
        return refused(
            tdm_arena_printf(arena, "GPUs of topology %s share inner links", sc->topology.name));
    uint32_t unit = find_unit(&sc->topology, &whole);
    if (unit == 0)
        return refused(tdm_arena_printf(arena,
                                        "no part of the %" PRIu32
                                        " ranks of a stage is placed on topology %s as the next",
                                        whole.per_stage, sc->topology.name));
    tdm_fold fold = {.copies = whole.per_stage / unit, .exact = true};
    if (experts && sc->routing.model != TDM_ROUTING_BALANCED) {
        fold.exact = false;
        fold.why =
            tdm_arena_printf(arena, "with %s routing each replica's tokens choose other experts",
                             tdm_routing_model_name(sc->routing.model));
    }
    return fold;
}
