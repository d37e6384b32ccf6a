/* net.c: paths, and the algorithms on bare planes of links. */
#include "cores.h"
#include "net_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- paths ---- */

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* FNV-1a by words. */
static uint64_t hash_links(const uint32_t *links, uint32_t n)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint32_t i = 0; i < n; i++)
        hash = (hash ^ links[i]) * UINT64_C(1099511628211);
    return hash ^ hash >> 32;
}

static tdm_net_path_slot *find_slot(tdm_net *net, uint64_t hash, const uint32_t *links, uint32_t n)
{
    uint32_t i = (uint32_t)hash & (net->n_path_slots - 1);
    for (;; i = (i + 1) & (net->n_path_slots - 1)) {
        tdm_net_path_slot *slot = &net->path_slots[i];
        if (slot->path_1 == 0)
            return slot;
        const tdm_path *path = &net->paths[slot->path_1 - 1];
        if (slot->hash == hash && path->n_links == n &&
            memcmp(path->links, links, n * sizeof *links) == 0)
            return slot;
    }
}

static void grow_paths(tdm_net *net)
{
    uint32_t n_slots = net->n_path_slots ? 2 * net->n_path_slots : 256;
    tdm_net_path_slot *old = net->path_slots;
    uint32_t n_old = net->n_path_slots;
    net->path_slots = TDM_ALLOC(net->arena, tdm_net_path_slot, n_slots);
    net->n_path_slots = n_slots;
    for (uint32_t i = 0; i < n_old; i++)
        if (old[i].path_1 > 0) {
            const tdm_path *path = &net->paths[old[i].path_1 - 1];
            *find_slot(net, old[i].hash, path->links, path->n_links) = old[i];
        }
    tdm_path *paths = TDM_ALLOC(net->arena, tdm_path, n_slots / 2);
    if (net->n_paths > 0)
        memcpy(paths, net->paths, net->n_paths * sizeof *paths);
    net->paths = paths;
    net->path_capacity = n_slots / 2;
}

uint32_t tdm_net_intern(tdm_net *net, const uint32_t *links, uint32_t n_links)
{
    if (net->n_paths == net->path_capacity)
        grow_paths(net);
    enum { ON_STACK = 256 };
    uint32_t small[ON_STACK], n = 0;
    uint32_t *sorted = n_links <= ON_STACK ? small : TDM_ALLOC(net->arena, uint32_t, n_links);
    const uint32_t *stand_in = net->topology->link_stand_in;
    for (uint32_t i = 0; i < n_links; i++)
        sorted[i] = stand_in ? stand_in[links[i]] : links[i];
    if (n_links > 0)
        qsort(sorted, n_links, sizeof *sorted, by_number);
    for (uint32_t i = 0; i < n_links; i++)
        if (n == 0 || sorted[n - 1] != sorted[i])
            sorted[n++] = sorted[i];
    uint64_t hash = hash_links(sorted, n);
    tdm_net_path_slot *slot = find_slot(net, hash, sorted, n);
    if (slot->path_1 == 0) {
        uint32_t *kept = TDM_ALLOC(net->arena, uint32_t, n + 1);
        memcpy(kept, sorted, n * sizeof *kept);
        net->paths[net->n_paths++] = (tdm_path){n, kept};
        *slot = (tdm_net_path_slot){hash, net->n_paths};
    }
    return slot->path_1 - 1;
}

uint32_t tdm_net_n_paths(const tdm_net *net)
{
    return net->n_paths;
}

const tdm_path *tdm_net_path(const tdm_net *net, uint32_t path)
{
    return &net->paths[path];
}

/* ---- the net ---- */

tdm_net *tdm_net_new(tdm_arena *arena, const tdm_topology *topology)
{
    tdm_net *net = TDM_ALLOC(arena, tdm_net, 1);
    net->arena = arena;
    net->topology = topology;
    for (uint32_t l = 0; topology->graph && l < topology->graph->n_edges; l++)
        net->changed_latency |= topology->links[l].latency_s != topology->graph->edges[l].latency_s;
    return net;
}

const tdm_topology *tdm_net_topology(const tdm_net *net)
{
    return net->topology;
}

void tdm_net_fail(tdm_net *net, const char *message)
{
    if (net->error[0] == '\0')
        snprintf(net->error, sizeof net->error, "%s", message);
}

tdm_code tdm_net_check(const tdm_net *net, tdm_error *err)
{
    return net->error[0] == '\0' ? TDM_OK : tdm_error_add(err, TDM_E_INVALID, "%s", net->error);
}

tdm_load *tdm_net_room(tdm_net *net, uint32_t n)
{
    if (n > net->load_capacity) {
        net->load_capacity = 2 * n;
        net->loads = TDM_ALLOC(net->arena, tdm_load, net->load_capacity);
    }
    return net->loads;
}

/* ---- planes ---- */

