/* page_read.c: what a page is made of. */
#include "page.h"

#include "core/files.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

static bool is_file(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool tdm_page_is_result(tdm_arena *arena, const char *folder)
{
    return is_file(tdm_file_join(arena, folder, "figures.json"));
}

bool tdm_page_is_pair(tdm_arena *arena, const char *folder)
{
    return tdm_page_is_result(arena, tdm_file_join(arena, folder, "predicted")) &&
           tdm_page_is_result(arena, tdm_file_join(arena, folder, "measured"));
}

/* NULL when there is no such file. */
static tdm_code read_text(tdm_arena *arena, const char *folder, const char *name, const char **text,
                          tdm_error *err)
{
    const char *path = tdm_file_join(arena, folder, name);
    size_t length;
    *text = NULL;
    return is_file(path) ? tdm_file_read(arena, path, text, &length, err) : TDM_OK;
}

tdm_code tdm_page_read(tdm_arena *arena, const char *root, const char *folder,
                       tdm_page_result *result, tdm_error *err)
{
    tdm_side_reader reader = {.root = root};
    tdm_page_result r = {.folder = folder};
    tdm_code code = tdm_side_read(arena, &reader, folder, &r.side, err);
    if (code == TDM_OK)
        code = read_text(arena, folder, "scenario.yaml", &r.scenario, err);
    if (code == TDM_OK)
        code = read_text(arena, folder, "command.txt", &r.command, err);
    if (code != TDM_OK)
        return code;
    r.document = json_load_file(tdm_file_join(arena, folder, "figures.json"), 0, NULL);
    if (!r.document) /* the side was read from it */
        return tdm_error_add(err, TDM_E_INTERNAL, "%s/figures.json: out of memory", folder);
    *result = r;
    return TDM_OK;
}

/* That of the comparison which the verb wrote; without one there is no verdict. */
static void read_tolerance(tdm_arena *arena, const char *folder, tdm_tolerance *tolerance)
{
    json_t *document = json_load_file(tdm_file_join(arena, folder, "comparison.json"), 0, NULL);
    const json_t *list = tdm_page_at(document, "tolerance.figures");
    tdm_tolerance t = {.share = tdm_page_number(document, "tolerance.relative")};
    const char **names = TDM_ALLOC(arena, const char *, json_array_size(list) + 1);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = tdm_page_text(json_array_get(list, i), "figure");
        if (tdm_side_figure(name) != UINT32_MAX)
            names[t.n_figures++] = tdm_arena_strdup(arena, name);
    }
    t.figures = names;
    t.given = t.n_figures > 0 && !isnan(t.share);
    *tolerance = t;
    json_decref(document);
}

tdm_code tdm_page_read_pair(tdm_arena *arena, const char *root, const char *folder,
                            tdm_page_pair *pair, tdm_error *err)
{
    tdm_code code = tdm_page_read(arena, root, tdm_file_join(arena, folder, "predicted"),
                                  &pair->predicted, err);
    if (code != TDM_OK)
        return code;
    code =
        tdm_page_read(arena, root, tdm_file_join(arena, folder, "measured"), &pair->measured, err);
    if (code != TDM_OK) {
        json_decref(pair->predicted.document);
        return code;
    }
    tdm_page_result *a = &pair->predicted, *b = &pair->measured;
    a->side.name =
        tdm_arena_printf(arena, "engine %s", tdm_page_text(a->document, "provenance.engine"));
    b->side.name =
        tdm_arena_printf(arena, "device %s", tdm_page_text(b->document, "provenance.engine"));
    read_tolerance(arena, folder, &pair->tolerance);
    tdm_compare(arena, &a->side, &b->side, &pair->comparison);
    return TDM_OK;
}

const json_t *tdm_page_at(const json_t *document, const char *path)
{
    char key[64];
    const json_t *at = document;
    for (;;) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key)
            return NULL;
        memcpy(key, path, n);
        key[n] = '\0';
        at = json_object_get(at, key);
        if (!path[n])
            return at;
        path += n + 1;
    }
}

double tdm_page_number(const json_t *document, const char *path)
{
    const json_t *value = tdm_page_at(document, path);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

const char *tdm_page_text(const json_t *document, const char *path)
{
    const char *text = json_string_value(tdm_page_at(document, path));
    return text ? text : "";
}
