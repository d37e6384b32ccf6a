/* net_nccl.c: communication ops as NCCL carries them out. */
#include "net_parts.h"

#include <math.h>
#include <string.h>

static tdm_nccl_func func_of(tdm_op_kind kind)
{
    switch (kind) {
    case TDM_OP_ALL_REDUCE:
        return TDM_NCCL_ALL_REDUCE;
    case TDM_OP_ALL_GATHER:
        return TDM_NCCL_ALL_GATHER;
    case TDM_OP_REDUCE_SCATTER:
        return TDM_NCCL_REDUCE_SCATTER;
    case TDM_OP_BROADCAST:
        return TDM_NCCL_BROADCAST;
    default:
        return TDM_NCCL_ALL_TO_ALL;
    }
}

/* ---- groups ---- */

/* The communicator with its places, in scratch. */
static bool build(tdm_net *net, tdm_arena *scratch, const tdm_group *group, tdm_nccl_comm *comm)
{
    const tdm_topology *topology = net->topology;
    tdm_error *err = TDM_ALLOC(scratch, tdm_error, 1);
    uint32_t *ranks = TDM_ALLOC(scratch, uint32_t, group->size);
    for (uint32_t i = 0; i < group->size; i++)
        ranks[i] = tdm_group_member(group, i);
    if (tdm_nccl_comm_build_known(scratch, topology->graph, ranks, group->size, topology->nccl,
                                  topology->known, comm, err) != TDM_OK) {
        tdm_net_fail(net, err->text);
        return false;
    }
    comm->site = topology->graph->site;
    return true;
}

static void keep_traffic(tdm_net *net, const tdm_nccl_traffic *traffic, tdm_net_traffic *kept)
{
    kept->known = true;
    kept->parts = TDM_ALLOC(net->arena, tdm_net_part, traffic->n_parts + 1);
    for (uint32_t p = 0; p < traffic->n_parts; p++) {
        uint32_t path = tdm_net_intern(net, traffic->parts[p].links, traffic->parts[p].n_links);
        bool met = false; /* images of each other in a folded topology */
        for (uint32_t i = 0; i < kept->n_parts; i++)
            met |= kept->parts[i].path == path;
        if (!met)
            kept->parts[kept->n_parts++] = (tdm_net_part){path, traffic->parts[p].share};
    }
}

/* Traffic of a function with every algorithm that serves it. */
static void find_traffic(tdm_net *net, tdm_arena *scratch, const tdm_nccl_comm *comm,
                         tdm_net_group *g, tdm_nccl_func func)
{
    tdm_error *err = TDM_ALLOC(scratch, tdm_error, 1);
    for (int algo = 0; algo <= TDM_NCCL_P2P; algo++) {
        bool serves = func >= TDM_NCCL_N_TUNED && algo == TDM_NCCL_P2P;
        for (int proto = 0;
             func < TDM_NCCL_N_TUNED && algo < TDM_NCCL_N_ALGOS && proto < TDM_NCCL_N_PROTOS;
             proto++)
            serves |= comm->bw[func][algo][proto] > 0;
        tdm_nccl_traffic traffic;
        if (!serves)
            continue;
        if (tdm_nccl_traffic_of(scratch, comm, func, (tdm_nccl_algo)algo, &traffic, err) !=
            TDM_OK) {
            g->failed = true;
            tdm_net_fail(net, err->text);
            return;
        }
        keep_traffic(net, &traffic, &g->traffic[func][algo]);
    }
}

/* Of a pair: the message from its first member to its second. */
static void find_message(tdm_net *net, tdm_arena *scratch, const tdm_nccl_comm *comm,
                         tdm_net_group *g)
{
    static const uint64_t bytes[4] = {0, 1, 0, 0};
    tdm_error *err = TDM_ALLOC(scratch, tdm_error, 1);
    tdm_nccl_traffic traffic;
    if (tdm_nccl_traffic_of_messages(scratch, comm, bytes, &traffic, err) == TDM_OK) {
        keep_traffic(net, &traffic, &g->traffic[TDM_NCCL_SEND_RECV][TDM_NCCL_P2P]);
    } else {
        g->failed = true;
        tdm_net_fail(net, err->text);
    }
}

