/* topology_graph.h: a topology of planes as the wired machine that it stands for. */
#ifndef TDM_TOPOLOGY_GRAPH_H
#define TDM_TOPOLOGY_GRAPH_H

#include "core/graph.h"
#include "core/topology.h"

/* The graph of a topology and its GPUs: what the file does not say (PCIe switches, adapters beside
 * the GPUs) is laid out as the makers of such nodes do: two sockets, and under them PCIe switches
 * with one GPU and one adapter each (Hopper and later) or two of both (Ampere and before). Fails
 * when the device lacks compute_capability or, on NVSwitch, nvlinks and pcie. */
tdm_code tdm_topology_graph(tdm_arena *arena, const tdm_topology *topology,
                            const tdm_device *device, tdm_graph *graph, tdm_error *err);

#endif
