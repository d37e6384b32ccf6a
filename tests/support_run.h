/* support_run.h: the program from outside, in a folder of the test's own. */
#ifndef TANDEM_TESTS_SUPPORT_RUN_H
#define TANDEM_TESTS_SUPPORT_RUN_H

#include <stdbool.h>
#include <stddef.h>

/* A new folder below /tmp, made the working folder; and its end. Both return 0 or -1, as cmocka's
 * group functions do. */
int support_run_enter(void **state);
int support_run_leave(void **state);

/* Runs a shell command, printf style, in the folder; what it prints goes to the files `out` and
 * `err`. Returns its exit status; fails the test when it has none. */
int support_run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Contents of a file; free() it. Fails the test when there is none. */
char *support_run_read(const char *path);
void support_run_write(const char *path, const char *text);
bool support_run_exists(const char *path);
/* Fails the test unless the file holds just this. */
void support_run_expect(const char *path, const char *text);
/* Fails the test unless both files hold the same bytes. */
void support_run_same(const char *a, const char *b);
size_t support_run_lines(const char *text);

#endif
