/* topology_load.c: the keys every topology has, then those of its fabric, in one table. A file with
 * `node` instead of `fabric` is read by topology_nodes.c. */
#include "topology_load.h"

#include "core/nccl/site.h"
#include "device_load.h"
#include "fabric.h"
#include "files.h"
#include "topology_parts.h"

#include <string.h>

typedef struct common {
    const char *description, *fabric, *device, *source, *group;
    int grade;
    const tdm_node *site;
} common;

static const tdm_field common_fields[] = {
    {.key = "description",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(common, description),
     .required = true,
     .doc = "what machine this is, one line"},
    {.key = "fabric",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(common, fabric),
     .required = true,
     .doc = "kind of interconnect (or node, for copies of a machine that another file tells)"},
    {.key = "device",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(common, device),
     .required = true,
     .doc = "its GPUs: the name of a file in topologies/devices"},
    {.key = "source",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(common, source),
     .required = true,
     .doc = "where the machine's shape and the numbers without their own source come from"},
    {.key = "grade",
     .type = TDM_FIELD_CHOICE,
     .offset = offsetof(common, grade),
     .choices = tdm_grade_choices,
     .doc = "how far the numbers without their own grade can be trusted"},
    {.key = "group",
     .type = TDM_FIELD_TEXT,
     .offset = offsetof(common, group),
     .doc = "heading under which tandem list topologies shows it"},
    {.key = "site",
     .type = TDM_FIELD_NODE,
     .offset = offsetof(common, site),
     .doc = "what was measured of NCCL here, as tandem fit writes it"},
    {.key = NULL},
};

/* The fabric that the file names; complains, with the known ones, when there is none of that name.
 */
