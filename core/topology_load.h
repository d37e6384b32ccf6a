/* topology_load.h: reads topologies/NAME.yaml. */
#ifndef TDM_TOPOLOGY_LOAD_H
#define TDM_TOPOLOGY_LOAD_H

#include "doc.h"
#include "graph.h"
#include "topology.h"

/* All that a topology file says, of fabrics and of machines composed of a node and a network. */
typedef struct tdm_topology_file {
    const char *name, *description;
    const char *group;       /* heading in lists; NULL: none */
    const char *device_name; /* of its GPUs */
    const char *fabric;      /* of a node, where it is composed */
    const char *network;     /* "rail, 8 x 400 Gbit/s"; NULL: none, or one that the fabric has */
    bool even_network;       /* joins all pairs of nodes alike */
    tdm_grade grade;         /* worst of the file's numbers and shape, and its node's */
    tdm_graph graph;
    const tdm_cores *cores; /* NULL: every rank is a GPU */
} tdm_topology_file;

/* Reads a topology as a graph. data: the folder that holds topologies/ and topologies/devices/,
 * where nodes and devices are looked up (NULL: beside the file, and devices are not read). nodes:
 * the scenario's number of nodes, NULL: the file's. Every mistake is reported at once, as
 * path:line:column messages; *file is untouched then. */
tdm_code tdm_topology_read(tdm_arena *arena, const char *data, const char *path,
                           const tdm_node *nodes, tdm_topology_file *file, tdm_error *err);

/* The same file as a graph of the machine's wiring, also of fabrics that engines cannot use. The
 * device it names is read, if there is such a file below data (which may be NULL). */
tdm_code tdm_topology_load_graph(tdm_arena *arena, const char *data, const char *path,
                                 tdm_graph *graph, tdm_error *err);

/* A topology for engines, which ride its graph; arguments as of tdm_topology_read. */
tdm_code tdm_topology_load(tdm_arena *arena, const char *data, const char *path,
                           const tdm_node *nodes, tdm_topology *topology, tdm_error *err);

#endif
