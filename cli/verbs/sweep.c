/* sweep.c: `tandem sweep`: predicts a scenario with many values of some of its keys, and says which
 * are best. */
#include "sweep.h"

#include "core/files.h"
#include "core/schema.h"
#include "core/units.h"
#include "launched.h"
#include "output.h"
#include "sim/sim.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_JOBS = 4096, DEFAULT_TOP = 20 };
static const double default_timeout_s = 600;

typedef struct arguments {
    tdm_cli_strings varies, zips;
    const char *points, *out_dir, *format, *sort, *figures, *pareto, *top, *jobs, *timeout;
    bool fresh, quiet;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a, tdm_sweep *sweep)
{
    static const char *const engines[] = {"analytic", "sim", NULL};
    static const char *const formats[] = {"text", "csv", "json", NULL};
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--vary",
         .value_name = "KEY=VALUES",
         .text = "values of a key: a,b,c and ranges 1..4, 8..64+8, 1..32*2",
         .values = &a->varies},
        {.name = "--zip",
         .value_name = "KEY=VALUES",
         .text = "the same, all --zip keys walked together",
         .values = &a->zips},
        {.name = "--points",
         .value_name = "FILE",
         .text = "CSV: keys in the first line, one point in each other",
         .value = &a->points},
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key for all points",
         .values = &sweep->sets},
        {.name = "--engine",
         .value_name = "ENGINE",
         .text = "who predicts",
         .choices = engines,
         .value = &sweep->engine},
        {.name = "-j",
         .value_name = "N",
         .text = "points computed at the same time (default: one per core)",
         .value = &a->jobs},
        {.name = "--timeout",
         .value_name = "TIME",
         .text = "give up on a point after so long (default 10min)",
         .value = &a->timeout},
        {.name = "--out-dir",
         .value_name = "DIR",
         .text = "folder for journal and results (default runs/NAME-sweep)",
         .value = &a->out_dir},
        {.name = "--fresh",
         .text = "forget the results that DIR has from earlier",
         .flag = &a->fresh},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "what to print",
         .choices = formats,
         .value = &a->format},
        {.name = "--sort",
         .value_name = "FIGURE",
         .text = "order of the table (default tokens_per_s)",
         .value = &a->sort},
        {.name = "--figures",
         .value_name = "A,B,...",
         .text = "columns of the table; the files have all figures",
         .value = &a->figures},
        {.name = "--top",
         .value_name = "N",
         .text = "rows of the table (default 20)",
         .value = &a->top},
        {.name = "--pareto",
         .value_name = "A,B",
         .text = "figures of the front (default tokens_per_s,peak_memory_bytes)",
         .value = &a->pareto},
        {.name = "-q", .text = "print nothing but errors", .flag = &a->quiet},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("sweep"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        sweep->scenario_path = tdm_cli_scenario(arena, tdm_cli_root(arena), operands.items[0]);
    sweep->quiet = a->quiet;
    return code;
}

/* A whole number from 1 to max. */
static tdm_code read_count(const char *option, const char *text, uint32_t max, uint32_t *value,
                           tdm_error *err)
{
    size_t n = strspn(text, "0123456789");
    unsigned long read = n > 0 && n < 10 && !text[n] ? strtoul(text, NULL, 10) : 0;
    if (read < 1 || read > max)
        return tdm_error_add(err, TDM_E_INVALID, "tandem: sweep: %s: '%s': expected 1 to %u",
                             option, text, max);
    *value = (uint32_t)read;
    return TDM_OK;
}

static tdm_code unknown_figure(const char *option, const char *name, tdm_error *err)
{
    const char *names[64];
    size_t n = 0;
    for (; tdm_figure_infos[n].name && n < TDM_COUNT(names); n++)
        names[n] = tdm_figure_infos[n].name;
    const char *near = tdm_suggest(name, names, n);
    if (near)
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: sweep: %s: there is no figure '%s' (did you mean %s?)",
                             option, name, near);
    return tdm_error_add(err, TDM_E_INVALID,
                         "tandem: sweep: %s: there is no figure '%s' (as step_time_s, "
                         "tokens_per_s, bubble_fraction, peak_memory_bytes)",
                         option, name);
}

