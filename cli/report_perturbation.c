/* report_perturbation.c: a perturbation in a line of words. */
#include "core/units.h"
#include "report.h"

/* So many of a kind are named, the rest is counted. */
enum { MOST_NAMED = 3, MOST_STRAGGLERS = 8 };

static const char *join(tdm_arena *arena, const char *text, const char *more)
{
    return tdm_arena_printf(arena, "%s%s%s", text, *text ? "; " : "", more);
}

static const char *describe_speeds(tdm_arena *arena, const tdm_perturbation *p)
{
    const char *text = "";
    for (uint32_t i = 0; i < p->n_speeds && i < MOST_NAMED; i++) {
        const tdm_gpu_speed *s = &p->speeds[i];
        const char *range = s->first == s->last
                                ? tdm_arena_printf(arena, "GPU %u", s->first)
                                : tdm_arena_printf(arena, "GPUs %u-%u", s->first, s->last);
        text = join(arena, text,
                    tdm_arena_printf(arena, "%s at %.3g %% speed", range, 100 * s->speed));
    }
    return p->n_speeds > MOST_NAMED
               ? tdm_arena_printf(arena, "%s and %u more", text, p->n_speeds - MOST_NAMED)
               : text;
}

static const char *describe_links(tdm_arena *arena, const tdm_perturbation *p, const char *text)
{
    for (uint32_t i = 0; i < p->n_changes && i < MOST_NAMED; i++) {
        const tdm_link_change *change = &p->changes[i];
        char latency[32];
        text = join(arena, text,
                    tdm_arena_printf(arena, "%s at %.3g %% bandwidth", change->name,
                                     100 * change->bandwidth));
        if (change->extra_latency_s > 0)
            text =
                tdm_arena_printf(arena, "%s, %s later", text,
                                 tdm_quantity_write(latency, sizeof latency,
                                                    change->extra_latency_s, TDM_UNIT_SECONDS, 3));
    }
    return p->n_changes > MOST_NAMED
               ? tdm_arena_printf(arena, "%s and %u links more", text, p->n_changes - MOST_NAMED)
               : text;
}

/* Which GPUs it hit, beyond what the scenario says. */
static const char *describe_stragglers(tdm_arena *arena, const tdm_perturbation *p,
                                       const tdm_perturbed *drawn, const char *text)
{
    const char *chance = p->n_stragglers
                             ? tdm_arena_printf(arena, "%u", p->n_stragglers)
                             : tdm_arena_printf(arena, "%.3g %%", 100 * p->straggler_probability);
    text = join(
        arena, text,
        tdm_arena_printf(arena, "stragglers %s, %.3g times slower", chance, p->straggler_slowdown));
    const char *list = "";
    uint32_t n = 0;
    for (uint32_t g = 0; g < drawn->n_gpus; g++)
        if (drawn->straggling[g] && ++n <= MOST_STRAGGLERS)
            list = tdm_arena_printf(arena, "%s%s%u", list, *list ? ", " : "", g);
    if (n > MOST_STRAGGLERS)
        list = tdm_arena_printf(arena, "%s and %u more", list, n - MOST_STRAGGLERS);
    return tdm_arena_printf(arena, "%s (repetition %u: %s%s)", text, drawn->repetition + 1,
                            *list ? "GPU " : "none", list);
}

const char *tdm_report_perturbation(tdm_arena *arena, const tdm_result *result)
{
    const tdm_perturbation *p = &result->scenario.perturbation;
    if (!result->machine.perturbed)
        return NULL;
    const char *text = describe_links(arena, p, describe_speeds(arena, p));
    if (p->compute_jitter > 0)
        text = join(arena, text,
                    tdm_arena_printf(arena, "kernels jitter by %.3g %%", 100 * p->compute_jitter));
    if (p->communication_jitter > 0)
        text = join(
            arena, text,
            tdm_arena_printf(arena, "latencies jitter by %.3g %%", 100 * p->communication_jitter));
    if (p->straggler_slowdown > 0)
        text = describe_stragglers(arena, p, result->machine.perturbed, text);
    return text;
}
