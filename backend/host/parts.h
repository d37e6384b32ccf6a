/* parts.h: what the kernels of the host device share. Private to backend/host/.
 *
 * Numbers are fp32, matrices row by row. A tensor of tokens has a row per token, sample by sample.
 * Weights lie as [in, out]. A query, key and value tensor has columns Q of all heads, K of all
 * groups, V of all groups. */
#ifndef TDM_HOST_PARTS_H
#define TDM_HOST_PARTS_H

#include "host.h"

/* ---- parameters: params.c ---- */

/* How a rank's parameter lies in the model's: rows [row0, row0 + rows) of columns that come in
 * sections, each shared out over TP; of experts over ETP, the rows of one behind those of the
 * other.
 */
typedef struct host_shape {
    uint64_t row0, columns; /* columns on this rank */
    uint32_t n_sections, part, n_parts;
    uint64_t width[3]; /* columns of a section on this rank */
    bool replicated;   /* all ranks of that group hold the same */
    uint64_t fan_in;   /* 0: no matrix */
    float start;       /* initial value when fan_in is 0 */
} host_shape;

typedef struct host_param {
    const tdm_kind *kind;
    const tdm_param *param;
    uint32_t layer;
    float *weight, *gradient, *first_moment, *second_moment;
    uint64_t first, count; /* what this rank's optimizer updates */
    uint32_t n_replicas;   /* over which ZeRO-1 shards it, or that hold the same */
    bool counted;          /* this rank's part of the gradient goes into the norm */
} host_param;

host_shape host_shape_of(const tdm_plan *plan, const tdm_kind *kind, const tdm_param *param,
                         uint32_t rank);
uint64_t host_shape_global(const host_shape *shape, uint64_t local);

/* ---- data: data.c ---- */

uint64_t host_mix(uint64_t a, uint64_t b);
/* A key for random numbers of one purpose. */
uint64_t host_key(uint64_t seed, const char *kind, const char *name, uint64_t number);
/* [0, 1), a pure function of its arguments. */
double host_uniform(uint64_t key, uint64_t index);

/* ---- routing: route.c ---- */

typedef struct host_routing {
    uint32_t k, n_experts;
    uint64_t tokens;        /* of a replica's microbatch */
    const int32_t *choices; /* [layer][microbatch][replica][token][k]: the expert; -1 - expert when
                               it is full and the choice dropped */
    const uint32_t *rows;   /* [layer][microbatch][rank of the stage][expert] sent: pairs, and what
                               pads them to the expert's capacity */
    uint32_t n_microbatches, n_replicas, n_in_stage;
} host_routing;

tdm_code host_routing_build(tdm_arena *arena, const tdm_plan *plan, host_routing *routing,
                            tdm_error *err);

/* ---- ranks and calls ---- */

typedef struct host_rank {
    tdm_host *host;
    uint32_t rank, tp, dp, ep, etp; /* indices in the groups */
    host_param *params;             /* [n_params] in order of chunk, position, parameter */
    uint32_t n_params;
    const uint32_t *const *first_param; /* [n_chunks][n_positions] */
    float *scratch;                     /* [n_scratch] of the compute stream */
    double *loss;                       /* [n_steps] sum over the rank's tokens */
    double *grad_norm;                  /* [n_steps] */
    float norm;                         /* sum of squares on its way */
    tdm_exec_segment *segments;         /* room for lists, [6][n_params] */
    uint64_t *shares;                   /* [etp] of the op over ETP that runs: one stream has all */
} host_rank;

typedef struct host_call host_call;

typedef struct host_kernel {
    const char *name; /* of the op, without the ".r" of a repetition */
    tdm_op_kind kind;
    void (*run)(const host_call *call);
    const char *weight, *bias; /* parameters of the op's block; NULL: none */
    enum {
        HOST_COLUMNS, /* the product's columns are shared out over TP; of experts over ETP */
        HOST_ROWS,    /* its rows: the result is a part of a sum */
        HOST_LOCAL    /* on tokens of this rank's own */
    } way;
    bool optimizer; /* of the O pass */
} host_kernel;

extern const host_kernel host_kernels[]; /* ends with name NULL */

struct tdm_host {
    const tdm_plan *plan;
    const tdm_program *programs;
    uint32_t n_steps;
    host_rank *ranks;                   /* [world] */
    const host_kernel *const **kernels; /* [n_roles][n_ops] */
    host_routing routing;
    uint64_t seed;
    tdm_host_watch *watch;
    void *context;
};

