/* lower_build.h: builds the kinds of a plan. A kind's author (lower_layer.c, lower_ends.c) lists
 * the ops of the forward and of the gradient with the tensors they read and write; waits between
 * streams, births, deaths, memory classes and the split into passes are derived here, so no author
 * can forget one. Private to lowering. */
#ifndef TDM_LOWER_BUILD_H
#define TDM_LOWER_BUILD_H

#include "lower.h"
#include "schedule.h"

enum {
    TDM_MAX_DRAFT_OPS = 96,
    TDM_MAX_DRAFT_SLOTS = 128,
    TDM_MAX_DRAFT_REFS = 8,
    TDM_MAX_DRAFT_PARAMS = 24
};

/* Slots that every kind has, so that neighbours can name them: input and its gradient. */
enum { TDM_SLOT_X = 0, TDM_SLOT_DX = 1 };

/* Sizes that all kinds share, in tokens and bytes. */
typedef struct tdm_dims {
    const tdm_scenario *scenario;
    uint64_t tokens;          /* s * b: of one microbatch */
    uint64_t residual_tokens; /* of them, rows of the residual on this rank: / t with sequence
                                 parallelism */
    uint64_t routed_tokens;   /* of them, dispatched to experts by this rank: / t */
    uint64_t element;         /* bytes of an activation element */
    uint64_t x_bytes;         /* of the residual on this rank */
    uint32_t tp, ep, etp, pp, vpp;
    bool mixed; /* some layers have experts, some a dense MLP */
    bool sequence_parallel;
    bool train;
    uint32_t send_lag; /* passes after which compute waits for a sent gradient */
    bool split;        /* passes B and W apart */
    tdm_placement placement;
    bool ends_apart; /* the first and the last virtual stage are on different stages */
    bool bare;       /* some virtual stages have no layers */
} tdm_dims;

typedef struct tdm_draft_op {
    tdm_op op;
    tdm_ref refs[TDM_MAX_DRAFT_REFS];
    bool is_core_attention; /* repeated by selective recompute */
    bool waits_pass;        /* receive: posted while the previous pass runs */
} tdm_draft_op;

typedef struct tdm_draft_list {
    tdm_draft_op ops[TDM_MAX_DRAFT_OPS];
    uint32_t n;
} tdm_draft_list;

typedef struct tdm_draft {
    tdm_arena *arena;
    const tdm_dims *dims;
    const char *name;
    bool recomputes; /* recompute settings apply: layers */
    tdm_slot slots[TDM_MAX_DRAFT_SLOTS];
    uint32_t n_slots;
    tdm_param params[TDM_MAX_DRAFT_PARAMS];
    uint32_t n_params;
    tdm_draft_list forward;  /* pass F */
    tdm_draft_list gradient; /* passes B and W, in BW's order */
    bool back;               /* boundary of a chunk that runs back in a V */
} tdm_draft;

/* A draft with the slots x and dx; lives in the arena. */
tdm_draft *tdm_draft_new(tdm_arena *arena, const tdm_dims *dims, const char *name);
uint16_t tdm_draft_slot(tdm_draft *draft, const char *name, uint64_t fixed, uint64_t per_token);
/* A parameter; returns it so that flags can be set. */
tdm_param *tdm_draft_param(tdm_draft *draft, const char *name, uint64_t count);

/* Ops: appended to the forward list for pass F, else to the gradient list. Each returns the op for
 * its refs. */
tdm_draft_op *tdm_draft_gemm(tdm_draft *draft, tdm_pass_kind pass, const char *name, uint64_t m,
                             uint64_t n, uint64_t k, uint32_t batch);
tdm_draft_op *tdm_draft_grouped(tdm_draft *draft, tdm_pass_kind pass, const char *name, uint64_t n,
                                uint64_t k);
tdm_draft_op *tdm_draft_attention(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                  uint32_t heads, uint32_t kv_heads);
tdm_draft_op *tdm_draft_memory(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                               uint64_t fixed, uint64_t per_token);
tdm_draft_op *tdm_draft_timed(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                              double seconds);
tdm_draft_op *tdm_draft_collective(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                   tdm_op_kind kind, tdm_group_kind group, uint64_t bytes);
tdm_draft_op *tdm_draft_all_to_all(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                                   tdm_a2a direction, uint64_t token_bytes);
/* An all-gather or reduce-scatter of routed rows over ETP. */
tdm_draft_op *tdm_draft_routed(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                               tdm_op_kind kind, uint64_t token_bytes);
tdm_draft_op *tdm_draft_p2p(tdm_draft *draft, tdm_pass_kind pass, const char *name,
                            tdm_op_kind kind, tdm_peer peer, uint64_t bytes);

