/* traffic.h: what an operation puts on the links of a machine: payload on every directed edge of
 * its graph. Algorithms say which GPUs and adapters talk; the ways between these are NCCL's. */
#ifndef TDM_NCCL_TRAFFIC_H
#define TDM_NCCL_TRAFFIC_H

#include "core/nccl/comm.h"

/* Links that all carry the same. Links are the edges of the communicator's graph, and behind them
 * its vertices, for what passes a vertex of limited capacity: link n_edges + v is vertex v. */
typedef struct tdm_nccl_part {
    double share; /* bytes on each link for every byte of the buffer, without protocol */
    uint32_t n_links;
    const uint32_t *links; /* [n_links] ascending */
} tdm_nccl_part;

typedef struct tdm_nccl_traffic {
    uint32_t n_parts;
    const tdm_nccl_part *parts; /* [n_parts] the largest share first */
} tdm_nccl_traffic;

/* Traffic of a function with an algorithm that serves it (TDM_NCCL_P2P for sends and receives); the
 * buffer as tdm_nccl_time counts it. Fails, naming two adapters, when the network does not join
 * them. */
tdm_code tdm_nccl_traffic_of(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                             tdm_nccl_algo algo, tdm_nccl_traffic *traffic, tdm_error *err);

/* The same for messages of given sizes: bytes [n_ranks][n_ranks], sender first. Shares are then
 * bytes on the edge. */
tdm_code tdm_nccl_traffic_of_messages(tdm_arena *arena, const tdm_nccl_comm *comm,
                                      const uint64_t *bytes, tdm_nccl_traffic *traffic,
                                      tdm_error *err);

/* Links that carry the same messages, or the same the other way, whatever their sizes. */
typedef struct tdm_nccl_class {
    uint32_t n_links;
    const uint32_t *links; /* [n_links] ascending */
    bool both_ways;        /* some carry the messages, others their replies */
    uint32_t n_messages;
    const uint32_t *messages; /* [n_messages] sender * n_ranks + receiver */
    const double *weights;    /* [n_messages] share of the message on each of the links */
} tdm_nccl_class;

/* Classes of all messages between members, for all-to-alls of uneven sizes. */
tdm_code tdm_nccl_traffic_classes(tdm_arena *arena, const tdm_nccl_comm *comm, uint32_t *n_classes,
                                  const tdm_nccl_class **classes, tdm_error *err);

/* Bytes/s of a link. */
double tdm_nccl_link_capacity(const tdm_graph *graph, uint32_t link);

/* GB/s of the buffer at which the first link is full, by the graph's own figures; INFINITY without
 * traffic. */
double tdm_nccl_traffic_bw(const tdm_nccl_comm *comm, const tdm_nccl_traffic *traffic);

/* ---- for algorithms ---- */

/* Traffic as it is put together. Places count as in the communicator, GPUs and ports as in the
 * place's view; shares are bytes for every byte of the buffer. */
typedef struct tdm_nccl_loads tdm_nccl_loads;

const tdm_nccl_comm *tdm_nccl_loads_comm(const tdm_nccl_loads *loads);
tdm_nccl_func tdm_nccl_loads_func(const tdm_nccl_loads *loads);
/* From GPU to GPU of a place. */
void tdm_nccl_load_gpus(tdm_nccl_loads *loads, uint32_t place, uint32_t from, uint32_t to,
                        double share);
/* From a GPU out by a port of its place, into another place by a port, to a GPU there. */
void tdm_nccl_load_across(tdm_nccl_loads *loads, uint32_t from_place, uint32_t from_gpu,
                          uint32_t from_port, uint32_t to_place, uint32_t to_port, uint32_t to_gpu,
                          double share);
/* Between a GPU and its NVSwitch. */
void tdm_nccl_load_switch(tdm_nccl_loads *loads, uint32_t place, uint32_t gpu, double up,
                          double down);
/* A message between members, by the adapters that sends and receives use. */
void tdm_nccl_load_message(tdm_nccl_loads *loads, uint32_t from, uint32_t to, double share);
/* One channel of two binary trees over the places, each for half of the channel's share: sums go up
 * and results down. graphs: what each place found (its tree, or its NVLS heads). Source: NCCL
 * 2.28.9, src/graph/trees.cc, and src/graph/connect.cc for GPUs and adapters. */
void tdm_nccl_load_trees(tdm_nccl_loads *loads,
                         const tdm_nccl_graph *(*graph_of)(const tdm_nccl_place *place),
                         uint32_t channel, double share);

#endif
