/* test_doc.c: documents, assignments, schemas, and that no bytes whatever crash the reader. */
#include "core/doc.h"
#include "core/scenario.h"
#include "core/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static tdm_node *parse(tdm_arena *arena, const char *text, tdm_error *err)
{
    tdm_node *root = NULL;
    if (tdm_doc_parse(arena, "a.yaml", text, strlen(text), &root, err) != TDM_OK)
        return NULL;
    assert_non_null(root);
    return root;
}

static void keeps_places(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_node *root = parse(&arena, "a: 1\nb:\n  c: [x, 'y z']\n  d: {e: ~}\n", &err);
    const tdm_node *c = tdm_node_find(root, "b.c");
    assert_int_equal(c->kind, TDM_NODE_LIST);
    assert_int_equal(c->line, 3);
    assert_int_equal(c->column, 3);
    assert_int_equal(c->n_children, 2);
    assert_string_equal(c->last->text, "y z");
    assert_true(c->last->quoted);
    assert_int_equal(c->last->column, 10);
    assert_true(tdm_node_is_null(tdm_node_find(root, "b.d.e")));
    assert_null(tdm_node_find(root, "b.d.f"));
    assert_null(tdm_node_find(root, "b.c.x"));
    tdm_node_error(c->last, &err, "is %s", "bad");
    tdm_node_error_at(root, "b.d.e.f", &err, "is missing");
    assert_string_equal(err.text, "a.yaml:3:10: b.c[1]: is bad\na.yaml:4:7: b.d.e.f: is missing\n");
    tdm_arena_free(&arena);
}

static void expect_error(const char *text, size_t length, const char *message)
{
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_node *root = NULL;
    assert_int_equal(tdm_doc_parse(&arena, "a.yaml", text, length, &root, &err), TDM_E_INVALID);
    assert_null(root);
    assert_string_equal(err.text, message);
    tdm_arena_free(&arena);
}

static void refuses(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"", "a.yaml:1:1: the file is empty\n"},
        {"a: 1\na: 2\nb: 1\nb: 2\n",
         "a.yaml:2:1: a: given twice, first in line 1\na.yaml:4:1: b: given twice, first in line 3\n"},
        {"a: 1\n--- \nb: 1\n", "a.yaml:2:1: a second document begins here; one file holds one\n"},
        {"{a: 1}: 2\n", "a.yaml:1:1: a key must be a single word, not a map or a list\n"},
        {"'': 2\n", "a.yaml:1:1: an empty key\n"},
        {"a: \"b\\0c\"\n", "a.yaml:1:4: a NUL character in b\n"},
        {"a: !!int 3\n",
         "a.yaml:1:4: tags are not accepted, write the plain value: tag:yaml.org,2002:int\n"},
        {"a: \xc0\xaf\n", "a.yaml:1:4: byte 0xc0 is not valid UTF-8\n"},
        {"\xc3\xa9: \xed\xa0\x80\n", "a.yaml:1:4: byte 0xed is not valid UTF-8\n"},
        {"a: \xe2\x82", "a.yaml:1:4: byte 0xe2 is not valid UTF-8\n"},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++)
        expect_error(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    expect_error("a: \0", 4, "a.yaml:1:4: byte 0x00 is a control character\n");
}

/* A bomb of aliases stops at the first, a tower of brackets at its 33rd storey, a map at its 1025th
 * key. */
static void limits(void **state)
{
    (void)state;
    expect_error("a: &a [x]\nb: [*a, *a, *a]\n", 26,
                 "a.yaml:1:4: anchors are not accepted, write the value where it is used: &a\n"
                 "a.yaml:2:5: aliases are not accepted, write the value out: *a\n");
    char *tower = malloc(100001);
    memset(tower, '[', 100000);
    tower[100000] = '\0';
    expect_error(tower, 100000, "a.yaml:1:33: nested more than 32 levels deep\n");
    char *end = tower;
    for (int i = 0; i < 1100; i++)
        end += sprintf(end, "k%d: 1\n", i);
    expect_error(tower, (size_t)(end - tower), "a.yaml:1025:1: more than 1024 keys in one map\n");
    free(tower);
}

