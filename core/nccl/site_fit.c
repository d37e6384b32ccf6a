/* site_fit.c: a site's numbers as a nonlinear model, for the robust fit. */
#include "core/nccl/site_fit.h"

#include "core/stats.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_KINDS = 32, OF_SITE = 2, OF_RAMP = 4 };

/* How far a parameter may go from where it is thought to be before that costs as much as a point
 * that is 1 % off: as logarithms and logits. */
static const double prior_error = 0.01, launch_spread = 1, network_spread = 3;
static const double share_spread = 1, half_spread = 3, power_spread = 1.5, efficiency_spread = 1,
                    shared_efficiency_spread = 0.3;

/* What lies between two limits is fitted as the logit of its place between them. Power is at most
 * 1, so that time grows with size; of the network no more than is wired, and some per cent for what
 * is counted differently. */
typedef struct limits {
    double least, most, likely;
} limits;
static const limits power_limits = {0.15, 1, 0}, efficiency_limits = {0.05, 3, 0};
static const limits network_limits = {0, 1.05, 0.95};

typedef struct point {
    double measured_s, latency_s, transfer_s, x; /* transfer without ramp; x: bytes per rank */
    double own;                                  /* 1 + own_steps / steps */
    uint64_t bytes;
    uint32_t kind;
    bool several_nodes;
} point;

typedef struct kind {
    tdm_nccl_ramp_key key;
    const tdm_nccl_ramp *shared;
    uint32_t n_points, first; /* first of its parameters; 0: the shared ramp */
} kind;

typedef struct problem {
    uint32_t n_points, n_left_out, n_kinds, n_parameters;
    point *points;
    kind kinds[MOST_KINDS];
    bool has_network;
    limits launch_limits; /* 0 to the shortest time */
    double *center, *spread;
} problem;

/* ---- the model ---- */

static double between(const limits *of, double u)
{
    return of->least + (of->most - of->least) / (1 + exp(-u));
}

static double logit(const limits *of, double value)
{
    double share = (value - of->least) / (of->most - of->least);
    share = fmin(0.98, fmax(0.02, share));
    return log(share / (1 - share));
}

static tdm_nccl_estimate estimate(const limits *of, double u, double half)
{
    return (tdm_nccl_estimate){between(of, u), between(of, u - half), between(of, u + half)};
}

static tdm_nccl_ramp ramp_at(const kind *of, const double *p)
{
    if (of->first == 0)
        return *of->shared;
    p += of->first;
    return (tdm_nccl_ramp){.latency_share = exp(p[0]),
                           .efficiency = between(&efficiency_limits, p[1]),
                           .own_steps = of->shared->own_steps,
                           .half_bytes = exp(p[2]),
                           .power = between(&power_limits, p[3])};
}

static double predict(const problem *it, const point *at, const double *p)
{
    tdm_nccl_ramp ramp = ramp_at(&it->kinds[at->kind], p);
    double efficiency = ramp.efficiency;
    if (at->several_nodes)
        efficiency *= between(&network_limits, p[1]);
    double growth = ramp.half_bytes > 0 ? 1 + pow(ramp.half_bytes / at->x, ramp.power) : 1;
    return between(&it->launch_limits, p[0]) + at->latency_s * ramp.latency_share +
           at->transfer_s / efficiency * at->own * growth;
}

static void residuals(const void *data, const double *p, double *out)
{
    const problem *it = data;
    for (uint32_t i = 0; i < it->n_points; i++) {
        double ratio = predict(it, &it->points[i], p) / it->points[i].measured_s;
        out[i] = isfinite(ratio) && ratio > 1e-9 && ratio < 1e9 ? log(ratio) : 20;
    }
    for (uint32_t i = 0; i < it->n_parameters; i++)
        out[it->n_points + i] = prior_error * (p[i] - it->center[i]) / it->spread[i];
}

/* ---- points ---- */

static bool same_kind(const tdm_nccl_ramp_key *a, const tdm_nccl_ramp_key *b)
{
    return a->algo == b->algo && a->proto == b->proto && a->all_reduce == b->all_reduce &&
           a->one_node == b->one_node;
}

/* MOST_KINDS: there is no room. */
static uint32_t kind_of(problem *it, const tdm_nccl_ramp_key *key)
{
    uint32_t k = 0;
    while (k < it->n_kinds && !same_kind(&it->kinds[k].key, key))
        k++;
    if (k == it->n_kinds && k < MOST_KINDS)
        it->kinds[it->n_kinds++] = (kind){.key = *key, .shared = tdm_nccl_ramp_for(key)};
    return k;
}

typedef struct size_order {
    uint64_t bytes;
    uint32_t index;
} size_order;

