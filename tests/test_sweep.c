/* test_sweep.c: `tandem sweep` from outside: its points and their order, its rows against `tandem
 * sim`, its Pareto front against brute force, its files and messages. */
#include "core/figures.h"
#include "support_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define SMALL TANDEM_SOURCE_ROOT "/scenarios/small-moe-16gpu.yaml"
#define TIMES TANDEM_SOURCE_ROOT "/scenarios/zb-1.5b.yaml"
#define SWEEP "'" TANDEM_PROGRAM "' sweep "
#define PP    "parallel.pipeline_model_parallel_size"

static json_t *read_json(const char *path)
{
    char *text = support_run_read(path);
    json_error_t error;
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!document)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return document;
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static const char *value_of(const json_t *row, const char *key)
{
    return text_at(json_object_get(row, "point"), key);
}

static double figure_of(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(json_object_get(row, "figures"), name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static bool is_front(const json_t *row)
{
    return json_is_true(json_object_get(row, "pareto"));
}

/* The product, the first key slowest; every form of range; zipped keys and a file side by side. */
static void test_points(void **state)
{
    (void)state;
    static const char *const batches[] = {"2", "5", "8", "16"}, *const stages[] = {"1", "2", "4"},
                             *const seeds[] = {"7", "8"}, *const sizes[] = {"2", "4"},
                             *const names[] = {"1f1b", "gpipe"};
    support_run_write("points.csv", "# a comment\r\n\r\n name\r\n1f1b\r\n \"gpipe\" \r\n");
    assert_int_equal(support_run("sed -i s/name/schedule.name/ points.csv && " SWEEP SMALL
                                 " --vary num_microbatches=2..8+3,16 --vary pp=1..4*2"
                                 " --zip seed=7..8 --zip micro_batch_size=2,4 --points points.csv"
                                 " --out-dir product -q"),
                     0);
    json_t *document = read_json("product/sweep.json"), *row;
    const json_t *rows = json_object_get(document, "points");
    assert_int_equal(json_array_size(rows), 4 * 3 * 2 * 2);
    size_t i;
    json_array_foreach(rows, i, row)
    {
        assert_string_equal(value_of(row, "schedule.num_microbatches"), batches[i / 12]);
        assert_string_equal(value_of(row, PP), stages[i / 4 % 3]);
        assert_string_equal(value_of(row, "routing.seed"), seeds[i / 2 % 2]);
        assert_string_equal(value_of(row, "batch.micro_batch_size"), sizes[i / 2 % 2]);
        assert_string_equal(value_of(row, "schedule.name"), names[i % 2]);
        assert_string_equal(text_at(row, "status"), "ok");
    }
    json_decref(document);
}

static void test_order_is_independent_of_children(void **state)
{
    (void)state;
    static const char arguments[] = SMALL " --vary schedule.name=1f1b,zb-h1,gpipe --vary pp=1..6 "
                                          "--vary micro_batch_size=1..4*2 -q";
    assert_int_equal(support_run(SWEEP "%s -j 1 --out-dir one", arguments), 0);
    assert_int_equal(support_run(SWEEP "%s -j 7 --out-dir seven", arguments), 0);
    support_run_same("one/sweep.csv", "seven/sweep.csv");
    support_run_same("one/sweep.json", "seven/sweep.json");
    support_run_same("one/pareto.csv", "seven/pareto.csv");
    assert_int_equal(support_run("ls -A one | tr '\\n' ' '"), 0);
    support_run_expect("out", "journal.jsonl pareto.csv sweep.csv sweep.json ");
}

/* A row is what `tandem sim` says about the point. */
static void check_against_sim(const json_t *row, const char *engine)
{
    assert_int_equal(
        support_run("'" TANDEM_PROGRAM "' sim " SMALL
                    " --engine %s --out-dir single --format json --set clip_grad=0 --set " PP
                    "=%s --set schedule.name=%s",
                    engine, value_of(row, PP), value_of(row, "schedule.name")),
        0);
    json_t *single = read_json("single/figures.json");
    const json_t *figures = json_object_get(single, "figures");
    if (!json_equal(json_object_get(row, "figures"), figures))
        fail_msg("other figures for pp %s, %s", value_of(row, PP), value_of(row, "schedule.name"));
    assert_string_equal(text_at(row, "plan_hash"),
                        text_at(json_object_get(single, "provenance"), "plan_hash"));
    json_decref(single);
}

static void check_engine(const char *engine)
{
    assert_int_equal(support_run(SWEEP SMALL " --engine %s --set clip_grad=0 --out-dir %s -q"
                                             " --vary pp=1,2,4 --vary schedule.name=zb-h1,gpipe",
                                 engine, engine),
                     0);
    char path[64];
    snprintf(path, sizeof path, "%s/sweep.json", engine);
    json_t *document = read_json(path), *row;
    size_t i;
    json_array_foreach(json_object_get(document, "points"), i, row) check_against_sim(row, engine);
    json_decref(document);
}

static void test_rows_are_those_of_sim(void **state)
{
    (void)state;
    check_engine("analytic");
    if (support_run("'" TANDEM_PROGRAM "' sim " SMALL " --no-files -q") == 0)
        check_engine("sim");
}

static const json_t *row_at(const json_t *document, size_t i)
{
    const json_t *row = json_array_get(json_object_get(document, "points"), i);
    assert_non_null(row);
    return row;
}

static void test_infeasible_rows(void **state)
{
    (void)state;
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=2,3 --vary memory_limit=1GB,80GB"
                                             " --out-dir unfit --format csv"),
                     0);
    support_run_same("out", "unfit/sweep.csv");
    json_t *document = read_json("unfit/sweep.json");
    const json_t *row = row_at(document, 0);
    assert_string_equal(text_at(row, "status"), "no-memory");
    assert_true(json_is_false(json_object_get(row, "fits")));
    assert_non_null(strstr(text_at(row, "reason"), " GB of 1.00 GB"));
    assert_true(figure_of(row, "peak_memory_bytes") > 1e9);
    row = row_at(document, 1);
    assert_string_equal(text_at(row, "status"), "ok");
    assert_true(json_is_true(json_object_get(row, "fits")) && is_front(row));
    for (size_t i = 2; i < 4; i++) {
        row = row_at(document, i);
        assert_string_equal(text_at(row, "status"), "invalid");
        assert_true(json_is_null(json_object_get(row, "fits")));
        assert_true(json_is_null(json_object_get(row, "figures")));
        assert_non_null(strstr(text_at(row, "reason"), PP ": 3 does not divide the 4 layers"));
    }
    const json_t *counts = json_object_get(document, "counts");
    assert_int_equal(json_integer_value(json_object_get(counts, "ok")), 1);
    assert_int_equal(json_integer_value(json_object_get(counts, "no-memory")), 1);
    assert_int_equal(json_integer_value(json_object_get(counts, "invalid")), 2);
    json_decref(document);
    /* Nothing that fits: not a success. */
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=3,5 --out-dir none -q"), 3);
    char *front = support_run_read("none/pareto.csv");
    assert_int_equal(support_run_lines(front), 1);
    free(front);
}