static const tdm_fabric *find_fabric(const tdm_node *root, tdm_error *err)
{
    enum { MAX_NAMES = 32 };
    const tdm_node *node = tdm_node_child(root, "fabric");
    if (!node)
        return NULL; /* said to be missing */
    bool is_name = node->kind == TDM_NODE_SCALAR && node->text[0];
    const char *names[MAX_NAMES];
    char list[512] = "";
    size_t n = 0;
    for (; tdm_fabrics[n] && n < MAX_NAMES; n++) {
        if (is_name && strcmp(tdm_fabrics[n]->name, node->text) == 0)
            return tdm_fabrics[n];
        names[n] = tdm_fabrics[n]->name;
        size_t used = strlen(list);
        if (used + strlen(names[n]) + 3 < sizeof list)
            strcat(strcat(list, n ? ", " : ""), names[n]);
    }
    char quoted[TDM_QUOTE_SIZE];
    if (!is_name) {
        tdm_node_error(node, err, "expected one of %s", list);
        return NULL;
    }
    const char *near = tdm_suggest(node->text, names, n);
    tdm_node_error(node, err, "%s: expected one of %s%s%s%s", tdm_node_quote(quoted, node->text),
                   list, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    return NULL;
}

/* The common table and the fabric's in one; the fabric's struct follows the common one. */
static const tdm_field *join_tables(tdm_arena *arena, const tdm_fabric *fabric, size_t spec_offset)
{
    size_t n_own = 0;
    while (fabric->fields[n_own].key)
        n_own++;
    size_t n_common = TDM_COUNT(common_fields) - 1;
    tdm_field *fields = TDM_ALLOC(arena, tdm_field, n_common + n_own + 1);
    memcpy(fields, common_fields, n_common * sizeof *fields);
    for (size_t i = 0; i < n_own; i++) {
        fields[n_common + i] = fabric->fields[i];
        fields[n_common + i].offset += spec_offset;
    }
    return fields;
}

/* What can be said while the fabric is not known, and with it the keys that are allowed. */
static tdm_code check_common(const tdm_node *root, tdm_error *err)
{
    for (const tdm_field *field = common_fields; field->key; field++)
        if (field->required && !tdm_node_child(root, field->key))
            tdm_node_error_at(root, field->key, err, "missing: %s", field->doc);
    return TDM_E_INVALID;
}

tdm_code tdm_topology_set_nodes(tdm_arena *arena, tdm_node *root, const tdm_node *nodes,
                                tdm_error *err)
{
    static const char *const key[] = {"nodes"};
    tdm_code code = tdm_doc_set(arena, root, key, 1, nodes->text, nodes->path, err);
    if (code != TDM_OK)
        return code;
    tdm_node *set = tdm_node_child(root, key[0]);
    set->line = nodes->line;
    set->column = nodes->column;
    return TDM_OK;
}

/* A topology file, read by the keys of its fabric. */
typedef struct loaded {
    const tdm_fabric *fabric;
    const tdm_node *root;
    const tdm_field *fields;
    const unsigned char *record;
    const common *common;
    const void *spec;
    const tdm_nccl_site *site; /* NULL: none */
} loaded;

static tdm_code load(tdm_arena *arena, tdm_node *root, const tdm_node *nodes, loaded *out,
                     tdm_error *err)
{
    tdm_code code;
    if (root->kind != TDM_NODE_MAP)
        return tdm_schema_load(arena, common_fields, root, NULL, err);
    const tdm_fabric *fabric = find_fabric(root, err);
    if (!fabric)
        return check_common(root, err);
    if (nodes && !tdm_schema_find(fabric->fields, "nodes"))
        return tdm_node_error(nodes, err, "%s: its fabric %s does not count nodes", root->path,
                              fabric->name);
    if (nodes && (code = tdm_topology_set_nodes(arena, root, nodes, err)) != TDM_OK)
        return code;
    if (fabric->prepare && (code = fabric->prepare(arena, root, err)) != TDM_OK)
        return code;
    size_t spec_offset = (sizeof(common) + 15) / 16 * 16;
    unsigned char *record = tdm_arena_alloc(arena, spec_offset + fabric->spec_bytes);
    const tdm_field *fields = join_tables(arena, fabric, spec_offset);
    code = tdm_schema_load(arena, fields, root, record, err);
    if (fabric->check(record + spec_offset, root, err) != TDM_OK || code != TDM_OK)
        return TDM_E_INVALID;
    tdm_node *block = tdm_node_child(root, "site");
    tdm_nccl_site *site = block ? TDM_ALLOC(arena, tdm_nccl_site, 1) : NULL;
    if (block && (code = tdm_nccl_site_load(arena, block, site, err)) != TDM_OK)
        return code;
    *out = (loaded){.fabric = fabric,
                    .root = root,
                    .fields = fields,
                    .record = record,
                    .common = (const common *)(const void *)record,
                    .spec = record + spec_offset,
                    .site = site};
    return TDM_OK;
}

/* The device that the file names; *found: whether there is such a file. */
static tdm_code find_device(tdm_arena *arena, const char *data, const char *path,
                            const loaded *file, tdm_device *device, bool *found, tdm_error *err)
{
    const tdm_fabric *fabric = file->fabric;
    const tdm_node *named = tdm_node_child(file->root, "device");
    const char *folder = tdm_file_folder(arena, path), *device_path = NULL;
    tdm_code code = TDM_OK;
    if (data && fabric->check_device)
        code = tdm_file_find(arena, &tdm_file_device, data, folder, named, &device_path, err);
    else if (data)
        device_path = tdm_file_lookup(arena, &tdm_file_device, data, folder, file->common->device);
    *found = code == TDM_OK && device_path;
    if (*found)
        code = tdm_device_load(arena, device_path, device, err);
    if (code == TDM_OK && *found && fabric->check_device)
        code = fabric->check_device(file->spec, device, file->root, err);
    return code;
}

static tdm_code read_fabric(tdm_arena *arena, const char *data, const char *path, tdm_node *root,
                            const tdm_node *nodes, tdm_topology_file *out, tdm_error *err)
{
    loaded file = {0};
    tdm_device device;
    bool has_device = false;
    tdm_code code = load(arena, root, nodes, &file, err);
    if (code == TDM_OK)
        code = find_device(arena, data, path, &file, &device, &has_device, err);
    if (code != TDM_OK)
        return code;
    const char *name = tdm_file_stem(arena, path);
    tdm_grade grade = tdm_fields_grade(file.fields, file.record);
    *out = (tdm_topology_file){
        .name = name,
        .description = file.common->description,
        .group = file.common->group,
        .device_name = file.common->device,
        .fabric = file.fabric->name,
        .even_network = true, /* a fabric's own joins all adapters in one switch */
        .grade = file.common->grade > (int)grade ? (tdm_grade)file.common->grade : grade,
        .graph = file.fabric->graph(arena, file.spec, has_device ? &device : NULL, name),
        .cores = file.fabric->cores ? file.fabric->cores(arena, file.spec) : NULL};
    out->graph.site = file.site;
    return TDM_OK;
}

tdm_code tdm_topology_read(tdm_arena *arena, const char *data, const char *path,
                           const tdm_node *nodes, tdm_topology_file *file, tdm_error *err)
{
    tdm_node *root;
    tdm_code code = tdm_doc_read(arena, path, &root, err);
    if (code != TDM_OK)
        return code;
    if (tdm_topology_is_composed(root))
        return tdm_topology_read_nodes(arena, data, path, root, nodes, file, err);
    return read_fabric(arena, data, path, root, nodes, file, err);
}

tdm_code tdm_topology_load_graph(tdm_arena *arena, const char *data, const char *path,
                                 tdm_graph *graph, tdm_error *err)
{
    tdm_topology_file file;
    tdm_code code = tdm_topology_read(arena, data, path, NULL, &file, err);
    if (code == TDM_OK)
        *graph = file.graph;
    return code;
}

/* Ramps and launch floors that all sites share were measured on nodes of up to 8 GPUs, Ampere and
 * later (core/nccl/ramp.c). */
static tdm_grade grade_of_communication(const tdm_graph *graph)
{
    enum { MEASURED_GPUS = 8, MEASURED_SM = 80 };
    if (graph->site && graph->site->has_launch)
        return graph->site->grade;
    bool measured = graph->n_gpus <= (uint64_t)MEASURED_GPUS * graph->n_nodes;
    for (uint32_t g = 0; g < graph->n_gpus; g++)
        measured &= graph->vertices[graph->gpus[g]].sm >= MEASURED_SM;
    return measured ? TDM_GRADE_PUBLISHED : TDM_GRADE_GUESS;
}

tdm_code tdm_topology_load(tdm_arena *arena, const char *data, const char *path,
                           const tdm_node *nodes, tdm_topology *topology, tdm_error *err)
{
    tdm_topology_file *file = TDM_ALLOC(arena, tdm_topology_file, 1);
    tdm_code code = tdm_topology_read(arena, data, path, nodes, file, err);
    if (code != TDM_OK)
        return code;
    tdm_nccl_settings *settings = TDM_ALLOC(arena, tdm_nccl_settings, 1);
    *settings = tdm_nccl_settings_default();
    *topology = (tdm_topology){.name = file->name,
                               .description = file->description,
                               .device_name = file->device_name,
                               .grade = file->grade,
                               .nccl = settings,
                               .cores = file->cores,
                               .same_nodes = file->graph.n_nodes == 1 || file->even_network};
    topology->link_bytes_per_s.grade = file->grade;
    tdm_grade measured = file->cores ? file->grade : grade_of_communication(&file->graph);
    topology->grade = measured > file->grade ? measured : file->grade;
    tdm_topology_of_graph(arena, &file->graph, topology);
    return TDM_OK;
}
