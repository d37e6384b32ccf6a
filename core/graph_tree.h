/* graph_tree.h: the PCIe side of a graph as trees: sockets, what hangs on them, down to GPUs and
 * adapters. */
#ifndef TDM_GRAPH_TREE_H
#define TDM_GRAPH_TREE_H

#include "graph.h"

#define TDM_NO_VERTEX UINT32_MAX

typedef struct tdm_graph_tree {
    uint32_t n_roots;
    const uint32_t *roots; /* [n_roots] sockets, then what hangs on none; by number */
    /* [n_vertices] each, TDM_NO_VERTEX for none; children in the order of their numbers */
    const uint32_t *parent, *first_child, *next_sibling;
    const uint32_t *up; /* edge to the parent */
} tdm_graph_tree;

tdm_graph_tree tdm_graph_tree_make(tdm_arena *arena, const tdm_graph *graph);
/* The socket above a vertex; TDM_NO_VERTEX: none. */
uint32_t tdm_graph_tree_socket(const tdm_graph *graph, const tdm_graph_tree *tree, uint32_t vertex);

#endif
