/* model_load.c: the keys of a model, its defaults, and whether its numbers go together. */
#include "model_load.h"

#include "model_hf.h"

#include <string.h>

static const tdm_choice norm_choices[] = {
    {"LayerNorm", TDM_NORM_LAYER, false},
    {"RMSNorm", TDM_NORM_RMS, false},
    {NULL, 0, false},
};

static const tdm_choice position_choices[] = {
    {"learned_absolute", TDM_POSITION_LEARNED, false},
    {"rope", TDM_POSITION_ROPE, false},
    {"none", TDM_POSITION_NONE, false},
    {NULL, 0, false},
};

static const tdm_choice softmax_choices[] = {
    {"vanilla", false, false},
    {"learnable", true, false},
    {NULL, 0, false},
};

static const tdm_choice attention_choices[] = {
    {"fused", TDM_ATTENTION_FUSED, false},
    {"unfused", TDM_ATTENTION_UNFUSED, false},
    {"flash", TDM_ATTENTION_FUSED, true},
    {NULL, 0, false},
};

#define SIZE(key_, member, aliases_, min_, max_, doc_)                                             \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_UINT32,                                \
        .offset = offsetof(tdm_model_source, model.member), .min = min_, .max = max_, .doc = doc_  \
    }
#define NEEDED(key_, member, aliases_, max_, doc_)                                                 \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_UINT32,                                \
        .offset = offsetof(tdm_model_source, model.member), .required = true, .min = 1,            \
        .max = max_, .doc = doc_                                                                   \
    }
#define TEXT(key_, member, doc_)                                                                   \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_TEXT, .offset = offsetof(tdm_model_source, member),         \
        .doc = doc_                                                                                \
    }
#define FLAG(key_, member, aliases_, doc_)                                                         \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_BOOL,                                  \
        .offset = offsetof(tdm_model_source, model.member), .doc = doc_                            \
    }
#define CHOICE(key_, member, aliases_, choices_, doc_)                                             \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_CHOICE,                                \
        .offset = offsetof(tdm_model_source, model.member), .choices = choices_, .doc = doc_       \
    }
#define RATE(key_, member, aliases_, doc_)                                                         \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_NUMBER, .unit = TDM_UNIT_SHARE,        \
        .offset = offsetof(tdm_model_source, model.member), .min = 0, .max = 1, .doc = doc_        \
    }

/* Aliases are Hugging Face's config.json keys where they mean the same. The limits only keep
 * products within 64 bits. */
const tdm_field tdm_model_fields[] = {
    TEXT("base", base, "name of the model whose values hold where this map is silent"),
    TEXT("hf", hf, "the same as base, of a Hugging Face config.json"),
    TEXT("name", model.name, "what reports call the model"),
    TEXT("description", description, "one line for people"),
    TEXT("source", source, "where the numbers come from"),
    NEEDED("num_layers", num_layers, "num_hidden_layers n_layers", 65536,
           "number of transformer layers"),
    NEEDED("hidden_size", hidden_size, NULL, 1048576, "width of the residual stream"),
    NEEDED("num_attention_heads", num_attention_heads, "n_heads", 65536, "query heads"),
    SIZE("num_query_groups", num_query_groups, "num_key_value_heads", 1, 65536,
         "key/value heads (default: one per query head)"),
    SIZE("kv_channels", kv_channels, "head_dim", 1, 65536,
         "size of one head (default: hidden_size / num_attention_heads)"),
    SIZE("ffn_hidden_size", ffn_hidden_size, "intermediate_size", 1, 16777216,
         "inner width of the dense MLP"),
    SIZE("num_experts", num_experts, "num_local_experts n_routed_experts", 0, 65536,
         "experts per layer (default 0: a dense model)"),
    SIZE("moe_router_topk", moe_router_topk, "num_experts_per_tok experts_per_token", 1, 65536,
         "experts each token goes to"),
    SIZE("moe_ffn_hidden_size", moe_ffn_hidden_size, "moe_intermediate_size", 1, 16777216,
         "inner width of one expert"),
    SIZE("moe_shared_expert_intermediate_size", moe_shared_expert_intermediate_size, NULL, 0,
         16777216, "inner width of all shared experts together (default 0: none)"),
    SIZE("first_k_dense_replace", first_k_dense_replace, NULL, 0, 65536,
         "so many layers at the start have a dense MLP instead of experts (default 0)"),
    SIZE("moe_layer_freq", moe_layer_freq, NULL, 1, 65536,
         "of the other layers every so many-th has experts (default 1: all)"),
    SIZE("moe_layer_offset", moe_layer_offset, NULL, 0, 65535,
         "index modulo moe_layer_freq of the layers with experts (default 0)"),
    NEEDED("vocab_size", vocab_size, "padded_vocab_size", 67108864, "words in the vocabulary"),
    SIZE("max_position_embeddings", max_position_embeddings, NULL, 1, 67108864,
         "rows of the position table"),
    FLAG("swiglu", swiglu, NULL, "gated MLP: three matrices instead of two"),
    FLAG("add_bias_linear", add_bias_linear, NULL, "biases in the linear layers"),
    FLAG("add_attention_bias", add_attention_bias, "attention_bias",
         "biases in the attention's projections alone"),
    FLAG("add_qkv_bias", add_qkv_bias, NULL, "biases of query, key and value alone"),
    FLAG("qk_layernorm", qk_layernorm, "qk_norm", "norms of query and key in each head"),
    {.key = "softmax_type",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(tdm_model_source, softmax),
     .choices = softmax_choices,
     .doc = "learnable: a learned sink in each head's softmax"},
    SIZE("window_size", window_size, "sliding_window", 1, 67108864,
         "tokens that layers with a window attend to"),
    FLAG("untie_embeddings_and_output_weights", untie_embeddings, "untie_embeddings",
         "the head has its own matrix"),
    CHOICE("normalization", norm, "norm", norm_choices, "kind of norm"),
    CHOICE("position_embedding_type", position, "position", position_choices,
           "how positions enter"),
    CHOICE("attention_backend", attention, "attention", attention_choices,
           "fused stores nothing of size s x s"),
    RATE("hidden_dropout", hidden_dropout, NULL, "dropout after attention and MLP"),
    RATE("attention_dropout", attention_dropout, NULL, "dropout on the attention probabilities"),
    {.key = NULL},
};

