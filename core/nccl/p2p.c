/* p2p.c: sends and receives. NCCL predicts no time for them; the links do. */
#include "core/nccl/p2p.h"

#include <math.h>

static double smaller(double a, double b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

/* GB/s of each GPU when every pair of the node exchanges the same. */
static double all_pairs(tdm_arena *arena, const tdm_nccl_view *view)
{
    uint32_t n = view->n_of[TDM_NCCL_GPU];
    double *load = TDM_ALLOC(arena, double, view->n_links + 1), best = INFINITY;
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++) {
            const tdm_nccl_path *path =
                tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][a], view->of[TDM_NCCL_GPU][b]);
            for (uint32_t l = 0; a != b && l < path->n_links; l++)
                load[path->links[l]]++;
        }
    for (uint32_t l = 0; l < view->n_links; l++)
        if (load[l] > 0)
            best = fmin(best, view->links[l].bw / load[l]);
    return isinf(best) ? 0 : best * (n - 1);
}

/* GB/s from one GPU into the network: its share of the adapters nearest to it, and its own way to
 * them. */
static double into_network(const tdm_nccl_view *view, uint32_t gpu, double *latency_us)
{
    uint16_t ports[TDM_NCCL_MAX_LOCAL], gpus[TDM_NCCL_MAX_LOCAL];
    uint32_t n = tdm_nccl_nearest(view, gpu, TDM_NCCL_PORT, ports);
    double share = 0, way = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t port = view->of[TDM_NCCL_PORT][ports[i]];
        share += view->nodes[port].bw / tdm_nccl_nearest(view, port, TDM_NCCL_GPU, gpus);
        way = fmax(way, tdm_nccl_path_of(view, gpu, port)->bw);
        *latency_us = fmax(*latency_us, view->nodes[port].latency_us);
    }
    return n ? fmin(share, fmax(way, share / n)) : 0;
}

static uint32_t channels_to(const tdm_nccl_view *view, const tdm_nccl_path *path, uint32_t gpu)
{
    if (path->reach != TDM_NCCL_NVL)
        return 2;
    double links = floor(path->bw / tdm_nccl_nvlink_bw(view->nodes[gpu].sm) + 1e-6);
    return 2 * (links > 1 ? (uint32_t)links : 1);
}

void tdm_nccl_p2p_measure(tdm_arena *arena, const tdm_nccl_view *view, tdm_nccl_comm *comm)
{
    for (uint32_t a = 0; a < view->n_of[TDM_NCCL_GPU]; a++) {
        uint32_t gpu = view->of[TDM_NCCL_GPU][a];
        for (uint32_t b = 0; b < view->n_of[TDM_NCCL_GPU]; b++) {
            const tdm_nccl_path *path = tdm_nccl_path_of(view, view->of[TDM_NCCL_GPU][b], gpu);
            if (a == b)
                continue;
            uint32_t n = channels_to(view, path, gpu);
            if (comm->p2p_per_peer == 0 || n < comm->p2p_per_peer)
                comm->p2p_per_peer = n;
            comm->pair_bw = smaller(comm->pair_bw, path->bw);
            comm->local_reach = path->reach > comm->local_reach ? path->reach : comm->local_reach;
        }
        if (view->n_of[TDM_NCCL_PORT] > 0)
            comm->network_bw =
                smaller(comm->network_bw, into_network(view, gpu, &comm->network_latency_us));
    }
    comm->all_pairs_bw = smaller(comm->all_pairs_bw, all_pairs(arena, view));
}

