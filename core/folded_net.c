/* folded_net.c: rates of communication between the ranks of a mesh, by group and kind of op. */
#include "folded_parts.h"

#include <math.h>
#include <string.h>

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

/* Sizes at which groups are compared. */
static const uint64_t probes[TDM_FOLD_PROBES] = {UINT64_C(1) << 16, UINT64_C(1) << 24};

/* The group of the stage that takes longest; of size 0 or 1: nobody has to talk. */
static tdm_group find_slowest(tdm_fold_net *net, uint32_t stage, tdm_op_kind kind,
                              tdm_group_kind group_kind)
{
    tdm_group slowest = {0};
    double most_s = 0;
    uint32_t first = stage * net->mesh.per_stage;
    for (uint32_t rank = first; rank < first + net->mesh.per_stage; rank++) {
        tdm_group group = tdm_mesh_group(&net->mesh, group_kind, rank);
        bool counted = rank > first && (net->n_stages == 1 || group.rank0 != rank);
        if (group.size < 2 || counted)
            continue;
        double seconds = tdm_net_collective_s(net->net, kind, group, probes[TDM_FOLD_PROBES - 1]);
        net->unreachable |= seconds < 0;
        if (slowest.size == 0 || seconds > most_s) {
            slowest = group;
            most_s = seconds;
        }
    }
    return slowest;
}

double tdm_fold_net_s(tdm_fold_net *net, uint32_t stage, tdm_op_kind kind,
                      tdm_group_kind group_kind, double bytes)
{
    if (net->pass_times->given)
        return 0;
    uint32_t of_stage = stage < net->n_stages ? stage : 0;
    uint32_t key = (uint32_t)kind * (TDM_N_GROUP_KINDS + 1) + (uint32_t)group_kind;
    tdm_group *slowest = &net->slowest[of_stage * TDM_N_COMM_KEYS + key];
    if (slowest->size == UINT32_MAX)
        *slowest = find_slowest(net, of_stage, kind, group_kind);
    if (slowest->size < 2)
        return 0;
    return tdm_net_collective_s(net->net, kind, *slowest, (uint64_t)(bytes + 0.5));
}

/* The slowest pair of ranks of a stage and those of another. */
static void find_transfer(tdm_fold_net *net, uint32_t source, uint32_t target, uint32_t pair[2])
{
    double most_s = -1;
    pair[0] = pair[1] = 0;
    for (uint32_t i = 0; i < net->mesh.per_stage && source != target; i++) {
        uint32_t src = source * net->mesh.per_stage + i, dst = target * net->mesh.per_stage + i;
        double seconds = tdm_net_message_s(net->net, src, dst, probes[TDM_FOLD_PROBES - 1]);
        net->unreachable |= seconds < 0;
        if (seconds > most_s) {
            most_s = seconds;
            pair[0] = src;
            pair[1] = dst;
        }
        if (net->n_stages == 1)
            break;
    }
}

double tdm_fold_net_transfer_s(tdm_fold_net *net, uint32_t stage, uint32_t direction, double bytes)
{
    if (net->pass_times->given)
        return net->pass_times->send_s;
    const uint32_t *pair = net->transfers[2 * stage + direction];
    return tdm_net_message_s(net->net, pair[0], pair[1], (uint64_t)(bytes + 0.5));
}

/* Number of the placement: stages in which the communication of layers takes equal times have
 * equal ones. */
static uint32_t find_placement(tdm_fold_placements *all, tdm_fold_net *net, uint32_t stage)
{
    static const struct {
        tdm_op_kind kind;
        tdm_group_kind group;
    } placed[TDM_FOLD_PLACED] = {
        {TDM_OP_ALL_REDUCE, TDM_GROUP_TP},     {TDM_OP_ALL_GATHER, TDM_GROUP_TP},
        {TDM_OP_REDUCE_SCATTER, TDM_GROUP_TP}, {TDM_OP_ALL_TO_ALL, TDM_GROUP_EP},
        {TDM_OP_ALL_GATHER, TDM_GROUP_ETP},    {TDM_OP_REDUCE_SCATTER, TDM_GROUP_ETP},
    };
    double here[TDM_FOLD_PLACED][TDM_FOLD_PROBES];
    for (int k = 0; k < TDM_FOLD_PLACED; k++)
        for (int i = 0; i < TDM_FOLD_PROBES; i++)
            here[k][i] =
                tdm_fold_net_s(net, stage, placed[k].kind, placed[k].group, (double)probes[i]);
    uint32_t i = 0;
    while (i < all->n && memcmp(all->known[i], here, sizeof here) != 0)
        i++;
    if (i < all->n)
        return i;
    if (all->n == all->capacity) {
        uint32_t capacity = all->capacity ? 2 * all->capacity : 32;
        void *known = tdm_arena_alloc(all->arena, capacity * sizeof *all->known);
        if (all->n)
            memcpy(known, all->known, all->n * sizeof *all->known);
        all->known = known;
        all->capacity = capacity;
    }
    memcpy(all->known[all->n++], here, sizeof here);
    return i;
}

tdm_fold_net *tdm_fold_net_new(tdm_arena *arena, const tdm_scenario *scenario, const tdm_mesh *mesh,
                               tdm_fold_placements *placements)
{
    tdm_fold_net *net = TDM_ALLOC(arena, tdm_fold_net, 1);
    bool given = scenario->pass_times.given;
    bool alike = given || tdm_topology_is_single_switch(&scenario->topology);
    if (!placements->net && !given)
        placements->net = tdm_net_new(placements->arena, &scenario->topology);
    *net = (tdm_fold_net){.mesh = *mesh,
                          .net = placements->net,
                          .pass_times = &scenario->pass_times,
                          .n_stages = alike ? 1 : mesh->pp};
    net->slowest = TDM_ALLOC(arena, tdm_group, net->n_stages * (size_t)TDM_N_COMM_KEYS);
    for (size_t i = 0; i < net->n_stages * (size_t)TDM_N_COMM_KEYS; i++)
        net->slowest[i].size = UINT32_MAX;
    net->transfers = tdm_arena_alloc(arena, 2 * (size_t)mesh->pp * sizeof *net->transfers);
    for (uint32_t s = 0; s < mesh->pp && !given; s++) {
        find_transfer(net, s, (s + 1) % mesh->pp, net->transfers[2 * s]);
        find_transfer(net, s, (s + mesh->pp - 1) % mesh->pp, net->transfers[2 * s + 1]);
    }
    uint32_t *numbers = TDM_ALLOC(arena, uint32_t, net->n_stages);
    for (uint32_t s = 0; s < net->n_stages; s++)
        numbers[s] = find_placement(placements, net, s);
    net->placements = numbers;
    return net;
}
