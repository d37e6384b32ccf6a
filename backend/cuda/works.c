/* works.c: which work is carried out by which function, and what scratch it takes. */
#include "parts.h"

cuda_run *const cuda_runs[TDM_N_WORKS] = {
    [TDM_WORK_LINEAR] = cuda_linear,
    [TDM_WORK_LINEAR_DGRAD] = cuda_linear_dgrad,
    [TDM_WORK_LINEAR_WGRAD] = cuda_linear_wgrad,
    [TDM_WORK_GROUPED] = cuda_grouped,
    [TDM_WORK_GROUPED_DGRAD] = cuda_grouped_dgrad,
    [TDM_WORK_GROUPED_WGRAD] = cuda_grouped_wgrad,
    [TDM_WORK_LOGITS] = cuda_logits,
    [TDM_WORK_LOGITS_DGRAD] = cuda_logits_dgrad,
    [TDM_WORK_LOGITS_WGRAD] = cuda_logits_wgrad,
    [TDM_WORK_NORM] = cuda_norm,
    [TDM_WORK_NORM_BACKWARD] = cuda_norm_backward,
    [TDM_WORK_QK_NORM] = cuda_qk_norm,
    [TDM_WORK_QK_NORM_BACKWARD] = cuda_qk_norm_backward,
    [TDM_WORK_LOOKUP] = cuda_lookup,
    [TDM_WORK_LOOKUP_WGRAD] = cuda_lookup_wgrad,
    [TDM_WORK_POSITION] = cuda_position,
    [TDM_WORK_POSITION_WGRAD] = cuda_position_wgrad,
    [TDM_WORK_ADD] = cuda_add,
    [TDM_WORK_ADD_BACKWARD] = cuda_add_backward,
    [TDM_WORK_ACTIVATION] = cuda_activation,
    [TDM_WORK_ACTIVATION_BACKWARD] = cuda_activation_backward,
    [TDM_WORK_ROPE] = cuda_rope,
    [TDM_WORK_ROPE_BACKWARD] = cuda_rope_backward,
    [TDM_WORK_ATTENTION] = cuda_attention,
    [TDM_WORK_ATTENTION_BACKWARD] = cuda_attention_backward,
    [TDM_WORK_SCORES] = cuda_scores,
    [TDM_WORK_SOFTMAX] = cuda_softmax,
    [TDM_WORK_WEIGHTS_DROPOUT] = cuda_weights_dropout,
    [TDM_WORK_CONTEXT] = cuda_context,
    [TDM_WORK_CONTEXT_DWEIGHTS] = cuda_context_dweights,
    [TDM_WORK_CONTEXT_DV] = cuda_context_dv,
    [TDM_WORK_WEIGHTS_DROPOUT_BACKWARD] = cuda_weights_dropout_backward,
    [TDM_WORK_SOFTMAX_BACKWARD] = cuda_softmax_backward,
    [TDM_WORK_SCORES_DQ] = cuda_scores_dq,
    [TDM_WORK_SCORES_DK] = cuda_scores_dk,
    [TDM_WORK_TOPK] = cuda_topk,
    [TDM_WORK_TOPK_BACKWARD] = cuda_topk_backward,
    [TDM_WORK_PERMUTE] = cuda_permute,
    [TDM_WORK_PERMUTE_BACKWARD] = cuda_permute_backward,
    [TDM_WORK_SORT] = cuda_sort,
    [TDM_WORK_UNSORT] = cuda_unsort,
    [TDM_WORK_UNPERMUTE] = cuda_unpermute,
    [TDM_WORK_UNPERMUTE_BACKWARD] = cuda_unpermute_backward,
    [TDM_WORK_SUM] = cuda_sum,
    [TDM_WORK_LOSS_MAX] = cuda_loss_max,
    [TDM_WORK_LOSS_EXP] = cuda_loss_exp,
    [TDM_WORK_LOSS] = cuda_loss,
    [TDM_WORK_LOSS_BACKWARD] = cuda_loss_backward,
    [TDM_WORK_GRAD_NORM] = cuda_grad_norm,
    [TDM_WORK_ADAM] = cuda_adam,
};

/* Of a router's gradient in the type of its operands, and of a bias. */
static size_t linear_scratch(const cuda_call *c, bool wgrad)
{
    const tdm_op *op = c->of.op;
    uint64_t count = wgrad ? op->u.gemm.k * op->u.gemm.n : op->u.gemm.m * op->u.gemm.k;
    bool router = c->of.work->way == TDM_WAY_LOCAL && c->type != TDM_CUDA_FP32;
    size_t bytes = router ? cuda_aligned(count * c->element) : 0;
    return wgrad && c->of.bias ? bytes + tdm_cuda_bias_backward_workspace(1, op->u.gemm.n) : bytes;
}

static size_t attention_scratch(const cuda_call *c)
{
    tdm_heads heads = tdm_heads_of(&c->of);
    tdm_cuda_attention a = {.type = c->type,
                            .samples = c->of.tokens / c->of.s,
                            .s = c->of.s,
                            .heads = (uint32_t)heads.q,
                            .kv_heads = (uint32_t)heads.kv,
                            .size = (uint32_t)heads.size};
    return tdm_cuda_attention_backward_workspace(&a);
}

static size_t grouped_scratch(const cuda_call *c)
{
    uint32_t n_local = c->of.rank->routes->n_experts / c->of.plan->mesh.ep;
    return c->of.bias ? tdm_cuda_bias_backward_workspace(n_local, c->of.op->u.grouped.n) : 0;
}

size_t cuda_scratch(const cuda_call *c)
{
    const tdm_routes *routes = c->of.rank->routes;
    switch (c->of.work->work) {
    case TDM_WORK_LINEAR_DGRAD:
        return linear_scratch(c, false);
    case TDM_WORK_LINEAR_WGRAD:
        return linear_scratch(c, true);
    case TDM_WORK_GROUPED_WGRAD:
        return grouped_scratch(c);
    case TDM_WORK_NORM_BACKWARD:
        return tdm_cuda_norm_backward_workspace(c->of.h);
    case TDM_WORK_QK_NORM_BACKWARD:
        return tdm_cuda_head_norm_backward_workspace(c->of.model->kv_channels);
    case TDM_WORK_LOOKUP_WGRAD:
        return tdm_cuda_lookup_backward_workspace(c->of.tokens);
    case TDM_WORK_ATTENTION_BACKWARD:
        return attention_scratch(c);
    case TDM_WORK_SOFTMAX_BACKWARD:
        return tdm_cuda_softmax_backward_workspace(c->of.tokens / c->of.s, tdm_heads_of(&c->of).q,
                                                   c->of.s);
    case TDM_WORK_TOPK:
        return tdm_cuda_places_workspace(c->of.shard * routes->k, routes->n_experts);
    case TDM_WORK_GRAD_NORM:
        return tdm_cuda_squares_workspace();
    default:
        return 0;
    }
}
