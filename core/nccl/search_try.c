/* search_try.c: places channels of a given speed one after the other, with backtracking. Every hop
 * takes its speed off the links of its path.
 * Source: NCCL 2.28.9, src/graph/search.cc (ncclTopoSearchRec and what it calls). */
#include "core/nccl/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In which order GPUs are tried. */
typedef enum order { ORDER_BY_SCORE, ORDER_AS_NUMBERED, ORDER_OF_LAST_CHANNEL } order;

/* Where in a channel the way back to the network or to the first GPU is due, -1: nowhere. */
typedef struct returns {
    int to_net, to_first;
} returns;

#define NOWHERE UINT32_MAX

static void search_channel(tdm_nccl_try *search);
static void search_gpu(tdm_nccl_try *search, uint32_t gpu, int step, returns back, order how);

static int n_gpus(const tdm_nccl_try *search)
{
    return (int)search->view->n_of[TDM_NCCL_GPU];
}

static uint32_t gpu_node(const tdm_nccl_try *search, uint32_t gpu)
{
    return search->view->of[TDM_NCCL_GPU][gpu];
}

static uint32_t port_node(const tdm_nccl_try *search, uint32_t port)
{
    return search->view->of[TDM_NCCL_PORT][port];
}

/* Thousandths are what NCCL keeps of what is left, so that taking and giving back cancel. */
static double rounded(double bw)
{
    return round(bw * 1000) / 1000;
}

/* Takes bw off the first n links of a path; returns how many could bear it. Giving back (bw < 0)
 * always succeeds. */
static uint32_t follow(tdm_nccl_try *search, const tdm_nccl_path *path, uint32_t start, uint32_t n,
                       double bw)
{
    const tdm_nccl_view *view = search->view;
    bool start_is_gpu = view->nodes[start].kind == TDM_NCCL_GPU;
    double pcie_bw = bw;
    for (uint32_t i = 0; i < path->n_links; i++) {
        const tdm_nccl_node *node = &view->nodes[view->links[path->links[i]].to];
        if (node->kind == TDM_NCCL_CPU && node->vendor == TDM_CPU_INTEL && start_is_gpu &&
            path->reach == TDM_NCCL_PHB)
            pcie_bw = bw * 6 / 5; /* INTEL_P2P_OVERHEAD */
    }
    for (uint32_t i = 0; i < n; i++) {
        const tdm_nccl_link *link = &view->links[path->links[i]];
        const tdm_nccl_node *to = &view->nodes[link->to];
        double forth = link->is_pcie ? pcie_bw : bw, back = 0;
        if (to->kind == TDM_NCCL_GPU && to->sm < 80 && !start_is_gpu)
            back = forth / 8;
        if (search->link_bw[path->links[i]] < forth ||
            (back != 0 && search->link_bw[link->back] < back))
            return i;
        search->link_bw[path->links[i]] = rounded(search->link_bw[path->links[i]] - forth);
        if (back != 0)
            search->link_bw[link->back] = rounded(search->link_bw[link->back] - back);
    }
    return n;
}

/* Goes from a node to another with `share` channels (negative: undoes it). False when the way is
 * too far or too full; then nothing is taken. */
static bool go(tdm_nccl_try *search, uint32_t from, uint32_t to, double share)
{
    if (from == NOWHERE)
        return true;
    const tdm_nccl_view *view = search->view;
    const tdm_nccl_path *path = tdm_nccl_path_of(view, from, to);
    bool inside = view->nodes[from].kind != TDM_NCCL_PORT && view->nodes[to].kind != TDM_NCCL_PORT;
    double bw = share * (inside ? search->now.bw_intra : search->now.bw_inter);
    tdm_nccl_reach limit = inside ? search->now.intra : search->now.inter;
    bool is_tree = search->now.pattern == TDM_NCCL_PATTERN_BALANCED_TREE ||
                   search->now.pattern == TDM_NCCL_PATTERN_TREE;
    if (path->reach >= TDM_NCCL_DIS || (share == 1 && path->reach > limit))
        return false;
    if (share == 1 && is_tree && tdm_nccl_path_of(view, to, from)->reach > limit)
        return false;
    uint32_t n = follow(search, path, from, path->n_links, bw);
    if (n < path->n_links) {
        follow(search, path, from, n, -bw);
        return false;
    }
    search->now.n_hops += share * path->n_links;
    return true;
}

