/* test_model_hf.c: config.json files come to the models they describe, traps included, and no bytes
 * whatever crash their reader. */
#include "core/model_hf.h"
#include "core/scenario.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ROOT     TANDEM_SOURCE_ROOT
#define FIXTURES ROOT "/tests/hf/"

static tdm_model load(tdm_arena *arena, const char *path)
{
    tdm_error err = {0};
    tdm_model model = {0};
    if (tdm_model_load(arena, path, &model, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return model;
}

static void expect_same(const tdm_model *a, const tdm_model *b)
{
#define SAME(member) assert_true(a->member == b->member)
    assert_string_equal(a->name, b->name);
    SAME(num_layers);
    SAME(hidden_size);
    SAME(num_attention_heads);
    SAME(num_query_groups);
    SAME(kv_channels);
    SAME(ffn_hidden_size);
    SAME(num_experts);
    SAME(moe_router_topk);
    SAME(moe_ffn_hidden_size);
    SAME(moe_shared_expert_intermediate_size);
    SAME(first_k_dense_replace);
    SAME(moe_layer_freq);
    SAME(moe_layer_offset);
    SAME(vocab_size);
    SAME(max_position_embeddings);
    SAME(swiglu);
    SAME(add_bias_linear);
    SAME(add_attention_bias);
    SAME(add_qkv_bias);
    SAME(qk_layernorm);
    SAME(attention_sinks);
    SAME(untie_embeddings);
    SAME(window_size);
    SAME(norm);
    SAME(position);
    SAME(attention);
    SAME(hidden_dropout);
    SAME(attention_dropout);
#undef SAME
}

static const char *const both[] = {"llama-2-7b",    "llama-2-70b",    "llama-3.1-8b",
                                   "llama-3.1-70b", "llama-3.1-405b", "mixtral-8x7b",
                                   "mixtral-8x22b", "qwen3-30b-a3b",  "qwen3-235b-a22b",
                                   "gpt-oss-20b",   "gpt-oss-120b"};

/* The file of the released weights says what our own file of the model says. */
static void equals_own_file(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(both); i++) {
        tdm_model ours =
            load(&arena, tdm_arena_printf(&arena, ROOT "/scenarios/models/%s.yaml", both[i]));
        tdm_model theirs = load(&arena, tdm_arena_printf(&arena, FIXTURES "%s.json", both[i]));
        expect_same(&ours, &theirs);
    }
    tdm_arena_free(&arena);
}

/* Counts as huggingface.co shows them beside the released weights. */
static void counts_other_families(void **state)
{
    (void)state;
    static const struct {
        const char *file;
        uint64_t params;
    } cases[] = {
        {"qwen3-8b", 8190735360},         /* Qwen/Qwen3-8B: query and key norms */
        {"qwen3-0.6b", 596049920},        /* Qwen/Qwen3-0.6B: tied, and head_dim x heads is 2 h */
        {"qwen2-7b", 7615616512},         /* Qwen/Qwen2-7B: biases of query, key and value */
        {"mistral-7b", 7241732096},       /* mistralai/Mistral-7B-v0.1 */
        {"deepseek-moe-16b", 16375728128} /* deepseek-ai/deepseek-moe-16b-base: a dense layer first,
                                             two shared experts */
    };
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_model model = load(&arena, tdm_arena_printf(&arena, FIXTURES "%s.json", cases[i].file));
        assert_int_equal(tdm_model_params(&model), cases[i].params);
    }
    tdm_arena_free(&arena);
}

/* Reads config.json text; the keys of `change` replace those of a small Qwen3-MoE. */
static tdm_code convert(tdm_arena *arena, const char *text, tdm_model *model, tdm_error *notes,
                        tdm_error *err)
{
    tdm_node *config, *map;
    tdm_code code = tdm_doc_parse(arena, "c.json", text, strlen(text), &config, err);
    if (code == TDM_OK)
        code = tdm_model_hf_convert(arena, config, &map, notes, err);
    return code == TDM_OK ? tdm_model_read(arena, map, "c", model, err) : code;
}

#define QWEN                                                                                       \
    "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 8, \"hidden_size\": 64, "              \
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"vocab_size\": 100, "                \
    "\"num_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, "              \
    "\"intermediate_size\": 96"
