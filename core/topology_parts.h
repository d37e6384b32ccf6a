/* topology_parts.h: what topology_load.c and topology_nodes.c share. */
#ifndef TDM_TOPOLOGY_PARTS_H
#define TDM_TOPOLOGY_PARTS_H

#include "topology_load.h"

/* Whether the document is a machine composed of a node and a network. */
bool tdm_topology_is_composed(const tdm_node *root);
tdm_code tdm_topology_read_nodes(tdm_arena *arena, const char *data, const char *path,
                                 tdm_node *root, const tdm_node *nodes, tdm_topology_file *file,
                                 tdm_error *err);

/* Puts the scenario's number of nodes in the place of the file's. */
tdm_code tdm_topology_set_nodes(tdm_arena *arena, tdm_node *root, const tdm_node *nodes,
                                tdm_error *err);

#endif