static void try_gpu(tdm_nccl_try *search, uint32_t from, uint32_t gpu, int step, returns back,
                    order how)
{
    uint64_t flag = UINT64_C(1) << search->now.n_channels;
    if (!go(search, from, gpu_node(search, gpu), 1))
        return;
    search->used[gpu] ^= flag;
    search_gpu(search, gpu, step, back, how);
    search->used[gpu] ^= flag;
    go(search, from, gpu_node(search, gpu), -1);
}

/* Whether what has been placed is better than the best. */
static bool is_better(const tdm_nccl_try *search)
{
    const tdm_nccl_graph *now = &search->now, *best = &search->best;
    if (now->n_channels < search->min_channels)
        return false;
    if (now->pattern == TDM_NCCL_PATTERN_NVLS)
        return (now->n_channels > best->n_channels && (int)now->n_channels <= n_gpus(search)) ||
               now->n_channels * now->bw_inter > best->n_channels * best->bw_inter;
    double speed = now->n_channels * now->bw_intra, old = best->n_channels * best->bw_intra;
    if (speed != old)
        return speed > old;
    return now->pattern == best->pattern && now->cross_nic == best->cross_nic &&
           now->n_hops < best->n_hops;
}

static void finish_channel(tdm_nccl_try *search)
{
    search->now.n_channels++;
    if (is_better(search)) {
        search->best = search->now;
        size_t n = search->now.n_channels;
        memcpy(search->best_order, search->now_order,
               n * (size_t)n_gpus(search) * sizeof *search->now_order);
        memcpy(search->best_adapters, search->now_adapters, n * 2 * sizeof *search->now_adapters);
        if (search->now.n_channels == search->max_channels)
            search->steps_left = -1;
    }
    if (search->now.n_channels < search->max_channels)
        search_channel(search);
    search->now.n_channels--;
}

typedef struct score {
    uint16_t gpu;
    int start, hops, bw, net_hops, net_pcie_bw, net_bw;
} score;

static int by_score(const void *a, const void *b)
{
    const score *x = a, *y = b;
    if (x->net_bw != y->net_bw)
        return y->net_bw - x->net_bw;
    if (x->net_pcie_bw != y->net_pcie_bw)
        return y->net_pcie_bw - x->net_pcie_bw;
    if (x->net_hops != y->net_hops)
        return x->net_hops - y->net_hops;
    if (x->bw != y->bw)
        return y->bw - x->bw;
    if (x->hops != y->hops)
        return x->hops - y->hops;
    return x->start - y->start;
}

/* A GPU's own PCIe link, -1: it has none. */
static int pcie_bw_of(const tdm_nccl_try *search, uint32_t gpu)
{
    const tdm_nccl_node *node = &search->view->nodes[gpu_node(search, gpu)];
    for (uint32_t l = node->first_link; l < node->first_link + node->n_links; l++)
        if (search->view->links[l].is_pcie)
            return (int)fmin(search->link_bw[l], search->link_bw[search->view->links[l].back]);
    return -1;
}

/* On NVSwitch only the neighbours by number are tried, so that a GPU has few peers. */
static int only_neighbours(const tdm_nccl_try *search, uint32_t gpu, uint16_t *next, int n)
{
    int all = n_gpus(search), n_kept = 0, n_wanted = 2;
    uint16_t before = (uint16_t)(((int)gpu + all - 1) % all);
    uint16_t after = (uint16_t)(((int)gpu + 1) % all);
    uint16_t wanted[2] = {after, before};
    if (search->now.pattern == TDM_NCCL_PATTERN_BALANCED_TREE) {
        wanted[0] = before;
        wanted[1] = after;
    } else if (search->now.pattern != TDM_NCCL_PATTERN_RING) {
        n_wanted = 1;
    }
    if (before == after)
        n_wanted = 1;
    for (int w = 0; w < n_wanted; w++) {
        int i = 0;
        while (i < n && next[i] != wanted[w])
            i++;
        if (i == n)
            continue;
        memmove(next + 1, next, (size_t)i * sizeof *next);
        next[0] = wanted[w];
        n_kept++;
    }
    return n_kept;
}