static uint32_t bucket_of(const tdm_group *group)
{
    uint64_t key = (uint64_t)group->rank0 << 40 ^ (uint64_t)group->step << 20 ^ group->size;
    return (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 54); /* 1,024 buckets */
}

static tdm_net_group *find_group(tdm_net *net, tdm_group group)
{
    tdm_net_group **bucket = &net->groups[bucket_of(&group)];
    for (tdm_net_group *g = *bucket; g; g = g->next)
        if (g->group.rank0 == group.rank0 && g->group.step == group.step &&
            g->group.size == group.size)
            return g;
    tdm_net_group *made = TDM_ALLOC(net->arena, tdm_net_group, 1);
    tdm_arena scratch = {0};
    made->group = group;
    made->next = *bucket;
    *bucket = made;
    made->failed = !build(net, &scratch, &group, &made->comm);
    if (!made->failed) {
        made->launch_s = tdm_nccl_launch_s(&made->comm);
        if (group.size == 2)
            find_message(net, &scratch, &made->comm, made);
        made->comm.places = NULL;
        made->comm.graph = NULL;
    }
    tdm_arena_free(&scratch);
    return made;
}

/* Makes sure that the group's traffic is known. */
static bool know(tdm_net *net, tdm_net_group *g, tdm_nccl_func func, tdm_nccl_algo algo)
{
    if (g->traffic[func][algo].known || g->failed)
        return !g->failed;
    tdm_arena scratch = {0};
    tdm_nccl_comm comm;
    if (build(net, &scratch, &g->group, &comm))
        find_traffic(net, &scratch, &comm, g, func);
    else
        g->failed = true;
    tdm_arena_free(&scratch);
    return !g->failed;
}

/* ---- transfers ---- */

/* Latency that a perturbation adds to the links of an op, on each of its steps. */
static double added_latency_s(const tdm_net *net, const tdm_load *loads, uint32_t n, double n_steps)
{
    double most = 0;
    if (!net->changed_latency)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const tdm_path *path = &net->paths[loads[i].path];
        for (uint32_t l = 0; l < path->n_links; l++)
            if (path->links[l] < net->topology->graph->n_edges)
                most = fmax(most, net->topology->links[path->links[l]].latency_s -
                                      net->topology->graph->edges[path->links[l]].latency_s);
    }
    return most * fmax(1, n_steps);
}

static double steps_of(const tdm_net_group *g, tdm_nccl_func func, const tdm_nccl_cost *cost)
{
    if (cost->pick.algo != TDM_NCCL_RING)
        return 1;
    return (func == TDM_NCCL_ALL_REDUCE ? 2.0 : 1.0) * (g->comm.n_ranks - 1);
}

/* Loads of the traffic for a buffer of so many bytes. */
static tdm_transfer transfer_of(tdm_net *net, const tdm_net_group *g, tdm_nccl_func func,
                                const tdm_nccl_cost *cost, uint64_t bytes)
{
    const tdm_net_traffic *traffic = &g->traffic[func][cost->pick.algo];
    double rate = cost->bytes_per_s * cost->ramp;
    double on_link = tdm_nccl_link_bytes(cost, (double)bytes);
    tdm_transfer out = {.latency_s = g->launch_s + cost->latency_s};
    tdm_load *loads = tdm_net_room(net, traffic->n_parts);
    for (uint32_t p = 0; p < traffic->n_parts && bytes > 0; p++) {
        uint64_t on_links = (uint64_t)ceil(traffic->parts[p].share * on_link);
        loads[out.n_loads++] =
            (tdm_load){traffic->parts[p].path, on_links, (double)on_links / ((double)bytes / rate)};
    }
    out.loads = loads;
    out.latency_s += added_latency_s(net, loads, out.n_loads, steps_of(g, func, cost));
    return out;
}

static bool cost_of(tdm_net *net, tdm_net_group *g, tdm_nccl_func func, uint64_t bytes,
                    tdm_nccl_cost *cost)
{
    if (g->failed)
        return false;
    if (tdm_nccl_time(&g->comm, func, bytes, cost, NULL) == TDM_OK)
        return know(net, g, func, cost->pick.algo);
    tdm_arena scratch = {0};
    tdm_error *err = TDM_ALLOC(&scratch, tdm_error, 1); /* too large to clear on every call */
    tdm_nccl_time(&g->comm, func, bytes, cost, err);
    tdm_net_fail(net, err->text);
    tdm_arena_free(&scratch);
    return false;
}

