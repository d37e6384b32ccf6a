/* tuning.c: the table of latencies and bandwidths, and the choice by predicted time. */
#include "core/nccl/tuning.h"

#include <math.h>
#include <string.h>

const tdm_nccl_algorithm *tdm_nccl_algorithm_find(tdm_nccl_algo algo)
{
    for (const tdm_nccl_algorithm *const *it = tdm_nccl_algorithms; *it; it++)
        if ((*it)->algo == algo)
            return *it;
    return NULL;
}

/* GB/s of LL on all channels. On one node the row is that of the GPU, on several that of the
 * processor: AMD or several kinds have the second, others the first. (llMaxBws) */
static double ll_max_bw(const tdm_nccl_comm *comm, tdm_nccl_generation generation,
                        uint32_t by_nodes)
{
    static const double table[TDM_NCCL_N_GENERATIONS][3] = {
        {39, 39, 20.4}, {87.7, 22.5, 19}, {141, 45, 35}, {282, 90, 70}};
    if (comm->n_nodes == 1)
        return table[generation][by_nodes];
    return table[comm->vendor == TDM_CPU_AMD ? TDM_NCCL_AMPERE : TDM_NCCL_VOLTA][by_nodes];
}

static double net_overhead_us(const tdm_nccl_comm *comm, tdm_nccl_proto proto)
{
    double us = comm->settings.net_overhead_us;
    if (comm->n_nodes == 1)
        return 0;
    if (us < 0)
        us = comm->vendor == TDM_CPU_AMD ? 2 : 1;
    return proto == TDM_NCCL_SIMPLE ? 3 * us : us;
}

tdm_nccl_case tdm_nccl_case_of(const tdm_nccl_comm *comm, const tdm_nccl_algorithm *algorithm,
                               tdm_nccl_func func, tdm_nccl_proto proto)
{
    uint32_t n = comm->n_ranks;
    tdm_nccl_case it = {.comm = comm,
                        .func = func,
                        .proto = proto,
                        .generation = tdm_nccl_generation_of(comm->min_sm),
                        .by_nodes = comm->n_nodes > 2 ? 2 : comm->n_nodes - 1};
    const tdm_nccl_graph *graph = algorithm->graph(comm);
    const tdm_nccl_algorithm *wire = algorithm;
    if (n == comm->n_nodes) /* one GPU per node: what leaves also arrives at the same GPU */
        wire = tdm_nccl_algorithm_find(TDM_NCCL_TREE);
    it.n_steps = func == TDM_NCCL_ALL_REDUCE                                      ? 2 * (n - 1)
                 : func == TDM_NCCL_REDUCE_SCATTER || func == TDM_NCCL_ALL_GATHER ? n - 1
                                                                                  : n;
    it.intra_us =
        graph->intra == TDM_NCCL_NVL ? algorithm->nvlink_us[proto] : algorithm->pcie_us[proto];
    it.inter_us = wire->net_us[proto] + graph->latency_inter_us;
    if (proto == TDM_NCCL_SIMPLE)
        it.inter_us += graph->latency_inter_us; /* the flush */
    it.net_overhead_us = net_overhead_us(comm, proto);
    it.ll_max_bw = ll_max_bw(comm, it.generation, it.by_nodes);
    return it;
}

/* LL128 needs stores of 128 bytes that arrive whole. */
static bool may_use_ll128(const tdm_nccl_comm *comm, const tdm_nccl_graph *graph)
{
    tdm_nccl_reach far = comm->min_sm >= 90 ? TDM_NCCL_PXN : TDM_NCCL_PXB;
    return graph->inter <= far && graph->intra <= TDM_NCCL_NVB && comm->min_sm == comm->max_sm &&
           comm->min_sm >= 70;
}

static void tune(tdm_nccl_comm *comm, const tdm_nccl_algorithm *algorithm, tdm_nccl_func func,
                 tdm_nccl_proto proto)
{
    const tdm_nccl_settings *settings = &comm->settings;
    tdm_nccl_case it = tdm_nccl_case_of(comm, algorithm, func, proto);
    tdm_nccl_algo algo = algorithm->algo;
    if (!settings->algo[func][algo] || !settings->proto[func][proto])
        return;
    if (proto == TDM_NCCL_LL128 && !settings->force_ll128 &&
        !may_use_ll128(comm, algorithm->graph(comm)))
        return;
    comm->bw[func][algo][proto] = algorithm->bandwidth(&it);
    comm->latency_us[func][algo][proto] = algorithm->base_us[proto] + algorithm->latency(&it);
}

