/* schema.c: walks a document by its table of fields and reports whatever does not fit. */
#include "schema.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* MAX_EXPLAINED: a file with more mistakes than that is no scenario; its messages stay short. */
enum { MAX_FIELDS = 128, MAX_SET_KEYS = 16, MAX_EXPLAINED = 256 };

const tdm_choice tdm_grade_choices[] = {
    {"measured", TDM_GRADE_MEASURED, false},
    {"published", TDM_GRADE_PUBLISHED, false},
    {"datasheet", TDM_GRADE_DATASHEET, false},
    {"guess", TDM_GRADE_GUESS, false},
    {NULL, 0, false},
};

/* Compares a key with `name` of that length, dashes taken as underscores. */
static bool key_equals(const char *key, const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((key[i] == '-' ? '_' : key[i]) != name[i])
            return false;
    return key[length] == '\0';
}

static bool field_has_key(const tdm_field *field, const char *key)
{
    if (key_equals(key, field->key, strlen(field->key)))
        return true;
    for (const char *alias = field->aliases; alias && *alias;) {
        size_t length = strcspn(alias, " ");
        if (key_equals(key, alias, length))
            return true;
        alias += length;
        alias += strspn(alias, " ");
    }
    return false;
}

const tdm_field *tdm_schema_find(const tdm_field *fields, const char *key)
{
    for (const tdm_field *field = fields; field->key; field++)
        if (field_has_key(field, key))
            return field;
    return NULL;
}

/* The one field with maps below that knows the key; NULL when none or several do. */
static const tdm_field *find_section(const tdm_field *fields, const char *key)
{
    const tdm_field *section = NULL;
    for (const tdm_field *field = fields; field->key; field++) {
        bool is_section = field->fields && field->type != TDM_FIELD_LIST;
        if (!is_section || !tdm_schema_find(field->fields, key))
            continue;
        if (section)
            return NULL;
        section = field;
    }
    return section;
}

/* Joins the canonical keys of a table: "a, b, c". */
static const char *list_keys(tdm_arena *arena, const tdm_field *fields)
{
    size_t size = 1;
    for (const tdm_field *field = fields; field->key; field++)
        size += strlen(field->key) + 2;
    char *list = tdm_arena_alloc(arena, size), *end = list;
    for (const tdm_field *field = fields; field->key; field++)
        end += sprintf(end, "%s%s", end == list ? "" : ", ", field->key);
    return list;
}

/* Why a key is unknown and what to write instead. */
static const char *explain_unknown(tdm_arena *arena, const tdm_field *fields, const char *key)
{
    const tdm_field *section = find_section(fields, key);
    if (section)
        return tdm_arena_printf(arena, "unknown key here; it belongs under %s", section->key);
    const char *names[MAX_FIELDS];
    size_t n = 0;
    for (const tdm_field *field = fields; field->key && n < MAX_FIELDS; field++)
        names[n++] = field->key;
    const char *near = tdm_suggest(key, names, n);
    const char *list = list_keys(arena, fields);
    if (near)
        return tdm_arena_printf(arena, "unknown key (did you mean %s?); accepted: %s", near, list);
    return tdm_arena_printf(arena, "unknown key; accepted: %s", list);
}

typedef struct graded {
    double value;
    const char *source;
    int grade;
} graded;

/* What the file says once for all its numbers, in `source` and `grade` beside them or further up.
 */
static bool file_source(tdm_arena *arena, const tdm_node *node, graded *out)
{
    for (const tdm_node *map = node->parent; map; map = map->parent) {
        const tdm_node *source = tdm_node_child(map, "source");
        const tdm_node *grade = tdm_node_child(map, "grade");
        const tdm_field field = {
            .key = "grade", .type = TDM_FIELD_CHOICE, .choices = tdm_grade_choices};
        if (!source || source->kind != TDM_NODE_SCALAR || !source->text[0] || !grade ||
            tdm_schema_scalar(arena, &field, grade, &out->grade, NULL) != TDM_OK)
            continue;
        out->source = source->text;
        return true;
    }
    return false;
}

static tdm_code load_value(tdm_arena *arena, const tdm_field *field, tdm_node *node, tdm_value *out,
                           tdm_error *err)
{
    graded read = {0};
    bool inherits = file_source(arena, node, &read);
    const tdm_field fields[] = {
        {.key = "value",
         .type = TDM_FIELD_NUMBER,
         .offset = offsetof(graded, value),
         .required = true,
         .unit = field->unit,
         .min = field->min,
         .max = field->max,
         .positive = field->positive,
         .doc = field->doc},
        {.key = "source",
         .type = TDM_FIELD_TEXT,
         .offset = offsetof(graded, source),
         .required = !inherits,
         .doc = "where the number comes from"},
        {.key = "grade",
         .type = TDM_FIELD_CHOICE,
         .offset = offsetof(graded, grade),
         .required = !inherits,
         .choices = tdm_grade_choices,
         .doc = "measured, published, datasheet or guess"},
        {.key = NULL},
    };
    tdm_code code;
    if (node->kind == TDM_NODE_SCALAR) {
        code = tdm_schema_scalar(arena, &fields[0], node, &read.value, err);
        if (!inherits)
            code = tdm_node_error(
                node, err,
                "a number without a source: write {value: %s, grade: GRADE, source: TEXT}, or give "
                "the file a source and a grade",
                node->text[0] ? node->text : "NUMBER");
    } else {
        code = tdm_schema_load(arena, fields, node, &read, err);
    }
    if (code == TDM_OK)
        *out = (tdm_value){read.value, (tdm_grade)read.grade, read.source};
    return code;
}

