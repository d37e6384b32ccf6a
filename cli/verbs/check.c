/* check.c: `tandem check`: reads scenarios and says everything that is wrong with them. */
#include "cli.h"
#include "core/scenario.h"

#include <stdio.h>

static void print_model(const tdm_scenario *s)
{
    const tdm_parallel *p = &s->parallel;
    char count[TDM_COUNT_SIZE];
    printf("%s (%s parameters", s->model.name, tdm_cli_count(count, tdm_model_params(&s->model)));
    if (s->model.num_experts > 0)
        printf(", %s active", tdm_cli_count(count, tdm_model_active_params(&s->model)));
    printf(") on %u of the %u GPUs of %s (%s): tp %u, pp %u, dp %u", p->tp * p->cp * p->dp * p->pp,
           s->topology.n_gpus, s->topology.name, s->device.name, p->tp, p->pp, p->dp);
    if (s->model.num_experts > 0)
        printf(", ep %u, etp %u", p->ep, p->etp);
    printf("; %s, %u microbatches of %u x %u tokens, %s", s->schedule, s->num_microbatches,
           s->micro_batch_size, s->seq_length, tdm_dtype_name(s->training.dtype));
}

static void print_ok(const tdm_scenario *s)
{
    printf("%s: ok: ", s->path);
    if (s->pass_times.given)
        printf("pass times of %u stages; %s, %u microbatches", s->parallel.pp, s->schedule,
               s->num_microbatches);
    else
        print_model(s);
    if (s->n_targets > 0)
        printf("; %u target%s", s->n_targets, s->n_targets == 1 ? "" : "s");
    printf("\n");
}

static int check_one(const char *root, const char *path, const tdm_cli_strings *sets)
{
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_scenario scenario;
    int code = TDM_OK;
    if (tdm_scenario_load(&arena, root, path, sets->items, sets->n, &scenario, &err) == TDM_OK) {
        tdm_cli_warn(scenario.notes);
        print_ok(&scenario);
    } else {
        code = tdm_cli_fail(&err);
    }
    tdm_arena_free(&arena);
    return code;
}

static int check_all(tdm_arena *arena, const tdm_cli_strings *paths, const tdm_cli_strings *sets)
{
    const char *root = tdm_cli_root(arena);
    if (!root)
        return tdm_cli_complain(
            TDM_E_INVALID, "no folder with scenarios/ and topologies/ (set TANDEM_ROOT to it)");
    int worst = TDM_OK;
    for (size_t i = 0; i < paths->n; i++) {
        int code = check_one(root, tdm_cli_scenario(arena, root, paths->items[i]), sets);
        if (worst == TDM_OK)
            worst = code;
    }
    return tdm_cli_finish(worst);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_cli_strings paths, sets;
    const tdm_cli_option options[] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "sets a key of the scenario, as schedule.num_microbatches=16",
         .values = &sets},
        {0},
    };
    int code =
        tdm_cli_parse(&arena, tdm_verb_find("check"), options, argc, argv, 1, SIZE_MAX, &paths);
    if (code == TDM_CLI_GO_ON)
        code = check_all(&arena, &paths, &sets);
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_check = {
    .name = "check",
    .usage = "SCENARIO... [options]",
    .summary = "reads scenarios and says everything that is wrong with them",
    .run = run,
};