/* Less is better; nine digits. */
static double cost(const json_t *row, const tdm_figure_info *info)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", figure_of(row, info->name));
    return info->higher_is_better ? -strtod(text, NULL) : strtod(text, NULL);
}

static bool is_beaten(const json_t *rows, const json_t *row, const tdm_figure_info *a,
                      const tdm_figure_info *b)
{
    json_t *other;
    size_t i;
    json_array_foreach(rows, i, other)
    {
        bool fits = strcmp(text_at(other, "status"), "ok") == 0;
        if (fits && cost(other, a) <= cost(row, a) && cost(other, b) <= cost(row, b) &&
            (cost(other, a) < cost(row, a) || cost(other, b) < cost(row, b)))
            return true;
    }
    return false;
}

static const tdm_figure_info *info_of(const char *name)
{
    const tdm_figure_info *info = tdm_figure_infos;
    while (strcmp(info->name, name) != 0)
        info++;
    return info;
}

static void check_front(const char *a, const char *b)
{
    assert_int_equal(support_run(SWEEP SMALL " --vary schedule.name=1f1b,zb-h1,gpipe"
                                             " --vary pp=1..4 --vary micro_batch_size=1..32*2"
                                             " --set memory_limit=2.17GB --pareto %s,%s"
                                             " --out-dir front -q",
                                 a, b),
                     0);
    json_t *document = read_json("front/sweep.json"), *row;
    const json_t *rows = json_object_get(document, "points");
    size_t i, n = 0, n_unfit = 0;
    json_array_foreach(rows, i, row)
    {
        bool fits = strcmp(text_at(row, "status"), "ok") == 0;
        bool best = fits && !is_beaten(rows, row, info_of(a), info_of(b));
        if (best != is_front(row))
            fail_msg("point %zu: %s the front of %s and %s", i, best ? "not on" : "wrongly on", a,
                     b);
        n += best;
        n_unfit += !fits;
    }
    assert_true(n > 0 && n_unfit > 18); /* some too large, and three stages impossible */
    char *text = support_run_read("front/pareto.csv");
    assert_int_equal(support_run_lines(text), n + 1);
    free(text);
    json_decref(document);
}