static tdm_code load_list(tdm_arena *arena, const tdm_field *field, const tdm_node *node,
                          tdm_list *out, tdm_error *err)
{
    if (node->kind != TDM_NODE_LIST)
        return tdm_node_error(node, err, "expected a list of maps with the keys %s",
                              list_keys(arena, field->fields));
    tdm_list list = {.items = tdm_arena_alloc(arena, field->item_bytes * node->n_children),
                     .n_items = node->n_children};
    tdm_code code = TDM_OK;
    unsigned char *item = list.items;
    for (tdm_node *child = node->first; child; child = child->next, item += field->item_bytes)
        if (tdm_schema_load(arena, field->fields, child, item, err) != TDM_OK)
            code = TDM_E_INVALID;
    *out = list;
    return code;
}

static tdm_code load_field(tdm_arena *arena, const tdm_field *field, tdm_node *node, void *out,
                           tdm_error *err)
{
    switch (field->type) {
    case TDM_FIELD_VALUE:
        return load_value(arena, field, node, out, err);
    case TDM_FIELD_MAP:
        return tdm_schema_load(arena, field->fields, node, out, err);
    case TDM_FIELD_LIST:
        return load_list(arena, field, node, out, err);
    case TDM_FIELD_NODE:
        if (node->kind == TDM_NODE_SCALAR && !node->text[0])
            return tdm_node_error(node, err, "no value given: expected %s", field->doc);
        *(const tdm_node **)out = node;
        return TDM_OK;
    default:
        return tdm_schema_scalar(arena, field, node, out, err);
    }
}

/* Gives the child its canonical key. Complains about a key of no field, and about a second spelling
 * of one. */
static tdm_code name_child(tdm_arena *arena, const tdm_field *fields, const tdm_node *map,
                           tdm_node *child, const tdm_field **field, tdm_error *err)
{
    *field = tdm_schema_find(fields, child->key);
    bool explain = !err || err->n_messages < MAX_EXPLAINED;
    if (!*field)
        return tdm_node_error(child, err, "%s",
                              explain ? explain_unknown(arena, fields, child->key) : "unknown key");
    for (const tdm_node *other = map->first; other != child; other = other->next)
        if (tdm_schema_find(fields, other->key) == *field)
            return tdm_node_error(child, err, "means %s, which is given already, as %s in line %u",
                                  (*field)->key, other->written, other->line);
    child->key = (*field)->key;
    return TDM_OK;
}

static tdm_code check_required(const tdm_field *fields, const tdm_node *map, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (const tdm_field *field = fields; field->key; field++)
        if (field->required && !tdm_node_child(map, field->key))
            code = tdm_node_error_at(map, field->key, err, "missing: %s", field->doc);
    return code;
}

tdm_code tdm_schema_load(tdm_arena *arena, const tdm_field *fields, tdm_node *map, void *out,
                         tdm_error *err)
{
    if (map->kind != TDM_NODE_MAP) {
        map->faulty = true;
        return tdm_node_error(map, err, "expected a map with the keys %s",
                              list_keys(arena, fields));
    }
    for (tdm_node *child = map->first, *next; child; child = next) {
        next = child->next;
        const tdm_field *field;
        if (name_child(arena, fields, map, child, &field, err) != TDM_OK) {
            child->faulty = true;
            map->faulty = true;
            continue;
        }
        bool unset = tdm_node_is_null(child) && child->text[0];
        if (unset)
            tdm_node_remove(child);
        else if (load_field(arena, field, child, (unsigned char *)out + field->offset, err) !=
                 TDM_OK)
            child->faulty = map->faulty = true;
    }
    if (check_required(fields, map, err) != TDM_OK)
        map->faulty = true;
    return map->faulty ? TDM_E_INVALID : TDM_OK;
}

/* The spelling that the tree has for a field, or its canonical key. */
static const char *spelling(const tdm_field *fields, const tdm_field *field, const tdm_node *map)
{
    const tdm_node *child = map && map->kind == TDM_NODE_MAP ? map->first : NULL;
    for (; child; child = child->next)
        if (tdm_schema_find(fields, child->key) == field)
            return child->key;
    return field->key;
}

