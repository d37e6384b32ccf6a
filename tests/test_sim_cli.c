/* test_sim_cli.c: `tandem sim` from outside: its files are complete and valid, its exit codes and
 * its report are as documented. */
#include "core/figures.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#define SMALL TANDEM_SOURCE_ROOT "/scenarios/small-moe-16gpu.yaml"
#define TIMES TANDEM_SOURCE_ROOT "/scenarios/zb-1.5b.yaml"

static char folder[] = "/tmp/tandem-test-XXXXXX";

/* Runs `tandem sim ARGUMENTS` in the test's folder; output goes to the files out and err there.
 * Returns the exit code. */
static int sim(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "cd %s && '%s' sim %s >out 2>err", folder, TANDEM_PROGRAM,
             arguments);
    int status = system(command);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Contents of a file of the test's folder; free() it. */
static char *read_file(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("no file %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    assert_true(size >= 0);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    text[size] = '\0';
    fclose(file);
    return text;
}

static bool exists(const char *name)
{
    char path[512];
    struct stat status;
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof path && stat(path, &status) == 0;
}

static json_t *read_json(const char *name)
{
    char *text = read_file(name);
    json_error_t error;
    json_t *document = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!document)
        fail_msg("%s:%d: %s", name, error.line, error.text);
    return document;
}

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static json_int_t int_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("%s is no integer", key);
    return json_integer_value(value);
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text)
        fail_msg("%s is no string", key);
    return text;
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && sim(SMALL " --engine analytic --format json") == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void test_figures_json(void **state)
{
    (void)state;
    char *printed = read_file("out"), *written = read_file("runs/small-moe-16gpu/figures.json");
    assert_string_equal(printed, written);
    json_t *document = read_json("runs/small-moe-16gpu/figures.json");
    assert_int_equal(int_at(document, "schema_version"), 1);
    const json_t *figures = json_object_get(document, "figures");
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        if (!json_is_number(json_object_get(figures, info->name)))
            fail_msg("%s is missing", info->name);
    const json_t *provenance = json_object_get(document, "provenance");
    assert_string_equal(text_at(provenance, "engine"), "analytic");
    assert_int_equal(strncmp(text_at(provenance, "plan_hash"), "fnv1a64:", 8), 0);
    assert_int_equal(json_array_size(json_object_get(document, "ranks")), 16);
    assert_int_equal(json_array_size(json_object_get(document, "stages")), 2);
    double sum = 0, step = json_real_value(json_object_get(figures, "step_time_s"));
    static const char *const parts[] = {"compute_s", "exposed_transfer_s", "peer_wait_s",
                                        "bubble_s",  "issue_gap_s",        "optimizer_s"};
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        sum += json_number_value(json_object_get(json_object_get(document, "waterfall"), parts[i]));
    assert_true(step > 0 && sum > step * (1 - 1e-12) && sum < step * (1 + 1e-12));
    json_decref(document);
    free(printed);
    free(written);
}

typedef struct trace_counts {
    size_t kernels, passes, sends, receives, counters, names;
} trace_counts;

static void count_event(const json_t *event, trace_counts *n, json_t *open_arrows)
{
    const char *phase = text_at(event, "ph");
    char id[32];
    assert_true(int_at(event, "pid") >= 0 && int_at(event, "pid") < 16);
    if (phase[0] == 'X') {
        bool pass = strcmp(text_at(event, "cat"), "user_annotation") == 0;
        n->passes += pass;
        n->kernels += !pass;
        assert_true(json_number_value(json_object_get(event, "dur")) >= 0);
        assert_true(json_number_value(json_object_get(event, "ts")) >= 0);
    } else if (phase[0] == 's' || phase[0] == 'f') {
        /* A send and a receive of one number each. */
        snprintf(id, sizeof id, "%c%lld", phase[0], (long long)int_at(event, "id"));
        assert_null(json_object_get(open_arrows, id));
        json_object_set_new(open_arrows, id, json_true());
        n->sends += phase[0] == 's';
        n->receives += phase[0] == 'f';
    } else {
        n->counters += phase[0] == 'C';
        n->names += phase[0] == 'M';
    }
}

