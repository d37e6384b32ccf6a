/* kernels.c: which kernel carries out which op. */
#include "parts.h"

#define PRODUCT(name, kind, run, weight, bias, way)                                                \
    {                                                                                              \
        name, kind, run, weight, bias, way, false                                                  \
    }
/* A linear layer: forward, gradient of the input, gradient of the weight. */
#define LINEAR(name, way)                                                                          \
    PRODUCT(name, TDM_OP_GEMM, host_linear, name, name ".bias", way),                              \
        PRODUCT(name ".dgrad", TDM_OP_GEMM, host_linear_dgrad, name, name ".bias", way),           \
        PRODUCT(name ".wgrad", TDM_OP_GEMM, host_linear_wgrad, name, name ".bias", way)
#define GROUPED(name, way)                                                                         \
    PRODUCT(name, TDM_OP_GROUPED_GEMM, host_grouped, name, name ".bias", way),                     \
        PRODUCT(name ".dgrad", TDM_OP_GROUPED_GEMM, host_grouped_dgrad, name, name ".bias", way),  \
        PRODUCT(name ".wgrad", TDM_OP_GROUPED_GEMM, host_grouped_wgrad, name, name ".bias", way)
#define MEMORY(name, run, weight)                                                                  \
    {                                                                                              \
        name, TDM_OP_MEMORY, run, weight, NULL, HOST_LOCAL, false                                  \
    }
#define CORE(name, run)                                                                            \
    {                                                                                              \
        name, TDM_OP_GEMM, run, NULL, NULL, HOST_LOCAL, false                                      \
    }
#define STEP(name, run)                                                                            \
    {                                                                                              \
        name, TDM_OP_MEMORY, run, NULL, NULL, HOST_LOCAL, true                                     \
    }

const host_kernel host_kernels[] = {
    /* ends */
    MEMORY("lookup", host_lookup, "words"),
    MEMORY("lookup.wgrad", host_lookup_wgrad, "words"),
    MEMORY("position", host_position, "positions"),
    MEMORY("position.wgrad", host_position_wgrad, "positions"),
    MEMORY("norm", host_norm, "norm"),
    MEMORY("norm.bwd", host_norm_backward, "norm"),
    PRODUCT("logits", TDM_OP_GEMM, host_logits, "words", NULL, HOST_COLUMNS),
    PRODUCT("logits.dgrad", TDM_OP_GEMM, host_logits_dgrad, "words", NULL, HOST_COLUMNS),
    PRODUCT("logits.wgrad", TDM_OP_GEMM, host_logits_wgrad, "words", NULL, HOST_COLUMNS),
    MEMORY("loss.max", host_loss_max, NULL),
    MEMORY("loss.exp", host_loss_exp, NULL),
    MEMORY("loss", host_loss, NULL),
    MEMORY("loss.bwd", host_loss_backward, NULL),
    /* both halves of a layer */
    MEMORY("norm1", host_norm, "norm1"),
    MEMORY("norm1.bwd", host_norm_backward, "norm1"),
    MEMORY("norm2", host_norm, "norm2"),
    MEMORY("norm2.bwd", host_norm_backward, "norm2"),
    MEMORY("add1", host_add, NULL),
    MEMORY("add1.bwd", host_add_backward, NULL),
    MEMORY("add2", host_add, NULL),
    MEMORY("add2.bwd", host_add_backward, NULL),
    /* attention */
    LINEAR("qkv", HOST_COLUMNS),
    LINEAR("proj", HOST_ROWS),
    MEMORY("qk.norm", host_qk_norm, NULL),
    MEMORY("qk.norm.bwd", host_qk_norm_backward, NULL),
    MEMORY("rope", host_rope, NULL),
    MEMORY("rope.bwd", host_rope_backward, NULL),
    {"attention", TDM_OP_ATTENTION, host_attention, NULL, NULL, HOST_LOCAL, false},
    {"attention.bwd", TDM_OP_ATTENTION_BACKWARD, host_attention_backward, NULL, NULL, HOST_LOCAL,
     false},
    CORE("scores", host_scores),
    MEMORY("softmax", host_softmax, NULL),
    MEMORY("weights.dropout", host_weights_dropout, NULL),
    CORE("context", host_context),
    CORE("context.dweights", host_context_dweights),
    CORE("context.dv", host_context_dv),
    MEMORY("weights.dropout.bwd", host_weights_dropout_backward, NULL),
    MEMORY("softmax.bwd", host_softmax_backward, NULL),
    CORE("scores.dq", host_scores_dq),
    CORE("scores.dk", host_scores_dk),
    /* MLP, experts, shared experts */
    LINEAR("fc1", HOST_COLUMNS),
    LINEAR("fc2", HOST_ROWS),
    MEMORY("activation", host_activation, NULL),
    MEMORY("activation.bwd", host_activation_backward, NULL),
    LINEAR("gate", HOST_LOCAL),
    MEMORY("topk", host_topk, NULL),
    MEMORY("topk.bwd", host_topk_backward, NULL),
    MEMORY("permute", host_permute, NULL),
    MEMORY("permute.bwd", host_permute_backward, NULL),
    MEMORY("sort", host_sort, NULL),
    MEMORY("sort.bwd", host_unsort, NULL),
    GROUPED("fc1", HOST_COLUMNS),
    GROUPED("fc2", HOST_ROWS),
    MEMORY("unsort", host_unsort, NULL),
    MEMORY("unsort.bwd", host_sort, NULL),
    MEMORY("unpermute", host_unpermute, NULL),
    MEMORY("unpermute.bwd", host_unpermute_backward, NULL),
    LINEAR("shared.fc1", HOST_COLUMNS),
    LINEAR("shared.fc2", HOST_ROWS),
    MEMORY("shared.activation", host_activation, NULL),
    MEMORY("shared.activation.bwd", host_activation_backward, NULL),
    MEMORY("shared.add", host_sum, NULL),
    MEMORY("shared.dadd", host_sum, NULL),
    /* the step */
    STEP("norm", host_grad_norm),
    STEP("adam", host_adam),
    {0},
};
