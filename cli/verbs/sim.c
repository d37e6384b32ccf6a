/* sim.c: `tandem sim`: predicts one scenario, prints the report, writes the files of the run. */
#include "sim/sim.h"
#include "cli.h"
#include "core/units.h"
#include "jobs.h"
#include "publish.h"

#include <string.h>

typedef struct arguments {
    tdm_predict_options predict;
    tdm_publish_options publish;
    tdm_cli_command command;
    const char *repeat, *jobs, *slowing_text;
    bool sensitivity;
    uint32_t n_repeat, n_jobs; /* n_repeat 0: not asked for */
    double slowing;
    const char *fold;
} arguments;

enum { MOST_REPETITIONS = 100000, MOST_JOBS = 256 };
static const double most_slowing = 10;

/* A whole number from 1 to most. */
static int read_count(const char *option, const char *text, uint32_t most, uint32_t *value)
{
    size_t n = strspn(text, "0123456789");
    unsigned long read = n > 0 && n < 10 && !text[n] ? strtoul(text, NULL, 10) : 0;
    if (read < 1 || read > most)
        return tdm_cli_complain(TDM_E_INVALID, "sim: %s: '%s': expected 1 to %u", option, text,
                                most);
    *value = (uint32_t)read;
    return TDM_CLI_GO_ON;
}

/* --repeat, --sensitivity and -j, and what goes with what. */
static int read_campaign(arguments *a)
{
    int code = TDM_CLI_GO_ON;
    a->n_jobs = tdm_jobs_default();
    a->slowing = 0.1;
    if (a->repeat && a->sensitivity)
        return tdm_cli_complain(TDM_E_INVALID, "sim: --repeat and --sensitivity: one at a time");
    if (a->jobs && !a->repeat && !a->sensitivity)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: -j goes with --repeat or --sensitivity: a single prediction "
                                "runs in one process");
    if (a->sensitivity && a->publish.enforce)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: --enforce-targets: --sensitivity judges no targets");
    if (a->sensitivity && a->publish.out_dir)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: --out-dir: --sensitivity writes no files (-o FILE has what "
                                "it prints)");
    if (a->repeat)
        code = read_count("--repeat", a->repeat, MOST_REPETITIONS, &a->n_repeat);
    if (code == TDM_CLI_GO_ON && a->jobs)
        code = read_count("-j", a->jobs, MOST_JOBS, &a->n_jobs);
    if (code != TDM_CLI_GO_ON || !a->slowing_text)
        return code;
    if (tdm_quantity_parse(a->slowing_text, TDM_UNIT_SHARE, &a->slowing) != TDM_QUANTITY_OK ||
        !(a->slowing > 0) || a->slowing > most_slowing)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: --sensitivity: '%s': expected how much longer kernels and "
                                "transfers take, as 10%% (above 0 and at most 1000%%)",
                                a->slowing_text);
    return TDM_CLI_GO_ON;
}

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
         .text = "who predicts (default sim, with --sensitivity analytic)",
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
         .value = &a->publish.format},
        {.name = "-o",
         .value_name = "FILE",
         .text = "print to FILE instead of standard output",
         .value = &a->publish.file},
        {.name = "--out-dir",
         .value_name = "DIR",
         .text = "folder for the files of the run (default runs/NAME)",
         .value = &a->publish.out_dir},
        {.name = "--no-files", .text = "write no files", .flag = &a->publish.no_files},
        {.name = "--enforce-targets",
         .text = "exit 3 when a target is missed or memory does not fit",
         .flag = &a->publish.enforce},
        {.name = "--repeat",
         .value_name = "N",
         .text = "N draws of the perturbation's noise: median, interval, percentiles",
         .value = &a->repeat},
        {.name = "--sensitivity",
         .value_name = "SLOWING",
         .text = "slow each GPU, stage and link alone (by 10%) and rank them",
         .flag = &a->sensitivity,
         .value = &a->slowing_text},
        {.name = "-j",
         .value_name = "N",
         .text = "predictions at the same time (default: one per core)",
         .value = &a->jobs},
        {.name = "-q", .text = "print no report and no remarks", .flag = &a->publish.quiet},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("sim"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        code = read_campaign(a);
    if (code != TDM_CLI_GO_ON)
        return code;
    if (!a->predict.engine)
        a->predict.engine = a->sensitivity ? "analytic" : "sim";
    a->predict.fold = strcmp(a->fold, "on") == 0    ? TDM_FOLD_ON
                      : strcmp(a->fold, "off") == 0 ? TDM_FOLD_OFF
                                                    : TDM_FOLD_AUTO;
    if (a->sensitivity && a->predict.fold == TDM_FOLD_ON)
        return tdm_cli_complain(TDM_E_INVALID, "sim: --fold on: --sensitivity slows single GPUs "
                                               "and links, so replicas differ");
    if (a->sensitivity)
        a->predict.fold = TDM_FOLD_OFF;
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

/* Repeats the prediction, or varies it, if asked to. */
static int follow_up(tdm_arena *arena, arguments *a, tdm_result *result, tdm_error *err)
{
    tdm_outcome o = {.result = result, .command = a->command};
    tdm_repeat repeat;
    tdm_sensitivity sensitivity;
    if (a->n_repeat && !tdm_perturbation_is_random(&result->scenario.perturbation)) {
        a->n_repeat = 0;
        if (!a->publish.quiet)
            fputs("tandem: sim: --repeat: nothing in this scenario is random (perturbation.jitter, "
                  "perturbation.stragglers): all repetitions would be equal, one is run\n",
                  stderr);
    }
    tdm_code code = TDM_OK;
    if (a->n_repeat) {
        code =
            tdm_repeat_run(arena, result, a->n_repeat, a->n_jobs, a->publish.quiet, &repeat, err);
        o.repeat = &repeat;
    } else if (a->sensitivity) {
        code = tdm_sensitivity_run(arena, result, a->slowing, a->n_jobs, a->publish.quiet,
                                   &sensitivity, err);
        o.sensitivity = &sensitivity;
    }
    return code == TDM_OK ? tdm_publish(arena, &a->publish, &o, err) : tdm_cli_fail(err);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {
        .publish = {.verb = "sim", .format = "text"}, .command = {argv, argc}, .fold = "auto"};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_result *result = TDM_ALLOC(&arena, tdm_result, 1);
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        code = tdm_predict(&arena, &a.predict, result, err) == TDM_OK
                   ? follow_up(&arena, &a, result, err)
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
