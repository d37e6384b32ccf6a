/* side_read.c: finds out what a path holds, and reads it. */
#include "core/files.h"
#include "side_trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

/* The last part of a path, without slashes at its end. */
static const char *name_of(tdm_arena *arena, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    const char *name = path;
    for (size_t i = 0; i + 1 < n; i++)
        if (path[i] == '/')
            name = path + i + 1;
    return tdm_arena_strndup(arena, name, (size_t)(path + n - name));
}

static tdm_code read_folder(tdm_arena *arena, const char *path, tdm_side *side, tdm_error *err)
{
    const char *figures = tdm_file_join(arena, path, "figures.json");
    const char *ops = tdm_file_join(arena, path, "ops.csv");
    side->folder = path;
    tdm_code code = tdm_side_read_figures(arena, figures, side, err);
    if (code == TDM_OK && is_file(ops))
        code = tdm_side_read_ops(arena, ops, side, err);
    return code;
}

/* A trace is a list or has traceEvents; figures are and have neither. What is
 * packed is a trace. */
static bool looks_like_trace(const char *path)
{
    static const char key[] = "\"traceEvents\"";
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".gz") == 0)
        return true;
    FILE *file = fopen(path, "rb");
    size_t matched = 0;
    int c = 0;
    bool blank = true, list = false;
    while (file && matched + 1 < sizeof key && !list && (c = getc(file)) != EOF) {
        list = blank && c == '[';
        blank = blank && strchr(" \t\r\n", c) && c;
        matched = c == key[matched] ? matched + 1 : c == key[0];
    }
    if (file)
        fclose(file);
    return list || matched + 1 == sizeof key;
}

static void forget_everything(tdm_arena *arena, const char *path, tdm_side *side)
{
    uint32_t n = 0;
    while (tdm_figure_infos[n].name)
        n++;
    *side = (tdm_side){.path = path, .name = name_of(arena, path)};
    side->figures = TDM_ALLOC(arena, double, n);
    for (uint32_t i = 0; i < n; i++)
        side->figures[i] = NAN;
}

tdm_code tdm_side_read(tdm_arena *arena, tdm_side_reader *reader, const char *path, tdm_side *side,
                       tdm_error *err)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: %s (a result is a folder that tandem sim wrote, runs/NAME)", path,
                             strerror(errno));
    forget_everything(arena, path, side);
    if (!S_ISDIR(status.st_mode)) {
        if (!looks_like_trace(path))
            return tdm_side_read_figures(arena, path, side, err);
        return tdm_side_read_traces(arena, reader, &path, 1, side, err);
    }
    if (is_file(tdm_file_join(arena, path, "figures.json")))
        return read_folder(arena, path, side, err);
    const char *const *paths;
    size_t n = tdm_side_trace_files(arena, path, &paths);
    if (n > 0)
        return tdm_side_read_traces(arena, reader, paths, n, side, err);
    return tdm_error_add(
        err, TDM_E_INVALID,
        "%s: neither a result (figures.json) nor traces (*.json, *.json.gz) in this folder", path);
}
