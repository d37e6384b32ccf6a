/* topo_draw.c: a graph as a drawing of characters: for each socket a row of boxes, one per thing
 * that hangs on it, with what is below inside; then NVLink. */
#include "topo.h"

#include "core/graph_tree.h"

#include <string.h>

enum { WIDTH = 100, MAX_ROWS = 64, MAX_BOXES = 64 };

typedef struct box {
    const char *rows[MAX_ROWS]; /* [n_rows] its head first */
    uint32_t n_rows;
    size_t width;
} box;

static void add_row(box *b, const char *text)
{
    if (b->n_rows == MAX_ROWS)
        return;
    b->rows[b->n_rows++] = text;
    b->width = strlen(text) > b->width ? strlen(text) : b->width;
}

static void fill(tdm_arena *arena, const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t v,
                 uint32_t depth, box *b)
{
    const tdm_vertex *vertex = &graph->vertices[v];
    add_row(b, tdm_arena_printf(arena, "%*s%s%s%s", (int)depth, "", vertex->name,
                                vertex->label ? " " : "", vertex->label ? vertex->label : ""));
    for (uint32_t c = tree->first_child[v]; c != TDM_NO_VERTEX; c = tree->next_sibling[c])
        fill(arena, graph, tree, c, depth + 1, b);
}

static void print_rule(const box *boxes, uint32_t n, FILE *file)
{
    fprintf(file, "  +");
    for (uint32_t i = 0; i < n; i++) {
        for (size_t k = 0; k < boxes[i].width + 2; k++)
            fputc('-', file);
        fputc('+', file);
    }
    fputc('\n', file);
}

/* Boxes side by side, as many as fit. */
static void print_boxes(const box *boxes, uint32_t n, FILE *file)
{
    for (uint32_t first = 0, last; first < n; first = last) {
        size_t width = 3;
        uint32_t n_rows = 0;
        for (last = first; last < n; last++) {
            width += boxes[last].width + 3;
            if (width > WIDTH && last > first)
                break;
            n_rows = boxes[last].n_rows > n_rows ? boxes[last].n_rows : n_rows;
        }
        print_rule(boxes + first, last - first, file);
        for (uint32_t row = 0; row < n_rows; row++) {
            fprintf(file, "  |");
            for (uint32_t i = first; i < last; i++)
                fprintf(file, " %-*s |", (int)boxes[i].width,
                        row < boxes[i].n_rows ? boxes[i].rows[row] : "");
            fputc('\n', file);
        }
        print_rule(boxes + first, last - first, file);
    }
}

/* What hangs on a socket, or a root without one. */
static void draw_root(tdm_arena *arena, const tdm_graph *graph, const tdm_graph_tree *tree,
                      uint32_t root, FILE *file)
{
    uint32_t n = 0;
    box *boxes = TDM_ALLOC(arena, box, MAX_BOXES);
    const tdm_vertex *v = &graph->vertices[root];
    fprintf(file, "  %s\n", v->name);
    for (uint32_t c = tree->first_child[root]; c != TDM_NO_VERTEX && n < MAX_BOXES;
         c = tree->next_sibling[c])
        fill(arena, graph, tree, c, 0, &boxes[n++]);
    print_boxes(boxes, n, file);
}

/* The GPUs that hang on no socket, side by side. */
static void draw_loose(tdm_arena *arena, const tdm_graph *graph, const tdm_graph_tree *tree,
                       uint32_t node, FILE *file)
{
    uint32_t n = 0;
    box *boxes = TDM_ALLOC(arena, box, MAX_BOXES);
    for (uint32_t i = 0; i < tree->n_roots && n < MAX_BOXES; i++) {
        const tdm_vertex *v = &graph->vertices[tree->roots[i]];
        if (v->node == node && v->kind != TDM_VERTEX_SOCKET)
            fill(arena, graph, tree, tree->roots[i], 0, &boxes[n++]);
    }
    print_boxes(boxes, n, file);
}

/* "  1 x nvlink 20 GB/s: 0-1 0-2": the direct links of one count together. */
static void draw_mesh(const tdm_graph *graph, uint32_t node, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    for (uint32_t count = 1; count <= 64; count++) {
        bool first = true;
        for (uint32_t e = 0; e < graph->n_edges; e++) {
            const tdm_edge *edge = &graph->edges[e];
            const tdm_vertex *a = &graph->vertices[edge->from], *b = &graph->vertices[edge->to];
            if (edge->wire != TDM_WIRE_NVLINK || edge->count != count || a->node != node ||
                a->kind != TDM_VERTEX_GPU || b->kind != TDM_VERTEX_GPU || a->index > b->index)
                continue;
            if (first)
                fprintf(file, "  %u x nvlink %s between GPUs:", count,
                        tdm_topo_rate(rate, edge->bytes_per_s));
            fprintf(file, " %u-%u", a->index, b->index);
            first = false;
        }
        if (!first)
            fputc('\n', file);
    }
}

static void draw_nvswitch(const tdm_graph *graph, uint32_t v, FILE *file)
{
    char rate[TDM_RATE_SIZE];
    uint32_t n = graph->first_edge[v + 1] - graph->first_edge[v];
    if (n == 0)
        return;
    const tdm_edge *edge = &graph->edges[graph->first_edge[v]];
    fprintf(file, "  ====[ %s ]==== %u GPUs, each %u x nvlink, %s\n", graph->vertices[v].name, n,
            edge->count, tdm_topo_rate(rate, edge->bytes_per_s));
}

void tdm_topo_draw(tdm_arena *arena, const tdm_graph *graph, FILE *file)
{
    enum { MOST_GPUS = 128 };
    tdm_graph_tree tree = tdm_graph_tree_make(arena, graph);
    if (graph->n_gpus > MOST_GPUS)
        return; /* nobody could read it */
    for (uint32_t node = 0; node < graph->n_nodes; node++) {
        fprintf(file, "\nnode %u, drawn\n", node);
        for (uint32_t i = 0; i < tree.n_roots; i++) {
            const tdm_vertex *v = &graph->vertices[tree.roots[i]];
            if (v->node == node && v->kind == TDM_VERTEX_SOCKET)
                draw_root(arena, graph, &tree, tree.roots[i], file);
        }
        draw_loose(arena, graph, &tree, node, file);
        for (uint32_t v = 0; v < graph->n_vertices; v++)
            if (graph->vertices[v].node == node && graph->vertices[v].kind == TDM_VERTEX_NVSWITCH)
                draw_nvswitch(graph, v, file);
        draw_mesh(graph, node, file);
    }
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (graph->vertices[v].node == TDM_NO_NODE &&
            graph->vertices[v].kind == TDM_VERTEX_NVSWITCH) {
            fputc('\n', file);
            draw_nvswitch(graph, v, file);
        }
}
