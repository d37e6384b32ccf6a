/* topology.h: GPUs and the directed links between them.
 * A topology is a list of planes, each a forest over the GPUs: every vertex but a root hangs on its
 * parent by one link up and one link down. Two GPUs talk over the first plane in which they share a
 * root: up to the lowest common vertex, then down. One NVSwitch node is one plane of depth 1; nodes
 * joined by a network add a second plane of NIC links; a PCIe server is one plane GPU - switch -
 * socket - root. */
#ifndef TDM_TOPOLOGY_H
#define TDM_TOPOLOGY_H

#include "device.h"
#include "graph.h"
#include "nccl/settings.h"

#define TDM_ROUTE_MAX 12u /* links of the longest route */

typedef struct tdm_link {
    const char *name;   /* unique, fit for an XML id */
    double bytes_per_s; /* usable by payload, one direction */
    double latency_s;
} tdm_link;

typedef struct tdm_plane {
    const char *name;      /* "nvlink", "pcie", "network" */
    uint32_t n_vertices;   /* vertex g < n_gpus is GPU g; the rest are switches */
    const int32_t *parent; /* [n_vertices], -1: a root, or a GPU that is not in this plane */
    const uint32_t *up;    /* [n_vertices] link to the parent; unused for roots */
    const uint32_t *down;  /* [n_vertices] link from the parent */
} tdm_plane;

/* Ranks that are threads and share the cores of a processor, as the host device runs them. */
typedef struct tdm_cores {
    uint32_t n_cores;
    double slice_s; /* a thread keeps its core so long while others are ready to run */
    double hold_s;  /* it keeps it at least so long when one is woken that has used less */
    double turn_s;  /* core time of going from one op of a stream to the next */
    /* Core time of letting a thread go on that waited, of whoever wakes it and its own together. */
    double switch_s;
    double wake_s;             /* until a thread goes on that is woken while a core is idle */
    double copy_bytes_per_s;   /* by one core from another thread's buffer: bytes written */
    double reduce_bytes_per_s; /* by one core, of several threads' buffers: bytes read */
} tdm_cores;

typedef struct tdm_topology {
    const char *name;
    const char *description;
    uint32_t n_gpus;
    uint32_t gpus_per_node;
    const char *device_name;
    uint32_t n_links;
    const tdm_link *links; /* [n_links] */
    uint32_t n_planes;
    const tdm_plane *planes; /* [n_planes] */
    /* The machine as it is wired, and NCCL's settings; NULL: bare planes. Links are then its edges,
     * in order, and behind them its vertices where some pass less than their links bring. */
    const tdm_graph *graph;
    const tdm_nccl_settings *nccl;
    const tdm_cores *cores;       /* NULL: every rank is a GPU */
    struct tdm_nccl_known *known; /* nodes of the graph that were searched for channels; grows in
                                   * the topology's arena, for one thread */
    bool same_nodes; /* of the graph: every node is wired as the others, to the same network */
    bool same_gpus;  /* of the graph: all GPUs are on one NVSwitch, none before the others */
    tdm_value link_bytes_per_s;    /* of the GPU's own port: what reports quote */
    tdm_value collective_launch_s; /* fixed time of one collective (its kernel, synchronisation) */
    tdm_value p2p_launch_s;        /* the same of one send/receive */
    tdm_grade grade;               /* worst of all numbers in the file */
    bool uneven_latency; /* links of one kind differ in latency: no pair of GPUs stands for
                          * others */
    /* Of a folded topology (fold.h), else NULL: the GPU [n_gpus] and the link [n_links] that stand
     * for each. */
    const uint32_t *gpu_stand_in, *link_stand_in;
} tdm_topology;

typedef struct tdm_route {
    uint32_t n_links;
    uint32_t links[TDM_ROUTE_MAX];
    double latency_s; /* sum over the links */
    uint32_t plane;
} tdm_route;

/* Makes the graph's links those of the topology. */
void tdm_topology_of_graph(tdm_arena *arena, const tdm_graph *graph, tdm_topology *topology);

/* On planes: the links from GPU src to GPU dst, in order; of a folded topology those that stand for
 * them. src
 * == dst gives an empty route. Returns false when
 * the two share no plane or the route is longer than TDM_ROUTE_MAX. */
bool tdm_topology_route(const tdm_topology *topology, uint32_t src, uint32_t dst, tdm_route *route);

/* True when every route is exactly one up-link and one down-link of one plane of depth 1. */
bool tdm_topology_is_single_switch(const tdm_topology *topology);

/* True when every plane has depth 1: all contention is at the GPUs' own ports. So it is on one
 * switch, and on nodes of one switch each that a network joins with an adapter per GPU. */
bool tdm_topology_has_ports_only(const tdm_topology *topology);

#endif