static trace_counts count_trace(const char *name)
{
    json_t *document = read_json(name), *arrows = json_object();
    trace_counts n = {0};
    const json_t *events = json_object_get(document, "traceEvents"), *event;
    size_t i;
    assert_true(json_array_size(events) > 0);
    json_array_foreach(events, i, event) count_event(event, &n, arrows);
    const char *id;
    json_t *value;
    json_object_foreach(arrows, id, value)
    {
        char other[32];
        snprintf(other, sizeof other, "%c%s", id[0] == 's' ? 'f' : 's', id + 1);
        assert_non_null(json_object_get(arrows, other));
    }
    json_decref(arrows);
    json_decref(document);
    return n;
}

static void test_trace_json(void **state)
{
    (void)state;
    json_t *figures = read_json("runs/small-moe-16gpu/figures.json");
    trace_counts n = count_trace("runs/small-moe-16gpu/trace.json");
    assert_int_equal(n.kernels, int_at(json_object_get(figures, "provenance"), "n_ops"));
    assert_int_equal(n.passes, 16 * (2 * 4 + 1));
    assert_int_equal(n.counters, n.passes);
    assert_int_equal(n.sends, 8 * 2 * 4); /* pairs of ranks, directions, microbatches */
    assert_int_equal(n.receives, n.sends);
    assert_true(n.names >= 16 * 2);
    n = count_trace("runs/small-moe-16gpu/forward-trace.json");
    assert_int_equal(n.passes, 16);
    assert_int_equal(n.sends, 8);
    json_decref(figures);
}

static void test_tables(void **state)
{
    (void)state;
    json_t *figures = read_json("runs/small-moe-16gpu/figures.json");
    char *ops = read_file("runs/small-moe-16gpu/ops.csv"),
         *memory = read_file("runs/small-moe-16gpu/memory.csv");
    assert_int_equal(count_lines(ops) - 1, int_at(json_object_get(figures, "provenance"), "n_ops"));
    assert_int_equal(count_lines(memory) - 1, 16 * (2 * 4 + 1));
    static const char head[] =
        "rank,stage,stream,pass,microbatch,chunk,layer,op,kind,start_us,end_us,bytes,flops\n";
    assert_memory_equal(ops, head, sizeof head - 1);
    size_t commas = 0;
    for (const char *c = ops; *c; c++) {
        commas += *c == ',';
        if (*c == '\n') {
            assert_int_equal(commas, 12);
            commas = 0;
        }
    }
    free(ops);
    free(memory);
    json_decref(figures);
}

static void test_folder_holds_whole_files_only(void **state)
{
    (void)state;
    static const char *const names[] = {"command.txt",  "figures.json",  "forward-trace.json",
                                        "memory.csv",   "ops.csv",       "plan.txt",
                                        "platform.xml", "scenario.yaml", "trace.json"};
    char path[512];
    snprintf(path, sizeof path, "%s/runs/small-moe-16gpu", folder);
    size_t n = 0;
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(directory);
    assert_int_equal(n, TDM_COUNT(names));
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        snprintf(path, sizeof path, "runs/small-moe-16gpu/%s", names[i]);
        assert_true(exists(path));
    }
}

/* What was resolved is the same question again. */
static void check_resolved(const char *arguments, const char *name)
{
    char command[512], path[256];
    snprintf(command, sizeof command, "%s --engine analytic -q", arguments);
    assert_int_equal(sim(command), 0);
    snprintf(path, sizeof path, "runs/%s/figures.json", name);
    json_t *first = read_json(path);
    /* A scenario is called after its file: the copy has another name, and so has its plan. */
    snprintf(command, sizeof command,
             "runs/%s/scenario.yaml --engine analytic --format json --out-dir again/x", name);
    assert_int_equal(sim(command), 0);
    json_t *second = read_json("again/x/figures.json");
    static const char *const parts[] = {"figures", "waterfall", "stages", "ranks", "targets"};
    for (size_t i = 0; i < TDM_COUNT(parts); i++)
        if (!json_equal(json_object_get(first, parts[i]), json_object_get(second, parts[i])))
            fail_msg("%s: %s differ", name, parts[i]);
    json_decref(first);
    json_decref(second);
}

