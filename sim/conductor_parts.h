/* conductor_parts.h: the conductor's state, shared by the files that implement it. */
#ifndef TDM_SIM_CONDUCTOR_PARTS_H
#define TDM_SIM_CONDUCTOR_PARTS_H

#include "conductor.h"

typedef struct tdm_communicator tdm_communicator;

/* One communication op of one rank, from being handed out to its end. */
typedef struct tdm_pending {
    struct tdm_pending *next; /* on the same stream, or in the list of unused ones */
    tdm_comm comm;
    tdm_communicator *communicator;
    double turn_s; /* known once it has arrived */
    bool arrived;  /* at the communicator */
} tdm_pending;

typedef struct tdm_member {
    uint32_t rank;
    tdm_stream stream;
} tdm_member;

struct tdm_communicator {
    tdm_communicator *next; /* in its bucket */
    uint64_t id;
    uint32_t n_members, n_arrived;
    tdm_pending **arrived; /* [n_members] ops that wait for partners or are under way */
    tdm_member *members;   /* [n_members] of an ended operation */
    double start_s;        /* latest turn of those that have arrived */
    uint64_t n_calls;      /* launched */
};

/* Ops of one stream, oldest first; the first may be under way. */
typedef struct tdm_queue {
    tdm_pending *first, *last;
    double end_s; /* of the last ended op */
} tdm_queue;

typedef struct tdm_conducted {
    tdm_walker *walker;
    tdm_queue queues[TDM_N_STREAMS];
    tdm_communicator **seats; /* [n_users of its program][TDM_N_STREAMS] found on first use */
    uint32_t n_pending;
    bool ended;            /* the walker is through; operations may be pending */
    tdm_stream blocked_on; /* while it is not: the op it waits for */
    uint64_t blocked_sequence;
} tdm_conducted;

enum { TDM_N_BUCKETS = 4096, TDM_BUCKET_SHIFT = 64 - 12 };

struct tdm_conductor {
    tdm_arena *arena;
    const tdm_plan *plan;
    tdm_net *net;
    const tdm_sites *sites;
    const tdm_perturbed *perturbed;
    tdm_network *network;
    uint32_t n_ranks, n_finished;
    tdm_conducted *ranks; /* [n_ranks] */
    tdm_communicator *buckets[TDM_N_BUCKETS];
    tdm_pending *unused;
    tdm_site_flow *flows; /* scratch of one operation */
};

#endif
