/* advise_report.c: what was found, for people. */
#include "advise.h"
#include "table.h"

#include <math.h>
#include <string.h>

const char *tdm_advise_quantity(tdm_arena *arena, const char *figure, double value)
{
    const tdm_figure_info *info = tdm_figure_infos;
    while (info->name && strcmp(info->name, figure) != 0)
        info++;
    const char *unit = info->name ? info->unit : "";
    if (isnan(value))
        return "-";
    if (strcmp(unit, "s") == 0)
        return tdm_arena_printf(arena, "%.4g ms", 1e3 * value);
    if (strcmp(unit, "bytes") == 0)
        return tdm_arena_printf(arena, "%.1f GB", 1e-9 * value);
    if (strcmp(unit, "tokens/s") == 0)
        return tdm_arena_printf(arena, "%.0f tokens/s", value);
    return tdm_arena_printf(arena, "%.1f %%", fabs(value) < 5e-4 ? 0 : 100 * value);
}

const char *tdm_advise_changes(tdm_arena *arena, const tdm_scenario *scenario,
                               const tdm_fold_choice *choice)
{
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    const char *text = "";
    for (tdm_advise_key key = 0; key < TDM_ADVISE_N_KEYS; key++) {
        uint32_t before = tdm_advise_value(&now, key), after = tdm_advise_value(choice, key);
        if (before != after)
            text = tdm_arena_printf(arena, "%s%s%s %s -> %s", text, *text ? ", " : "",
                                    tdm_advise_keys[key].brief, tdm_advise_text(arena, key, before),
                                    tdm_advise_text(arena, key, after));
    }
    return *text ? text : "nothing";
}

static const double *values_of(const tdm_advise_plan *plan)
{
    return plan->confirmed ? plan->sure_values : plan->values;
}

static const char *threshold(tdm_arena *arena, const tdm_target *target)
{
    return tdm_arena_printf(arena, "%s %s", target->is_maximum ? "<=" : ">=",
                            tdm_advise_quantity(arena, target->figure, target->threshold));
}

bool tdm_advise_forbidden(const tdm_scenario *scenario, const double *best, uint32_t target)
{
    return best && !isnan(best[target]) &&
           !tdm_advise_met(&scenario->targets[target], best[target]);
}

static const char *verdict(const tdm_advise_result *r, uint32_t i)
{
    const tdm_target *target = &r->scenario->targets[i];
    const tdm_advise_plan *best = r->n_plans ? &r->plans[0] : &r->now;
    if (tdm_advise_met(target, values_of(best)[i]))
        return "met";
    return tdm_advise_forbidden(r->scenario, r->best_alone, i) ? "FORBIDDEN" : "MISSED";
}

static void print_targets(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    const tdm_style style = {0};
    tdm_table table = {.arena = arena, .n_left = 1, .last_left = true};
    static const char *const heads[] = {"target", "wanted",     "now",
                                        "found",  "best alone", "verdict"};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < r->scenario->n_targets; i++) {
        const tdm_target *target = &r->scenario->targets[i];
        const tdm_advise_plan *best = r->n_plans ? &r->plans[0] : &r->now;
        tdm_table_cell(&table, "%s", target->figure);
        tdm_table_cell(&table, "%s", threshold(arena, target));
        tdm_table_cell(&table, "%s",
                       tdm_advise_quantity(arena, target->figure, values_of(&r->now)[i]));
        tdm_table_cell(&table, "%s",
                       tdm_advise_quantity(arena, target->figure, values_of(best)[i]));
        tdm_table_cell(
            &table, "%s",
            tdm_advise_quantity(arena, target->figure, r->best_alone ? r->best_alone[i] : NAN));
        tdm_table_cell(&table, "%s", verdict(r, i));
    }
    tdm_table_print(&table, &style, file);
}

/* "folded / engine" of a figure of a plan. */
static const char *both(tdm_arena *arena, const tdm_advise_plan *plan, const char *figure)
{
    const char *folded =
        tdm_advise_quantity(arena, figure, tdm_figures_get(&plan->figures, figure));
    if (!plan->confirmed)
        return folded;
    return tdm_arena_printf(
        arena, "%s / %s", folded,
        tdm_advise_quantity(arena, figure, tdm_figures_get(&plan->sure, figure)));
}

