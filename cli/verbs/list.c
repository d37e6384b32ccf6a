/* list.c: `tandem list`: what there is to build scenarios from, and which engines this build has.
 */
#include "list.h"
#include "backend/backend.h"
#include "cli.h"
#include "core/collective.h"
#include "core/doc.h"
#include "core/export.h"
#include "core/fabric.h"
#include "core/files.h"
#include "core/import.h"
#include "core/model_load.h"
#include "core/network.h"
#include "core/schedule.h"
#include "sim/sim.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef tdm_list_entry entry;

typedef struct section {
    const char *name;
    entry *entries; /* [n] */
    size_t n;
} section;

typedef struct folder_section {
    const char *name, *folder; /* folder below the root, holding NAME.yaml */
} folder_section;

static const folder_section folders[] = {
    {"topologies", "topologies"},
    {"devices", "topologies/devices"},
    {"models", "scenarios/models"},
    {"scenarios", "scenarios"},
};

static const char *const section_names[] = {
    "schedules", "collectives", "fabrics",   "networks", "topologies", "imports", "exports",
    "devices",   "models",      "scenarios", "engines",  "transports", NULL};

/* One entry per member of a generated table of structs that have a name and a summary. */
#define LIST_TABLE(arena, table, all)                                                              \
    do {                                                                                           \
        while ((table)[(all)->n])                                                                  \
            (all)->n++;                                                                            \
        (all)->entries = TDM_ALLOC(arena, entry, (all)->n);                                        \
        for (size_t i_ = 0; i_ < (all)->n; i_++)                                                   \
            (all)->entries[i_] = (entry){                                                          \
                .name = (table)[i_]->name, .state = "ready", .summary = (table)[i_]->summary};     \
    } while (0)

static section list_engines(tdm_arena *arena)
{
    section all = {.name = "engines", .n = 4, .entries = TDM_ALLOC(arena, entry, 4)};
    const char *missing = tdm_sim_missing(), *no_host = tdm_host_missing();
    all.entries[0] =
        (entry){.name = "analytic",
                .state = "ready",
                .summary = "list scheduling over the plan, no contention between operations"};
    all.entries[1] = (entry){
        .name = "host",
        .state = no_host ? "missing" : "ready",
        .summary = no_host ? no_host : "real execution in fp32, ranks as threads (tandem run)"};
    all.entries[2] =
        (entry){.name = "paced",
                .state = "ready",
                .summary = "real execution of threads and waits, kernels sleep their planned time "
                           "(tandem run --device paced)"};
    all.entries[3] = (entry){
        .name = "sim",
        .state = missing ? "missing" : "ready",
        .summary = missing ? missing : "discrete-event simulation with contention (SimGrid)"};
    return all;
}

static section list_transports(tdm_arena *arena)
{
    section all = {.name = "transports", .n = 2, .entries = TDM_ALLOC(arena, entry, 2)};
    const char *missing = tdm_mpi_missing();
    all.entries[0] = (entry){
        .name = "mpi",
        .state = missing ? "missing" : "ready",
        .summary = missing ? missing : "ranks in the processes that mpirun or srun started"};
    all.entries[1] =
        (entry){.name = "threads", .state = "ready", .summary = "ranks as threads of one process"};
    return all;
}

/* Groups by name, what has none last. */
static int by_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->group && y->group && strcmp(x->group, y->group) != 0)
        return strcmp(x->group, y->group);
    if (!x->group != !y->group)
        return x->group ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool is_yaml(const char *name)
{
    size_t length = strlen(name);
    return name[0] != '.' && length > 5 && strcmp(name + length - 5, ".yaml") == 0;
}

static entry broken(tdm_arena *arena, const char *name, const tdm_error *err)
{
    return (entry){.name = name,
                   .state = "broken",
                   .summary = tdm_arena_strndup(arena, err->text, strcspn(err->text, "\n"))};
}

