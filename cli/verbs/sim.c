/* sim.c: `tandem sim`: predicts one scenario, prints the report, writes the files of the run. */
#include "sim/sim.h"
#include "cli.h"
#include "core/units.h"
#include "jobs.h"
#include "output.h"
#include "repeat.h"
#include "report.h"
#include "sensitivity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    tdm_predict_options predict;
    const char *format, *file, *out_dir;
    const char *repeat, *jobs, *slowing_text;
    bool no_files, enforce, quiet, sensitivity;
    uint32_t n_repeat, n_jobs; /* n_repeat 0: not asked for */
    double slowing;
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
    if (a->sensitivity && a->enforce)
        return tdm_cli_complain(TDM_E_INVALID,
                                "sim: --enforce-targets: --sensitivity judges no targets");
    if (a->sensitivity && a->out_dir)
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
        {.name = "-q", .text = "print no report and no remarks", .flag = &a->quiet},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("sim"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        code = read_campaign(a);
    if (code != TDM_CLI_GO_ON)
        return code;
    if (!a->predict.engine)
        a->predict.engine = a->sensitivity ? "analytic" : "sim";
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

/* What is known once everything is predicted. */
typedef struct outcome {
    const tdm_result *result;
    const tdm_repeat *repeat;           /* NULL: not repeated */
    const tdm_sensitivity *sensitivity; /* NULL: not asked for */
    const tdm_verdict *verdicts;
    char *text; /* the JSON document */
} outcome;

static tdm_code write_repetitions(tdm_arena *arena, const outcome *o, tdm_output *output,
                                  tdm_error *err)
{
    const char *path = tdm_output_add(arena, output, "repetitions.csv");
    FILE *file = fopen(path, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    tdm_repeat_table(o->result, o->repeat, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    return TDM_OK;
}

/* A signal that asks to stop waits until the files are whole or gone. */
static tdm_code write_files(tdm_arena *arena, const arguments *a, const outcome *o,
                            tdm_output *output, tdm_error *err)
{
    const tdm_result *result = o->result;
    const char *folder =
        a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s", result->scenario.name);
    sigset_t before;
    tdm_output_hold_signals(&before);
    tdm_code code = tdm_output_open(arena, folder, output, err);
    if (code == TDM_OK && !result->scenario.pass_times.given)
        code = tdm_sim_write_platform(result->machine.topology,
                                      tdm_output_add(arena, output, "platform.xml"), err);
    if (code == TDM_OK && o->repeat)
        code = write_repetitions(arena, o, output, err);
    if (code == TDM_OK)
        code = tdm_output_write(arena, result, o->text, output, err);
    if (code == TDM_OK && !o->repeat) /* one of an earlier run would speak of another scenario */
        unlink(tdm_arena_printf(arena, "%s/repetitions.csv", output->folder));
    tdm_output_abort(output);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return code;
}

static void print_csv(const outcome *o, FILE *file)
{
    if (o->sensitivity)
        tdm_sensitivity_csv(o->sensitivity, file);
    else if (o->repeat)
        tdm_repeat_csv(o->result, o->repeat, file);
    else
        tdm_report_csv(o->result, file);
}

static void print(tdm_arena *arena, const arguments *a, const outcome *o, FILE *file)
{
    tdm_style style = {.markdown = strcmp(a->format, "md") == 0,
                       .colours = strcmp(a->format, "text") == 0 && isatty(fileno(file)) &&
                                  !getenv("NO_COLOR")};
    if (strcmp(a->format, "json") == 0)
        fputs(o->text, file);
    else if (strcmp(a->format, "csv") == 0)
        print_csv(o, file);
    else if (o->sensitivity)
        tdm_sensitivity_report(arena, o->result, o->sensitivity, &style, file);
    else if (o->repeat)
        tdm_repeat_report(arena, o->result, o->repeat, o->verdicts, &style, file);
    else
        tdm_report_write(arena, o->result, o->verdicts, &style, file);
}

static int print_all(tdm_arena *arena, const arguments *a, const outcome *o)
{
    if (a->quiet && !a->file)
        return TDM_OK;
    if (!a->file || strcmp(a->file, "-") == 0) {
        print(arena, a, o, stdout);
        return tdm_cli_finish(TDM_OK);
    }
    FILE *file = fopen(a->file, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    print(arena, a, o, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    return TDM_OK;
}

static int judge(const arguments *a, const outcome *o)
{
    const tdm_scenario *scenario = &o->result->scenario;
    bool missed = !scenario->pass_times.given && !tdm_memory_fits(o->result);
    for (uint32_t i = 0; i < scenario->n_targets; i++)
        missed = missed || !o->verdicts[i].pass;
    return missed && a->enforce ? TDM_E_INFEASIBLE : TDM_OK;
}

static char *document_text(const outcome *o)
{
    json_t *document = tdm_output_figures_json(o->result, o->verdicts);
    if (document && o->repeat)
        json_object_set_new(document, "repeat", tdm_repeat_json(o->result, o->repeat));
    char *text = document ? tdm_output_json_text(document) : NULL;
    json_decref(document);
    return text;
}

/* What follows a successful prediction. */
static int publish(tdm_arena *arena, const arguments *a, outcome *o, tdm_error *err)
{
    o->verdicts =
        o->repeat ? tdm_repeat_judge(arena, o->result, o->repeat) : tdm_judge(arena, o->result);
    o->text =
        o->sensitivity ? tdm_sensitivity_json(arena, o->result, o->sensitivity) : document_text(o);
    if (!o->text)
        return tdm_cli_complain(TDM_E_INTERNAL, "sim: out of memory");
    tdm_output output = {0};
    bool files = !a->no_files && !o->sensitivity;
    int code = TDM_OK;
    if (files)
        code = write_files(arena, a, o, &output, err) == TDM_OK ? TDM_OK : tdm_cli_fail(err);
    if (code == TDM_OK)
        code = print_all(arena, a, o);
    if (code == TDM_OK && files && !a->quiet)
        fprintf(stderr, "\nFiles in %s%s; trace.json opens in https://ui.perfetto.dev\n",
                output.folder, o->repeat ? ", of repetition 1; repetitions.csv has all" : "");
    free(o->text);
    return code == TDM_OK ? judge(a, o) : code;
}

/* Repeats the prediction, or varies it, if asked to. */
static int follow_up(tdm_arena *arena, arguments *a, const tdm_result *result, tdm_error *err)
{
    outcome o = {.result = result};
    tdm_repeat repeat;
    tdm_sensitivity sensitivity;
    if (!a->quiet)
        tdm_cli_warn(result->scenario.notes);
    if (a->n_repeat && !tdm_perturbation_is_random(&result->scenario.perturbation)) {
        a->n_repeat = 0;
        if (!a->quiet)
            fputs("tandem: sim: --repeat: nothing in this scenario is random (perturbation.jitter, "
                  "perturbation.stragglers): all repetitions would be equal, one is run\n",
                  stderr);
    }
    tdm_code code = TDM_OK;
    if (a->n_repeat) {
        code = tdm_repeat_run(arena, result, a->n_repeat, a->n_jobs, a->quiet, &repeat, err);
        o.repeat = &repeat;
    } else if (a->sensitivity) {
        code =
            tdm_sensitivity_run(arena, result, a->slowing, a->n_jobs, a->quiet, &sensitivity, err);
        o.sensitivity = &sensitivity;
    }
    return code == TDM_OK ? publish(arena, a, &o, err) : tdm_cli_fail(err);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.format = "text"};
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
