/* Rail-optimised: adapter r of every node is on leaf switch r of its group of nodes, and a spine
 * joins the leaves. Traffic between equal adapters of nodes of a group passes one switch.
 * Source: NVIDIA DGX SuperPOD reference architecture (DGX H100), compute fabric. */
#include "network.h"

static void join(const tdm_network_site *site)
{
    tdm_arena *arena = site->builder->arena;
    uint32_t n_groups = (uint32_t)tdm_ceil_div(site->n_nodes, site->nodes_per_leaf);
    uint32_t n_leaves = n_groups * site->n_adapters;
    uint32_t *leaves = TDM_ALLOC(arena, uint32_t, n_leaves);
    uint32_t *firsts = TDM_ALLOC(arena, uint32_t, n_leaves);
    uint32_t *counts = TDM_ALLOC(arena, uint32_t, n_leaves);
    for (uint32_t l = 0; l < n_leaves; l++) {
        uint32_t first_node = l / site->n_adapters * site->nodes_per_leaf;
        uint32_t left = site->n_nodes - first_node, rail = l % site->n_adapters;
        firsts[l] = first_node * site->n_adapters + rail;
        counts[l] = left < site->nodes_per_leaf ? left : site->nodes_per_leaf;
        const char *name =
            n_groups == 1 ? tdm_arena_printf(arena, "rail-%u", rail)
                          : tdm_arena_printf(arena, "group-%u-rail-%u", l / site->n_adapters, rail);
        leaves[l] = tdm_network_leaf(site, name, firsts[l], site->n_adapters, counts[l]);
    }
    tdm_network_spine(site, leaves, firsts, counts, n_leaves);
}

const tdm_network tdm_network_rail = {
    .name = "rail",
    .summary = "a leaf switch for each adapter of a node, a spine above",
    .has_leaves = true,
    .join = join,
};
