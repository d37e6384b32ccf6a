/* plot.c: `tandem plot`: draws results with gnuplot. */
#include "plot.h"

#include "core/files.h"
#include "core/schema.h"

#include <string.h>
#include <sys/stat.h>

typedef struct arguments {
    const char *root, *format, *folder;
    tdm_cli_strings only, operands;
    bool list;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const formats[] = {"png", "svg", "both", NULL};
    const tdm_cli_option options[] = {
        {.name = "--list", .text = "list the pictures there are", .flag = &a->list},
        {.name = "--only", .value_name = "NAME", .text = "draw this picture", .values = &a->only},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "what to draw (default both)",
         .choices = formats,
         .value = &a->format},
        {.name = "-o",
         .value_name = "DIR",
         .text = "folder for the pictures (default plots/ in the first result)",
         .value = &a->folder},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("plot"), options, argc, argv, 0, 2, &a->operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->root = tdm_cli_root(arena);
    if (!a->root)
        return tdm_cli_complain(TDM_E_INVALID, "plot: no folder with plots/ (set TANDEM_ROOT)");
    if (a->operands.n == 0 && !a->list)
        return tdm_cli_complain(TDM_E_INVALID, "plot: too few operands (usage: tandem plot %s)",
                                tdm_verb_find("plot")->usage);
    return TDM_CLI_GO_ON;
}

static int print_list(tdm_arena *arena, const tdm_plot *plots, uint32_t n)
{
    static const char *const needs[TDM_N_PLOT_NEEDS] = {"a result", "two results", "a sweep",
                                                        "a table of communication"};
    tdm_table table = {.arena = arena, .n_left = 3};
    const tdm_style style = {.markdown = false};
    tdm_table_head(&table, "picture");
    tdm_table_head(&table, "of");
    tdm_table_head(&table, "shows");
    for (uint32_t i = 0; i < n; i++) {
        tdm_table_cell(&table, "%s", plots[i].name);
        tdm_table_cell(&table, "%s", needs[plots[i].data->needs]);
        tdm_table_cell(&table, "%s", plots[i].description);
    }
    tdm_table_print(&table, &style, stdout);
    return tdm_cli_finish(TDM_OK);
}

static tdm_code check_only(tdm_arena *arena, const arguments *a, const tdm_plot *plots, uint32_t n,
                           tdm_error *err)
{
    const char **names = TDM_ALLOC(arena, const char *, n + 1);
    for (uint32_t i = 0; i < n; i++)
        names[i] = plots[i].name;
    for (size_t o = 0; o < a->only.n; o++) {
        uint32_t i = 0;
        while (i < n && strcmp(names[i], a->only.items[o]) != 0)
            i++;
        if (i < n)
            continue;
        const char *near = tdm_suggest(a->only.items[o], names, n);
        if (near)
            tdm_error_add(err, TDM_E_INVALID, "plot: no picture '%s' (did you mean %s?)",
                          a->only.items[o], near);
        else
            tdm_error_add(err, TDM_E_INVALID,
                          "plot: no picture '%s' (tandem plot --list shows them)",
                          a->only.items[o]);
    }
    return err->n_messages ? TDM_E_INVALID : TDM_OK;
}

/* plots/ in the folder that the first operand is or lies in. */
static const char *default_folder(tdm_arena *arena, const char *operand)
{
    struct stat status;
    bool folder = stat(operand, &status) == 0 && S_ISDIR(status.st_mode);
    return tdm_file_join(arena, folder ? operand : tdm_file_folder(arena, operand), "plots");
}

static int draw(tdm_arena *arena, const arguments *a, const tdm_plot *plots, uint32_t n,
                tdm_error *err)
{
    tdm_plot_input input;
    if (check_only(arena, a, plots, n, err) != TDM_OK ||
        tdm_plot_read(arena, a->root, &a->operands, &input, err) != TDM_OK)
        return tdm_cli_fail(err);
    uint32_t n_drawn = 0;
    const tdm_plot_job job = {.root = a->root,
                              .folder = a->folder ? a->folder
                                                  : default_folder(arena, a->operands.items[0]),
                              .format = a->format,
                              .only = a->only};
    if (tdm_plot_draw_all(arena, &job, plots, n, &input, &n_drawn, err) != TDM_OK)
        return tdm_cli_fail(err);
    printf("%lu picture%s in %s\n", (unsigned long)n_drawn, n_drawn == 1 ? "" : "s", job.folder);
    return tdm_cli_finish(TDM_OK);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.format = "both"};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        tdm_plot *plots;
        uint32_t n;
        if (tdm_plot_list(&arena, a.root, &plots, &n, err) != TDM_OK)
            code = tdm_cli_fail(err);
        else
            code = a.list ? print_list(&arena, plots, n) : draw(&arena, &a, plots, n, err);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_plot = {
    .name = "plot",
    .usage = "RESULT [RESULT] | SWEEP | TABLE.csv [options]",
    .summary = "draw a result, two results, or a sweep with gnuplot",
    .run = run,
};
