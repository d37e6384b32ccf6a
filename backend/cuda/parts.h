/* parts.h: what the files of the cuda device share. Private to backend/cuda/. */
#ifndef TDM_CUDA_PARTS_H
#define TDM_CUDA_PARTS_H

#include "blas_api.h"
#include "cuda.h"
#include "kernels.h"

/* ---- memory of a GPU beside the arena ---- */

/* What memory is there for, in the order of reports. */
typedef enum cuda_purpose {
    CUDA_ARENA,
    CUDA_WORKSPACES, /* of cuBLAS, and of kernels */
    CUDA_TABLES,     /* words, routes, lists of parameters */
    CUDA_N_PURPOSES
} cuda_purpose;

/* ---- a rank ---- */

/* A product whose algorithm has been chosen: linear.c. */
typedef struct cuda_plan cuda_plan;

typedef struct cuda_blas {
    blas_handle handle;
    blas_lt_handle lt;
    cuda_plan **plans; /* [n_slots] chained */
    bool no_grouped;   /* this cuBLAS has no grouped products of these types */
    void *workspace;   /* [CUDA_BLAS_WORKSPACE] of the compute stream */
} cuda_blas;

/* Source: cuBLAS documentation, cublasSetWorkspace, recommended for Hopper. */
#define CUDA_BLAS_WORKSPACE ((size_t)32 << 20)

/* What lies on the GPU for a rank's whole run: tables.c. Routes are those of the rank's own expert
 * layers: row (layer, microbatch) is row_of_layer[layer] * num_microbatches + microbatch. */
typedef struct cuda_tables {
    int32_t *words;                /* [microbatch][sample][s + 1] of the step */
    const uint32_t *row_of_layer;  /* [num_layers]; UINT32_MAX: none of this rank's */
    int32_t *choices;              /* [row][shard][k] planned */
    uint32_t *places;              /* [row][shard][k] of a pair among those that are sent */
    uint32_t *sent;                /* [row][n_experts] rows that this rank sends */
    uint32_t *counts;              /* [row][n_senders][n_local] rows that come from each sender */
    uint32_t *received;            /* [row][n_local] from all together */
    const uint32_t *expected;      /* the same, in this process's memory */
    float *rope;                   /* [s][size / 2][2] */
    tdm_cuda_piece *all, *counted; /* [n_all], [n_counted] of the optimizer, and of the norm */
    uint32_t n_all, n_counted;
    uint64_t all_blocks, counted_blocks;
    const void **pointers;         /* [n_pointers] operands of grouped products */
    const uint32_t *first_pointer; /* [n_ops] of an op; UINT32_MAX: it is none */
    bool *filled;                  /* [n_ops] */
    float *norm;                   /* sum of the gradient's squares on its way */
    double *loss, *grad_norm;      /* [n_steps] */
} cuda_tables;

enum { CUDA_N_BASES = 5, CUDA_MOST_ALLOCATIONS = 24 };

typedef struct cuda_rank {
    tdm_cuda *cuda;
    tdm_rank *of;
    const tdm_program *program;
    int gpu;
    bool is_open;
    cudaStream_t streams[TDM_N_STREAMS]; /* NULL: not in use */
    cudaEvent_t *starts, *ends;          /* [n_ops] */
    cudaEvent_t bases[CUDA_N_BASES];
    uint32_t base; /* of the bases, that which the clock is known best at */
    double base_s; /* of this machine's monotonic clock */
    double uncertainty_s;
    cuda_blas blas;
    void *scratch; /* of the compute stream's kernels */
    size_t scratch_bytes;
    cuda_tables tables;
    void *gradients; /* of all parameters, one after the other */
    uint64_t gradients_bytes;
    void *allocations[CUDA_MOST_ALLOCATIONS];
    uint32_t n_allocations;
    double *losses, *grad_norms; /* [n_steps] in this process's memory */
    uint64_t bytes[CUDA_N_PURPOSES];
} cuda_rank;

struct tdm_cuda {
    tdm_cuda_options options;
    const tdm_plan *plan;
    cuda_rank *ranks; /* [world]; open are those carried out here */
    tdm_routes routes;
    const blas_api *blas;
    const blas_lt_api *lt;
    double uncertainty_s; /* worst so far */
};

/* Allocates on the rank's GPU; what there is not says the message. */
tdm_code cuda_allocate(cuda_rank *rank, cuda_purpose purpose, uint64_t bytes, void **data,
                       tdm_error *err);

/* ---- calls ---- */

typedef struct cuda_call {
    tdm_call of;
    cuda_rank *rank;
    cudaStream_t stream;
    tdm_cuda_type type, gradient_type;
    uint64_t element; /* bytes of a number of `type` */
    bool rehearses;
} cuda_call;

/* Runs what a work is on the compute stream. */
typedef tdm_code cuda_run(const cuda_call *call, tdm_error *err);
extern cuda_run *const cuda_runs[TDM_N_WORKS]; /* by work */