/* A model's size behind its description; or what is wrong with it. */
static entry measure(tdm_arena *arena, const char *path, entry it)
{
    tdm_error err = {0};
    tdm_model model;
    char all[TDM_COUNT_SIZE], active[TDM_COUNT_SIZE];
    if (tdm_model_load(arena, path, &model, &err) != TDM_OK)
        return broken(arena, it.name, &err);
    tdm_cli_count(all, tdm_model_params(&model));
    tdm_cli_count(active, tdm_model_active_params(&model));
    it.summary =
        model.num_experts > 0
            ? tdm_arena_printf(arena, "%s (%s parameters, %s active)", it.summary, all, active)
            : tdm_arena_printf(arena, "%s (%s parameters)", it.summary, all);
    return it;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* The file's own description, or what is wrong with the file. */
static entry describe(tdm_arena *arena, const char *folder, const char *file)
{
    tdm_error err = {0};
    tdm_node *root = NULL;
    const char *path = tdm_arena_printf(arena, "%s/%s", folder, file);
    entry it = {
        .name = tdm_arena_strndup(arena, file, strlen(file) - 5), .state = "ready", .summary = ""};
    if (tdm_doc_read(arena, path, &root, &err) != TDM_OK)
        return broken(arena, it.name, &err);
    const tdm_node *description = tdm_node_child(root, "description");
    if (description && description->kind == TDM_NODE_SCALAR)
        it.summary = tdm_arena_strndup(arena, description->text, strcspn(description->text, "\n"));
    if (ends_in(folder, tdm_file_topology.folder))
        return tdm_list_topology(arena, path, it);
    return ends_in(folder, tdm_file_model.folder) ? measure(arena, path, it) : it;
}

static tdm_code list_folder(tdm_arena *arena, const char *folder, section *all, tdm_error *err)
{
    DIR *directory = opendir(folder);
    size_t capacity = 0;
    if (!directory)
        return tdm_error_add(err, TDM_E_INTERNAL, "tandem: %s: %s", folder, strerror(errno));
    for (struct dirent *file = readdir(directory); file; file = readdir(directory))
        capacity += is_yaml(file->d_name);
    rewinddir(directory);
    all->entries = TDM_ALLOC(arena, entry, capacity);
    for (struct dirent *file = readdir(directory); file && all->n < capacity;
         file = readdir(directory))
        if (is_yaml(file->d_name))
            all->entries[all->n++] = describe(arena, folder, file->d_name);
    closedir(directory);
    if (all->n)
        qsort(all->entries, all->n, sizeof *all->entries, by_name);
    return TDM_OK;
}

static tdm_code list_section(tdm_arena *arena, const char *name, section *all, tdm_error *err)
{
    *all = (section){.name = name};
    if (strcmp(name, "schedules") == 0)
        LIST_TABLE(arena, tdm_schedules, all);
    else if (strcmp(name, "collectives") == 0)
        LIST_TABLE(arena, tdm_collectives, all);
    else if (strcmp(name, "fabrics") == 0)
        LIST_TABLE(arena, tdm_fabrics, all);
    else if (strcmp(name, "networks") == 0)
        LIST_TABLE(arena, tdm_networks, all);
    else if (strcmp(name, "imports") == 0)
        LIST_TABLE(arena, tdm_imports, all);
    else if (strcmp(name, "exports") == 0)
        LIST_TABLE(arena, tdm_exports, all);
    else if (strcmp(name, "engines") == 0)
        *all = list_engines(arena);
    else if (strcmp(name, "transports") == 0)
        *all = list_transports(arena);
    else
        for (size_t i = 0; i < TDM_COUNT(folders); i++)
            if (strcmp(name, folders[i].name) == 0) {
                const char *root = tdm_cli_root(arena);
                if (!root)
                    return tdm_error_add(
                        err, TDM_E_INVALID,
                        "tandem: no folder with scenarios/ and topologies/ (set TANDEM_ROOT to it)");
                return list_folder(arena, tdm_arena_printf(arena, "%s/%s", root, folders[i].folder),
                                   all, err);
            }
    return TDM_OK;
}

static void print_text(const section *sections, size_t n_sections)
{
    for (size_t s = 0; s < n_sections; s++) {
        int width = 0, facts = 0;
        for (size_t i = 0; i < sections[s].n; i++) {
            const entry *it = &sections[s].entries[i];
            width = width < (int)strlen(it->name) ? (int)strlen(it->name) : width;
            if (it->facts && facts < (int)strlen(it->facts))
                facts = (int)strlen(it->facts);
        }
        printf("%s%s\n", s ? "\n" : "", sections[s].name);
        for (size_t i = 0; i < sections[s].n; i++) {
            const entry *it = &sections[s].entries[i];
            const char *group = i > 0 ? sections[s].entries[i - 1].group : NULL;
            if (it->group && (!group || strcmp(it->group, group) != 0))
                printf("%s  %s\n", i > 0 ? "\n" : "", it->group);
            else if (!it->group && group)
                printf("\n  without a group\n");
            printf("%s%-*s  %-7s  ", it->group ? "    " : "  ", width, it->name, it->state);
            if (facts > 0)
                printf("%-*s  ", facts, it->facts ? it->facts : "");
            printf("%s\n", it->summary);
        }
    }
}

static void print_json(const section *sections, size_t n_sections)
{
    json_t *root = json_pack("{s:i}", "schema_version", 1);
    for (size_t s = 0; s < n_sections; s++) {
        json_t *items = json_array();
        for (size_t i = 0; i < sections[s].n; i++) {
            const entry *it = &sections[s].entries[i];
            json_t *item = json_pack("{s:s, s:s, s:s}", "name", it->name, "state", it->state,
                                     "summary", it->summary);
            if (it->n_gpus > 0)
                json_object_update_new(item,
                                       json_pack("{s:s?, s:i, s:i, s:s?, s:s?}", "group", it->group,
                                                 "gpus", (int)it->n_gpus, "nodes", (int)it->n_nodes,
                                                 "device", it->device, "network", it->network));
            json_array_append_new(items, item);
        }
        json_object_set_new(root, sections[s].name, items);
    }
    json_dumpf(root, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(root);
}

static int unknown_section(const char *word)
{
    const char *nearest = tdm_suggest(word, section_names, TDM_COUNT(section_names) - 1);
    if (nearest)
        return tdm_cli_complain(TDM_E_INVALID, "list: there are no %s (did you mean %s?)", word,
                                nearest);
    return tdm_cli_complain(TDM_E_INVALID,
                            "list: there are no %s (tandem list prints all there is)", word);
}

static int run(int argc, char **argv)
{
    static const char *const formats[] = {"text", "json", NULL};
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_cli_strings wanted;
    const char *format = "text";
    const tdm_cli_option options[] = {
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = formats,
         .value = &format},
        {0},
    };
    section sections[TDM_COUNT(section_names)];
    size_t n_sections = 0;
    int code = tdm_cli_parse(&arena, tdm_verb_find("list"), options, argc, argv, 0, 1, &wanted);
    for (size_t i = 0; code == TDM_CLI_GO_ON && section_names[i]; i++)
        if (wanted.n == 0 || strcmp(wanted.items[0], section_names[i]) == 0)
            if (list_section(&arena, section_names[i], &sections[n_sections++], &err) != TDM_OK)
                code = tdm_cli_fail(&err);
    if (code == TDM_CLI_GO_ON && n_sections == 0)
        code = unknown_section(wanted.items[0]);
    if (code == TDM_CLI_GO_ON) {
        if (strcmp(format, "json") == 0)
            print_json(sections, n_sections);
        else
            print_text(sections, n_sections);
        code = tdm_cli_finish(TDM_OK);
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_list = {
    .name = "list",
    .usage =
        "[schedules|collectives|fabrics|networks|topologies|imports|exports|devices|models|scenarios|"
        "engines|transports] [options]",
    .summary = "what scenarios can name, and which engines are there",
    .run = run,
};
