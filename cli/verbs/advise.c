/* advise.c: `tandem advise`: the least change of a scenario that meets every target, or that comes
 * nearest. */
#include "advise.h"
#include "launched.h"
#include "output.h"
#include "sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct arguments {
    tdm_advise_options options;
    tdm_cli_strings keeps, varies;
    const char *format, *file, *confirm;
    bool enforce, benchmark;
    uint32_t n_confirm;
} arguments;

static int parse_count(arguments *a)
{
    char *end;
    unsigned long n = strtoul(a->confirm, &end, 10);
    if (a->confirm[0] < '0' || a->confirm[0] > '9' || *end || n > 100)
        return tdm_cli_complain(TDM_E_INVALID, "advise: --confirm: '%s' is no number from 0 to 100",
                                a->confirm);
    a->n_confirm = (uint32_t)n;
    a->options.n_keep = n > 0 ? (uint32_t)n : 5;
    return TDM_CLI_GO_ON;
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const engines[] = {"sim", "analytic", NULL};
    static const char *const formats[] = {"text", "json", NULL};
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--set",
         .value_name = "KEY=VALUE",
         .text = "set a key of the scenario first",
         .values = &a->options.sets},
        {.name = "--keep",
         .value_name = "KEY",
         .text = "a key that must not change",
         .values = &a->keeps},
        {.name = "--vary",
         .value_name = "KEY=VALUES",
         .text = "values that a key may have, as 1,2,4 or 1..8*2",
         .values = &a->varies},
        {.name = "--confirm",
         .value_name = "N",
         .text = "confirm the best N plans, of different layouts, in an engine (default 5)",
         .value = &a->confirm},
        {.name = "--engine",
         .value_name = "ENGINE",
         .text = "who confirms",
         .choices = engines,
         .value = &a->options.engine},
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = formats,
         .value = &a->format},
        {.name = "-o",
         .value_name = "FILE",
         .text = "write the best plan as a scenario",
         .value = &a->file},
        {.name = "--enforce-targets",
         .text = "exit 3 when no plan meets every target",
         .flag = &a->enforce},
        {.name = "--benchmark",
         .text = "only say how many plans a second are evaluated",
         .flag = &a->benchmark},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("advise"), options, argc, argv, 1, 1, &operands);
    if (code == TDM_CLI_GO_ON)
        code = parse_count(a);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->options.root = tdm_cli_root(arena);
    a->options.path = tdm_cli_scenario(arena, a->options.root, operands.items[0]);
    a->options.progress = isatty(STDERR_FILENO);
    if (!a->options.root)
        return tdm_cli_complain(
            TDM_E_INTERNAL, "advise: no folder with scenarios/ and topologies/ (set TANDEM_ROOT)");
    if (strcmp(a->options.engine, "sim") == 0 && tdm_sim_missing())
        a->options.engine = "analytic";
    return TDM_CLI_GO_ON;
}

/* ---- benchmark ---- */

typedef struct benchmark {
    tdm_folded *folded;
    uint64_t n;
} benchmark;

static bool count_one(void *context, const tdm_fold_choice *choice)
{
    benchmark *b = context;
    tdm_figures figures;
    b->n += tdm_folded_evaluate(b->folded, choice, &figures, NULL) == TDM_OK;
    return true;
}

static double cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int run_benchmark(const tdm_scenario *scenario, const arguments *a)
{
    benchmark b = {.folded = tdm_folded_new(scenario)};
    double start_s = cpu_s();
    tdm_advise_enumerate(scenario, &a->options.limits, count_one, &b);
    double seconds = cpu_s() - start_s;
    tdm_folded_free(b.folded);
    printf("%llu plans in %.3f s of one core: %.0f plans a second\n", (unsigned long long)b.n,
           seconds, seconds > 0 ? (double)b.n / seconds : 0);
    return tdm_cli_finish(TDM_OK);
}

/* ---- search ---- */

static const tdm_advise_score *score_of(const tdm_advise_plan *plan)
{
    return plan->confirmed ? &plan->sure_score : &plan->score;
}

/* Confirms the best plans and ranks them by what the engine says; those it cannot predict come
 * last. */
