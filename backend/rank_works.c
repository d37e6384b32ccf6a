/* rank_works.c: which op is which work. */
#include "../core/rates.h"
#include "rank.h"

#include <string.h>

#define PRODUCT(name, kind, run, weight, bias, way)                                                \
    {                                                                                              \
        name, kind, run, weight, bias, way, false                                                  \
    }
/* A linear layer: forward, gradient of the input, gradient of the weight. */
#define LINEAR(name, way)                                                                          \
    PRODUCT(name, TDM_OP_GEMM, TDM_WORK_LINEAR, name, name ".bias", way),                          \
        PRODUCT(name ".dgrad", TDM_OP_GEMM, TDM_WORK_LINEAR_DGRAD, name, name ".bias", way),       \
        PRODUCT(name ".wgrad", TDM_OP_GEMM, TDM_WORK_LINEAR_WGRAD, name, name ".bias", way)
#define GROUPED(name, way)                                                                         \
    PRODUCT(name, TDM_OP_GROUPED_GEMM, TDM_WORK_GROUPED, name, name ".bias", way),                 \
        PRODUCT(name ".dgrad", TDM_OP_GROUPED_GEMM, TDM_WORK_GROUPED_DGRAD, name, name ".bias",    \
                way),                                                                              \
        PRODUCT(name ".wgrad", TDM_OP_GROUPED_GEMM, TDM_WORK_GROUPED_WGRAD, name, name ".bias",    \
                way)
#define MEMORY(name, run, weight)                                                                  \
    {                                                                                              \
        name, TDM_OP_MEMORY, run, weight, NULL, TDM_WAY_LOCAL, false                               \
    }
#define CORE(name, run)                                                                            \
    {                                                                                              \
        name, TDM_OP_GEMM, run, NULL, NULL, TDM_WAY_LOCAL, false                                   \
    }
#define STEP(name, run)                                                                            \
    {                                                                                              \
        name, TDM_OP_MEMORY, run, NULL, NULL, TDM_WAY_LOCAL, true                                  \
    }

