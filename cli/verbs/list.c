/* list.c: `tandem list`: what there is to build scenarios from, and which engines this build has.
 */
#include "backend/backend.h"
#include "cli.h"
#include "core/collective.h"
#include "core/doc.h"
#include "core/export.h"
#include "core/fabric.h"
#include "core/files.h"
#include "core/import.h"
#include "core/model_load.h"
#include "core/schedule.h"
#include "sim/sim.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    const char *name;
    const char *state;   /* "ready", "missing", "broken" */
    const char *summary; /* one line; for what is not ready: why, and what to do */
} entry;

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

static const char *const section_names[] = {"schedules", "collectives", "fabrics",    "topologies",
                                            "imports",   "exports",     "devices",    "models",
                                            "scenarios", "engines",     "transports", NULL};

/* One entry per member of a generated table of structs that have a name and a summary. */
#define LIST_TABLE(arena, table, all)                                                              \
    do {                                                                                           \
        while ((table)[(all)->n])                                                                  \
            (all)->n++;                                                                            \
        (all)->entries = TDM_ALLOC(arena, entry, (all)->n);                                        \
        for (size_t i_ = 0; i_ < (all)->n; i_++)                                                   \
            (all)->entries[i_] = (entry){(table)[i_]->name, "ready", (table)[i_]->summary};        \
    } while (0)

static section list_engines(tdm_arena *arena)
{
    section all = {.name = "engines", .n = 4, .entries = TDM_ALLOC(arena, entry, 4)};
    const char *missing = tdm_sim_missing(), *no_host = tdm_host_missing();
    all.entries[0] = (entry){"analytic", "ready",
                             "list scheduling over the plan, no contention between operations"};
    all.entries[1] =
        (entry){"host", no_host ? "missing" : "ready",
                no_host ? no_host : "real execution in fp32, ranks as threads (tandem run)"};
    all.entries[2] =
        (entry){"paced", "ready",
                "real execution of threads and waits, kernels sleep their planned time "
                "(tandem run --device paced)"};
    all.entries[3] =
        (entry){"sim", missing ? "missing" : "ready",
                missing ? missing : "discrete-event simulation with contention (SimGrid)"};
    return all;
}

static section list_transports(tdm_arena *arena)
{
    section all = {.name = "transports", .n = 2, .entries = TDM_ALLOC(arena, entry, 2)};
    const char *missing = tdm_mpi_missing();
    all.entries[0] =
        (entry){"mpi", missing ? "missing" : "ready",
                missing ? missing : "ranks in the processes that mpirun or srun started"};
    all.entries[1] = (entry){"threads", "ready", "ranks as threads of one process"};
    return all;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static bool is_yaml(const char *name)
{
    size_t length = strlen(name);
    return name[0] != '.' && length > 5 && strcmp(name + length - 5, ".yaml") == 0;
}

static entry broken(tdm_arena *arena, const char *name, const tdm_error *err)
{
    return (entry){name, "broken", tdm_arena_strndup(arena, err->text, strcspn(err->text, "\n"))};
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
    size_t length = strlen(folder), tail = strlen(tdm_file_model.folder);
    bool is_model = length >= tail && strcmp(folder + length - tail, tdm_file_model.folder) == 0;
    return is_model ? measure(arena, path, it) : it;
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
        int width = 0;
        for (size_t i = 0; i < sections[s].n; i++)
            if (width < (int)strlen(sections[s].entries[i].name))
                width = (int)strlen(sections[s].entries[i].name);
        printf("%s%s\n", s ? "\n" : "", sections[s].name);
        for (size_t i = 0; i < sections[s].n; i++) {
            const entry *it = &sections[s].entries[i];
            printf("  %-*s  %-7s  %s\n", width, it->name, it->state, it->summary);
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
            json_array_append_new(items, json_pack("{s:s, s:s, s:s}", "name", it->name, "state",
                                                   it->state, "summary", it->summary));
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
        "[schedules|collectives|fabrics|topologies|imports|exports|devices|models|scenarios|engines|"
        "transports] "
        "[options]",
    .summary = "what scenarios can name, and which engines are there",
    .run = run,
};
