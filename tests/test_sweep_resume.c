/* test_sweep_resume.c: what a sweep keeps when it, or one of its children, comes to a bad end. */
#include "core/base.h"
#include "support_run.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SMALL TANDEM_SOURCE_ROOT "/scenarios/small-moe-16gpu.yaml"
#define LARGE TANDEM_SOURCE_ROOT "/scenarios/moe-30b-16gpu.yaml"
#define TIMES TANDEM_SOURCE_ROOT "/scenarios/zb-1.5b.yaml"
#define SWEEP "'" TANDEM_PROGRAM "' sweep "

/* A sanitizer reserves more address space than a limit leaves. */
#if defined(__SANITIZE_ADDRESS__)
static const bool is_sanitized = true;
#else
static const bool is_sanitized = false;
#endif

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static size_t count_lines(const char *path)
{
    if (!support_run_exists(path))
        return 0;
    char *text = support_run_read(path);
    size_t n = support_run_lines(text);
    free(text);
    return n;
}

/* Starts a sweep of 150 points in `folder` and sends it the signal once its journal has some lines.
 * Returns how it ended. */
static int interrupt(const char *folder, int signal_number)
{
    char path[64];
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    pid_t child = fork();
    if (child == 0) {
        int out = open("out", O_WRONLY | O_CREAT | O_TRUNC, 0666),
            err = open("err", O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        signal(SIGINT, SIG_DFL);
        execl(TANDEM_PROGRAM, TANDEM_PROGRAM, "sweep", SMALL, "--vary", "seed=1..150", "-j", "2",
              "--out-dir", folder, (char *)NULL);
        _exit(127);
    }
    assert_true(child > 0);
    for (int tries = 0; count_lines(path) < 20 && tries < 6000; tries++)
        sleep_ms(5);
    kill(child, signal_number);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_in_range(count_lines(path), 20, 151);
    return status;
}

static void run_to_the_end(const char *folder)
{
    assert_int_equal(support_run(SWEEP SMALL " --vary seed=1..150 -j 2 --out-dir %s", folder), 0);
}

static void check_same_results(const char *a, const char *b)
{
    static const char *const names[] = {"sweep.csv", "sweep.json", "pareto.csv"};
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        char first[128], second[128];
        snprintf(first, sizeof first, "%s/%s", a, names[i]);
        snprintf(second, sizeof second, "%s/%s", b, names[i]);
        support_run_same(first, second);
    }
}

/* Goes on with what is in the folder: no point of it is computed again, and the results are those
 * of a sweep that nobody disturbed. */
static void check_resumed(const char *folder)
{
    char path[64], expected[160];
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    char *before = support_run_read(path);
    assert_int_equal(strncmp(before, "{\"tandem_sweep_journal\":1}\n", 27), 0);
    char *end = strrchr(before, '\n');
    end[1] = '\0'; /* half a line does not count */
    size_t known = support_run_lines(before) - 1;
    run_to_the_end(folder);
    char *after = support_run_read(path), *said = support_run_read("err");
    assert_int_equal(support_run_lines(after), 1 + 150);
    assert_int_equal(strncmp(after, before, strlen(before)), 0);
    snprintf(expected, sizeof expected, "%zu of 150 points were known from %s\n", known, path);
    if (!strstr(said, expected))
        fail_msg("'%s' instead of '%s'", said, expected);
    check_same_results(folder, "calm");
    free(before);
    free(after);
    free(said);
}

static void test_killed(void **state)
{
    (void)state;
    int status = interrupt("killed", SIGKILL);
    assert_true(WIFSIGNALED(status));
    assert_false(support_run_exists("killed/sweep.csv"));
    check_resumed("killed");
    /* Once more: everything is known. */
    run_to_the_end("killed");
    char *said = support_run_read("err");
    assert_non_null(strstr(said, "150 of 150 points were known"));
    free(said);
    assert_int_equal(count_lines("killed/journal.jsonl"), 151);
    check_same_results("killed", "calm");
}

static void check_signal(const char *folder, int signal_number)
{
    int status = interrupt(folder, signal_number), n = 0;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + signal_number);
    char path[64], expected[256], *said = support_run_read("err");
    snprintf(path, sizeof path, "%s/journal.jsonl", folder);
    assert_int_equal(sscanf(said, "tandem: sweep: interrupted, %d of 150 points", &n), 1);
    assert_int_equal(n, count_lines(path) - 1); /* the journal is complete */
    snprintf(expected, sizeof expected,
             "tandem: sweep: interrupted, %d of 150 points are done and kept in %s; the same "
             "command goes on from there\n",
             n, path);
    assert_string_equal(said, expected);
    free(said);
    support_run_expect("out", "");
    check_resumed(folder);
}

static void test_interrupted(void **state)
{
    (void)state;
    check_signal("interrupted", SIGINT);
    check_signal("terminated", SIGTERM);
}

