/* model_hf_families.c: what each model_type of Hugging Face's config.json means by its keys.
 * Source: the classes LlamaConfig, MixtralConfig ... of the package transformers 4.57, and the
 * modules that use them. Several spell the same thing differently, and the same key differs in
 * meaning: intermediate_size is the width of one expert in mixtral and gpt_oss, that of the layers
 * without experts in qwen3_moe and deepseek. */
#include "model_hf_parts.h"

const tdm_hf_key tdm_hf_common_keys[] = {
    {"num_hidden_layers", "num_layers", true},
    {"hidden_size", "hidden_size", true},
    {"num_attention_heads", "num_attention_heads", true},
    {"vocab_size", "vocab_size", true},
    {"max_position_embeddings", "max_position_embeddings", false},
    {"attention_dropout", "attention_dropout", false},
    {NULL, NULL, false},
};

/* A key is needed where the class's default is a size of one certain model. */
static const tdm_hf_key llama_keys[] = {
    {"intermediate_size", "ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", false},
    {"head_dim", "kv_channels", false},
    {NULL, NULL, false},
};

static const tdm_hf_key grouped_keys[] = {
    {"intermediate_size", "ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {"head_dim", "kv_channels", false},
    {NULL, NULL, false},
};

static const tdm_hf_key qwen3_keys[] = {
    {"intermediate_size", "ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {"head_dim", "kv_channels", true},
    {NULL, NULL, false},
};

/* Newer files of any family may say num_local_experts. */
#define EXPERTS "num_local_experts num_experts n_routed_experts"
#define TOPK    "num_experts_per_tok experts_per_token"

static const tdm_hf_key mixtral_keys[] = {
    {"intermediate_size", "moe_ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {"head_dim", "kv_channels", false},
    {EXPERTS, "num_experts", true},
    {TOPK, "moe_router_topk", true},
    {NULL, NULL, false},
};

static const tdm_hf_key qwen3_moe_keys[] = {
    {"moe_intermediate_size", "moe_ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {"head_dim", "kv_channels", false},
    {EXPERTS, "num_experts", true},
    {TOPK, "moe_router_topk", true},
    {NULL, NULL, false},
};

static const tdm_hf_key gpt_oss_keys[] = {
    {"intermediate_size", "moe_ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {"head_dim", "kv_channels", true},
    {EXPERTS, "num_experts", true},
    {TOPK, "moe_router_topk", true},
    {NULL, NULL, false},
};

static const tdm_hf_key deepseek_keys[] = {
    {"moe_intermediate_size", "moe_ffn_hidden_size", true},
    {"num_key_value_heads", "num_query_groups", true},
    {EXPERTS, "num_experts", true},
    {TOPK, "moe_router_topk", true},
    {"first_k_dense_replace", "first_k_dense_replace", false},
    {"moe_layer_freq", "moe_layer_freq", false},
    {NULL, NULL, false},
};

#define LATENT "multi-head latent attention (MLA) is not supported"

const tdm_hf_family tdm_hf_families[] = {
    {.model_type = "llama", .keys = llama_keys, .has_mlp_bias = true},
    {.model_type = "mistral", .keys = grouped_keys, .has_windows = true},
    {.model_type = "mixtral", .keys = mixtral_keys, .has_windows = true},
    {.model_type = "qwen2", .keys = grouped_keys, .has_qkv_biases = true},
    {.model_type = "qwen3", .keys = qwen3_keys, .has_qk_norms = true},
    {.model_type = "qwen3_moe",
     .keys = qwen3_moe_keys,
     .has_qk_norms = true,
     .has_sparse_step = true,
     .dense_width = "intermediate_size"},
    {.model_type = "gpt_oss",
     .keys = gpt_oss_keys,
     .has_biases = true,
     .has_sinks = true,
     .has_windows = true},
    {.model_type = "deepseek",
     .keys = deepseek_keys,
     .dense_width = "intermediate_size",
     .shared_experts = "n_shared_experts"},
    {.model_type = "deepseek_v2", .refusal = LATENT},
    {.model_type = "deepseek_v3", .refusal = LATENT},
    {.model_type = "deepseek_v32", .refusal = LATENT},
    {.model_type = "kimi_k2", .refusal = LATENT},
    {.model_type = NULL},
};

const char *const tdm_hf_idle_keys[] = {
    "architectures",
    "attention_bias",
    "attn_implementation",
    "auto_map",
    "aux_loss_alpha",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_sparse_step",
    "decoder_start_token_id",
    "dtype",
    "eos_token_id",
    "ep_size",
    "finetuning_task",
    "hidden_act",
    "id2label",
    "initial_context_length",
    "initializer_range",
    "intermediate_size",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "layer_types",
    "max_window_layers",
    "mlp_bias",
    "mlp_only_layers",
    "model_type",
    "n_shared_experts",
    "norm_topk_prob",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "problem_type",
    "qkv_bias",
    "quantization_config",
    "return_dict",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "scoring_func",
    "sep_token_id",
    "seq_aux",
    "sliding_window",
    "swiglu_limit",
    "task_specific_params",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_cache",
    "use_qk_norm",
    "use_sliding_window",
};
const size_t tdm_hf_n_idle_keys = TDM_COUNT(tdm_hf_idle_keys);