static void test_front_is_that_of_brute_force(void **state)
{
    (void)state;
    check_front("tokens_per_s", "peak_memory_bytes");
    check_front("peak_memory_bytes", "step_time_s");
    check_front("bubble_fraction", "mfu");
    check_front("comm_exposed_fraction", "gpu_utilization");
    check_front("hfu", "expert_efficiency");
}

/* Cells of one CSV record, without the knowledge of the program's own reader; returns its end. */
static const char *next_cell(const char *at, char *cell)
{
    if (*at != '"') {
        while (*at && *at != ',' && *at != '\n')
            *cell++ = *at++;
    } else {
        for (at++; *at != '"' || at[1] == '"'; at++) {
            assert_true(*at != '\0');
            at += *at == '"';
            *cell++ = *at;
        }
        at++;
    }
    *cell = '\0';
    assert_true(*at == ',' || *at == '\n');
    return at + 1;
}

static void test_quotes(void **state)
{
    (void)state;
    support_run_write("quotes.csv", "description,micro_batch_size\n"
                                    "\"'a, \"\"b\"\"'\",4\n"
                                    "'  c''s ',\n"
                                    "\"\"\"two\n\nlines\"\"\",2\n");
    static const char *const texts[] = {"'a, \"b\"'", "'  c''s '", "\"two\n\nlines\""};
    assert_int_equal(support_run(SWEEP SMALL " --points quotes.csv --out-dir quotes -q"), 0);
    char *csv = support_run_read("quotes/sweep.csv"), cell[4096];
    json_t *document = read_json("quotes/sweep.json");
    const char *at = strchr(csv, '\n') + 1;
    size_t n_columns = 1;
    for (const char *c = csv; c < at; c++)
        n_columns += *c == ',';
    for (size_t i = 0; i < TDM_COUNT(texts); i++) {
        size_t n = 1;
        assert_string_equal(value_of(row_at(document, i), "description"), texts[i]);
        at = next_cell(at, cell);
        assert_string_equal(cell, texts[i]);
        for (; at[-1] == ','; n++)
            at = next_cell(at, cell);
        assert_int_equal(n, n_columns);
    }
    assert_int_equal(*at, '\0');
    assert_true(json_is_null(
        json_object_get(json_object_get(row_at(document, 1), "point"), "batch.micro_batch_size")));
    assert_string_equal(text_at(row_at(document, 1), "status"), "ok");
    json_decref(document);
    free(csv);
    /* Lists and maps are one value each. */
    assert_int_equal(support_run(SWEEP SMALL " --out-dir maps -q --vary "
                                             "'training={recompute: full, clip_grad: 0},{}'"),
                     0);
    csv = support_run_read("maps/sweep.csv");
    assert_int_equal(support_run_lines(csv), 3);
    assert_non_null(strstr(csv, "\n\"{recompute: full, clip_grad: 0}\",ok,yes,"));
    free(csv);
}

