/* plot_run.c: which pictures there are, and gnuplot. */
#include "plot.h"

#include "core/files.h"
#include "output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_PLOTS = 64 };

/* ---- the list ---- */

/* What stands behind "# KEY: " in one of the script's opening comments; NULL when nothing does. */
static const char *head_of(tdm_arena *arena, const char *text, const char *key)
{
    size_t n = strlen(key);
    while (*text == '#') {
        const char *line = text + 1;
        line += *line == ' ';
        size_t length = strcspn(line, "\n");
        if (strncmp(line, key, n) == 0 && line[n] == ':')
            return tdm_arena_strndup(arena, line + n + 2, length - n - 2);
        text = line + length + (line[length] == '\n');
    }
    return NULL;
}

static const tdm_plot_data *find_data(const char *name)
{
    for (const tdm_plot_data *const *data = tdm_plot_datas; *data; data++)
        if (name && strcmp((*data)->name, name) == 0)
            return *data;
    return NULL;
}

static tdm_code add_plot(tdm_arena *arena, const char *folder, const char *file, tdm_plot *plot,
                         tdm_error *err)
{
    const char *text;
    size_t length;
    plot->path = tdm_file_join(arena, folder, file);
    plot->name = tdm_arena_strndup(arena, file, strlen(file) - 3);
    tdm_code code = tdm_file_read(arena, plot->path, &text, &length, err);
    if (code != TDM_OK)
        return code;
    plot->description = head_of(arena, text, "description");
    plot->data = find_data(head_of(arena, text, "data"));
    if (!plot->description || !plot->data)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "%s: a plot begins with the comments `# description: ...` and `# data: NAME`",
            plot->path);
    return TDM_OK;
}

static int by_plot_name(const void *a, const void *b)
{
    return strcmp(((const tdm_plot *)a)->name, ((const tdm_plot *)b)->name);
}

tdm_code tdm_plot_list(tdm_arena *arena, const char *root, tdm_plot **plots, uint32_t *n,
                       tdm_error *err)
{
    const char *folder = tdm_file_join(arena, root, "plots");
    DIR *dir = opendir(folder);
    if (!dir)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", folder, strerror(errno));
    *plots = TDM_ALLOC(arena, tdm_plot, MOST_PLOTS);
    *n = 0;
    tdm_code code = TDM_OK;
    for (const struct dirent *e = readdir(dir); e && code == TDM_OK; e = readdir(dir)) {
        size_t length = strlen(e->d_name);
        if (length > 3 && strcmp(e->d_name + length - 3, ".gp") == 0 && e->d_name[0] != '.' &&
            strcmp(e->d_name, "style.gp") != 0 && *n < MOST_PLOTS)
            code = add_plot(arena, folder, e->d_name, &(*plots)[(*n)++], err);
    }
    closedir(dir);
    qsort(*plots, *n, sizeof **plots, by_plot_name);
    return code;
}

/* ---- operands ---- */

static bool has_file(tdm_arena *arena, const char *folder, const char *name)
{
    struct stat status;
    return stat(tdm_file_join(arena, folder, name), &status) == 0 && S_ISREG(status.st_mode);
}

static bool ends_in(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n > m && strcmp(path + n - m, ending) == 0;
}

static tdm_code read_comm(tdm_arena *arena, const char *path, tdm_plot_input *input, tdm_error *err)
{
    tdm_plot_table *table = TDM_ALLOC(arena, tdm_plot_table, 1);
    tdm_code code = tdm_plot_table_read(arena, path, table, err);
    if (code != TDM_OK)
        return code;
    /* tandem comm calls its own prediction time_us, as nccl-tests does. */
    bool own = tdm_plot_column(table, "predicted_us") == UINT32_MAX &&
               tdm_plot_column(table, "time_us") != UINT32_MAX;
    const char *const heads[] = {"size_bytes", own ? "time_us" : "predicted_us", "measured_us"};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        if (tdm_plot_column(table, heads[i]) == UINT32_MAX)
            return tdm_error_add(
                err, TDM_E_INVALID,
                "%s:1: no column %s (a table of communication has size_bytes, predicted_us and measured_us)",
                path, heads[i]);
    input->comm = table;
    return TDM_OK;
}

