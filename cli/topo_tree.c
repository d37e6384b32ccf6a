/* topo_tree.c: a graph as a tree for people, its bisection, and single paths. */
#include "topo.h"

#include "core/graph_paths.h"
#include "core/graph_rates.h"
#include "core/graph_tree.h"
#include "core/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *tdm_topo_rate(char buffer[TDM_RATE_SIZE], double bytes_per_s)
{
    if (!(bytes_per_s > 0)) {
        snprintf(buffer, TDM_RATE_SIZE, "speed not known");
        return buffer;
    }
    if (bytes_per_s >= TDM_RATE_UNLIMITED) {
        snprintf(buffer, TDM_RATE_SIZE, "no limit known");
        return buffer;
    }
    return tdm_quantity_write(buffer, TDM_RATE_SIZE, bytes_per_s, TDM_UNIT_BYTES_PER_S, 4);
}

/* Of several links together, which may be more than one of them is ever taken for. */
static const char *sum_of_rates(char buffer[TDM_RATE_SIZE], double bytes_per_s)
{
    return bytes_per_s > 0
               ? tdm_quantity_write(buffer, TDM_RATE_SIZE, bytes_per_s, TDM_UNIT_BYTES_PER_S, 4)
               : tdm_topo_rate(buffer, bytes_per_s);
}

static void print_processor(const tdm_vertex *v, FILE *file)
{
    static const char *const names[] = {
        [TDM_CPU_UNKNOWN] = "",  [TDM_CPU_INTEL] = ", Intel",   [TDM_CPU_AMD] = ", AMD",
        [TDM_CPU_ARM] = ", Arm", [TDM_CPU_IBM] = ", IBM POWER", [TDM_CPU_ZHAOXIN] = ", Zhaoxin"};
    if (v->numa >= 0)
        fprintf(file, " (NUMA %d", (int)v->numa);
    else
        fprintf(file, " (no NUMA node");
    fprintf(file, "%s", names[v->cpu]);
    if (v->cpu_family > 0)
        fprintf(file, " family %u model %u", v->cpu_family, v->cpu_model);
    fprintf(file, "%s%s)", v->cpus ? ", processors " : "", v->cpus ? v->cpus : "");
}

/* The links that are no part of the tree: NVLink, C2C, network. */
static void print_side_links(const tdm_graph *graph, uint32_t v, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++) {
        const tdm_edge *edge = &graph->edges[e];
        if (edge->wire == TDM_WIRE_PCIE || edge->wire == TDM_WIRE_SOCKET)
            continue;
        fprintf(file, "; ");
        if (edge->count > 1)
            fprintf(file, "%u x ", edge->count);
        fprintf(file, "%s to %s %s", tdm_wire_name(edge->wire), graph->vertices[edge->to].name,
                tdm_topo_rate(rate, edge->bytes_per_s));
    }
}

static void print_line(const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t v,
                       uint32_t depth, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    const tdm_vertex *vertex = &graph->vertices[v];
    fprintf(file, "%*s%s", (int)(2 * depth), "", vertex->name);
    if (vertex->kind == TDM_VERTEX_SOCKET)
        print_processor(vertex, file);
    if (vertex->kind == TDM_VERTEX_GPU && vertex->sm > 0)
        fprintf(file, " (sm %u.%u)", vertex->sm / 10, vertex->sm % 10);
    if (vertex->label)
        fprintf(file, " %s", vertex->label);
    if (vertex->kind == TDM_VERTEX_NIC)
        fprintf(file, " (%s)", tdm_topo_rate(rate, vertex->nic_bytes_per_s));
    if (vertex->address)
        fprintf(file, " %s", vertex->address);
    if (tree->up[v] != TDM_NO_VERTEX) {
        const tdm_edge *up = &graph->edges[tree->up[v]];
        fprintf(file, "  ");
        if (up->bytes_per_s >= TDM_RATE_UNLIMITED)
            fprintf(file, "virtual");
        else
            fprintf(file, "pcie x%u %s", up->count, tdm_topo_rate(rate, up->bytes_per_s));
    }
    if (vertex->through_bytes_per_s > 0)
        fprintf(file, "; passes %s in all", tdm_topo_rate(rate, vertex->through_bytes_per_s));
    print_side_links(graph, v, file);
    fputc('\n', file);
}

