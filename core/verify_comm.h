/* verify_comm.h: what the checks of communication share: per role the communication ops alone, with
 * what must have ended before each, and the communicators of the plan with their members. Private
 * to verify_comm*.c. */
#ifndef TDM_VERIFY_COMM_H
#define TDM_VERIFY_COMM_H

#include "verify_private.h"

/* A role uses at most one communicator per kind of group, and with each of its two neighbours one
 * out and one in, for activations and for gradients, and one for all. */
enum { TDM_MAX_CHANNELS = TDM_N_GROUP_KINDS + 10 };

/* A communication op of a role. */
typedef struct tdm_verify_comm_op {
    tdm_instance instance;
    uint32_t channel;
    uint32_t turn;                /* 0, 1, ... among the ops of its channel */
    uint32_t on_stream;           /* the same on its stream */
    uint32_t need[TDM_N_STREAMS]; /* communication ops of each stream that must have ended; its own
                                     stream's too */
} tdm_verify_comm_op;

/* A role's use of a communicator: which one it is depends on the rank. */
typedef struct tdm_verify_channel {
    bool p2p;
    tdm_group_kind group;  /* collectives */
    bool shared, outgoing; /* send and receive; outgoing: data leaves the rank */
    bool gradients;        /* carries these; otherwise activations; not if shared */
    uint32_t peer;         /* of the role's first rank */
    uint32_t n_ops;
    uint32_t *ops; /* [n_ops] in issue order */
    uint32_t same_role,
        same_channel; /* last channel that was found to match this one; UINT32_MAX: none */
} tdm_verify_channel;

typedef struct tdm_verify_comm_role {
    uint32_t rank; /* first of the role */
    tdm_verify_comm_op *ops;
    uint32_t n_ops;
    tdm_verify_channel channels[TDM_MAX_CHANNELS];
    uint32_t n_channels;
    uint32_t *streams[TDM_N_STREAMS]; /* ops of each stream in issue order */
    uint32_t n_on_stream[TDM_N_STREAMS];
} tdm_verify_comm_role;

typedef struct tdm_verify_member {
    uint32_t rank;
    uint32_t channel;
} tdm_verify_member;

typedef struct tdm_verify_communicator {
    uint64_t key;
    uint32_t size;      /* ranks that belong to it */
    uint32_t n_members; /* ranks that use it */
    tdm_verify_member *members;
} tdm_verify_communicator;

typedef struct tdm_verify_comms {
    const tdm_plan *plan;
    tdm_verify_comm_role *roles; /* [n_roles] */
    tdm_verify_communicator *communicators;
    uint32_t n_communicators;
    uint32_t *of_rank; /* [world][TDM_MAX_CHANNELS] communicator of a rank's channel */
} tdm_verify_comms;

static inline const tdm_verify_comm_role *tdm_verify_role(const tdm_verify_comms *comms,
                                                          uint32_t rank)
{
    return &comms->roles[comms->plan->role_of[rank]];
}

static inline uint32_t tdm_verify_communicator_of(const tdm_verify_comms *comms, uint32_t rank,
                                                  uint32_t channel)
{
    return comms->of_rank[(size_t)rank * TDM_MAX_CHANNELS + channel];
}

/* Fails on a send or receive without a neighbour. */
tdm_code tdm_verify_comms_collect(tdm_arena *scratch, const tdm_plan *plan,
                                  const tdm_program *programs, tdm_verify_comms *comms,
                                  tdm_error *err);
/* tp group of ranks 0..7; ranks 0 -> 8; ranks 0 and 8, both directions. */
tdm_verify_text tdm_verify_channel_text(const tdm_verify_comms *comms, uint32_t rank,
                                        uint32_t channel);

/* The k-th op of every member of a communicator is the same call: kind, bytes, what it is part of.
 */
tdm_code tdm_verify_comms_match(const tdm_verify_comms *comms, tdm_error *err);
/* Runs the ops of all ranks against each other. Needs matching ops. */
tdm_code tdm_verify_comms_run(const tdm_verify_comms *comms, tdm_error *err);
/* Most communication ops of a role that may run at once: none ordered before another. */
uint32_t tdm_verify_resident(const tdm_verify_comm_role *role);

#endif
