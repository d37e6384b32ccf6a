/* validate.c: `tandem validate`: predicts a scenario, carries it out, and holds one against the
 * other. */
#include "calibrate.h"
#include "cli.h"
#include "compare.h"
#include "plot.h"
#include "publish.h"
#include "report.h"
#include "run_arguments.h"
#include "sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    const char *scenario, *engine;
    tdm_cli_strings sets;
    tdm_run_arguments run;
    const char *tolerance_text, *figures_text;
    tdm_tolerance tolerance;
    const char *plot_format;
    bool no_plots, no_calibrate;
    const char *format, *file, *out_dir;
    bool quiet;
    tdm_cli_command command;
    const char *root;
} arguments;

enum { N_OTHER_OPTIONS = 11 };

static void other_options(arguments *a, tdm_cli_option options[N_OTHER_OPTIONS])
{
    static const char *const engines[] = {"sim", "analytic", NULL};
    static const char *const pictures[] = {"png", "svg", "both", NULL};
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    const tdm_cli_option all[N_OTHER_OPTIONS] = {
        {.name = "--engine",
         .value_name = "ENGINE",
         .text = "who predicts, and whose times paced takes (default sim)",
         .choices = engines,
         .value = &a->engine},
        {.name = "--tolerance",
         .value_name = "SHARE",
         .text = "exit 4 when a figure's relative error is larger (default 15% of the step time)",
         .value = &a->tolerance_text},
        {.name = "--figures",
         .value_name = "LIST",
         .text = "figures that the tolerance is for (default step_time_s)",
         .value = &a->figures_text},
        {.name = "--no-calibrate",
         .text = "host on processor cores: take the topology as it is, do not measure this machine",
         .flag = &a->no_calibrate},
        {.name = "--plot-format",
         .value_name = "FORMAT",
         .text = "pictures to draw (default both)",
         .choices = pictures,
         .value = &a->plot_format},
        {.name = "--no-plots", .text = "draw no pictures", .flag = &a->no_plots},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print; json and csv are those of tandem compare",
         .choices = formats,
         .value = &a->format},
        {.name = "-o",
         .value_name = "FILE",
         .text = "print to FILE instead of standard output",
         .value = &a->file},
        {.name = "--out-dir",
         .value_name = "DIR",
         .text = "folder for predicted/, measured/ and plots/ (default runs/NAME-validate)",
         .value = &a->out_dir},
        {.name = "-q", .text = "print no table and no remarks", .flag = &a->quiet},
        {0},
    };
    memcpy(options, all, sizeof all);
}

