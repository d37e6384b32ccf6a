/* kernel_rules.c: reads rules for kernels and applies them. */
#include "kernel_rules.h"

#include "doc.h"
#include "schema.h"

#include <string.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool tdm_kernel_pattern_fits(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (lower(*pattern) == lower(*text)) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool fits_any(const char *const *patterns, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (tdm_kernel_pattern_fits(patterns[i], text))
            return true;
    return false;
}

const tdm_kernel_rule *tdm_kernel_rule_for(const tdm_kernel_rules *rules, const char *name,
                                           const char *collective)
{
    for (size_t i = 0; i < rules->n_rules; i++) {
        const tdm_kernel_rule *rule = &rules->rules[i];
        if ((rule->n_names == 0 || fits_any(rule->names, rule->n_names, name)) &&
            (rule->n_collectives == 0 ||
             fits_any(rule->collectives, rule->n_collectives, collective)))
            return rule;
    }
    return NULL;
}

static bool find_group(const char *name, tdm_group_kind *kind)
{
    for (uint32_t k = 0; k < TDM_N_GROUP_KINDS; k++) {
        if (strcmp(tdm_group_kind_name((tdm_group_kind)k), name) == 0) {
            *kind = (tdm_group_kind)k;
            return true;
        }
    }
    return false;
}

tdm_group_kind tdm_kernel_group(const tdm_kernel_rules *rules, const char *name)
{
    tdm_group_kind kind;
    if (find_group(name, &kind))
        return kind;
    for (size_t i = 0; i < rules->n_groups; i++)
        if (fits_any(rules->groups[i].names, rules->groups[i].n_names, name))
            return rules->groups[i].group;
    return TDM_N_GROUP_KINDS;
}

/* ---- reading ---- */

/* What the schema makes of one entry of `classes` and of `groups`. */
typedef struct entry {
    const char *class_, *group;
    const tdm_node *names, *collectives;
} entry;

typedef struct document {
    const char *description, *source;
    tdm_list classes, groups;
} document;

static const tdm_field class_fields[] = {
    {.key = "class", .type = TDM_FIELD_TEXT, .offset = offsetof(entry, class_), .required = true},
    {.key = "name", .type = TDM_FIELD_NODE, .offset = offsetof(entry, names)},
    {.key = "collective", .type = TDM_FIELD_NODE, .offset = offsetof(entry, collectives)},
    {0},
};

static const tdm_field group_fields[] = {
    {.key = "group", .type = TDM_FIELD_TEXT, .offset = offsetof(entry, group), .required = true},
    {.key = "name", .type = TDM_FIELD_NODE, .offset = offsetof(entry, names), .required = true},
    {0},
};

static const tdm_field document_fields[] = {
    {.key = "description", .type = TDM_FIELD_TEXT, .offset = offsetof(document, description)},
    {.key = "source", .type = TDM_FIELD_TEXT, .offset = offsetof(document, source)},
    {.key = "classes",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(document, classes),
     .required = true,
     .fields = class_fields,
     .item_bytes = sizeof(entry)},
    {.key = "groups",
     .type = TDM_FIELD_LIST,
     .offset = offsetof(document, groups),
     .fields = group_fields,
     .item_bytes = sizeof(entry)},
    {0},
};

/* A list of patterns, or one. */
static tdm_code read_patterns(tdm_arena *arena, const tdm_node *node, const char *const **patterns,
                              size_t *n, tdm_error *err)
{
    if (!node)
        return TDM_OK;
    const tdm_node *first = node->kind == TDM_NODE_LIST ? node->first : node;
    const char **list =
        TDM_ALLOC(arena, const char *, node->kind == TDM_NODE_LIST ? node->n_children : 1);
    size_t count = 0;
    for (const tdm_node *item = first; item; item = item == node ? NULL : item->next) {
        if (item->kind != TDM_NODE_SCALAR || !item->text[0])
            return tdm_node_error(item, err, "expected a pattern such as \"*gemm*\"");
        list[count++] = item->text;
    }
    if (count == 0)
        return tdm_node_error(node, err, "an empty list fits nothing: leave the key out");
    *patterns = list;
    *n = count;
    return TDM_OK;
}

