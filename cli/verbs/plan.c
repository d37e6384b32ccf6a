/* plan.c: `tandem plan`: the plan of a scenario as text, or one view of it. */
#include "cli.h"
#include "core/lower.h"
#include "core/plan_text.h"
#include "core/verify.h"
#include "plan_views.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct arguments {
    const char *path, *output;
    tdm_cli_strings sets;
    bool groups, memory, schedule, csv, forward_only, no_verify;
} arguments;

/* The plan, and what is known about the machine it is for. */
typedef struct subject {
    tdm_plan plan;
    uint64_t context_bytes, limit_bytes; /* 0: unknown */
} subject;

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario",
         .values = &a->sets},
        {.name = "--groups",
         .text = "both group tables: attention and experts",
         .flag = &a->groups},
        {.name = "--memory",
         .text = "memory by stage and class; exit 3 when it does not fit",
         .flag = &a->memory},
        {.name = "--schedule", .text = "the order of passes on a time axis", .flag = &a->schedule},
        {.name = "--schedule-csv",
         .text = "the order of passes as torch.distributed.pipelining reads it",
         .flag = &a->csv},
        {.name = "--forward-only",
         .text = "plan the forward passes alone",
         .flag = &a->forward_only},
        {.name = "--no-verify",
         .text = "print the plan even if it is broken",
         .flag = &a->no_verify},
        {.name = "-o",
         .value_name = "FILE",
         .text = "write to FILE instead of standard output",
         .value = &a->output},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("plan"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->path = tdm_cli_scenario(arena, tdm_cli_root(arena), operands.items[0]);
    if (a->csv && (a->groups || a->memory || a->schedule))
        return tdm_cli_complain(
            TDM_E_INVALID,
            "plan: --schedule-csv goes with no other view: its output is for programs");
    return TDM_CLI_GO_ON;
}

static tdm_code lower(tdm_arena *arena, const arguments *a, const char *root, subject *s,
                      tdm_error *err)
{
    tdm_scenario *scenario = TDM_ALLOC(arena, tdm_scenario, 1);
    tdm_code code =
        tdm_scenario_load(arena, root, a->path, a->sets.items, a->sets.n, scenario, err);
    if (code != TDM_OK)
        return code;
    tdm_cli_warn(scenario->notes);
    if (!scenario->pass_times.given) {
        uint64_t device = (uint64_t)scenario->device.memory_bytes.value,
                 limit = scenario->memory_limit_bytes;
        s->limit_bytes = limit == 0 || (device > 0 && device < limit) ? device : limit;
        s->context_bytes = (uint64_t)scenario->device.context_bytes.value;
    }
    return tdm_lower(arena, scenario, a->forward_only ? "forward-only" : scenario->schedule,
                     scenario->num_microbatches, &s->plan, err);
}

/* From the scenario, or from plan text; returns an exit code. */
static int load(tdm_arena *arena, const arguments *a, subject *s, tdm_error *err)
{
    tdm_code code;
    if (tdm_cli_is_plan_text(a->path)) {
        if (a->sets.n > 0 || a->forward_only)
            return tdm_cli_complain(
                TDM_E_INVALID,
                "plan: %s is a plan already: --set and --forward-only need a scenario", a->path);
        code = tdm_plan_read(arena, a->path, &s->plan, err);
    } else {
        const char *root = tdm_cli_root(arena);
        if (!root)
            return tdm_cli_complain(
                TDM_E_INVALID, "plan: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
        code = lower(arena, a, root, s, err);
    }
    tdm_verify_report report;
    if (code == TDM_OK && !a->no_verify)
        code = tdm_verify_plan(&s->plan, &report, err);
    return code == TDM_OK ? TDM_CLI_GO_ON : tdm_cli_fail(err);
}

/* A blank line between views. */
static void part(FILE *file, bool *first)
{
    if (!*first)
        fputc('\n', file);
    *first = false;
}

static tdm_code print(tdm_arena *arena, const arguments *a, const subject *s, FILE *file,
                      tdm_error *err)
{
    tdm_code code = TDM_OK;
    bool first = true;
    if (a->csv) {
        tdm_view_schedule_csv(&s->plan, file);
        return TDM_OK;
    }
    if (!a->groups && !a->memory && !a->schedule)
        return tdm_plan_write(&s->plan, file, err);
    if (a->groups) {
        part(file, &first);
        tdm_plan_write_groups(&s->plan, file);
    }
    if (a->schedule) {
        part(file, &first);
        code = tdm_view_schedule(arena, &s->plan, file, err);
    }
    if (a->memory && code == TDM_OK) {
        part(file, &first);
        code = tdm_view_memory(arena, &s->plan, s->context_bytes, s->limit_bytes, file, err);
    }
    return code;
}

/* Everything is written into memory first: what fails prints nothing. */
static int publish(tdm_arena *arena, const arguments *a, const subject *s, tdm_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (!memory)
        return tdm_cli_complain(TDM_E_INTERNAL, "plan: %s", strerror(errno));
    tdm_code code = print(arena, a, s, memory, err);
    bool failed = fclose(memory) != 0;
    int status = TDM_OK;
    if (failed)
        status = tdm_cli_complain(TDM_E_INTERNAL, "plan: %s", strerror(errno));
    else if (code == TDM_OK || code == TDM_E_INFEASIBLE)
        status = tdm_cli_put(a->output, text, length);
    free(text);
    if (status == TDM_OK && code != TDM_OK)
        status = tdm_cli_fail(err);
    return status;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {0};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        subject *s = TDM_ALLOC(&arena, subject, 1);
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        code = load(&arena, &a, s, err);
        if (code == TDM_CLI_GO_ON)
            code = publish(&arena, &a, s, err);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_plan = {
    .name = "plan",
    .usage = "SCENARIO|PLAN [options]",
    .summary = "the plan of a scenario as text, or one view of it",
    .run = run,
};
