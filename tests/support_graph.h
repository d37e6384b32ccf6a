/* support_graph.h: machines as graphs, built by code: for tests of what is made from a graph. */
#ifndef TDM_SUPPORT_GRAPH_H
#define TDM_SUPPORT_GRAPH_H

#include "core/graph.h"

/* Nodes of GPUs on NVSwitch under two sockets, an adapter beside each GPU; a PCIe switch holds one
 * of both (Hopper and later) or two (as in DGX A100). nic_bytes_per_s 0: no adapters. */
tdm_graph support_graph_nvswitch(tdm_arena *arena, const char *name, uint32_t n_nodes,
                                 uint32_t gpus_per_node, uint32_t sm, uint32_t n_links,
                                 double pcie_bytes_per_s, double nic_bytes_per_s);

/* One server without NVLink: switches of GPUs under sockets; 0 switches: GPUs at the sockets. */
tdm_graph support_graph_pcie(tdm_arena *arena, const char *name, uint32_t sockets,
                             uint32_t switches, uint32_t gpus, uint32_t sm, tdm_cpu_vendor cpu);

/* DGX-1V: eight V100 in a hybrid cube mesh of six NVLinks each. */
tdm_graph support_graph_cube_mesh(tdm_arena *arena);

/* Nodes of four GPUs, each joined to every other by so many NVLinks (Polaris, Snellius), each with
 * an adapter; nic_bytes_per_s 0: none. */
tdm_graph support_graph_mesh4(tdm_arena *arena, const char *name, uint32_t n_nodes, uint32_t sm,
                              uint32_t n_links, double nic_bytes_per_s);

/* Nodes of ALCF Polaris: four A100, two Slingshot-11 adapters of 200 Gbit/s. */
tdm_graph support_graph_polaris(tdm_arena *arena, uint32_t n_nodes);

/* Pairs of GPUs on NVLink under two sockets. */
tdm_graph support_graph_pairs(tdm_arena *arena, uint32_t n_pairs, uint32_t sm, uint32_t n_links);

#endif
