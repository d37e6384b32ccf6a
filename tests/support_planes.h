/* support_planes.h: bare planes of links, built by code: for tests of algorithms and engines where
 * only links limit. */
#ifndef TDM_SUPPORT_PLANES_H
#define TDM_SUPPORT_PLANES_H

#include "core/net.h"

/* Builds planes link by link. */
typedef struct support_plane_builder {
    tdm_arena *arena;
    tdm_link *links; /* all links of the topology so far */
    uint32_t n_links, capacity;
    int32_t *parent;
    uint32_t *up, *down;
    tdm_plane plane;
} support_plane_builder;

/* Room for n_links links over all planes. */
void support_plane_builder_init(support_plane_builder *builder, tdm_arena *arena, uint32_t n_links);
/* Starts a plane whose vertices all are roots. */
void support_plane_begin(support_plane_builder *builder, const char *name, uint32_t n_vertices);
/* Hangs a vertex on a parent with one link each way, named VERTEX-up and VERTEX-down. */
void support_plane_hang(support_plane_builder *builder, uint32_t vertex, uint32_t parent,
                        const char *vertex_name, double bytes_per_s, double latency_s);

/* A plane of GPU ports: GPU g hangs on switch g / gpus_per_switch. Half of the latency is on either
 * link. */
tdm_plane support_ports(support_plane_builder *builder, const char *name, const char *port,
                        uint32_t n_gpus, uint32_t gpus_per_switch, double bytes_per_s,
                        double latency_s);

/* Machines of 16 GPUs: one switch of 180 GB/s ports; two nodes of 8 with 280 GB/s ports and a
 * network with 45.9 GB/s for each GPU; PCIe, 4 switches of 4 with 24 GB/s links under 2 sockets
 * joined by 16 GB/s. */
tdm_topology support_planes_switch(tdm_arena *arena);
tdm_topology support_planes_two_nodes(tdm_arena *arena, uint32_t n_nodes);
tdm_topology support_planes_pcie(tdm_arena *arena);

/* Bytes that a transfer puts on the links of a GPU, out of it or (into) into it. */
uint64_t support_gpu_bytes(const tdm_net *net, const tdm_transfer *transfer, uint32_t gpu,
                           bool into);
/* Flows of a collective on planes, as loads of a net. */
tdm_load *support_loads(tdm_arena *arena, tdm_net *net, const tdm_flow *flows, uint32_t n);

#endif
