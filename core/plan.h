/* plan.h: the plan: what every rank issues, on which stream, after what, into which memory.
 *
 * The plan speaks CUDA's language. A rank has streams; its host thread issues ops in program order;
 * ops of one stream run in issue order; an op may wait for events of other streams. Communication
 * follows NCCL: operations of one communicator run in issue order on all its members.
 *
 * It is hierarchical. A pipeline stage has a role: its chunks of layers and the order of its
 * passes. A chunk is a list of blocks at consecutive positions; each block has a kind (embedding,
 * layer, head, stage boundary ...); each kind has one op template per pass kind. Expanding pass x
 * position x template gives the ops; nothing stores them. Ranks of one stage share all of this;
 * what differs by rank (tokens routed to its experts) is looked up in the routing table. */
#ifndef TDM_PLAN_H
#define TDM_PLAN_H

#include "mesh.h"
#include "placement.h"
#include "scenario.h"

typedef enum tdm_stream {
    TDM_STREAM_COMPUTE,
    TDM_STREAM_TP,
    TDM_STREAM_EP,
    TDM_STREAM_DP,
    TDM_STREAM_PP_SEND,      /* activations to the next stage */
    TDM_STREAM_PP_RECV,      /* and from the previous */
    TDM_STREAM_PP_SEND_GRAD, /* gradients to the previous stage */
    TDM_STREAM_PP_RECV_GRAD, /* and from the next */
    /* Of chunks that run back in a V: activations to the previous stage, gradients to the next. One
     * stream for both ways would let a stage wait for one neighbour before it serves the other. */
    TDM_STREAM_PP_SEND_BACK,
    TDM_STREAM_PP_SEND_GRAD_BACK,
    TDM_N_STREAMS
} tdm_stream;

/* F forward; B gradient of the input; W gradient of the weights; BW both in one pass; O once per
 * step: gradient reduction and optimizer. */
typedef enum tdm_pass_kind {
    TDM_PASS_F,
    TDM_PASS_B,
    TDM_PASS_W,
    TDM_PASS_BW,
    TDM_PASS_O,
    TDM_N_PASS_KINDS
} tdm_pass_kind;

typedef enum tdm_op_kind {
    TDM_OP_GEMM,
    TDM_OP_GROUPED_GEMM,
    TDM_OP_ATTENTION,
    TDM_OP_ATTENTION_BACKWARD,
    TDM_OP_MEMORY, /* bound by the bytes it touches */
    TDM_OP_TIMED,  /* a whole pass of given duration */
    TDM_OP_ALL_REDUCE,
    TDM_OP_ALL_GATHER,
    TDM_OP_REDUCE_SCATTER,
    TDM_OP_ALL_TO_ALL,
    TDM_OP_BROADCAST,
    TDM_OP_SEND,
    TDM_OP_RECV,
    TDM_N_OP_KINDS
} tdm_op_kind;

/* Rows of one rank in a layer and microbatch: token-expert pairs and what pads them. */
typedef struct tdm_routed {
    uint64_t tokens;   /* that its experts work on: what its whole ETP group receives */
    uint64_t received; /* of them, those that come to this rank by its all-to-all */
} tdm_routed;

/* fixed + per_token x tokens + per_received x received. */
typedef struct tdm_size {
    uint64_t fixed;
    uint64_t per_token;
    uint64_t per_received; /* of tensors only */
} tdm_size;

typedef enum tdm_wait_kind {
    TDM_WAIT_TAIL, /* the stream's n-th last op issued so far (0: the last) */
    TDM_WAIT_PASS, /* the stream's last op issued before the n-th previous pass began (0: this pass)
                    */
    TDM_WAIT_FORWARD,  /* the stream's last op issued in the F pass of this chunk and microbatch */
    TDM_WAIT_BACKWARD, /* the same of its B pass */
    TDM_N_WAIT_KINDS
} tdm_wait_kind;

typedef struct tdm_wait {
    tdm_stream stream;
    tdm_wait_kind kind;
    uint32_t n;
} tdm_wait;