static void sets_values(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_node *root = parse(&arena, "a: {b: 1}\nl: [1]\n", &err);
    const char *ab[] = {"a", "b"}, *new_keys[] = {"x", "y", "z"}, *below_scalar[] = {"a", "b", "c"},
               *below_list[] = {"l", "c"};
    assert_int_equal(tdm_doc_set(&arena, root, ab, 2, "[1ms, 2ms]", "--set:a.b", &err), TDM_OK);
    assert_int_equal(tdm_node_find(root, "a.b")->n_children, 2);
    assert_int_equal(tdm_node_find(root, "a")->n_children, 1);
    assert_int_equal(tdm_doc_set(&arena, root, new_keys, 3, "text", "--set:x.y.z", &err), TDM_OK);
    tdm_node_error(tdm_node_find(root, "x.y.z"), &err, "no");
    assert_string_equal(err.text, "--set:x.y.z: x.y.z: no\n");
    assert_int_equal(tdm_doc_set(&arena, root, ab, 2, "1", "--set:a.b", &err), TDM_OK);
    assert_int_equal(tdm_doc_set(&arena, root, below_scalar, 3, "1", "--set:a.b.c", &err),
                     TDM_E_INVALID);
    assert_int_equal(tdm_doc_set(&arena, root, below_list, 2, "1", "--set:l.c", &err),
                     TDM_E_INVALID);
    assert_int_equal(tdm_doc_set(&arena, root, ab, 2, "{", "--set:a.b", &err), TDM_E_INVALID);
    assert_string_equal(tdm_node_find(root, "a.b")->text, "1");
    tdm_arena_free(&arena);
}

typedef struct point {
    uint32_t count;
    double time_s;
    bool flag;
    const char *name;
    int color;
    uint64_t bytes;
    tdm_list list;
} point;

static const tdm_choice colors[] = {
    {"red", 1, false}, {"blue", 2, false}, {"azure", 2, true}, {NULL, 0, false}};
static const tdm_field list_fields[] = {
    {.key = "count",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(point, count),
     .required = true,
     .doc = "how many"},
    {.key = NULL},
};
static const tdm_field point_fields[] = {
    {.key = "count_of",
     .aliases = "n number",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(point, count),
     .min = 2,
     .max = 9},
    {.key = "time",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(point, time_s),
     .unit = TDM_UNIT_SECONDS},
    {.key = "flag", .type = TDM_FIELD_BOOL, .offset = offsetof(point, flag)},
    {.key = "name",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(point, name),
     .required = true,
     .doc = "a name"},
    {.key = "color", .type = TDM_FIELD_CHOICE, .offset = offsetof(point, color), .choices = colors},
    {.key = "bytes", .type = TDM_FIELD_BYTES, .offset = offsetof(point, bytes)},
    {.key = "list",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(point, list),
     .fields = list_fields,
     .item_bytes = sizeof(point)},
    {.key = NULL},
};

static void loads_by_schema(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    point p = {.count = 5};
    tdm_node *root =
        parse(&arena,
              "number: 3\ntime: 2us\nflag: true\nname: '7'\ncolor: azure\nbytes: 1KiB\n"
              "list: [{count: 4}, {count: 6}]\n",
              &err);
    assert_int_equal(tdm_schema_load(&arena, point_fields, root, &p, &err), TDM_OK);
    assert_int_equal(p.count, 3);
    assert_true(p.time_s == 2e-6 && p.flag);
    assert_string_equal(p.name, "7");
    assert_int_equal(p.color, 2);
    assert_int_equal(p.bytes, 1024);
    assert_int_equal(p.list.n_items, 2);
    assert_int_equal(((point *)p.list.items)[1].count, 6);
    assert_string_equal(root->first->key, "count_of");
    assert_string_equal(root->first->written, "number");
    tdm_arena_free(&arena);
}

