/* test_perturbation_cli.c: perturbations from outside: repetitions and sensitivity print the same
 * each time, and say what they should. */
#include "core/figures.h"
#include "tests/support_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define TANDEM "'" TANDEM_PROGRAM "'"
#define ROOT   TANDEM_SOURCE_ROOT "/scenarios/"
#define NOISE                                                                                      \
    " --set perturbation.jitter.compute=4% --set perturbation.jitter.communication=10%"            \
    " --set 'perturbation.stragglers={count: 1, slowdown: 2}'"

static json_t *read_json(const char *name)
{
    char *text = support_run_read(name);
    json_error_t error;
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!document)
        fail_msg("%s:%d: %s", name, error.line, error.text);
    return document;
}

/* The number at keys separated by dots. */
static double number_at(const json_t *document, const char *path)
{
    char *keys = strdup(path), *rest = keys;
    const json_t *at = document;
    for (char *key; (key = strtok_r(rest, ".", &rest));)
        at = json_object_get(at, key);
    free(keys);
    if (!json_is_number(at))
        fail_msg("no number at %s", path);
    return json_number_value(at);
}

/* The time of a step that a result holds. */
static double step_at(const json_t *document, size_t i)
{
    const json_t *step = json_array_get(json_object_get(document, "steps"), i);
    return number_at(step, "step_time_s");
}

/* The ops of a result are those of a step of this time. */
static void check_ops_last(const char *folder, double step_s)
{
    char path[64];
    snprintf(path, sizeof path, "%s/ops.csv", folder);
    char *csv = support_run_read(path);
    double first_us = INFINITY, last_us = 0;
    for (const char *line = strchr(csv, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
        char *cell = (char *)(uintptr_t)line;
        for (int column = 0; column < 9; column++)
            cell = strchr(cell, ',') + 1;
        first_us = fmin(first_us, strtod(cell, &cell));
        last_us = fmax(last_us, strtod(cell + 1, NULL));
    }
    assert_true(fabs(1e-6 * (last_us - first_us) - step_s) < 1e-8);
    free(csv);
}

static const char *text_at(const json_t *document, const char *section, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(document, section), key));
    if (!text)
        fail_msg("no text at %s.%s", section, key);
    return text;
}

static void says(const char *file, const char *text)
{
    char *is = support_run_read(file);
    if (!strstr(is, text))
        fail_msg("%s lacks '%s':\n%s", file, text, is);
    free(is);
}

/* The same whatever -j is; the plan is that of the unperturbed scenario; the first repetition is
 * what a single run predicts, and the files are those of the median one. */