/* ---- uneven all-to-alls ---- */

static void find_classes(tdm_net *net, tdm_net_group *g)
{
    tdm_arena scratch = {0};
    tdm_nccl_comm comm;
    tdm_error *err = TDM_ALLOC(&scratch, tdm_error, 1);
    const tdm_nccl_class *classes;
    uint32_t n;
    g->classes = TDM_ALLOC(net->arena, tdm_net_class, 1);
    if (!build(net, &scratch, &g->group, &comm) ||
        tdm_nccl_traffic_classes(net->arena, &comm, &n, &classes, err) != TDM_OK) {
        g->failed = true;
        tdm_net_fail(net, err->text);
        tdm_arena_free(&scratch);
        return;
    }
    g->classes = TDM_ALLOC(net->arena, tdm_net_class, n + 1);
    for (uint32_t c = 0; c < n; c++) {
        tdm_net_class *made = &g->classes[g->n_classes];
        *made = (tdm_net_class){.path = tdm_net_intern(net, classes[c].links, classes[c].n_links),
                                .messages = classes[c]};
        for (uint32_t m = 0; m < classes[c].n_messages; m++)
            made->weight += classes[c].weights[m];
        bool met = false;
        for (uint32_t i = 0; i < g->n_classes; i++)
            met |= g->classes[i].path == made->path;
        g->n_classes += !met;
    }
    tdm_arena_free(&scratch);
}

/* Bytes on a link of the class: the larger of both ways where it has both. */
static double class_bytes(const tdm_net_class *class, const tdm_collective_call *call)
{
    const tdm_nccl_class *it = &class->messages;
    uint32_t n = call->group.size;
    bool combine = call->a2a == TDM_A2A_COMBINE; /* the way back: the transpose */
    double there = 0, back = 0;
    for (uint32_t m = 0; m < it->n_messages; m++) {
        uint32_t from = it->messages[m] / n, to = it->messages[m] % n;
        there += it->weights[m] * call->counts[(size_t)from * n + to];
        back += it->weights[m] * call->counts[(size_t)to * n + from];
    }
    double tokens = it->both_ways ? fmax(there, back) : combine ? back : there;
    return tokens * (double)call->token_bytes;
}

/* Takes as long as an even all-to-all that puts as much on the fullest class. */
static tdm_transfer uneven(tdm_net *net, tdm_net_group *g, const tdm_collective_call *call)
{
    if (!g->classes)
        find_classes(net, g);
    if (g->failed)
        return (tdm_transfer){0};
    tdm_load *loads = tdm_net_room(net, g->n_classes);
    tdm_nccl_cost cost;
    double per_message = 0;
    for (uint32_t c = 0; c < g->n_classes; c++) {
        double bytes = class_bytes(&g->classes[c], call);
        per_message = fmax(per_message, bytes / g->classes[c].weight);
        loads[c] = (tdm_load){g->classes[c].path, (uint64_t)ceil(bytes), INFINITY};
    }
    uint64_t even = (uint64_t)ceil(per_message * call->group.size);
    if (tdm_nccl_time(&g->comm, TDM_NCCL_ALL_TO_ALL, even, &cost, NULL) != TDM_OK)
        return (tdm_transfer){0}; /* of one rank: does not occur */
    double seconds = (double)even / (cost.bytes_per_s * cost.ramp);
    for (uint32_t c = 0; c < g->n_classes; c++) {
        loads[c].bytes = (uint64_t)ceil(tdm_nccl_link_bytes(&cost, (double)loads[c].bytes));
        loads[c].max_bytes_per_s = loads[c].bytes > 0 ? (double)loads[c].bytes / seconds : INFINITY;
    }
    return (tdm_transfer){g->n_classes, loads,
                          g->launch_s + cost.latency_s +
                              added_latency_s(net, loads, g->n_classes, 1)};
}

