/* report.c: `tandem report`: a result as one HTML page that needs nothing beside it. */
#include "cli.h"
#include "core/files.h"
#include "output.h"
#include "page.h"
#include "plot.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct arguments {
    const char *root, *folder, *file;
    bool no_plots, quiet;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "-o",
         .value_name = "FILE",
         .text = "the page (default report.html in the result; - is standard output)",
         .value = &a->file},
        {.name = "--no-plots", .text = "leave out the pictures", .flag = &a->no_plots},
        {.name = "-q", .text = "say nothing", .flag = &a->quiet},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("report"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->folder = operands.items[0];
    a->root = tdm_cli_root(arena);
    if (!a->root)
        return tdm_cli_complain(TDM_E_INVALID, "report: no folder with plots/ (set TANDEM_ROOT)");
    return TDM_CLI_GO_ON;
}

/* ---- pictures ---- */

/* Files of the folder, and then the folder; those below it first. */
static void remove_folder(tdm_arena *arena, const char *folder)
{
    DIR *dir = opendir(folder);
    for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        const char *path = tdm_file_join(arena, folder, e->d_name);
        struct stat status;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode))
            remove_folder(arena, path);
        else
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

static const char *make_folder(tdm_arena *arena)
{
    const char *base = getenv("TMPDIR");
    char *path = tdm_arena_printf(arena, "%s/tandem-report-XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(path);
}

/* Draws all pictures of the input into the folder, and lists them. */
static tdm_code draw(tdm_arena *arena, const arguments *a, const tdm_plot_input *input,
                     const char *folder, tdm_page *page, tdm_error *err)
{
    tdm_plot *plots;
    uint32_t n, n_drawn = 0;
    const tdm_plot_job job = {.root = a->root, .folder = folder, .format = "svg", .quiet = true};
    tdm_code code = tdm_plot_list(arena, a->root, &plots, &n, err);
    if (code == TDM_OK)
        code = tdm_plot_draw_all(arena, &job, plots, n, input, &n_drawn, err);
    if (code != TDM_OK)
        return code;
    page->pictures = TDM_ALLOC(arena, tdm_page_picture, n);
    for (uint32_t i = 0; i < n; i++) {
        const char *path = tdm_arena_printf(arena, "%s/%s.svg", folder, plots[i].name);
        if (access(path, R_OK) == 0)
            page->pictures[page->n_pictures++] = (tdm_page_picture){
                .name = plots[i].name, .path = path, .caption = plots[i].description};
    }
    return TDM_OK;
}

/* ---- the page ---- */

/* One of both is read. */
typedef struct content {
    bool is_pair;
    tdm_page_result result;
    tdm_page_pair pair;
} content;

static tdm_code read_content(tdm_arena *arena, const arguments *a, content *c, tdm_error *err)
{
    c->is_pair = tdm_page_is_pair(arena, a->folder);
    if (c->is_pair)
        return tdm_page_read_pair(arena, a->root, a->folder, &c->pair, err);
    if (tdm_page_is_result(arena, a->folder))
        return tdm_page_read(arena, a->root, a->folder, &c->result, err);
    return tdm_error_add(err, TDM_E_INVALID,
                         "%s: no result in this folder (tandem sim, run and validate write one: "
                         "figures.json, or predicted/ and measured/)",
                         a->folder);
}

static void free_content(content *c)
{
    json_decref(c->result.document);
    json_decref(c->pair.predicted.document);
    json_decref(c->pair.measured.document);
}

static tdm_plot_input input_of(tdm_arena *arena, const content *c)
{
    if (!c->is_pair)
        return (tdm_plot_input){.arena = arena, .a = &c->result.side};
    return (tdm_plot_input){.arena = arena,
                            .a = &c->pair.predicted.side,
                            .b = &c->pair.measured.side,
                            .comparison = &c->pair.comparison};
}

static tdm_code write_page(tdm_page *page, const content *c, tdm_error *err)
{
    const json_t *document = c->is_pair ? c->pair.predicted.document : c->result.document;
    page->title = tdm_file_stem(page->arena, tdm_page_text(document, "provenance.scenario"));
    return c->is_pair ? tdm_page_write_pair(page, &c->pair, err)
                      : tdm_page_write_result(page, &c->result, err);
}

/* Pictures are drawn beside, and taken into the page's text. */
static tdm_code make_page(tdm_arena *arena, const arguments *a, const content *c, tdm_page *page,
                          tdm_error *err)
{
    tdm_plot_input input = input_of(arena, c);
    if (a->no_plots)
        return write_page(page, c, err);
    if (tdm_plot_gnuplot_missing(arena)) {
        page->no_pictures = "Without pictures: gnuplot was not installed where this page was made.";
        if (!a->quiet)
            fputs("tandem: report: no pictures: gnuplot is not installed (Debian: gnuplot-nox; "
                  "--no-plots does without)\n",
                  stderr);
        return write_page(page, c, err);
    }
    const char *folder = make_folder(arena);
    if (!folder)
        return tdm_error_add(err, TDM_E_INTERNAL, "report: no folder for pictures: %s",
                             strerror(errno));
    tdm_code code = draw(arena, a, &input, folder, page, err);
    if (code == TDM_OK)
        code = write_page(page, c, err);
    remove_folder(arena, folder);
    return code;
}

/* The file gets its name once it is whole. */
static int put_page(tdm_arena *arena, const arguments *a, const char *text, size_t length,
                    tdm_error *err)
{
    if (a->file)
        return tdm_cli_put(a->file, text, length);
    tdm_output output = {0};
    tdm_code code = tdm_output_open(arena, a->folder, &output, err);
    if (code == TDM_OK)
        code = tdm_output_text(tdm_output_add(arena, &output, "report.html"), text, length, err);
    if (code == TDM_OK)
        code = tdm_output_commit(&output, err);
    tdm_output_abort(&output);
    if (code != TDM_OK)
        return tdm_cli_fail(err);
    if (!a->quiet)
        printf("%s/report.html\n", a->folder);
    return tdm_cli_finish(TDM_OK);
}

static int report(tdm_arena *arena, const arguments *a, const content *c, tdm_error *err)
{
    char *text = NULL;
    size_t length = 0;
    tdm_page page = {.arena = arena, .file = open_memstream(&text, &length)};
    if (!page.file)
        return tdm_cli_complain(TDM_E_INTERNAL, "report: %s", strerror(errno));
    tdm_code code = make_page(arena, a, c, &page, err);
    if (fclose(page.file) != 0 && code == TDM_OK)
        code = tdm_error_add(err, TDM_E_INTERNAL, "report: %s", strerror(errno));
    int status = code == TDM_OK ? put_page(arena, a, text, length, err) : tdm_cli_fail(err);
    free(text);
    return status;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {0};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        content *c = TDM_ALLOC(&arena, content, 1);
        code = read_content(&arena, &a, c, err) == TDM_OK ? report(&arena, &a, c, err)
                                                          : tdm_cli_fail(err);
        free_content(c);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_report = {
    .name = "report",
    .usage = "RESULT [options]",
    .summary = "a result as one HTML page: figures, pictures, targets, where numbers come from",
    .run = run,
};
