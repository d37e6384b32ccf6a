/* list_topology.c: what `tandem list topologies` says of a machine: GPUs, nodes and network. */
#include "cli.h"
#include "core/topology_load.h"
#include "list.h"

#include <string.h>

/* Adapters and network of fabrics that have their own. */
static const char *own_network(tdm_arena *arena, const tdm_graph *graph)
{
    uint32_t n_nics = 0, n_switches = 0;
    double rate = 0;
    for (uint32_t v = 0; v < graph->n_vertices; v++) {
        const tdm_vertex *vertex = &graph->vertices[v];
        n_switches += vertex->kind == TDM_VERTEX_SWITCH;
        n_nics += vertex->kind == TDM_VERTEX_NIC;
        if (vertex->kind == TDM_VERTEX_NIC)
            rate = vertex->nic_bytes_per_s;
    }
    if (n_nics == 0)
        return NULL;
    return tdm_arena_printf(arena, "%s%u x %g Gbit/s", n_switches ? "single-switch, " : "",
                            n_nics / graph->n_nodes, rate * 8e-9);
}

tdm_list_entry tdm_list_topology(tdm_arena *arena, const char *path, tdm_list_entry entry)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_topology_file file;
    if (tdm_topology_read(arena, tdm_cli_root(arena), path, NULL, &file, err) != TDM_OK) {
        entry.state = "broken";
        entry.summary = tdm_arena_strndup(arena, err->text, strcspn(err->text, "\n"));
        return entry;
    }
    entry.group = file.group;
    entry.n_gpus = file.graph.n_gpus;
    entry.n_nodes = file.graph.n_nodes;
    entry.device = file.device_name;
    entry.network = file.network ? file.network : own_network(arena, &file.graph);
    entry.facts = tdm_arena_printf(arena, "%2u x %-9s  %u node%s  %s", entry.n_gpus, entry.device,
                                   entry.n_nodes, entry.n_nodes == 1 ? " " : "s",
                                   entry.network ? entry.network : "no network");
    return entry;
}
