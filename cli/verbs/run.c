/* run.c: `tandem run`: carries the plan out, every rank's streams as threads of this process, or of
 * one of those that mpirun or srun started. */
#include "backend/backend.h"
#include "cli.h"
#include "publish.h"
#include "run_arguments.h"
#include "sim/sim.h"

#include <string.h>
#include <unistd.h>

typedef struct arguments {
    tdm_predict_options predict;
    tdm_publish_options publish;
    tdm_cli_command command;
    tdm_run_arguments run;
    const char *plan_text; /* the operand, when it is no scenario */
} arguments;

static int check_dump(const char *folder, bool paced)
{
    if (folder && paced)
        return tdm_cli_complain(TDM_E_INVALID, "run: --dump is for --device host: the paced device "
                                               "computes nothing");
    if (folder && access(folder, F_OK) == 0)
        return tdm_cli_complain(TDM_E_INVALID, "run: --dump: %s is there already", folder);
    return TDM_CLI_GO_ON;
}

static int check_engine(arguments *a)
{
    const char **engine = &a->predict.times_of;
    if (!tdm_run_is_paced(&a->run.run))
        return *engine ? tdm_cli_complain(TDM_E_INVALID, "run: --engine is for --device paced")
                       : TDM_CLI_GO_ON;
    if (!*engine)
        *engine = tdm_sim_missing() ? "analytic" : "sim";
    if (strcmp(*engine, "sim") == 0 && tdm_sim_missing())
        return tdm_cli_complain(TDM_E_INVALID, "run: %s", tdm_sim_missing());
    return TDM_CLI_GO_ON;
}

/* A plan instead of a scenario: it has no machine, and nothing to set. */
static int check_plan_text(const char *operand, arguments *a)
{
    if (!tdm_cli_is_plan_text(operand))
        return TDM_CLI_GO_ON;
    if (a->predict.n_sets > 0)
        return tdm_cli_complain(TDM_E_INVALID, "run: %s is a plan already: --set needs a scenario",
                                operand);
    if (tdm_run_is_paced(&a->run.run))
        return tdm_cli_complain(TDM_E_INVALID,
                                "run: %s is a plan without a machine, which --device paced takes "
                                "its times from: give a scenario",
                                operand);
    a->plan_text = operand;
    return TDM_CLI_GO_ON;
}

static int check(tdm_arena *arena, const tdm_cli_strings *operands, arguments *a)
{
    a->predict.root = tdm_cli_root(arena);
    a->predict.scenario_path = tdm_cli_scenario(arena, a->predict.root, operands->items[0]);
    a->predict.engine = a->run.run.device;
    a->predict.run = &a->run.run;
    if (!a->predict.root)
        return tdm_cli_complain(TDM_E_INVALID,
                                "run: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    int code = tdm_run_arguments_check(&a->run);
    if (code == TDM_CLI_GO_ON)
        code = check_engine(a);
    if (code == TDM_CLI_GO_ON)
        code = check_dump(a->run.run.dump, tdm_run_is_paced(&a->run.run));
    return code == TDM_CLI_GO_ON ? check_plan_text(operands->items[0], a) : code;
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    tdm_cli_strings operands, sets;
    tdm_cli_option options[1 + TDM_N_RUN_ARGUMENTS + 16] = {{.name = "--set",
                                                             .value_name = "KEY=VALUE",
                                                             .text = "set a key of the scenario",
                                                             .values = &sets}};
    static const char *const engines[] = {"sim", "analytic", NULL};
    const tdm_cli_option others[] = {
        {.name = "--engine",
         .value_name = "ENGINE",
         .text = "paced: whose times it takes (default sim where that is built in)",
         .choices = engines,
         .value = &a->predict.times_of},
        {.name = "--dump",
         .value_name = "DIR",
         .text = "host: write words, routing, weights and gradients of every step, as .npy",
         .value = &a->run.run.dump},
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
        {.name = "-q", .text = "print no report and no remarks", .flag = &a->publish.quiet},
    };
    tdm_run_arguments_options(&a->run, options + 1);
    memcpy(options + 1 + TDM_N_RUN_ARGUMENTS, others, sizeof others);
    int code = tdm_cli_parse(arena, tdm_verb_find("run"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->predict.sets = sets.items;
    a->predict.n_sets = sets.n;
    return check(arena, &operands, a);
}

static int carry_out(tdm_arena *arena, arguments *a, tdm_launched *launched)
{
    if (a->run.run.dump && launched->world)
        return launched->quiet
                   ? TDM_OK
                   : tdm_cli_complain(TDM_E_INVALID, "run: --dump is for --transport threads: one "
                                                     "process sees all ranks");
    if (a->plan_text)
        return tdm_run_text(arena, a->plan_text, &a->run.run, &a->publish, launched);
    tdm_result *result = TDM_ALLOC(arena, tdm_result, 1);
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_outcome outcome = {.result = result, .command = a->command};
    if (tdm_predict(arena, &a->predict, result, err) != TDM_OK)
        return tdm_launched_fail(launched, err);
    return launched->quiet ? TDM_OK : tdm_publish(arena, &a->publish, &outcome, err);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.publish = {.verb = "run", .format = "text"},
                   .command = {argv, argc},
                   .run = tdm_run_arguments_default("run")};
    tdm_launched launched;
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON)
        code = tdm_run_arguments_launch(&a.run, a.publish.quiet, &launched);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_close(&launched, carry_out(&arena, &a, &launched));
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_run = {
    .name = "run",
    .usage = "SCENARIO|PLAN [options]",
    .summary = "carry a plan out on this machine: real numerics, or the planned times",
    .run = run,
};
