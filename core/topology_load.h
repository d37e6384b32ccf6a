/* topology_load.h: reads topologies/NAME.yaml. */
#ifndef TDM_TOPOLOGY_LOAD_H
#define TDM_TOPOLOGY_LOAD_H

#include "topology.h"

/* Reads a topology. Every mistake is reported at once as path:line:column messages; *topology is
 * untouched then. The device it names is not read (topology->device_name). */
tdm_code tdm_topology_load(tdm_arena *arena, const char *path, tdm_topology *topology,
                           tdm_error *err);

#endif