static void print_ranking(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    const tdm_style style = {0};
    tdm_table table = {.arena = arena, .n_left = 1};
    static const char *const heads[] = {"rank", "missed", "shortfall", "cost",
                                        "step", "bubble", "exposed",   "memory"};
    for (size_t i = 0; i < TDM_COUNT(heads); i++)
        tdm_table_head(&table, heads[i]);
    for (uint32_t i = 0; i < r->n_plans; i++) {
        const tdm_advise_plan *plan = &r->plans[i];
        const tdm_advise_score *score = plan->confirmed ? &plan->sure_score : &plan->score;
        tdm_table_cell(&table, "%u", i + 1);
        tdm_table_cell(&table, "%u%s", score->n_missed, score->fits ? "" : " + memory");
        tdm_table_cell(&table, "%.3f", score->shortfall);
        tdm_table_cell(&table, "%g", score->cost);
        tdm_table_cell(&table, "%s", both(arena, plan, "step_time_s"));
        tdm_table_cell(&table, "%s", both(arena, plan, "bubble_fraction"));
        tdm_table_cell(&table, "%s", both(arena, plan, "comm_exposed_fraction"));
        tdm_table_cell(&table, "%s", both(arena, plan, "peak_memory_bytes"));
    }
    tdm_table_print(&table, &style, file);
    for (uint32_t i = 0; i < r->n_plans; i++) {
        const tdm_advise_plan *plan = &r->plans[i];
        tdm_style_wrap(file, 2,
                       tdm_arena_printf(arena, "%u: %s%s%s", i + 1,
                                        tdm_advise_changes(arena, r->scenario, &plan->choice),
                                        plan->failure ? "; not confirmed: " : "",
                                        plan->failure ? plan->failure : ""));
    }
}

/* The choice with one key as it was; what follows from it adapts. */
static tdm_fold_choice undo(const tdm_scenario *scenario, const tdm_fold_choice *choice,
                            tdm_advise_key key)
{
    const tdm_fold_choice now = tdm_fold_choice_of(scenario);
    tdm_fold_choice c = *choice;
    uint32_t n_gpus = now.parallel.tp * now.parallel.pp * now.parallel.dp;
    uint64_t global = (uint64_t)now.parallel.dp * now.num_microbatches * now.micro_batch_size;
    switch (key) {
    case TDM_ADVISE_TP:
        c.parallel.tp = now.parallel.tp;
        break;
    case TDM_ADVISE_PP:
        c.parallel.pp = now.parallel.pp;
        break;
    case TDM_ADVISE_EP:
        c.parallel.ep = now.parallel.ep;
        break;
    case TDM_ADVISE_VPP:
        c.parallel.vpp = now.parallel.vpp;
        break;
    case TDM_ADVISE_SP:
        c.parallel.sequence_parallel = now.parallel.sequence_parallel;
        break;
    case TDM_ADVISE_ZERO:
        c.parallel.distributed_optimizer = now.parallel.distributed_optimizer;
        break;
    case TDM_ADVISE_RECOMPUTE:
        c.recompute = now.recompute;
        break;
    case TDM_ADVISE_MICRO_BATCH:
        c.micro_batch_size = now.micro_batch_size;
        break;
    case TDM_ADVISE_SCHEDULE:
        c.schedule = now.schedule;
        break;
    default:
        break;
    }
    if (scenario->pass_times.given)
        return c;
    uint32_t replica = c.parallel.tp * c.parallel.pp;
    c.parallel.dp = n_gpus % replica == 0 ? n_gpus / replica : 0;
    uint64_t together = (uint64_t)c.micro_batch_size * c.parallel.dp;
    c.num_microbatches = together && global % together == 0 ? (uint32_t)(global / together) : 0;
    return c;
}

/* What goes wrong, or worse, without a change. */
static const char *loss(tdm_arena *arena, tdm_folded *folded, const tdm_advise_result *r,
                        const tdm_fold_choice *without)
{
    const tdm_advise_plan *best = &r->plans[0];
    const char *refusal = without->num_microbatches == 0 ? "the global batch cannot be kept"
                                                         : tdm_fold_refuse(r->scenario, without);
    if (refusal)
        return tdm_arena_printf(arena, "without it no plan: %s", refusal);
    tdm_advise_plan plan;
    if (!tdm_advise_evaluate(arena, folded, r->scenario, without, &plan))
        return "without it no plan: the schedule deadlocks";
    const char *text = "";
    if (!plan.score.fits)
        text = tdm_arena_printf(arena, "memory %s",
                                tdm_advise_quantity(arena, "peak_memory_bytes",
                                                    (double)plan.figures.peak_memory_bytes));
    for (uint32_t i = 0; i < r->scenario->n_targets; i++) {
        const tdm_target *target = &r->scenario->targets[i];
        bool worse = target->is_maximum ? plan.values[i] > best->values[i] * 1.01
                                        : plan.values[i] < best->values[i] * 0.99;
        if (tdm_advise_met(target, plan.values[i]) || !worse)
            continue;
        text = tdm_arena_printf(arena, "%s%s%s %s (%s)", text, *text ? ", " : "", target->figure,
                                tdm_advise_quantity(arena, target->figure, plan.values[i]),
                                threshold(arena, target));
    }
    return *text ? tdm_arena_printf(arena, "without it %s", text)
                 : "without it no target is further off, but other plans rank higher";
}

