/* test_report.c: `tandem report`: the page is well-formed, fetches nothing, and holds what the
 * result says. */
#include "core/figures.h"
#include "core/xml.h"
#include "tests/support_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define TANDEM "'" TANDEM_PROGRAM "'"

/* ---- the page ---- */

static tdm_xml *read_page(tdm_arena *arena, const char *path)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_xml *root = NULL;
    char *text = support_run_read(path);
    if (strncmp(text, "<!DOCTYPE html>\n", 16) != 0)
        fail_msg("%s does not begin as HTML does", path);
    if (tdm_xml_parse(arena, path, text, strlen(text), &root, err) != TDM_OK)
        fail_msg("%s", err->text);
    free(text);
    return root;
}

/* The next element in the order of the page. */
static const tdm_xml *after(const tdm_xml *element)
{
    if (element->first)
        return element->first;
    while (element && !element->next)
        element = element->parent;
    return element ? element->next : NULL;
}

static uint32_t count(const tdm_xml *root, const char *name)
{
    uint32_t n = 0;
    for (const tdm_xml *e = root; e; e = after(e))
        n += tdm_xml_is(e, name);
    return n;
}

/* The element of that name whose text is, or begins with, this. */
static const tdm_xml *find(const tdm_xml *root, const char *name, const char *text, bool begins)
{
    size_t n = strlen(text);
    for (const tdm_xml *e = root; e; e = after(e))
        if (tdm_xml_is(e, name) && e->text &&
            (begins ? strncmp(e->text, text, n) == 0 : strcmp(e->text, text) == 0))
            return e;
    return NULL;
}

static const tdm_xml *must(const tdm_xml *found, const char *what)
{
    if (!found)
        fail_msg("the page has no %s", what);
    return found;
}

/* Ids are the page's only ones, what refers to one finds it, and nothing comes from elsewhere. */
static void check_page(const tdm_xml *root)
{
    static const char *const fetching[] = {"script", "link",   "img",   "iframe",
                                           "object", "embed",  "image", "foreignObject",
                                           "video",  "source", "base",  "form"};
    for (size_t i = 0; i < TDM_COUNT(fetching); i++)
        assert_int_equal(count(root, fetching[i]), 0);
    for (const tdm_xml *e = root; e; e = after(e)) {
        const char *id = tdm_xml_get(e, "id"), *href = tdm_xml_get(e, "xlink:href");
        uint32_t n_same = 0, n_found = 0;
        assert_null(tdm_xml_get(e, "src"));
        assert_null(tdm_xml_get(e, "href"));
        if (!id && !href)
            continue;
        for (const tdm_xml *o = root; o; o = after(o)) {
            const char *other = tdm_xml_get(o, "id");
            n_same += id && other && strcmp(id, other) == 0;
            n_found += href && other && strcmp(href + 1, other) == 0;
        }
        assert_true(!id || n_same == 1);
        assert_true(!href || (href[0] == '#' && n_found == 1));
    }
    const tdm_xml *style = must(find(root, "style", "", true), "style");
    assert_null(strstr(style->text, "url("));
    assert_null(strstr(style->text, "@import"));
    assert_non_null(strstr(style->text, "prefers-color-scheme:dark"));
}

static json_t *read_json(const char *path)
{
    json_t *document = json_load_file(path, 0, NULL);
    assert_non_null(document);
    return document;
}

/* A figure's cell, in the figure's own unit. */
static double cell_value(const char *text, const char *unit)
{
    char digits[64];
    size_t n = 0;
    const char *at = text;
    for (; strchr("0123456789.- ", *at) && *at && n + 1 < sizeof digits; at++)
        if (*at != ' ') /* between thousands */
            digits[n++] = *at;
    digits[n] = '\0';
    double scale = strcmp(unit, "s") == 0 ? 1e-3 : strcmp(unit, "bytes") == 0 ? 1e9 : 1;
    return strtod(digits, NULL) * (unit[0] ? scale : 0.01);
}

