/* outline.h: the ops of one role as flat arrays, and which ops of different ranks are one call.
 *
 * Ranks of one role issue the same ops in the same order, so whatever looks at every op of every
 * rank expands the program once per role and then runs over arrays. What differs by rank
 * (communicators, routed sizes) is kept apart. */
#ifndef TDM_OUTLINE_H
#define TDM_OUTLINE_H

#include "engine.h"

#define TDM_NO_OP UINT32_MAX

/* Key of a kind of communication: op kind x group kind, TDM_N_GROUP_KINDS standing for none. */
#define TDM_N_COMM_KEYS (TDM_N_OP_KINDS * (TDM_N_GROUP_KINDS + 1))

typedef struct tdm_outline {
    const tdm_role *role;
    uint32_t n_ops;
    const tdm_op **ops; /* [n_ops] in program order, like the arrays below */
    uint8_t *stream;
    uint8_t *phase;       /* F, B, W or O: what the op's time counts as */
    uint32_t *pass;       /* index into role->passes */
    uint32_t *ordinal;    /* place in stream_ops of its stream */
    uint32_t *comm;       /* place among the rank's communication ops; unset for compute ops */
    uint32_t *first_wait; /* [n_ops + 1] into waits */
    uint32_t *waits;      /* index of the op that is waited for */
    uint32_t n_stream[TDM_N_STREAMS];
    uint32_t *stream_ops[TDM_N_STREAMS]; /* op indices in issue order */
    uint32_t n_comms;
    uint32_t *comm_op;   /* [n_comms] index of the op */
    uint8_t *comm_key;   /* [n_comms] */
    uint16_t *comm_user; /* [n_comms] index into users */
    tdm_instance *users; /* [n_users] one op for each way to name a communicator */
    uint32_t n_users;
    tdm_instance *routed; /* [n_routed] ops whose size depends on the routing table */
    uint32_t n_routed;
    double model_flops;    /* of the other ops, one rank, without recomputation */
    double hardware_flops; /* the same with it */
    uint32_t first_o;      /* first op of phase O, or TDM_NO_OP */
    uint32_t last_compute; /* last compute op of phase F, B or W, or TDM_NO_OP */
} tdm_outline;

/* `rank` is any rank of the role. */
void tdm_outline_build(tdm_arena *arena, const tdm_plan *plan, uint32_t rank, tdm_outline *outline);

static inline uint8_t tdm_comm_key(const tdm_op *op)
{
    uint32_t group = tdm_op_is_p2p(op->kind) ? TDM_N_GROUP_KINDS : (uint32_t)op->u.collective.group;
    return (uint8_t)((uint32_t)op->kind * (TDM_N_GROUP_KINDS + 1) + group);
}

/* Members of a collective and both ends of a transfer share one call: it is the k-th op on their
 * communicator, k counted by each rank. */
typedef struct tdm_calls {
    uint32_t n_calls;
    double *arrived_s;        /* [n_calls] start of the last member */
    const uint32_t **of_rank; /* [n_ranks][n_comms of its role] call of its i-th communication op */
} tdm_calls;

/* outlines [n_roles]. Fails when the ranks of a communicator do not issue the same number of ops on
 * it. */
tdm_code tdm_calls_match(tdm_arena *arena, const tdm_plan *plan, const tdm_outline *outlines,
                         const tdm_trace *trace, tdm_calls *calls, tdm_error *err);

#endif