static uint32_t power_of_two_up(uint32_t n)
{
    uint32_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

void tdm_nccl_p2p_channels(tdm_nccl_comm *comm)
{
    const tdm_nccl_settings *s = &comm->settings;
    uint32_t n = comm->n_channels < s->max_p2p_channels ? comm->n_channels : s->max_p2p_channels;
    n = n > s->min_p2p_channels ? n : s->min_p2p_channels;
    uint32_t per_peer = n;
    if (comm->p2p_per_peer > 0 && comm->p2p_per_peer < per_peer)
        per_peer = comm->p2p_per_peer;
    if (comm->n_nodes > 1) {
        uint32_t net = 2;
        while (net * comm->n_ranks > 4 * n && net > 1)
            net /= 2;
        per_peer = net < per_peer ? net : per_peer;
    }
    comm->p2p_channels = power_of_two_up(n);
    per_peer = power_of_two_up(per_peer);
    comm->p2p_per_peer = per_peer < comm->p2p_channels ? per_peer : comm->p2p_channels;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b > 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

void tdm_nccl_p2p_rounds(const tdm_nccl_comm *comm, uint32_t rank, uint32_t *send_to,
                         uint32_t *receive_from)
{
    uint32_t local = comm->n_ranks / comm->n_nodes;
    uint32_t size = comm->n_nodes == 1 ? comm->n_ranks : common_divisor(8, local);
    if (comm->n_ranks % size != 0) /* nodes of several sizes: one flat order */
        size = 1;
    uint32_t n_groups = comm->n_ranks / size, power = power_of_two_up(n_groups);
    uint32_t group = rank / size, at = rank % size, round = 0, delta = 0;
    for (uint32_t step = 0; step < power; delta = (delta + ++step) & (power - 1)) {
        if (delta >= n_groups)
            continue;
        for (uint32_t d = 0; d < size; d++, round++) {
            send_to[round] = (group + delta) % n_groups * size + (at + d) % size;
            receive_from[round] =
                (group + n_groups - delta) % n_groups * size + (at + size - d) % size;
        }
    }
}

void tdm_nccl_p2p_choose(const tdm_nccl_comm *comm, uint64_t bytes, bool over_network,
                         tdm_nccl_pick *pick)
{
    const tdm_nccl_settings *s = &comm->settings;
    uint64_t step = over_network                        ? s->p2p_chunk_net
                    : comm->local_reach <= TDM_NCCL_NVL ? s->p2p_chunk_nvl
                                                        : s->p2p_chunk_pci;
    uint64_t buffer = s->buffer_bytes[TDM_NCCL_SIMPLE];
    step = buffer > 0 && buffer / 8 < step ? buffer / 8 : step;
    uint64_t min_part = comm->n_nodes == 1 ? step / 8 : step / 2;
    uint64_t max_part = comm->n_nodes == 1 ? 32 * step : step;
    uint32_t most = comm->p2p_per_peer, n = most;
    while (n * comm->n_ranks > comm->p2p_channels && n > 1)
        n /= 2;
    uint64_t part = tdm_ceil_div(bytes, n);
    part = part > min_part ? part : min_part;
    while (part > max_part && n <= most / 2) {
        n *= 2;
        part = tdm_ceil_div(bytes, n);
    }
    uint32_t used = (uint32_t)tdm_ceil_div(bytes, part ? part : 1);
    bool is_ll = !over_network && bytes <= most * s->p2p_ll_threshold;
    if (over_network)
        step = bytes < step ? step / 4 : bytes < 8 * step ? step / 2 : step;
    *pick = (tdm_nccl_pick){.algo = TDM_NCCL_P2P,
                            .proto = is_ll ? TDM_NCCL_LL : TDM_NCCL_SIMPLE,
                            .n_channels = used > 0 ? (used < n ? used : n) : 1,
                            .n_threads = 512,
                            .chunk_bytes = is_ll ? step / 2 : step};
}

double tdm_nccl_p2p_bw(const tdm_nccl_comm *comm, double share_out)
{
    double inside = comm->all_pairs_bw, out = comm->network_bw, bw = INFINITY;
    if (share_out < 1 && inside > 0)
        bw = inside / (1 - share_out);
    if (share_out > 0 && out > 0)
        bw = fmin(bw, out / share_out);
    return isinf(bw) ? 0 : bw;
}
