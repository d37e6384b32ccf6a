/* model_hf.c: turns config.json into a map of our keys, key by key as its model_type says. */
#include "model_hf_parts.h"

#include "files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const tdm_node *tdm_hf_get(const tdm_hf_reader *reader, const char *key)
{
    const tdm_node *node = tdm_node_child(reader->config, key);
    return node && !(tdm_node_is_null(node) && node->text[0]) ? node : NULL;
}

/* One value as a field of ours would read it. A number in quotes is a text, in JSON. */
static bool read_value(tdm_hf_reader *reader, const tdm_field *field, const tdm_node *node,
                       void *out)
{
    char quoted[TDM_QUOTE_SIZE];
    if (node->kind == TDM_NODE_SCALAR && node->quoted) {
        tdm_node_error(node, reader->err, "\"%s\": a text: expected %s, without quotes",
                       tdm_node_quote(quoted, node->text),
                       field->type == TDM_FIELD_BOOL ? "true or false" : "a number");
        return false;
    }
    return tdm_schema_scalar(reader->arena, field, node, out, reader->err) == TDM_OK;
}

bool tdm_hf_number(tdm_hf_reader *reader, const char *key, uint32_t min, uint32_t max,
                   uint32_t *value)
{
    const tdm_field field = {.key = key, .type = TDM_FIELD_UINT32, .min = min, .max = max};
    const tdm_node *node = tdm_hf_get(reader, key);
    return !node || read_value(reader, &field, node, value);
}

bool tdm_hf_flag(tdm_hf_reader *reader, const char *key, bool *value)
{
    const tdm_field field = {.key = key, .type = TDM_FIELD_BOOL};
    const tdm_node *node = tdm_hf_get(reader, key);
    return !node || read_value(reader, &field, node, value);
}

void tdm_hf_put(tdm_hf_reader *reader, const char *native, const tdm_node *place, const char *text)
{
    tdm_node *node = tdm_node_new_map(reader->arena, place);
    node->kind = TDM_NODE_SCALAR;
    node->text = tdm_arena_strdup(reader->arena, text);
    tdm_node_append(reader->map, native, node);
    node->written = place->written;
}

/* The first of a key's spellings that the file has; complains when two of them disagree. */
static const tdm_node *find_value(tdm_hf_reader *reader, const tdm_hf_key *key)
{
    char name[64];
    const tdm_node *first = NULL;
    for (const char *at = key->names; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        at += length;
        const tdm_node *node = tdm_hf_get(reader, name);
        if (first && node && first->kind == TDM_NODE_SCALAR && node->kind == TDM_NODE_SCALAR &&
            strcmp(first->text, node->text) != 0)
            tdm_node_error(node, reader->err, "%s, but %s in line %u says %s", node->text,
                           first->key, first->line, first->text);
        first = first ? first : node;
    }
    return first;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

/* Whether a word is among a list of words separated by blanks. */
static bool lists(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = words; at && *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (n == length && strncmp(at, word, n) == 0)
            return true;
        at += n;
    }
    return false;
}

static bool knows_key(const tdm_hf_reader *reader, const char *name)
{
    const tdm_hf_key *tables[] = {tdm_hf_common_keys, reader->family->keys};
    for (size_t i = 0; i < TDM_COUNT(tables); i++)
        for (const tdm_hf_key *key = tables[i]; key->names; key++)
            if (lists(key->names, name))
                return true;
    return name[0] == '_' || bsearch(name, tdm_hf_idle_keys, tdm_hf_n_idle_keys,
                                     sizeof tdm_hf_idle_keys[0], compare_text);
}

/* A key of the file that nobody reads and that may be meant for `name`; NULL for none. */
static const char *find_slip(const tdm_hf_reader *reader, const char *name)
{
    enum { MOST = 64 };
    const char *unread[MOST];
    size_t n = 0;
    for (const tdm_node *child = reader->config->first; child && n < MOST; child = child->next)
        if (!knows_key(reader, child->key))
            unread[n++] = child->key;
    return tdm_suggest(name, unread, n);
}

static void report_missing(tdm_hf_reader *reader, const tdm_hf_key *key, const tdm_field *field)
{
    char quoted[TDM_QUOTE_SIZE];
    const char *name = tdm_arena_strndup(reader->arena, key->names, strcspn(key->names, " "));
    const char *slip = find_slip(reader, name);
    const char *end = strstr(field->doc, " (default"); /* which the file's reader has not */
    int length = (int)(end ? (size_t)(end - field->doc) : strlen(field->doc));
    tdm_node_error_at(reader->config, name, reader->err, "missing: %.*s%s%s%s", length, field->doc,
                      slip ? " (is it what " : "", slip ? tdm_node_quote(quoted, slip) : "",
                      slip ? " stands for?)" : "");
}