/* An op's use of a tensor: slot of its own position, or (next) of the following position. At the
 * end of a chunk that is the first position of the chunk that follows in the pipeline, where the
 * same stage holds it (the turn of a V): the tensor is handed over in place. */
typedef struct tdm_ref {
    uint16_t slot;
    bool next;
    bool read, write;
    bool birth; /* the tensor's bytes are taken when this op starts */
    bool death; /* and given back when this op ends */
} tdm_ref;

/* What an all-to-all moves: counts src -> dst of the routing table, or their transpose. */
typedef enum tdm_a2a { TDM_A2A_DISPATCH, TDM_A2A_COMBINE } tdm_a2a;

/* Neighbour of a send or receive, along the chunks of the pipeline. */
typedef enum tdm_peer { TDM_PEER_NEXT, TDM_PEER_PREVIOUS } tdm_peer;

/* Which communicator a send/receive uses: that of the pair in the direction of the data (the
 * default), or one for both directions, which NCCL allows and which deadlocks under 1F1B. */
typedef enum tdm_p2p { TDM_P2P_DIRECTED, TDM_P2P_SHARED } tdm_p2p;

typedef struct tdm_op {
    const char *name; /* "qkv", "qkv.dgrad": unique within its template */
    tdm_op_kind kind;
    tdm_stream stream;
    tdm_pass_kind pass; /* what its time counts as: F, B, W or O */
    tdm_dtype dtype;    /* of a GEMM's or attention's operands, of a collective's elements */
    bool recompute;     /* repeats forward work: counts in hfu, not in mfu */
    union {
        struct {
            uint64_t m, n, k;
            uint32_t batch;
        } gemm;
        /* one product per local expert: rows from the routing table; forward and dgrad rows x k ->
         * n, wgrad (rows_inner) k x rows -> n */
        struct {
            uint64_t n, k;
            bool rows_inner;
        } grouped;
        struct {
            uint64_t batch, seq, heads, kv_heads, head_size;
            bool causal;
        } attention;
        struct {
            tdm_size bytes;
        } memory; /* read plus written */
        struct {
            double seconds;
        } timed;
        /* bytes: all-reduce, broadcast: the buffer of one rank; all-gather: the whole output;
         * reduce-scatter: the whole input; all-to-all: bytes of one token in token_bytes.
         * All-gather and reduce-scatter over ETP: bytes + token_bytes x the group's tokens; each
         * member's share is what it received */
        struct {
            tdm_group_kind group;
            uint64_t bytes;
            uint64_t token_bytes;
            tdm_a2a a2a;
        } collective;
        struct {
            tdm_peer peer;
            tdm_p2p p2p;
            uint64_t bytes;
        } p2p;
    } u;
    const tdm_wait *waits; /* [n_waits], on other streams */
    uint32_t n_waits;
    const tdm_ref *refs; /* [n_refs] */
    uint32_t n_refs;
} tdm_op;

typedef struct tdm_template {
    const tdm_op *ops; /* [n_ops] in issue order */
    uint32_t n_ops;
} tdm_template;

typedef enum tdm_class {
    TDM_CLASS_WEIGHTS,
    TDM_CLASS_GRADIENTS,
    TDM_CLASS_OPTIMIZER,
    TDM_CLASS_ACTIVATION, /* born in F for a later pass, or passing through */
    TDM_CLASS_COMM,       /* send and receive buffers of collectives */
    TDM_CLASS_WORKSPACE,  /* born and dead within one pass */
    TDM_N_CLASSES
} tdm_class;

typedef struct tdm_slot {
    const char *name;
    tdm_class class_;
    tdm_size bytes;
} tdm_slot;

/* A parameter tensor of one block, as one rank holds it. */
typedef struct tdm_param {
    const char *name;
    uint64_t count; /* elements on this rank */
    bool expert;    /* replicated over EDP; otherwise over DP */
    bool sync_tp;   /* replicated over TP, gradient seen in part: all-reduced over TP */
    bool embedding; /* tied: summed over the EMBED group */
} tdm_param;

