/* nccl.h: the words of NCCL's model: functions, algorithms, protocols, kinds of path, and what its
 * search finds. Everything below core/nccl follows NCCL 2.28.9 (src/graph, src/enqueue.cc); times
 * in its tables are microseconds and bandwidths GB/s of 1e9 bytes, as they are there. */
#ifndef TDM_NCCL_H
#define TDM_NCCL_H

#include "core/base.h"

typedef enum tdm_nccl_func {
    TDM_NCCL_BROADCAST,
    TDM_NCCL_REDUCE,
    TDM_NCCL_ALL_GATHER,
    TDM_NCCL_REDUCE_SCATTER,
    TDM_NCCL_ALL_REDUCE,
    TDM_NCCL_N_TUNED, /* those above have algorithms to choose from; the rest is sends and receives
                       */
    TDM_NCCL_SEND_RECV = TDM_NCCL_N_TUNED,
    TDM_NCCL_ALL_TO_ALL,
    TDM_NCCL_N_FUNCS
} tdm_nccl_func;

typedef enum tdm_nccl_algo {
    TDM_NCCL_TREE,
    TDM_NCCL_RING,
    TDM_NCCL_COLLNET_DIRECT, /* CollNet needs a plugin (SHARP): known by name, never chosen */
    TDM_NCCL_COLLNET_CHAIN,
    TDM_NCCL_NVLS,
    TDM_NCCL_NVLS_TREE,
    TDM_NCCL_PAT,
    TDM_NCCL_N_ALGOS,
    TDM_NCCL_P2P = TDM_NCCL_N_ALGOS /* sends and receives */
} tdm_nccl_algo;

typedef enum tdm_nccl_proto {
    TDM_NCCL_LL,
    TDM_NCCL_LL128,
    TDM_NCCL_SIMPLE,
    TDM_NCCL_N_PROTOS
} tdm_nccl_proto;

/* Rows of the tables that differ by GPU. */
typedef enum tdm_nccl_generation {
    TDM_NCCL_VOLTA,
    TDM_NCCL_AMPERE,
    TDM_NCCL_HOPPER,
    TDM_NCCL_BLACKWELL,
    TDM_NCCL_N_GENERATIONS
} tdm_nccl_generation;

/* Kinds of path, nearest first, numbered as in NCCL. */
typedef enum tdm_nccl_reach {
    TDM_NCCL_LOC,
    TDM_NCCL_NVL, /* NVLink, also through an NVSwitch */
    TDM_NCCL_NVB, /* NVLink by way of another GPU */
    TDM_NCCL_C2C,
    TDM_NCCL_PIX, /* one PCIe switch */
    TDM_NCCL_PXB, /* several */
    TDM_NCCL_P2C, /* C2C to the processor, PCIe to the adapter */
    TDM_NCCL_PXN, /* to an adapter by way of the GPU beside it */
    TDM_NCCL_PHB, /* through the processor */
    TDM_NCCL_SYS, /* from socket to socket */
    TDM_NCCL_NET,
    TDM_NCCL_DIS, /* none */
    TDM_NCCL_N_REACHES
} tdm_nccl_reach;

typedef enum tdm_nccl_pattern {
    TDM_NCCL_PATTERN_BALANCED_TREE,
    TDM_NCCL_PATTERN_TREE,
    TDM_NCCL_PATTERN_RING,
    TDM_NCCL_PATTERN_NVLS
} tdm_nccl_pattern;

/* What a search finds: channels of one speed. */
typedef struct tdm_nccl_graph {
    tdm_nccl_pattern pattern;
    uint32_t n_channels; /* 0: there is none of this pattern */
    double bw_intra;     /* GB/s of one channel between GPUs */
    double bw_inter;     /* and to the network */
    tdm_nccl_reach intra, inter;
    double latency_inter_us;
    bool same_channels;
    uint32_t cross_nic;
    double n_hops;
    bool fallback; /* nothing was found; one channel of 0.1 GB/s stands for it, as in NCCL */
    /* [n_channels][n_gpus] GPUs of the node in the order of a channel (NVLS: only the first, the
     * head), and [n_channels][2] adapters, counted within the node. */
    const uint16_t *order, *adapters;
} tdm_nccl_graph;

const char *tdm_nccl_func_name(tdm_nccl_func func);    /* "AllReduce" */
const char *tdm_nccl_algo_name(tdm_nccl_algo algo);    /* "NVLSTree"; "P2P" */
const char *tdm_nccl_proto_name(tdm_nccl_proto proto); /* "LL128" */

/* "all-reduce" or "AllReduce", whatever the case; false: no such function. */
bool tdm_nccl_func_find(const char *name, tdm_nccl_func *func);

/* Bus bandwidth over algorithm bandwidth. Source: nccl-tests, doc/PERFORMANCE.md. */
double tdm_nccl_bus_factor(tdm_nccl_func func, uint32_t n_ranks);

/* 90 is Hopper, 86 Ampere, 0 or below 80 Volta. */
tdm_nccl_generation tdm_nccl_generation_of(uint32_t sm);

#endif