/* The GPUs to try after this one, best first. near_net: 1 when the next one goes back to the
 * network, -1 when a later one does, 0 when none. */
static int next_gpus(const tdm_nccl_try *search, uint32_t gpu, int near_net, uint16_t *next)
{
    const tdm_nccl_view *view = search->view;
    score scores[TDM_NCCL_MAX_LOCAL];
    uint64_t flag = UINT64_C(1) << search->now.n_channels;
    int n = 0, all = n_gpus(search);
    bool alike = true;
    for (int i = 1; i < all; i++) {
        uint32_t g = (gpu + (uint32_t)i) % (uint32_t)all;
        const tdm_nccl_path *path =
            tdm_nccl_path_of(view, gpu_node(search, gpu), gpu_node(search, g));
        if (path->n_links == 0 || (search->used[g] & flag))
            continue;
        score *s = &scores[n++];
        *s = (score){
            .gpu = (uint16_t)g, .start = i, .hops = (int)path->n_links, .bw = (int)path->bw};
        if (near_net != 0) {
            uint32_t port = search->now_adapters[2 * search->now.n_channels];
            const tdm_nccl_path *net =
                tdm_nccl_path_of(view, port_node(search, port), gpu_node(search, g));
            s->net_hops = (int)net->n_links;
            s->net_pcie_bw = pcie_bw_of(search, g);
            s->net_bw = (int)net->bw;
        }
        alike = alike && s->bw == scores[0].bw && s->hops == scores[0].hops;
    }
    qsort(scores, (size_t)n, sizeof *scores, by_score);
    bool reversed = near_net == -1 && alike;
    for (int i = 0; i < n; i++)
        next[i] = scores[reversed ? n - 1 - i : i].gpu;
    return view->n_of[TDM_NCCL_NVS] > 0 ? only_neighbours(search, gpu, next, n) : n;
}

static bool contains(const uint16_t *list, uint32_t n, uint32_t value)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == value)
            return true;
    return false;
}

/* Adapters to try: those NCCL gives to the GPU (-1: to any), then others by reach. */
static uint16_t list_ports(const tdm_nccl_try *search, int gpu, uint16_t *ports)
{
    const tdm_nccl_view *view = search->view;
    uint32_t n = 0, n_ports = view->n_of[TDM_NCCL_PORT], first_gpu = gpu < 0 ? 0 : (uint32_t)gpu;
    uint32_t end_gpu = gpu < 0 ? (uint32_t)n_gpus(search) : first_gpu + 1;
    for (uint32_t g = first_gpu; g < end_gpu; g++)
        for (uint32_t i = 0; i < view->n_gpu_ports[g]; i++)
            if (!contains(ports, n, view->gpu_ports[g * n_ports + i]))
                ports[n++] = view->gpu_ports[g * n_ports + i];
    for (uint32_t reach = 0; reach <= search->now.inter; reach++)
        for (uint32_t g = first_gpu; g < end_gpu; g++)
            for (uint32_t p = 0; p < n_ports; p++)
                if (tdm_nccl_path_of(view, gpu_node(search, g), port_node(search, p))->reach ==
                        reach &&
                    !contains(ports, n, p))
                    ports[n++] = (uint16_t)p;
    return (uint16_t)n;
}

/* The list of a GPU, or of all for -1, which hold for one speed. */
static const uint16_t *picked_ports(const tdm_nccl_try *search, int gpu, uint32_t *n)
{
    *n = search->n_picked[gpu + 1];
    return &search->picked[(size_t)(gpu + 1) * search->view->n_of[TDM_NCCL_PORT]];
}

/* Whether a channel that came from adapter `start` may leave by adapter `port`. */
static bool may_leave(const tdm_nccl_try *search, uint32_t port, int step)
{
    const uint16_t *own = &search->now_adapters[2 * search->now.n_channels];
    switch (search->now.pattern) {
    case TDM_NCCL_PATTERN_TREE:
        if (port != own[0])
            return false;
        break;
    case TDM_NCCL_PATTERN_RING:
        if (search->now.cross_nic == 2)
            return !(search->now.n_channels & 1) || port == own[-2];
        break;
    case TDM_NCCL_PATTERN_BALANCED_TREE:
        if (step > 0 && port != own[1])
            return false;
        break;
    default:
        break;
    }
    return search->now.cross_nic != 0 || port == own[0];
}

