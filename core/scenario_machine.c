/* scenario_machine.c: finds and reads what a scenario names: model, topology, device. */
#include "device_load.h"
#include "files.h"
#include "model_hf.h"
#include "scenario_parts.h"
#include "topology_load.h"

#include <string.h>

/* Puts a model's map in the place of what names it, so that later messages about "model.KEY" point
 * into it. */
static void adopt_model(tdm_node *document, tdm_node *named, tdm_node *map)
{
    if (named == map)
        return;
    tdm_node_remove(named);
    tdm_node_append(document, "model", map);
}

/* The map in the file that `node` names; NULL after a message. */
static tdm_node *read_model_file(tdm_scenario_loader *loader, tdm_node *node, const char **name)
{
    const char *path;
    tdm_node *map = NULL;
    if (tdm_file_find(loader->arena, &tdm_file_model, loader->root, loader->folder, node, &path,
                      loader->err) == TDM_OK)
        tdm_model_document(loader->arena, path, &map, name, loader->notes, loader->err);
    if (!map)
        node->faulty = true;
    return map;
}

/* Moves the keys of `over` into `map`, in the place of those that mean the same. */
static void override_model(tdm_node *map, tdm_node *over)
{
    for (tdm_node *child = over->first, *next; child; child = next) {
        next = child->next;
        const tdm_field *field = tdm_schema_find(tdm_model_fields, child->key);
        for (tdm_node *old = map->first, *after; old && field; old = after) {
            after = old->next;
            if (tdm_schema_find(tdm_model_fields, old->key) == field)
                tdm_node_remove(old);
        }
        const char *key = child->key;
        tdm_node_remove(child);
        tdm_node_append(map, key, child);
    }
}

/* The model's own map, whichever of the three ways names it; NULL after a message. */
static tdm_node *find_model_map(tdm_scenario_loader *loader, tdm_node *node, const char **name)
{
    if (node->kind == TDM_NODE_SCALAR)
        return read_model_file(loader, node, name);
    if (node->kind == TDM_NODE_LIST) {
        tdm_node_error(node, loader->err,
                       "a list: expected the name of a model or a map of its keys");
        return NULL;
    }
    tdm_node *base = tdm_node_child(node, "base"), *hf = tdm_node_child(node, "hf");
    if (base && hf) {
        tdm_node_error(hf, loader->err, "names a model, and so does base; one of them is enough");
        return NULL;
    }
    if (!base && !hf)
        return node;
    char quoted[TDM_QUOTE_SIZE];
    base = base ? base : hf;
    if (base->kind != TDM_NODE_SCALAR || tdm_node_is_null(base)) {
        tdm_node_error(base, loader->err, "expected the name of a model");
        return NULL;
    }
    tdm_node *map = read_model_file(loader, base, name);
    if (map && base == hf && !tdm_doc_is_json(map->path)) {
        tdm_node_error(hf, loader->err,
                       "%s: expected Hugging Face's config.json or a folder that holds one",
                       tdm_node_quote(quoted, hf->text));
        return NULL;
    }
    if (!map || map->kind != TDM_NODE_MAP)
        return map;
    tdm_node_remove(base);
    override_model(map, node);
    map->path = node->path; /* what concerns the whole is the scenario's doing */
    map->line = node->line;
    map->column = node->column;
    return map;
}

void tdm_scenario_find_model(tdm_scenario_loader *loader)
{
    tdm_node *node = tdm_node_child(loader->document, "model");
    if (!node) {
        tdm_node_error_at(
            loader->document, "model", loader->err,
            "missing: the name of a model or a map of its keys (or pass_times instead)");
        return;
    }
    if (node->faulty)
        return;
    const char *name = loader->scenario->name;
    tdm_node *map = find_model_map(loader, node, &name);
    if (!map)
        return;
    adopt_model(loader->document, node, map);
    loader->has_model =
        tdm_model_read(loader->arena, map, name, &loader->scenario->model, loader->err) == TDM_OK;
}

static void find_topology(tdm_scenario_loader *loader)
{
    const char *path;
    const tdm_node *node = tdm_node_child(loader->document, "topology");
    if (!node)
        tdm_node_error_at(loader->document, "topology", loader->err,
                          "missing: the name of a topology");
    const tdm_node *nodes = tdm_node_child(loader->document, "nodes");
    if (!node || node->faulty || (nodes && nodes->faulty))
        return;
    loader->has_topology = tdm_file_find(loader->arena, &tdm_file_topology, loader->root,
                                         loader->folder, node, &path, loader->err) == TDM_OK &&
                           tdm_topology_load(loader->arena, loader->root, path, nodes,
                                             &loader->scenario->topology, loader->err) == TDM_OK;
    if (loader->has_topology)
        loader->topology_folder = tdm_file_folder(loader->arena, path);
}

/* The file of the device: the scenario's own choice, else the topology's. NULL after a message. */
static const char *find_device_path(tdm_scenario_loader *loader)
{
    const char *path = NULL;
    const tdm_node *node = tdm_node_child(loader->document, "device");
    if (node) {
        if (!node->faulty)
            tdm_file_find(loader->arena, &tdm_file_device, loader->root, loader->folder, node,
                          &path, loader->err);
        return path;
    }
    const tdm_topology *topology = &loader->scenario->topology;
    if (!loader->has_topology)
        return NULL;
    if (!topology->device_name) {
        tdm_node_error_at(loader->document, "device", loader->err,
                          "missing: topology %s names none", topology->name);
        return NULL;
    }
    path = tdm_file_lookup(loader->arena, &tdm_file_device, loader->root, loader->topology_folder,
                           topology->device_name);
    if (!path)
        path = tdm_file_lookup(loader->arena, &tdm_file_device, loader->root, loader->folder,
                               topology->device_name);
    if (!path)
        tdm_node_error_at(loader->document, "topology", loader->err,
                          "%s names the device %s, and there is no such file in %s", topology->name,
                          topology->device_name, tdm_file_device.folder);
    return path;
}

/* NCCL's choices depend on it. */
static void check_capability(tdm_scenario_loader *loader)
{
    const tdm_topology *topology = &loader->scenario->topology;
    for (uint32_t g = 0; g < topology->n_gpus && !topology->cores; g++)
        if (topology->graph->vertices[topology->graph->gpus[g]].sm == 0) {
            tdm_node_error_at(loader->document, "topology", loader->err,
                              "the compute capability of the GPUs of %s is not known, on which "
                              "NCCL's choices depend: give compute_capability in their device's "
                              "file",
                              topology->name);
            return;
        }
}

void tdm_scenario_find_machine(tdm_scenario_loader *loader)
{
    find_topology(loader);
    const char *path = find_device_path(loader);
    if (path && loader->has_topology)
        check_capability(loader);
    if (path)
        loader->has_device =
            tdm_device_load(loader->arena, path, &loader->scenario->device, loader->err) == TDM_OK;
}
