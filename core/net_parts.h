/* net_parts.h: what the files of the net share. Private to them. */
#ifndef TDM_NET_PARTS_H
#define TDM_NET_PARTS_H

#include "nccl/time.h"
#include "net.h"

/* Part of an operation's traffic, as a path of the net. */
typedef struct tdm_net_part {
    uint32_t path;
    double share;
} tdm_net_part;

typedef struct tdm_net_traffic {
    bool known;
    uint32_t n_parts;
    tdm_net_part *parts;
} tdm_net_traffic;

/* A class of messages of an uneven all-to-all. */
typedef struct tdm_net_class {
    uint32_t path;
    double weight; /* sum of its messages' */
    tdm_nccl_class messages;
} tdm_net_class;

/* A communicator of NCCL, by its members rank0, rank0 + step ... */
typedef struct tdm_net_group {
    struct tdm_net_group *next; /* in its bucket */
    tdm_group group;            /* id unused */
    bool failed;                /* the net's error says why */
    tdm_nccl_comm comm;         /* without places */
    double launch_s;
    tdm_net_traffic traffic[TDM_NCCL_N_FUNCS][TDM_NCCL_N_ALGOS + 1];
    uint32_t n_classes;
    tdm_net_class *classes; /* NULL: not known yet */
} tdm_net_group;

/* An answer of tdm_net_collective_s or tdm_net_message_s. */
typedef struct tdm_net_answer {
    bool known;
    const tdm_net_group *group;
    uint64_t bytes;
    uint32_t kind;
    double seconds;
} tdm_net_answer;

enum { TDM_NET_BUCKETS = 1024, TDM_NET_ANSWERS = 4096 };

typedef struct tdm_net_path_slot {
    uint64_t hash;
    uint32_t path_1; /* number + 1; 0: free */
} tdm_net_path_slot;

typedef struct tdm_net_pair_slot {
    uint64_t key; /* src and dst, + 1; 0: free */
    uint32_t path;
    double latency_s;
} tdm_net_pair_slot;

struct tdm_net {
    tdm_arena *arena;
    const tdm_topology *topology;
    tdm_path *paths;
    uint32_t n_paths, path_capacity;
    tdm_net_path_slot *path_slots; /* [n_path_slots] open addressing */
    uint32_t n_path_slots;
    tdm_net_pair_slot *pair_slots; /* [n_pair_slots] routes on planes */
    uint32_t n_pair_slots, n_pairs;
    tdm_flow *messages; /* scratch of algorithms on planes */
    uint32_t message_capacity;
    tdm_load *loads; /* of the last transfer */
    uint32_t load_capacity;
    bool changed_latency; /* some link has another latency than as wired */
    char error[512];      /* empty: none */
    tdm_net_group *groups[TDM_NET_BUCKETS];
    tdm_net_group *shapes[TDM_NET_BUCKETS]; /* groups that stand for all of their shape */
    tdm_net_answer answers[TDM_NET_ANSWERS];
};

/* The number of the path with these links (in any order, of a folded topology before or after they
 * are replaced), a new one at first sight. */
uint32_t tdm_net_intern(tdm_net *net, const uint32_t *links, uint32_t n_links);
/* Room for n loads. */
tdm_load *tdm_net_room(tdm_net *net, uint32_t n);
/* Keeps the first error. */
void tdm_net_fail(tdm_net *net, const char *message);

/* The same as tdm_net_collective and tdm_net_message, by NCCL. */
tdm_transfer tdm_net_nccl_collective(tdm_net *net, tdm_op_kind kind,
                                     const tdm_collective_call *call);
tdm_transfer tdm_net_nccl_message(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes);
/* Their time, by a group of the same shape. */
double tdm_net_nccl_collective_s(tdm_net *net, tdm_op_kind kind, tdm_group group, uint64_t bytes);
double tdm_net_nccl_message_s(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes);

#endif
