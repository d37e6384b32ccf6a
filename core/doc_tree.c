/* doc_tree.c: the document tree: looking things up, setting values, and messages that point into
 * it. */
#include "doc.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { QUOTE_BYTES = 60, PATH_BYTES = 512, MAX_SET_KEYS = 16 };

tdm_node *tdm_node_child(const tdm_node *map, const char *key)
{
    if (!map || map->kind != TDM_NODE_MAP)
        return NULL;
    for (tdm_node *child = map->first; child; child = child->next)
        if (strcmp(child->key, key) == 0)
            return child;
    return NULL;
}

/* The first component of a dotted key; *rest is what follows, NULL after the last one. */
static const tdm_node *find_component(const tdm_node *map, const char *dotted, const char **rest)
{
    size_t length = strcspn(dotted, ".");
    *rest = dotted[length] ? dotted + length + 1 : NULL;
    if (map->kind != TDM_NODE_MAP)
        return NULL;
    for (const tdm_node *child = map->first; child; child = child->next)
        if (strlen(child->key) == length && strncmp(child->key, dotted, length) == 0)
            return child;
    return NULL;
}

/* The deepest node on the way to `dotted`; *rest is the part that was not found, NULL when all was.
 */
static const tdm_node *find_deepest(const tdm_node *root, const char *dotted, const char **rest)
{
    *rest = dotted;
    while (*rest) {
        const char *after;
        const tdm_node *child = find_component(root, *rest, &after);
        if (!child)
            return root;
        root = child;
        *rest = after;
    }
    return root;
}

tdm_node *tdm_node_find(const tdm_node *root, const char *dotted)
{
    if (!root)
        return NULL;
    const char *rest;
    const tdm_node *node = find_deepest(root, dotted, &rest);
    return rest ? NULL : (tdm_node *)node;
}

bool tdm_node_is_null(const tdm_node *node)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    if (node->kind != TDM_NODE_SCALAR || node->quoted)
        return false;
    for (size_t i = 0; i < TDM_COUNT(words); i++)
        if (strcmp(node->text, words[i]) == 0)
            return true;
    return false;
}

tdm_node *tdm_node_new_map(tdm_arena *arena, const tdm_node *place)
{
    tdm_node *map = TDM_ALLOC(arena, tdm_node, 1);
    *map = (tdm_node){
        .kind = TDM_NODE_MAP, .path = place->path, .line = place->line, .column = place->column};
    return map;
}

void tdm_node_append(tdm_node *parent, const char *key, tdm_node *child)
{
    assert(parent->kind != TDM_NODE_SCALAR && (parent->kind == TDM_NODE_MAP) == (key != NULL));
    child->key = key;
    child->written = key;
    child->parent = parent;
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    child->index = parent->n_children++;
}

static void remove_child(tdm_node *parent, const tdm_node *child)
{
    tdm_node **link = &parent->first, *previous = NULL;
    while (*link != child) {
        previous = *link;
        link = &previous->next;
    }
    *link = child->next;
    if (parent->last == child)
        parent->last = previous;
    parent->n_children--;
}

void tdm_node_remove(tdm_node *node)
{
    if (node->parent)
        remove_child(node->parent, node);
    node->parent = NULL;
    node->next = NULL;
}

/* Values given on the command line have no line: the mark says it all. */
static void forget_lines(tdm_node *node)
{
    node->line = 0;
    node->column = 0;
    for (tdm_node *child = node->first; child; child = child->next)
        forget_lines(child);
}

static tdm_code parse_value(tdm_arena *arena, const char *value, const char *mark, tdm_node **node,
                            tdm_error *err)
{
    if (value[strspn(value, " ")] == '\0')
        return tdm_error_add(err, TDM_E_INVALID, "%s: no value given (null removes a key)", mark);
    tdm_code code = tdm_doc_parse(arena, mark, value, strlen(value), node, err);
    if (code == TDM_OK)
        forget_lines(*node);
    return code;
}