struct host_call {
    const tdm_plan *plan;
    const tdm_model *model;
    host_rank *rank;
    const tdm_instance *in;
    const tdm_op *op;
    const host_kernel *kernel;
    const tdm_exec_tensor *tensors;
    const host_param *weight, *bias; /* NULL where the model has none */
    uint32_t step;
    uint64_t h, s, tokens; /* hidden size, sequence length, tokens of a microbatch */
    uint64_t shard;        /* tokens / tp */
    uint64_t residual;     /* rows of the residual: shard with sequence parallelism, else tokens */
    uint64_t row0;         /* first token of the residual here */
    bool sp;
};

/* Rows that a rank of the op's stage sends in its layer and microbatch: [n_experts]. */
const uint32_t *host_rows_sent(const host_call *call, uint32_t rank);
/* The ranks whose rows the experts of this rank work on, in the order in which these lie in what
 * was received: by member of the ETP group, then by sender of that member's EP group. */
uint32_t host_n_senders(const host_call *call);
uint32_t host_sender(const host_call *call, uint32_t i);
/* Number of this rank's experts, and the first of them. */
uint32_t host_n_experts(const host_call *call);
uint32_t host_first_expert(const host_call *call);

static inline float *host_f32(const host_call *c, uint32_t ref)
{
    return c->tensors[ref].data;
}
/* Place of a token of this rank's microbatch in all samples that the model ever sees. */
uint64_t host_sample(const host_call *call, uint64_t token);
/* The word at a place of a sample. */
uint32_t host_word_of(const tdm_host *host, uint64_t sample, uint64_t position);
uint32_t host_word(const host_call *call, uint64_t sample, uint64_t position);
/* A parameter of the op's own block; NULL: it has none of that name. */
const host_param *host_find(const host_call *call, const char *name);
/* Key of this op's random numbers; the same when it is repeated. */
uint64_t host_op_key(const host_call *call, const char *what);
/* Columns of Q, K and V on this rank. */
typedef struct host_heads {
    uint64_t size, q, kv, per_group; /* of one head; heads; groups; heads of a group */
} host_heads;
host_heads host_heads_of(const host_call *call);

/* C[m, n] = alpha A[m, k] B[k, n] + beta C; of a transposed operand the ld is that of its storage.
 */
typedef struct host_matrix {
    float *data;
    uint64_t ld;
    bool transposed;
} host_matrix;
void host_gemm(uint64_t m, uint64_t n, uint64_t k, float alpha, host_matrix a, host_matrix b,
               float beta, float *c, uint64_t ldc);

/* What a communication op moves: transfer.c. */
tdm_code host_transfer(const host_call *call, tdm_exec_transfer *transfer, tdm_error *err);

/* ---- kernels ---- */

void host_linear(const host_call *c);
void host_linear_dgrad(const host_call *c);
void host_linear_wgrad(const host_call *c);
void host_grouped(const host_call *c);
void host_grouped_dgrad(const host_call *c);
void host_grouped_wgrad(const host_call *c);
void host_logits(const host_call *c);
void host_logits_dgrad(const host_call *c);
void host_logits_wgrad(const host_call *c);
void host_norm(const host_call *c);
void host_norm_backward(const host_call *c);
void host_qk_norm(const host_call *c);
void host_qk_norm_backward(const host_call *c);
void host_lookup(const host_call *c);
void host_lookup_wgrad(const host_call *c);
void host_position(const host_call *c);
void host_position_wgrad(const host_call *c);
void host_add(const host_call *c);
void host_add_backward(const host_call *c);
void host_activation(const host_call *c);
void host_activation_backward(const host_call *c);
void host_rope(const host_call *c);
void host_rope_backward(const host_call *c);
void host_attention(const host_call *c);
void host_attention_backward(const host_call *c);
void host_scores(const host_call *c);
void host_softmax(const host_call *c);
void host_weights_dropout(const host_call *c);
void host_context(const host_call *c);
void host_context_dweights(const host_call *c);
void host_context_dv(const host_call *c);
void host_weights_dropout_backward(const host_call *c);
void host_softmax_backward(const host_call *c);
void host_scores_dq(const host_call *c);
void host_scores_dk(const host_call *c);
void host_topk(const host_call *c);
void host_topk_backward(const host_call *c);
void host_permute(const host_call *c);
void host_permute_backward(const host_call *c);
void host_sort(const host_call *c);
void host_unsort(const host_call *c);
void host_unpermute(const host_call *c);
void host_unpermute_backward(const host_call *c);
void host_sum(const host_call *c);
void host_loss_max(const host_call *c);
void host_loss_exp(const host_call *c);
void host_loss(const host_call *c);
void host_loss_backward(const host_call *c);
void host_grad_norm(const host_call *c);
void host_adam(const host_call *c);

#endif
