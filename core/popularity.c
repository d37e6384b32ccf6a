/* popularity.c: the shapes of popularity, and choosing by it. */
#include "popularity.h"
#include "stats.h"

#include <float.h>
#include <math.h>

/* Weights of a layer add up to about 2^40: the least popular expert is rounded by 10^-12, and a
 * guide of 256 entries leads to within an expert or two. */
enum { TOTAL_BITS = 40, GUIDE_SHIFT = 32 };

/* A well mixed number for each seed and layer. Source: Steele et al. 2014, SplitMix64. */
static uint64_t layer_seed(uint64_t seed, uint64_t layer, uint64_t i)
{
    uint64_t z = seed + (layer + 1) * 0x9E3779B97F4A7C15u + i * 0xD1B54A32D192ED03u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Which expert is how popular is drawn for each layer: otherwise the popular ones of all layers
 * would share one rank. Source of the shuffle: Durstenfeld 1964. */
static void zipf_shares(const tdm_routing *spec, uint32_t layer, uint32_t n, double *shares)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += shares[i] = pow(i + 1.0, -spec->exponent);
    for (uint32_t i = 0; i < n; i++)
        shares[i] /= sum;
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(layer_seed(spec->seed, layer, i) % (i + 1));
        double other = shares[j];
        shares[j] = shares[i];
        shares[i] = other;
    }
}

static void dirichlet_shares(const tdm_routing *spec, uint32_t layer, uint32_t n, double *shares)
{
    tdm_stats_dirichlet(layer_seed(spec->seed, layer, 0), spec->concentration, n, shares);
    for (uint32_t i = 0; i < n; i++)
        shares[i] = fmax(shares[i], DBL_MIN); /* never 0 but for rounding */
}

static void hot_shares(const tdm_routing *spec, uint32_t layer, uint32_t n, double *shares)
{
    (void)layer;
    for (uint32_t i = 0; i < n; i++)
        shares[i] = i == spec->hot_expert ? spec->hot_share : (1 - spec->hot_share) / (n - 1);
}

static void recorded_shares(const tdm_routing *spec, uint32_t layer, uint32_t n, double *shares)
{
    const double *weights = spec->record->weights + (size_t)layer * n;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += weights[i];
    for (uint32_t i = 0; i < n; i++)
        shares[i] = sum > 0 ? weights[i] / sum : 0;
}

typedef void shape(const tdm_routing *spec, uint32_t layer, uint32_t n, double *shares);

static shape *const shapes[TDM_N_ROUTING_MODELS] = {
    [TDM_ROUTING_ZIPF] = zipf_shares,
    [TDM_ROUTING_DIRICHLET] = dirichlet_shares,
    [TDM_ROUTING_HOT] = hot_shares,
    [TDM_ROUTING_RECORDED] = recorded_shares,
};

bool tdm_popularity_needed(tdm_routing_model model)
{
    return shapes[model] != NULL;
}

void tdm_popularity_shares(const tdm_routing *spec, uint32_t layer, uint32_t n_experts,
                           double *shares)
{
    if (shapes[spec->model] && n_experts > 1) {
        shapes[spec->model](spec, layer, n_experts, shares);
        return;
    }
    for (uint32_t i = 0; i < n_experts; i++)
        shares[i] = 1.0 / n_experts;
}

/* Number of experts that can be chosen at all. */
static uint32_t fill(tdm_arena *arena, const double *shares, uint32_t n, tdm_popularity *p)
{
    uint32_t n_possible = 0;
    uint64_t *before = TDM_ALLOC(arena, uint64_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t weight = (uint64_t)(ldexp(shares[i], TOTAL_BITS) + 0.5);
        if (shares[i] > 0 && weight == 0)
            weight = 1;
        n_possible += weight > 0;
        before[i + 1] = before[i] + weight;
    }
    uint32_t n_guides = (uint32_t)(before[n] >> GUIDE_SHIFT) + 1;
    uint32_t *guide = TDM_ALLOC(arena, uint32_t, n_guides);
    uint32_t expert = 0;
    for (uint32_t i = 0; i < n_guides; i++) {
        while (expert + 1 < n && before[expert + 1] <= (uint64_t)i << GUIDE_SHIFT)
            expert++;
        guide[i] = expert;
    }
    *p = (tdm_popularity){before, guide, n};
    return n_possible;
}

tdm_code tdm_popularity_build(tdm_arena *arena, const tdm_routing *spec, uint32_t n_layers,
                              uint32_t n_experts, uint32_t topk, const tdm_popularity **popularity,
                              tdm_error *err)
{
    if (spec->model == TDM_ROUTING_RECORDED &&
        (!spec->record || spec->record->n_layers < n_layers ||
         spec->record->n_experts != n_experts))
        return tdm_error_add(err, TDM_E_INVALID,
                             "routing.csv: no table of %u layers and %u experts", n_layers,
                             n_experts);
    tdm_popularity *all = TDM_ALLOC(arena, tdm_popularity, n_layers);
    double *shares = TDM_ALLOC(arena, double, n_experts);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        tdm_popularity_shares(spec, layer, n_experts, shares);
        uint32_t n_possible = fill(arena, shares, n_experts, &all[layer]);
        if (n_possible < topk)
            return tdm_error_add(err, TDM_E_INVALID,
                                 "routing: layer %u has %u experts of weight above 0, and "
                                 "moe_router_topk is %u",
                                 layer, n_possible, topk);
    }
    *popularity = all;
    return TDM_OK;
}

uint32_t tdm_popularity_choose(const tdm_popularity *p, uint64_t bits, uint32_t *ascending,
                               uint32_t n)
{
    __extension__ typedef unsigned __int128 wide;
    uint64_t total = p->before[p->n_experts];
    for (uint32_t i = 0; i < n; i++)
        total -= p->before[ascending[i] + 1] - p->before[ascending[i]];
    uint64_t at = (uint64_t)((wide)bits * total >> 64);
    /* `at` counts through the experts that are left: step over the others that lie below it. */
    uint32_t place = 0;
    for (; place < n && at >= p->before[ascending[place]]; place++)
        at += p->before[ascending[place] + 1] - p->before[ascending[place]];
    uint32_t expert = p->guide[at >> GUIDE_SHIFT];
    while (at >= p->before[expert + 1])
        expert++;
    for (uint32_t i = n; i > place; i--)
        ascending[i] = ascending[i - 1];
    ascending[place] = expert;
    return expert;
}