static tdm_code find_class(const tdm_node *item, const char *name, tdm_kernel_rule *rule,
                           tdm_error *err)
{
    if (strcmp(name, "ignored") == 0) {
        rule->ignored = true;
        return TDM_OK;
    }
    if (tdm_op_class_find(name, &rule->class_))
        return TDM_OK;
    const char *names[TDM_N_OP_CLASSES + 1];
    for (size_t i = 0; i < TDM_N_OP_CLASSES; i++)
        names[i] = tdm_op_class_name((tdm_op_class)i);
    names[TDM_N_OP_CLASSES] = "ignored";
    const char *near = tdm_suggest(name, names, TDM_N_OP_CLASSES + 1);
    if (near)
        return tdm_node_error_at(item, "class", err, "no class '%s' (did you mean %s?)", name,
                                 near);
    return tdm_node_error_at(item, "class", err,
                             "no class '%s' (gemm, attention, all-reduce ..., or ignored)", name);
}

static void read_classes(tdm_arena *arena, const tdm_node *list, const tdm_list *entries,
                         tdm_kernel_rules *rules, tdm_error *err)
{
    tdm_kernel_rule *all = TDM_ALLOC(arena, tdm_kernel_rule, entries->n_items);
    const tdm_node *item = list->first;
    for (uint32_t i = 0; i < entries->n_items && item; i++, item = item->next) {
        const entry *e = (const entry *)entries->items + i;
        tdm_kernel_rule *rule = &all[rules->n_rules++];
        find_class(item, e->class_, rule, err);
        read_patterns(arena, e->names, &rule->names, &rule->n_names, err);
        read_patterns(arena, e->collectives, &rule->collectives, &rule->n_collectives, err);
        if (!e->names && !e->collectives)
            tdm_node_error(item, err, "a rule needs `name` or `collective`");
    }
    rules->rules = all;
}

static tdm_code read_groups(tdm_arena *arena, const tdm_node *list, const tdm_list *entries,
                            tdm_kernel_rules *rules, tdm_error *err)
{
    tdm_group_rule *all = TDM_ALLOC(arena, tdm_group_rule, entries->n_items);
    const tdm_node *item = list ? list->first : NULL;
    for (uint32_t i = 0; i < entries->n_items && item; i++, item = item->next) {
        const entry *e = (const entry *)entries->items + i;
        tdm_group_rule *rule = &all[rules->n_groups++];
        if (!find_group(e->group, &rule->group))
            tdm_node_error_at(item, "group", err,
                              "no group '%s' (tp, cp, dp, pp, ep, etp, edp ...)", e->group);
        read_patterns(arena, e->names, &rule->names, &rule->n_names, err);
    }
    rules->groups = all;
    return err->n_messages ? TDM_E_INVALID : TDM_OK;
}

tdm_code tdm_kernel_rules_load(tdm_arena *arena, const char *path, tdm_kernel_rules *rules,
                               tdm_error *err)
{
    tdm_node *root = NULL;
    document d = {0};
    *rules = (tdm_kernel_rules){0};
    tdm_error own = {0};
    tdm_code code = tdm_doc_read(arena, path, &root, &own);
    if (code == TDM_OK)
        code = tdm_schema_load(arena, document_fields, root, &d, &own);
    if (code == TDM_OK) {
        read_classes(arena, tdm_node_child(root, "classes"), &d.classes, rules, &own);
        code = read_groups(arena, tdm_node_child(root, "groups"), &d.groups, rules, &own);
    }
    for (const char *line = own.text; *line; line += strcspn(line, "\n") + 1)
        tdm_error_add(err, own.code, "%.*s", (int)strcspn(line, "\n"), line);
    return code;
}