static void read_key(tdm_hf_reader *reader, const tdm_hf_key *key)
{
    union {
        uint32_t whole;
        double number;
    } scratch;
    const tdm_field *field = tdm_schema_find(tdm_model_fields, key->native);
    const tdm_node *node = find_value(reader, key);
    if (node && read_value(reader, field, node, &scratch))
        tdm_hf_put(reader, key->native, node, node->text);
    if (!node && key->needed)
        report_missing(reader, key, field);
}

static void read_keys(tdm_hf_reader *reader, const tdm_hf_key *keys)
{
    for (; keys->names; keys++)
        read_key(reader, keys);
}

/* attention_bias means query, key, value and output; mlp_bias the rest. */
static void read_biases(tdm_hf_reader *reader)
{
    const tdm_hf_family *family = reader->family;
    bool attention = family->has_biases, mlp = family->has_biases;
    tdm_hf_flag(reader, "attention_bias", &attention);
    if (family->has_mlp_bias)
        tdm_hf_flag(reader, "mlp_bias", &mlp);
    if (family->has_biases && !attention)
        tdm_node_error_at(reader->config, "attention_bias", reader->err,
                          "false: %s without biases in its attention is not supported",
                          family->model_type);
    else if (mlp && !attention)
        tdm_node_error_at(reader->config, "mlp_bias", reader->err,
                          "true: biases in the MLP without attention_bias are not supported");
    const tdm_node *place = tdm_hf_get(reader, "attention_bias");
    place = place ? place : reader->config;
    tdm_hf_put(reader, "add_bias_linear", place, mlp ? "true" : "false");
    if (attention && !mlp)
        tdm_hf_put(reader, "add_attention_bias", place, "true");
    if (family->has_qkv_biases)
        tdm_hf_put(reader, "add_qkv_bias", place, "true");
}

/* Source: PreTrainedConfig's subclasses: all of these families have a head of their own by default.
 */
static void read_ends(tdm_hf_reader *reader)
{
    bool tied = false;
    const tdm_node *place = tdm_hf_get(reader, "tie_word_embeddings");
    tdm_hf_flag(reader, "tie_word_embeddings", &tied);
    tdm_hf_put(reader, "untie_embeddings_and_output_weights", place ? place : reader->config,
               tied ? "false" : "true");
}

static void put_constants(tdm_hf_reader *reader)
{
    const tdm_node *place = reader->config;
    tdm_hf_put(reader, "swiglu", place, "true");
    tdm_hf_put(reader, "normalization", place, "RMSNorm");
    tdm_hf_put(reader, "position_embedding_type", place, "rope");
    tdm_hf_put(reader, "hidden_dropout", place, "0");
    if (!tdm_hf_get(reader, "attention_dropout"))
        tdm_hf_put(reader, "attention_dropout", place, "0");
    if (reader->family->has_qk_norms)
        tdm_hf_put(reader, "qk_layernorm", place, "true");
    if (reader->family->has_sinks)
        tdm_hf_put(reader, "softmax_type", place, "learnable");
}

/* A file may hold anything; what nobody reads is said, since it may matter. */
static void note_unknown_keys(tdm_hf_reader *reader)
{
    enum { MOST = 400 };
    char list[MOST + TDM_QUOTE_SIZE] = "", quoted[TDM_QUOTE_SIZE];
    size_t length = 0;
    const tdm_node *first = NULL;
    for (const tdm_node *child = reader->config->first; child; child = child->next) {
        if (knows_key(reader, child->key) || length >= MOST)
            continue;
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", first ? ", " : "",
                                   tdm_node_quote(quoted, child->key));
        first = first ? first : child;
    }
    if (first)
        tdm_error_add(reader->notes, TDM_E_INVALID,
                      "%s:%u:%u: ignored, since %s models have no such keys: %s%s", first->path,
                      first->line, first->column, reader->family->model_type, list,
                      length >= MOST ? " ..." : "");
}

static void note_ignored(tdm_hf_reader *reader)
{
    const tdm_node *ranks = tdm_hf_get(reader, "ep_size");
    if (tdm_hf_get(reader, "quantization_config"))
        tdm_node_error_at(reader->config, "quantization_config", reader->notes,
                          "ignored: weights are planned in training.dtype");
    if (ranks && ranks->kind == TDM_NODE_SCALAR && strcmp(ranks->text, "1") != 0)
        tdm_node_error(ranks, reader->notes,
                       "ignored: parallel.expert_model_parallel_size says how experts are split");
    note_unknown_keys(reader);
}

