/* search.c: speeds from high to low, and for each what may be relaxed, until channels are found;
 * then the number of channels is doubled or the speed raised. In two passes, as in NCCL.
 * Source: NCCL 2.28.9, src/graph/search.cc (ncclTopoCompute, ncclTopoDupChannels). */
#include "core/nccl/search.h"

#include <string.h>

enum {
    STEPS_IN_ALL = 1 << 19, /* NCCL_SEARCH_GLOBAL_TIMEOUT */
    STEPS = 1 << 14,
    STEPS_SAME_CHANNELS = 1 << 8
};

typedef struct speeds {
    const double *gb_per_s; /* falling */
    int n;
} speeds;

static speeds speeds_for(uint32_t sm, bool with_network)
{
    static const double old_intra[] = {40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3};
    static const double old_inter[] = {48, 30, 28, 24, 20, 18,  15,  12,  10, 9,
                                       7,  6,  5,  4,  3,  2.4, 1.2, .24, .12};
    static const double sm90_intra[] = {60, 50, 40, 30, 24, 20, 15, 12, 11, 6, 3};
    static const double sm90_inter[] = {48, 45, 42, 40, 30,  24,  22,  20, 17.5,
                                        15, 12, 6,  3,  2.4, 1.2, .24, .12};
    static const double sm100_intra[] = {90, 80, 70, 60, 50, 40, 30, 24, 20, 19, 18};
    static const double sm100_inter[] = {96,   48, 45.1, 42, 40, 30,  24,  22,  20,
                                         17.5, 15, 12,   6,  3,  2.4, 1.2, .24, .12};
#define TABLE(t)                                                                                   \
    (speeds)                                                                                       \
    {                                                                                              \
        t, (int)TDM_COUNT(t)                                                                       \
    }
    if (with_network)
        return sm >= 100 ? TABLE(sm100_inter) : sm >= 90 ? TABLE(sm90_inter) : TABLE(old_inter);
    return sm >= 100 ? TABLE(sm100_intra) : sm >= 90 ? TABLE(sm90_intra) : TABLE(old_intra);
#undef TABLE
}

/* All that the passes need to know. */
typedef struct plan {
    tdm_nccl_try search;
    tdm_nccl_pattern pattern;
    speeds table;
    int at; /* speed in the table */
    double max_bw, total_bw;
    tdm_nccl_reach min_intra, max_intra, min_inter, max_inter;
    bool with_network, try_same;
    uint32_t cross_nic;
    int steps_in_all;
} plan;

static void reach_limits(const tdm_nccl_view *view, tdm_nccl_kind kind, tdm_nccl_reach *min,
                         tdm_nccl_reach *max)
{
    *min = TDM_NCCL_SYS;
    *max = TDM_NCCL_LOC;
    for (uint32_t g = 0; g < view->n_of[TDM_NCCL_GPU]; g++)
        for (uint32_t i = 0; i < view->n_of[kind]; i++) {
            uint32_t from = view->of[TDM_NCCL_GPU][g], to = view->of[kind][i];
            tdm_nccl_reach reach = tdm_nccl_path_of(view, from, to)->reach;
            if (from == to)
                continue;
            *min = reach < *min ? reach : *min;
            *max = reach > *max ? reach : *max;
        }
}

/* Two NVLink domains of several GPUs each, joined by something slower: NCCL then wants two rings.
 */
static bool is_split(const tdm_nccl_view *view)
{
    uint32_t domain[TDM_NCCL_MAX_LOCAL], size[TDM_NCCL_MAX_LOCAL] = {0};
    uint32_t n = view->n_of[TDM_NCCL_GPU], n_domains = 0, n_many = 0;
    for (uint32_t g = 0; g < n; g++)
        domain[g] = g;
    for (uint32_t g = 0; g < n; g++)
        for (uint32_t p = g + 1; p < n; p++)
            if (tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][g], view->of[TDM_NCCL_GPU][p])
                    ->reach == TDM_NCCL_NVL)
                domain[p] = domain[g];
    for (uint32_t g = 0; g < n; g++)
        size[domain[g]]++;
    for (uint32_t g = 0; g < n; g++) {
        n_many += size[g] > 1;
        n_domains += size[g] > 0;
    }
    return n_domains == 2 && n_many == 2;
}

static void attempt(plan *p)
{
    p->search.steps_left = p->search.now.same_channels ? STEPS_SAME_CHANNELS : STEPS;
    p->steps_in_all -= p->search.steps_left;
    tdm_nccl_try_speed(&p->search);
}

static void set_speed(plan *p, int at)
{
    p->at = at;
    p->search.now.bw_intra = p->search.now.bw_inter = p->table.gb_per_s[at];
}

