/* model.c: dtypes, and the number of parameters of a model. */
#include "model.h"

#include <assert.h>

uint32_t tdm_dtype_bytes(tdm_dtype dtype)
{
    assert((unsigned)dtype < TDM_N_DTYPES);
    return dtype == TDM_DTYPE_FP32 ? 4 : 2;
}

const char *tdm_dtype_name(tdm_dtype dtype)
{
    static const char *const names[TDM_N_DTYPES] = {
        [TDM_DTYPE_BF16] = "bf16", [TDM_DTYPE_FP16] = "fp16", [TDM_DTYPE_FP32] = "fp32"};
    assert((unsigned)dtype < TDM_N_DTYPES);
    return names[dtype];
}

bool tdm_model_layer_has_experts(const tdm_model *model, uint32_t layer)
{
    if (model->num_experts == 0 || layer < model->first_k_dense_replace)
        return false;
    uint32_t every = model->moe_layer_freq;
    return every <= 1 || layer % every == model->moe_layer_offset;
}

uint32_t tdm_model_n_expert_layers(const tdm_model *model)
{
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < model->num_layers; layer++)
        n += tdm_model_layer_has_experts(model, layer);
    return n;
}

/* A norm of n elements: a layer norm has a scale and a shift, an RMS norm only a scale. */
static uint64_t norm_params(const tdm_model *model, uint64_t n)
{
    return (model->norm == TDM_NORM_LAYER ? 2u : 1u) * n;
}

/* Query, key and value projections, the output projection, and what small vectors go with them. */
static uint64_t attention_params(const tdm_model *model)
{
    uint64_t h = model->hidden_size;
    uint64_t heads = (uint64_t)model->num_attention_heads * model->kv_channels;
    uint64_t qkv = heads + 2ull * model->num_query_groups * model->kv_channels;
    bool all = model->add_bias_linear || model->add_attention_bias;
    uint64_t vectors = (all || model->add_qkv_bias ? qkv : 0) + (all ? h : 0);
    if (model->qk_layernorm)
        vectors += 2 * norm_params(model, model->kv_channels);
    if (model->attention_sinks)
        vectors += model->num_attention_heads;
    return h * qkv + heads * h + vectors;
}

/* One MLP or expert of inner size f: two matrices, three when gated. */
static uint64_t mlp_params(const tdm_model *model, uint64_t f)
{
    uint64_t h = model->hidden_size, columns = (model->swiglu ? 2u : 1u) * f;
    return h * columns + f * h + (model->add_bias_linear ? columns + h : 0);
}

/* The second half of all layers; of the routed experts, n in each layer. */
static uint64_t feed_forward_params(const tdm_model *model, uint64_t n)
{
    uint64_t with = tdm_model_n_expert_layers(model), without = model->num_layers - with;
    uint64_t router = ((uint64_t)model->hidden_size + model->add_bias_linear) * model->num_experts;
    uint64_t shared = model->moe_shared_expert_intermediate_size;
    uint64_t moe = router + n * mlp_params(model, model->moe_ffn_hidden_size) +
                   (shared ? mlp_params(model, shared) : 0);
    return with * moe + (without ? without * mlp_params(model, model->ffn_hidden_size) : 0);
}

static uint64_t layer_params(const tdm_model *model, uint64_t n_experts)
{
    uint64_t common = attention_params(model) + 2 * norm_params(model, model->hidden_size);
    return common * model->num_layers + feed_forward_params(model, n_experts);
}

static uint64_t end_params(const tdm_model *model)
{
    uint64_t words = (uint64_t)model->vocab_size * model->hidden_size;
    uint64_t positions = model->position == TDM_POSITION_LEARNED
                             ? (uint64_t)model->max_position_embeddings * model->hidden_size
                             : 0;
    return words * (model->untie_embeddings ? 2 : 1) + positions +
           norm_params(model, model->hidden_size);
}

uint64_t tdm_model_layer_params(const tdm_model *model)
{
    return layer_params(model, model->num_experts);
}

uint64_t tdm_model_params(const tdm_model *model)
{
    return layer_params(model, model->num_experts) + end_params(model);
}

uint64_t tdm_model_active_params(const tdm_model *model)
{
    uint32_t chosen = model->num_experts ? model->moe_router_topk : 0;
    return layer_params(model, chosen) + end_params(model);
}