static void print_reasons(tdm_arena *arena, tdm_folded *folded, const tdm_advise_result *r,
                          FILE *file)
{
    const tdm_fold_choice now = tdm_fold_choice_of(r->scenario), *best = &r->plans[0].choice;
    for (tdm_advise_key key = 0; key < TDM_ADVISE_N_KEYS; key++) {
        uint32_t before = tdm_advise_value(&now, key), after = tdm_advise_value(best, key);
        if (before == after)
            continue;
        const char *head = tdm_arena_printf(arena, "%s: %s -> %s", tdm_advise_keys[key].key,
                                            tdm_advise_text(arena, key, before),
                                            tdm_advise_text(arena, key, after));
        if (tdm_advise_keys[key].weight == 0) {
            tdm_style_wrap(file, 2, tdm_arena_printf(arena, "%s (follows)", head));
            continue;
        }
        tdm_fold_choice without = undo(r->scenario, best, key);
        tdm_style_wrap(file, 2,
                       tdm_arena_printf(arena, "%s: %s", head, loss(arena, folded, r, &without)));
    }
}

static uint32_t count_forbidden(const tdm_advise_result *r)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->scenario->n_targets; i++)
        n += tdm_advise_forbidden(r->scenario, r->best_alone, i);
    return n;
}

/* Targets that are met only by another micro-batch, each with the best value under this one. */
static void print_kept(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    const char *text = "";
    for (uint32_t i = 0; i < r->scenario->n_targets; i++) {
        if (!tdm_advise_forbidden(r->scenario, r->best_kept, i) ||
            tdm_advise_forbidden(r->scenario, r->best_alone, i))
            continue;
        const char *figure = r->scenario->targets[i].figure;
        text = tdm_arena_printf(arena, "%s%s%s (best %s)", text, *text ? ", " : "", figure,
                                tdm_advise_quantity(arena, figure, r->best_kept[i]));
    }
    if (*text)
        tdm_style_wrap(file, 0,
                       tdm_arena_printf(arena, "With micro-batch %u kept it forbids %s.",
                                        r->scenario->micro_batch_size, text));
}

static void print_forbidden(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    uint32_t n = r->scenario->n_targets, forbidden = count_forbidden(r);
    if (forbidden)
        tdm_style_wrap(
            file, 0,
            tdm_arena_printf(arena,
                             "The hardware forbids %u of the %u: no plan reaches them, whatever "
                             "else it gives up (FORBIDDEN above, with the best value of any plan).",
                             forbidden, n));
    else
        tdm_style_wrap(file, 0,
                       tdm_arena_printf(arena,
                                        "The hardware forbids none of the %u: some plan reaches "
                                        "each of them alone.",
                                        n));
    print_kept(arena, r, file);
}

static void print_verdict(tdm_arena *arena, const tdm_advise_result *r, FILE *file)
{
    uint32_t n = r->scenario->n_targets;
    const tdm_advise_plan *best = &r->plans[0];
    const tdm_advise_score *score = best->confirmed ? &best->sure_score : &best->score;
    const char *by = best->confirmed ? r->engine : "the folded evaluation";
    if (!score->fits)
        tdm_style_wrap(file, 0, "No plan of these GPUs fits their memory.");
    else if (score->n_missed == 0)
        tdm_style_wrap(file, 0,
                       tdm_arena_printf(arena, "Rank 1 meets all %u targets, by %s.", n, by));
    else
        tdm_style_wrap(file, 0,
                       tdm_arena_printf(arena,
                                        "No plan was found that meets all targets; rank 1 "
                                        "meets %u of %u, by %s.",
                                        n - score->n_missed, n, by));
    if (r->n_fit > 0)
        print_forbidden(arena, r, file);
}

static bool asks_latency(const tdm_scenario *scenario)
{
    for (uint32_t i = 0; i < scenario->n_targets; i++)
        if (strcmp(scenario->targets[i].figure, "forward_latency_s") == 0)
            return true;
    return false;
}

void tdm_advise_report(tdm_arena *arena, tdm_folded *folded, const tdm_advise_result *r, FILE *file)
{
    bool met = r->n_plans == 0;
    fprintf(file, "%s: ", r->scenario->name);
    if (met) {
        fprintf(file, "meets every target already (%s); nothing to change.\n\n",
                r->now.confirmed ? r->engine : "folded evaluation");
        print_targets(arena, r, file);
        return;
    }
    fprintf(file, "%llu plans searched, %llu fit the memory, %llu meet every target\n\n",
            (unsigned long long)r->n_searched, (unsigned long long)r->n_fit,
            (unsigned long long)r->n_met);
    print_targets(arena, r, file);
    fputc('\n', file);
    print_verdict(arena, r, file);
    fprintf(file, "\nRanking  (the best plan of each tp x pp x ep x etp; %s%s)\n",
            r->engine ? "folded / " : "folded", r->engine ? r->engine : "");
    print_ranking(arena, r, file);
    fputs("\nWhy rank 1 changes what it changes:\n", file);
    print_reasons(arena, folded, r, file);
    const tdm_fold_choice *best = &r->plans[0].choice;
    if (best->micro_batch_size != r->scenario->micro_batch_size && asks_latency(r->scenario))
        tdm_style_wrap(file, 0,
                       tdm_arena_printf(arena,
                                        "forward_latency_s is that of one microbatch, now of %u "
                                        "sequences instead of %u.",
                                        best->micro_batch_size, r->scenario->micro_batch_size));
}
