/* output.c: the files of a run, complete or not at all. */
#include "output.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static tdm_code make_folder(const char *path, tdm_error *err)
{
    struct stat status;
    if (mkdir(path, 0777) == 0)
        return TDM_OK;
    int reason = errno;
    if (reason == EEXIST && stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        return TDM_OK;
    return tdm_error_add(
        err, TDM_E_INTERNAL,
        "%s: cannot make this folder: %s (choose another with --out-dir; tandem sim --no-files writes none)",
        path, strerror(reason == EEXIST ? ENOTDIR : reason));
}

static const int held_signals[] = {SIGINT, SIGTERM, SIGHUP};

void tdm_output_hold_signals(sigset_t *before)
{
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < TDM_COUNT(held_signals); i++)
        sigaddset(&held, held_signals[i]);
    sigprocmask(SIG_BLOCK, &held, before);
}

/* Whether a held signal waits: then the files to come would be for nobody. */
static bool is_interrupted(void)
{
    sigset_t pending;
    if (sigpending(&pending) != 0)
        return false;
    for (size_t i = 0; i < TDM_COUNT(held_signals); i++)
        if (sigismember(&pending, held_signals[i]) == 1)
            return true;
    return false;
}

static tdm_code check_writable(const char *path, tdm_error *err)
{
    if (access(path, W_OK | X_OK) == 0)
        return TDM_OK;
    return tdm_error_add(
        err, TDM_E_INTERNAL,
        "%s: cannot write into this folder: %s (choose another with --out-dir; tandem sim --no-files writes none)",
        path, strerror(errno));
}

tdm_code tdm_output_open(tdm_arena *arena, const char *folder, tdm_output *output, tdm_error *err)
{
    char *path = tdm_arena_strdup(arena, folder);
    for (char *slash = strchr(path + 1, '/'); slash && path[0]; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        tdm_code code = make_folder(path, err);
        if (code != TDM_OK)
            return code;
        *slash = '/';
    }
    *output = (tdm_output){.folder = path};
    tdm_code code = make_folder(path, err);
    return code == TDM_OK ? check_writable(path, err) : code;
}

const char *tdm_output_add(tdm_arena *arena, tdm_output *output, const char *name)
{
    assert(output->n_files < TDM_COUNT(output->files));
    tdm_output_file *file = &output->files[output->n_files++];
    /* The process's number keeps two runs into one folder apart. */
    file->temporary =
        tdm_arena_printf(arena, "%s/.%s.%ld.tmp", output->folder, name, (long)getpid());
    file->final = tdm_arena_printf(arena, "%s/%s", output->folder, name);
    file->exists = true;
    return file->temporary;
}

tdm_code tdm_output_commit(tdm_output *output, tdm_error *err)
{
    if (is_interrupted())
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: interrupted", output->folder);
    for (uint32_t i = 0; i < output->n_files; i++) {
        tdm_output_file *file = &output->files[i];
        if (rename(file->temporary, file->final) != 0)
            return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", file->final, strerror(errno));
        file->exists = false;
    }
    return TDM_OK;
}

void tdm_output_abort(tdm_output *output)
{
    for (uint32_t i = 0; i < output->n_files; i++)
        if (output->files[i].exists)
            unlink(output->files[i].temporary);
    output->n_files = 0;
}

static tdm_code close_file(FILE *file, const char *path, tdm_error *err)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path,
                         errno ? strerror(errno) : "cannot be written");
}

tdm_code tdm_output_text(const char *path, const char *text, size_t n_bytes, tdm_error *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    fwrite(text, 1, n_bytes, file);
    return close_file(file, path, err);
}

static tdm_code write_scenario(const tdm_scenario *scenario, const char *path, tdm_error *err)
{
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    tdm_output_scenario(scenario, file);
    return close_file(file, path, err);
}

tdm_code tdm_output_write(tdm_arena *arena, const tdm_result *result, const char *figures_text,
                          tdm_output *output, tdm_error *err)
{
    tdm_code code = tdm_output_text(tdm_output_add(arena, output, "plan.txt"), result->plan_text,
                                    result->plan_text_bytes, err);
    if (code == TDM_OK)
        code =
            write_scenario(&result->scenario, tdm_output_add(arena, output, "scenario.yaml"), err);
    if (code == TDM_OK && !is_interrupted())
        code = tdm_output_trace(&result->step, result->layouts,
                                tdm_output_add(arena, output, "trace.json"), err);
    if (code == TDM_OK)
        code = tdm_output_trace(&result->forward, NULL,
                                tdm_output_add(arena, output, "forward-trace.json"), err);
    if (code == TDM_OK && !is_interrupted())
        code = tdm_output_ops(&result->step, tdm_output_add(arena, output, "ops.csv"), err);
    if (code == TDM_OK)
        code = tdm_output_memory(result, tdm_output_add(arena, output, "memory.csv"), err);
    if (code == TDM_OK)
        code = tdm_output_text(tdm_output_add(arena, output, "figures.json"), figures_text,
                               strlen(figures_text), err);
    if (code == TDM_OK)
        code = tdm_output_commit(output, err);
    return code;
}