static void print_below(const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t v,
                        uint32_t depth, FILE *file)
{
    print_line(graph, tree, v, depth, file);
    for (uint32_t c = tree->first_child[v]; c != TDM_NO_VERTEX; c = tree->next_sibling[c])
        print_below(graph, tree, c, depth + 1, file);
}

/* The links between the sockets of a node: one line when they are all alike. */
static void print_sockets(const tdm_graph *graph, uint32_t node, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    const tdm_edge *first = NULL;
    bool alike = true;
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        const tdm_edge *edge = &graph->edges[e];
        if (edge->wire != TDM_WIRE_SOCKET || graph->vertices[edge->from].node != node)
            continue;
        first = first ? first : edge;
        alike = alike && edge->bytes_per_s == first->bytes_per_s;
    }
    if (first && alike)
        fprintf(file, "  from socket to socket %s\n", tdm_topo_rate(rate, first->bytes_per_s));
    for (uint32_t e = 0; e < graph->n_edges && !alike; e++) {
        const tdm_edge *edge = &graph->edges[e];
        if (edge->wire == TDM_WIRE_SOCKET && graph->vertices[edge->from].node == node)
            fprintf(file, "  from %s to %s %s\n", graph->vertices[edge->from].name,
                    graph->vertices[edge->to].name, tdm_topo_rate(rate, edge->bytes_per_s));
    }
}

/* Switches of NVLink and of the network, with what they join. */
static void print_switch(const tdm_graph *graph, uint32_t v, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    double total = 0;
    uint32_t n = graph->first_edge[v + 1] - graph->first_edge[v];
    for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++)
        total += graph->edges[e].bytes_per_s;
    fprintf(file, "  %s: %u links, %s in all\n", graph->vertices[v].name, n,
            sum_of_rates(rate, total));
}

static void print_node(const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t node,
                       FILE *file)
{
    fprintf(file, "\nnode %u\n", node);
    for (uint32_t i = 0; i < tree->n_roots; i++)
        if (graph->vertices[tree->roots[i]].node == node)
            print_below(graph, tree, tree->roots[i], 1, file);
    print_sockets(graph, node, file);
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (graph->vertices[v].node == node && graph->vertices[v].kind == TDM_VERTEX_NVSWITCH)
            print_switch(graph, v, file);
}

/* NVSwitches of several nodes. */
static void print_shared(const tdm_graph *graph, FILE *file)
{
    bool first = true;
    for (uint32_t v = 0; v < graph->n_vertices; v++) {
        if (graph->vertices[v].node != TDM_NO_NODE ||
            graph->vertices[v].kind != TDM_VERTEX_NVSWITCH)
            continue;
        fprintf(file, "%s", first ? "\nNVLink between nodes\n" : "");
        print_switch(graph, v, file);
        first = false;
    }
}

void tdm_topo_tree(tdm_arena *arena, const tdm_graph *graph, FILE *file)
{
    tdm_graph_tree tree = tdm_graph_tree_make(arena, graph);
    uint32_t n_nics = 0;
    bool has_network = false;
    for (uint32_t v = 0; v < graph->n_vertices; v++) {
        n_nics += graph->vertices[v].kind == TDM_VERTEX_NIC;
        has_network = has_network || graph->vertices[v].kind == TDM_VERTEX_SWITCH;
    }
    fprintf(file, "%s: %u GPU%s, %u adapter port%s, %u node%s; rates are of one direction\n",
            graph->name, graph->n_gpus, graph->n_gpus == 1 ? "" : "s", n_nics,
            n_nics == 1 ? "" : "s", graph->n_nodes, graph->n_nodes == 1 ? "" : "s");
    for (uint32_t node = 0; node < graph->n_nodes; node++)
        print_node(graph, &tree, node, file);
    print_shared(graph, file);
    if (has_network)
        fprintf(file, "\nnetwork\n");
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (graph->vertices[v].kind == TDM_VERTEX_SWITCH)
            print_switch(graph, v, file);
}