/* Wrong command lines, and all that is said about them. */
static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *message;
    } cases[] = {
        {"", "tandem: sweep: nothing varies: give --vary KEY=VALUES, --zip KEY=VALUES or --points "
             "FILE\n"},
        {"--vary pp", "--vary: pp: expected KEY=VALUES, as schedule.name=1f1b,zb-h1 or "
                      "batch.micro_batch_size=1..32*2\n"},
        {"--vary =1", "--vary: =1: expected KEY=VALUES, as schedule.name=1f1b,zb-h1 or "
                      "batch.micro_batch_size=1..32*2\n"},
        {"--vary parallel.ppp=1,2",
         "--vary:parallel.ppp: unknown key; accepted: tensor_model_parallel_size, "},
        {"--vary pp=1..x --vary tp=",
         "--vary:pp: '1..x': expected whole numbers A..B, A..B+STEP or "
         "A..B*FACTOR\n"
         "--vary:tp: an empty value (write \"\" for an empty text)\n"},
        {"--vary pp=1,,2", "--vary:pp: an empty value (write \"\" for an empty text)\n"},
        {"--vary pp=1..4-1", "--vary:pp: '1..4-1': expected whole numbers A..B, A..B+STEP or "
                             "A..B*FACTOR\n"},
        {"--vary pp=1..9999999999999999",
         "--vary:pp: '1..9999999999999999': expected whole numbers "
         "A..B, A..B+STEP or A..B*FACTOR\n"},
        {"--vary pp=4..1", "--vary:pp: '4..1': an empty range: it ends below its start\n"},
        {"--vary pp=1..8*1", "--vary:pp: '1..8*1': a factor below 2 leads nowhere\n"},
        {"--vary pp=0..8*2", "--vary:pp: '0..8*2': 0 times anything is 0: start above it\n"},
        {"--vary pp=1..8+0", "--vary:pp: '1..8+0': a step of 0 leads nowhere\n"},
        {"--vary pp=1..2000000", "--vary:pp: '1..2000000': more than 1000000 values\n"},
        {"--vary pp=1..2000 --vary tp=1..2000", "sweep: more than 1000000 points\n"},
        {"--vary pp=1..4,2", "--vary:pp: '2' is given twice\n"},
        {"--vary pp=1 --vary parallel.pp=2", "--vary: " PP " varies already\n"},
        {"--vary pp=1 --set pp_size=2", "--set:pp_size: " PP " varies already\n"},
        {"--zip pp=1,2 --zip tp=1,2,4",
         "--zip: " PP " has 2 values, parallel.tensor_model_parallel_size has 3: all need the same "
         "number\n"},
        {"--vary pp=1 --sort mfuu",
         "tandem: sweep: --sort: there is no figure 'mfuu' (did you mean "
         "mfu?)\n"},
        {"--vary pp=1 --figures mfu,,hfu",
         "tandem: sweep: --figures: there is no figure '' (as step_time_s, tokens_per_s, "
         "bubble_fraction, peak_memory_bytes)\n"},
        {"--vary pp=1 --pareto mfu,mfu", "tandem: sweep: --pareto: expected two figures, as "
                                         "tokens_per_s,peak_memory_bytes\n"},
        {"--vary pp=1 --pareto mfu,hfu,mfu", "tandem: sweep: --pareto: more than 2 figures\n"},
        {"--vary pp=1 --top 0 -j 0x4", "tandem: sweep: --top: '0': expected 1 to 1000000\n"
                                       "tandem: sweep: -j: '0x4': expected 1 to 4096\n"},
        {"--vary pp=1 --timeout 5", "tandem: sweep: --timeout: '5': expected a time with its unit, "
                                    "as 25us (ns, us, ms, s, min, h)\n"},
        {"--points no.csv", "no.csv: No such file or directory\n"},
        {"--points empty.csv", "empty.csv: empty: the keys belong in its first line\n"},
        {"--points heads.csv", "heads.csv: keys, but no points below them\n"},
        {"--points short.csv", "short.csv:3: 1 cells, the first line has 2\n"
                               "short.csv:4: 3 cells, the first line has 2\n"},
        {"--points open.csv", "open.csv:2: a quote that is never closed\n"},
        {"--points behind.csv", "behind.csv:2: text behind a closing quote\n"},
        {"--points key.csv", "key.csv:1: unknown key"},
        {"--points twice.csv", "twice.csv: " PP " varies already\n"},
    };
    support_run_write("empty.csv", "\n# nothing\n");
    support_run_write("heads.csv", "pp,tp\n");
    support_run_write("short.csv", "pp,tp\n1,2\n1\n1,2,3\n");
    support_run_write("open.csv", "pp\n\"1\n2\n");
    support_run_write("behind.csv", "pp,tp\n\"1\"2,3\n");
    support_run_write("key.csv", "pp,nonsense\n1,2\n");
    support_run_write("twice.csv", "pp,pp_size\n1,2\n");
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        if (support_run(SWEEP SMALL " --out-dir wrong %s", cases[i].arguments) != 2)
            fail_msg("%s: not refused", cases[i].arguments);
        char *text = support_run_read("err");
        size_t n = strlen(cases[i].message);
        bool whole = cases[i].message[n - 1] == '\n';
        if (whole ? strcmp(text, cases[i].message) != 0 : strncmp(text, cases[i].message, n) != 0)
            fail_msg("%s: %s", cases[i].arguments, text);
        free(text);
    }
    assert_false(support_run_exists("wrong"));
}

