/* report_explain.c: why a target was missed, from the figures of the run. */
#include "predict.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

typedef const char *(*explain_function)(tdm_arena *arena, const tdm_result *result,
                                        const tdm_target *target);

/* The bubble that the schedule leaves with equal stages and free communication; negative when there
 * is no closed form. Source: Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024, table 1:
 * (p-1)(F+B+W) for 1F1B, (p-1)(F+B-W) for ZB-H1; GPipe: Huang et al. 2019, (p-1)/(m+p-1). */
static double ideal_bubble(const tdm_result *result)
{
    const tdm_plan *plan = &result->step.plan;
    const tdm_figures *f = &result->step.figures;
    double p = plan->mesh.pp, m = plan->num_microbatches, pass_s[3] = {0};
    if (strcmp(plan->schedule, "1f1b") == 0 || strcmp(plan->schedule, "gpipe") == 0)
        return (p - 1) / (m + p - 1);
    if (strcmp(plan->schedule, "zb-h1") != 0)
        return -1;
    for (uint32_t s = 0; s < f->n_stages; s++)
        for (int k = 0; k < 3; k++)
            pass_s[k] += f->stages[s].pass_s[k];
    double idle = (p - 1) * (pass_s[0] + pass_s[1] - pass_s[2]);
    return idle / (m * (pass_s[0] + pass_s[1] + pass_s[2]) + idle);
}

static double passes_of(const tdm_stage_figures *stage)
{
    return stage->pass_s[0] + stage->pass_s[1] + stage->pass_s[2];
}

/* How uneven the stages are, in words. */
static const char *compare_stages(tdm_arena *arena, const tdm_figures *f)
{
    uint32_t slow = 0, fast = 0;
    for (uint32_t s = 1; s < f->n_stages; s++) {
        slow = passes_of(&f->stages[s]) > passes_of(&f->stages[slow]) ? s : slow;
        fast = passes_of(&f->stages[s]) < passes_of(&f->stages[fast]) ? s : fast;
    }
    return tdm_arena_printf(
        arena, "a microbatch takes %.3g ms on stage %" PRIu32 ", %.3g ms on stage %" PRIu32,
        1e3 * passes_of(&f->stages[slow]), slow, 1e3 * passes_of(&f->stages[fast]), fast);
}

static const char *explain_bubble(tdm_arena *arena, const tdm_result *result,
                                  const tdm_target *target)
{
    const tdm_figures *f = &result->step.figures;
    const tdm_plan *plan = &result->step.plan;
    uint32_t p = plan->mesh.pp, m = plan->num_microbatches;
    double ideal = ideal_bubble(result), value = tdm_figures_get(f, target->figure);
    if (p == 1 || ideal < 0)
        return tdm_arena_printf(arena, "%s.", compare_stages(arena, f));
    const char *floor =
        strcmp(plan->schedule, "zb-h1") == 0
            ? tdm_arena_printf(arena, "%.1f %%", 100 * ideal)
            : tdm_arena_printf(arena, "(p-1)/(m+p-1) = %" PRIu32 "/%" PRIu32 " = %.1f %%", p - 1,
                               m + p - 1, 100 * ideal);
    const char *text =
        tdm_arena_printf(arena,
                         "%s with p = %" PRIu32 " stages and m = %" PRIu32
                         " microbatches idles %s with equal stages and free transfers",
                         plan->schedule, p, m, floor);
    if (value > ideal + 5e-4)
        text = tdm_arena_printf(arena,
                                "%s; uneven stages and transfers between them add %.1f points (%s)",
                                text, 100 * (value - ideal), compare_stages(arena, f));
    if (ideal > target->threshold && target->threshold > 0 && strcmp(plan->schedule, "zb-h1") != 0)
        return tdm_arena_printf(
            arena,
            "%s. More microbatches (%.0f would reach this target then), an interleaved or a zero-bubble "
            "schedule would lower it.",
            text, ceil((p - 1) * (1 / target->threshold - 1) - 1e-9));
    return tdm_arena_printf(arena, "%s. More microbatches would lower it.", text);
}