/* Splits the key of an assignment at its dots; 0 when there is an empty one or too many. */
static size_t split_keys(tdm_arena *arena, const char *assignment, const char *keys[MAX_SET_KEYS])
{
    size_t n = 0;
    const char *at = assignment;
    for (;; at++) {
        size_t length = strcspn(at, ".=");
        if (length == 0 || n == MAX_SET_KEYS)
            return 0;
        keys[n++] = tdm_arena_strndup(arena, at, length);
        at += length;
        if (*at != '.')
            break;
    }
    return *at == '=' ? n : 0;
}

/* Replaces the keys by the tree's spellings, as far as the tables reach. */
static tdm_code resolve_keys(tdm_arena *arena, const tdm_field *fields, const tdm_node *root,
                             const char **keys, size_t n, const char *mark, tdm_error *err)
{
    const tdm_node *map = root;
    for (size_t i = 0; i < n && fields; i++) {
        const tdm_field *field = tdm_schema_find(fields, keys[i]);
        if (!field)
            return tdm_error_add(err, TDM_E_INVALID, "%s: %s", mark,
                                 explain_unknown(arena, fields, keys[i]));
        if (field->type == TDM_FIELD_LIST && i + 1 < n)
            return tdm_error_add(err, TDM_E_INVALID, "%s: %s is a list: set it as a whole", mark,
                                 field->key);
        keys[i] = spelling(fields, field, map);
        map = map ? tdm_node_child(map, keys[i]) : NULL;
        fields = field->fields;
    }
    return TDM_OK;
}

/* Puts the section of a single key that only one section knows before it. */
static size_t find_flat(const tdm_field *fields, const char **keys, size_t n)
{
    if (n != 1 || tdm_schema_find(fields, keys[0]) || !find_section(fields, keys[0]))
        return n;
    keys[1] = keys[0];
    keys[0] = find_section(fields, keys[0])->key;
    return 2;
}

/* The shortest of a field's spellings, if it is much shorter than the canonical one. */
static const char *shortest(tdm_arena *arena, const tdm_field *field)
{
    const char *best = field->key;
    size_t n = strlen(best);
    for (const char *alias = field->aliases; alias && *alias;) {
        size_t length = strcspn(alias, " ");
        if (length < n) {
            best = alias;
            n = length;
        }
        alias += length;
        alias += strspn(alias, " ");
    }
    return 2 * n > strlen(field->key) ? field->key : tdm_arena_strndup(arena, best, n);
}

tdm_code tdm_schema_key(tdm_arena *arena, const tdm_field *fields, const char *key,
                        const char *mark, const char **canonical, const char **brief,
                        tdm_error *err)
{
    char quoted[TDM_QUOTE_SIZE];
    const char *keys[MAX_SET_KEYS];
    size_t n = strchr(key, '=') ? 0 : split_keys(arena, tdm_arena_printf(arena, "%s=", key), keys);
    if (n == 0)
        return tdm_error_add(err, TDM_E_INVALID, "%s: '%s' is no key", mark,
                             tdm_node_quote(quoted, key));
    n = find_flat(fields, keys, n);
    tdm_code code = resolve_keys(arena, fields, NULL, keys, n, mark, err);
    if (code != TDM_OK)
        return code;
    const char *joined = keys[0], *name = keys[n - 1];
    const tdm_field *field = NULL;
    for (size_t i = 0; i < n; i++, fields = field ? field->fields : NULL) {
        field = fields ? tdm_schema_find(fields, keys[i]) : NULL;
        if (i > 0)
            joined = tdm_arena_printf(arena, "%s.%s", joined, keys[i]);
    }
    if (n > 1 && (strcmp(name, "name") == 0 || strcmp(name, "model") == 0))
        name = keys[n - 2];
    else if (field)
        name = shortest(arena, field);
    *canonical = joined;
    *brief = name;
    return TDM_OK;
}

tdm_code tdm_schema_set(tdm_arena *arena, const tdm_field *fields, tdm_node *root,
                        const char *assignment, tdm_error *err)
{
    char quoted[TDM_QUOTE_SIZE];
    const char *keys[MAX_SET_KEYS];
    size_t n = split_keys(arena, assignment, keys);
    if (n == 0)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "--set: %s: expected KEY=VALUE, as parallel.tensor_model_parallel_size=4",
            tdm_node_quote(quoted, assignment));
    size_t key_length = strcspn(assignment, "=");
    const char *mark =
        tdm_arena_printf(arena, "--set:%s", tdm_arena_strndup(arena, assignment, key_length));
    n = find_flat(fields, keys, n);
    tdm_code code = resolve_keys(arena, fields, root, keys, n, mark, err);
    if (code != TDM_OK)
        return code;
    return tdm_doc_set(arena, root, keys, n, assignment + key_length + 1, mark, err);
}