static tdm_net_pair_slot *pair_slot(tdm_net *net, uint64_t key)
{
    uint32_t i = (uint32_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (net->n_pair_slots - 1);
    while (net->pair_slots[i].key != 0 && net->pair_slots[i].key != key)
        i = (i + 1) & (net->n_pair_slots - 1);
    return &net->pair_slots[i];
}

static void grow_pairs(tdm_net *net)
{
    tdm_net_pair_slot *old = net->pair_slots;
    uint32_t n_old = net->n_pair_slots;
    net->n_pair_slots = n_old ? 2 * n_old : 256;
    net->pair_slots = TDM_ALLOC(net->arena, tdm_net_pair_slot, net->n_pair_slots);
    for (uint32_t i = 0; i < n_old; i++)
        if (old[i].key != 0)
            *pair_slot(net, old[i].key) = old[i];
}

/* The route between two GPUs on planes, as a path. */
static const tdm_net_pair_slot *route(tdm_net *net, uint32_t src, uint32_t dst)
{
    if (2 * net->n_pairs >= net->n_pair_slots)
        grow_pairs(net);
    uint64_t key = ((uint64_t)src << 32 | dst) + 1;
    tdm_net_pair_slot *slot = pair_slot(net, key);
    if (slot->key == 0) {
        tdm_route found;
        bool joined = tdm_topology_route(net->topology, src, dst, &found);
        *slot = (tdm_net_pair_slot){.key = key,
                                    .path = joined ? tdm_net_intern(net, found.links, found.n_links)
                                                   : TDM_NO_PATH,
                                    .latency_s = joined ? found.latency_s : 0};
        net->n_pairs++;
    }
    return slot;
}

static tdm_flow *room_for_messages(tdm_net *net, uint32_t n)
{
    if (n > net->message_capacity) {
        net->message_capacity = 2 * n;
        net->messages = TDM_ALLOC(net->arena, tdm_flow, net->message_capacity);
    }
    return net->messages;
}

static tdm_transfer plane_collective(tdm_net *net, tdm_op_kind kind,
                                     const tdm_collective_call *call)
{
    const tdm_collective *algorithm = tdm_collective_for(kind);
    tdm_flow *messages =
        room_for_messages(net, algorithm->max_flows(net->topology, call->group.size) + 1);
    tdm_transfer out = {0};
    uint32_t n = algorithm->flows(call, messages, &out.latency_s);
    tdm_load *loads = tdm_net_room(net, n);
    out.latency_s += net->topology->collective_launch_s.value;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t *stand_in = net->topology->gpu_stand_in;
        if (messages[i].src == messages[i].dst ||
            (stand_in && stand_in[messages[i].src] != messages[i].src))
            continue; /* an image of another, whose links stand for its own */
        loads[out.n_loads++] = (tdm_load){route(net, messages[i].src, messages[i].dst)->path,
                                          messages[i].bytes, INFINITY};
    }
    out.loads = loads;
    return out;
}

static tdm_transfer plane_message(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes)
{
    const tdm_net_pair_slot *way = route(net, src, dst);
    tdm_load *loads = tdm_net_room(net, 1);
    loads[0] = (tdm_load){way->path, bytes, INFINITY};
    return (tdm_transfer){1, loads, way->latency_s + net->topology->p2p_launch_s.value};
}

/* ---- questions ---- */

tdm_transfer tdm_net_collective(tdm_net *net, tdm_op_kind kind, const tdm_collective_call *call)
{
    if (call->group.size < 2)
        return (tdm_transfer){0};
    if (net->topology->cores)
        return (tdm_transfer){.latency_s = tdm_cores_transfer_s(net->topology->cores, kind,
                                                                call->group.size, call->bytes)};
    return net->topology->graph ? tdm_net_nccl_collective(net, kind, call)
                                : plane_collective(net, kind, call);
}

tdm_transfer tdm_net_message(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes)
{
    if (src == dst)
        return (tdm_transfer){0};
    if (net->topology->cores)
        return (tdm_transfer){
            .latency_s = tdm_cores_transfer_s(net->topology->cores, TDM_OP_RECV, 2, bytes)};
    return net->topology->graph ? tdm_net_nccl_message(net, src, dst, bytes)
                                : plane_message(net, src, dst, bytes);
}

static double seconds_of(const tdm_net *net, tdm_transfer transfer)
{
    tdm_arena scratch = {0};
    double seconds = tdm_net_time(&scratch, net, transfer.loads, transfer.n_loads);
    tdm_arena_free(&scratch);
    return seconds < 0 ? seconds : transfer.latency_s + seconds;
}

double tdm_net_collective_s(tdm_net *net, tdm_op_kind kind, tdm_group group, uint64_t bytes)
{
    if (group.size < 2)
        return 0;
    if (net->topology->cores)
        return tdm_cores_transfer_s(net->topology->cores, kind, group.size, bytes);
    if (net->topology->graph)
        return tdm_net_nccl_collective_s(net, kind, group, bytes);
    const tdm_collective_call call = {.topology = net->topology, .group = group, .bytes = bytes};
    return seconds_of(net, plane_collective(net, kind, &call));
}

double tdm_net_message_s(tdm_net *net, uint32_t src, uint32_t dst, uint64_t bytes)
{
    if (src == dst)
        return 0;
    if (net->topology->cores)
        return tdm_cores_transfer_s(net->topology->cores, TDM_OP_RECV, 2, bytes);
    if (net->topology->graph)
        return tdm_net_nccl_message_s(net, src, dst, bytes);
    return seconds_of(net, plane_message(net, src, dst, bytes));
}
