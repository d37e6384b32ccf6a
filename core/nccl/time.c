/* time.c: the parts of an operation's time, and their sum. */
#include "core/nccl/time.h"

#include <math.h>
#include <stdlib.h>

/* Latency of sends: a round trip of the protocol between neighbours, as in a ring of one step. */
static double p2p_latency_us(const tdm_nccl_comm *comm, tdm_nccl_proto proto, bool over_network)
{
    const tdm_nccl_algorithm *ring = tdm_nccl_algorithm_find(TDM_NCCL_RING);
    double step = comm->local_reach <= TDM_NCCL_NVL ? ring->nvlink_us[proto] : ring->pcie_us[proto];
    if (over_network)
        step = ring->net_us[proto] + comm->network_latency_us;
    return ring->base_us[proto] + step;
}

static void p2p_parts(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                      tdm_nccl_cost *cost, double *steps)
{
    double n = comm->n_ranks, local = comm->min_local;
    bool over_network = comm->n_nodes > 1;
    if (func == TDM_NCCL_SEND_RECV) {
        double bw = comm->pair_bw;
        if (over_network && (bw == 0 || comm->network_bw < bw))
            bw = comm->network_bw;
        tdm_nccl_p2p_choose(comm, bytes, over_network, &cost->pick);
        cost->bytes_per_s = bw * 1e9;
        *steps = 0;
    } else {
        double sent = (n - 1) / n;
        double share_out = (n - local) / (n - 1);
        uint64_t per_peer = bytes / comm->n_ranks;
        tdm_nccl_p2p_choose(comm, per_peer, over_network, &cost->pick);
        uint64_t channels = (uint64_t)cost->pick.n_channels * comm->n_ranks;
        cost->pick.n_channels =
            channels < comm->p2p_channels ? (uint32_t)channels : comm->p2p_channels;
        cost->bytes_per_s = tdm_nccl_p2p_bw(comm, share_out) / sent * 1e9;
        *steps = n - 1;
    }
    cost->latency_s = 1e-6 * p2p_latency_us(comm, cost->pick.proto, over_network);
    if (cost->pick.proto == TDM_NCCL_LL)
        cost->bytes_per_s /= 2;
}

double tdm_nccl_link_bytes(const tdm_nccl_cost *cost, double bytes)
{
    tdm_nccl_proto proto = cost->pick.proto;
    double wire = proto == TDM_NCCL_LL ? 2 : proto == TDM_NCCL_LL128 ? 128.0 / 120 : 1;
    return bytes * wire / cost->efficiency;
}

static void coll_parts(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                       tdm_nccl_cost *cost, double *steps)
{
    const tdm_nccl_pick *pick = &cost->pick;
    const tdm_nccl_algorithm *algorithm = tdm_nccl_algorithm_find(pick->algo);
    tdm_nccl_case it = tdm_nccl_case_of(comm, algorithm, func, pick->proto);
    double latency_us = comm->latency_us[func][pick->algo][pick->proto];
    double transfer_us = pick->predicted_us - latency_us;
    cost->latency_s = 1e-6 * latency_us;
    if (pick->algo == TDM_NCCL_RING && pick->proto == TDM_NCCL_SIMPLE)
        transfer_us = (double)bytes / (1000 * comm->bw[func][pick->algo][pick->proto]);
    cost->bytes_per_s = transfer_us > 0 ? (double)bytes / transfer_us * 1e6
                                        : 1e9 * comm->bw[func][pick->algo][pick->proto];
    cost->latency_s = 1e-6 * (pick->predicted_us - transfer_us);
    *steps = pick->algo == TDM_NCCL_RING && func != TDM_NCCL_BROADCAST && func != TDM_NCCL_REDUCE
                 ? it.n_steps
                 : 0;
}