static tdm_code read_sweep(tdm_arena *arena, const char *path, tdm_plot_input *input,
                           tdm_error *err)
{
    tdm_plot_table *table = TDM_ALLOC(arena, tdm_plot_table, 1);
    tdm_code code = tdm_plot_table_read(arena, path, table, err);
    if (code == TDM_OK && tdm_plot_column(table, "status") == UINT32_MAX)
        code = tdm_error_add(err, TDM_E_INVALID, "%s:1: no column status (tandem sweep writes it)",
                             path);
    input->sweep = table;
    return code;
}

static tdm_code read_results(tdm_arena *arena, const char *root, const tdm_cli_strings *operands,
                             tdm_plot_input *input, tdm_error *err)
{
    tdm_side_reader reader = {.root = root};
    tdm_side *sides = TDM_ALLOC(arena, tdm_side, 2);
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < operands->n; i++) {
        tdm_code read = tdm_side_read(arena, &reader, operands->items[i], &sides[i], err);
        code = code == TDM_OK ? read : code;
    }
    if (code != TDM_OK)
        return code;
    input->a = &sides[0];
    if (operands->n == 2) {
        tdm_comparison *comparison = TDM_ALLOC(arena, tdm_comparison, 1);
        input->b = &sides[1];
        tdm_compare(arena, input->a, input->b, comparison);
        input->comparison = comparison;
    }
    return TDM_OK;
}

tdm_code tdm_plot_read(tdm_arena *arena, const char *root, const tdm_cli_strings *operands,
                       tdm_plot_input *input, tdm_error *err)
{
    const char *first = operands->items[0];
    *input = (tdm_plot_input){.arena = arena};
    bool sweep = has_file(arena, first, "sweep.csv"), comm = ends_in(first, ".csv");
    if ((sweep || comm) && operands->n > 1)
        return tdm_error_add(err, TDM_E_INVALID, "%s: only two results are drawn together", first);
    if (sweep)
        return read_sweep(arena, tdm_file_join(arena, first, "sweep.csv"), input, err);
    return comm ? read_comm(arena, first, input, err)
                : read_results(arena, root, operands, input, err);
}

bool tdm_plot_suits(const tdm_plot *plot, const tdm_plot_input *input)
{
    switch (plot->data->needs) {
    case TDM_PLOT_RESULT:
        return input->a;
    case TDM_PLOT_PAIR:
        return input->b;
    case TDM_PLOT_SWEEP:
        return input->sweep;
    default:
        return input->comm;
    }
}

/* ---- gnuplot ---- */

/* In the child: gnuplot with what it says going to `log`. 127: there is no gnuplot. */
static void become_gnuplot(const char *const *arguments, const char *log)
{
    int file = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file >= 0) {
        dup2(file, STDOUT_FILENO);
        dup2(file, STDERR_FILENO);
    }
    execvp("gnuplot", (char *const *)(uintptr_t)arguments);
    _exit(errno == ENOENT ? 127 : 126);
}

static tdm_code explain_failure(tdm_arena *arena, const char *script, const char *log, int status,
                                tdm_error *err)
{
    const char *text = "";
    size_t length = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return tdm_error_add(err, TDM_E_INTERNAL,
                             "plot: gnuplot is not installed (Debian: gnuplot-nox)");
    tdm_error unread = {0};
    tdm_file_read(arena, log, &text, &length, &unread);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        length--;
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: gnuplot failed: %.*s", script,
                         (int)(length < 2000 ? length : 2000), text);
}

static tdm_code run_gnuplot(tdm_arena *arena, const char *const *arguments, const char *log,
                            tdm_error *err)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        become_gnuplot(arguments, log);
    if (child < 0)
        return tdm_error_add(err, TDM_E_INTERNAL, "gnuplot: %s", strerror(errno));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        unlink(log);
        return TDM_OK;
    }
    return explain_failure(arena, arguments[2], log, status, err);
}

