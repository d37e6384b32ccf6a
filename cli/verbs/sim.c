/* sim.c: `tandem sim`: predicts one scenario, prints the report, writes the files of the run. */
#include "sim/sim.h"
#include "cli.h"
#include "output.h"
#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    tdm_predict_options predict;
    const char *format, *file, *out_dir;
    const char *fold;
    bool no_files, enforce, quiet;
} arguments;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const engines[] = {"sim", "analytic", NULL};
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    static const char *const folds[] = {"auto", "on", "off", NULL};
    tdm_cli_strings operands, sets;
    const tdm_cli_option options[] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario",
         .values = &sets},
        {.name = "--engine",
         .value_name = "ENGINE",
         .text = "who predicts",
         .choices = engines,
         .value = &a->predict.engine},
        {.name = "--fold",
         .value_name = "WHEN",
         .text = "simulate symmetric replicas as one",
         .choices = folds,
         .value = &a->fold},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = formats,
         .value = &a->format},
        {.name = "-o",
         .value_name = "FILE",
         .text = "print to FILE instead of standard output",
         .value = &a->file},
        {.name = "--out-dir",
         .value_name = "DIR",
         .text = "folder for the files of the run (default runs/NAME)",
         .value = &a->out_dir},
        {.name = "--no-files", .text = "write no files", .flag = &a->no_files},
        {.name = "--enforce-targets",
         .text = "exit 3 when a target is missed or memory does not fit",
         .flag = &a->enforce},
        {.name = "-q", .text = "print no report and no remarks", .flag = &a->quiet},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("sim"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->predict.fold = strcmp(a->fold, "on") == 0    ? TDM_FOLD_ON
                      : strcmp(a->fold, "off") == 0 ? TDM_FOLD_OFF
                                                    : TDM_FOLD_AUTO;
    a->predict.sets = sets.items;
    a->predict.n_sets = sets.n;
    a->predict.root = tdm_cli_root(arena);
    a->predict.scenario_path = tdm_cli_scenario(arena, a->predict.root, operands.items[0]);
    if (!a->predict.root)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    if (strcmp(a->predict.engine, "sim") == 0 && tdm_sim_missing())
        return tdm_cli_complain(TDM_E_INVALID, "sim: %s", tdm_sim_missing());
    return TDM_CLI_GO_ON;
}

/* A signal that asks to stop waits until the files are whole or gone. */
static tdm_code write_files(tdm_arena *arena, const arguments *a, const tdm_result *result,
                            const char *figures_text, tdm_output *output, tdm_error *err)
{
    const char *folder =
        a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s", result->scenario.name);
    sigset_t before;
    tdm_output_hold_signals(&before);
    tdm_code code = tdm_output_open(arena, folder, output, err);
    if (code == TDM_OK && !result->scenario.pass_times.given)
        code = tdm_sim_write_platform(&result->scenario.topology,
                                      tdm_output_add(arena, output, "platform.xml"), err);
    if (code == TDM_OK)
        code = tdm_output_write(arena, result, figures_text, output, err);
    tdm_output_abort(output);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void print(tdm_arena *arena, const arguments *a, const tdm_result *result,
                  const tdm_verdict *verdicts, const char *figures_text, FILE *file)
{
    tdm_style style = {.markdown = strcmp(a->format, "md") == 0,
                       .colours = strcmp(a->format, "text") == 0 && isatty(fileno(file)) &&
                                  !getenv("NO_COLOR")};
    if (strcmp(a->format, "json") == 0)
        fputs(figures_text, file);
    else if (strcmp(a->format, "csv") == 0)
        tdm_report_csv(result, file);
    else
        tdm_report_write(arena, result, verdicts, &style, file);
}

static int print_all(tdm_arena *arena, const arguments *a, const tdm_result *result,
                     const tdm_verdict *verdicts, const char *figures_text)
{
    if (a->quiet && !a->file)
        return TDM_OK;
    if (!a->file || strcmp(a->file, "-") == 0) {
        print(arena, a, result, verdicts, figures_text, stdout);
        return tdm_cli_finish(TDM_OK);
    }
    FILE *file = fopen(a->file, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    print(arena, a, result, verdicts, figures_text, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    return TDM_OK;
}

static int judge(const arguments *a, const tdm_result *result, const tdm_verdict *verdicts)
{
    bool missed = !result->scenario.pass_times.given && !tdm_memory_fits(result);
    for (uint32_t i = 0; i < result->scenario.n_targets; i++)
        missed = missed || !verdicts[i].pass;
    return missed && a->enforce ? TDM_E_INFEASIBLE : TDM_OK;
}

/* What follows a successful prediction. */
static int publish(tdm_arena *arena, const arguments *a, const tdm_result *result, tdm_error *err)
{
    if (!a->quiet)
        tdm_cli_warn(result->scenario.notes);
    const tdm_verdict *verdicts = tdm_judge(arena, result);
    json_t *document = tdm_output_figures_json(result, verdicts);
    char *figures_text = document ? tdm_output_json_text(document) : NULL;
    json_decref(document);
    if (!figures_text)
        return tdm_cli_complain(TDM_E_INTERNAL, "sim: out of memory");
    tdm_output output = {0};
    int code = TDM_OK;
    if (!a->no_files)
        code = write_files(arena, a, result, figures_text, &output, err) == TDM_OK
                   ? TDM_OK
                   : tdm_cli_fail(err);
    if (code == TDM_OK)
        code = print_all(arena, a, result, verdicts, figures_text);
    if (code == TDM_OK && !a->no_files && !a->quiet)
        fprintf(stderr, "\nFiles in %s; trace.json opens in https://ui.perfetto.dev\n",
                output.folder);
    free(figures_text);
    return code == TDM_OK ? judge(a, result, verdicts) : code;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.predict.engine = "sim", .format = "text", .fold = "auto"};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_result *result = TDM_ALLOC(&arena, tdm_result, 1);
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        code = tdm_predict(&arena, &a.predict, result, err) == TDM_OK
                   ? publish(&arena, &a, result, err)
                   : tdm_cli_fail(err);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_sim = {
    .name = "sim",
    .usage = "SCENARIO [options]",
    .summary = "predict a step: time, bubbles, communication, memory, targets",
    .run = run,
};
