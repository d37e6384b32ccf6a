/* files.c: looks names up in folders. */
#include "files.h"

#include "schema.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_NAMES = 256 };

const tdm_file_kind tdm_file_model = {"model", "models", "scenarios/models", "config.json"};
const tdm_file_kind tdm_file_topology = {"topology", "topologies", "topologies", NULL};
const tdm_file_kind tdm_file_device = {"device", "devices", "topologies/devices", NULL};

static bool ends_in_yaml(const char *name)
{
    size_t length = strlen(name);
    return length > 5 && strcmp(name + length - 5, ".yaml") == 0;
}

const char *tdm_file_stem(tdm_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t length = strlen(name) - (ends_in_yaml(name) ? 5 : 0);
    /* "...yaml": what is left would be a folder of its own meaning. */
    if (strspn(name, ".") >= length)
        length = strlen(name);
    return tdm_arena_strndup(arena, name, length);
}

const char *tdm_file_join(tdm_arena *arena, const char *folder, const char *name)
{
    if (folder[0] == '\0' || strcmp(folder, ".") == 0 || name[0] == '/')
        return tdm_arena_strdup(arena, name);
    return tdm_arena_printf(arena, "%s/%s", folder, name);
}

const char *tdm_file_folder(tdm_arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return ".";
    return slash == path ? "/" : tdm_arena_strndup(arena, path, (size_t)(slash - path));
}

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

/* The path itself, or the file in it that it stands for; NULL when neither is there. */
static const char *open_path(tdm_arena *arena, const tdm_file_kind *kind, const char *path)
{
    if (is_file(path))
        return path;
    if (!kind->inside)
        return NULL;
    size_t length = strlen(path);
    const char *inner = tdm_arena_printf(
        arena, "%s%s%s", path, length > 0 && path[length - 1] == '/' ? "" : "/", kind->inside);
    return is_file(inner) ? inner : NULL;
}

const char *tdm_file_lookup(tdm_arena *arena, const tdm_file_kind *kind, const char *root,
                            const char *beside, const char *name)
{
    const char *candidates[3] = {NULL};
    size_t n = 0;
    if (!strchr(name, '/') && !ends_in_yaml(name) && !tdm_doc_is_json(name)) {
        const char *file = tdm_arena_printf(arena, "%s.yaml", name);
        candidates[n++] = tdm_file_join(arena, root, tdm_file_join(arena, kind->folder, file));
        candidates[n++] = tdm_file_join(arena, beside, file);
        candidates[n++] = tdm_file_join(arena, beside, name);
    } else {
        candidates[n++] = tdm_file_join(arena, beside, name);
        candidates[n++] = name;
    }
    for (size_t i = 0; i < n; i++) {
        const char *found = open_path(arena, kind, candidates[i]);
        if (found)
            return found;
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the YAML files in a folder, sorted; returns how many. */
static size_t list_names(tdm_arena *arena, const char *folder, const char *names[MAX_NAMES])
{
    size_t n = 0;
    DIR *directory = opendir(folder);
    if (!directory)
        return 0;
    for (struct dirent *file = readdir(directory); file && n < MAX_NAMES; file = readdir(directory))
        if (ends_in_yaml(file->d_name) && file->d_name[0] != '.')
            names[n++] = tdm_file_stem(arena, file->d_name);
    closedir(directory);
    if (n > 0)
        qsort(names, n, sizeof names[0], by_name);
    return n;
}

tdm_code tdm_file_find(tdm_arena *arena, const tdm_file_kind *kind, const char *root,
                       const char *beside, const tdm_node *node, const char **path, tdm_error *err)
{
    const char *found = tdm_file_lookup(arena, kind, root, beside, node->text);
    if (found) {
        *path = found;
        return TDM_OK;
    }
    char quoted[TDM_QUOTE_SIZE];
    tdm_node_quote(quoted, node->text);
    if (kind->inside && (strchr(node->text, '/') || tdm_doc_is_json(node->text)))
        return tdm_node_error(node, err, "%s: no such file, nor a folder that holds %s", quoted,
                              kind->inside);
    const char *names[MAX_NAMES];
    size_t n = list_names(arena, tdm_file_join(arena, root, kind->folder), names);
    const char *near = tdm_suggest(node->text, names, n);
    if (near)
        return tdm_node_error(node, err, "%s: no such %s (did you mean %s?)", quoted, kind->noun,
                              near);
    return tdm_node_error(node, err, "%s: no such %s in %s (tandem list %s shows them)", quoted,
                          kind->noun, kind->folder, kind->plural);
}

enum { MAX_FILE_BYTES = 64 << 20 };

tdm_code tdm_file_read(tdm_arena *arena, const char *path, const char **text, size_t *length,
                       tdm_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(errno));
    char *bytes = malloc(MAX_FILE_BYTES);
    size_t n = bytes ? fread(bytes, 1, MAX_FILE_BYTES, file) : 0;
    bool failed = !bytes || ferror(file);
    fclose(file);
    tdm_code code = TDM_OK;
    if (failed)
        code = tdm_error_add(err, TDM_E_INVALID, "%s: cannot be read", path);
    else if (n == MAX_FILE_BYTES)
        code =
            tdm_error_add(err, TDM_E_INVALID, "%s: larger than %d MiB", path, MAX_FILE_BYTES >> 20);
    if (code == TDM_OK) {
        *text = tdm_arena_strndup(arena, bytes, n);
        *length = n;
    }
    free(bytes);
    return code;
}