static bool given(const tdm_node *map, const char *key)
{
    return tdm_node_child(map, key) != NULL;
}

/* Source: Megatron-LM, arguments.py: 4h, and for SwiGLU two thirds of it in multiples of 64. */
static uint32_t default_ffn(const tdm_model *model)
{
    uint64_t wide = 4ull * model->hidden_size;
    return (uint32_t)(model->swiglu ? wide * 2 / 3 / 64 * 64 : wide);
}

static void check_heads(const tdm_node *map, tdm_model *m, tdm_error *err)
{
    if (!given(map, "num_query_groups"))
        m->num_query_groups = m->num_attention_heads;
    if (m->num_attention_heads % m->num_query_groups != 0)
        tdm_node_error_at(map, "num_query_groups", err, "%u does not divide the %u heads",
                          m->num_query_groups, m->num_attention_heads);
    if (!given(map, "kv_channels") && m->hidden_size % m->num_attention_heads != 0)
        tdm_node_error_at(
            map, "num_attention_heads", err,
            "%u does not divide hidden_size %u; if a head has another size, say kv_channels",
            m->num_attention_heads, m->hidden_size);
    else if (!given(map, "kv_channels"))
        m->kv_channels = m->hidden_size / m->num_attention_heads;
}

/* Which layers have experts: there must be one, and the others need their own width. */
static void check_expert_layers(const tdm_node *map, const tdm_model *m, tdm_error *err)
{
    if (m->moe_layer_offset != 0 && m->moe_layer_offset >= m->moe_layer_freq) {
        tdm_node_error_at(map, "moe_layer_offset", err, "%u: expected less than moe_layer_freq",
                          m->moe_layer_offset);
        return;
    }
    uint32_t n_dense = m->num_layers - tdm_model_n_expert_layers(m);
    bool wide = given(map, "ffn_hidden_size");
    if (n_dense == m->num_layers)
        tdm_node_error_at(
            map, given(map, "first_k_dense_replace") ? "first_k_dense_replace" : "moe_layer_offset",
            err, "leaves none of the %u layers with experts", m->num_layers);
    else if (n_dense > 0 && !wide)
        tdm_node_error_at(map, "ffn_hidden_size", err,
                          "missing: inner width of the dense MLP in the %u layers without experts",
                          n_dense);
    else if (n_dense == 0 && wide)
        tdm_node_error_at(
            map, "ffn_hidden_size", err,
            "is the width of a dense MLP, and every layer of this model has experts: say "
            "moe_ffn_hidden_size");
}