static const char *list_families(tdm_arena *arena)
{
    const char *list = "";
    for (const tdm_hf_family *family = tdm_hf_families; family->model_type; family++)
        if (!family->refusal)
            list = tdm_arena_printf(arena, "%s%s%s", list, list[0] ? ", " : "", family->model_type);
    return list;
}

/* At the key that shows it, where the file has one. */
static void refuse_latent_attention(tdm_hf_reader *reader, const char *model_type)
{
    static const char *const keys[] = {"kv_lora_rank", "q_lora_rank", "model_type"};
    size_t i = 0;
    while (i + 1 < TDM_COUNT(keys) && !tdm_hf_get(reader, keys[i]))
        i++;
    char quoted[TDM_QUOTE_SIZE];
    tdm_node_error_at(reader->config, keys[i], reader->err,
                      "model_type %s: multi-head latent attention (MLA) is not supported; accepted "
                      "model types: %s",
                      tdm_node_quote(quoted, model_type), list_families(reader->arena));
}

/* NULL after a message. */
static const tdm_hf_family *find_family(tdm_hf_reader *reader)
{
    enum { MOST = 32 };
    const char *names[MOST];
    char quoted[TDM_QUOTE_SIZE];
    size_t n = 0;
    const tdm_node *node = tdm_hf_get(reader, "model_type");
    if (!node || node->kind != TDM_NODE_SCALAR) {
        tdm_node_error_at(reader->config, "model_type", reader->err,
                          "%s: which family of models this is; accepted: %s",
                          node ? "expected a text" : "missing", list_families(reader->arena));
        return NULL;
    }
    const tdm_hf_family *found = tdm_hf_families;
    for (; found->model_type && strcmp(found->model_type, node->text) != 0; found++)
        if (n < MOST && !found->refusal)
            names[n++] = found->model_type;
    if ((found->model_type && found->refusal) || tdm_hf_get(reader, "kv_lora_rank")) {
        refuse_latent_attention(reader, node->text);
        return NULL;
    }
    if (found->model_type)
        return found;
    const char *near = tdm_suggest(node->text, names, n);
    tdm_node_error(node, reader->err,
                   "%s: this family of models is not supported%s%s%s; accepted: %s",
                   tdm_node_quote(quoted, node->text), near ? " (did you mean " : "",
                   near ? near : "", near ? "?)" : "", list_families(reader->arena));
    return NULL;
}

tdm_code tdm_model_hf_convert(tdm_arena *arena, tdm_node *config, tdm_node **map, tdm_error *notes,
                              tdm_error *err)
{
    tdm_hf_reader reader = {.arena = arena,
                            .config = config,
                            .map = tdm_node_new_map(arena, config),
                            .notes = notes ? notes : TDM_ALLOC(arena, tdm_error, 1),
                            .err = err ? err : TDM_ALLOC(arena, tdm_error, 1)};
    unsigned before = reader.err->n_messages;
    if (config->kind != TDM_NODE_MAP)
        return tdm_node_error(config, reader.err,
                              "expected {...} with the keys of Hugging Face's config.json");
    reader.family = find_family(&reader);
    if (!reader.family)
        return TDM_E_INVALID;
    read_keys(&reader, tdm_hf_common_keys);
    read_keys(&reader, reader.family->keys);
    read_biases(&reader);
    read_ends(&reader);
    put_constants(&reader);
    tdm_hf_read_windows(&reader);
    if (reader.err->n_messages == before)
        tdm_hf_read_expert_layers(&reader);
    if (reader.err->n_messages > before)
        return TDM_E_INVALID;
    note_ignored(&reader);
    *map = reader.map;
    return TDM_OK;
}

/* .../Mixtral-8x7B/config.json is called after its folder, mixtral.json after itself. */
static const char *model_name(tdm_arena *arena, const char *path)
{
    const char *stem = tdm_file_stem(arena, path);
    if (!tdm_doc_is_json(path))
        return stem;
    if (strcmp(stem, "config.json") != 0)
        return tdm_arena_strndup(arena, stem, strlen(stem) - strlen(".json"));
    const char *folder = tdm_file_folder(arena, path);
    bool named = strcmp(folder, ".") != 0 && strcmp(folder, "/") != 0;
    return named ? tdm_file_stem(arena, folder) : "config";
}

tdm_code tdm_model_document(tdm_arena *arena, const char *path, tdm_node **map, const char **name,
                            tdm_error *notes, tdm_error *err)
{
    tdm_node *read;
    tdm_code code = tdm_doc_read(arena, path, &read, err);
    if (code == TDM_OK && tdm_doc_is_json(path))
        code = tdm_model_hf_convert(arena, read, &read, notes, err);
    if (code != TDM_OK)
        return code;
    *map = read;
    *name = model_name(arena, path);
    return TDM_OK;
}
