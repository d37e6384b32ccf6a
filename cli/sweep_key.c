/* sweep_key.c: when two points are the same one: a hash of all that a prediction depends on. */
#include "sweep.h"

#include "core/doc.h"
#include "core/files.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

/* Source: Fowler, Noll, Vo, Eastlake, The FNV Non-Cryptographic Hash Algorithm, section 2. */
uint64_t tdm_sweep_hash(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *c = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ c[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The text with its final zero, so that two texts do not run into each other. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
    return text ? tdm_sweep_hash(hash, text, strlen(text) + 1) : tdm_sweep_hash(hash, "\1", 2);
}

/* Contents of a file; one that cannot be read is as good as an empty one. */
static uint64_t hash_file(uint64_t hash, const char *path)
{
    char bytes[16384];
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file)
        return hash_text(hash, NULL);
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0;)
        hash = tdm_sweep_hash(hash, bytes, n);
    fclose(file);
    return hash_text(hash, "");
}

uint64_t tdm_sweep_program_hash(void)
{
    return hash_file(hash_text(TDM_SWEEP_HASH_START, TANDEM_VERSION), "/proc/self/exe");
}

static uint64_t hash_node(uint64_t hash, const tdm_node *node)
{
    const unsigned char marks[] = {(unsigned char)node->kind, (unsigned char)node->quoted};
    hash = tdm_sweep_hash(hash, marks, sizeof marks);
    hash = hash_text(hash, node->key);
    hash = hash_text(hash, node->text);
    for (const tdm_node *child = node->first; child; child = child->next)
        hash = hash_node(hash, child);
    return hash_text(hash, "end");
}

/* A schedule that was read from a file: the scenario only names it. */
static uint64_t hash_order(uint64_t hash, const char *folder, const tdm_scenario *scenario,
                           tdm_arena *arena)
{
    const tdm_node *csv = tdm_node_find(scenario->document, "schedule.csv");
    return csv ? hash_file(hash, tdm_file_join(arena, folder, csv->text)) : hash;
}

/* A topology's file, and that of the node it is composed of. */
static uint64_t hash_topology(tdm_arena *arena, uint64_t hash, const char *root, const char *path)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_node *document;
    hash = hash_file(hash, path);
    if (!path || tdm_doc_read(arena, path, &document, err) != TDM_OK)
        return hash;
    const tdm_node *node = tdm_node_child(document, "node");
    if (!node || node->kind != TDM_NODE_SCALAR)
        return hash;
    return hash_file(hash, tdm_file_lookup(arena, &tdm_file_topology, root,
                                           tdm_file_folder(arena, path), node->text));
}

/* Topology and device as their files have them: the scenario only names them. */
static uint64_t hash_machine(tdm_arena *arena, uint64_t hash, const char *root,
                             const tdm_scenario *scenario)
{
    const char *folder = tdm_file_folder(arena, scenario->path);
    const tdm_node *topology = tdm_node_child(scenario->document, "topology"),
                   *device = tdm_node_child(scenario->document, "device");
    const char *device_name = device ? device->text : scenario->topology.device_name;
    hash = hash_order(hash, folder, scenario, arena);
    if (scenario->routing.record)
        hash = hash_file(hash, scenario->routing.record->path);
    if (topology)
        hash =
            hash_topology(arena, hash, root,
                          tdm_file_lookup(arena, &tdm_file_topology, root, folder, topology->text));
    if (device_name)
        hash = hash_file(hash, tdm_file_lookup(arena, &tdm_file_device, root, folder, device_name));
    return hash;
}

/* The document has whatever was written, with the assignments and the model's own file; the
 * resolved text has the defaults, too. */
uint64_t tdm_sweep_key(tdm_arena *arena, uint64_t start, const char *root,
                       const tdm_scenario *scenario)
{
    char *text = NULL;
    size_t n = 0;
    uint64_t hash = start;
    FILE *file = open_memstream(&text, &n);
    if (file) {
        tdm_output_scenario(scenario, file);
        if (fclose(file) == 0)
            hash = tdm_sweep_hash(hash, text, n);
        free(text);
    }
    if (!scenario->document)
        return hash;
    return hash_machine(arena, hash_node(hash, scenario->document), root, scenario);
}