static void check_experts(const tdm_node *map, const tdm_model *m, tdm_error *err)
{
    if (!given(map, "moe_router_topk"))
        tdm_node_error_at(map, "moe_router_topk", err, "missing: experts each token goes to");
    else if (m->moe_router_topk > m->num_experts)
        tdm_node_error_at(map, "moe_router_topk", err, "%u is more than the %u experts",
                          m->moe_router_topk, m->num_experts);
    if (!given(map, "moe_ffn_hidden_size"))
        tdm_node_error_at(map, "moe_ffn_hidden_size", err, "missing: inner width of one expert");
    check_expert_layers(map, m, err);
    /* Few models with experts have biases, and Megatron's default is true: too costly to guess. */
    if (!given(map, "add_bias_linear"))
        tdm_node_error_at(map, "add_bias_linear", err,
                          "missing, and its default is true: write false, or true when router and "
                          "experts have biases");
}

static void check_dense(const tdm_node *map, tdm_model *m, tdm_error *err)
{
    static const char *const keys[] = {
        "moe_router_topk",       "moe_ffn_hidden_size", "moe_shared_expert_intermediate_size",
        "first_k_dense_replace", "moe_layer_freq",      "moe_layer_offset"};
    for (size_t i = 0; i < TDM_COUNT(keys); i++)
        if (given(map, keys[i]))
            tdm_node_error_at(map, keys[i], err, "needs num_experts of at least 1");
    if (!given(map, "ffn_hidden_size"))
        m->ffn_hidden_size = default_ffn(m);
    if (m->ffn_hidden_size == 0)
        tdm_node_error_at(map, "ffn_hidden_size", err,
                          "missing: the default, two thirds of 4 x %u in multiples of 64, is 0",
                          m->hidden_size);
}

/* More is no model but a slip, and would not fit the arithmetic that follows. */
static void check_size(const tdm_node *map, const tdm_model *m, tdm_error *err)
{
    const double limit = 1e15;
    double h = m->hidden_size;
    double experts = (double)m->num_experts * (3.0 * m->moe_ffn_hidden_size + 1);
    double mlp = 3.0 * ((double)m->ffn_hidden_size + m->moe_shared_expert_intermediate_size);
    double attention = (2.0 * m->num_attention_heads + 2.0 * m->num_query_groups) * m->kv_channels;
    double params = m->num_layers * h * (attention + experts + mlp) +
                    h * (2.0 * m->vocab_size + m->max_position_embeddings);
    if (params > limit)
        tdm_node_error(map, err, "about %.0e parameters; at most %.0e are accepted", params, limit);
}

static void check_model(const tdm_node *map, tdm_model *m, tdm_error *err)
{
    check_heads(map, m, err);
    if (m->num_experts > 0)
        check_experts(map, m, err);
    else
        check_dense(map, m, err);
    if (m->position == TDM_POSITION_LEARNED && !given(map, "max_position_embeddings"))
        tdm_node_error_at(map, "max_position_embeddings", err,
                          "missing: a learned position table needs its number of rows");
    check_size(map, m, err);
}

tdm_code tdm_model_read(tdm_arena *arena, tdm_node *map, const char *name, tdm_model *model,
                        tdm_error *err)
{
    tdm_error *all = err ? err : TDM_ALLOC(arena, tdm_error, 1);
    unsigned before = all->n_messages;
    tdm_model_source read = {.model = {.name = name,
                                       .add_bias_linear = true,
                                       .norm = TDM_NORM_LAYER,
                                       .position = TDM_POSITION_LEARNED,
                                       .attention = TDM_ATTENTION_FUSED,
                                       .hidden_dropout = 0.1,
                                       .attention_dropout = 0.1}};
    if (tdm_schema_load(arena, tdm_model_fields, map, &read, all) != TDM_OK)
        return TDM_E_INVALID;
    if (read.base || read.hf)
        tdm_node_error_at(map, read.base ? "base" : "hf", all,
                          "a model file stands alone; only a scenario's model may have a base");
    read.model.attention_sinks = read.softmax;
    check_model(map, &read.model, all);
    if (all->n_messages > before)
        return TDM_E_INVALID;
    *model = read.model;
    return TDM_OK;
}

tdm_code tdm_model_load(tdm_arena *arena, const char *path, tdm_model *model, tdm_error *err)
{
    tdm_node *map;
    const char *name;
    tdm_code code = tdm_model_document(arena, path, &map, &name, NULL, err);
    if (code != TDM_OK)
        return code;
    return tdm_model_read(arena, map, name, model, err);
}
