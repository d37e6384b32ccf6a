/* run_arguments.c: reads the options of verbs that carry a plan out. */
#include "run_arguments.h"

#include "core/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 10000 };

tdm_run_arguments tdm_run_arguments_default(const char *verb)
{
    return (tdm_run_arguments){
        .verb = verb,
        .deadline_s = TDM_LAUNCHED_DEADLINE_S,
        .run = {.device = "host", .transport = "auto", .n_steps = 3},
    };
}

void tdm_run_arguments_options(tdm_run_arguments *a, tdm_cli_option options[TDM_N_RUN_ARGUMENTS])
{
    static const char *const devices[] = {"host", "paced", NULL};
    static const char *const transports[] = {"auto", "threads", "mpi", NULL};
    const tdm_cli_option all[TDM_N_RUN_ARGUMENTS] = {
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
         .text = "training steps (default 3; validate on host: 15)",
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
    };
    memcpy(options, all, sizeof all);
}

/* A whole number from 1 to `most`, all of the text. */
static int take_count(const char *verb, const char *option, const char *text, uint32_t most,
                      uint32_t *count)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < 1 || value > most)
        return tdm_cli_complain(TDM_E_INVALID, "%s: %s: '%s' is not a whole number from 1 to %u",
                                verb, option, text, most);
    *count = (uint32_t)value;
    return TDM_CLI_GO_ON;
}

static int take_pace(const char *verb, const char *text, double *pace)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= 1e-3 && value <= 1e6))
        return tdm_cli_complain(
            TDM_E_INVALID, "%s: --pace: '%s' is not a number from 0.001 to 1000000", verb, text);
    *pace = value;
    return TDM_CLI_GO_ON;
}

static int take_timeout(const char *verb, const char *text, double *seconds)
{
    double value = 0;
    if (tdm_quantity_parse(text, TDM_UNIT_SECONDS, &value) != TDM_QUANTITY_OK || !(value > 0))
        return tdm_cli_complain(TDM_E_INVALID, "%s: --timeout: '%s': expected %s", verb, text,
                                tdm_unit_expected(TDM_UNIT_SECONDS));
    *seconds = value;
    return TDM_CLI_GO_ON;
}

int tdm_run_arguments_check(tdm_run_arguments *a)
{
    bool paced = tdm_run_is_paced(&a->run);
    if (!paced && tdm_host_missing())
        return tdm_cli_complain(TDM_E_INVALID, "%s: %s", a->verb, tdm_host_missing());
    if (!paced && a->pace)
        return tdm_cli_complain(TDM_E_INVALID, "%s: --pace is for --device paced", a->verb);
    if (paced && a->run.check_memory)
        return tdm_cli_complain(TDM_E_INVALID,
                                "%s: --check-memory is for --device host: the "
                                "paced device has no memory",
                                a->verb);
    int code = TDM_CLI_GO_ON;
    if (a->steps)
        code = take_count(a->verb, "--steps", a->steps, MOST_STEPS, &a->run.n_steps);
    if (code == TDM_CLI_GO_ON && a->pace)
        code = take_pace(a->verb, a->pace, &a->run.pace);
    if (code == TDM_CLI_GO_ON && a->timeout)
        code = take_timeout(a->verb, a->timeout, &a->deadline_s);
    return code;
}

int tdm_run_arguments_launch(tdm_run_arguments *a, bool silent, tdm_launched *launched)
{
    int code = tdm_launched_open(a->verb, a->run.transport, a->deadline_s, silent, launched);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->run.world = launched->world;
    a->run.launch = launched->launch;
    a->run.transport = launched->world ? "mpi" : "threads";
    return TDM_CLI_GO_ON;
}
