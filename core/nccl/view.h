/* view.h: one node as NCCL sees it: the GPUs of a communicator that NVLink or PCIe joins, and what
 * is between them and the network, with NCCL's own figures for every link, and the paths. Several
 * machines on one NVLink fabric (an NVL72 rack) are one node, as in NCCL. */
#ifndef TDM_NCCL_VIEW_H
#define TDM_NCCL_VIEW_H

#include "core/graph.h"
#include "core/nccl/nccl.h"

enum {
    TDM_NCCL_MAX_LOCAL = 128,  /* GPUs of one node; network adapters of one node */
    TDM_NCCL_MAX_CHANNELS = 64 /* MAXCHANNELS */
};

typedef enum tdm_nccl_kind {
    TDM_NCCL_GPU,
    TDM_NCCL_PCI, /* a PCIe switch */
    TDM_NCCL_NVS, /* all NVSwitches of the node in one */
    TDM_NCCL_CPU,
    TDM_NCCL_NIC,  /* the adapter's PCIe side */
    TDM_NCCL_PORT, /* its network side */
    TDM_NCCL_N_KINDS
} tdm_nccl_kind;

typedef struct tdm_nccl_node {
    tdm_nccl_kind kind;
    uint32_t index;  /* within its kind */
    uint32_t vertex; /* of the graph */
    uint32_t first_link, n_links;
    uint32_t sm, device; /* GPU: compute capability; place among the GPUs of its machine */
    tdm_cpu_vendor vendor;
    double bw, latency_us; /* PORT */
    bool gpu_direct;       /* PORT */
    int local_gpu;         /* PORT: the GPU that NCCL pairs with it, -1: none */
} tdm_nccl_node;

/* Edges of the graph that a link is made of: one, or two over a root port; bundles beside each
 * other follow as `next`. */
typedef struct tdm_nccl_wire {
    uint32_t n_edges, edges[2];
    double bw;
    const struct tdm_nccl_wire *next;
} tdm_nccl_wire;

typedef struct tdm_nccl_link {
    uint32_t from, to;
    tdm_nccl_reach reach; /* LOC for the wire to the network */
    bool is_nvlink, is_pcie;
    double bw;
    uint32_t back;             /* the link of the other direction */
    const tdm_nccl_wire *wire; /* NULL: the wire to the network, whose edges are the network's */
} tdm_nccl_link;

typedef struct tdm_nccl_path {
    tdm_nccl_reach reach;
    uint32_t n_links; /* 0: none, or the node itself */
    double bw;
    const uint32_t *links;
} tdm_nccl_path;

typedef struct tdm_nccl_view {
    uint32_t n_nodes, n_links;
    tdm_nccl_node *nodes;
    tdm_nccl_link *links; /* by `from` */
    uint32_t n_of[TDM_NCCL_N_KINDS];
    const uint32_t *of[TDM_NCCL_N_KINDS]; /* nodes of a kind */
    uint32_t n_targets;
    uint32_t *target;     /* [n_nodes] number as target of paths; UINT32_MAX: none */
    tdm_nccl_path *paths; /* [n_nodes][n_targets] */
    /* [gpus][ports] the adapters that NCCL gives to a GPU's channels in turn, and how many. */
    uint16_t *gpu_ports, *n_gpu_ports;
    double max_bw, total_bw;
    uint32_t min_sm, max_sm;
    tdm_cpu_vendor vendor;
} tdm_nccl_view;

/* The view of the given GPUs (ranks of the graph), which have to lie on one node. with_network:
 * whether the communicator has others. Fails, naming the machine, when there are more than
 * TDM_NCCL_MAX_LOCAL of something, when a GPU's compute capability is not known, or when GPUs have
 * no path to each other or to the network. */
tdm_code tdm_nccl_view_build(tdm_arena *arena, const tdm_graph *graph, const uint32_t *ranks,
                             uint32_t n_ranks, bool with_network, tdm_nccl_view *view,
                             tdm_error *err);

/* Fills paths, max_bw, total_bw and the ports' GPUs; a part of the above. */
tdm_code tdm_nccl_view_paths(tdm_arena *arena, tdm_nccl_view *view, bool with_network,
                             const char *name, tdm_error *err);

/* The path between two nodes; the second is a GPU, NVS, CPU or PORT. */
const tdm_nccl_path *tdm_nccl_path_of(const tdm_nccl_view *view, uint32_t from, uint32_t to);

/* Nearest nodes of a kind: largest bandwidth, then shortest reach. Returns their number, with their
 * indices within the kind. */
uint32_t tdm_nccl_nearest(const tdm_nccl_view *view, uint32_t from, tdm_nccl_kind kind,
                          uint16_t found[TDM_NCCL_MAX_LOCAL]);
/* The adapter that NCCL gives to a GPU for a channel; its index. */
uint32_t tdm_nccl_port_for(const tdm_nccl_view *view, uint32_t gpu, uint32_t channel);

/* Whether a search finds the same in both. */
bool tdm_nccl_view_same(const tdm_nccl_view *a, const tdm_nccl_view *b);

/* One NVLink in one direction, usable. */
double tdm_nccl_nvlink_bw(uint32_t sm);

#endif