#define LLAMA                                                                                      \
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 64, "                  \
    "\"num_attention_heads\": 4, \"vocab_size\": 100, \"intermediate_size\": 96"

static tdm_model convert_well(tdm_arena *arena, const char *text)
{
    tdm_error err = {0};
    tdm_model model = {0};
    if (convert(arena, text, &model, NULL, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return model;
}

/* Which layers have experts, against the rule of the model's own code. */
static void places_dense_layers(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *layers; /* 1: experts */
    } cases[] = {
        {"}", "11111111"},
        {", \"mlp_only_layers\": [], \"decoder_sparse_step\": 1}", "11111111"},
        {", \"decoder_sparse_step\": 2}", "01010101"},
        {", \"decoder_sparse_step\": 3}", "00100100"},
        {", \"mlp_only_layers\": [1, 0]}", "00111111"},
        {", \"mlp_only_layers\": [0, 1], \"decoder_sparse_step\": 2}", "00010101"},
        {", \"mlp_only_layers\": [0, 2], \"decoder_sparse_step\": 2}", "01010101"},
        {", \"mlp_only_layers\": [0, 1, 2, 3, 4, 5, 6]}", "00000001"},
    };
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_model m = convert_well(&arena, tdm_arena_printf(&arena, QWEN "%s", cases[i].keys));
        uint32_t n = 0;
        for (uint32_t layer = 0; layer < 8; layer++) {
            assert_int_equal(tdm_model_layer_has_experts(&m, layer), cases[i].layers[layer] == '1');
            n += cases[i].layers[layer] == '1';
        }
        assert_int_equal(tdm_model_n_expert_layers(&m), n);
        assert_int_equal(m.ffn_hidden_size, n < 8 ? 96 : 0);
        uint64_t dense = 3 * 64 * 96, moe = 64 * 4 + 4 * 3 * 64 * 32;
        uint64_t attention = 64 * (4 + 2 * 2) * 16 + 64 * 64 + 2 * 16 + 2 * 64;
        assert_int_equal(tdm_model_layer_params(&m), 8 * attention + n * moe + (8 - n) * dense);
        assert_int_equal(tdm_model_active_params(&m), tdm_model_params(&m) - n * 2 * 3 * 64 * 32);
    }
    tdm_arena_free(&arena);
}

/* Each spelling, null for what is absent, and what changes with one key. */
static void reads_variants(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_model m = convert_well(&arena, LLAMA "}");
    assert_true(m.num_query_groups == 4 && m.kv_channels == 16 && m.untie_embeddings);
    assert_true(m.attention_dropout == 0 && m.hidden_dropout == 0 && m.norm == TDM_NORM_RMS);
    assert_true(!m.add_bias_linear && !m.add_attention_bias && m.window_size == 0);
    uint64_t plain = tdm_model_params(&m);
    m = convert_well(&arena, LLAMA ",\"head_dim\":null,\"num_key_value_heads\":null,"
                                   "\"attention_dropout\":1e-05,\"rope_scaling\":null}");
    assert_true(m.num_query_groups == 4 && m.kv_channels == 16 && m.attention_dropout == 1e-5);
    m = convert_well(&arena, LLAMA ",\"head_dim\":32,\"tie_word_embeddings\":true}");
    assert_int_equal(tdm_model_params(&m), plain + 2 * 4 * 64 * 64 - 100 * 64);
    m = convert_well(&arena, LLAMA ",\"attention_bias\":true}");
    assert_int_equal(tdm_model_params(&m), plain + 2 * (3 * 64 + 64));
    m = convert_well(&arena, LLAMA ",\"attention_bias\":true,\"mlp_bias\":true}");
    assert_int_equal(tdm_model_params(&m), plain + 2 * (3 * 64 + 64 + 2 * 96 + 64));
    m = convert_well(&arena, LLAMA ",\"use_sliding_window\":true,\"sliding_window\":16}");
    assert_int_equal(m.window_size, 16);
    m = convert_well(&arena, LLAMA ",\"sliding_window\":16,\"layer_types\":"
                                   "[\"full_attention\",\"sliding_attention\"]}");
    assert_int_equal(m.window_size, 16);
    m = convert_well(&arena, LLAMA ",\"sliding_window\":16,\"use_sliding_window\":true,"
                                   "\"layer_types\":[\"full_attention\",\"full_attention\"]}");
    assert_int_equal(m.window_size, 0);
    tdm_arena_free(&arena);
}