void tdm_nccl_tune(tdm_nccl_comm *comm)
{
    memset(comm->bw, 0, sizeof comm->bw);
    memset(comm->latency_us, 0, sizeof comm->latency_us);
    if (comm->n_ranks < 2)
        return;
    for (const tdm_nccl_algorithm *const *it = tdm_nccl_algorithms; *it; it++)
        for (int func = 0; func < TDM_NCCL_N_TUNED; func++)
            for (int proto = 0; proto < TDM_NCCL_N_PROTOS; proto++)
                tune(comm, *it, (tdm_nccl_func)func, (tdm_nccl_proto)proto);
}

/* treeCorrectionFactor, by powers of two from 64 B: trees fall short of the model between. */
static double tree_share(tdm_nccl_proto proto, uint64_t bytes)
{
    static const double table[TDM_NCCL_N_PROTOS][23] = {
        {1, 1, 1, 1, .9, .8, .7, .7, .7, .7, .6, .5, .4, .4, .5, .6, .7, .8, .9, 1, 1, 1, 1},
        {1, 1, 1, 1, 1, .9, .8, .8, .8, .7, .6, .6, .6, .6, .6, .6, .8, .9, .9, .9, .9, 1, 1},
        {.9, .9, .9, .9, .9, .9, .9, .8, .7, .6, .6, .5,
         .5, .5, .5, .6, .7, .8, .7, .7, .8, .9, .9},
    };
    uint32_t power = 0;
    for (uint64_t rest = bytes >> 6; rest > 1; rest >>= 1)
        power++;
    return power < TDM_COUNT(table[0]) ? table[proto][power] : 1;
}

double tdm_nccl_predict_us(const tdm_nccl_comm *comm, tdm_nccl_func func, tdm_nccl_algo algo,
                           tdm_nccl_proto proto, uint64_t bytes)
{
    double bw = comm->bw[func][algo][proto], latency = comm->latency_us[func][algo][proto];
    if (comm->n_ranks == 1)
        return algo == TDM_NCCL_RING && proto == TDM_NCCL_SIMPLE ? 0 : -1;
    if (bw <= 0)
        return -1;
    if (algo == TDM_NCCL_TREE && func == TDM_NCCL_ALL_REDUCE)
        bw *= tree_share(proto, bytes);
    if (algo == TDM_NCCL_RING && proto == TDM_NCCL_SIMPLE && comm->n_nodes > 1 &&
        func == TDM_NCCL_ALL_REDUCE && bytes / ((uint64_t)comm->n_channels * comm->n_ranks) >= 64)
        latency *= comm->min_sm < 80 ? 1.9 : 1.4; /* the ring's plateau */
    return latency + (double)bytes / (1000 * bw);
}

static uint32_t max_threads(const tdm_nccl_comm *comm, tdm_nccl_algo algo, tdm_nccl_proto proto)
{
    const tdm_nccl_settings *s = &comm->settings;
    if (proto == TDM_NCCL_LL128)
        return s->ll128_threads ? s->ll128_threads : 640;
    if (s->threads)
        return s->threads;
    bool slow = comm->ring.bw_intra * comm->ring.n_channels <= 12; /* PCI_BW */
    return algo == TDM_NCCL_RING && proto == TDM_NCCL_SIMPLE && slow ? 256 : 512;
}