static int check(arguments *a)
{
    if (!a->root)
        return tdm_cli_complain(
            TDM_E_INVALID, "validate: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    if (strcmp(a->engine, "sim") == 0 && tdm_sim_missing())
        return tdm_cli_complain(TDM_E_INVALID, "validate: %s", tdm_sim_missing());
    if (tdm_cli_is_plan_text(a->scenario))
        return tdm_cli_complain(TDM_E_INVALID,
                                "validate: %s is a plan without a machine to predict it on: give "
                                "a scenario",
                                a->scenario);
    if (a->no_plots && a->plot_format)
        return tdm_cli_complain(TDM_E_INVALID,
                                "validate: --plot-format: --no-plots draws no pictures");
    return tdm_run_arguments_check(&a->run);
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    tdm_cli_strings operands;
    tdm_cli_option options[1 + TDM_N_RUN_ARGUMENTS + N_OTHER_OPTIONS] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario",
         .values = &a->sets}};
    tdm_run_arguments_options(&a->run, options + 1);
    other_options(a, options + 1 + TDM_N_RUN_ARGUMENTS);
    int code =
        tdm_cli_parse(arena, tdm_verb_find("validate"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        code = tdm_tolerance_parse(arena, "validate", a->tolerance_text, a->figures_text,
                                   &a->tolerance);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->root = tdm_cli_root(arena);
    a->scenario = tdm_cli_scenario(arena, a->root, operands.items[0]);
    return check(a);
}

/* ---- this machine ---- */

typedef struct measured_machine {
    bool is_measured;
    tdm_calibrate_options options;
    tdm_calibration calibration;
} measured_machine;

/* On a topology of cores it is this machine that carries the plan out, so it is measured first, and
 * both sides are for it; its files go where the sides go. */
static tdm_code measure_machine(tdm_arena *arena, const arguments *given, arguments *a,
                                measured_machine *m, tdm_error *err)
{
    tdm_scenario *scenario = TDM_ALLOC(arena, tdm_scenario, 1);
    *a = *given;
    *m = (measured_machine){0};
    if (strcmp(a->run.run.device, "host") != 0 || a->no_calibrate || a->run.run.world)
        return TDM_OK;
    tdm_code code =
        tdm_scenario_load(arena, a->root, a->scenario, a->sets.items, a->sets.n, scenario, err);
    if (code != TDM_OK || !scenario->topology.cores)
        return code;
    const char *folder =
        a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s-validate", scenario->name);
    m->is_measured = true;
    m->options = (tdm_calibrate_options){.root = a->root,
                                         .scenario = a->scenario,
                                         .sets = a->sets.items,
                                         .n_sets = a->sets.n,
                                         .folder = tdm_arena_printf(arena, "%s/machine", folder),
                                         .is_apart = true,
                                         .name = "host",
                                         .ranks = scenario->topology.n_gpus,
                                         .quiet = a->quiet};
    code = tdm_calibrate_host(arena, &m->options, &m->calibration, err);
    if (code != TDM_OK)
        return code;
    const char **sets = TDM_ALLOC(arena, const char *, a->sets.n + 1);
    for (size_t i = 0; i < a->sets.n; i++)
        sets[i] = a->sets.items[i];
    sets[a->sets.n] = tdm_arena_printf(arena, "topology=%s", m->calibration.topology_path);
    a->sets = (tdm_cli_strings){sets, a->sets.n + 1};
    return TDM_OK;
}

/* How much slower the machine has become since it was measured; 1: as it was, or not known. */
static tdm_code measure_change(const measured_machine *m, double *change, tdm_error *err)
{
    double step_s = 0;
    tdm_code code = TDM_OK;
    *change = 1;
    if (m->is_measured)
        code = tdm_calibrate_again(&m->options, &m->calibration, &step_s, err);
    if (code == TDM_OK && step_s > 0)
        *change = step_s / m->calibration.crowd_s;
    return code;
}

/* ---- both sides ---- */

/* What the two sides are, and where they lie. */
typedef struct pair {
    tdm_outcome predicted, measured;
    const char *folder, *folder_predicted, *folder_measured;
    tdm_side a, b;
    tdm_comparison comparison;
    tdm_plot *plots; /* [n_plots] there are */
    uint32_t n_plots;
} pair;

/* All ranks are simulated, since all are carried out. */
static tdm_predict_options prediction(const arguments *a)
{
    return (tdm_predict_options){.root = a->root,
                                 .scenario_path = a->scenario,
                                 .sets = a->sets.items,
                                 .n_sets = a->sets.n,
                                 .engine = a->engine,
                                 .fold = TDM_FOLD_OFF};
}

static tdm_predict_options execution(const arguments *a)
{
    tdm_predict_options options = prediction(a);
    options.engine = a->run.run.device;
    options.run = &a->run.run;
    options.times_of = tdm_run_is_paced(&a->run.run) ? a->engine : NULL;
    return options;
}

/* Of several processes the first alone predicts. */
static tdm_code make_sides(tdm_arena *arena, const arguments *a, const tdm_launched *launched,
                           pair *p, tdm_error *err)
{
    tdm_result *predicted = TDM_ALLOC(arena, tdm_result, 1);
    tdm_result *measured = TDM_ALLOC(arena, tdm_result, 1);
    tdm_predict_options options = prediction(a), run = execution(a);
    tdm_code code = launched->quiet ? TDM_OK : tdm_predict(arena, &options, predicted, err);
    if (code == TDM_OK)
        code = tdm_predict(arena, &run, measured, err);
    p->predicted = (tdm_outcome){.result = predicted, .command = a->command};
    p->measured = (tdm_outcome){.result = measured, .command = a->command};
    return code;
}

static void name_folders(tdm_arena *arena, const arguments *a, pair *p)
{
    const char *name = p->predicted.result->scenario.name;
    p->folder = a->out_dir ? a->out_dir : tdm_arena_printf(arena, "runs/%s-validate", name);
    p->folder_predicted = tdm_arena_printf(arena, "%s/predicted", p->folder);
    p->folder_measured = tdm_arena_printf(arena, "%s/measured", p->folder);
}

/* What an earlier run left would speak of other sides. */
static void remove_old(tdm_arena *arena, const pair *p)
{
    unlink(tdm_arena_printf(arena, "%s/comparison.json", p->folder));
    for (uint32_t i = 0; i < p->n_plots; i++) {
        unlink(tdm_arena_printf(arena, "%s/plots/%s.png", p->folder, p->plots[i].name));
        unlink(tdm_arena_printf(arena, "%s/plots/%s.svg", p->folder, p->plots[i].name));
    }
}

static int write_sides(tdm_arena *arena, pair *p, tdm_error *err)
{
    remove_old(arena, p);
    int code = tdm_outcome_complete(arena, "validate", &p->predicted);
    if (code == TDM_OK)
        code = tdm_outcome_complete(arena, "validate", &p->measured);
    if (code == TDM_OK &&
        (tdm_outcome_write(arena, &p->predicted, p->folder_predicted, err) != TDM_OK ||
         tdm_outcome_write(arena, &p->measured, p->folder_measured, err) != TDM_OK))
        code = tdm_cli_fail(err);
    free(p->predicted.text);
    free(p->measured.text);
    return code;
}

/* The sides are read from their files, as `tandem compare` reads them. */
static tdm_code compare(tdm_arena *arena, const arguments *a, pair *p, tdm_error *err)
{
    tdm_side_reader reader = {.root = a->root};
    tdm_code code = tdm_side_read(arena, &reader, p->folder_predicted, &p->a, err);
    if (code == TDM_OK)
        code = tdm_side_read(arena, &reader, p->folder_measured, &p->b, err);
    if (code != TDM_OK)
        return code;
    p->a.name =
        tdm_arena_printf(arena, "%s by engine %s", p->predicted.result->scenario.name, a->engine);
    p->b.name = tdm_arena_printf(arena, "device %s", a->run.run.device);
    tdm_compare(arena, &p->a, &p->b, &p->comparison);
    return tdm_tolerance_check("validate", &a->tolerance, &p->comparison, err);
}

/* ---- what comes out ---- */

static tdm_code write_comparison(tdm_arena *arena, const arguments *a, const pair *p,
                                 tdm_error *err)
{
    tdm_output output = {0};
    char *text = tdm_compare_json(&p->comparison, &a->tolerance);
    if (!text)
        return tdm_error_add(err, TDM_E_INTERNAL, "validate: out of memory");
    tdm_code code = tdm_output_open(arena, p->folder, &output, err);
    if (code == TDM_OK)
        code = tdm_output_text(tdm_output_add(arena, &output, "comparison.json"), text,
                               strlen(text), err);
    if (code == TDM_OK)
        code = tdm_output_commit(&output, err);
    tdm_output_abort(&output);
    free(text);
    return code;
}

static tdm_code draw(tdm_arena *arena, const arguments *a, const pair *p, tdm_error *err)
{
    uint32_t n_drawn = 0;
    const tdm_plot_job job = {.root = a->root,
                              .folder = tdm_arena_printf(arena, "%s/plots", p->folder),
                              .format = a->plot_format ? a->plot_format : "both",
                              .quiet = a->quiet};
    const tdm_plot_input input = {
        .arena = arena, .a = &p->a, .b = &p->b, .comparison = &p->comparison};
    if (a->no_plots)
        return TDM_OK;
    if (!tdm_plot_gnuplot_missing(arena))
        return tdm_plot_draw_all(arena, &job, p->plots, p->n_plots, &input, &n_drawn, err);
    if (!a->quiet)
        fputs("tandem: validate: no pictures: gnuplot is not installed (Debian: gnuplot-nox; "
              "--no-plots does without)\n",
              stderr);
    return TDM_OK;
}

typedef struct printing {
    tdm_arena *arena;
    const arguments *arguments;
    const pair *pair;
} printing;

static void print_text(void *context, FILE *file)
{
    const printing *p = context;
    const arguments *a = p->arguments;
    tdm_style style = tdm_style_of(a->format, file);
    tdm_compare_brief(p->arena, &p->pair->comparison, &style, file);
    tdm_report_run(p->arena, p->pair->measured.result, &style, file);
    tdm_compare_verdict(&p->pair->comparison, &a->tolerance, &style, file);
}

static int print(tdm_arena *arena, const arguments *a, const pair *p)
{
    printing text = {arena, a, p};
    if (a->quiet && !a->file)
        return TDM_OK;
    if (strcmp(a->format, "text") == 0 || strcmp(a->format, "md") == 0)
        return tdm_cli_print(a->file, print_text, &text);
    return tdm_compare_print(arena, a->format, a->file, &p->comparison, &a->tolerance);
}

/* The verdict comes last: a table without its pictures is printed all the same. */
static int publish(tdm_arena *arena, const arguments *a, pair *p, tdm_error *err)
{
    if (!a->quiet)
        tdm_cli_warn(p->predicted.result->scenario.notes);
    if (tdm_plot_list(arena, a->root, &p->plots, &p->n_plots, err) != TDM_OK)
        return tdm_cli_fail(err);
    name_folders(arena, a, p);
    int code = write_sides(arena, p, err);
    if (code != TDM_OK)
        return code;
    if (compare(arena, a, p, err) != TDM_OK || write_comparison(arena, a, p, err) != TDM_OK)
        return tdm_cli_fail(err);
    int drawn = draw(arena, a, p, err) == TDM_OK ? TDM_OK : tdm_cli_fail(err);
    code = print(arena, a, p);
    if (code == TDM_OK && !a->quiet)
        fprintf(stderr, "\nFiles in %s; all of it: tandem compare %s %s\n", p->folder,
                p->folder_predicted, p->folder_measured);
    code = code == TDM_OK ? drawn : code;
    return code == TDM_OK ? tdm_tolerance_verdict(&a->tolerance, &p->comparison) : code;
}

/* Both sides; again where the machine was not the same before and after, as under other load. */
static tdm_code make_steady_sides(tdm_arena *arena, const arguments *given, arguments *a,
                                  const tdm_launched *launched, pair *p, tdm_error *err)
{
    enum { MOST_TRIES = 3 };
    static const double MUCH = 0.1;
    measured_machine machine;
    double change = 1;
    for (int try = 0; try < MOST_TRIES; try++) {
        tdm_code code = measure_machine(arena, given, a, &machine, err);
        if (code == TDM_OK)
            code = make_sides(arena, a, launched, p, err);
        if (code == TDM_OK)
            code = measure_change(&machine, &change, err);
        if (code != TDM_OK || fabs(change - 1) <= MUCH)
            return code;
        if (!a->quiet)
            fprintf(stderr,
                    "warning: this machine was %.0f %% %s after the run than before: other "
                    "programs disturb it%s\n",
                    100 * fabs(change - 1), change > 1 ? "slower" : "faster",
                    try + 1 < MOST_TRIES ? "; once more" : "");
    }
    return TDM_OK;
}

static int validate(tdm_arena *arena, const arguments *given, tdm_launched *launched)
{
    arguments *a = TDM_ALLOC(arena, arguments, 1);
    pair *p = TDM_ALLOC(arena, pair, 1);
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    if (make_steady_sides(arena, given, a, launched, p, err) != TDM_OK)
        return tdm_launched_fail(launched, err);
    return launched->quiet ? TDM_OK : publish(arena, a, p, err);
}

/* A median over more steps: on shared cores single steps differ by a tenth or two. */
static int choose_steps(arguments *a)
{
    enum { HOST_STEPS = 15 };
    if (!a->run.steps && !tdm_run_is_paced(&a->run.run))
        a->run.run.n_steps = HOST_STEPS;
    return TDM_CLI_GO_ON;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.engine = "sim",
                   .run = tdm_run_arguments_default("validate"),
                   .tolerance_text = "15%",
                   .command = {argv, argc},
                   .format = "text"};
    tdm_launched launched;
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON)
        code = choose_steps(&a);
    if (code == TDM_CLI_GO_ON)
        code = tdm_run_arguments_launch(&a.run, a.quiet, &launched);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_close(&launched, validate(&arena, &a, &launched));
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_validate = {
    .name = "validate",
    .usage = "SCENARIO [options]",
    .summary = "predict a scenario, carry it out, and say how far apart the two are",
    .run = run,
};