/* Names separated by commas, at most max. */
static tdm_code read_figures(tdm_arena *arena, const char *option, const char *text, uint32_t max,
                             uint32_t *figures, uint32_t *n, tdm_error *err)
{
    tdm_code code = TDM_OK;
    *n = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        const char *name = tdm_arena_strndup(arena, at, length);
        uint32_t figure = tdm_sweep_figure(name);
        if (figure == UINT32_MAX)
            code = unknown_figure(option, name, err);
        else if (*n < max)
            figures[(*n)++] = figure;
        else
            return tdm_error_add(err, TDM_E_INVALID, "tandem: sweep: %s: more than %u figures",
                                 option, max);
        at += length;
        if (!*at)
            return code;
    }
}

static tdm_code read_view(tdm_arena *arena, const arguments *a, tdm_sweep_view *view,
                          tdm_error *err)
{
    static const char columns[] = "tokens_per_s,step_time_s,bubble_fraction,mfu,peak_memory_bytes";
    unsigned before = err->n_messages;
    uint32_t n;
    *view = (tdm_sweep_view){.top = DEFAULT_TOP};
    if (a->sort)
        read_figures(arena, "--sort", a->sort, 1, &view->sort, &n, err);
    else
        view->sort = tdm_sweep_figure("tokens_per_s");
    read_figures(arena, "--figures", a->figures ? a->figures : columns, TDM_COUNT(view->figures),
                 view->figures, &view->n_figures, err);
    if (read_figures(arena, "--pareto", a->pareto ? a->pareto : "tokens_per_s,peak_memory_bytes", 2,
                     view->pareto, &n, err) == TDM_OK &&
        (n != 2 || view->pareto[0] == view->pareto[1]))
        tdm_error_add(err, TDM_E_INVALID, "tandem: sweep: --pareto: expected two figures, as %s",
                      "tokens_per_s,peak_memory_bytes");
    if (a->top)
        read_count("--top", a->top, 1000000, &view->top, err);
    return err->n_messages > before ? TDM_E_INVALID : TDM_OK;
}

static tdm_code read_farm(const arguments *a, tdm_sweep *sweep, tdm_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    tdm_code code = TDM_OK;
    sweep->n_jobs = cores > 0 && cores < MAX_JOBS ? (uint32_t)cores : 1;
    if (sweep->share.world) /* the cores are there for all processes of the host */
        sweep->n_jobs /= tdm_world_shape_of(sweep->share.world)->n_on_host;
    sweep->n_jobs = sweep->n_jobs > 0 ? sweep->n_jobs : 1;
    sweep->timeout_s = default_timeout_s;
    if (a->jobs)
        code = read_count("-j", a->jobs, MAX_JOBS, &sweep->n_jobs, err);
    if (a->timeout &&
        (tdm_quantity_parse(a->timeout, TDM_UNIT_SECONDS, &sweep->timeout_s) != TDM_QUANTITY_OK ||
         !(sweep->timeout_s > 0)))
        code = tdm_error_add(err, TDM_E_INVALID, "tandem: sweep: --timeout: '%s': expected %s",
                             a->timeout, tdm_unit_expected(TDM_UNIT_SECONDS));
    return code;
}

/* A key cannot vary and be set as well. */
static tdm_code check_sets(tdm_arena *arena, const tdm_sweep *sweep, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (size_t i = 0; i < sweep->sets.n; i++) {
        const char *set = sweep->sets.items[i], *key, *brief;
        const char *name = tdm_arena_strndup(arena, set, strcspn(set, "="));
        if (!strchr(set, '='))
            code = tdm_error_add(err, TDM_E_INVALID, "--set: %s: expected KEY=VALUE", set);
        else if (tdm_scenario_key(arena, name, tdm_arena_printf(arena, "--set:%s", name), &key,
                                  &brief, err) != TDM_OK)
            code = TDM_E_INVALID;
        else
            for (uint32_t k = 0; k < sweep->grid.n_keys; k++)
                if (strcmp(sweep->grid.keys[k], key) == 0)
                    code =
                        tdm_error_add(err, TDM_E_INVALID, "--set:%s: %s varies already", name, key);
    }
    return code;
}