static void test_torn_line(void **state)
{
    (void)state;
    assert_int_equal(support_run("mkdir torn && cp calm/journal.jsonl torn && "
                                 "truncate -s -700 torn/journal.jsonl"),
                     0);
    check_resumed("torn");
    /* Torn within the very first line. */
    assert_int_equal(support_run("mkdir start && printf '{\"tandem' >start/journal.jsonl"), 0);
    run_to_the_end("start");
    check_same_results("start", "calm");
}

static void expect_known(const char *arguments, const char *known)
{
    assert_int_equal(support_run(SWEEP "%s --out-dir changes", arguments), 0);
    char *said = support_run_read("err");
    if (known ? !strstr(said, known) : strstr(said, "were known") != NULL)
        fail_msg("%s: %s", arguments, said);
    free(said);
}

/* Results are taken over for equal content only, whatever has another name or place. */
static void test_changes(void **state)
{
    (void)state;
    assert_int_equal(
        support_run("cp " SMALL " mine.yaml && cp " TANDEM_SOURCE_ROOT
                    "/topologies/nvswitch16-a100-80g.yaml near.yaml && cp " TANDEM_SOURCE_ROOT
                    "/topologies/devices/a100-80g.yaml gpu.yaml || ls " TANDEM_SOURCE_ROOT
                    "/topologies/devices"),
        0);
    static const char same[] = "mine.yaml --vary pp=1,2 --set topology=near --set device=gpu";
    expect_known(same, NULL);
    expect_known(same, "2 of 2 points were known");
    expect_known("mine.yaml --vary parallel.pp_size=2,1 --set topology=near --set device=gpu",
                 "2 of 2 points were known");
    expect_known("mine.yaml --vary pp=2,4 --set topology=near --set device=gpu",
                 "1 of 2 points were known");
    expect_known("mine.yaml --vary pp=1,2 --set topology=near --set device=gpu --set clip_grad=0",
                 NULL);
    assert_int_equal(support_run("sed -i 's/num_microbatches: 4/num_microbatches: 6/' mine.yaml"),
                     0);
    expect_known(same, NULL);
    assert_int_equal(support_run("echo '# a remark' >>near.yaml"), 0);
    expect_known(same, NULL);
    assert_int_equal(support_run("echo '# a remark' >>gpu.yaml"), 0);
    expect_known(same, NULL);
    expect_known(same, "2 of 2 points were known");
    expect_known("mine.yaml --vary pp=1,2 --set topology=near --set device=gpu --fresh", NULL);
    assert_int_equal(count_lines("changes/journal.jsonl"), 3);
    if (support_run("'" TANDEM_PROGRAM "' sim " SMALL " --no-files -q") == 0)
        expect_known("mine.yaml --vary pp=1,2 --set topology=near --set device=gpu --engine sim",
                     NULL);
}

/* An order of passes from a file is content, too. */
static void test_changed_order(void **state)
{
    (void)state;
    assert_int_equal(
        support_run(
            "cp " TIMES " order.yaml && '" TANDEM_PROGRAM
            "' plan order.yaml --schedule-csv >a.csv && '" TANDEM_PROGRAM
            "' plan order.yaml --schedule-csv --set schedule.name=gpipe >b.csv && cp a.csv order.csv"),
        0);
    static const char arguments[] =
        "order.yaml --set schedule.csv=order.csv --vary schedule.name=csv";
    expect_known(arguments, NULL);
    expect_known(arguments, "1 of 1 points were known");
    assert_int_equal(support_run("cp b.csv order.csv"), 0);
    expect_known(arguments, NULL);
    char *csv = support_run_read("changes/sweep.csv");
    assert_non_null(strstr(csv, "\ncsv,ok,"));
    free(csv);
}