static void test_resolved_scenario_loads_again(void **state)
{
    (void)state;
    check_resolved(SMALL " --set num_microbatches=6 --set targets.bubble_fraction.max=50%"
                         " --set nccl.NCCL_ALGO=ring",
                   "small-moe-16gpu");
    char *resolved = read_file("runs/small-moe-16gpu/scenario.yaml");
    assert_non_null(strstr(resolved, "\nnccl:\n  NCCL_ALGO: \"ring\"\n"));
    free(resolved);
    check_resolved(TIMES, "zb-1.5b");
    assert_int_equal(sim(SMALL " --engine analytic -q"), 0);
}

static void test_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(sim(SMALL " --engine analytic --no-files --set targets.mfu.min=99%"), 0);
    assert_int_equal(
        sim(SMALL " --engine analytic --no-files --set targets.mfu.min=99% --enforce-targets"), 3);
    assert_int_equal(
        sim(SMALL " --engine analytic --no-files --set targets.mfu.max=99% --enforce-targets"), 0);
    assert_int_equal(sim(SMALL " --engine analytic --no-files --set memory_limit=1MB"), 0);
    char *text = read_file("out");
    assert_non_null(strstr(text, "DOES NOT FIT"));
    free(text);
    assert_int_equal(
        sim(SMALL " --engine analytic --no-files --set memory_limit=1MB --enforce-targets"), 3);
    assert_int_equal(sim(SMALL " --engine guess"), 2);
    assert_int_equal(sim("no-such-file.yaml --engine analytic"), 2);
    assert_false(exists("runs/no-such-file"));
}

static void test_failure_to_write_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(sim(SMALL " --engine analytic -o report.txt --no-files"), 0);
    assert_true(exists("report.txt"));
    assert_int_equal(sim(SMALL " --engine analytic --out-dir report.txt/x"), 1);
    char *text = read_file("out");
    assert_string_equal(text, "");
    free(text);
    text = read_file("err");
    assert_non_null(strstr(text, "report.txt"));
    free(text);
    assert_int_equal(sim(SMALL " --engine analytic --no-files -o /nowhere/x"), 1);
}

/* Lines of a report: at most 100 columns, no blanks at their end, no escape sequences in a file. */
static void check_report(const char *path, const char *options)
{
    char command[1024];
    int n = snprintf(command, sizeof command, "'%s' --engine analytic --no-files%s", path, options);
    assert_true(n > 0 && (size_t)n < sizeof command);
    assert_int_equal(sim(command), 0);
    char *text = read_file("out");
    assert_null(strchr(text, '\033'));
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        size_t length = strcspn(line, "\n");
        if (length > 100 || (length > 0 && line[length - 1] == ' '))
            fail_msg("%s: '%.*s'", path, (int)length, line);
    }
    free(text);
}

static void test_reports_of_all_scenarios(void **state)
{
    (void)state;
    const char *scenarios = TANDEM_SOURCE_ROOT "/scenarios";
    DIR *directory = opendir(scenarios);
    assert_non_null(directory);
    size_t n = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".yaml") != 0)
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", scenarios, entry->d_name);
        check_report(path, "");
        n++;
    }
    closedir(directory);
    assert_true(n > 0);
    static const char machine[] = TANDEM_SOURCE_ROOT "/scenarios/moe-30b-16gpu-straggler.yaml";
    check_report(machine, " --repeat 3");
    check_report(machine, " --sensitivity");
}

static void test_other_formats(void **state)
{
    (void)state;
    assert_int_equal(sim(TIMES " --engine analytic --no-files --format csv"), 0);
    char *text = read_file("out");
    assert_memory_equal(text, "figure,value,unit\nstep_time_s,", 30);
    assert_null(strstr(text, "tokens_per_s")); /* pass times know no tokens */
    free(text);
    assert_int_equal(sim(SMALL " --engine analytic --no-files --format md"), 0);
    text = read_file("out");
    assert_memory_equal(text, "# small-moe-16gpu", 17);
    assert_non_null(strstr(text, "| stage |"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures_json),
        cmocka_unit_test(test_trace_json),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_folder_holds_whole_files_only),
        cmocka_unit_test(test_resolved_scenario_loads_again),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_failure_to_write_is_an_error),
        cmocka_unit_test(test_reports_of_all_scenarios),
        cmocka_unit_test(test_other_formats),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
