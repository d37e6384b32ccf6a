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

/* A layer norm has a scale and a shift, an RMS norm only a scale. */
static uint64_t norm_params(const tdm_model *model)
{
    return (model->norm == TDM_NORM_LAYER ? 2u : 1u) * (uint64_t)model->hidden_size;
}

/* Query, key and value projections, and the output projection. */
static uint64_t attention_params(const tdm_model *model)
{
    uint64_t h = model->hidden_size;
    uint64_t heads = (uint64_t)model->num_attention_heads * model->kv_channels;
    uint64_t qkv = heads + 2ull * model->num_query_groups * model->kv_channels;
    return h * qkv + heads * h + (model->add_bias_linear ? qkv + h : 0);
}

/* One MLP or expert of inner size f: two matrices, three when gated. */
static uint64_t mlp_params(const tdm_model *model, uint64_t f)
{
    uint64_t h = model->hidden_size, columns = (model->swiglu ? 2u : 1u) * f;
    return h * columns + f * h + (model->add_bias_linear ? columns + h : 0);
}

uint64_t tdm_model_layer_params(const tdm_model *model)
{
    uint64_t layer = attention_params(model) + 2 * norm_params(model);
    if (model->num_experts > 0)
        layer += (uint64_t)model->hidden_size * model->num_experts +
                 model->num_experts * mlp_params(model, model->moe_ffn_hidden_size);
    else
        layer += mlp_params(model, model->ffn_hidden_size);
    return layer * model->num_layers;
}

uint64_t tdm_model_params(const tdm_model *model)
{
    uint64_t words = (uint64_t)model->vocab_size * model->hidden_size;
    uint64_t positions = model->position == TDM_POSITION_LEARNED
                             ? (uint64_t)model->max_position_embeddings * model->hidden_size
                             : 0;
    return tdm_model_layer_params(model) + words * (model->untie_embeddings ? 2 : 1) + positions +
           norm_params(model);
}
