/* topology_load.h: reads topologies/NAME.yaml. */
#ifndef TDM_TOPOLOGY_LOAD_H
#define TDM_TOPOLOGY_LOAD_H

#include "doc.h"
#include "graph.h"
#include "topology.h"

/* Reads a topology. Every mistake is reported at once as path:line:column messages; *topology is
 * untouched then. The device it names is not read (topology->device_name). */
tdm_code tdm_topology_load(tdm_arena *arena, const char *path, tdm_topology *topology,
                           tdm_error *err);

/* The same file as a graph of the machine's wiring, also of fabrics that engines cannot use. The
 * device it names is read, if there is such a file below root (which may be NULL). */
tdm_code tdm_topology_load_graph(tdm_arena *arena, const char *root, const char *path,
                                 tdm_graph *graph, tdm_error *err);

/* The same with another number of nodes than the file's, as the scenario's node says; NULL: the
 * file's. Fails for a fabric that does not count nodes. */
tdm_code tdm_topology_load_nodes(tdm_arena *arena, const char *path, const tdm_node *nodes,
                                 tdm_topology *topology, tdm_error *err);

#endif