/* Every figure of the result stands in the page, to the digits shown. */
static void check_figures(const tdm_xml *root, const char *path)
{
    json_t *document = read_json(path);
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++) {
        const json_t *value = json_object_get(json_object_get(document, "figures"), info->name);
        const tdm_xml *cell = find(root, "td", info->name, false);
        if (!json_is_number(value)) {
            assert_null(cell);
            continue;
        }
        double is = cell_value(must(cell, info->name)->next->text, info->unit);
        double half = strcmp(info->unit, "s") == 0          ? 5e-7
                      : strcmp(info->unit, "bytes") == 0    ? 5e6
                      : strcmp(info->unit, "tokens/s") == 0 ? 0.5
                                                            : 5e-5;
        if (fabs(is - json_number_value(value)) > 1.001 * half)
            fail_msg("%s is %.9g in the page, %.9g in %s", info->name, is, json_number_value(value),
                     path);
    }
    json_decref(document);
}

static bool has_gnuplot(void)
{
    return support_run("command -v gnuplot") == 0;
}

/* ---- tests ---- */

static void test_prediction(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    assert_int_equal(
        support_run(TANDEM " sim moe-30b-16gpu -q --engine analytic --set num_layers=8"), 0);
    assert_int_equal(support_run(TANDEM " report runs/moe-30b-16gpu"), 0);
    support_run_expect("out", "runs/moe-30b-16gpu/report.html\n");
    const tdm_xml *root = read_page(&arena, "runs/moe-30b-16gpu/report.html");
    check_page(root);
    check_figures(root, "runs/moe-30b-16gpu/figures.json");
    static const char *const headings[] = {
        "Checklist: ", "Step: ",        "Pipeline stages",
        "Op classes",  "Communication", "Memory: rank ",
        "Figures",     "Ranks",         "Where the numbers come from",
        "Command",     "Scenario"};
    for (size_t i = 0; i < TDM_COUNT(headings); i++)
        must(find(root, "h2", headings[i], true), headings[i]);
    assert_int_equal(count(root, "figure"), has_gnuplot() ? 3 : 0);
    json_t *document = read_json("runs/moe-30b-16gpu/figures.json");
    const json_t *targets = json_object_get(document, "targets");
    for (size_t i = 0; i < json_array_size(targets); i++) {
        const json_t *target = json_array_get(targets, i);
        const char *label = json_string_value(json_object_get(target, "label"));
        const tdm_xml *row = must(find(root, "td", label, false), label)->parent;
        assert_string_equal(tdm_xml_get(row->first, "class"),
                            json_is_true(json_object_get(target, "pass")) ? "pass" : "fail");
    }
    assert_int_equal(json_array_size(targets), 8);
    json_decref(document);
    must(find(root, "pre", "tandem sim moe-30b-16gpu -q --engine analytic --set num_layers=8\n",
              false),
         "command");
    must(find(root, "td", "worst of all that were used: guess", true), "grade");
    tdm_arena_free(&arena);
}

static void test_repetitions(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    assert_int_equal(support_run(TANDEM " sim zb-1.5b -q --engine analytic --repeat 7 --set "
                                        "perturbation.jitter.compute=5%% --out-dir repeated"),
                     0);
    assert_int_equal(support_run(TANDEM " report repeated --no-plots -o page.html"), 0);
    support_run_expect("out", "");
    assert_false(support_run_exists("repeated/report.html"));
    const tdm_xml *root = read_page(&arena, "page.html");
    check_page(root);
    check_figures(root, "repeated/figures.json");
    must(find(root, "th", "95 % from", false), "interval");
    must(find(root, "span", "step, median of 7 from ", true), "spread");
    assert_int_equal(count(root, "figure"), 0);
    tdm_arena_free(&arena);
}

