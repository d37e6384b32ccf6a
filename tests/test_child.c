/* test_child.c: what happens to the child process reaches the parent as a result or as a message.
 */
#include "sim/child.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void add_one(void *context)
{
    ++*(int *)context;
}

static void test_result_through_shared_memory(void **state)
{
    (void)state;
    int *shared = tdm_child_memory_new(sizeof *shared);
    int own = 1;
    assert_non_null(shared);
    assert_int_equal(*shared, 0);
    assert_int_equal(tdm_child_run(add_one, shared, "work", NULL), TDM_OK);
    assert_int_equal(*shared, 1);
    assert_int_equal(tdm_child_run(add_one, &own, "work", NULL), TDM_OK);
    assert_int_equal(own, 1); /* not shared */
    tdm_child_memory_free(shared, sizeof *shared);
}

static void fail_with_words(void *context)
{
    for (int line = 1; line <= 1000; line++)
        fprintf(stderr, "line %d\n", line);
    if (context)
        abort();
    puts("never seen");
    fflush(stdout);
    exit(3);
}

static void test_death_is_explained(void **state)
{
    (void)state;
    static tdm_error err;
    int any = 0;
    assert_int_equal(tdm_child_run(fail_with_words, &any, "the simulation", &err), TDM_E_INTERNAL);
    assert_string_equal(err.text,
                        "the simulation was killed by signal 6 (Aborted); its last words:\n"
                        "line 995\nline 996\nline 997\nline 998\nline 999\nline 1000\n");
    err = (tdm_error){0};
    assert_int_equal(tdm_child_run(fail_with_words, NULL, "the simulation", &err), TDM_E_INTERNAL);
    assert_non_null(
        strstr(err.text, "the simulation ended early with exit code 3; its last words:\n"));
    assert_null(strstr(err.text, "never seen"));
}

static void fail_like_simgrid(void *context)
{
    (void)context;
    fputs("[root/CRITICAL] no such host\nBacktrace (displayed in actor maestro):\n"
          "  ->  0# first\n  ->  1# second\n\nlast",
          stderr);
    exit(1);
}

/* The reason stands before a backtrace of any length; the last line may lack its end. */
static void test_backtraces_are_left_out(void **state)
{
    (void)state;
    static tdm_error err;
    assert_int_equal(tdm_child_run(fail_like_simgrid, NULL, "the simulation", &err),
                     TDM_E_INTERNAL);
    assert_string_equal(err.text, "the simulation ended early with exit code 1; its last words:\n"
                                  "[root/CRITICAL] no such host\nlast\n");
}

static void kill_silently(void *context)
{
    (void)context;
    raise(SIGKILL);
}

static void test_death_without_words(void **state)
{
    (void)state;
    static tdm_error err;
    assert_int_equal(tdm_child_run(kill_silently, NULL, "the simulation", &err), TDM_E_INTERNAL);
    assert_string_equal(err.text,
                        "the simulation was killed by signal 9 (Killed) and wrote nothing\n");
}

static void leave_early(void *context)
{
    add_one(context);
    tdm_child_exit();
}

static void test_early_exit_is_success(void **state)
{
    (void)state;
    int *shared = tdm_child_memory_new(sizeof *shared);
    assert_int_equal(tdm_child_run(leave_early, shared, "work", NULL), TDM_OK);
    assert_int_equal(*shared, 1);
    tdm_child_memory_free(shared, sizeof *shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_result_through_shared_memory),
        cmocka_unit_test(test_death_is_explained),
        cmocka_unit_test(test_backtraces_are_left_out),
        cmocka_unit_test(test_death_without_words),
        cmocka_unit_test(test_early_exit_is_success),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