static const char *explain_memory(tdm_arena *arena, const tdm_result *result,
                                  const tdm_target *target)
{
    static const char *const remedies[TDM_N_CLASSES] = {
        "more tensor, pipeline or expert parallelism splits them",
        "more tensor, pipeline or expert parallelism splits them",
        "the distributed optimizer (ZeRO-1) or more model parallelism splits it",
        "recomputation, sequence parallelism, a smaller micro-batch or fewer microbatches in flight would lower them",
        "a smaller micro-batch would lower them",
        "a smaller micro-batch would lower it",
    };
    static const char *const names[TDM_N_CLASSES] = {
        "weights",  "gradients", "optimizer state", "activations", "communication buffers",
        "workspace"};
    (void)target;
    const tdm_figures *f = &result->step.figures;
    const tdm_rank_figures *rank = &f->ranks[f->peak_memory_rank];
    uint32_t largest = 0;
    for (uint32_t c = 1; c < TDM_N_CLASSES; c++)
        largest = rank->class_at_peak[c] > rank->class_at_peak[largest] ? c : largest;
    return tdm_arena_printf(
        arena, "rank %" PRIu32 " of stage %" PRIu32 " needs %.1f GB, of which %.1f GB are %s: %s.",
        rank->rank, rank->stage, 1e-9 * (double)rank->peak_memory_bytes,
        1e-9 * (double)rank->class_at_peak[largest], names[largest], remedies[largest]);
}

static const char *comm_name(tdm_arena *arena, const tdm_comm_figures *comm)
{
    if (comm->group == TDM_N_GROUP_KINDS)
        return tdm_op_kind_name(comm->kind);
    return tdm_arena_printf(arena, "%s over %s", tdm_op_kind_name(comm->kind),
                            tdm_group_kind_name(comm->group));
}

/* The largest exposed kinds of communication, largest first: "all-to-all over ep 20.1 %, ...". */
static const char *list_exposed(tdm_arena *arena, const tdm_figures *f, double of_s, double scale)
{
    bool *taken = TDM_ALLOC(arena, bool, f->n_comms);
    const char *text = "";
    for (int n = 0; n < 3; n++) {
        uint32_t most = f->n_comms;
        for (uint32_t i = 0; i < f->n_comms; i++)
            if (!taken[i] &&
                (most == f->n_comms || f->comms[i].exposed_s > f->comms[most].exposed_s))
                most = i;
        if (most == f->n_comms || f->comms[most].exposed_s * scale < 0.0005 * of_s)
            break;
        taken[most] = true;
        text = tdm_arena_printf(arena, "%s%s%s %.1f %%", text, n ? ", " : "",
                                comm_name(arena, &f->comms[most]),
                                100 * f->comms[most].exposed_s * scale / of_s);
    }
    return text;
}

static const char *explain_exposed(tdm_arena *arena, const tdm_result *result,
                                   const tdm_target *target)
{
    (void)target;
    const tdm_figures *f = &result->step.figures;
    return tdm_arena_printf(arena, "nothing computes while these run (share of the step): %s.",
                            list_exposed(arena, f, f->step_time_s, 1));
}

/* The parts of a step other than compute, largest first. */
static const char *list_losses(tdm_arena *arena, const tdm_figures *f)
{
    const tdm_waterfall *w = &f->waterfall;
    struct {
        const char *name;
        double seconds;
    } parts[] = {{"exposed transfers", w->exposed_transfer_s},
                 {"waiting for peers", w->peer_wait_s},
                 {"bubble", w->bubble_s},
                 {"issue gaps", w->issue_gap_s},
                 {"optimizer", w->optimizer_s}};
    const char *text = "";
    for (int n = 0; n < 3; n++) {
        size_t most = 0;
        for (size_t i = 1; i < TDM_COUNT(parts); i++)
            most = parts[i].seconds > parts[most].seconds ? i : most;
        if (parts[most].seconds < 0.0005 * f->step_time_s)
            break;
        text = tdm_arena_printf(arena, "%s%s%s %.1f %%", text, n ? ", " : "", parts[most].name,
                                100 * parts[most].seconds / f->step_time_s);
        parts[most].seconds = 0;
    }
    return text;
}

static const char *explain_losses(tdm_arena *arena, const tdm_result *result,
                                  const tdm_target *target)
{
    (void)target;
    const tdm_figures *f = &result->step.figures;
    return tdm_arena_printf(
        arena, "a step takes %.4g ms: %.1f %% forward and backward kernels, then %s.",
        1e3 * f->step_time_s, 100 * f->waterfall.compute_s / f->step_time_s, list_losses(arena, f));
}

