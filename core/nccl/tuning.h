/* tuning.h: NCCL's cost model and what it chooses by it.
 * Source: NCCL 2.28.9, src/graph/tuning.cc, src/enqueue.cc. */
#ifndef TDM_NCCL_TUNING_H
#define TDM_NCCL_TUNING_H

#include "core/nccl/traffic.h"

/* What of the constants an algorithm is asked for. */
typedef struct tdm_nccl_case {
    const tdm_nccl_comm *comm;
    tdm_nccl_func func;
    tdm_nccl_proto proto;
    tdm_nccl_generation generation;
    uint32_t by_nodes;         /* column of the tables: 0 one node, 1 two, 2 more */
    uint32_t n_steps;          /* of a ring */
    double intra_us, inter_us; /* latency of a step in the node, and between nodes */
    double net_overhead_us;    /* of a ring's step, 0 on one node */
    double ll_max_bw;
} tdm_nccl_case;

/* One algorithm, one file in core/nccl/algorithms/, which defines `const tdm_nccl_algorithm
 * tdm_nccl_algorithm_NAME`; the build collects them in a table. */
typedef struct tdm_nccl_algorithm {
    const char *name; /* as NCCL_ALGO has it */
    tdm_nccl_algo algo;
    double base_us[TDM_NCCL_N_PROTOS];
    double nvlink_us[TDM_NCCL_N_PROTOS], pcie_us[TDM_NCCL_N_PROTOS], net_us[TDM_NCCL_N_PROTOS];
    const tdm_nccl_graph *(*graph)(const tdm_nccl_comm *comm);
    /* GB/s as NCCL's table has it (algorithm bandwidth), 0 when the case is not served. */
    double (*bandwidth)(const tdm_nccl_case *it);
    /* us without base_us */
    double (*latency)(const tdm_nccl_case *it);
    /* Puts a call's bytes on the links: for every byte of the buffer, over all channels. */
    void (*load)(tdm_nccl_loads *loads);
} tdm_nccl_algorithm;

extern const tdm_nccl_algorithm *const tdm_nccl_algorithms[]; /* NULL-terminated, generated */
const tdm_nccl_algorithm *tdm_nccl_algorithm_find(tdm_nccl_algo algo); /* NULL: none, CollNet */

tdm_nccl_case tdm_nccl_case_of(const tdm_nccl_comm *comm, const tdm_nccl_algorithm *algorithm,
                               tdm_nccl_func func, tdm_nccl_proto proto);

/* Fills comm->bw and comm->latency_us. */
void tdm_nccl_tune(tdm_nccl_comm *comm);

/* A choice for one operation. */
typedef struct tdm_nccl_pick {
    tdm_nccl_algo algo;
    tdm_nccl_proto proto;
    uint32_t n_channels, n_threads;
    uint64_t chunk_bytes;
    double predicted_us; /* by NCCL's own model */
} tdm_nccl_pick;

/* NCCL's predicted time of a pair; negative: it is not available. bytes: of the whole buffer
 * (all-gather and reduce-scatter: of all ranks). */
double tdm_nccl_predict_us(const tdm_nccl_comm *comm, tdm_nccl_func func, tdm_nccl_algo algo,
                           tdm_nccl_proto proto, uint64_t bytes);

/* The pair of the least predicted time, and its channels and threads. func is one of the tuned
 * ones. Fails when the settings leave none, naming them. */
tdm_code tdm_nccl_choose(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                         tdm_nccl_pick *pick, tdm_error *err);

#endif