/* The next thing to relax after an attempt of the first pass; false: nothing is left. */
static bool relax(plan *p)
{
    tdm_nccl_graph *now = &p->search.now;
    const tdm_nccl_graph *best = &p->search.best;
    bool through_amd = p->search.view->vendor == TDM_CPU_AMD && now->intra == TDM_NCCL_SYS;
    if (now->same_channels && !through_amd) {
        now->same_channels = false;
        return true;
    }
    now->same_channels = p->try_same;
    p->steps_in_all += p->search.steps_left;
    if (p->steps_in_all < 0 && best->n_channels > 0)
        return false;
    if (p->search.view->min_sm >= 90 && now->pattern == TDM_NCCL_PATTERN_BALANCED_TREE) {
        now->pattern = TDM_NCCL_PATTERN_TREE;
        return true;
    }
    now->pattern = p->pattern;
    tdm_nccl_reach max_intra = p->with_network ? now->inter : p->max_intra;
    if (now->intra < max_intra && (best->n_channels == 0 || now->intra < best->intra)) {
        now->intra++;
        return true;
    }
    now->intra = p->min_intra;
    if (p->with_network && now->inter < p->max_inter &&
        (best->n_channels == 0 || now->inter < best->inter || now->inter < TDM_NCCL_PXN)) {
        now->inter++;
        return true;
    }
    now->inter = p->min_inter;
    bool may_cross =
        now->pattern == TDM_NCCL_PATTERN_RING || now->pattern == TDM_NCCL_PATTERN_BALANCED_TREE;
    if (p->cross_nic == 2 && now->cross_nic == 0 && may_cross) {
        now->cross_nic = 2;
        return true;
    }
    now->cross_nic = p->cross_nic == 1;
    if (p->at + 1 < p->table.n &&
        (best->n_channels == 0 || p->table.gb_per_s[p->at + 1] / best->bw_inter > .49)) {
        set_speed(p, p->at + 1);
        return true;
    }
    return false;
}

static bool is_optimal(const plan *p)
{
    const tdm_nccl_graph *best = &p->search.best;
    return p->search.steps_left == -1 ||
           best->n_channels * best->bw_inter >= p->search.view->total_bw;
}

static void first_pass(plan *p)
{
    do {
        attempt(p);
    } while (!is_optimal(p) && relax(p));
}

/* Twice the channels at half the speed, where one channel would be too fast for one thread block.
 */
static void double_channels(plan *p)
{
    tdm_nccl_graph *best = &p->search.best;
    uint32_t n = best->n_channels, n_gpus = p->search.view->n_of[TDM_NCCL_GPU];
    if (n == 0 || best->pattern == TDM_NCCL_PATTERN_NVLS || best->bw_intra < 25 ||
        (p->search.view->min_sm > 80 && best->bw_intra < 50 && n > 4))
        return;
    uint32_t twice = 2 * n < p->search.max_channels ? 2 * n : p->search.max_channels;
    memcpy(p->search.best_order + n * n_gpus, p->search.best_order,
           (twice - n) * n_gpus * sizeof *p->search.best_order);
    memcpy(p->search.best_adapters + 2 * n, p->search.best_adapters,
           2 * (twice - n) * sizeof *p->search.best_adapters);
    double share = (double)tdm_ceil_div(twice, n);
    best->bw_intra /= share;
    best->bw_inter /= share;
    best->n_channels = twice;
}

/* The next higher speed to try in the second pass; false: there is none. */
static bool raise_speed(plan *p)
{
    tdm_nccl_graph *now = &p->search.now;
    const tdm_nccl_graph *best = &p->search.best;
    if (p->search.steps_left == 0 || p->at == 0)
        return false;
    if (best->pattern == TDM_NCCL_PATTERN_RING) {
        set_speed(p, p->at - 1);
        return true;
    }
    if (best->pattern == TDM_NCCL_PATTERN_NVLS && now->bw_inter == best->bw_inter &&
        now->bw_inter < 2 * now->bw_intra) {
        p->search.min_channels = p->search.max_channels = best->n_channels;
        now->bw_inter = p->table.gb_per_s[--p->at];
        return true;
    }
    if (now->bw_intra == best->bw_intra && now->bw_intra < 2 * now->bw_inter) {
        now->bw_intra = p->table.gb_per_s[--p->at];
        return true;
    }
    return false;
}

static void second_pass(plan *p)
{
    tdm_nccl_try *search = &p->search;
    double_channels(p);
    search->now = search->best;
    int at = 0;
    while (at + 1 < p->table.n && p->table.gb_per_s[at] > search->best.bw_inter)
        at++;
    set_speed(p, at);
    search->min_channels = search->best.n_channels;
    search->steps_left = -1;
    while (raise_speed(p))
        attempt(p);
}