/* One microbatch passes the stages one after the other, so that a stage's parts add up over stages.
 * Its own sends and receives would count on both sides: they are what is left. */
static const char *explain_latency(tdm_arena *arena, const tdm_result *result,
                                   const tdm_target *target)
{
    (void)target;
    const tdm_figures *f = &result->forward.figures;
    double n = f->n_stages, exposed_s = 0;
    for (uint32_t i = 0; i < f->n_comms; i++)
        exposed_s += tdm_op_is_p2p(f->comms[i].kind) ? 0 : f->comms[i].exposed_s;
    double compute_s = n * f->waterfall.compute_s, wait_s = n * f->waterfall.peer_wait_s;
    double gap_s = n * f->waterfall.issue_gap_s;
    exposed_s *= n;
    const struct {
        const char *name;
        double seconds;
    } shares[] = {
        {"kernels", compute_s},
        {tdm_arena_printf(arena, "exposed collectives (%s)",
                          list_exposed(arena, f, f->step_time_s, n)),
         exposed_s},
        {"waiting for peers", wait_s},
        {"issue gaps", gap_s},
        {"transfers between stages and the rest",
         f->step_time_s - compute_s - exposed_s - wait_s - gap_s},
    };
    const char *text = tdm_arena_printf(arena, "%.4g ms over %u stage%s:", 1e3 * f->step_time_s,
                                        (unsigned)f->n_stages, f->n_stages == 1 ? "" : "s");
    for (size_t i = 0; i < TDM_COUNT(shares); i++)
        if (shares[i].seconds > 5e-4 * f->step_time_s)
            text = tdm_arena_printf(arena, "%s%s %.3g ms %s", text, i ? "," : "",
                                    1e3 * shares[i].seconds, shares[i].name);
    return tdm_arena_printf(arena, "%s.", text);
}

static const char *explain_balance(tdm_arena *arena, const tdm_result *result,
                                   const tdm_target *target)
{
    (void)target;
    const tdm_figures *f = &result->step.figures;
    uint32_t most = 0, least = 0;
    for (uint32_t r = 1; r < f->n_ranks; r++) {
        most = f->ranks[r].compute_busy_s > f->ranks[most].compute_busy_s ? r : most;
        least = f->ranks[r].compute_busy_s < f->ranks[least].compute_busy_s ? r : least;
    }
    const char *where = f->ranks[most].stage != f->ranks[least].stage
                            ? "the stages hold unequal work"
                            : "ranks of one stage hold unequal work, as uneven routing makes it";
    const tdm_perturbed *perturbed = result->machine.perturbed;
    if (perturbed && perturbed->stretch[most] > perturbed->stretch[least])
        where = "its GPU runs slower in this scenario";
    return tdm_arena_printf(arena,
                            "rank %" PRIu32 " (stage %" PRIu32 ") computes %.4g ms, rank %" PRIu32
                            " (stage %" PRIu32 ") %.4g ms: %s.",
                            f->ranks[most].rank, f->ranks[most].stage,
                            1e3 * f->ranks[most].compute_busy_s, f->ranks[least].rank,
                            f->ranks[least].stage, 1e3 * f->ranks[least].compute_busy_s, where);
}

static const char *explain_experts(tdm_arena *arena, const tdm_result *result,
                                   const tdm_target *target)
{
    (void)target;
    return tdm_arena_printf(
        arena,
        "the busiest of %" PRIu32
        " expert ranks receives about %.2f times the mean of its group, averaged "
        "over layers and microbatches; the others wait for it.",
        result->step.plan.mesh.ep, 1 / result->step.figures.expert_efficiency);
}

const char *tdm_explain(tdm_arena *arena, const tdm_result *result, const tdm_target *target)
{
    static const struct {
        const char *figure;
        explain_function explain;
    } table[] = {
        {"bubble_fraction", explain_bubble},     {"bubble_global", explain_bubble},
        {"peak_memory_bytes", explain_memory},   {"comm_exposed_fraction", explain_exposed},
        {"comm_busy_fraction", explain_exposed}, {"forward_latency_s", explain_latency},
        {"load_imbalance", explain_balance},     {"min_compute_share", explain_balance},
        {"expert_efficiency", explain_experts},
    };
    for (size_t i = 0; i < TDM_COUNT(table); i++)
        if (strcmp(table[i].figure, target->figure) == 0)
            return table[i].explain(arena, result, target);
    return explain_losses(arena, result, target);
}
