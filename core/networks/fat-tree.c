/* Fat tree of two levels: all adapters of some nodes on one leaf switch, a spine above; the uplinks
 * of a leaf count together, in one edge. */
#include "network.h"

static void join(const tdm_network_site *site)
{
    tdm_arena *arena = site->builder->arena;
    uint32_t n_leaves = (uint32_t)tdm_ceil_div(site->n_nodes, site->nodes_per_leaf);
    uint32_t *leaves = TDM_ALLOC(arena, uint32_t, n_leaves);
    uint32_t *firsts = TDM_ALLOC(arena, uint32_t, n_leaves);
    uint32_t *counts = TDM_ALLOC(arena, uint32_t, n_leaves);
    for (uint32_t l = 0; l < n_leaves; l++) {
        uint32_t first_node = l * site->nodes_per_leaf, left = site->n_nodes - first_node;
        uint32_t nodes = left < site->nodes_per_leaf ? left : site->nodes_per_leaf;
        firsts[l] = first_node * site->n_adapters;
        counts[l] = nodes * site->n_adapters;
        leaves[l] =
            tdm_network_leaf(site, tdm_arena_printf(arena, "leaf-%u", l), firsts[l], 1, counts[l]);
    }
    tdm_network_spine(site, leaves, firsts, counts, n_leaves);
}

const tdm_network tdm_network_fat_tree = {
    .name = "fat-tree",
    .summary = "leaf switches for some nodes each, a spine above, oversubscribed or not",
    .has_leaves = true,
    .join = join,
};