/* Bytes of scratch that an op of this work needs; its tensors are not known yet. */
size_t cuda_scratch(const cuda_call *call);

static inline void *cuda_tensor(const cuda_call *c, uint32_t ref)
{
    return c->of.tensors[ref].data;
}
static inline void *cuda_at(const cuda_call *c, const void *first, uint64_t number)
{
    return (char *)first + number * c->element;
}
static inline uint64_t cuda_aligned(uint64_t bytes)
{
    return tdm_ceil_div(bytes, TDM_ALIGNMENT) * TDM_ALIGNMENT;
}
static inline uint64_t cuda_numbers(const cuda_call *c, uint32_t ref)
{
    return c->of.tensors[ref].bytes / c->element;
}
/* Words of the op's microbatch. */
static inline const int32_t *cuda_words(const cuda_call *c)
{
    uint64_t samples = c->of.plan->micro_batch_size;
    return c->rank->tables.words + c->of.in->pass.microbatch * samples * (c->of.s + 1);
}
/* Row of the op's layer and microbatch in the tables of routes. */
static inline uint64_t cuda_route_row(const cuda_call *c)
{
    return (uint64_t)c->rank->tables.row_of_layer[c->of.in->layer] * c->of.plan->num_microbatches +
           c->of.in->pass.microbatch;
}

/* Failures of the runtime and of cuBLAS, in the op's name. */
tdm_code cuda_ok(const cuda_call *call, cudaError_t error, tdm_error *err);
tdm_code cuda_blas_ok(const cuda_call *call, int status, tdm_error *err);
/* Of the rank. */
tdm_code cuda_rank_ok(const cuda_rank *rank, const char *what, cudaError_t error, tdm_error *err);

/* ---- products: linear.c ---- */

/* Rows of numbers; of a transposed operand the ld is that of its storage. */
typedef struct cuda_matrix {
    const void *data;
    uint64_t ld;
    bool transposed;
    uint64_t stride; /* numbers from one of a batch to the next */
} cuda_matrix;

/* C[m, n] = alpha A[m, k] B[k, n] + beta C, then the bias [n] of every row (NULL: none). A and B
 * are of the call's type. */
typedef struct cuda_product {
    uint64_t m, n, k;
    cuda_matrix a, b, c;
    tdm_cuda_type c_type;
    float alpha, beta;
    uint32_t batch; /* 0: one */
    const void *bias;
} cuda_product;
tdm_code cuda_multiply(const cuda_call *call, const cuda_product *product, tdm_error *err);

tdm_code cuda_blas_open(cuda_rank *rank, tdm_error *err);
void cuda_blas_close(cuda_rank *rank);

/* ---- tables: tables.c ---- */

tdm_code cuda_tables_open(tdm_arena *arena, cuda_rank *rank, tdm_error *err);
/* Parameters have their places and start: lists of them, once more; sums back to zero. */
tdm_code cuda_tables_begin(cuda_rank *rank, tdm_error *err);
/* Words of the step, on the compute stream. */
tdm_code cuda_tables_step(cuda_rank *rank, uint32_t step, tdm_error *err);

/* ---- the queue: queue.c ---- */

extern const tdm_exec_queue cuda_queue;
tdm_code cuda_queue_open(tdm_arena *arena, cuda_rank *rank, tdm_error *err);
void cuda_queue_close(cuda_rank *rank);

/* ---- names of ops in profilers' timelines: nvtx.c ---- */

void cuda_range_push(const char *name);
void cuda_range_pop(void);

/* ---- works ---- */

cuda_run cuda_linear, cuda_linear_dgrad, cuda_linear_wgrad, cuda_grouped, cuda_grouped_dgrad,
    cuda_grouped_wgrad, cuda_logits, cuda_logits_dgrad, cuda_logits_wgrad, cuda_norm,
    cuda_norm_backward, cuda_qk_norm, cuda_qk_norm_backward, cuda_lookup, cuda_lookup_wgrad,
    cuda_position, cuda_position_wgrad, cuda_add, cuda_add_backward, cuda_activation,
    cuda_activation_backward, cuda_rope, cuda_rope_backward, cuda_attention,
    cuda_attention_backward, cuda_scores, cuda_softmax, cuda_weights_dropout, cuda_context,
    cuda_context_dweights, cuda_context_dv, cuda_weights_dropout_backward, cuda_softmax_backward,
    cuda_scores_dq, cuda_scores_dk, cuda_topk, cuda_topk_backward, cuda_permute,
    cuda_permute_backward, cuda_sort, cuda_unsort, cuda_unpermute, cuda_unpermute_backward,
    cuda_sum, cuda_loss_max, cuda_loss_exp, cuda_loss, cuda_loss_backward, cuda_grad_norm,
    cuda_adam;

#endif
