/* run.c: `tandem run`: carries the plan out, every rank's streams as threads of this process, or of
 * one of those that mpirun or srun started. */
#include "backend/backend.h"
#include "cli.h"
#include "core/units.h"
#include "launched.h"
#include "publish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    tdm_predict_options predict;
    tdm_publish_options publish;
    tdm_run_options run;
    const char *steps, *pace, *timeout;
    double deadline_s;
    const char *plan_text; /* the operand, when it is no scenario */
} arguments;

/* A whole number from 1 to `most`, all of the text. */
static int take_count(const char *option, const char *text, uint32_t most, uint32_t *count)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < 1 || value > most)
        return tdm_cli_complain(TDM_E_INVALID, "run: %s: '%s' is not a whole number from 1 to %u",
                                option, text, most);
    *count = (uint32_t)value;
    return TDM_CLI_GO_ON;
}

static int take_pace(const char *text, double *pace)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 1e-3 && value <= 1e6))
        return tdm_cli_complain(TDM_E_INVALID,
                                "run: --pace: '%s' is not a number from 0.001 to 1000000", text);
    *pace = value;
    return TDM_CLI_GO_ON;
}

static int take_timeout(const char *text, double *seconds)
{
    double value = 0;
    if (tdm_quantity_parse(text, TDM_UNIT_SECONDS, &value) != TDM_QUANTITY_OK || !(value > 0))
        return tdm_cli_complain(TDM_E_INVALID, "run: --timeout: '%s': expected %s", text,
                                tdm_unit_expected(TDM_UNIT_SECONDS));
    *seconds = value;
    return TDM_CLI_GO_ON;
}

static int check_dump(const char *folder, bool paced)
{
    if (folder && paced)
        return tdm_cli_complain(TDM_E_INVALID, "run: --dump is for --device host: the paced device "
                                               "computes nothing");
    if (folder && access(folder, F_OK) == 0)
        return tdm_cli_complain(TDM_E_INVALID, "run: --dump: %s is there already", folder);
    return TDM_CLI_GO_ON;
}

static int check(tdm_arena *arena, const tdm_cli_strings *operands, arguments *a)
{
    enum { MOST_STEPS = 10000 };
    bool paced = strcmp(a->run.device, "paced") == 0;
    a->predict.root = tdm_cli_root(arena);
    a->predict.scenario_path = tdm_cli_scenario(arena, a->predict.root, operands->items[0]);
    a->predict.engine = a->run.device;
    a->predict.run = &a->run;
    if (!a->predict.root)
        return tdm_cli_complain(TDM_E_INVALID,
                                "run: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    if (!paced && tdm_host_missing())
        return tdm_cli_complain(TDM_E_INVALID, "run: %s", tdm_host_missing());
    if (!paced && a->pace)
        return tdm_cli_complain(TDM_E_INVALID, "run: --pace is for --device paced");
    if (paced && a->run.check_memory)
        return tdm_cli_complain(TDM_E_INVALID, "run: --check-memory is for --device host: the "
                                               "paced device has no memory");
    int code = check_dump(a->run.dump, paced);
    if (code != TDM_CLI_GO_ON)
        return code;
    if (tdm_cli_is_plan_text(operands->items[0])) {
        if (a->predict.n_sets > 0)
            return tdm_cli_complain(TDM_E_INVALID,
                                    "run: %s is a plan already: --set needs a scenario",
                                    operands->items[0]);
        if (paced)
            return tdm_cli_complain(
                TDM_E_INVALID,
                "run: %s is a plan without a machine, which --device paced takes "
                "its times from: give a scenario",
                operands->items[0]);
        a->plan_text = operands->items[0];
    }
    code = a->steps ? take_count("--steps", a->steps, MOST_STEPS, &a->run.n_steps) : TDM_CLI_GO_ON;
    if (code == TDM_CLI_GO_ON && a->pace)
        code = take_pace(a->pace, &a->run.pace);
    if (code == TDM_CLI_GO_ON && a->timeout)
        code = take_timeout(a->timeout, &a->deadline_s);
    return code;
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const devices[] = {"host", "paced", NULL};
    static const char *const transports[] = {"auto", "threads", "mpi", NULL};
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    tdm_cli_strings operands, sets;
    const tdm_cli_option options[] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario",
         .values = &sets},
        {.name = "--device",
         .value_name = "DEVICE",
         .text = "what carries out kernels (default host)",
         .choices = devices,
         .value = &a->run.device},
        {.name = "--transport",
         .value_name = "TRANSPORT",
         .text = "what connects ranks (default auto: mpi under mpirun, else threads)",
         .choices = transports,
         .value = &a->run.transport},
        {.name = "--steps",
         .value_name = "N",
         .text = "training steps (default 3)",
         .value = &a->steps},
        {.name = "--pace",
         .value_name = "FACTOR",
         .text = "paced: slower than planned by this (default: as the machine keeps up)",
         .value = &a->pace},
        {.name = "--timeout",
         .value_name = "TIME",
         .text = "mpi: a rank that waits longer for others ends the run (default 600s)",
         .value = &a->timeout},
        {.name = "--check-memory",
         .text = "host: poison dead bytes, guard the arenas, count what is used",
         .flag = &a->run.check_memory},
        {.name = "--dump",
         .value_name = "DIR",
         .text = "host: write words, routing, weights and gradients of every step, as .npy",
         .value = &a->run.dump},
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
    int code = tdm_cli_parse(arena, tdm_verb_find("run"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->predict.sets = sets.items;
    a->predict.n_sets = sets.n;
    return check(arena, &operands, a);
}

static int carry_out(tdm_arena *arena, arguments *a, tdm_launched *launched)
{
    a->run.world = launched->world;
    a->run.launch = launched->launch;
    a->run.transport = launched->world ? "mpi" : "threads";
    if (a->run.dump && launched->world)
        return launched->quiet
                   ? TDM_OK
                   : tdm_cli_complain(TDM_E_INVALID, "run: --dump is for --transport threads: one "
                                                     "process sees all ranks");
    if (a->plan_text)
        return tdm_run_text(arena, a->plan_text, &a->run, &a->publish, launched);
    tdm_result *result = TDM_ALLOC(arena, tdm_result, 1);
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_outcome outcome = {.result = result};
    if (tdm_predict(arena, &a->predict, result, err) != TDM_OK)
        return tdm_launched_fail(launched, err);
    return launched->quiet ? TDM_OK : tdm_publish(arena, &a->publish, &outcome, err);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.publish = {.verb = "run", .format = "text"},
                   .deadline_s = TDM_LAUNCHED_DEADLINE_S,
                   .run = {.device = "host", .transport = "auto", .n_steps = 3}};
    tdm_launched launched;
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_open("run", a.run.transport, a.deadline_s, a.publish.quiet, &launched);
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
