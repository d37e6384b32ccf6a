/* All adapters of all nodes on one switch that never is the bottleneck: what a network looks like
 * of which nothing else is known. */
#include "network.h"

static void join(const tdm_network_site *site)
{
    tdm_network_leaf(site, "switch-0", 0, 1, site->n_nodes * site->n_adapters);
}

const tdm_network tdm_network_single_switch = {
    .name = "single-switch",
    .summary = "all adapters on one switch without a bottleneck",
    .join = join,
};