static void test_bad_journal(void **state)
{
    (void)state;
#define REMEDY " (--fresh begins a new journal, --out-dir chooses another folder)\n"
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"my diary\n", "bad/journal.jsonl:1: not the journal of a sweep" REMEDY},
        {"my diary", "bad/journal.jsonl:1: not the journal of a sweep" REMEDY},
        {"\n", "bad/journal.jsonl:1: not the journal of a sweep" REMEDY},
        {"{\"tandem_sweep_journal\":1}\n{}\n", "bad/journal.jsonl:2: not a result: no key" REMEDY},
        {"{\"tandem_sweep_journal\":1}\n{\"key\":\"fnv1a64:0123456789abcdef\"}\n",
         "bad/journal.jsonl:2: not a result: no status" REMEDY},
        {"{\"tandem_sweep_journal\":1}\n{\"key\":\"fnv1a64:0123456789abcdef\",\"status\":\"ok\","
         "\"reason\":\"\",\"plan_hash\":\"\"}\n",
         "bad/journal.jsonl:2: not a result: figures do not go with the status" REMEDY},
        {"{\"tandem_sweep_journal\":1}\n{\"key\":\"fnv1a64:0123456789abcdef\",\"status\":"
         "\"invalid\",\"reason\":\"x\",\"plan_hash\":\"\"}\n{\"key\n",
         "bad/journal.jsonl:3: not a result: "},
    };
    assert_int_equal(support_run("mkdir bad"), 0);
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        support_run_write("bad/journal.jsonl", cases[i].text);
        assert_int_equal(support_run(SWEEP SMALL " --vary pp=1 --out-dir bad"), 2);
        char *said = support_run_read("err");
        if (strncmp(said, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: %s", cases[i].text, said);
        free(said);
        support_run_expect("bad/journal.jsonl", cases[i].text); /* it may be somebody's own */
    }
    assert_int_equal(support_run(SWEEP SMALL " --vary pp=1 --out-dir bad --fresh -q"), 0);
    assert_int_equal(count_lines("bad/journal.jsonl"), 2);
    assert_int_equal(
        support_run("mkdir -p odd/journal.jsonl && " SWEEP SMALL " --vary pp=1 --out-dir odd"), 1);
    support_run_expect("err", "odd/journal.jsonl: Is a directory\n");
    assert_int_equal(
        support_run("mkdir device && ln -s /dev/zero device/journal.jsonl && " SWEEP SMALL
                    " --vary pp=1 --out-dir device"),
        1);
}

/* Two sweeps do not write into one folder. */
static void test_locked(void **state)
{
    (void)state;
    int file = open("calm/journal.jsonl", O_RDWR);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_true(file >= 0 && fcntl(file, F_SETLK, &whole) == 0);
    assert_int_equal(support_run(SWEEP SMALL " --vary seed=1..150 --out-dir calm"), 1);
    support_run_expect("err", "calm/journal.jsonl: another sweep writes to this folder (choose "
                              "another with --out-dir)\n");
    close(file);
    assert_int_equal(count_lines("calm/journal.jsonl"), 151);
}

/* Files that must not grow: as a full disk. */
static void test_full_disk(void **state)
{
    (void)state;
    assert_int_equal(
        support_run("ulimit -f 8; " SWEEP SMALL " --vary seed=1..150 -j 2 --out-dir limit"), 1);
    support_run_expect("err", "limit/journal.jsonl: File too large\n");
    support_run_expect("out", "");
    assert_int_equal(support_run("ls -A limit"), 0);
    support_run_expect("out", "journal.jsonl\n");
    assert_true(count_lines("limit/journal.jsonl") > 1);
    check_resumed("limit");
}

/* A child that dies takes its own point along and no other. */
static void test_crash(void **state)
{
    (void)state;
    if (is_sanitized)
        skip();
    static const char arguments[] = LARGE " --vary num_microbatches=1,512,2 --out-dir crash";
    assert_int_equal(support_run("ulimit -v 100000; " SWEEP "%s", arguments), 1);
    char *csv = support_run_read("crash/sweep.csv"), *said = support_run_read("err");
    assert_non_null(strstr(csv, "\n1,ok,yes,"));
    assert_non_null(strstr(csv, "\n2,ok,yes,"));
    assert_non_null(strstr(csv, "\n512,failed,,,"));
    assert_non_null(strstr(csv, ",,\"crashed, signal 6 (Aborted)"));
    assert_non_null(
        strstr(said, "tandem: sweep: 1 of 3 points failed; the same command tries them again\n"));
    free(csv);
    free(said);
    assert_int_equal(count_lines("crash/journal.jsonl"), 3);
    assert_int_equal(support_run(SWEEP "%s", arguments), 0);
    csv = support_run_read("crash/sweep.csv");
    assert_non_null(strstr(csv, "\n512,"));
    assert_null(strstr(csv, "failed"));
    free(csv);
}

static void test_timeout(void **state)
{
    (void)state;
    assert_int_equal(
        support_run(SWEEP LARGE " --vary num_microbatches=64,128 --timeout 1ms --out-dir late"), 1);
    char *csv = support_run_read("late/sweep.csv");
    assert_non_null(strstr(csv, "\n64,failed,,,"));
    assert_non_null(strstr(csv, "\n128,failed,,,"));
    assert_non_null(strstr(csv, ",no result within 0.001 s (--timeout)\n"));
    free(csv);
    assert_int_equal(count_lines("late/journal.jsonl"), 1);
}

static int enter(void **state)
{
    if (support_run_enter(state) != 0)
        return -1;
    run_to_the_end("calm");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed),        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_torn_line),     cmocka_unit_test(test_changes),
        cmocka_unit_test(test_changed_order), cmocka_unit_test(test_bad_journal),
        cmocka_unit_test(test_locked),        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_crash),         cmocka_unit_test(test_timeout),
    };
    return cmocka_run_group_tests(tests, enter, support_run_leave);
}