/* Pictures get their names once they are whole. */
static tdm_code draw_as(tdm_arena *arena, const char *root, const tdm_plot *plot, const char *base,
                        const char *folder, const char *format, tdm_error *err)
{
    const char *style = tdm_file_join(arena, root, "plots/style.gp");
    const char *final = tdm_arena_printf(arena, "%s/%s.%s", folder, plot->name, format);
    const char *temporary =
        tdm_arena_printf(arena, "%s/.%s.%ld.%s", folder, plot->name, (long)getpid(), format);
    const char *log = tdm_arena_printf(arena, "%s.log", base);
    const char *const arguments[] = {"gnuplot", "-c",      plot->path, style,
                                     format,    temporary, base,       NULL};
    tdm_code code = run_gnuplot(arena, arguments, log, err);
    if (code == TDM_OK && rename(temporary, final) != 0)
        code = tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", final, strerror(errno));
    if (code != TDM_OK)
        unlink(temporary);
    return code;
}

tdm_code tdm_plot_draw(tdm_arena *arena, const char *root, const tdm_plot *plot,
                       const tdm_plot_input *input, const char *folder, const char *format,
                       const char **skipped, tdm_error *err)
{
    tdm_output output;
    const char *data_folder = tdm_file_join(arena, folder, "data");
    const char *base = tdm_file_join(arena, data_folder, plot->data->name);
    tdm_code code = tdm_output_open(arena, data_folder, &output, err);
    *skipped = NULL;
    if (code == TDM_OK)
        code = plot->data->write(input, base, skipped, err);
    if (code != TDM_OK || *skipped)
        return code;
    static const char *const formats[] = {"png", "svg"};
    for (size_t i = 0; i < TDM_COUNT(formats) && code == TDM_OK; i++)
        if (strcmp(format, "both") == 0 || strcmp(format, formats[i]) == 0)
            code = draw_as(arena, root, plot, base, folder, formats[i], err);
    return code;
}

/* ---- all that suits ---- */

bool tdm_plot_gnuplot_missing(tdm_arena *arena)
{
    const char *path = getenv("PATH");
    for (const char *at = path; at && *at;) {
        size_t n = strcspn(at, ":");
        if (access(tdm_arena_printf(arena, "%.*s/gnuplot", (int)n, at), X_OK) == 0)
            return false;
        at += n + (at[n] == ':');
    }
    return true;
}

static bool is_wanted(const tdm_cli_strings *only, const char *name)
{
    for (size_t i = 0; i < only->n; i++)
        if (strcmp(only->items[i], name) == 0)
            return true;
    return only->n == 0;
}

static tdm_code draw_one(tdm_arena *arena, const tdm_plot_job *job, const tdm_plot *plot,
                         const tdm_plot_input *input, uint32_t *n_drawn, tdm_error *err)
{
    const char *skipped = NULL;
    bool asked = job->only.n > 0;
    if (!tdm_plot_suits(plot, input))
        return asked
                   ? tdm_error_add(
                         err, TDM_E_INVALID,
                         "plot: %s cannot be drawn of this (tandem plot --list says what it needs)",
                         plot->name)
                   : TDM_OK;
    tdm_code code =
        tdm_plot_draw(arena, job->root, plot, input, job->folder, job->format, &skipped, err);
    if (code == TDM_OK && skipped && asked)
        return tdm_error_add(err, TDM_E_INVALID, "plot: %s: %s", plot->name, skipped);
    if (code == TDM_OK && skipped && !job->quiet)
        fprintf(stderr, "left out %s: %s\n", plot->name, skipped);
    *n_drawn += code == TDM_OK && !skipped;
    return code;
}

tdm_code tdm_plot_draw_all(tdm_arena *arena, const tdm_plot_job *job, const tdm_plot *plots,
                           uint32_t n, const tdm_plot_input *input, uint32_t *n_drawn,
                           tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < n && code == TDM_OK; i++)
        if (is_wanted(&job->only, plots[i].name))
            code = draw_one(arena, job, &plots[i], input, n_drawn, err);
    return code;
}