tdm_code tdm_doc_set(tdm_arena *arena, tdm_node *root, const char *const *keys, size_t n_keys,
                     const char *value, const char *mark, tdm_error *err)
{
    assert(n_keys > 0);
    tdm_node *node;
    if (n_keys > MAX_SET_KEYS)
        return tdm_error_add(err, TDM_E_INVALID, "%s: more than %d keys deep", mark, MAX_SET_KEYS);
    tdm_code code = parse_value(arena, value, mark, &node, err);
    if (code != TDM_OK)
        return code;
    tdm_node *map = root;
    size_t i = 0;
    for (; i + 1 < n_keys && tdm_node_child(map, keys[i]); i++)
        map = tdm_node_child(map, keys[i]);
    if (map->kind != TDM_NODE_MAP)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s is %s, so nothing below it can be set",
                             mark, map->key ? map->key : "the document",
                             map->kind == TDM_NODE_LIST ? "a list" : "a single value");
    for (; i + 1 < n_keys; i++) {
        tdm_node *inner = tdm_node_new_map(arena, node);
        tdm_node_append(map, tdm_arena_strdup(arena, keys[i]), inner);
        map = inner;
    }
    tdm_node *old = tdm_node_child(map, keys[i]);
    if (old)
        tdm_node_remove(old);
    tdm_node_append(map, tdm_arena_strdup(arena, keys[i]), node);
    return TDM_OK;
}

const char *tdm_node_quote(char buffer[TDM_QUOTE_SIZE], const char *text)
{
    size_t n = 0;
    for (; text[n] && n < QUOTE_BYTES; n++)
        buffer[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? '?' : text[n];
    if (text[n]) {
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) /* not inside a UTF-8 character */
            n--;
        memcpy(buffer + n, "...", 3);
        n += 3;
    }
    buffer[n] = '\0';
    return buffer;
}

/* "a.b[2].c" of a node; returns the length written, cut at the buffer's end. */
static size_t write_path(const tdm_node *node, char *buffer, size_t capacity)
{
    if (!node->parent) {
        buffer[0] = '\0';
        return 0;
    }
    size_t length = write_path(node->parent, buffer, capacity);
    int n;
    if (node->key) {
        char quoted[TDM_QUOTE_SIZE];
        n = snprintf(buffer + length, capacity - length, "%s%s", length ? "." : "",
                     tdm_node_quote(quoted, node->key));
    } else {
        n = snprintf(buffer + length, capacity - length, "[%u]", node->index);
    }
    size_t end = length + (n < 0 ? 0 : (size_t)n);
    return end < capacity ? end : capacity - 1;
}

static void write_place(const tdm_node *node, char *buffer, size_t capacity)
{
    if (node->line)
        snprintf(buffer, capacity, "%s:%u:%u", node->path, node->line, node->column);
    else
        snprintf(buffer, capacity, "%s", node->path);
}

static tdm_code add_message(const tdm_node *node, const char *rest, tdm_error *err,
                            const char *format, va_list args) __attribute__((format(printf, 4, 0)));

static tdm_code add_message(const tdm_node *node, const char *rest, tdm_error *err,
                            const char *format, va_list args)
{
    char key[PATH_BYTES], place[PATH_BYTES], message[4096];
    size_t length = write_path(node, key, sizeof key);
    if (rest)
        snprintf(key + length, sizeof key - length, "%s%s", length ? "." : "", rest);
    write_place(node, place, sizeof place);
    vsnprintf(message, sizeof message, format, args);
    return tdm_error_add(err, TDM_E_INVALID, "%s: %s%s%s", place, key, key[0] ? ": " : "", message);
}

tdm_code tdm_node_error(const tdm_node *node, tdm_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tdm_code code = add_message(node, NULL, err, format, args);
    va_end(args);
    return code;
}

tdm_code tdm_node_error_at(const tdm_node *root, const char *key, tdm_error *err,
                           const char *format, ...)
{
    const char *rest;
    const tdm_node *node = find_deepest(root, key, &rest);
    va_list args;
    va_start(args, format);
    tdm_code code = add_message(node, rest, err, format, args);
    va_end(args);
    return code;
}
