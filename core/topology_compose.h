/* topology_compose.h: a machine made of equal nodes and a network. */
#ifndef TDM_TOPOLOGY_COMPOSE_H
#define TDM_TOPOLOGY_COMPOSE_H

#include "network.h"

typedef struct tdm_composition {
    const tdm_graph *node; /* of one machine node */
    uint32_t n_nodes;
    uint32_t nodes_per_nvlink_domain; /* so many share the NVSwitches; 1: each has its own */
    const tdm_network *network;       /* NULL: none */
    tdm_network_spec spec;
} tdm_composition;

/* The whole machine. Node n has the vertices of `node` in their order behind those of node n - 1;
 * what all share comes last: NVSwitches of domains of several nodes, then the network's switches.
 * Of the node's adapters only those that the network joins are there. Names: gpu-3 of node 1 is
 * gpu-11 in a machine of 8 GPUs a node; links are named after their ends; what the node's file
 * names itself gets the prefix node-1-. */
tdm_graph tdm_compose(tdm_arena *arena, const tdm_composition *composition, const char *name);

#endif