static void allocate(tdm_arena *arena, tdm_nccl_try *search)
{
    const tdm_nccl_view *view = search->view;
    size_t n_gpus = view->n_of[TDM_NCCL_GPU], n_ports = view->n_of[TDM_NCCL_PORT];
    search->link_bw = TDM_ALLOC(arena, double, view->n_links + 1);
    search->port_bw = TDM_ALLOC(arena, double, n_ports + 1);
    search->picked = TDM_ALLOC(arena, uint16_t, (n_gpus + 1) * n_ports + 1);
    search->n_picked = TDM_ALLOC(arena, uint16_t, n_gpus + 1);
    search->used = TDM_ALLOC(arena, uint64_t, n_gpus);
    search->now_order = TDM_ALLOC(arena, uint16_t, TDM_NCCL_GRAPH_CHANNELS * n_gpus);
    search->best_order = TDM_ALLOC(arena, uint16_t, TDM_NCCL_GRAPH_CHANNELS * n_gpus);
    search->now_adapters = TDM_ALLOC(arena, uint16_t, 2 * TDM_NCCL_GRAPH_CHANNELS);
    search->best_adapters = TDM_ALLOC(arena, uint16_t, 2 * TDM_NCCL_GRAPH_CHANNELS);
    for (uint32_t l = 0; l < view->n_links; l++)
        search->link_bw[l] = view->links[l].bw;
    for (uint32_t i = 0; i < n_ports; i++)
        search->port_bw[i] = view->nodes[view->of[TDM_NCCL_PORT][i]].bw;
}

static void limits_of_pattern(plan *p, uint32_t min_channels, uint32_t max_channels)
{
    tdm_nccl_try *search = &p->search;
    uint32_t n_gpus = search->view->n_of[TDM_NCCL_GPU];
    search->min_channels = min_channels;
    search->max_channels =
        max_channels < TDM_NCCL_GRAPH_CHANNELS ? max_channels : TDM_NCCL_GRAPH_CHANNELS;
    if (p->pattern == TDM_NCCL_PATTERN_NVLS) {
        search->max_channels = n_gpus < TDM_NCCL_GRAPH_CHANNELS ? n_gpus : TDM_NCCL_GRAPH_CHANNELS;
        if (!p->with_network)
            search->min_channels = search->max_channels;
    } else if (p->pattern == TDM_NCCL_PATTERN_RING && search->min_channels == 1 &&
               search->max_channels >= 2 && is_split(search->view)) {
        search->min_channels = 2;
    }
    if (n_gpus == 1 && p->pattern != TDM_NCCL_PATTERN_RING)
        p->pattern = TDM_NCCL_PATTERN_TREE;
    p->min_intra = p->min_inter = TDM_NCCL_LOC;
    p->max_intra = p->max_inter = TDM_NCCL_SYS;
    if (n_gpus > 1)
        reach_limits(search->view, TDM_NCCL_GPU, &p->min_intra, &p->max_intra);
    if (p->with_network)
        reach_limits(search->view, TDM_NCCL_PORT, &p->min_inter, &p->max_inter);
    else
        p->min_inter = TDM_NCCL_PIX;
}

/* What NCCL goes on with when it finds no channel at all. */
static void fall_back(const tdm_nccl_view *view, tdm_nccl_try *search)
{
    search->best.n_channels = 1;
    search->best.bw_intra = search->best.bw_inter = .1;
    search->best.intra = search->best.inter = TDM_NCCL_SYS;
    search->best.fallback = true;
    for (uint32_t g = 0; g < view->n_of[TDM_NCCL_GPU]; g++)
        search->best_order[g] = (uint16_t)g;
}

void tdm_nccl_search(tdm_arena *arena, const tdm_nccl_view *view, tdm_nccl_pattern pattern,
                     uint32_t min_channels, uint32_t max_channels, uint32_t cross_nic,
                     tdm_nccl_graph *found)
{
    uint32_t n_gpus = view->n_of[TDM_NCCL_GPU];
    bool is_nvls = pattern == TDM_NCCL_PATTERN_NVLS;
    *found = (tdm_nccl_graph){.pattern = pattern};
    if (is_nvls && (view->n_of[TDM_NCCL_NVS] == 0 || view->min_sm < 90))
        return;
    plan p = {.search = {.view = view},
              .pattern = pattern,
              .with_network = view->n_of[TDM_NCCL_PORT] > 0,
              .try_same = !is_nvls,
              .steps_in_all = STEPS_IN_ALL,
              .max_bw = view->max_bw,
              .total_bw = view->total_bw};
    p.table = speeds_for(view->min_sm, p.with_network);
    limits_of_pattern(&p, min_channels, max_channels);
    p.cross_nic = view->n_of[TDM_NCCL_PORT] > 1 && !is_nvls ? cross_nic : 0;
    if (n_gpus > 1 && p.pattern != TDM_NCCL_PATTERN_RING)
        p.total_bw *= n_gpus / (n_gpus - 1.0);
    allocate(arena, &p.search);
    p.search.now = p.search.best = (tdm_nccl_graph){.pattern = p.pattern,
                                                    .intra = p.min_intra,
                                                    .inter = p.min_inter,
                                                    .same_channels = p.try_same,
                                                    .cross_nic = p.cross_nic == 1};
    int at = 0;
    while (at + 1 < p.table.n && (p.table.gb_per_s[at] > p.max_bw ||
                                  p.table.gb_per_s[at] * p.search.min_channels > p.total_bw))
        at++;
    set_speed(&p, at);
    first_pass(&p);
    second_pass(&p);
    if (p.search.best.n_channels == 0 && !is_nvls)
        fall_back(view, &p.search);
    *found = p.search.best;
    found->order = p.search.best_order;
    found->adapters = p.search.best_adapters;
}
