/* model.h: the transformer that a scenario trains, its dtypes, and its parameter count.
 * Paper letters, used everywhere: b micro-batch, s sequence length, h hidden size, a heads,
 * v vocabulary, L layers; t tensor, p pipeline, d data, c context, e expert parallel size; m
 * microbatches. */
#ifndef TDM_MODEL_H
#define TDM_MODEL_H

#include "base.h"

typedef enum tdm_dtype { TDM_DTYPE_BF16, TDM_DTYPE_FP16, TDM_DTYPE_FP32, TDM_N_DTYPES } tdm_dtype;
typedef enum tdm_norm { TDM_NORM_LAYER, TDM_NORM_RMS } tdm_norm;
typedef enum tdm_position {
    TDM_POSITION_NONE,
    TDM_POSITION_LEARNED,
    TDM_POSITION_ROPE
} tdm_position;
/* fused: flash attention, nothing of size s*s is stored. unfused: scores, softmax and dropout are.
 */
typedef enum tdm_attention { TDM_ATTENTION_FUSED, TDM_ATTENTION_UNFUSED } tdm_attention;

typedef struct tdm_model {
    const char *name;
    uint32_t num_layers;
    uint32_t hidden_size;
    uint32_t num_attention_heads;
    uint32_t num_query_groups; /* key/value heads; equals num_attention_heads without GQA */
    uint32_t kv_channels;      /* size of one head */
    uint32_t ffn_hidden_size;  /* dense MLP; unused when every layer has experts */
    uint32_t num_experts;      /* 0: dense model */
    uint32_t moe_router_topk;
    uint32_t moe_ffn_hidden_size;                 /* of one expert */
    uint32_t moe_shared_expert_intermediate_size; /* of all shared experts together; 0: none */
    /* Which layers have experts, tdm_model_layer_has_experts: the first ones have none, of the rest
     * those whose index is moe_layer_offset modulo moe_layer_freq (0 and 1: all). */
    uint32_t first_k_dense_replace;
    uint32_t moe_layer_freq;
    uint32_t moe_layer_offset;
    uint32_t vocab_size;
    uint32_t max_position_embeddings; /* rows of a learned position table */
    bool swiglu;                      /* gated: three matrices in an MLP or expert instead of two */
    bool add_bias_linear;             /* biases in all linear layers, router and experts included */
    bool add_attention_bias;          /* biases of query, key, value and output projection alone */
    bool add_qkv_bias;                /* biases of query, key and value alone */
    bool qk_layernorm;                /* norms of each head's query and key, kv_channels wide */
    bool attention_sinks;             /* a learned sink in each head's softmax */
    bool untie_embeddings;            /* false: the head shares the embedding's matrix */
    uint32_t window_size; /* tokens that windowed layers attend to, for notes; 0: no windows */
    tdm_norm norm;
    tdm_position position;
    tdm_attention attention;
    double hidden_dropout;
    double attention_dropout;
} tdm_model;

/* Bytes of one element. */
uint32_t tdm_dtype_bytes(tdm_dtype dtype);
const char *tdm_dtype_name(tdm_dtype dtype);

/* Whether a layer (from 0) has experts instead of a dense MLP; how many have. */
bool tdm_model_layer_has_experts(const tdm_model *model, uint32_t layer);
uint32_t tdm_model_n_expert_layers(const tdm_model *model);

/* Number of parameters: of the layers alone, and with embeddings, final norm and head. */
uint64_t tdm_model_layer_params(const tdm_model *model);
uint64_t tdm_model_params(const tdm_model *model);
/* Parameters that one token passes: all but the experts it is not routed to. The embedding counts
 * in full; some publishers leave it out, since a token reads one row of it. */
uint64_t tdm_model_active_params(const tdm_model *model);

#endif