/* What is wrong with the command line, all of it. */
static tdm_code read_all(tdm_arena *arena, const arguments *a, tdm_sweep *sweep,
                         tdm_sweep_view *view, tdm_error *err)
{
    unsigned before = err->n_messages;
    read_view(arena, a, view, err);
    read_farm(a, sweep, err);
    if (a->varies.n == 0 && a->zips.n == 0 && !a->points)
        tdm_error_add(err, TDM_E_INVALID,
                      "tandem: sweep: nothing varies: give --vary KEY=VALUES, "
                      "--zip KEY=VALUES or --points FILE");
    else if (tdm_sweep_grid_make(arena, &a->varies, &a->zips, a->points, &sweep->grid, err) ==
             TDM_OK)
        check_sets(arena, sweep, err);
    sweep->root = tdm_cli_root(arena);
    if (!sweep->root)
        tdm_error_add(err, TDM_E_INVALID,
                      "tandem: sweep: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    if (strcmp(sweep->engine, "sim") == 0 && tdm_sim_missing())
        tdm_error_add(err, TDM_E_INVALID, "tandem: sweep: engine sim is not built in: %s",
                      tdm_sim_missing());
    FILE *file = fopen(sweep->scenario_path, "rb");
    if (!file)
        tdm_error_add(err, TDM_E_INVALID, "%s: %s", sweep->scenario_path, strerror(errno));
    else
        fclose(file);
    return err->n_messages > before ? TDM_E_INVALID : TDM_OK;
}

/* Figures that only a model has say nothing about pass times. */
static void suit_view(const tdm_sweep *sweep, const arguments *a, tdm_sweep_view *view)
{
    bool known[64] = {false};
    uint32_t n = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        for (uint32_t f = 0; tdm_sweep_has_figures(&sweep->rows[i]) && tdm_figure_infos[f].name;
             f++)
            known[f] = known[f] || !isnan(sweep->rows[i].figures[f]);
    if (!a->sort && !known[view->sort])
        view->sort = tdm_sweep_figure("step_time_s");
    for (uint32_t i = 0; !a->figures && i < view->n_figures; i++)
        if (known[view->figures[i]])
            view->figures[n++] = view->figures[i];
    if (n)
        view->n_figures = n;
}

static int print(tdm_arena *arena, const arguments *a, const tdm_sweep *sweep,
                 const tdm_sweep_view *view)
{
    if (a->quiet)
        return TDM_OK;
    if (strcmp(a->format, "text") == 0) {
        tdm_style style = {.colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
        tdm_sweep_report(arena, sweep, view, &style, stdout);
        return tdm_cli_finish(TDM_OK);
    }
    char *text = strcmp(a->format, "csv") == 0 ? tdm_sweep_csv(sweep, NULL, sweep->grid.n_points)
                                               : tdm_sweep_json(sweep, view);
    if (!text)
        return tdm_cli_complain(TDM_E_INTERNAL, "sweep: out of memory");
    fputs(text, stdout);
    free(text);
    return tdm_cli_finish(TDM_OK);
}

/* The exit code that the rows stand for. */
static int judge(const tdm_sweep *sweep)
{
    uint32_t n_of[TDM_SWEEP_N_STATUSES] = {0};
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        n_of[sweep->rows[i].status]++;
    if (n_of[TDM_SWEEP_FAILED])
        return tdm_cli_complain(TDM_E_INTERNAL,
                                "sweep: %u of %u points failed; the same command tries them again",
                                n_of[TDM_SWEEP_FAILED], sweep->grid.n_points);
    return n_of[TDM_SWEEP_OK] ? TDM_OK : TDM_E_INFEASIBLE;
}

static int publish(tdm_arena *arena, const arguments *a, tdm_sweep *sweep, tdm_sweep_view *view,
                   tdm_error *err)
{
    suit_view(sweep, a, view);
    tdm_sweep_mark_front(arena, sweep, view);
    if (tdm_sweep_files(arena, sweep, view, a->out_dir, err) != TDM_OK)
        return tdm_cli_fail(err);
    int code = print(arena, a, sweep, view);
    if (code != TDM_OK)
        return code;
    if (!a->quiet) {
        fputs(strcmp(a->format, "text") == 0 ? "\n" : "", stderr);
        if (sweep->n_known)
            fprintf(stderr, "%u of %u points were known from %s\n", sweep->n_known,
                    sweep->grid.n_points, sweep->journal.path);
        fprintf(stderr, "Files in %s: sweep.csv, sweep.json, pareto.csv\n", a->out_dir);
    }
    return judge(sweep);
}

static int interrupted(const tdm_sweep *sweep, int signal_number)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sweep->grid.n_points; i++)
        n += sweep->rows[i].status != TDM_SWEEP_PENDING;
    fprintf(stderr,
            "tandem: sweep: interrupted, %u of %u points are done and kept in %s; "
            "the same command goes on from there\n",
            n, sweep->grid.n_points, sweep->journal.path);
    return 128 + signal_number;
}

