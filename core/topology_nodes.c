/* topology_nodes.c: topology files that name a node, another file, and a network between copies of
 * it. */
#include "core/nccl/site.h"
#include "fabric.h"
#include "files.h"
#include "network.h"
#include "topology_compose.h"
#include "topology_parts.h"

#include <stdio.h>
#include <string.h>

typedef struct record {
    const char *description, *source, *group, *node;
    int grade;
    uint32_t nodes, nodes_per_nvlink_domain;
    tdm_network_spec network;
    const tdm_node *site;
} record;

#define TEXT(name, is_required, text)                                                              \
    {                                                                                              \
        .key = #name, .type = TDM_FIELD_TEXT, .offset = offsetof(record, name),                    \
        .required = is_required, .doc = text                                                       \
    }
static const tdm_field fields[] = {
    TEXT(description, true, "what machine this is, one line"),
    TEXT(source, true, "where its shape and the numbers without their own source come from"),
    {.key = "grade",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(record, grade),
     .choices = tdm_grade_choices,
     .doc = "how far the numbers without their own grade can be trusted"},
    TEXT(group, false, "heading under which tandem list topologies shows it"),
    TEXT(node, true, "one of its nodes: the name of a topology that is a single machine"),
    {.key = "nodes",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(record, nodes),
     .required = true,
     .min = 1,
     .max = TDM_MAX_GPUS,
     .doc = "number of nodes"},
    {.key = "nodes_per_nvlink_domain",
     .type = TDM_FIELD_UINT32,
     .offset = offsetof(record, nodes_per_nvlink_domain),
     .min = 1,
     .max = 128,
     .doc = "nodes whose GPUs share NVSwitches (1 when left out)"},
    {.key = "network",
     .type = TDM_FIELD_MAP,
     .offset = offsetof(record, network),
     .fields = tdm_network_fields,
     .doc = "what joins the nodes, as rail 8 x 400Gbit/s"},
    {.key = "site",
     .type = TDM_FIELD_NODE,
     .offset = offsetof(record, site),
     .doc = "what was measured of NCCL here, as tandem fit writes it"},
    {.key = NULL},
};

bool tdm_topology_is_composed(const tdm_node *root)
{
    return root->kind == TDM_NODE_MAP && tdm_node_child(root, "node") &&
           !tdm_node_child(root, "fabric");
}

/* The node's own file, which has to be a single machine. */
static tdm_code read_node(tdm_arena *arena, const char *data, const char *path,
                          const tdm_node *root, tdm_topology_file *node, tdm_error *err)
{
    const char *node_path;
    const tdm_node *named = tdm_node_child(root, "node");
    tdm_node *inner;
    if (!named || named->faulty || named->kind != TDM_NODE_SCALAR || !named->text[0])
        return TDM_E_INVALID; /* said already */
    tdm_code code = tdm_file_find(arena, &tdm_file_topology, data ? data : ".",
                                  tdm_file_folder(arena, path), named, &node_path, err);
    if (code == TDM_OK)
        code = tdm_doc_read(arena, node_path, &inner, err);
    if (code != TDM_OK)
        return code;
    char quoted[TDM_QUOTE_SIZE];
    tdm_node_quote(quoted, named->text);
    if (tdm_topology_is_composed(inner))
        return tdm_node_error(named, err,
                              "%s: is composed of nodes itself: expected the name of a "
                              "single machine",
                              quoted);
    code = tdm_topology_read(arena, data, node_path, NULL, node, err);
    if (code == TDM_OK && node->cores)
        return tdm_node_error(
            named, err, "%s: its ranks are threads of one process: no network joins them", quoted);
    if (code == TDM_OK && node->graph.n_nodes != 1)
        code = tdm_node_error(named, err, "%s: has %u nodes: expected the name of a single machine",
                              quoted, node->graph.n_nodes);
    return code;
}

static uint32_t count_kind(const tdm_graph *graph, tdm_vertex_kind kind)
{
    uint32_t n = 0;
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        n += graph->vertices[v].kind == kind;
    return n;
}

static tdm_code check_adapters(const record *r, const tdm_node *root, const tdm_topology_file *node,
                               tdm_error *err)
{
    uint32_t n = count_kind(&node->graph, TDM_VERTEX_NIC);
    const tdm_node *map = tdm_node_child(root, "network");
    bool has_rates = r->network.rate.value > 0;
    for (uint32_t v = 0, seen = 0; v < node->graph.n_vertices; v++)
        if (node->graph.vertices[v].kind == TDM_VERTEX_NIC && seen++ == 0)
            has_rates = has_rates || node->graph.vertices[v].nic_bytes_per_s > 0;
    if (n == 0)
        return tdm_node_error(map, err, "%s has no network adapters", node->name);
    if (r->network.adapters > n)
        return tdm_node_error_at(map, "adapters", err, "%u: %s has %u: expected 1 to %u",
                                 r->network.adapters, node->name, n, n);
    if (!has_rates)
        return tdm_node_error_at(map, "rate", err, "missing: the adapters of %s have none",
                                 node->name);
    return TDM_OK;
}