/* Whatever a file or a command is called stays text. */
static void test_escaping(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const char text[] =
        "pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}\n"
        "parallel: {pipeline_model_parallel_size: 2}\n"
        "schedule: {name: 1f1b, num_microbatches: 4}\n"
        "targets: {bubble_fraction: {max: 5%, label: \"<i>less & less</i>\"}}\n";
    support_run_write("a<b> & \"c'.yaml", text);
    assert_int_equal(support_run(TANDEM " sim \"a<b> & \\\"c'.yaml\" -q --engine analytic "
                                        "--out-dir \"$(printf 'odd\\377')\""),
                     0);
    assert_int_equal(support_run(TANDEM " report \"$(printf 'odd\\377')\" -o - --no-plots"), 0);
    const tdm_xml *root = read_page(&arena, "out");
    check_page(root);
    must(find(root, "h1", "a<b> & \"c'", false), "title as it is");
    must(find(root, "title", "a<b> & \"c'", false), "title as it is");
    must(find(root, "td", "<i>less & less</i>", false), "label as it is");
    must(find(root, "pre", "tandem sim 'a<b> & \"c'\\''.yaml' -q ", true), "command as it is");
    assert_non_null(strstr(find(root, "pre", "tandem sim", true)->text, "odd\xEF\xBF\xBD"));
    tdm_arena_free(&arena);
}

static void test_both_sides(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    assert_int_equal(support_run(TANDEM " validate zb-1.5b -q --engine analytic --device paced "
                                        "--pace 0.05 --steps 3 --tolerance 0 --no-plots "
                                        "--set targets.bubble_fraction.max=1%% --out-dir both"),
                     4);
    assert_int_equal(support_run(TANDEM " report both"), 0);
    const tdm_xml *root = read_page(&arena, "both/report.html");
    check_page(root);
    static const char *const headings[] = {"Checklist: 0 of 1 pass as predicted, 0 as measured",
                                           "Step: predicted 1310.405 ms, measured ",
                                           "Op classes",
                                           "Stages",
                                           "Ranks",
                                           "Ops: ",
                                           "Figures",
                                           "Steps carried out",
                                           "Where the prediction comes from",
                                           "Where the measurement comes from",
                                           "Command"};
    for (size_t i = 0; i < TDM_COUNT(headings); i++)
        must(find(root, "h2", headings[i], true), headings[i]);
    must(find(root, "b", "OUTSIDE", false), "verdict");
    must(find(root, "td", "paced (carried out: ", true), "device");
    json_t *document = read_json("both/comparison.json");
    const json_t *figures = json_object_get(document, "figures");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);
        const char *name = json_string_value(json_object_get(figure, "name"));
        must(find(root, "td", name, false), name);
    }
    json_decref(document);
    assert_int_equal(count(root, "figure"), has_gnuplot() ? 5 : 0);
    tdm_arena_free(&arena);
}

static void says(const char *file, const char *text)
{
    char *is = support_run_read(file);
    if (!strstr(is, text))
        fail_msg("%s lacks '%s':\n%s", file, text, is);
    free(is);
}

static void test_mistakes(void **state)
{
    (void)state;
    assert_int_equal(support_run("mkdir empty && " TANDEM " report empty"), 2);
    says("err", "empty: no result in this folder (tandem sim, run and validate write one");
    assert_int_equal(support_run(TANDEM " report nowhere"), 2);
    assert_int_equal(support_run(TANDEM " report"), 2);
    assert_int_equal(
        support_run("mkdir cut && echo '{' >cut/figures.json && " TANDEM " report cut"), 2);
    says("err", "cut/figures.json:2:0: no JSON");
    /* Without gnuplot the page says so. */
    assert_int_equal(support_run("mkdir bin; PATH=$PWD/bin " TANDEM " report repeated"), 0);
    says("err", "report: no pictures: gnuplot is not installed (Debian: gnuplot-nox;");
    says("repeated/report.html", "Without pictures: gnuplot was not installed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prediction), cmocka_unit_test(test_repetitions),
        cmocka_unit_test(test_escaping),   cmocka_unit_test(test_both_sides),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, support_run_enter, support_run_leave);
}
