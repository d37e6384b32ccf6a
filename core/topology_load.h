/* topology_load.h: reads topologies/NAME.yaml. */
#ifndef TDM_TOPOLOGY_LOAD_H
#define TDM_TOPOLOGY_LOAD_H

#include "doc.h"
#include "topology.h"

/* Reads a topology. Every mistake is reported at once as path:line:column messages; *topology is
 * untouched then. The device it names is not read (topology->device_name). */
tdm_code tdm_topology_load(tdm_arena *arena, const char *path, tdm_topology *topology,
                           tdm_error *err);

/* The same with another number of nodes than the file's, as the scenario's node says; NULL: the
 * file's. Fails for a fabric that does not count nodes. */
tdm_code tdm_topology_load_nodes(tdm_arena *arena, const char *path, const tdm_node *nodes,
                                 tdm_topology *topology, tdm_error *err);

#endif
