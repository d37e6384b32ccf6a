/* graph.h: a machine as it is wired: GPUs, switches, sockets and adapters, and the directed links
 * between them. Topology files and imports (NCCL XML, nvidia-smi, hwloc) are turned into it; NCCL's
 * choices, paths, drawings and exports are made from it. */
#ifndef TDM_GRAPH_H
#define TDM_GRAPH_H

#include "base.h"

typedef enum tdm_vertex_kind {
    TDM_VERTEX_GPU,
    TDM_VERTEX_NVSWITCH,    /* all switches of one NVLink domain, as NCCL sees them */
    TDM_VERTEX_PCIE_SWITCH, /* a bridge below a root port */
    TDM_VERTEX_ROOT_PORT,
    TDM_VERTEX_SOCKET, /* a NUMA node: processor, memory and root complex */
    TDM_VERTEX_NIC,    /* a port of a network adapter */
    TDM_VERTEX_SWITCH, /* of the network between nodes */
    TDM_N_VERTEX_KINDS
} tdm_vertex_kind;

typedef enum tdm_wire {
    TDM_WIRE_NVLINK,
    TDM_WIRE_C2C, /* GPU to its own processor, coherent */
    TDM_WIRE_PCIE,
    TDM_WIRE_SOCKET, /* between processors */
    TDM_WIRE_NETWORK,
    TDM_N_WIRES
} tdm_wire;

typedef enum tdm_cpu_vendor {
    TDM_CPU_UNKNOWN,
    TDM_CPU_INTEL,
    TDM_CPU_AMD,
    TDM_CPU_ARM,
    TDM_CPU_IBM,
    TDM_CPU_ZHAOXIN
} tdm_cpu_vendor;

/* No machine node: a switch of the network. */
#define TDM_NO_NODE UINT32_MAX

typedef struct tdm_vertex {
    tdm_vertex_kind kind;
    const char *name;    /* unique, fit for an XML id: "gpu-3", "node-1-nic-2" */
    uint32_t node;       /* machine node it is in, or TDM_NO_NODE */
    uint32_t index;      /* 0, 1 ... within its kind, over the whole graph; GPUs: the rank */
    uint32_t sm;         /* GPU: compute capability, 90 for 9.0; 0: not known */
    const char *address; /* PCI bus id, "0000:a4:00.0"; NULL: not known */
    tdm_cpu_vendor cpu;  /* socket */
    uint32_t cpu_family, cpu_model; /* socket; 0: not known */
    double nic_bytes_per_s;         /* NIC: line rate, one direction */
    /* PCIe switch, socket: payload of all that passes from device to device, both directions
     * together; 0: only its links limit it. */
    double through_bytes_per_s;
    double nic_latency_s;
    bool nic_gpu_direct; /* NIC: may read GPU memory itself */
    const char *label;   /* what the system calls it: "mlx5_0"; NULL: not known */
    const char *cpus;    /* socket: its processors, "0-23,48-71"; NULL: not known */
    int32_t numa;        /* socket: number of the NUMA node, -1: none */
} tdm_vertex;

typedef struct tdm_edge {
    uint32_t from, to; /* vertices */
    tdm_wire wire;
    uint32_t count;     /* NVLinks, or PCIe lanes, bundled in it; 1 for others */
    double bytes_per_s; /* usable by payload in this direction, of the whole bundle */
    double latency_s;
    const char *name; /* unique, fit for an XML id: "gpu-3-nvlink-up" */
} tdm_edge;

typedef struct tdm_graph {
    const char *name;
    uint32_t n_nodes; /* machine nodes */
    uint32_t n_gpus;
    const uint32_t *gpus; /* [n_gpus] vertices, by rank */
    uint32_t n_vertices;
    const tdm_vertex *vertices; /* [n_vertices] */
    uint32_t n_edges;
    const tdm_edge *edges;      /* [n_edges] by `from` */
    const uint32_t *first_edge; /* [n_vertices + 1] into edges: those that leave a vertex */
    /* [n_vertices] vertices by machine node, those of none last, and [n_nodes + 2] where each
     * begins. */
    const uint32_t *by_node, *first_of_node;
    const struct tdm_nccl_site *site; /* what was measured of it, core/nccl/site.h; NULL: nothing */
} tdm_graph;

typedef struct tdm_graph_builder {
    tdm_arena *arena;
    tdm_vertex *vertices;
    tdm_edge *edges;
    uint32_t n_vertices, vertex_capacity, n_edges, edge_capacity;
    uint32_t n_of_kind[TDM_N_VERTEX_KINDS];
} tdm_graph_builder;

void tdm_graph_builder_init(tdm_graph_builder *builder, tdm_arena *arena);
/* A copy of the vertex with its index set, and its name where it has none ("gpu-3"); returns its
 * number. */
uint32_t tdm_graph_add(tdm_graph_builder *builder, const tdm_vertex *vertex);
/* One direction. */
void tdm_graph_edge(tdm_graph_builder *builder, const tdm_edge *edge);
/* Both directions alike; the names are NAME-up (a to b) and NAME-down. */
void tdm_graph_link(tdm_graph_builder *builder, uint32_t a, uint32_t b, tdm_wire wire,
                    uint32_t count, double bytes_per_s, double latency_s, const char *name);
/* The graph lives in the builder's arena. */
tdm_graph tdm_graph_finish(tdm_graph_builder *builder, const char *name);

const char *tdm_vertex_kind_name(tdm_vertex_kind kind); /* "gpu", "nvswitch", "pcie-switch" ... */
const char *tdm_wire_name(tdm_wire wire);               /* "nvlink", "c2c", "pcie" ... */

#endif