static int by_size(const void *a, const void *b)
{
    const size_order *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static size_order *sort_sizes(tdm_arena *arena, const tdm_nccl_measured *set)
{
    size_order *order = TDM_ALLOC(arena, size_order, set->n + 1);
    for (uint32_t i = 0; i < set->n; i++)
        order[i] = (size_order){set->bytes[i], i};
    qsort(order, set->n, sizeof *order, by_size);
    return order;
}

/* Whether a larger size took less than half of the time: a hiccup of the machine, or its first
 * operation. Of the larger sizes only those that are fitted to count. */
static bool is_hiccup(const tdm_nccl_measured *set, const size_order *order, uint32_t i, bool half)
{
    for (uint32_t j = i + 1; j < set->n; j++)
        if (!(half && tdm_nccl_is_held_back(j)) &&
            2 * set->time_s[order[j].index] < set->time_s[order[i].index])
            return true;
    return false;
}

static tdm_code add_set(tdm_arena *arena, const tdm_nccl_measured *set, bool half, problem *it,
                        tdm_error *err)
{
    const size_order *order = sort_sizes(arena, set);
    tdm_nccl_comm comm = *set->comm;
    comm.site = NULL;
    for (uint32_t i = 0; i < set->n; i++) {
        if (half && tdm_nccl_is_held_back(i))
            continue;
        if (is_hiccup(set, order, i, half)) {
            it->n_left_out++;
            continue;
        }
        tdm_nccl_cost cost;
        tdm_nccl_ramp_key key;
        double steps = 0;
        uint64_t bytes = order[i].bytes;
        tdm_code code = tdm_nccl_time_parts(&comm, set->func, bytes, &cost, &key, &steps, err);
        if (code != TDM_OK)
            return code;
        uint32_t k = kind_of(it, &key);
        if (k == MOST_KINDS)
            return tdm_error_add(err, TDM_E_INVALID, "more than %d kinds of operation", MOST_KINDS);
        it->kinds[k].n_points++;
        it->points[it->n_points++] =
            (point){.bytes = bytes,
                    .measured_s = set->time_s[order[i].index],
                    .latency_s = cost.latency_s,
                    .transfer_s = (double)bytes / cost.bytes_per_s,
                    .x = (double)bytes / comm.n_ranks,
                    .own = 1 + (steps > 0 ? it->kinds[k].shared->own_steps / steps : 0),
                    .kind = k,
                    .several_nodes = comm.n_nodes > 1};
        it->has_network |= comm.n_nodes > 1;
    }
    return TDM_OK;
}

/* What is measured above the shared ramps: the median up to 64 KiB, or at the three smallest sizes;
 * as tdm_nccl_fit_launch. */
static double launch_above(tdm_arena *arena, const problem *it)
{
    const uint64_t small = 65536;
    const double plain[OF_SITE] = {-INFINITY, logit(&network_limits, network_limits.likely)};
    size_order *order = TDM_ALLOC(arena, size_order, it->n_points);
    double *above = TDM_ALLOC(arena, double, it->n_points);
    uint32_t n = 0;
    for (uint32_t i = 0; i < it->n_points; i++)
        order[i] = (size_order){it->points[i].bytes, i};
    qsort(order, it->n_points, sizeof *order, by_size);
    while (n < it->n_points && (order[n].bytes <= small || (order[0].bytes > small && n < 3))) {
        const point *at = &it->points[order[n].index];
        above[n++] = at->measured_s - predict(it, at, plain);
    }
    tdm_stats_sort(above, n);
    return fmax(0, tdm_stats_quantile(above, n, 0.5));
}

/* Gives kinds ramps of their own, those with most points first, as long as there are more points
 * than parameters of ramps. */
static void give_ramps(problem *it)
{
    it->n_parameters = OF_SITE;
    for (;;) {
        kind *next = NULL;
        for (uint32_t k = 0; k < it->n_kinds; k++)
            if (it->kinds[k].first == 0 && it->kinds[k].n_points >= TDM_NCCL_RAMP_POINTS &&
                (!next || it->kinds[k].n_points > next->n_points))
                next = &it->kinds[k];
        if (!next || it->n_parameters - OF_SITE + OF_RAMP >= it->n_points)
            return;
        next->first = it->n_parameters;
        it->n_parameters += OF_RAMP;
    }
}

/* Where the search begins, and what its parameters are thought to be. */
static void start(tdm_arena *arena, problem *it)
{
    double launch_s = launch_above(arena, it); /* while all ramps are the shared ones */
    give_ramps(it);
    it->launch_limits.most = it->points[0].measured_s;
    for (uint32_t i = 1; i < it->n_points; i++)
        it->launch_limits.most = fmin(it->launch_limits.most, it->points[i].measured_s);
    it->center = TDM_ALLOC(arena, double, it->n_parameters);
    it->spread = TDM_ALLOC(arena, double, it->n_parameters);
    it->center[0] = logit(&it->launch_limits, launch_s);
    it->center[1] = logit(&network_limits, network_limits.likely);
    it->spread[0] = launch_spread;
    it->spread[1] = it->has_network ? network_spread : 1e-3;
    for (uint32_t k = 0; k < it->n_kinds; k++) {
        const kind *of = &it->kinds[k];
        double *center = it->center + of->first, *spread = it->spread + of->first;
        if (of->first == 0)
            continue;
        center[0] = log(of->shared->latency_share);
        center[1] = logit(&efficiency_limits, of->shared->efficiency);
        center[2] = log(fmax(of->shared->half_bytes, 1e4));
        center[3] = logit(&power_limits, of->shared->power);
        spread[0] = share_spread;
        spread[1] = it->has_network ? shared_efficiency_spread : efficiency_spread;
        spread[2] = half_spread;
        spread[3] = power_spread;
    }
}

/* ---- what comes out ---- */

static tdm_nccl_estimate exponential(double value, double half)
{
    return (tdm_nccl_estimate){exp(value), exp(value - half), exp(value + half)};
}

static void take(tdm_arena *arena, const problem *it, const double *p, const double *half,
                 tdm_nccl_site_fit *fit)
{
    tdm_nccl_site_ramp *ramps = TDM_ALLOC(arena, tdm_nccl_site_ramp, it->n_kinds + 1);
    tdm_nccl_estimate(*estimates)[OF_RAMP] =
        tdm_arena_alloc(arena, sizeof *estimates * (it->n_kinds + 1));
    uint32_t n = 0;
    for (uint32_t k = 0; k < it->n_kinds; k++) {
        const kind *of = &it->kinds[k];
        const double *v = p + of->first, *h = half + of->first;
        if (of->first == 0)
            continue;
        ramps[n] = (tdm_nccl_site_ramp){.key = of->key, .ramp = ramp_at(of, p)};
        estimates[n][0] = exponential(v[0], h[0]);
        estimates[n][1] = estimate(&efficiency_limits, v[1], h[1]);
        estimates[n][2] = exponential(v[2], h[2]);
        estimates[n++][3] = estimate(&power_limits, v[3], h[3]);
    }
    fit->n_points = it->n_points;
    fit->n_left_out = it->n_left_out;
    fit->launch_s = estimate(&it->launch_limits, p[0], half[0]);
    fit->network_efficiency = (tdm_nccl_estimate){1, 1, 1};
    if (it->has_network)
        fit->network_efficiency = estimate(&network_limits, p[1], half[1]);
    fit->ramps = (const tdm_nccl_estimate(*)[OF_RAMP])estimates;
    fit->site = (tdm_nccl_site){
        .has_launch = true,
        .launch_s = {.value = fit->launch_s.value, .grade = TDM_GRADE_MEASURED},
        .network_efficiency = {.value = fit->network_efficiency.value, .grade = TDM_GRADE_MEASURED},
        .grade = TDM_GRADE_MEASURED,
        .n_ramps = n,
        .ramps = ramps};
}

tdm_code tdm_nccl_site_fit_logs(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                                bool half, tdm_nccl_site_fit *fit, tdm_error *err)
{
    problem *it = TDM_ALLOC(arena, problem, 1);
    uint32_t n = 0;
    for (uint32_t s = 0; s < n_sets; s++)
        n += sets[s].n;
    it->points = TDM_ALLOC(arena, point, n + 1);
    for (uint32_t s = 0; s < n_sets; s++) {
        tdm_code code = add_set(arena, &sets[s], half, it, err);
        if (code != TDM_OK)
            return code;
    }
    if (it->n_points < 2)
        return tdm_error_add(err, TDM_E_INVALID, "%u points: a fit takes at least 2", it->n_points);
    start(arena, it);
    double *p = TDM_ALLOC(arena, double, it->n_parameters);
    double *width = TDM_ALLOC(arena, double, it->n_parameters);
    for (uint32_t i = 0; i < it->n_parameters; i++)
        p[i] = it->center[i];
    const tdm_stats_model model = {.n_points = it->n_points,
                                   .n_priors = it->n_parameters,
                                   .n_parameters = it->n_parameters,
                                   .residuals = residuals,
                                   .data = it,
                                   .noise = 0.03};
    tdm_stats_fit_robust(&model, p, width);
    take(arena, it, p, width, fit);
    return TDM_OK;
}

tdm_code tdm_nccl_site_errors(tdm_arena *arena, const tdm_nccl_measured *set,
                              const tdm_nccl_site *site, uint64_t *bytes, double *errors,
                              tdm_error *err)
{
    const size_order *order = sort_sizes(arena, set);
    tdm_nccl_comm comm = *set->comm;
    comm.site = site;
    for (uint32_t i = 0; i < set->n; i++) {
        tdm_nccl_cost cost;
        bytes[i] = order[i].bytes;
        tdm_code code = tdm_nccl_time(&comm, set->func, bytes[i], &cost, err);
        if (code != TDM_OK)
            return code;
        errors[i] = (cost.time_s + tdm_nccl_launch_s(&comm)) / set->time_s[order[i].index] - 1;
    }
    return TDM_OK;
}
