/* folded_net.c: rates of communication between the ranks of a mesh, by group and kind of op. */
#include "folded_parts.h"

#include <math.h>
#include <string.h>

/* Bytes at which rates are measured: rounding of shares to whole bytes does not count. */
#define PROBE_BYTES ((uint64_t)1 << 36)

void **tdm_fold_map_at(tdm_fold_map *map, const tdm_fold_key *key)
{
    if (2 * map->n >= map->capacity) {
        tdm_fold_map larger = {.arena = map->arena,
                               .capacity = map->capacity ? 4 * map->capacity : 64};
        larger.entries = TDM_ALLOC(map->arena, tdm_fold_entry, larger.capacity);
        for (uint32_t i = 0; i < map->capacity; i++)
            if (map->entries[i].value)
                *tdm_fold_map_at(&larger, &map->entries[i].key) = map->entries[i].value;
        *map = larger;
    }
    uint64_t hash = 14695981039346656037u; /* FNV-1a by words */
    for (int i = 0; i < TDM_FOLD_KEY; i++)
        hash = (hash ^ key->words[i]) * 1099511628211u;
    uint32_t slot = (uint32_t)(hash >> 32) & (map->capacity - 1);
    while (map->entries[slot].value && memcmp(&map->entries[slot].key, key, sizeof *key) != 0)
        slot = (slot + 1) & (map->capacity - 1);
    if (!map->entries[slot].value) {
        map->entries[slot].key = *key;
        map->n++;
    }
    return &map->entries[slot].value;
}

/* Time of the op in one group per byte, and before the first. */
static tdm_fold_rate group_rate(tdm_fold_net *net, tdm_arena *scratch, tdm_op_kind kind,
                                tdm_group group)
{
    tdm_fold_rate rate = {0};
    tdm_collective_call call = {.topology = net->topology, .group = group, .bytes = PROBE_BYTES};
    const tdm_collective *algorithm = tdm_collective_for(kind);
    tdm_flow *flows =
        TDM_ALLOC(scratch, tdm_flow, algorithm->max_flows(net->topology, group.size) + 1);
    uint32_t n = algorithm->flows(&call, flows, &rate.latency_s);
    rate.latency_s += net->topology->collective_launch_s.value;
    double seconds = n ? tdm_flows_time(scratch, net->topology, flows, n) : 0;
    net->unreachable |= seconds < 0;
    rate.s_per_byte = seconds / (double)PROBE_BYTES;
    return rate;
}

tdm_fold_rate tdm_fold_net_rate(tdm_fold_net *net, uint32_t stage, tdm_op_kind kind,
                                tdm_group_kind group_kind)
{
    if (net->pass_times->given)
        return (tdm_fold_rate){0};
    uint32_t of_stage = stage < net->n_stages ? stage : 0;
    uint32_t key = (uint32_t)kind * (TDM_N_GROUP_KINDS + 1) + (uint32_t)group_kind;
    tdm_fold_rate *rate = &net->rates[of_stage * TDM_N_COMM_KEYS + key];
    if (!isnan(rate->latency_s))
        return *rate;
    *rate = (tdm_fold_rate){0};
    tdm_arena scratch = {0};
    uint32_t first = of_stage * net->mesh.per_stage;
    for (uint32_t rank = first; rank < first + net->mesh.per_stage; rank++) {
        tdm_group group = tdm_mesh_group(&net->mesh, group_kind, rank);
        bool counted = rank > first && (net->n_stages == 1 || group.rank0 != rank);
        if (group.size < 2 || counted)
            continue;
        tdm_fold_rate one = group_rate(net, &scratch, kind, group);
        rate->latency_s = fmax(rate->latency_s, one.latency_s);
        rate->s_per_byte = fmax(rate->s_per_byte, one.s_per_byte);
    }
    tdm_arena_free(&scratch);
    return *rate;
}