static void test_repeat_is_reproducible(void **state)
{
    (void)state;
    const char *command =
        TANDEM " sim " ROOT "small-moe-16gpu.yaml --engine analytic --format json";
    assert_int_equal(support_run("%s%s --repeat 9 -j 1 --out-dir one", command, NOISE), 0);
    assert_int_equal(support_run("%s%s --repeat 9 -j 4 --out-dir four", command, NOISE), 0);
    support_run_same("one/repetitions.csv", "four/repetitions.csv");
    support_run_same("one/figures.json", "four/figures.json");
    support_run_same("out", "four/figures.json");
    assert_int_equal(support_run("%s%s --out-dir single", command, NOISE), 0);
    assert_false(support_run_exists("single/repetitions.csv"));
    assert_int_equal(support_run("%s --out-dir plain", command), 0);
    support_run_same("plain/plan.txt", "one/plan.txt");
    json_t *one = read_json("one/figures.json"), *plain = read_json("plain/figures.json");
    json_t *single = read_json("single/figures.json");
    double first_s = number_at(single, "figures.step_time_s");
    assert_true(step_at(one, 0) == first_s && step_at(single, 0) == first_s);
    size_t median = (size_t)number_at(one, "median_step") - 1;
    assert_true(median > 0 && step_at(one, median) == number_at(one, "figures.step_time_s"));
    check_ops_last("one", number_at(one, "figures.step_time_s"));
    check_ops_last("single", first_s);
    json_decref(single);
    assert_string_equal(text_at(one, "provenance", "plan_hash"),
                        text_at(plain, "provenance", "plan_hash"));
    assert_null(json_object_get(plain, "repeat"));
    json_decref(one);
    json_decref(plain);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Median, interval and extremes recounted from repetitions.csv, whose second column is the step. */
static void test_spreads_follow_from_repetitions(void **state)
{
    (void)state;
    enum { N = 9 };
    char *csv = support_run_read("one/repetitions.csv"), *line = strchr(csv, '\n') + 1;
    assert_int_equal(strncmp(csv, "repetition,step_time_s,", 23), 0);
    double steps_s[N];
    for (int i = 0; i < N; i++, line = strchr(line, '\n') + 1) {
        assert_int_equal(strtol(line, NULL, 10), i + 1);
        steps_s[i] = strtod(strchr(line, ',') + 1, NULL);
    }
    assert_int_equal(*line, '\0');
    json_t *document = read_json("one/figures.json");
    for (size_t i = 0; i < N; i++)
        assert_true(fabs(step_at(document, i) - steps_s[i]) < 1e-13);
    qsort(steps_s, N, sizeof *steps_s, by_value);
    assert_true(fabs(number_at(document, "figures.step_time_s") - steps_s[N / 2]) < 1e-13);
    assert_true(steps_s[0] < steps_s[N - 1]);
    const struct {
        const char *path;
        double value;
    } expected[] = {{"repeat.figures.step_time_s.median", steps_s[4]},
                    {"repeat.figures.step_time_s.median_low", steps_s[1]},
                    {"repeat.figures.step_time_s.median_high", steps_s[7]},
                    {"repeat.figures.step_time_s.min", steps_s[0]},
                    {"repeat.figures.step_time_s.max", steps_s[8]},
                    {"repeat.figures.step_time_s.p5", 0.6 * steps_s[0] + 0.4 * steps_s[1]},
                    {"repeat.n", N}};
    for (size_t i = 0; i < TDM_COUNT(expected); i++)
        if (fabs(number_at(document, expected[i].path) - expected[i].value) > 1e-13)
            fail_msg("%s: %.17g is not %.17g", expected[i].path,
                     number_at(document, expected[i].path), expected[i].value);
    json_decref(document);
    free(csv);
}

/* Without chance one is run, and said so; targets are held against medians. */
static void test_repeat_verdicts(void **state)
{
    (void)state;
    const char *command = TANDEM " sim " ROOT "zb-1.5b.yaml --engine analytic --no-files";
    assert_int_equal(support_run("%s --repeat 50", command), 0);
    says("err", "nothing in this scenario is random");
    says("out", "(where its time goes, mean over ranks)");
    const char *likely = "--set 'perturbation.stragglers={probability: 60%, slowdown: 3}' "
                         "--repeat 30 --enforce-targets --set targets.step_time_s.max=";
    assert_int_equal(support_run("%s %s1.4s", command, likely), 3);
    says("out", "of 30 repetitions");
    assert_int_equal(support_run("%s %s1000s", command, likely), 0);
    assert_int_equal(
        support_run("%s --repeat 5 --set perturbation.jitter.compute=2%% --format csv", command),
        0);
    says("out", "figure,unit,median,median_low,median_high,p5,p95,min,max\nstep_time_s,s,1.3");
    says("out", ",,,"); /* five have no interval */
}

/* What scenario.yaml says is the same perturbation again. */
static void test_resolved_scenario(void **state)
{
    (void)state;
    assert_int_equal(support_run(TANDEM " sim " ROOT "moe-30b-16gpu-straggler.yaml --engine "
                                        "analytic --out-dir first --format csv"),
                     0);
    assert_int_equal(rename("out", "expected"), 0);
    assert_int_equal(support_run(TANDEM " sim first/scenario.yaml --engine analytic --out-dir "
                                        "second --format csv"),
                     0);
    support_run_same("out", "expected");
    char *platform = support_run_read("first/platform.xml");
    char *port = strstr(platform, "gpu-12-nvlink-up"),
         *other = strstr(platform, "gpu-11-nvlink-up");
    assert_true(port && other);
    double half = strtod(strstr(port, "bandwidth=\"") + 11, NULL),
           whole = strtod(strstr(other, "bandwidth=\"") + 11, NULL);
    assert_true(whole > 0 && fabs(2 * half - whole) <= 1e-9 * whole);
    free(platform);
}

/* With free transfers and one stage three times as slow as the others: the slow one's kernels are
 * the step but for the other stages' first forward and last backward. */
static void test_sensitivity_of_stages(void **state)
{
    (void)state;
    support_run_write("stages.yaml",
                      "pass_times: {forward: 4ms, backward_input: 3ms, backward_weight: 3ms}\n"
                      "parallel: {pipeline_model_parallel_size: 4}\n"
                      "schedule: {name: 1f1b, num_microbatches: 12}\n"
                      "perturbation: {gpus: [{gpus: 2, speed: 0.25}]}\n");
    assert_int_equal(support_run(TANDEM " sim stages.yaml --sensitivity --format json -j 3"), 0);
    assert_false(support_run_exists("runs"));
    json_t *document = read_json("out");
    double slow_s = 12 * 4 * 10e-3, step_s = slow_s + 2 * 10e-3;
    assert_true(fabs(number_at(document, "step_time_s") - step_s) < 1e-12);
    assert_string_equal(text_at(json_object_get(document, "worst"), "stage", "name"), "stage 2");
    assert_true(fabs(number_at(document, "worst.stage.change_s") - 0.1 * slow_s) < 1e-12);
    assert_true(fabs(number_at(document, "worst.stage.elasticity") - slow_s / step_s) < 1e-12);
    assert_true(json_is_null(json_object_get(json_object_get(document, "worst"), "link")));
    json_decref(document);
    assert_int_equal(support_run(TANDEM " sim stages.yaml --sensitivity=100%% --format csv"), 0);
    char *csv = support_run_read("out"), *all = strstr(csv, "class,all GPUs,");
    assert_non_null(all);
    assert_true(fabs(strtod(all + 15, NULL) - 2 * step_s) < 1e-12);
    free(csv);
}

/* GPU 3 runs at half speed and the port of GPU 12 at a tenth: they are named. */
static void test_sensitivity_names_the_culprits(void **state)
{
    (void)state;
    const char *command = TANDEM " sim " ROOT "moe-30b-16gpu.yaml --sensitivity --format json";
    assert_int_equal(support_run("%s --set 'perturbation.gpus=[{gpus: 3, speed: 50%%}]'", command),
                     0);
    json_t *document = read_json("out"), *worst = json_object_get(document, "worst");
    assert_string_equal(text_at(worst, "gpu", "name"), "GPU 3");
    assert_string_equal(text_at(worst, "stage", "name"), "stage 0");
    assert_non_null(strstr(text_at(worst, "gpu", "why"), "on the critical path"));
    json_decref(document);
    assert_int_equal(
        support_run("%s --set 'perturbation.links=[{links: gpu-12, bandwidth: 10%%}]'", command),
        0);
    document = read_json("out");
    worst = json_object_get(document, "worst");
    assert_string_equal(text_at(worst, "link", "name"), "gpu-12-nvlink");
    json_decref(document);
}

/* A sweep sees it as any other key, and knows its points again. */
static void test_sweep(void **state)
{
    (void)state;
    const char *command = TANDEM " sweep " ROOT "zb-1.5b.yaml --vary "
                                 "perturbation.jitter.compute=0%,5% --vary "
                                 "perturbation.jitter.seed=1,2 --out-dir sweep --format csv";
    assert_int_equal(support_run("%s", command), 0);
    char *csv = support_run_read("sweep/sweep.csv");
    assert_int_equal(support_run_lines(csv), 5);
    free(csv);
    assert_int_equal(rename("out", "expected"), 0);
    assert_int_equal(support_run("%s", command), 0);
    says("err", "4 of 4 points were known");
    support_run_same("out", "expected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeat_is_reproducible),
        cmocka_unit_test(test_spreads_follow_from_repetitions),
        cmocka_unit_test(test_repeat_verdicts),
        cmocka_unit_test(test_resolved_scenario),
        cmocka_unit_test(test_sensitivity_of_stages),
        cmocka_unit_test(test_sensitivity_names_the_culprits),
        cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests(tests, support_run_enter, support_run_leave);
}
