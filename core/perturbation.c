/* perturbation.c: draws what is random and applies it to GPUs and links. */
#include "perturbation.h"

#include "stats.h"

#include <string.h>

/* What a draw is for: two of one seed have nothing to do with each other. */
enum { FOR_KERNEL = 1, FOR_LATENCY = 2, FOR_STRAGGLER = 3 };

bool tdm_perturbation_is_given(const tdm_perturbation *p)
{
    return p->n_speeds > 0 || p->n_changes > 0 || p->compute_jitter > 0 ||
           p->communication_jitter > 0 || p->straggler_slowdown > 0;
}

bool tdm_perturbation_is_random(const tdm_perturbation *p)
{
    bool stragglers =
        p->n_stragglers > 0 || (p->straggler_probability > 0 && p->straggler_probability < 1);
    return p->compute_jitter > 0 || p->communication_jitter > 0 ||
           (stragglers && p->straggler_slowdown > 1);
}

/* ---- draws ---- */

/* Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators (SplitMix64). */
static uint64_t mix(uint64_t state, uint64_t next)
{
    uint64_t z = state + (next + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Uniform, above 0 and below 1. */
static double draw(uint64_t seed, uint32_t what, uint32_t repetition, uint64_t a, uint64_t b)
{
    uint64_t bits = mix(mix(mix(mix(mix(0, seed), what), repetition), a), b);
    return ((double)(bits >> 12) + 0.5) / 4503599627370496.0; /* 2^52 */
}

double tdm_perturbed_kernel(const tdm_perturbed *p, uint32_t rank, uint32_t op)
{
    if (!p)
        return 1;
    if (p->compute_jitter <= 0)
        return p->stretch[rank];
    double u = draw(p->jitter_seed, FOR_KERNEL, p->repetition, rank, op);
    return p->stretch[rank] * tdm_stats_lognormal_quantile(u, p->compute_jitter);
}

double tdm_perturbed_latency(const tdm_perturbed *p, uint64_t communicator, uint64_t call)
{
    if (!p || p->communication_jitter <= 0)
        return 1;
    double u = draw(p->jitter_seed, FOR_LATENCY, p->repetition, communicator, call);
    return tdm_stats_lognormal_quantile(u, p->communication_jitter);
}

/* ---- GPUs ---- */

/* Whether a GPU's draw is among the n least of all. */
static bool is_among_least(const double *draws, uint32_t n_gpus, uint32_t gpu, uint32_t n)
{
    uint32_t n_before = 0;
    for (uint32_t g = 0; g < n_gpus && n_before < n; g++)
        n_before += draws[g] < draws[gpu] || (draws[g] <= draws[gpu] && g < gpu);
    return n_before < n;
}

static const bool *draw_stragglers(tdm_arena *arena, const tdm_perturbation *p, uint32_t n_gpus,
                                   uint32_t repetition)
{
    bool *straggling = TDM_ALLOC(arena, bool, n_gpus);
    double *draws = TDM_ALLOC(arena, double, n_gpus);
    if (p->straggler_slowdown <= 0)
        return straggling;
    for (uint32_t g = 0; g < n_gpus; g++)
        draws[g] = draw(p->straggler_seed, FOR_STRAGGLER, repetition, g, 0);
    for (uint32_t g = 0; g < n_gpus; g++)
        straggling[g] = p->n_stragglers > 0 ? is_among_least(draws, n_gpus, g, p->n_stragglers)
                                            : draws[g] < p->straggler_probability;
    return straggling;
}

tdm_perturbed tdm_perturbation_draw(tdm_arena *arena, const tdm_perturbation *p, uint32_t n_gpus,
                                    uint32_t repetition)
{
    double *stretch = TDM_ALLOC(arena, double, n_gpus);
    const bool *straggling = draw_stragglers(arena, p, n_gpus, repetition);
    for (uint32_t g = 0; g < n_gpus; g++) {
        stretch[g] = straggling[g] ? p->straggler_slowdown : 1;
        for (uint32_t i = 0; i < p->n_speeds; i++)
            if (g >= p->speeds[i].first && g <= p->speeds[i].last)
                stretch[g] /= p->speeds[i].speed;
    }
    return (tdm_perturbed){.repetition = repetition,
                           .n_gpus = n_gpus,
                           .stretch = stretch,
                           .straggling = straggling,
                           .compute_jitter = p->compute_jitter,
                           .communication_jitter = p->communication_jitter,
                           .jitter_seed = p->jitter_seed};
}

/* ---- links ---- */

/* Goes back to the last star when the text behind it does not fit. */
static bool fits_pattern(const char *pattern, const char *text)
{
    const char *star = NULL, *resume = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern && (*pattern == '?' || *pattern == *text)) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

bool tdm_link_is_named(const char *name, const char *link)
{
    size_t n = strlen(name);
    return (strncmp(name, link, n) == 0 && (link[n] == '-' || link[n] == '\0')) ||
           fits_pattern(name, link);
}

const tdm_topology *tdm_perturbation_links(tdm_arena *arena, const tdm_perturbation *p,
                                           const tdm_topology *topology)
{
    if (p->n_changes == 0)
        return topology;
    tdm_topology *changed = TDM_ALLOC(arena, tdm_topology, 1);
    tdm_link *links = TDM_ALLOC(arena, tdm_link, topology->n_links);
    *changed = *topology;
    changed->links = links;
    changed->same_nodes = changed->same_gpus = false;
    for (uint32_t l = 0; l < topology->n_links; l++) {
        links[l] = topology->links[l];
        for (uint32_t i = 0; i < p->n_changes; i++) {
            const tdm_link_change *change = &p->changes[i];
            if (!tdm_link_is_named(change->name, links[l].name))
                continue;
            links[l].bytes_per_s *= change->bandwidth;
            links[l].latency_s += change->extra_latency_s;
            changed->uneven_latency |= change->extra_latency_s > 0;
        }
    }
    return changed;
}
