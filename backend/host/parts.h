/* parts.h: what the kernels of the host device share. Private to backend/host/. */
#ifndef TDM_HOST_PARTS_H
#define TDM_HOST_PARTS_H

#include "host.h"

typedef struct host_rank {
    tdm_host *host;
    tdm_rank *of;
    float *scratch;    /* [n_scratch] of the compute stream */
    double *loss;      /* [n_steps] sum over the rank's tokens */
    double *grad_norm; /* [n_steps] */
    float norm;        /* sum of squares on its way */
} host_rank;

struct tdm_host {
    const tdm_plan *plan;
    uint32_t n_steps;
    host_rank *ranks; /* [world] */
    tdm_routes routes;
    tdm_watch *watch;
    void *context;
};

static inline host_rank *host_rank_of(const tdm_call *c)
{
    return c->rank->of_device;
}
static inline float *host_f32(const tdm_call *c, uint32_t ref)
{
    return c->tensors[ref].data;
}
static inline float *host_weight(const tdm_rank_param *param)
{
    return param->weight;
}
static inline float *host_gradient(const tdm_rank_param *param)
{
    return param->gradient;
}

/* C[m, n] = alpha A[m, k] B[k, n] + beta C; of a transposed operand the ld is that of its storage.
 */
typedef struct host_matrix {
    float *data;
    uint64_t ld;
    bool transposed;
} host_matrix;
void host_gemm(uint64_t m, uint64_t n, uint64_t k, float alpha, host_matrix a, host_matrix b,
               float beta, float *c, uint64_t ldc);

/* ---- kernels ---- */

typedef void host_kernel(const tdm_call *call);
extern host_kernel *const host_kernels[TDM_N_WORKS]; /* by work */

void host_linear(const tdm_call *c);
void host_linear_dgrad(const tdm_call *c);
void host_linear_wgrad(const tdm_call *c);
void host_grouped(const tdm_call *c);
void host_grouped_dgrad(const tdm_call *c);
void host_grouped_wgrad(const tdm_call *c);
void host_logits(const tdm_call *c);
void host_logits_dgrad(const tdm_call *c);
void host_logits_wgrad(const tdm_call *c);
void host_norm(const tdm_call *c);
void host_norm_backward(const tdm_call *c);
void host_qk_norm(const tdm_call *c);
void host_qk_norm_backward(const tdm_call *c);
void host_lookup(const tdm_call *c);
void host_lookup_wgrad(const tdm_call *c);
void host_position(const tdm_call *c);
void host_position_wgrad(const tdm_call *c);
void host_add(const tdm_call *c);
void host_add_backward(const tdm_call *c);
void host_activation(const tdm_call *c);
void host_activation_backward(const tdm_call *c);
void host_rope(const tdm_call *c);
void host_rope_backward(const tdm_call *c);
void host_attention(const tdm_call *c);
void host_attention_backward(const tdm_call *c);
void host_scores(const tdm_call *c);
void host_softmax(const tdm_call *c);
void host_weights_dropout(const tdm_call *c);
void host_context(const tdm_call *c);
void host_context_dweights(const tdm_call *c);
void host_context_dv(const tdm_call *c);
void host_weights_dropout_backward(const tdm_call *c);
void host_softmax_backward(const tdm_call *c);
void host_scores_dq(const tdm_call *c);
void host_scores_dk(const tdm_call *c);
void host_topk(const tdm_call *c);
void host_topk_backward(const tdm_call *c);
void host_permute(const tdm_call *c);
void host_permute_backward(const tdm_call *c);
void host_sort(const tdm_call *c);
void host_unsort(const tdm_call *c);
void host_unpermute(const tdm_call *c);
void host_unpermute_backward(const tdm_call *c);
void host_sum(const tdm_call *c);
void host_loss_max(const tdm_call *c);
void host_loss_exp(const tdm_call *c);
void host_loss(const tdm_call *c);
void host_loss_backward(const tdm_call *c);
void host_grad_norm(const tdm_call *c);
void host_adam(const tdm_call *c);

#endif
