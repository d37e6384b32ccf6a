/* topo.h: how `tandem topo` shows a graph: topo_load.c finds and reads it, topo_tree.c prints the
 * tree, topo_draw.c the drawing, topo_json.c all of it for programs. */
#ifndef TDM_TOPO_H
#define TDM_TOPO_H

#include "core/graph_bisection.h"
#include "core/import.h"

#include <stdio.h>

/* What the command line says beside the file, as written; NULL: not given. */
typedef struct tdm_topo_given {
    const char *gpu, *nvlinks, *wiring, *gpu_at, *pcie, *nic;
} tdm_topo_given;

/* Reads what `operand` names: a topology of Tandem's by name or file, or a text that one of
 * tdm_imports recognises ("-": standard input). *description may become NULL. notes: what was
 * assumed. */
tdm_code tdm_topo_load(tdm_arena *arena, const char *root, const char *operand,
                       const tdm_topo_given *given, tdm_graph *graph, tdm_error *notes,
                       tdm_error *err);

void tdm_topo_tree(tdm_arena *arena, const tdm_graph *graph, FILE *file);
void tdm_topo_draw(tdm_arena *arena, const tdm_graph *graph, FILE *file);
void tdm_topo_bisection(tdm_arena *arena, const tdm_graph *graph, FILE *file);
/* "0,5": the path from GPU 0 to GPU 5 and back, link by link. */
tdm_code tdm_topo_path(tdm_arena *arena, const tdm_graph *graph, const char *pair, FILE *file,
                       tdm_error *err);
tdm_code tdm_topo_json(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err);

/* "371 GB/s", "not known" for 0. */
#define TDM_RATE_SIZE 32u
const char *tdm_topo_rate(char buffer[TDM_RATE_SIZE], double bytes_per_s);
/* The two ranks of "0,5". */
tdm_code tdm_topo_pair(const tdm_graph *graph, const char *pair, uint32_t ranks[2], tdm_error *err);

#endif