/* Computes what is not known yet, then shows everything. */
static int sweep_all(tdm_arena *arena, const arguments *a, tdm_launched *launched, tdm_sweep *sweep,
                     tdm_sweep_view *view, tdm_error *err)
{
    int signal_number = 0;
    tdm_code code = tdm_sweep_share_begin(arena, sweep, err);
    if (code == TDM_OK)
        code = tdm_sweep_farm(arena, sweep, &signal_number, err);
    if (code != TDM_OK)
        return tdm_launched_fail(launched, err);
    if (launched->quiet)
        return TDM_OK; /* process 0 has the rows, and says what ended it early */
    if (signal_number && launched->world) {
        int exit_code = interrupted(sweep, signal_number);
        tdm_world_abort(launched->world, exit_code);
    }
    return signal_number ? interrupted(sweep, signal_number) : publish(arena, a, sweep, view, err);
}

static int start(tdm_arena *arena, arguments *a, tdm_launched *launched, tdm_sweep *sweep,
                 tdm_error *err)
{
    tdm_sweep_view view;
    tdm_output output;
    sweep->share.world = launched->world;
    if (read_all(arena, a, sweep, &view, err) != TDM_OK)
        return tdm_launched_fail(launched, err);
    if (!a->out_dir)
        a->out_dir =
            tdm_arena_printf(arena, "runs/%s-sweep", tdm_file_stem(arena, sweep->scenario_path));
    /* Where files may not grow beyond a limit, writing is to fail, not to kill. */
    signal(SIGXFSZ, SIG_IGN);
    uint64_t program = tdm_sweep_program_hash();
    sweep->key_start = tdm_sweep_hash(program, sweep->engine, strlen(sweep->engine) + 1);
    if (!launched->quiet &&
        (tdm_output_open(arena, a->out_dir, &output, err) != TDM_OK ||
         tdm_sweep_journal_open(arena, a->out_dir, a->fresh, &sweep->journal, err) != TDM_OK))
        return tdm_launched_fail(launched, err);
    int code = tdm_launched_ready(launched);
    if (code == TDM_CLI_GO_ON)
        code = sweep_all(arena, a, launched, sweep, &view, err);
    tdm_sweep_journal_close(&sweep->journal);
    return code;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.format = "text"};
    tdm_launched launched;
    tdm_sweep *sweep = TDM_ALLOC(&arena, tdm_sweep, 1);
    sweep->engine = "analytic";
    int code = parse(&arena, argc, argv, &a, sweep);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_open("sweep", "auto", TDM_LAUNCHED_DEADLINE_S, a.quiet, &launched);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_close(
            &launched, start(&arena, &a, &launched, sweep, TDM_ALLOC(&arena, tdm_error, 1)));
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_sweep = {
    .name = "sweep",
    .usage = "SCENARIO --vary KEY=VALUES [options]",
    .summary = "predict all combinations of values of some keys; resumable",
    .run = run,
};
