/* common.c: what every verb needs: the verbs' table, the data folder, error output. */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const tdm_verb *tdm_verb_find(const char *name)
{
    for (const tdm_verb *const *verb = tdm_verbs; *verb; verb++)
        if (strcmp((*verb)->name, name) == 0)
            return *verb;
    return NULL;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_root(tdm_arena *arena, const char *path)
{
    return is_folder(tdm_arena_printf(arena, "%s/scenarios", path)) &&
           is_folder(tdm_arena_printf(arena, "%s/topologies", path));
}

/* Cuts the last component off path; false when there is none left. */
static bool cut_component(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

/* Installed: PREFIX/bin/tandem with PREFIX/share/tandem. Built: up to three folders above the
 * executable (build/release/tandem), which also holds for a source tree that was moved after the
 * build. */
static const char *root_beside_executable(tdm_arena *arena)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return NULL;
    path[length] = '\0';
    if (!cut_component(path))
        return NULL;
    const char *installed = tdm_arena_printf(arena, "%s/../share/tandem", path);
    if (is_root(arena, installed))
        return installed;
    for (int level = 0; level < 3 && cut_component(path) && path[0]; level++)
        if (is_root(arena, path))
            return tdm_arena_strdup(arena, path);
    return NULL;
}

const char *tdm_cli_root(tdm_arena *arena)
{
    const char *chosen = getenv("TANDEM_ROOT");
    if (chosen && chosen[0])
        return is_root(arena, chosen) ? chosen : NULL;
    const char *found = root_beside_executable(arena);
    if (found)
        return found;
    return is_root(arena, TANDEM_SOURCE_ROOT) ? TANDEM_SOURCE_ROOT : NULL;
}

const char *tdm_cli_scenario(tdm_arena *arena, const char *root, const char *operand)
{
    struct stat status;
    if (!root || !operand[0] || strchr(operand, '/') || stat(operand, &status) == 0)
        return operand;
    const char *named = tdm_arena_printf(arena, "%s/scenarios/%s.yaml", root, operand);
    return stat(named, &status) == 0 ? named : operand;
}

int tdm_cli_fail(const tdm_error *err)
{
    fputs(err->text, stderr);
    size_t n_printed = 0;
    for (const char *c = err->text; *c; c++)
        n_printed += *c == '\n';
    if (err->n_messages > n_printed)
        fprintf(stderr, "tandem: %zu more messages did not fit\n",
                (size_t)err->n_messages - n_printed);
    return err->code == TDM_OK ? TDM_E_INTERNAL : (int)err->code;
}

void tdm_cli_warn(const char *notes)
{
    for (const char *line = notes; line && *line; line += strcspn(line, "\n") + 1)
        fprintf(stderr, "warning: %.*s\n", (int)strcspn(line, "\n"), line);
}

const char *tdm_cli_count(char buffer[TDM_COUNT_SIZE], uint64_t count)
{
    static const char *const names[] = {"", " thousand", " million", " billion", " trillion"};
    double value = (double)count;
    size_t i = 0;
    for (; value >= 999.95 && i + 1 < TDM_COUNT(names); i++)
        value /= 1000;
    snprintf(buffer, TDM_COUNT_SIZE, "%.4g%s", value, names[i]);
    return buffer;
}

int tdm_cli_complain(tdm_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("tandem: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return (int)code;
}

int tdm_cli_finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    return tdm_cli_complain(TDM_E_INTERNAL, "standard output: %s", strerror(errno));
}

int tdm_cli_print(const char *path, void (*print)(void *context, FILE *file), void *context)
{
    if (!path || strcmp(path, "-") == 0) {
        print(context, stdout);
        return tdm_cli_finish(TDM_OK);
    }
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    print(context, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    return TDM_OK;
}

typedef struct text_run {
    const char *text;
    size_t length;
} text_run;

static void put_text(void *context, FILE *file)
{
    const text_run *run = context;
    fwrite(run->text, 1, run->length, file);
}

int tdm_cli_put(const char *path, const char *text, size_t length)
{
    text_run run = {text, length};
    return tdm_cli_print(path, put_text, &run);
}

bool tdm_cli_is_plan_text(const char *path)
{
    static const char magic[] = "tandem-plan ";
    char start[sizeof magic - 1];
    struct stat status;
    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode))
        return false;
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    size_t n = fread(start, 1, sizeof start, file);
    fclose(file);
    return n == sizeof start && memcmp(start, magic, n) == 0;
}
