/* support_run.c: the program from outside. */
#include "support_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int support_run_enter(void **state)
{
    char *folder = strdup("/tmp/tandem-test-XXXXXX");
    if (!folder || !mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    *state = folder;
    return 0;
}

int support_run_leave(void **state)
{
    char command[128];
    if (chdir("/") != 0)
        return -1;
    snprintf(command, sizeof command, "rm -r %s", (const char *)*state);
    free(*state);
    return system(command) == 0 ? 0 : -1;
}

int support_run(const char *format, ...)
{
    char command[8192];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    assert_true(n > 0 && (size_t)n < sizeof command - 64);
    char whole[8400];
    snprintf(whole, sizeof whole, "{ %s ; } >out 2>err </dev/null", command);
    int status = system(whole);
    if (!WIFEXITED(status))
        fail_msg("no exit status: %s", command);
    return WEXITSTATUS(status);
}

char *support_run_read(const char *path)
{
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

void support_run_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

bool support_run_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

void support_run_expect(const char *path, const char *text)
{
    char *is = support_run_read(path);
    if (strcmp(is, text) != 0)
        fail_msg("%s holds\n%s\ninstead of\n%s", path, is, text);
    free(is);
}

void support_run_same(const char *a, const char *b)
{
    char *first = support_run_read(a), *second = support_run_read(b);
    if (strcmp(first, second) != 0)
        fail_msg("%s and %s differ", a, b);
    free(first);
    free(second);
}

size_t support_run_lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}
