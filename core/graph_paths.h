/* graph_paths.h: the way from one GPU or adapter to another, and what it can carry.
 * Of all ways the best kind is taken, in NCCL's order of path types; within a kind the one with the
 * fewest processors, then links, then the widest. */
#ifndef TDM_GRAPH_PATHS_H
#define TDM_GRAPH_PATHS_H

#include "graph.h"

/* Best first. Source: NCCL 2.28.9, src/graph/topo.h and paths.cc; NODE is nvidia-smi's, between
 * host bridges of one NUMA node, which NCCL counts as PHB. */
typedef enum tdm_path_type {
    TDM_PATH_LOC,  /* the same device */
    TDM_PATH_NVL,  /* NVLink, directly or over switches */
    TDM_PATH_NVB,  /* NVLink, over one more GPU */
    TDM_PATH_C2C,  /* the coherent link to the own processor */
    TDM_PATH_PIX,  /* at most one PCIe switch */
    TDM_PATH_PXB,  /* several PCIe switches, no processor */
    TDM_PATH_P2C,  /* C2C, then PCIe */
    TDM_PATH_PHB,  /* a host bridge */
    TDM_PATH_NODE, /* two host bridges of one processor */
    TDM_PATH_SYS,  /* the link between processors */
    TDM_PATH_NET,  /* the network between nodes */
    TDM_PATH_NONE  /* no way */
} tdm_path_type;

typedef struct tdm_graph_path {
    tdm_path_type type;
    uint32_t n_edges;
    const uint32_t *edges; /* [n_edges] in order; valid until the next call */
    uint32_t n_nvlinks;    /* NVL: the fewest NVLinks bundled in one edge of it */
    double bytes_per_s;    /* the least of its edges; LOC: 0 */
    double latency_s;      /* sum over its edges */
} tdm_graph_path;

typedef struct tdm_pathfinder tdm_pathfinder; /* lives in the arena it was made in */

tdm_pathfinder *tdm_pathfinder_new(tdm_arena *arena, const tdm_graph *graph);
/* The best path between two vertices; type NONE when there is none. Cheap for many `to` of one
 * `from` in turn. */
tdm_graph_path tdm_pathfinder_find(tdm_pathfinder *finder, uint32_t from, uint32_t to);

/* The best path without NVLink between GPUs: what nvidia-smi shows where GPUs have no NVLink. */
tdm_graph_path tdm_pathfinder_find_pcie(tdm_pathfinder *finder, uint32_t from, uint32_t to);

const char *tdm_path_type_name(tdm_path_type type); /* "NVL", "PIX" ... */

#endif
