/* sim.c: `tandem sim`: predicts one scenario, prints the report, writes the files of the run. */
#include "sim/sim.h"
#include "cli.h"
#include "publish.h"

#include <string.h>

typedef struct arguments {
    tdm_predict_options predict;
    tdm_publish_options publish;
} arguments;

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
         .text = "who predicts",
         .choices = engines,
         .value = &a->predict.engine},
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
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("sim"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
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

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.predict.engine = "sim", .publish = {.verb = "sim", .format = "text"}};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_result *result = TDM_ALLOC(&arena, tdm_result, 1);
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        code = tdm_predict(&arena, &a.predict, result, err) == TDM_OK
                   ? tdm_publish(&arena, &a.publish, result, err)
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