tdm_transfer tdm_net_nccl_collective(tdm_net *net, tdm_op_kind kind,
                                     const tdm_collective_call *call)
{
    tdm_net_group *g = find_group(net, call->group);
    tdm_nccl_func func = func_of(kind);
    tdm_nccl_cost cost;
    if (kind == TDM_OP_ALL_TO_ALL && call->counts)
        return g->failed ? (tdm_transfer){0} : uneven(net, g, call);
    if (!cost_of(net, g, func, call->bytes, &cost))
        return (tdm_transfer){0};
    return transfer_of(net, g, func, &cost, call->bytes);
}

static tdm_group pair(uint32_t src, uint32_t dst)
{
    return (tdm_group){
        .size = 2, .rank0 = src, .step = dst - src}; /* may wrap: so does adding it */
}

tdm_transfer tdm_net_nccl_message(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes)
{
    tdm_net_group *g = find_group(net, pair(src, dst));
    tdm_nccl_cost cost;
    if (!cost_of(net, g, TDM_NCCL_SEND_RECV, bytes, &cost))
        return (tdm_transfer){0};
    return transfer_of(net, g, TDM_NCCL_SEND_RECV, &cost, bytes);
}

/* ---- time by shape ---- */

/* Nodes of a composed machine are alike, and so are groups that take the same GPUs of each of their
 * nodes, where the network gives every node the same. The first group of a shape stands for it. */
static uint64_t shape_of(const tdm_topology *topology, const tdm_group *group)
{
    uint64_t hash = group->size;
    uint32_t per_node = topology->gpus_per_node, first = 0;
    for (uint32_t i = 0; i < group->size && !topology->same_gpus; i++) {
        uint32_t member = tdm_group_member(group, i), node = member / per_node;
        if (i == 0)
            first = node;
        uint64_t place =
            topology->same_nodes ? (uint64_t)(node - first) << 32 | member % per_node : member;
        hash = (hash ^ place) * UINT64_C(0x9E3779B97F4A7C15);
        hash ^= hash >> 29;
    }
    return hash;
}

/* The group that stands for the shape. */
static tdm_net_group *group_of_shape(tdm_net *net, const tdm_group *group)
{
    uint64_t shape = shape_of(net->topology, group);
    tdm_net_group **bucket = &net->shapes[shape % TDM_NET_BUCKETS];
    if (*bucket && shape_of(net->topology, &(*bucket)->group) == shape)
        return *bucket;
    return *bucket = find_group(net, *group);
}

static tdm_net_answer *answer_of(tdm_net *net, const tdm_net_group *g, uint32_t kind,
                                 uint64_t bytes)
{
    uint64_t key = ((uint64_t)(uintptr_t)g ^ bytes << 8 ^ kind) * UINT64_C(0x9E3779B97F4A7C15);
    tdm_net_answer *answer = &net->answers[key >> 52];
    if (answer->known && (answer->group != g || answer->kind != kind || answer->bytes != bytes))
        answer->known = false;
    return answer;
}

static double ask(tdm_net *net, tdm_net_group *g, tdm_nccl_func func, uint32_t kind, uint64_t bytes)
{
    tdm_net_answer *answer = answer_of(net, g, kind, bytes);
    if (answer->known)
        return answer->seconds;
    tdm_nccl_cost cost;
    double seconds = -1;
    if (cost_of(net, g, func, bytes, &cost)) {
        tdm_transfer transfer = transfer_of(net, g, func, &cost, bytes);
        tdm_arena scratch = {0};
        seconds =
            transfer.latency_s + tdm_net_time(&scratch, net, transfer.loads, transfer.n_loads);
        tdm_arena_free(&scratch);
    }
    *answer = (tdm_net_answer){true, g, bytes, kind, seconds};
    return seconds;
}

double tdm_net_nccl_collective_s(tdm_net *net, tdm_op_kind kind, tdm_group group, uint64_t bytes)
{
    return ask(net, group_of_shape(net, &group), func_of(kind), (uint32_t)kind, bytes);
}

double tdm_net_nccl_message_s(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes)
{
    tdm_group two = pair(src, dst);
    return ask(net, group_of_shape(net, &two), TDM_NCCL_SEND_RECV, UINT32_MAX, bytes);
}