tdm_code tdm_nccl_time_parts(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                             tdm_nccl_cost *cost, tdm_nccl_ramp_key *key, double *steps,
                             tdm_error *err)
{
    tdm_nccl_cost parts = {.ramp = 1, .efficiency = 1};
    if (comm->n_ranks < 2)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: one rank has nobody to talk to (NCCL only copies)", comm->name);
    if (func >= TDM_NCCL_N_TUNED) {
        p2p_parts(comm, func, bytes, &parts, steps);
    } else {
        tdm_code code = tdm_nccl_choose(comm, func, bytes, &parts.pick, err);
        if (code != TDM_OK)
            return code;
        coll_parts(comm, func, bytes, &parts, steps);
    }
    parts.time_s = parts.latency_s + (double)bytes / parts.bytes_per_s;
    *cost = parts;
    *key = (tdm_nccl_ramp_key){.generation = tdm_nccl_generation_of(comm->min_sm),
                               .algo = parts.pick.algo,
                               .proto = parts.pick.proto,
                               .all_reduce = func == TDM_NCCL_ALL_REDUCE,
                               .one_node = comm->n_nodes == 1};
    return TDM_OK;
}

void tdm_nccl_time_ramp(const tdm_nccl_comm *comm, uint64_t bytes, double steps,
                        const tdm_nccl_ramp *ramp, tdm_nccl_cost *cost)
{
    double x = (double)bytes / comm->n_ranks;
    cost->latency_s *= ramp->latency_share;
    cost->efficiency = ramp->efficiency / (1 + (steps > 0 ? ramp->own_steps / steps : 0));
    if (comm->site && comm->n_nodes > 1)
        cost->efficiency *= comm->site->network_efficiency.value;
    cost->bytes_per_s *= cost->efficiency;
    if (bytes > 0 && ramp->half_bytes > 0)
        cost->ramp = 1 / (1 + pow(ramp->half_bytes / x, ramp->power));
    cost->time_s = cost->latency_s + (double)bytes / (cost->bytes_per_s * cost->ramp);
}

tdm_code tdm_nccl_time(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                       tdm_nccl_cost *cost, tdm_error *err)
{
    tdm_nccl_ramp_key key;
    double steps = 0;
    tdm_code code = tdm_nccl_time_parts(comm, func, bytes, cost, &key, &steps, err);
    if (code != TDM_OK)
        return code;
    const tdm_nccl_ramp *own = tdm_nccl_site_find(comm->site, &key);
    tdm_nccl_time_ramp(comm, bytes, steps, own ? own : tdm_nccl_ramp_for(&key), cost);
    return TDM_OK;
}

double tdm_nccl_launch_s(const tdm_nccl_comm *comm)
{
    if (comm->site && comm->site->has_launch)
        return comm->site->launch_s.value;
    return tdm_nccl_default_launch_s(tdm_nccl_generation_of(comm->min_sm));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

tdm_code tdm_nccl_fit_launch(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                             const uint64_t *bytes, const double *time_s, uint32_t n,
                             double *launch_s, tdm_error *err)
{
    const uint64_t small = 65536;
    double *above = TDM_ALLOC(arena, double, n + 1);
    uint32_t n_small = 0, n_used = 0;
    for (uint32_t i = 0; i < n; i++)
        n_small += bytes[i] <= small;
    for (uint32_t i = 0; i < n; i++) {
        tdm_nccl_cost cost;
        uint32_t n_smaller = 0;
        for (uint32_t j = 0; j < n; j++)
            n_smaller += bytes[j] < bytes[i];
        if (n_small > 0 ? bytes[i] > small : n_smaller >= 3)
            continue;
        tdm_code code = tdm_nccl_time(comm, func, bytes[i], &cost, err);
        if (code != TDM_OK)
            return code;
        above[n_used++] = time_s[i] - cost.time_s;
    }
    qsort(above, n_used, sizeof *above, by_value);
    double median = n_used ? (above[(n_used - 1) / 2] + above[n_used / 2]) / 2 : 0;
    *launch_s = median > 0 ? median : 0;
    return TDM_OK;
}