/* From a GPU back to the network. In a balanced tree the first two GPUs share the way, half each.
 */
static void search_way_out(tdm_nccl_try *search, uint32_t gpu, int step, returns back, order how)
{
    uint32_t n;
    const uint16_t *ports = picked_ports(search, (int)gpu, &n);
    bool balanced = search->now.pattern == TDM_NCCL_PATTERN_BALANCED_TREE;
    double full = search->now.bw_inter;
    returns next = {.to_net = balanced && step == 0 ? 1 : -1, .to_first = back.to_first};
    for (uint32_t i = 0; i < n; i++) {
        if (!may_leave(search, ports[i], step))
            continue;
        search->now.bw_inter = balanced ? full / 2 : full;
        bool went = go(search, gpu_node(search, gpu), port_node(search, ports[i]), 1);
        search->now.bw_inter = full;
        if (!went)
            continue;
        search->now_adapters[2 * search->now.n_channels + 1] = ports[i];
        search_gpu(search, gpu, step, next, how);
        search->now.bw_inter = balanced ? full / 2 : full;
        go(search, gpu_node(search, gpu), port_node(search, ports[i]), -1);
        search->now.bw_inter = full;
    }
}

/* A head of NVLS: twice the speed on its own link, once on every other, both ways. */
static void search_head(tdm_nccl_try *search, uint32_t head)
{
    uint32_t nvs = search->view->of[TDM_NCCL_NVS][0], all = (uint32_t)n_gpus(search);
    uint32_t down = 0, up = 0;
    while (down < all && go(search, nvs, gpu_node(search, down), down == head ? 2 : 1))
        down++;
    while (down == all && up < all && go(search, gpu_node(search, up), nvs, up == head ? 2 : 1))
        up++;
    if (up == all)
        search_gpu(search, head, (int)all, (returns){-1, -1}, ORDER_BY_SCORE);
    while (up-- > 0)
        go(search, gpu_node(search, up), nvs, up == head ? -2 : -1);
    while (down-- > 0)
        go(search, nvs, gpu_node(search, down), down == head ? -2 : -1);
}

static void search_next(tdm_nccl_try *search, uint32_t gpu, int step, returns back, order how)
{
    uint16_t next[TDM_NCCL_MAX_LOCAL];
    int n = 1, all = n_gpus(search);
    if (how == ORDER_AS_NUMBERED)
        next[0] = (uint16_t)(step + 1);
    else if (how == ORDER_OF_LAST_CHANNEL)
        next[0] = search->now_order[((int)search->now.n_channels - 1) * all + step + 1];
    else
        n = next_gpus(search, gpu, back.to_net == -1 ? 0 : back.to_net == step + 1 ? 1 : -1, next);
    for (int i = 0; i < n; i++)
        try_gpu(search, gpu_node(search, gpu), next[i], step + 1, back, how);
}

static void search_gpu(tdm_nccl_try *search, uint32_t gpu, int step, returns back, order how)
{
    int all = n_gpus(search);
    if (search->steps_left <= 0)
        return;
    search->steps_left--;
    if (step == all) {
        finish_channel(search);
        return;
    }
    uint16_t *own = &search->now_order[(int)search->now.n_channels * all];
    own[step] = (uint16_t)gpu;
    if (step == back.to_net) {
        search_way_out(search, gpu, step, back, how);
    } else if (search->now.pattern == TDM_NCCL_PATTERN_NVLS) {
        search_head(search, gpu);
    } else if (step < all - 1) {
        search_next(search, gpu, step, back, how);
    } else if (step == back.to_first) {
        if (!go(search, gpu_node(search, gpu), gpu_node(search, own[0]), 1))
            return;
        search_gpu(search, own[0], step + 1, (returns){back.to_net, -1}, how);
        go(search, gpu_node(search, gpu), gpu_node(search, own[0]), -1);
    } else {
        search_gpu(search, gpu, all, (returns){-1, -1}, how);
    }
}

static void search_head_from(tdm_nccl_try *search, uint32_t port, uint32_t n_ports, returns back,
                             bool *found)
{
    int gpu = search->view->nodes[port_node(search, port)].local_gpu;
    if (search->now.n_channels >= n_ports || gpu < 0)
        return;
    for (uint32_t c = 0; c < search->now.n_channels; c++)
        if (search->now_order[c * (uint32_t)n_gpus(search)] == gpu)
            return;
    try_gpu(search, port_node(search, port), (uint32_t)gpu, 0, back, ORDER_BY_SCORE);
    *found = true;
}