typedef struct tdm_kind {
    const char *name; /* "embedding", "moe-layer", "boundary-in" ... */
    const tdm_slot *slots;
    uint32_t n_slots;
    const tdm_param *params;
    uint32_t n_params;
    tdm_template templates[TDM_N_PASS_KINDS]; /* O is empty: it belongs to the role */
} tdm_kind;

typedef struct tdm_block {
    uint16_t kind;        /* index into plan->kinds */
    uint32_t first_layer; /* global index of the first layer, for layer kinds */
    uint32_t count;       /* so many consecutive positions */
} tdm_block;

typedef struct tdm_chunk {
    const tdm_block *blocks; /* [n_blocks] in forward order; B, W and BW walk them backwards */
    uint32_t n_blocks;
    uint32_t n_positions;   /* sum of the counts */
    uint32_t virtual_stage; /* place in the pipeline: placement.h */
} tdm_chunk;

typedef struct tdm_pass {
    tdm_pass_kind kind;
    uint16_t chunk;      /* of the stage; 0 for O */
    uint32_t microbatch; /* 0 for O */
} tdm_pass;

/* Program shared by ranks: usually one role per stage. */
typedef struct tdm_role {
    uint32_t stage;
    const tdm_chunk *chunks;
    uint32_t n_chunks;
    const tdm_pass *passes; /* [n_passes] in issue order */
    uint32_t n_passes;
    tdm_template optimizer; /* ops of the O pass */
} tdm_role;

/* Token-expert pairs by layer and microbatch; 0 in layers without experts. "replica" is the EP
 * group's index within its stage: ETP fastest, then EDP. Where experts are padded to their capacity
 * `sent` counts rows, padding included. */
typedef struct tdm_routing_table {
    uint32_t n_replicas, n_layers, n_microbatches, ep, n_experts;
    const uint32_t *sent;    /* [replica][layer][microbatch][src][dst] */
    const uint32_t *experts; /* [replica][layer][microbatch][expert], from this EP group */
} tdm_routing_table;

typedef struct tdm_plan {
    const char *name;
    const char *schedule;
    bool train;
    bool pass_times; /* kinds hold TIMED ops; there is no model */
    double send_s;   /* pass_times: time of one send */
    tdm_model model;
    tdm_training training;
    tdm_parallel parallel;
    tdm_routing routing_spec;
    uint32_t micro_batch_size, seq_length, num_microbatches;
    tdm_mesh mesh;
    const tdm_kind *kinds;
    uint32_t n_kinds;
    const tdm_role *roles;
    uint32_t n_roles;
    const uint16_t *role_of;   /* [world] index into roles */
    tdm_routing_table routing; /* n_layers 0: no experts */
    /* The roles' programs laid out flat, [n_roles], for those who go through them one after the
     * other (program.h). NULL: not laid out. A plan that is changed must not have them. */
    const struct tdm_program *programs;
    tdm_placement placement;
} tdm_plan;

/* One op of one rank, as the cursor yields it. */
typedef struct tdm_instance {
    const tdm_op *op;
    const tdm_kind *kind; /* NULL in the O pass */
    uint32_t index;       /* 0, 1, 2 ... in the rank's program order */
    uint32_t pass_index;
    tdm_pass pass;
    uint32_t position; /* within the chunk */
    uint32_t layer;    /* global layer index; of non-layer blocks, first_layer */
    bool first_of_pass;
} tdm_instance;

/* Walks the ops of a rank in program order. Treat the fields as private. */
typedef struct tdm_cursor {
    const tdm_plan *plan;
    const tdm_role *role;
    uint32_t pass, block, repeat, op, index;
    bool fresh_pass;
    uint32_t position;
} tdm_cursor;

void tdm_cursor_init(tdm_cursor *cursor, const tdm_plan *plan, uint32_t rank);
/* False at the end of the program. */
bool tdm_cursor_next(tdm_cursor *cursor, tdm_instance *instance);

/* Number of ops of a rank; of its role. */
uint32_t tdm_plan_n_ops(const tdm_plan *plan, uint32_t rank);

/* The op template a pass uses at a block. */
const tdm_template *tdm_plan_template(const tdm_plan *plan, const tdm_role *role,
                                      const tdm_pass *pass, uint32_t block);