static tdm_code confirm(tdm_arena *arena, const arguments *a, tdm_advise_result *r, tdm_error *err)
{
    uint32_t n = r->n_plans < a->n_confirm ? r->n_plans : a->n_confirm;
    tdm_code code = tdm_advise_confirm_all(arena, &a->options, r->scenario, r->plans, n, err);
    if (code != TDM_OK)
        return code;
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0; k--) {
            tdm_advise_plan *low = &r->plans[k - 1], *high = &r->plans[k];
            bool worse = low->failure && !high->failure;
            if (!worse && (high->failure || tdm_advise_compare(score_of(high), score_of(low)) >= 0))
                break;
            tdm_advise_plan moved = *low;
            *low = *high;
            *high = moved;
        }
    return TDM_OK;
}

static bool is_met(const tdm_advise_plan *plan)
{
    return score_of(plan)->fits && score_of(plan)->n_missed == 0;
}

static int write_scenario(tdm_arena *arena, const arguments *a, const tdm_advise_result *r)
{
    const tdm_advise_plan *best = r->n_plans ? &r->plans[0] : &r->now;
    tdm_scenario found = tdm_fold_choice_apply(r->scenario, &best->choice);
    FILE *file = fopen(a->file, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    fputs("# Found by `tandem advise ", file);
    tdm_cli_put_word(a->options.path, file);
    for (size_t i = 0; i < a->options.sets.n; i++) {
        fputs(" --set ", file);
        tdm_cli_put_word(a->options.sets.items[i], file);
    }
    fprintf(file, "`: %s.\n", tdm_advise_changes(arena, r->scenario, &best->choice));
    for (uint32_t i = 0; i < r->scenario->n_targets; i++) {
        const tdm_target *target = &r->scenario->targets[i];
        double value = (best->confirmed ? best->sure_values : best->values)[i];
        fprintf(file, "# %s %s: %s\n", tdm_advise_met(target, value) ? "meets " : "MISSES",
                target->figure, tdm_advise_quantity(arena, target->figure, value));
    }
    fprintf(file, "# Values by %s.\n",
            best->confirmed ? a->options.engine : "the folded evaluation");
    tdm_output_scenario(&found, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_scenario again;
    if (tdm_scenario_load(arena, a->options.root, a->file, NULL, 0, &again, err) != TDM_OK)
        return tdm_cli_fail(err);
    return TDM_OK;
}

static int publish(tdm_arena *arena, const arguments *a, tdm_folded *folded,
                   const tdm_advise_result *r)
{
    if (strcmp(a->format, "json") == 0) {
        if (!tdm_advise_json(arena, r, stdout))
            return tdm_cli_complain(TDM_E_INTERNAL, "advise: out of memory");
    } else {
        tdm_advise_report(arena, folded, r, stdout);
    }
    int code = tdm_cli_finish(TDM_OK);
    if (code == TDM_OK && a->file)
        code = write_scenario(arena, a, r);
    bool met = is_met(r->n_plans ? &r->plans[0] : &r->now);
    return code == TDM_OK && a->enforce && !met ? TDM_E_INFEASIBLE : code;
}

/* The folded evaluation behind the search weighs even routing only. */
static bool is_skewed(const tdm_scenario *scenario)
{
    const tdm_routing *routing = &scenario->routing;
    bool even = routing->model == TDM_ROUTING_UNIFORM || routing->model == TDM_ROUTING_BALANCED;
    bool experts = !scenario->pass_times.given && scenario->model.num_experts > 0;
    return experts && (!even || routing->capacity_factor > 0);
}

/* The search knows nothing of single GPUs and links, the engines do. */
static void note_perturbation(const arguments *a, const tdm_scenario *scenario)
{
    if (!tdm_perturbation_is_given(&scenario->perturbation))
        return;
    fprintf(stderr,
            a->n_confirm > 0
                ? "warning: %s: plans are searched without the perturbation; those that are "
                  "confirmed are confirmed and ranked with it, as repetition 1 draws it\n"
                : "warning: %s: the search leaves the perturbation out, and --confirm 0 confirms "
                  "no plan with it\n",
            scenario->path);
}

/* It plays the passes of stages with layers only. */
static bool has_bare_stage(const tdm_scenario *scenario)
{
    uint32_t n = scenario->parallel.pp * scenario->parallel.vpp;
    for (uint32_t v = 0; v < n && scenario->stage_layers; v++)
        if (scenario->stage_layers[v] == 0)
            return true;
    return false;
}

/* What the search cannot do. */
static tdm_code refuse(const tdm_scenario *scenario, tdm_error *err)
{
    if (scenario->n_targets == 0)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "tandem: %s: has no targets to meet (targets: {bubble_fraction: {max: 5%%}})",
            scenario->path);
    if (scenario->topology.cores)
        return tdm_error_add(err, TDM_E_INVALID,
                             "tandem: %s: the ranks of topology %s share processor cores, which "
                             "advise does not know (tandem sweep tries layouts one by one)",
                             scenario->path, scenario->topology.name);
    if (is_skewed(scenario))
        return tdm_error_add(
            err, TDM_E_INVALID,
            "tandem: %s: advise knows uniform and balanced routing without capacity only "
            "(--set routing.model=uniform --set routing.capacity_factor=null)",
            scenario->path);
    if (has_bare_stage(scenario))
        return tdm_error_add(
            err, TDM_E_INVALID,
            "tandem: %s: advise knows stages with layers only; give every stage one in "
            "parallel.pipeline_model_parallel_layout",
            scenario->path);
    return TDM_OK;
}

/* Finds and confirms; *result is the same on all processes. */
static tdm_code search(tdm_arena *arena, const arguments *a, const tdm_scenario *scenario,
                       tdm_folded *folded, tdm_advise_result *result, tdm_error *err)
{
    tdm_fold_choice now = tdm_fold_choice_of(scenario);
    if (!tdm_advise_evaluate(arena, folded, scenario, &now, &result->now))
        return tdm_error_add(err, TDM_E_INFEASIBLE,
                             "tandem: %s: the scenario itself cannot be evaluated", scenario->path);
    if (a->n_confirm > 0)
        tdm_advise_confirm(arena, &a->options, scenario, &result->now);
    if (is_met(&result->now))
        return TDM_OK;
    tdm_advise_plan confirmed = result->now;
    tdm_code code = tdm_advise_search(arena, folded, scenario, &a->options, result, err);
    result->now = confirmed;
    if (code == TDM_OK && result->n_plans == 0)
        code = tdm_error_add(err, TDM_E_INVALID,
                             "tandem: advise: --keep and --vary leave no plan that is legal");
    return code == TDM_OK ? confirm(arena, a, result, err) : code;
}

static int advise(tdm_arena *arena, arguments *a, tdm_launched *launched, tdm_error *err)
{
    tdm_scenario *scenario = TDM_ALLOC(arena, tdm_scenario, 1);
    tdm_code code = tdm_scenario_load(arena, a->options.root, a->options.path,
                                      a->options.sets.items, a->options.sets.n, scenario, err);
    if (code == TDM_OK)
        code = tdm_advise_limits_parse(arena, scenario, &a->keeps, &a->varies, &a->options.limits,
                                       err);
    if (code == TDM_OK && a->benchmark && !launched->quiet)
        return run_benchmark(scenario, a);
    if (code == TDM_OK && !a->benchmark)
        code = refuse(scenario, err);
    if (code != TDM_OK)
        return tdm_launched_fail(launched, err);
    int exit_code = tdm_launched_ready(launched);
    if (exit_code != TDM_CLI_GO_ON || a->benchmark)
        return a->benchmark ? TDM_OK : exit_code;
    if (!launched->quiet)
        note_perturbation(a, scenario);
    tdm_folded *folded = tdm_folded_new(scenario);
    tdm_advise_result result = {.scenario = scenario};
    code = search(arena, a, scenario, folded, &result, err);
    result.engine = a->n_confirm > 0 ? a->options.engine : NULL;
    if (code != TDM_OK)
        exit_code = tdm_launched_fail(launched, err);
    else
        exit_code = launched->quiet ? TDM_OK : publish(arena, a, folded, &result);
    tdm_folded_free(folded);
    return exit_code;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_launched launched;
    arguments a = {.options.engine = "sim", .format = "text", .confirm = "5"};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON)
        code = tdm_launched_open("advise", "auto", TDM_LAUNCHED_DEADLINE_S, false, &launched);
    if (code == TDM_CLI_GO_ON) {
        a.options.world = launched.world;
        a.options.progress = a.options.progress && !launched.quiet;
        code = tdm_launched_close(&launched,
                                  advise(&arena, &a, &launched, TDM_ALLOC(&arena, tdm_error, 1)));
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_advise = {
    .name = "advise",
    .usage = "SCENARIO [options]",
    .summary = "find the least change that meets every target, or comes nearest",
    .run = run,
};