void tdm_topo_bisection(tdm_arena *arena, const tdm_graph *graph, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    tdm_bisection b = tdm_graph_bisection(arena, graph);
    if (graph->n_gpus < 2)
        return;
    fprintf(file, "\nBisection: ");
    if (b.n_splits == 0) {
        fprintf(file, "not computed for more than %u GPUs\n", TDM_BISECTION_MAX_GPUS);
        return;
    }
    if (!b.connected)
        fprintf(file, "none: GPUs that cannot reach each other\n");
    else
        fprintf(file, "%s%s one way, %s\n", b.exact ? "" : "at most ",
                sum_of_rates(rate, b.bytes_per_s),
                b.exact ? "the least of all splits into halves"
                        : "an estimate: the least of the splits by rank, node, socket and parity");
    if (b.n_half > 16)
        return;
    fprintf(file, "  GPU%s", b.n_half == 1 ? "" : "s");
    for (uint32_t i = 0; i < b.n_half; i++)
        fprintf(file, "%s %u", i ? "," : "", b.half[i]);
    fprintf(file, " against the rest, over the links that best paths use\n");
}

tdm_code tdm_topo_pair(const tdm_graph *graph, const char *pair, uint32_t ranks[2], tdm_error *err)
{
    const char *at = pair;
    for (int i = 0; i < 2; i++) {
        char *end;
        errno = 0;
        unsigned long rank = strtoul(at, &end, 10);
        if (end == at || *at == '-' || *end != (i == 0 ? ',' : '\0') || errno)
            return tdm_error_add(err, TDM_E_INVALID, "--path: %s: expected two GPUs, as 0,5", pair);
        if (rank >= graph->n_gpus)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "--path: %s: there is no GPU %lu, only 0 to %u", pair, rank,
                                 graph->n_gpus - 1);
        ranks[i] = (uint32_t)rank;
        at = end + 1;
    }
    return TDM_OK;
}

static void print_path(const tdm_graph *graph, const tdm_graph_path *path, uint32_t from,
                       uint32_t to, FILE *file)
{
    char rate[TDM_RATE_SIZE], time[TDM_RATE_SIZE];
    fprintf(file, "GPU %u to GPU %u: ", from, to);
    if (path->type == TDM_PATH_NONE) {
        fprintf(file, "no way\n");
        return;
    }
    if (path->type == TDM_PATH_LOC) {
        fprintf(file, "the same GPU\n");
        return;
    }
    fprintf(file, "%s, %s, %s\n", tdm_path_type_name(path->type),
            tdm_topo_rate(rate, path->bytes_per_s),
            tdm_quantity_write(time, sizeof time, path->latency_s, TDM_UNIT_SECONDS, 3));
    for (uint32_t i = 0; i < path->n_edges; i++) {
        const tdm_edge *edge = &graph->edges[path->edges[i]];
        fprintf(file, "  %s -> %s  ", graph->vertices[edge->from].name,
                graph->vertices[edge->to].name);
        if (edge->count > 1)
            fprintf(file, "%u x ", edge->count);
        fprintf(file, "%s %s\n", tdm_wire_name(edge->wire), tdm_topo_rate(rate, edge->bytes_per_s));
    }
}

tdm_code tdm_topo_path(tdm_arena *arena, const tdm_graph *graph, const char *pair, FILE *file,
                       tdm_error *err)
{
    uint32_t ranks[2] = {0};
    tdm_code code = tdm_topo_pair(graph, pair, ranks, err);
    if (code != TDM_OK)
        return code;
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    uint32_t a = graph->gpus[ranks[0]], b = graph->gpus[ranks[1]];
    tdm_graph_path path = tdm_pathfinder_find(finder, a, b);
    print_path(graph, &path, ranks[0], ranks[1], file);
    return TDM_OK;
}
