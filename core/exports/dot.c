/* Graphviz: `dot -Tpng` or `-Tsvg` draws it. One box per machine node; links that are the same both
 * ways are one line. */
#include "core/export.h"

#include <string.h>

static const char *const styles[TDM_N_VERTEX_KINDS] = {
    [TDM_VERTEX_GPU] = "shape=box, style=filled, fillcolor=\"#c7e9c0\"",
    [TDM_VERTEX_NVSWITCH] = "shape=ellipse, style=filled, fillcolor=\"#74c476\"",
    [TDM_VERTEX_PCIE_SWITCH] = "shape=ellipse",
    [TDM_VERTEX_ROOT_PORT] = "shape=point",
    [TDM_VERTEX_SOCKET] = "shape=box3d, style=filled, fillcolor=\"#deebf7\"",
    [TDM_VERTEX_NIC] = "shape=component, style=filled, fillcolor=\"#fdd0a2\"",
    [TDM_VERTEX_SWITCH] = "shape=ellipse, style=filled, fillcolor=\"#fdae6b\"",
};

static const char *const colours[TDM_N_WIRES] = {
    [TDM_WIRE_NVLINK] = "#238b45", [TDM_WIRE_C2C] = "#238b45",     [TDM_WIRE_PCIE] = "#636363",
    [TDM_WIRE_SOCKET] = "#3182bd", [TDM_WIRE_NETWORK] = "#e6550d",
};

/* A quoted string of the language. */
static void write_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fputc('\\', file);
        fputc((unsigned char)*c < 0x20 ? ' ' : *c, file);
    }
    fputc('"', file);
}

static void write_vertex(tdm_arena *arena, const tdm_vertex *v, FILE *file)
{
    const char *text = v->name;
    if (v->label)
        text = tdm_arena_printf(arena, "%s %s", text, v->label);
    if (v->address)
        text = tdm_arena_printf(arena, "%s %s", text, v->address);
    fprintf(file, "  ");
    write_text(file, v->name);
    fprintf(file, " [label=");
    write_text(file, text);
    fprintf(file, ", %s];\n", styles[v->kind]);
}

static void write_vertices(tdm_arena *arena, const tdm_graph *graph, FILE *file)
{
    for (uint32_t node = 0; node < graph->n_nodes; node++) {
        fprintf(file, "subgraph cluster_%u {\n  label=\"node %u\";\n", node, node);
        for (uint32_t v = 0; v < graph->n_vertices; v++)
            if (graph->vertices[v].node == node)
                write_vertex(arena, &graph->vertices[v], file);
        fprintf(file, "}\n");
    }
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (graph->vertices[v].node == TDM_NO_NODE)
            write_vertex(arena, &graph->vertices[v], file);
}

/* The same link the other way; NULL: there is none just like it. */
static const tdm_edge *opposite(const tdm_graph *graph, const tdm_edge *edge)
{
    for (uint32_t e = graph->first_edge[edge->to]; e < graph->first_edge[edge->to + 1]; e++) {
        const tdm_edge *other = &graph->edges[e];
        if (other->to == edge->from && other->wire == edge->wire && other->count == edge->count &&
            other->bytes_per_s == edge->bytes_per_s)
            return other;
    }
    return NULL;
}

static tdm_code write_dot(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    (void)err;
    fprintf(file, "digraph ");
    write_text(file, graph->name);
    fprintf(file, " {\nnode [fontname=\"sans-serif\"];\nedge [fontname=\"sans-serif\", "
                  "fontsize=10];\n");
    write_vertices(arena, graph, file);
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        const tdm_edge *edge = &graph->edges[e];
        bool both = opposite(graph, edge) != NULL;
        if (both && edge->from > edge->to)
            continue;
        write_text(file, graph->vertices[edge->from].name);
        fprintf(file, " -> ");
        write_text(file, graph->vertices[edge->to].name);
        fprintf(file, " [color=\"%s\"%s, label=\"", colours[edge->wire], both ? ", dir=none" : "");
        if (edge->count > 1)
            fprintf(file, "%u x ", edge->count);
        fprintf(file, "%s %.4g GB/s\"];\n", tdm_wire_name(edge->wire), edge->bytes_per_s / 1e9);
    }
    fprintf(file, "}\n");
    return TDM_OK;
}

const tdm_export tdm_export_dot = {
    .name = "dot",
    .summary = "Graphviz: dot -Tpng draws it",
    .write = write_dot,
};
