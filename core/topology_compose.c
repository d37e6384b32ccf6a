/* topology_compose.c: copies of a node's graph, and the network between them. */
#include "topology_compose.h"

#include <string.h>

typedef struct maker {
    tdm_arena *arena;
    const tdm_composition *c;
    tdm_graph_builder builder;
    uint32_t n_adapters; /* of a node, that are kept */
    uint32_t *vertex;    /* [n_nodes][node->n_vertices] of the whole; UINT32_MAX: left out */
} maker;

static uint32_t *vertices_of(const maker *make, uint32_t node)
{
    return make->vertex + (size_t)node * make->c->node->n_vertices;
}

/* NULL where the builder finds the name by itself: "gpu-3" for GPU 3. */
static const char *name_in(const maker *make, const tdm_vertex *v, uint32_t node)
{
    const char *usual =
        tdm_arena_printf(make->arena, "%s-%u", tdm_vertex_kind_name(v->kind), v->index);
    return strcmp(usual, v->name) == 0 ? NULL
                                       : tdm_arena_printf(make->arena, "node-%u-%s", node, v->name);
}

static bool is_shared(const maker *make, const tdm_vertex *v)
{
    return v->kind == TDM_VERTEX_NVSWITCH && make->c->nodes_per_nvlink_domain > 1;
}

static void add_vertices(maker *make, uint32_t node)
{
    uint32_t *at = vertices_of(make, node);
    for (uint32_t v = 0; v < make->c->node->n_vertices; v++) {
        tdm_vertex copy = make->c->node->vertices[v];
        at[v] = UINT32_MAX;
        if (is_shared(make, &copy) ||
            (copy.kind == TDM_VERTEX_NIC && copy.index >= make->n_adapters))
            continue;
        copy.name = name_in(make, &copy, node);
        copy.node = node;
        if (copy.kind == TDM_VERTEX_NIC && make->c->spec.rate.value > 0)
            copy.nic_bytes_per_s = make->c->spec.rate.value;
        at[v] = tdm_graph_add(&make->builder, &copy);
    }
}

/* One NVSwitch for all nodes of a domain, in none of them. */
static void add_shared(maker *make)
{
    const tdm_composition *c = make->c;
    for (uint32_t first = 0; first < c->n_nodes; first += c->nodes_per_nvlink_domain)
        for (uint32_t v = 0; v < c->node->n_vertices; v++) {
            tdm_vertex copy = c->node->vertices[v];
            if (!is_shared(make, &copy))
                continue;
            copy.name = name_in(make, &copy, first);
            copy.node = TDM_NO_NODE;
            uint32_t shared = tdm_graph_add(&make->builder, &copy);
            for (uint32_t n = first; n < first + c->nodes_per_nvlink_domain; n++)
                vertices_of(make, n)[v] = shared;
        }
}

/* Whether the word at `at` is `name`: it ends there, or goes on with a dash. */
static bool is_name(const char *at, const char *name)
{
    size_t n = strlen(name);
    return strncmp(at, name, n) == 0 && (at[n] == '\0' || at[n] == '-');
}

/* A link's name with the names of its ends replaced; where it holds neither, with the node before
 * it. */
static const char *rename_link(maker *make, const tdm_edge *edge, uint32_t node)
{
    const tdm_graph *graph = make->c->node;
    const uint32_t ends[2] = {edge->from, edge->to};
    const char *name = "";
    bool found = false;
    for (const char *at = edge->name; *at;) {
        const char *old = NULL, *new = NULL;
        for (int i = 0; i < 2 && (at == edge->name || at[-1] == '-'); i++) {
            const char *own = graph->vertices[ends[i]].name;
            if (!is_name(at, own) || (old && strlen(old) > strlen(own)))
                continue;
            old = own;
            new = make->builder.vertices[vertices_of(make, node)[ends[i]]].name;
        }
        found = found || old;
        size_t n = old ? strlen(old) : strcspn(at + 1, "-") + 1;
        name = old ? tdm_arena_printf(make->arena, "%s%s", name, new)
                   : tdm_arena_printf(make->arena, "%s%.*s", name, (int)n, at);
        at += n;
        if (*at == '-') {
            name = tdm_arena_printf(make->arena, "%s-", name);
            at++;
        }
    }
    return found ? name : tdm_arena_printf(make->arena, "node-%u-%s", node, edge->name);
}

static void add_edges(maker *make, uint32_t node)
{
    const uint32_t *at = vertices_of(make, node);
    for (uint32_t e = 0; e < make->c->node->n_edges; e++) {
        tdm_edge copy = make->c->node->edges[e];
        if (at[copy.from] == UINT32_MAX || at[copy.to] == UINT32_MAX)
            continue;
        copy.name = rename_link(make, &make->c->node->edges[e], node);
        copy.from = at[copy.from];
        copy.to = at[copy.to];
        tdm_graph_edge(&make->builder, &copy);
    }
}

/* The links into the network are named after the GPU beside the adapter where each has its own. */
static void add_network(maker *make)
{
    const tdm_composition *c = make->c;
    const tdm_network_spec *spec = &c->spec;
    uint32_t n = c->n_nodes * make->n_adapters, i = 0;
    uint32_t *nics = TDM_ALLOC(make->arena, uint32_t, n);
    const char **names = TDM_ALLOC(make->arena, const char *, n);
    for (uint32_t v = 0; v < make->builder.n_vertices; v++)
        if (make->builder.vertices[v].kind == TDM_VERTEX_NIC)
            nics[i++] = v;
    for (i = 0; i < n; i++)
        names[i] =
            make->n_adapters == c->node->n_gpus
                ? tdm_arena_printf(make->arena, "gpu-%u-nic", i)
                : tdm_arena_printf(make->arena, "%s-network", make->builder.vertices[nics[i]].name);
    uint32_t per_leaf = spec->nodes_per_leaf;
    const tdm_network_site site = {
        .builder = &make->builder,
        .n_nodes = c->n_nodes,
        .n_adapters = make->n_adapters,
        .nics = nics,
        .names = names,
        .efficiency = spec->efficiency.value > 0 ? spec->efficiency.value : TDM_NETWORK_EFFICIENCY,
        .latency_s = spec->latency.source ? spec->latency.value : TDM_NETWORK_LATENCY_S,
        .oversubscription = spec->oversubscription.value > 0 ? spec->oversubscription.value : 1,
        .nodes_per_leaf = per_leaf && per_leaf < c->n_nodes ? per_leaf : c->n_nodes};
    c->network->join(&site);
}

static uint32_t count_adapters(const tdm_composition *c)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < c->node->n_vertices; v++)
        n += c->node->vertices[v].kind == TDM_VERTEX_NIC;
    return c->network && c->spec.adapters > 0 && c->spec.adapters < n ? c->spec.adapters : n;
}

tdm_graph tdm_compose(tdm_arena *arena, const tdm_composition *composition, const char *name)
{
    maker make = {.arena = arena, .c = composition, .n_adapters = count_adapters(composition)};
    make.vertex =
        TDM_ALLOC(arena, uint32_t, (size_t)composition->n_nodes * composition->node->n_vertices);
    tdm_graph_builder_init(&make.builder, arena);
    for (uint32_t n = 0; n < composition->n_nodes; n++)
        add_vertices(&make, n);
    add_shared(&make);
    for (uint32_t n = 0; n < composition->n_nodes; n++)
        add_edges(&make, n);
    if (composition->network)
        add_network(&make);
    return tdm_graph_finish(&make.builder, name);
}