/* The slowest transfer from the ranks of a stage to those of another. */
static tdm_fold_rate transfer_rate(tdm_fold_net *net, uint32_t source, uint32_t target)
{
    tdm_fold_rate rate = {0};
    if (net->pass_times->given)
        return (tdm_fold_rate){net->pass_times->send_s, 0};
    for (uint32_t i = 0; i < net->mesh.per_stage && source != target; i++) {
        tdm_route route = {0};
        net->unreachable |= !tdm_topology_route(net->topology, source * net->mesh.per_stage + i,
                                                target * net->mesh.per_stage + i, &route);
        rate.latency_s = fmax(rate.latency_s, route.latency_s + net->topology->p2p_launch_s.value);
        for (uint32_t l = 0; l < route.n_links; l++)
            rate.s_per_byte =
                fmax(rate.s_per_byte, 1 / net->topology->links[route.links[l]].bytes_per_s);
        if (net->n_stages == 1)
            break;
    }
    return rate;
}

/* Number of the placement: stages in which the communication of layers takes equal times have
 * equal ones. */
static uint32_t find_placement(tdm_fold_placements *all, tdm_fold_net *net, uint32_t stage)
{
    const tdm_fold_rate here[TDM_FOLD_PLACED] = {
        tdm_fold_net_rate(net, stage, TDM_OP_ALL_REDUCE, TDM_GROUP_TP),
        tdm_fold_net_rate(net, stage, TDM_OP_ALL_GATHER, TDM_GROUP_TP),
        tdm_fold_net_rate(net, stage, TDM_OP_REDUCE_SCATTER, TDM_GROUP_TP),
        tdm_fold_net_rate(net, stage, TDM_OP_ALL_TO_ALL, TDM_GROUP_EP),
        tdm_fold_net_rate(net, stage, TDM_OP_ALL_GATHER, TDM_GROUP_ETP),
        tdm_fold_net_rate(net, stage, TDM_OP_REDUCE_SCATTER, TDM_GROUP_ETP),
    };
    uint32_t i = 0;
    while (i < all->n && memcmp(all->known[i], here, sizeof here) != 0)
        i++;
    if (i == all->n) {
        if (all->n == all->capacity) {
            uint32_t capacity = all->capacity ? 2 * all->capacity : 32;
            tdm_fold_rate(*known)[TDM_FOLD_PLACED] =
                tdm_arena_alloc(all->arena, capacity * sizeof *known);
            if (all->n)
                memcpy(known, all->known, all->n * sizeof *known);
            all->known = known;
            all->capacity = capacity;
        }
        memcpy(all->known[all->n++], here, sizeof here);
    }
    return i;
}

tdm_fold_net *tdm_fold_net_new(tdm_arena *arena, const tdm_scenario *scenario, const tdm_mesh *mesh,
                               tdm_fold_placements *placements)
{
    tdm_fold_net *net = TDM_ALLOC(arena, tdm_fold_net, 1);
    bool alike = scenario->pass_times.given || tdm_topology_is_single_switch(&scenario->topology);
    *net = (tdm_fold_net){.mesh = *mesh,
                          .topology = &scenario->topology,
                          .pass_times = &scenario->pass_times,
                          .n_stages = alike ? 1 : mesh->pp};
    net->rates = TDM_ALLOC(arena, tdm_fold_rate, net->n_stages * (size_t)TDM_N_COMM_KEYS);
    for (size_t i = 0; i < net->n_stages * (size_t)TDM_N_COMM_KEYS; i++)
        net->rates[i].latency_s = NAN;
    net->transfers = TDM_ALLOC(arena, tdm_fold_rate, 2 * (size_t)mesh->pp);
    for (uint32_t s = 0; s < mesh->pp; s++) {
        net->transfers[2 * s] = transfer_rate(net, s, (s + 1) % mesh->pp);
        net->transfers[2 * s + 1] = transfer_rate(net, s, (s + mesh->pp - 1) % mesh->pp);
    }
    uint32_t *numbers = TDM_ALLOC(arena, uint32_t, net->n_stages);
    for (uint32_t s = 0; s < net->n_stages; s++)
        numbers[s] = find_placement(placements, net, s);
    net->placements = numbers;
    return net;
}