static void test_table(void **state)
{
    (void)state;
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=1..4 --vary seq_length=32,64 --top 2"
                                             " --figures bubble_fraction,hfu --sort bubble_fraction"
                                             " --out-dir table"),
                     0);
    char *text = support_run_read("out");
    assert_non_null(strstr(text, ": 8 points, engine analytic\n"));
    assert_non_null(strstr(text, "\nThe best 2 of 6 that fit  (by bubble_fraction; * on the Pareto "
                                 "front of tokens_per_s and peak_memory_bytes)\n"));
    assert_non_null(strstr(text, " pp  seq_length  bubble_fraction  "));
    assert_non_null(strstr(text, "\nNot in the table: 2\n       2 invalid     as " PP
                                 ": 3 does not divide the 4 layers of model small-moe"));
    assert_null(strstr(text, "mfu"));
    assert_null(strchr(text, '\033'));
    free(text);
    /* Pass times: no tokens, no memory, so no front, and another order. */
    assert_int_equal(support_run(SWEEP TIMES " --vary schedule.name=1f1b,zb-h1 --out-dir times"),
                     0);
    text = support_run_read("out");
    assert_non_null(strstr(text, "\nAll 2 points  (by step_time_s)\n"));
    assert_true(strstr(text, "    zb-h1 ") < strstr(text, "    1f1b "));
    assert_null(strstr(text, "tokens_per_s"));
    free(text);
}

static void test_failure_to_write(void **state)
{
    (void)state;
    support_run_write("in-the-way", "");
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=1 --out-dir in-the-way/x"), 1);
    support_run_expect("err",
                       "in-the-way: cannot make this folder: Not a directory (choose another "
                       "with --out-dir; tandem sim --no-files writes none)\n");
    assert_int_equal(support_run("mkdir full && mkdir full/sweep.csv && " SWEEP SMALL
                                 " --vary pp=1 --out-dir full"),
                     1);
    support_run_expect("err", "full/sweep.csv: Is a directory\n");
    assert_int_equal(support_run("test -z \"$(ls -A full | grep tmp)\""), 0);
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=1 --out-dir full2 >/dev/full"), 1);
    support_run_expect("err", "tandem: standard output: No space left on device\n");
    support_run("test \"$(id -u)\" != 0 && mkdir locked && chmod 555 locked");
    if (support_run_exists("locked")) {
        assert_int_equal(support_run(SWEEP SMALL " --vary pp=1 --out-dir locked"), 1);
        support_run_expect("err",
                           "locked: cannot write into this folder: Permission denied (choose "
                           "another with --out-dir; tandem sim --no-files writes none)\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_points),
        cmocka_unit_test(test_order_is_independent_of_children),
        cmocka_unit_test(test_rows_are_those_of_sim),
        cmocka_unit_test(test_infeasible_rows),
        cmocka_unit_test(test_front_is_that_of_brute_force),
        cmocka_unit_test(test_quotes),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_failure_to_write),
    };
    return cmocka_run_group_tests(tests, support_run_enter, support_run_leave);
}
