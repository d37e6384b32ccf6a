/* model_hf_layers.c: what differs between the layers of a config.json: attention windows, and
 * which layers have experts. */
#include "model_hf_parts.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LAYERS = 65536, MAX_WIDTH = 16777216 }; /* as in model_load.c */

static void put_number(tdm_hf_reader *reader, const char *native, const tdm_node *place,
                       uint32_t value)
{
    char text[16];
    snprintf(text, sizeof text, "%u", value);
    tdm_hf_put(reader, native, place, text);
}

/* Checks layer_types; true when some layer has a window. Other kinds of attention have other
 * parameters. */
static bool read_layer_types(tdm_hf_reader *reader, const tdm_node *types)
{
    uint32_t n_layers = types->n_children;
    bool windows = false;
    char quoted[TDM_QUOTE_SIZE];
    tdm_hf_number(reader, "num_hidden_layers", 0, MAX_LAYERS, &n_layers);
    if (types->kind != TDM_NODE_LIST || types->n_children != n_layers) {
        tdm_node_error(types, reader->err,
                       "%u entries: expected a list of one for each of the %u "
                       "layers",
                       types->n_children, n_layers);
        return false;
    }
    for (const tdm_node *type = types->first; type; type = type->next) {
        bool text = type->kind == TDM_NODE_SCALAR;
        bool window = text && strcmp(type->text, "sliding_attention") == 0;
        windows |= window;
        if (!window && !(text && strcmp(type->text, "full_attention") == 0))
            tdm_node_error(type, reader->err, "%s: expected full_attention or sliding_attention",
                           text ? tdm_node_quote(quoted, type->text) : "no text");
    }
    return windows;
}

/* Windows change no parameter; the size is kept so that a scenario can say they are not modelled.
 */
void tdm_hf_read_windows(tdm_hf_reader *reader)
{
    bool used = reader->family->has_windows;
    uint32_t size = 0;
    const tdm_node *types = tdm_hf_get(reader, "layer_types");
    tdm_hf_flag(reader, "use_sliding_window", &used);
    if (types)
        used = read_layer_types(reader, types);
    if (!used || !tdm_hf_get(reader, "sliding_window"))
        return;
    if (tdm_hf_number(reader, "sliding_window", 1, 67108864, &size))
        put_number(reader, "window_size", tdm_hf_get(reader, "sliding_window"), size);
}

/* Sets the layers that mlp_only_layers names to 0. */
static void clear_dense_layers(tdm_hf_reader *reader, const tdm_node *list, unsigned char *experts,
                               uint32_t n_layers)
{
    const tdm_field index = {
        .key = "mlp_only_layers", .type = TDM_FIELD_UINT32, .max = n_layers - 1.0};
    if (list->kind != TDM_NODE_LIST) {
        tdm_node_error(list, reader->err, "expected a list of layers");
        return;
    }
    for (const tdm_node *item = list->first; item; item = item->next) {
        uint32_t layer = 0;
        if (n_layers == 1 && item->kind == TDM_NODE_SCALAR && strcmp(item->text, "0") != 0)
            tdm_node_error(item, reader->err, "%s: there is only layer 0", item->text);
        else if (tdm_schema_scalar(reader->arena, &index, item, &layer, reader->err) == TDM_OK)
            experts[layer] = 0;
    }
}

/* Qwen: layer i has experts when i + 1 is a multiple of decoder_sparse_step and mlp_only_layers
 * does not name it. Source: transformers, modeling_qwen3_moe.py, Qwen3MoeDecoderLayer. */
static void read_sparse_step(tdm_hf_reader *reader, uint32_t n_layers)
{
    uint32_t step = 1, first = 0;
    const tdm_node *list = tdm_hf_get(reader, "mlp_only_layers");
    const tdm_node *step_node = tdm_hf_get(reader, "decoder_sparse_step");
    unsigned before = reader->err->n_messages;
    unsigned char *experts = TDM_ALLOC(reader->arena, unsigned char, n_layers);
    tdm_hf_number(reader, "decoder_sparse_step", 1, MAX_LAYERS, &step);
    for (uint32_t i = 0; i < n_layers; i++)
        experts[i] = (i + 1) % step == 0;
    if (list)
        clear_dense_layers(reader, list, experts, n_layers);
    if (reader->err->n_messages > before)
        return;
    for (uint32_t i = n_layers; i > 0 && first == 0; i--) /* behind the last irregular layer */
        if (experts[i - 1] != (i % step == 0))
            first = i;
    for (uint32_t i = 0; i < first; i++)
        if (experts[i]) {
            tdm_node_error(list, reader->err,
                           "layer %u has experts and layer %u not: only dense layers at the start "
                           "or at regular distances are supported",
                           i, first - 1);
            return;
        }
    if (first > 0)
        put_number(reader, "first_k_dense_replace", list, first);
    if (step > 1) {
        put_number(reader, "moe_layer_freq", step_node, step);
        put_number(reader, "moe_layer_offset", step_node, step - 1);
    }
}

static uint32_t number_of(const tdm_hf_reader *reader, const char *native)
{
    const tdm_field field = {.key = native, .type = TDM_FIELD_UINT32};
    const tdm_node *node = tdm_node_child(reader->map, native);
    uint32_t value = 0;
    if (node)
        tdm_schema_scalar(reader->arena, &field, node, &value, NULL);
    return value;
}

static void read_shared_experts(tdm_hf_reader *reader, const char *key)
{
    uint32_t n = 0, width = number_of(reader, "moe_ffn_hidden_size");
    if (!tdm_hf_number(reader, key, 0, width ? MAX_WIDTH / width : MAX_WIDTH, &n) || n == 0)
        return;
    put_number(reader, "moe_shared_expert_intermediate_size", tdm_hf_get(reader, key), n * width);
}

void tdm_hf_read_expert_layers(tdm_hf_reader *reader)
{
    const tdm_hf_family *family = reader->family;
    uint32_t n_layers = number_of(reader, "num_layers");
    if (family->has_sparse_step)
        read_sparse_step(reader, n_layers);
    if (family->shared_experts)
        read_shared_experts(reader, family->shared_experts);
    bool dense =
        number_of(reader, "first_k_dense_replace") > 0 || number_of(reader, "moe_layer_freq") > 1;
    if (!family->dense_width || !dense)
        return;
    uint32_t width = 0;
    const tdm_node *node = tdm_hf_get(reader, family->dense_width);
    if (!node)
        tdm_node_error_at(reader->config, family->dense_width, reader->err,
                          "missing: inner width of the MLP in layers without experts");
    else if (tdm_hf_number(reader, family->dense_width, 1, MAX_WIDTH, &width))
        put_number(reader, "ffn_hidden_size", node, width);
}
