/* concurrent.h: how long operations take that run at the same time on one machine. Alone each takes
 * what time.h says; what several put on one link they share. */
#ifndef TDM_NCCL_CONCURRENT_H
#define TDM_NCCL_CONCURRENT_H

#include "core/nccl/time.h"
#include "core/nccl/traffic.h"

/* One communicator and function, whose traffic is worked out once per algorithm. */
typedef struct tdm_nccl_user {
    const tdm_nccl_comm *comm;
    tdm_nccl_func func;
    bool has_traffic[TDM_NCCL_P2P + 1];
    tdm_nccl_traffic traffic[TDM_NCCL_P2P + 1];
} tdm_nccl_user;

typedef struct tdm_nccl_operation {
    tdm_nccl_user *user;
    uint64_t bytes;  /* as tdm_nccl_time counts them */
    double issued_s; /* when; it may start to move data launch_s + the steps' latency later */
    double launch_s;
    tdm_nccl_cost cost; /* written: what it costs alone by its tables and ramps */
    double end_s;       /* written */
} tdm_nccl_operation;

/* Sets cost and end_s of operations [n] that run at the same time on one graph: each on its own
 * channels, as operations of different communicators do. Each part of an operation's traffic is a
 * flow over its links, limited to the rate that gives the operation its time alone; flows share the
 * links of the graph max-min fairly. Where measurements found an operation faster or slower than
 * NCCL's tables (cost.efficiency), the links are taken to give it that share of their rate, so that
 * two operations which alone fill a link at full speed take twice as long together. One operation
 * takes what tdm_nccl_time says, longer only where the graph has a link narrower than NCCL's tables
 * assume. Errors are those of tdm_nccl_time and tdm_nccl_traffic_of; traffic is kept in the arena,
 * for further calls. */
tdm_code tdm_nccl_run_together(tdm_arena *arena, tdm_nccl_operation *operations, uint32_t n,
                               tdm_error *err);

#endif