static void reports_all(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    point p = {.count = 5};
    tdm_node *root = parse(
        &arena,
        "n: 10\ncount-of: 3\ntime: 2\nflag: yes\ncolor: bleu\nsize: 1\nlist: [{}, 3]\nbytes: null\n",
        &err);
    assert_int_equal(tdm_schema_load(&arena, point_fields, root, &p, &err), TDM_E_INVALID);
    assert_string_equal(
        err.text,
        "a.yaml:1:1: count_of: 10: expected a whole number from 2 to 9\n"
        "a.yaml:2:1: count-of: means count_of, which is given already, as n in line 1\n"
        "a.yaml:3:1: time: 2: the unit is missing; expected a time with its unit, as 25us (ns, us, ms, s, min, h)\n"
        "a.yaml:4:1: flag: yes: expected true or false\n"
        "a.yaml:5:1: color: bleu: expected one of red, blue (did you mean blue?)\n"
        "a.yaml:6:1: size: unknown key; accepted: count_of, time, flag, name, color, bytes, list\n"
        "a.yaml:7:8: list[0].count: missing: how many\n"
        "a.yaml:7:12: list[1]: expected a map with the keys count\n"
        "a.yaml:1:1: name: missing: a name\n");
    assert_int_equal(err.n_messages, 9);
    tdm_arena_free(&arena);
}

static void assigns_by_schema(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_node *root = parse(&arena, "n: 3\n", &err);
    assert_int_equal(tdm_schema_set(&arena, point_fields, root, "count-of=7", &err), TDM_OK);
    assert_int_equal(root->n_children, 1);
    assert_string_equal(tdm_node_child(root, "n")->text, "7");
    assert_int_equal(tdm_schema_set(&arena, point_fields, root, "name=a=b", &err), TDM_OK);
    assert_string_equal(tdm_node_child(root, "name")->text, "a=b");
    const char *const wrong[] = {
        "",      "=", "n", ".=1", "n.=1", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q=1", "list.count=1",
        "nmae=1"};
    for (size_t i = 0; i < TDM_COUNT(wrong); i++)
        assert_int_equal(tdm_schema_set(&arena, point_fields, root, wrong[i], &err), TDM_E_INVALID);
    assert_int_equal(err.n_messages, TDM_COUNT(wrong));
    assert_int_equal(root->n_children, 2);
    tdm_arena_free(&arena);
}

static void suggests(void **state)
{
    (void)state;
    const char *const names[] = {"1f1b", "gpipe", "zb-h1", "forward-only"};
    assert_string_equal(tdm_suggest("zbh1", names, 4), "zb-h1");
    assert_string_equal(tdm_suggest("GPipe", names, 4), "gpipe");
    assert_string_equal(tdm_suggest("foward_only", names, 4), "forward-only");
    assert_null(tdm_suggest("interleaved", names, 4));
    assert_null(tdm_suggest("", names, 4));
    char word[1000];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_null(tdm_suggest(word, names, 4));
}

/* A fixed sequence, so that a failure can be repeated. Source: Steele et al. 2014, SplitMix64. */
static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Pieces that mean something in YAML or in a scenario. */
static const char *const pieces[] = {
    "\t",          "\n",
    ":",           ": ",
    "- ",          "{",
    "}",           "[",
    "]",           "&a ",
    "*a",          "!!x ",
    "'",           "\"",
    "|\n",         ">\n",
    "#",           "%",
    "---\n",       "~",
    "null",        "1e400",
    "-1",          "0",
    "99999999999", "4294967295",
    "nan",         "\xff",
    "\xc3\xa9",    "model",
    "parallel: ",  "25us",
    ",",           "pp: 1048576\n",
    "1048576",     "\xef\xbb\xbf",
    "\r\n",        "? ",
    "base: ",      "...\n",
    "\\0",
};