static void notes_what_is_ignored(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0}, notes = {0};
    tdm_model model;
    assert_int_equal(convert(&arena,
                             LLAMA ",\n \"_x\": 1, \"ep_size\": 8,\n \"frob\": {},\n"
                                   " \"quantization_config\": {}, \"mup\": 2}",
                             &model, &notes, &err),
                     TDM_OK);
    assert_string_equal(
        notes.text,
        "c.json:4:2: quantization_config: ignored: weights are planned in training.dtype\n"
        "c.json:2:11: ep_size: ignored: parallel.expert_model_parallel_size says how experts are "
        "split\n"
        "c.json:3:2: ignored, since llama models have no such keys: frob, mup\n");
    tdm_arena_free(&arena);
}

static tdm_scenario load_scenario(tdm_arena *arena, const char *const *sets, size_t n_sets)
{
    tdm_error err = {0};
    tdm_scenario scenario = {0};
    if (tdm_scenario_load(arena, ROOT, ROOT "/scenarios/small-moe-16gpu.yaml", sets, n_sets,
                          &scenario, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return scenario;
}

/* From a scenario: by path, by folder, with keys of our own on top; later messages name the file.
 */
static void serves_scenarios(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const char *by_path[] = {"model=../tests/hf/mixtral-8x7b.json"};
    tdm_scenario s = load_scenario(&arena, by_path, 1);
    assert_string_equal(s.model.name, "mixtral-8x7b");
    assert_true(s.model.num_layers == 32 && s.notes == NULL);
    const char *by_folder[] = {"model=../tests/hf/tiny-mixtral", "model.num_layers=6"};
    s = load_scenario(&arena, by_folder, 2);
    assert_string_equal(s.model.name, "tiny-mixtral");
    assert_true(s.model.num_layers == 6 && s.model.num_experts == 4);
    const char *over[] = {
        "model={hf: ../tests/hf/tiny-mixtral/, num_hidden_layers: 4, num_experts: 16, name: mine}"};
    s = load_scenario(&arena, over, 1);
    assert_string_equal(s.model.name, "mine");
    assert_true(s.model.num_layers == 4 && s.model.num_experts == 16);
    const char *windows[] = {"model=../tests/hf/gpt-oss-20b.json", "seq_length=4096"};
    s = load_scenario(&arena, windows, 2);
    assert_non_null(strstr(s.notes, "gpt-oss-20b.json:"));
    assert_non_null(strstr(s.notes, "model.window_size: windows of 128 tokens are not modelled"));
    const char *narrow[] = {"model=../tests/hf/gpt-oss-20b.json", "seq_length=128"};
    assert_null(strstr(load_scenario(&arena, narrow, 2).notes, "windows"));
    tdm_arena_free(&arena);
}

/* JSON that is not quite YAML: escapes, halves of characters, tabs, no blanks, line ends. */
static void reads_json(void **state)
{
    (void)state;
    char text[] =
        "{\t\"a\\/b\":\"\\ud83d\\ude00\\u00e9\\\\ud83d\\\\ude00\\n\",\r\n\t\"c\":[1e-05,true,null],"
        "\"d\":{}}";
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_node *root = NULL;
    size_t length = tdm_doc_join_surrogates(text, strlen(text));
    if (tdm_doc_parse(&arena, "c.json", text, length, &root, &err) != TDM_OK)
        fail_msg("%s", err.text);
    assert_string_equal(tdm_node_child(root, "a/b")->text,
                        "\xf0\x9f\x98\x80\xc3\xa9\\ud83d\\ude00\n");
    const tdm_node *c = tdm_node_child(root, "c");
    assert_true(c->line == 2 && c->column == 2 && c->n_children == 3);
    assert_string_equal(c->first->text, "1e-05");
    assert_true(tdm_node_is_null(c->last) && !tdm_node_is_null(c->first->next));
    assert_int_equal(tdm_node_child(root, "d")->kind, TDM_NODE_MAP);
    char lone[] = "\\ud83d \\ude00 \\ud83d\\u0041 \\";
    assert_int_equal(tdm_doc_join_surrogates(lone, strlen(lone)), strlen(lone));
    tdm_arena_free(&arena);
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Changes a few bytes: other bytes, bytes of JSON's own, pieces moved or cut. Returns the length.
 */
static size_t mutate(char *text, size_t length, uint64_t *seed)
{
    static const char marks[] = "{}[]\",:0123456789e-.\\untf \n#&*!|>%@`'?";
    uint32_t n_changes = 1 + next_random(seed) % 6;
    for (uint32_t i = 0; i < n_changes && length > 2; i++) {
        size_t at = next_random(seed) % length, n = 1 + next_random(seed) % 12;
        n = n < length - at ? n : length - at;
        switch (next_random(seed) % 5) {
        case 0:
            text[at] = (char)next_random(seed);
            break;
        case 1:
        case 2:
            text[at] = marks[next_random(seed) % (sizeof marks - 1)];
            break;
        case 3:
            memmove(text + at, text + at + n, length - at - n);
            length -= n;
            break;
        default:
            memmove(text + next_random(seed) % (length - n + 1), text + at, n);
            break;
        }
    }
    return length;
}

/* What is read has sizes that the rest can count on; what is not has a message with a place. */
static void check_mutant(tdm_arena *arena, const char *bytes, size_t length, uint32_t *n_read)
{
    tdm_error err = {0}, notes = {0};
    tdm_node *config, *map;
    tdm_model model;
    tdm_code code = tdm_doc_parse(arena, "c.json", bytes, length, &config, &err);
    if (code == TDM_OK)
        code = tdm_model_hf_convert(arena, config, &map, &notes, &err);
    if (code == TDM_OK)
        code = tdm_model_read(arena, map, "c", &model, &err);
    if (code == TDM_OK) {
        ++*n_read;
        assert_int_equal(err.n_messages, 0);
        assert_true(model.num_layers > 0 && model.num_attention_heads > 0 &&
                    model.num_attention_heads % model.num_query_groups == 0);
        assert_true(model.moe_router_topk <= model.num_experts);
        assert_true(tdm_model_active_params(&model) <= tdm_model_params(&model));
        assert_true(tdm_model_params(&model) < UINT64_C(2000000000000000));
    } else {
        assert_int_equal(code, TDM_E_INVALID);
        assert_true(err.n_messages > 0);
        assert_int_equal(strncmp(err.text, "c.json:", 7), 0);
    }
}

static size_t read_fixture(const char *name, char *buffer, size_t capacity)
{
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    size_t n = fread(buffer, 1, capacity, file);
    fclose(file);
    assert_true(n > 0 && n < capacity);
    return n;
}

/* TANDEM_FUZZ_ROUNDS asks for more mutants of each file than the 1000 of every test run. */
static void survives_mutation(void **state)
{
    (void)state;
    enum { CAPACITY = 16384 };
    static const char *const names[] = {"llama-3.1-8b", "mixtral-8x7b",     "qwen3-30b-a3b",
                                        "gpt-oss-20b",  "deepseek-moe-16b", "qwen3-0.6b"};
    const char *wanted = getenv("TANDEM_FUZZ_ROUNDS");
    uint32_t rounds = wanted ? (uint32_t)strtoul(wanted, NULL, 10) : 1000, n_read = 0;
    char *original = malloc(CAPACITY);
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        char path[512];
        uint64_t seed = 20260 + i;
        snprintf(path, sizeof path, FIXTURES "%s.json", names[i]);
        size_t length = read_fixture(path, original, CAPACITY);
        for (uint32_t round = 0; round < rounds; round++) {
            tdm_arena arena = {0};
            char *mutant = malloc(length); /* of its own: a read past the end is found */
            memcpy(mutant, original, length);
            size_t n = mutate(mutant, length, &seed);
            n = tdm_doc_join_surrogates(mutant, n);
            char *exact = malloc(n ? n : 1);
            memcpy(exact, mutant, n);
            check_mutant(&arena, exact, n, &n_read);
            free(exact);
            free(mutant);
            tdm_arena_free(&arena);
        }
    }
    free(original);
    assert_true(n_read > rounds / 10); /* the mutants are not all hopeless */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_own_file),
        cmocka_unit_test(counts_other_families),
        cmocka_unit_test(places_dense_layers),
        cmocka_unit_test(reads_variants),
        cmocka_unit_test(notes_what_is_ignored),
        cmocka_unit_test(serves_scenarios),
        cmocka_unit_test(reads_json),
        cmocka_unit_test(survives_mutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