/* Whether the numbers go together; those that were refused are 0. */
static tdm_code check(const record *r, const tdm_node *root, const tdm_topology_file *node,
                      tdm_error *err)
{
    tdm_code code = TDM_OK;
    uint32_t domain = r->nodes_per_nvlink_domain;
    const tdm_node *map = tdm_node_child(root, "network");
    if (!map && r->nodes > domain && domain > 0)
        code = tdm_node_error_at(root, "network", err, "missing: %u nodes need a network, as rail",
                                 r->nodes);
    if (domain > 1 && r->nodes % domain != 0)
        code = tdm_node_error_at(root, "nodes_per_nvlink_domain", err,
                                 "%u does not divide the %u nodes", domain, r->nodes);
    if (!node)
        return TDM_E_INVALID;
    if (domain > 1 && count_kind(&node->graph, TDM_VERTEX_NVSWITCH) == 0)
        code = tdm_node_error_at(root, "nodes_per_nvlink_domain", err, "%s has no NVSwitch",
                                 node->name);
    if ((uint64_t)r->nodes * node->graph.n_gpus > TDM_MAX_GPUS)
        code = tdm_node_error_at(root, "nodes", err,
                                 "%u nodes of %u GPUs are more than the %u this program handles",
                                 r->nodes, node->graph.n_gpus, TDM_MAX_GPUS);
    if (map && !map->faulty && check_adapters(r, root, node, err) != TDM_OK)
        code = TDM_E_INVALID;
    return code;
}

/* "rail, 8 x 400 Gbit/s". */
static const char *describe(tdm_arena *arena, const record *r, const tdm_topology_file *node)
{
    char rate[64];
    double bytes_per_s = r->network.rate.value;
    uint32_t n = count_kind(&node->graph, TDM_VERTEX_NIC);
    for (uint32_t v = 0; v < node->graph.n_vertices && !(bytes_per_s > 0); v++)
        bytes_per_s = node->graph.vertices[v].nic_bytes_per_s;
    snprintf(rate, sizeof rate, "%g", bytes_per_s * 8e-9);
    return tdm_arena_printf(arena, "%s, %u x %s Gbit/s", r->network.kind,
                            r->network.adapters ? r->network.adapters : n, rate);
}

tdm_code tdm_topology_read_nodes(tdm_arena *arena, const char *data, const char *path,
                                 tdm_node *root, const tdm_node *nodes, tdm_topology_file *file,
                                 tdm_error *err)
{
    record r = {.nodes_per_nvlink_domain = 1};
    tdm_topology_file node;
    const tdm_network *network = NULL;
    tdm_code code = TDM_OK;
    if (nodes && (code = tdm_topology_set_nodes(arena, root, nodes, err)) != TDM_OK)
        return code;
    if (tdm_network_expand(arena, root, "network", true, "adapters", tdm_network_fields, err) !=
        TDM_OK)
        code = TDM_E_INVALID;
    else if (tdm_schema_load(arena, fields, root, &r, err) != TDM_OK)
        code = TDM_E_INVALID;
    const tdm_node *map = tdm_node_child(root, "network");
    if (map && map->kind == TDM_NODE_MAP &&
        tdm_network_find(&r.network, map, &network, err) != TDM_OK)
        code = TDM_E_INVALID;
    tdm_node *block = tdm_node_child(root, "site");
    tdm_nccl_site *site = block ? TDM_ALLOC(arena, tdm_nccl_site, 1) : NULL;
    if (block && !block->faulty && tdm_nccl_site_load(arena, block, site, err) != TDM_OK)
        code = TDM_E_INVALID;
    tdm_code found = read_node(arena, data, path, root, &node, err);
    if (check(&r, root, found == TDM_OK ? &node : NULL, err) != TDM_OK || code != TDM_OK)
        return TDM_E_INVALID;
    const tdm_composition composition = {.node = &node.graph,
                                         .n_nodes = r.nodes,
                                         .nodes_per_nvlink_domain = r.nodes_per_nvlink_domain,
                                         .network = network,
                                         .spec = r.network};
    tdm_grade grade = tdm_fields_grade(fields, &r);
    grade = r.grade > (int)grade ? (tdm_grade)r.grade : grade;
    const char *name = tdm_file_stem(arena, path);
    *file = (tdm_topology_file){.name = name,
                                .description = r.description,
                                .group = r.group,
                                .device_name = node.device_name,
                                .fabric = node.fabric,
                                .network = network ? describe(arena, &r, &node) : NULL,
                                .even_network = r.network.nodes_per_leaf == 0 ||
                                                r.network.nodes_per_leaf >= r.nodes ||
                                                !(r.network.oversubscription.value > 1),
                                .grade = grade > node.grade ? grade : node.grade,
                                .graph = tdm_compose(arena, &composition, name)};
    file->graph.site = site;
    return TDM_OK;
}
