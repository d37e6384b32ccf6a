/* rank.h: what a rank computes with, whatever device does: its parameters and their places in the
 * model's, the experts of its tokens, the words, the work of every op, and what communication ops
 * move. Private to backend/.
 *
 * Matrices lie row by row. A tensor of tokens has a row per token, sample by sample. Weights lie as
 * [in, out]. A query, key and value tensor has columns Q of all heads, K of all groups, V of all
 * groups. */
#ifndef TDM_RANK_H
#define TDM_RANK_H

#include "executor.h"

/* ---- constants ---- */

/* Of norms. Source: the default of torch.nn.LayerNorm. */
#define TDM_NORM_EPSILON 1e-5F
/* Of rotary positions. Source: Su et al. 2021, RoFormer, section 3.2.2. */
#define TDM_ROPE_BASE 10000.0
/* Source: Kingma and Ba 2015, Adam, algorithm 1; its constants are those of Touvron et al. 2023,
 * Llama 2, section 2.2, without weight decay and at a constant rate. An epsilon above fp32's
 * rounding of small gradients: a smaller one makes steps out of that. */
#define TDM_ADAM_RATE    1e-3
#define TDM_ADAM_BETA_1  0.9
#define TDM_ADAM_BETA_2  0.95
#define TDM_ADAM_EPSILON 1e-5

/* ---- parameters: rank.c, rank_shape.c ---- */

/* How a rank's parameter lies in the model's: rows [row0, row0 + rows) of columns that come in
 * sections, each shared out over TP. */
typedef struct tdm_shape {
    uint64_t row0, columns; /* columns on this rank */
    uint32_t n_sections, part, n_parts;
    uint64_t width[3];  /* columns of a section on this rank */
    bool replicated_tp; /* all TP ranks hold the same */
    uint64_t fan_in;    /* 0: no matrix */
    float start;        /* initial value when fan_in is 0 */
} tdm_shape;

tdm_shape tdm_shape_of(const tdm_plan *plan, const tdm_kind *kind, const tdm_param *param,
                       uint32_t rank);
/* Place of element `local` of a rank's parameter in the parameter of the whole model. */
uint64_t tdm_shape_global(const tdm_shape *shape, uint64_t local);

typedef struct tdm_rank_param {
    const tdm_kind *kind;
    const tdm_param *param;
    uint32_t layer;
    void *weight;                        /* in the model's dtype */
    void *gradient;                      /* in that of gradients; NULL without training */
    float *master;                       /* [run] fp32 copy of the weight; NULL: it is fp32 */
    float *first_moment, *second_moment; /* [run]: a share of the parameter, rounded up */
    uint64_t first, count;               /* what this rank's optimizer updates */
    uint32_t n_replicas;                 /* over which ZeRO-1 shards it; 1: it does not */
    bool counted;                        /* this rank's part of the gradient goes into the norm */
} tdm_rank_param;

/* How a parameter starts: evenly within +-bound, numbers of a key by their place in the whole
 * parameter; or, bound 0, the first n_start at `start` and the others at 0. */
typedef struct tdm_start {
    double bound;
    uint64_t key, n_start;
    float start;
} tdm_start;
tdm_start tdm_start_of(const tdm_plan *plan, const tdm_rank_param *param, const tdm_shape *shape);

/* ---- data: rank_data.c ----
 * Random numbers are pure functions of what they are for, so that every layout sees the same model
 * and the same data. */

uint64_t tdm_data_mix(uint64_t a, uint64_t b);
/* A key for the random numbers of one purpose, and for those of its member `number`. */
uint64_t tdm_data_purpose(uint64_t seed, const char *kind, const char *name);
uint64_t tdm_data_key(uint64_t seed, const char *kind, const char *name, uint64_t number);
/* [0, 1), a pure function of its arguments. */
double tdm_data_uniform(uint64_t key, uint64_t index);
/* The word at a place of a sample. */
uint32_t tdm_data_word(const tdm_plan *plan, uint64_t sample, uint64_t position);

/* ---- routing: rank_routes.c ---- */

