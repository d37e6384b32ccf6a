/* test_nccl_log.c: what nccl-tests prints, in its three forms. */
#include "core/nccl_log.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char text_log[] =
    "# nThread 1 nGpus 8 minBytes 8 maxBytes 16\n"
    "# Collective test starting: all_reduce_perf\n"
    "#       size         count      type   redop    root     time   algbw   busbw #wrong     time   "
    "algbw   busbw #wrong\n"
    "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)\n"
    "host:1:2 [0] NCCL INFO Channel 00/0\n"
    "           8             2     float     sum      -1    12.90    0.00    0.00      0    13.10    "
    "0.00    0.00      0\n"
    "     1048576        262144     float     sum      -1    28.56   36.71   64.24      0    28.20   "
    "37.18   65.06      0\n"
    "# Avg bus bandwidth    : 32.1\n";

static const char json_log[] =
    "{\"version\": 1, \"results\": [\n {\"size\": 8, \"count\": 2, \"type\": \"float\", "
    "\"out_of_place\": {\"time\": 12.9, \"alg_bw\": 0.0}, \"in_place\": null},\n"
    " {\"size\": 1048576, \"out_of_place\": null, \"in_place\": {\"time\": 28.56}}]}";

static const char csv_log[] = "# source: somewhere\nsize_bytes,time_us,algbw_GBps\n8,12.9,0.0\n"
                              "1048576,28.56,36.71\n";

static void check(const char *text, const char *program)
{
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_nccl_log log = {0};
    if (tdm_nccl_log_parse(&arena, "log", text, strlen(text), &log, &err) != TDM_OK)
        fail_msg("%s", err.text);
    assert_int_equal(log.n_rows, 2);
    assert_int_equal(log.rows[0].bytes, 8);
    assert_true(fabs(log.rows[0].time_s - 12.9e-6) < 1e-12);
    assert_int_equal(log.rows[1].bytes, 1048576);
    assert_true(fabs(log.rows[1].time_s - 28.56e-6) < 1e-12);
    if (program)
        assert_string_equal(log.program, program);
    else
        assert_null(log.program);
    tdm_arena_free(&arena);
}

static void test_ranks(void **state)
{
    (void)state;
    static const char log_text[] =
        "# Using devices\n"
        "#  Rank  0 Group  0 Pid  17871 on  node-1 device  0 [0000:18:00] NVIDIA H100\n"
        "#  Rank  1 Group  0 Pid  17871 on  node-1 device  1 [0000:2a:00] NVIDIA H100\n"
        "# Ranks 7\n"
        "           8             2     float     sum      -1    12.90    0.00    0.00      0\n";
    tdm_arena arena = {0};
    tdm_nccl_log log = {0};
    assert_int_equal(tdm_nccl_log_parse(&arena, "log", log_text, strlen(log_text), &log, NULL),
                     TDM_OK);
    assert_int_equal(log.n_ranks, 2);
    assert_int_equal(tdm_nccl_log_parse(&arena, "log", text_log, strlen(text_log), &log, NULL),
                     TDM_OK);
    assert_int_equal(log.n_ranks, 0);
    tdm_arena_free(&arena);
}

static void test_forms(void **state)
{
    (void)state;
    check(text_log, "all_reduce_perf");
    check(json_log, NULL);
    check(csv_log, NULL);
}

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "log: no row of measurements"},
        {"hello\n", "log: no row of measurements"},
        {"size_bytes,time_us\n8,zero\n", "log:2: not a time in microseconds above 0: 'zero'"},
        {"size_bytes,time_us\nx,1\n", "log:2: not a size in bytes: 'x'"},
        {"size_bytes,time_us\n8\n", "log:2: fewer columns than the first line names"},
        {"size_bytes,us\n8,1\n", "log:1: a CSV file needs the columns size_bytes and time_us"},
        {"8 2 float sum -1 -4 0 0 0\n", "log:1: not a time in microseconds above 0: '-4'"},
        {"{\"a\": 1}", "results: missing"},
        {"{\"results\": [{\"size\": 8}]}", "needs size, and time in out_of_place or in_place"},
        {"{\"results\": [", "log:"},
    };
    for (size_t i = 0; i < TDM_COUNT(bad); i++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        tdm_nccl_log log = {.n_rows = 77};
        tdm_code code =
            tdm_nccl_log_parse(&arena, "log", bad[i].text, strlen(bad[i].text), &log, &err);
        assert_int_equal(code, TDM_E_INVALID);
        if (!strstr(err.text, bad[i].message))
            fail_msg("'%s' instead of '%s'", err.text, bad[i].message);
        assert_int_equal(log.n_rows, 77);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_ranks),
                                       cmocka_unit_test(test_mistakes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