/* Kind of block at a position of a chunk. */
const tdm_kind *tdm_plan_kind_at(const tdm_plan *plan, const tdm_chunk *chunk, uint32_t position);

/* The chunk of the role that follows a chunk in the pipeline without a transfer; n_chunks: none. */
uint32_t tdm_plan_turn(const tdm_role *role, uint32_t chunk);

/* Chunk and position that hold the tensor of an op's ref. */
typedef struct tdm_place {
    uint32_t chunk, position;
} tdm_place;
static inline tdm_place tdm_plan_place(const tdm_role *role, const tdm_instance *instance,
                                       const tdm_ref *ref)
{
    uint32_t chunk = instance->pass.chunk, position = instance->position + ref->next;
    if (position < role->chunks[chunk].n_positions)
        return (tdm_place){chunk, position};
    return (tdm_place){tdm_plan_turn(role, chunk), 0};
}

/* Rows that an ETP group receives, by member: each member by the all-to-all of its own EP group. */
typedef struct tdm_received {
    const uint32_t *sent; /* [src][dst] of member 0's EP group; NULL: no routing table */
    size_t step;          /* to that of the next member */
    uint32_t ep, dst;     /* dst: the place of all members in their EP groups */
} tdm_received;

tdm_received tdm_plan_received(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                               uint32_t microbatch);
uint64_t tdm_received_by(const tdm_received *received, uint32_t member);
/* Rows of the rank; 0 without experts. */
tdm_routed tdm_plan_routed(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                           uint32_t microbatch);
/* Of them, the tokens. */
uint64_t tdm_plan_tokens(const tdm_plan *plan, uint32_t rank, uint32_t layer, uint32_t microbatch);
/* Of those, the token-expert pairs: without padding. */
uint64_t tdm_plan_pairs(const tdm_plan *plan, uint32_t rank, uint32_t layer, uint32_t microbatch);
/* Row of the routing table of this rank's EP group: sent [src][dst] and experts [expert]. */
const uint32_t *tdm_plan_sent(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                              uint32_t microbatch);
const uint32_t *tdm_plan_experts(const tdm_plan *plan, uint32_t rank, uint32_t layer,
                                 uint32_t microbatch);
static inline uint64_t tdm_size_eval(tdm_size size, tdm_routed routed)
{
    return size.fixed + size.per_token * routed.tokens + size.per_received * routed.received;
}
static inline bool tdm_size_varies(tdm_size size)
{
    return size.per_token != 0 || size.per_received != 0;
}

/* Rank that a send goes to or a receive comes from. The neighbour of the last virtual stage wraps
 * to none: returns UINT32_MAX there. */
uint32_t tdm_plan_peer(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance);

/* Bytes of a collective that is no all-to-all, as its kind counts them. */
uint64_t tdm_plan_op_bytes(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance);

/* Multiply-adds count as two. Attention counts all s*s scores, causal or not, as the field does. */
double tdm_op_flops(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance);

static inline bool tdm_op_is_collective(tdm_op_kind kind)
{
    return kind >= TDM_OP_ALL_REDUCE && kind <= TDM_OP_BROADCAST;
}
/* An all-gather or reduce-scatter of routed rows over ETP. */
static inline bool tdm_op_is_routed_gather(const tdm_op *op)
{
    return (op->kind == TDM_OP_ALL_GATHER || op->kind == TDM_OP_REDUCE_SCATTER) &&
           op->u.collective.token_bytes > 0;
}
static inline bool tdm_op_is_p2p(tdm_op_kind kind)
{
    return kind == TDM_OP_SEND || kind == TDM_OP_RECV;
}

const char *tdm_stream_name(tdm_stream stream);     /* "compute", "tp", ..., "pp-send", "pp-recv" */
const char *tdm_pass_kind_name(tdm_pass_kind kind); /* "F", "B", "W", "BW", "O" */
const char *tdm_op_kind_name(tdm_op_kind kind);     /* "gemm", "all-reduce", ... */
const char *tdm_class_name(tdm_class class_);       /* "weights", ... */

#endif