static void search_from(tdm_nccl_try *search, uint32_t port, returns back)
{
    uint16_t local[TDM_NCCL_MAX_LOCAL];
    uint32_t node = port_node(search, port), channel = search->now.n_channels;
    int preferred = search->view->nodes[node].local_gpu;
    if (channel > 0 && search->now.same_channels) {
        uint32_t first = search->now_order[(channel - 1) * (uint32_t)n_gpus(search)];
        try_gpu(search, node, first, 0, back, ORDER_OF_LAST_CHANNEL);
        return;
    }
    if (channel == 0 && search->view->n_of[TDM_NCCL_NVS] == 0) {
        int outer = search->steps_left; /* a reference that does not count */
        search->steps_left = 1 << 10;
        try_gpu(search, node, 0, 0, back, ORDER_AS_NUMBERED);
        search->steps_left = search->steps_left == -1 ? -1 : outer;
    }
    if (preferred >= 0)
        try_gpu(search, node, (uint32_t)preferred, 0, back, ORDER_BY_SCORE);
    uint32_t n = tdm_nccl_nearest(search->view, node, TDM_NCCL_GPU, local);
    for (uint32_t i = 0; i < n; i++)
        if (local[i] != preferred)
            try_gpu(search, node, local[i], 0, back, ORDER_BY_SCORE);
}

static void search_from_network(tdm_nccl_try *search, returns back)
{
    uint32_t n, channel = search->now.n_channels;
    const uint16_t *ports = picked_ports(search, -1, &n);
    double bw = floor(search->now.bw_inter); /* NCCL keeps it in an integer here */
    bool is_nvls = search->now.pattern == TDM_NCCL_PATTERN_NVLS, found = false;
    for (uint32_t i = 0; i < n && !(is_nvls && found); i++) {
        uint32_t port = ports[(channel + i) % n];
        if (search->port_bw[port] < bw)
            continue;
        if (search->now.pattern == TDM_NCCL_PATTERN_RING && search->now.cross_nic == 2 &&
            (channel & 1) && port != search->now_adapters[2 * (channel - 1) + 1])
            continue;
        search->now_adapters[2 * channel] = (uint16_t)port;
        search->now.latency_inter_us = search->view->nodes[port_node(search, port)].latency_us;
        search->port_bw[port] -= bw;
        if (is_nvls)
            search_head_from(search, port, n, back, &found);
        else
            search_from(search, port, back);
        search->port_bw[port] += bw;
    }
}

static void search_channel(tdm_nccl_try *search)
{
    int all = n_gpus(search);
    bool is_ring = search->now.pattern == TDM_NCCL_PATTERN_RING;
    uint32_t channel = search->now.n_channels;
    if (search->view->n_of[TDM_NCCL_PORT] > 0) {
        search_from_network(search, (returns){is_ring ? all - 1 : 0, -1});
        return;
    }
    returns back = {-1, is_ring ? all - 1 : -1};
    if (search->now.pattern == TDM_NCCL_PATTERN_NVLS) {
        try_gpu(search, NOWHERE, channel, 0, back, ORDER_BY_SCORE);
        return;
    }
    if (channel == 0)
        try_gpu(search, NOWHERE, 0, 0, back, ORDER_AS_NUMBERED);
    else
        try_gpu(search, NOWHERE, search->now_order[((int)channel - 1) * all], 0, back,
                ORDER_OF_LAST_CHANNEL);
    for (int g = 0; g < all && (!search->now.same_channels || channel == 0); g++)
        try_gpu(search, NOWHERE, (uint32_t)g, 0, back, ORDER_BY_SCORE);
}

void tdm_nccl_try_speed(tdm_nccl_try *search)
{
    size_t n_ports = search->view->n_of[TDM_NCCL_PORT];
    search->now.n_channels = 0;
    for (int g = -1; g < n_gpus(search) && n_ports > 0; g++)
        search->n_picked[g + 1] = list_ports(search, g, &search->picked[(size_t)(g + 1) * n_ports]);
    search_channel(search);
}