typedef struct tdm_routes {
    uint32_t k, n_experts;
    uint64_t tokens;        /* of a replica's microbatch */
    const int32_t *choices; /* [layer][microbatch][replica][token][k]: the expert; -1 - expert when
                               it is full and the choice dropped */
    const uint32_t *counts; /* [layer][microbatch][rank of the stage][expert] pairs sent */
    uint32_t n_microbatches, n_replicas, n_in_stage;
} tdm_routes;

/* Fails when the plan's table was made from other choices. */
tdm_code tdm_routes_build(tdm_arena *arena, const tdm_plan *plan, tdm_routes *routes,
                          tdm_error *err);

/* ---- works: rank_works.c ---- */

/* What there is to compute. */
typedef enum tdm_work_kind {
    TDM_WORK_LINEAR,
    TDM_WORK_LINEAR_DGRAD,
    TDM_WORK_LINEAR_WGRAD,
    TDM_WORK_GROUPED,
    TDM_WORK_GROUPED_DGRAD,
    TDM_WORK_GROUPED_WGRAD,
    TDM_WORK_LOGITS,
    TDM_WORK_LOGITS_DGRAD,
    TDM_WORK_LOGITS_WGRAD,
    TDM_WORK_NORM,
    TDM_WORK_NORM_BACKWARD,
    TDM_WORK_QK_NORM,
    TDM_WORK_QK_NORM_BACKWARD,
    TDM_WORK_LOOKUP,
    TDM_WORK_LOOKUP_WGRAD,
    TDM_WORK_POSITION,
    TDM_WORK_POSITION_WGRAD,
    TDM_WORK_ADD,
    TDM_WORK_ADD_BACKWARD,
    TDM_WORK_ACTIVATION,
    TDM_WORK_ACTIVATION_BACKWARD,
    TDM_WORK_ROPE,
    TDM_WORK_ROPE_BACKWARD,
    TDM_WORK_ATTENTION,
    TDM_WORK_ATTENTION_BACKWARD,
    TDM_WORK_SCORES,
    TDM_WORK_SOFTMAX,
    TDM_WORK_WEIGHTS_DROPOUT,
    TDM_WORK_CONTEXT,
    TDM_WORK_CONTEXT_DWEIGHTS,
    TDM_WORK_CONTEXT_DV,
    TDM_WORK_WEIGHTS_DROPOUT_BACKWARD,
    TDM_WORK_SOFTMAX_BACKWARD,
    TDM_WORK_SCORES_DQ,
    TDM_WORK_SCORES_DK,
    TDM_WORK_TOPK,
    TDM_WORK_TOPK_BACKWARD,
    TDM_WORK_PERMUTE,
    TDM_WORK_PERMUTE_BACKWARD,
    TDM_WORK_SORT,
    TDM_WORK_UNSORT,
    TDM_WORK_UNPERMUTE,
    TDM_WORK_UNPERMUTE_BACKWARD,
    TDM_WORK_SUM,
    TDM_WORK_LOSS_MAX,
    TDM_WORK_LOSS_EXP,
    TDM_WORK_LOSS,
    TDM_WORK_LOSS_BACKWARD,
    TDM_WORK_GRAD_NORM,
    TDM_WORK_ADAM,
    TDM_N_WORKS
} tdm_work_kind;

typedef enum tdm_way {
    TDM_WAY_COLUMNS, /* a product's columns are shared out over TP */
    TDM_WAY_ROWS,    /* its rows: the result is a part of a sum */
    TDM_WAY_LOCAL    /* on tokens of this rank's own */
} tdm_way;

typedef struct tdm_work {
    const char *name; /* of the op, without the ".r" of a repetition */
    tdm_op_kind kind;
    tdm_work_kind work;
    const char *weight, *bias; /* parameters of the op's block; NULL: none */
    tdm_way way;
    bool optimizer; /* of the O pass */
} tdm_work;

/* NULL: no device knows the op. */
const tdm_work *tdm_work_of(const tdm_instance *instance);

/* What of the plan no device can compute: an op without a work, whole layers that are not
 * implemented; `device` names it in messages. */
tdm_code tdm_works_check(const tdm_plan *plan, const char *device, tdm_error *err);

/* ---- ranks and calls: rank.c ---- */