/* Refs; each returns the op, so that they chain. */
tdm_draft_op *tdm_read(tdm_draft_op *op, uint16_t slot);
tdm_draft_op *tdm_write(tdm_draft_op *op, uint16_t slot);
tdm_draft_op *tdm_update(tdm_draft_op *op, uint16_t slot); /* reads and writes */
tdm_draft_op *tdm_read_next(tdm_draft_op *op, uint16_t slot);
tdm_draft_op *tdm_read_of(tdm_draft_op *op, uint16_t slot, bool next); /* of either position */
tdm_draft_op *tdm_write_next(tdm_draft_op *op, uint16_t slot);
tdm_draft_op *tdm_update_next(tdm_draft_op *op, uint16_t slot);

/* Turns the draft into a kind: passes, recompute, waits, lifetimes, classes. */
void tdm_draft_finish(tdm_draft *draft, tdm_kind *kind);

/* Authors of kinds. */
void tdm_lower_layer(tdm_arena *arena, const tdm_dims *dims, bool experts, tdm_kind *kind);
/* The two halves of a layer, and the experts that may replace the second. r: slot between the
 * halves, dr its gradient. */
void tdm_lower_attention_forward(tdm_draft *draft, uint16_t r);
void tdm_lower_mlp_forward(tdm_draft *draft, uint16_t r);
void tdm_lower_moe_forward(tdm_draft *draft, uint16_t r);
void tdm_lower_attention_backward(tdm_draft *draft, uint16_t dr);
void tdm_lower_mlp_backward(tdm_draft *draft, uint16_t r, uint16_t dr);
void tdm_lower_moe_backward(tdm_draft *draft, uint16_t r, uint16_t dr);
/* Shared experts, beside the routed ones: up to their activation, and the rest, which returns the
 * slot of their output. backward_out: of the rest, dy the gradient of a layer's second half;
 * backward_in returns the slot of their part of the gradient of n2. */
void tdm_lower_shared_params(tdm_draft *draft);
void tdm_lower_shared_in(tdm_draft *draft, uint16_t n2);
uint16_t tdm_lower_shared_out(tdm_draft *draft);
void tdm_lower_shared_backward_out(tdm_draft *draft, uint16_t dy, bool dy_is_next);
uint16_t tdm_lower_shared_backward_in(tdm_draft *draft, uint16_t n2);
/* Sequence parallel: gathers `shard` into a new tensor of all tokens; otherwise returns `shard`
 * itself. */
uint16_t tdm_lower_gather(tdm_draft *draft, tdm_pass_kind pass, const char *name, const char *slot,
                          uint16_t shard, bool shard_is_next);
/* Sums a partial result over TP: in place, or scattered into a new tensor with sequence
 * parallelism. */
uint16_t tdm_lower_reduce(tdm_draft *draft, tdm_pass_kind pass, const char *name, const char *slot,
                          uint16_t partial);
/* Bytes of a tensor of all tokens that is `columns` wide. */
uint64_t tdm_lower_wide(const tdm_dims *dims, uint64_t columns);
/* Adds a half's output to the residual, with dropout when the model has it. */
void tdm_lower_add(tdm_draft *draft, const char *name, const char *mask, uint16_t residual,
                   uint16_t addend, uint16_t out, bool out_is_next);
/* Gradient of a half's output: that of the sum, through dropout. Returns the slot; *is_next says
 * whose it is. */
uint16_t tdm_lower_add_backward(tdm_draft *draft, const char *name, const char *mask,
                                const char *slot, uint16_t dsum, bool *is_next);
/* Slot by name, made by an earlier author. */
uint16_t tdm_draft_find(const tdm_draft *draft, const char *name);
void tdm_lower_embedding(tdm_arena *arena, const tdm_dims *dims, tdm_kind *kind);
void tdm_lower_head(tdm_arena *arena, const tdm_dims *dims, tdm_kind *kind);
/* back: of the chunks that run back in a V. */
void tdm_lower_boundary_in(tdm_arena *arena, const tdm_dims *dims, bool back, tdm_kind *kind);
void tdm_lower_boundary_out(tdm_arena *arena, const tdm_dims *dims, bool back, tdm_kind *kind);
void tdm_lower_timed(tdm_arena *arena, const tdm_dims *dims, uint32_t virtual_stage,
                     tdm_kind *kind);
/* The steps of tdm_lower that the folded evaluation takes too: sizes (their ep and etp are 1 in a
 * model without experts), all kinds of a plan, and the blocks of one chunk. */
tdm_dims tdm_lower_dims(const tdm_scenario *scenario, const tdm_schedule *schedule);
void tdm_lower_kinds(tdm_arena *arena, const tdm_dims *dims, tdm_plan *plan);
void tdm_lower_chunk(tdm_arena *arena, const tdm_dims *dims, uint32_t virtual_stage,
                     tdm_chunk *chunk);
/* Ops of the O pass of a role; needs the plan's kinds and the role's chunks. */
void tdm_lower_optimizer(tdm_arena *arena, const tdm_plan *plan, tdm_role *role);

#endif