static size_t mutate(char *text, size_t n, size_t capacity, uint64_t *seed)
{
    for (uint64_t k = 1 + next_random(seed) % 4; k > 0; k--) {
        size_t at = n ? (size_t)(next_random(seed) % n) : 0;
        const char *piece = pieces[next_random(seed) % TDM_COUNT(pieces)];
        size_t length = strlen(piece), cut = (size_t)(next_random(seed) % 12);
        switch (next_random(seed) % 4) {
        case 0: /* change a byte */
            if (n)
                text[at] = (char)next_random(seed);
            break;
        case 1: /* drop some */
            if (cut > n - at)
                cut = n - at;
            memmove(text + at, text + at + cut, n - at - cut);
            n -= cut;
            break;
        case 2: /* insert a piece */
            if (n + length > capacity)
                break;
            memmove(text + at + length, text + at, n - at);
            memcpy(text + at, piece, length);
            n += length;
            break;
        default: /* overwrite with a piece */
            if (length <= n - at)
                memcpy(text + at, piece, length);
            break;
        }
    }
    return n;
}

/* Whatever happens to a good file's bytes, loading it ends in OK or in messages, never in a crash.
 */
static void survives_mutations(void **state)
{
    (void)state;
    static const char original[] =
        "description: a scenario\nmodel:\n  base: small-moe\n  num_layers: 8\n  num_query_groups: 2\n"
        "topology: nvswitch16-a100-80g\n"
        "parallel: {tp: 2, expert_model_parallel_size: 4, etp: 1, pp: 2, sequence_parallel: true}\n"
        "schedule: {name: 1f1b, num_microbatches: 4}\n"
        "batch: {micro_batch_size: 2, seq_length: 64, global_batch_size: 32}\n"
        "training:\n  dtype: bf16\n  recompute_granularity: full\n  clip_grad: 1.0\n"
        "routing: {model: uniform, seed: 7}\nmemory_limit: 64GB\n"
        "targets:\n  bubble_fraction: {max: 10%, label: \"bubble\"}\n  step_time_s: {max: 25ms}\n";
    char name[] = "/tmp/tandem-test-doc-XXXXXX";
    int handle = mkstemp(name);
    assert_true(handle >= 0);
    uint64_t seed = 1;
    unsigned n_ok = 0;
    for (unsigned round = 0; round < 4000; round++) {
        char text[2048];
        size_t n = sizeof original - 1;
        memcpy(text, original, n);
        if (round > 0)
            n = mutate(text, n, sizeof text, &seed);
        assert_int_equal(ftruncate(handle, 0), 0);
        assert_int_equal(pwrite(handle, text, n, 0), (ssize_t)n);
        tdm_arena arena = {0};
        tdm_error err = {0};
        tdm_scenario scenario = {0};
        const char *sets[] = {"schedule.num_microbatches=4", "num_layers=8"};
        tdm_code code = tdm_scenario_load(&arena, TANDEM_SOURCE_ROOT, name, sets, round % 2 ? 2 : 0,
                                          &scenario, &err);
        assert_true((code == TDM_OK) == (err.n_messages == 0));
        if (code == TDM_OK) {
            n_ok++;
            assert_non_null(scenario.name);
        } else {
            assert_null(scenario.name); /* outputs are untouched on failure */
            assert_int_equal(strncmp(err.text, "--set:", 6) == 0 || strchr(err.text, ':') != NULL,
                             1);
        }
        tdm_arena_free(&arena);
    }
    close(handle);
    unlink(name);
    assert_in_range(n_ok, 1, 3999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_places),
        cmocka_unit_test(refuses),
        cmocka_unit_test(limits),
        cmocka_unit_test(sets_values),
        cmocka_unit_test(loads_by_schema),
        cmocka_unit_test(reports_all),
        cmocka_unit_test(assigns_by_schema),
        cmocka_unit_test(suggests),
        cmocka_unit_test(survives_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