/* Fewer channels for small sizes, then fewer threads; a channel gets at least 16 KiB of traffic. */
static void choose_channels(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                            tdm_nccl_pick *pick)
{
    uint32_t threads = max_threads(comm, pick->algo, pick->proto);
    bool is_nvls = pick->algo == TDM_NCCL_NVLS || pick->algo == TDM_NCCL_NVLS_TREE;
    uint64_t threshold = pick->proto == TDM_NCCL_SIMPLE ? 64 : 8;
    uint32_t n = is_nvls ? comm->nvls_channels : comm->n_channels;
    if (pick->algo == TDM_NCCL_RING && pick->proto == TDM_NCCL_LL)
        threshold *= comm->n_ranks;
    while (!is_nvls && n >= 2 && bytes < n * threads * threshold)
        n--;
    while (!is_nvls && bytes < n * threads * threshold && threads % 128 == 0)
        threads /= 2;
    if (pick->proto == TDM_NCCL_SIMPLE && pick->algo == TDM_NCCL_RING)
        threads += 32; /* a warp for synchronisation */
    if (pick->algo == TDM_NCCL_TREE || pick->algo == TDM_NCCL_PAT)
        threads = pick->proto == TDM_NCCL_LL128 ? 640 : 640;
    pick->n_threads = threads < 96 ? 96 : threads;
    uint64_t per_rank = func == TDM_NCCL_ALL_GATHER || func == TDM_NCCL_REDUCE_SCATTER
                            ? bytes / comm->n_ranks
                            : bytes;
    uint64_t traffic = func == TDM_NCCL_ALL_REDUCE ? 2 * bytes
                       : per_rank == bytes         ? bytes
                                                   : per_rank * comm->n_ranks;
    uint64_t cells = tdm_ceil_div(traffic ? traffic : 1, 16384);
    pick->n_channels = cells < n ? (uint32_t)cells : n;
}

/* Bytes that one channel hands on at once. */
static uint64_t chunk_bytes(const tdm_nccl_comm *comm, const tdm_nccl_pick *pick)
{
    static const uint64_t defaults[TDM_NCCL_N_PROTOS] = {8 * 512 * 8 * 16, 640 * 15 * 8 * 8 * 8,
                                                         1 << 22}; /* buffers of 8 steps, init.cc */
    uint64_t buffer = comm->settings.buffer_bytes[pick->proto];
    uint64_t step = (buffer ? buffer : defaults[pick->proto]) / 8;
    if (pick->algo == TDM_NCCL_NVLS || pick->algo == TDM_NCCL_NVLS_TREE)
        return 128 * 1024; /* NCCL_NVLS_CHUNKSIZE */
    if (pick->proto == TDM_NCCL_SIMPLE)
        return pick->algo == TDM_NCCL_RING ? 4 * step : step;
    return pick->proto == TDM_NCCL_LL ? step / 2 : step * 15 / 16;
}

static tdm_code none_left(const tdm_nccl_comm *comm, tdm_nccl_func func, tdm_error *err)
{
    const tdm_nccl_settings *s = &comm->settings;
    bool collnet = s->algo_given && (s->algo[func][TDM_NCCL_COLLNET_DIRECT] ||
                                     s->algo[func][TDM_NCCL_COLLNET_CHAIN]);
    return tdm_error_add(
        err, TDM_E_INVALID, "%s: nothing is left for %s on %u ranks of %u node%s%s%s", comm->name,
        tdm_nccl_func_name(func), comm->n_ranks, comm->n_nodes, comm->n_nodes == 1 ? "" : "s",
        s->algo_given && s->proto_given ? " with this NCCL_ALGO and NCCL_PROTO"
        : s->algo_given                 ? " with this NCCL_ALGO"
        : s->proto_given                ? " with this NCCL_PROTO"
                                        : "",
        collnet ? "; CollNet needs a plugin (SHARP), which is not modelled" : "");
}

tdm_code tdm_nccl_choose(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                         tdm_nccl_pick *pick, tdm_error *err)
{
    tdm_nccl_pick best = {.predicted_us = INFINITY};
    for (int algo = 0; algo < TDM_NCCL_N_ALGOS; algo++)
        for (int proto = 0; proto < TDM_NCCL_N_PROTOS; proto++) {
            double us =
                tdm_nccl_predict_us(comm, func, (tdm_nccl_algo)algo, (tdm_nccl_proto)proto, bytes);
            if (us < 0 || us >= best.predicted_us)
                continue;
            best.algo = (tdm_nccl_algo)algo;
            best.proto = (tdm_nccl_proto)proto;
            best.predicted_us = us;
        }
    if (isinf(best.predicted_us))
        return none_left(comm, func, err);
    choose_channels(comm, func, bytes, &best);
    best.chunk_bytes = chunk_bytes(comm, &best);
    *pick = best;
    return TDM_OK;
}
