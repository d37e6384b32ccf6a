/* trees.c: the two binary trees over the nodes of a communicator.
 * Source: NCCL 2.28.9, src/graph/trees.cc (ncclGetBtree, ncclGetDtree). */
#include "core/nccl/traffic.h"

/* Parent of a node in the first tree, and which of its two children it is; false: it is the root.
 */
static bool parent_of(uint32_t n_nodes, uint32_t node, uint32_t *parent, uint32_t *child)
{
    uint32_t bit = 1;
    if (node == 0) {
        return false;
    }
    while (!(node & bit))
        bit <<= 1;
    uint32_t up = (node ^ bit) | (bit << 1);
    if (up >= n_nodes)
        up = node ^ bit;
    *parent = up;
    *child = node < up ? 0 : 1;
    return true;
}

/* A parent and a child of tree `tree` exchange sums and results: the child by the first GPU and
 * adapter of the channel, the parent by the first for its first child, by the second GPU of a
 * balanced tree and the second adapter for its second. */
static void load_branch(tdm_nccl_loads *loads,
                        const tdm_nccl_graph *(*graph_of)(const tdm_nccl_place *place),
                        uint32_t channel, uint32_t node, uint32_t parent, uint32_t child,
                        double share)
{
    const tdm_nccl_place *places = tdm_nccl_loads_comm(loads)->places;
    const tdm_nccl_graph *low = graph_of(&places[node]), *high = graph_of(&places[parent]);
    uint32_t n_low = places[node].view.n_of[TDM_NCCL_GPU],
             n_high = places[parent].view.n_of[TDM_NCCL_GPU];
    bool second = child == 1 && high->pattern == TDM_NCCL_PATTERN_BALANCED_TREE && n_high > 1;
    uint32_t low_gpu = low->order[channel * n_low], low_port = low->adapters[2 * channel];
    uint32_t high_gpu = high->order[channel * n_high + second],
             high_port = high->adapters[2 * channel + second];
    tdm_nccl_load_across(loads, node, low_gpu, low_port, parent, high_port, high_gpu, share);
    tdm_nccl_load_across(loads, parent, high_gpu, high_port, node, low_port, low_gpu, share);
}

void tdm_nccl_load_trees(tdm_nccl_loads *loads,
                         const tdm_nccl_graph *(*graph_of)(const tdm_nccl_place *place),
                         uint32_t channel, double share)
{
    uint32_t n = tdm_nccl_loads_comm(loads)->n_nodes, parent, child;
    for (uint32_t node = 0; node < n; node++) {
        if (!parent_of(n, node, &parent, &child))
            continue;
        load_branch(loads, graph_of, channel, node, parent, child, share / 2);
        /* The second tree is the first mirrored, or, of an odd number of nodes, moved by one. */
        uint32_t other = n % 2 == 0 ? n - 1 - node : (node + 1) % n;
        uint32_t above = n % 2 == 0 ? n - 1 - parent : (parent + 1) % n;
        load_branch(loads, graph_of, channel, other, above, child, share / 2);
    }
}
