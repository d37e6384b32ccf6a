/* program.h: what a role issues, laid out flat in program order, with the ops that every op waits
 * for.
 *
 * Ranks of one role issue the same ops in the same order, so whatever goes through them expands the
 * plan once per role and then runs over arrays. What differs by rank (communicators, durations and
 * sizes that depend on the tokens routed to it) is kept apart. Waits are relative to what was
 * issued before, so this is the one place that finds the ops they mean. */
#ifndef TDM_PROGRAM_H
#define TDM_PROGRAM_H

#include "plan.h"

#define TDM_NO_OP UINT32_MAX

/* A TAIL wait may reach back this far; verify refuses one that reaches further. */
#define TDM_TAIL_MAX 31u

/* Number of a kind of communication: op kind x group kind, TDM_N_GROUP_KINDS standing for none. */
#define TDM_N_COMM_KEYS (TDM_N_OP_KINDS * (TDM_N_GROUP_KINDS + 1))

/* An op whose end another op waits for. */
typedef struct tdm_program_wait {
    uint32_t op;     /* in program order */
    uint32_t number; /* 1, 2, ... on its stream */
    tdm_stream stream;
    bool turn; /* not a wait of the plan: both use one communicator, from two streams, and its
                  operations run in issue order */
} tdm_program_wait;

/* Happens-before within one rank as a vector clock: so many ops of each stream have ended before an
 * op starts. Host order issues ops but orders nothing; streams and waits do. */
typedef struct tdm_clock {
    uint32_t seen[TDM_N_STREAMS];
} tdm_clock;

typedef struct tdm_program {
    const tdm_role *role; /* NULL: no rank has this role, and the rest is empty */
    uint32_t rank;        /* the rank of the role it was built from */
    uint32_t n_ops;
    const tdm_instance *ops;       /* [n_ops] in program order, like the arrays below */
    const uint8_t *stream;         /* of the op */
    const uint8_t *phase;          /* F, B, W or O: what the op's time counts as */
    const uint32_t *number;        /* 1, 2, ... on its stream */
    const uint32_t *comm;          /* place among the communication ops; unset for compute ops */
    const uint32_t *first_wait;    /* [n_ops + 1] into waits */
    const tdm_program_wait *waits; /* those of one op: first the plan's, then its turn */
    const tdm_clock *before;       /* what has ended when the op starts; turns order nothing here */
    uint32_t n_on_stream[TDM_N_STREAMS];
    const uint32_t *on_stream[TDM_N_STREAMS]; /* ops of the stream in issue order */
    uint32_t n_comms;
    const uint32_t *comm_op;   /* [n_comms] in program order */
    const uint8_t *comm_key;   /* [n_comms] */
    const uint16_t *comm_user; /* [n_comms] into users */
    const tdm_instance *users; /* [n_users] one op for each way to name a communicator */
    uint32_t n_users;
    const uint32_t *routed; /* [n_routed] ops whose work depends on the routing table */
    uint32_t n_routed;
    uint32_t first_o;      /* first op of phase O, or TDM_NO_OP */
    uint32_t last_compute; /* last compute op of phase F, B or W, or TDM_NO_OP */
} tdm_program;

/* The program of the rank's role, and those of all roles [n_roles], each from its lowest rank: the
 * plan's own where it has them, else laid out in the arena. */
const tdm_program *tdm_program_of(tdm_arena *arena, const tdm_plan *plan, uint32_t rank);
const tdm_program *tdm_programs_of(tdm_arena *arena, const tdm_plan *plan);

static inline uint8_t tdm_comm_key(const tdm_op *op)
{
    uint32_t group = tdm_op_is_p2p(op->kind) ? TDM_N_GROUP_KINDS : (uint32_t)op->u.collective.group;
    return (uint8_t)((uint32_t)op->kind * (TDM_N_GROUP_KINDS + 1) + group);
}

static inline bool tdm_op_is_comm(const tdm_op *op)
{
    return tdm_op_is_collective(op->kind) || tdm_op_is_p2p(op->kind);
}

/* The op's work depends on how many tokens are routed to the rank. */
static inline bool tdm_op_is_routed(const tdm_op *op)
{
    return op->kind == TDM_OP_GROUPED_GEMM || op->kind == TDM_OP_ALL_TO_ALL ||
           tdm_op_is_routed_gather(op) ||
           (op->kind == TDM_OP_MEMORY && op->u.memory.bytes.per_token > 0);
}

#endif