static const tdm_work works[] = {
    /* ends */
    MEMORY("lookup", TDM_WORK_LOOKUP, "words"),
    MEMORY("lookup.wgrad", TDM_WORK_LOOKUP_WGRAD, "words"),
    MEMORY("position", TDM_WORK_POSITION, "positions"),
    MEMORY("position.wgrad", TDM_WORK_POSITION_WGRAD, "positions"),
    MEMORY("norm", TDM_WORK_NORM, "norm"),
    MEMORY("norm.bwd", TDM_WORK_NORM_BACKWARD, "norm"),
    PRODUCT("logits", TDM_OP_GEMM, TDM_WORK_LOGITS, "words", NULL, TDM_WAY_COLUMNS),
    PRODUCT("logits.dgrad", TDM_OP_GEMM, TDM_WORK_LOGITS_DGRAD, "words", NULL, TDM_WAY_COLUMNS),
    PRODUCT("logits.wgrad", TDM_OP_GEMM, TDM_WORK_LOGITS_WGRAD, "words", NULL, TDM_WAY_COLUMNS),
    MEMORY("loss.max", TDM_WORK_LOSS_MAX, NULL),
    MEMORY("loss.exp", TDM_WORK_LOSS_EXP, NULL),
    MEMORY("loss", TDM_WORK_LOSS, NULL),
    MEMORY("loss.bwd", TDM_WORK_LOSS_BACKWARD, NULL),
    /* both halves of a layer */
    MEMORY("norm1", TDM_WORK_NORM, "norm1"),
    MEMORY("norm1.bwd", TDM_WORK_NORM_BACKWARD, "norm1"),
    MEMORY("norm2", TDM_WORK_NORM, "norm2"),
    MEMORY("norm2.bwd", TDM_WORK_NORM_BACKWARD, "norm2"),
    MEMORY("add1", TDM_WORK_ADD, NULL),
    MEMORY("add1.bwd", TDM_WORK_ADD_BACKWARD, NULL),
    MEMORY("add2", TDM_WORK_ADD, NULL),
    MEMORY("add2.bwd", TDM_WORK_ADD_BACKWARD, NULL),
    /* attention */
    LINEAR("qkv", TDM_WAY_COLUMNS),
    LINEAR("proj", TDM_WAY_ROWS),
    MEMORY("qk.norm", TDM_WORK_QK_NORM, NULL),
    MEMORY("qk.norm.bwd", TDM_WORK_QK_NORM_BACKWARD, NULL),
    MEMORY("rope", TDM_WORK_ROPE, NULL),
    MEMORY("rope.bwd", TDM_WORK_ROPE_BACKWARD, NULL),
    {"attention", TDM_OP_ATTENTION, TDM_WORK_ATTENTION, NULL, NULL, TDM_WAY_LOCAL, false},
    {"attention.bwd", TDM_OP_ATTENTION_BACKWARD, TDM_WORK_ATTENTION_BACKWARD, NULL, NULL,
     TDM_WAY_LOCAL, false},
    CORE("scores", TDM_WORK_SCORES),
    MEMORY("softmax", TDM_WORK_SOFTMAX, NULL),
    MEMORY("weights.dropout", TDM_WORK_WEIGHTS_DROPOUT, NULL),
    CORE("context", TDM_WORK_CONTEXT),
    CORE("context.dweights", TDM_WORK_CONTEXT_DWEIGHTS),
    CORE("context.dv", TDM_WORK_CONTEXT_DV),
    MEMORY("weights.dropout.bwd", TDM_WORK_WEIGHTS_DROPOUT_BACKWARD, NULL),
    MEMORY("softmax.bwd", TDM_WORK_SOFTMAX_BACKWARD, NULL),
    CORE("scores.dq", TDM_WORK_SCORES_DQ),
    CORE("scores.dk", TDM_WORK_SCORES_DK),
    /* MLP, experts, shared experts */
    LINEAR("fc1", TDM_WAY_COLUMNS),
    LINEAR("fc2", TDM_WAY_ROWS),
    MEMORY("activation", TDM_WORK_ACTIVATION, NULL),
    MEMORY("activation.bwd", TDM_WORK_ACTIVATION_BACKWARD, NULL),
    LINEAR("gate", TDM_WAY_LOCAL),
    MEMORY("topk", TDM_WORK_TOPK, NULL),
    MEMORY("topk.bwd", TDM_WORK_TOPK_BACKWARD, NULL),
    MEMORY("permute", TDM_WORK_PERMUTE, NULL),
    MEMORY("permute.bwd", TDM_WORK_PERMUTE_BACKWARD, NULL),
    MEMORY("sort", TDM_WORK_SORT, NULL),
    MEMORY("sort.bwd", TDM_WORK_UNSORT, NULL),
    GROUPED("fc1", TDM_WAY_COLUMNS),
    GROUPED("fc2", TDM_WAY_ROWS),
    MEMORY("unsort", TDM_WORK_UNSORT, NULL),
    MEMORY("unsort.bwd", TDM_WORK_SORT, NULL),
    MEMORY("unpermute", TDM_WORK_UNPERMUTE, NULL),
    MEMORY("unpermute.bwd", TDM_WORK_UNPERMUTE_BACKWARD, NULL),
    LINEAR("shared.fc1", TDM_WAY_COLUMNS),
    LINEAR("shared.fc2", TDM_WAY_ROWS),
    MEMORY("shared.activation", TDM_WORK_ACTIVATION, NULL),
    MEMORY("shared.activation.bwd", TDM_WORK_ACTIVATION_BACKWARD, NULL),
    MEMORY("shared.add", TDM_WORK_SUM, NULL),
    MEMORY("shared.dadd", TDM_WORK_SUM, NULL),
    /* the step */
    STEP("norm", TDM_WORK_GRAD_NORM),
    STEP("adam", TDM_WORK_ADAM),
    {0},
};

const tdm_work *tdm_work_of(const tdm_instance *in)
{
    size_t n = tdm_op_plain_length(in->op);
    bool optimizer = in->pass.kind == TDM_PASS_O;
    for (const tdm_work *w = works; w->name; w++)
        if (w->kind == in->op->kind && w->optimizer == optimizer && strlen(w->name) == n &&
            strncmp(w->name, in->op->name, n) == 0)
            return w;
    return NULL;
}

static tdm_code check_template(const tdm_template *ops, const tdm_kind *kind, tdm_pass_kind pass,
                               const char *device, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < ops->n_ops; i++) {
        tdm_instance in = {.op = &ops->ops[i], .kind = kind, .pass = {.kind = pass}};
        if (!tdm_op_is_comm(in.op) && !tdm_work_of(&in))
            code = tdm_error_add(
                err, TDM_E_INVALID, "the %s device has no kernel for %s '%s' of %s", device,
                tdm_op_kind_name(in.op->kind), in.op->name, kind ? kind->name : "the step");
    }
    return code;
}

tdm_code tdm_works_check(const tdm_plan *plan, const char *device, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            if (check_template(&plan->kinds[k].templates[p], &plan->kinds[k], (tdm_pass_kind)p,
                               device, err) != TDM_OK)
                code = TDM_E_INVALID;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        if (check_template(&plan->roles[r].optimizer, NULL, TDM_PASS_O, device, err) != TDM_OK)
            code = TDM_E_INVALID;
    return code;
}
