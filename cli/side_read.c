/* side_read.c: finds out what a path holds, and reads it. */
#include "core/files.h"
#include "side.h"

#include <errno.h>
#include <math.h>
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

tdm_code tdm_side_read(tdm_arena *arena, const char *root, const char *rules_path, const char *path,
                       tdm_side *side, tdm_error *err)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: %s (a result is a folder that tandem sim wrote, runs/NAME)", path,
                             strerror(errno));
    forget_everything(arena, path, side);
    (void)root;
    (void)rules_path;
    if (!S_ISDIR(status.st_mode))
        return tdm_side_read_figures(arena, path, side, err);
    if (is_file(tdm_file_join(arena, path, "figures.json")))
        return read_folder(arena, path, side, err);
    return tdm_error_add(err, TDM_E_INVALID, "%s: no figures.json in this folder", path);
}