typedef struct tdm_rank {
    const tdm_plan *plan;
    const tdm_routes *routes;
    uint32_t rank, tp, dp, ep; /* indices in the groups */
    tdm_rank_param *params;    /* [n_params] in order of chunk, position, parameter */
    uint32_t n_params;
    const uint32_t *const *first_param; /* [n_chunks][n_positions] */
    tdm_exec_segment *segments;         /* room for lists, [6][n_params] */
    const tdm_work *const *works;       /* [n_ops] of its role; NULL: communication */
    float *norm; /* sum of the gradient's squares on its way; of the device */
    void *of_device;
} tdm_rank;

/* ranks [world], with everything but norm and of_device. */
tdm_rank *tdm_ranks_new(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                        const tdm_routes *routes);
/* The parameters' places in memory: weights, gradients and optimizer state, one after the other;
 * all parameters of each. Returns the bytes they take. */
uint64_t tdm_rank_place(tdm_rank *rank, void *statics);

typedef struct tdm_call {
    const tdm_plan *plan;
    const tdm_model *model;
    tdm_rank *rank;
    const tdm_instance *in;
    const tdm_op *op;
    const tdm_work *work;
    const tdm_exec_tensor *tensors;
    const tdm_rank_param *weight, *bias; /* NULL where the model has none */
    uint32_t step;
    uint64_t h, s, tokens; /* hidden size, sequence length, tokens of a microbatch */
    uint64_t shard;        /* tokens / tp */
    uint64_t residual;     /* rows of the residual: shard with sequence parallelism, else tokens */
    uint64_t row0;         /* first token of the residual here */
    bool sp;
} tdm_call;

tdm_call tdm_call_of(tdm_rank *rank, const tdm_exec_op *op);
/* Place of a token of this rank's microbatch in all samples that the model ever sees. */
uint64_t tdm_call_sample(const tdm_call *call, uint64_t token);
/* A parameter of the op's own block; NULL: it has none of that name. */
const tdm_rank_param *tdm_call_param(const tdm_call *call, const char *name);
/* Key of this op's random numbers; the same when it is repeated. */
uint64_t tdm_call_key(const tdm_call *call, const char *what);
/* First row of the tokens that a rank works on alone, in a matrix of so many bytes that may hold
 * all of them; row_bytes: of one token. */
uint64_t tdm_call_own_rows(const tdm_call *call, uint32_t ref, uint64_t row_bytes);
/* Columns of the inner layer on this rank: of an expert, of the shared ones, of the dense MLP. */
uint64_t tdm_call_inner(const tdm_call *call);
/* A part of a sum takes the bias once. */
bool tdm_call_adds_bias(const tdm_call *call);
/* Pairs that this rank sends to each expert, and that another of its stage does: [n_experts]. */
const uint32_t *tdm_call_counts(const tdm_call *call, uint32_t rank);
/* The experts of this rank's own tokens: [shard][k]. */
const int32_t *tdm_call_choices(const tdm_call *call);
/* Pairs that each of this rank's experts receives: [n_local]. */
const uint32_t *tdm_call_received(const tdm_call *call, uint32_t *n_local);

/* Columns of Q, K and V on this rank. */
typedef struct tdm_heads {
    uint64_t size, q, kv, per_group; /* of one head; heads; groups; heads of a group */
} tdm_heads;
tdm_heads tdm_heads_of(const tdm_call *call);

/* What a communication op moves: rank_moves.c. `device` names it in messages. */
tdm_code tdm_moves(const tdm_call *call, const char *device, tdm_exec_transfer *transfer,
                   tdm_error *err);

/* A piece of a parameter and its reduced gradient as the optimizer takes them, before clipping and
 * before it changes anything: numbers [first, first + count) of the rank's parameter, in this
 * process's memory. Called from the rank's own threads. */
typedef struct tdm_piece {
    uint32_t rank, step, layer;
    const tdm_kind *kind;
    const tdm_param *param;
    uint64_t first, count;
    const float *gradient, *weight; /* [count] */
} tdm_piece;
typedef void tdm_watch(void *context, const tdm_piece *piece);

#endif
