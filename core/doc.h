/* doc.h: a YAML document as a tree whose nodes know their place, so that every message, also one
 * made long after parsing, can point at the line the user wrote. Only what configuration needs is
 * accepted: one document of maps, lists and scalars. Anchors, aliases and tags are refused, depth
 * and size are limited. */
#ifndef TDM_DOC_H
#define TDM_DOC_H

#include "base.h"

typedef enum tdm_node_kind { TDM_NODE_SCALAR, TDM_NODE_MAP, TDM_NODE_LIST } tdm_node_kind;

typedef struct tdm_node {
    tdm_node_kind kind;
    const char *path;      /* file as the user named it, or "--set:a.b.c" */
    uint32_t line, column; /* from 1; of the key for a map's values. line 0: from --set, no line */
    const char
        *key; /* of a map's value, in its canonical spelling once a schema has read it; else NULL */
    const char *written; /* the key as the user wrote it */
    const char *text;    /* of a scalar, never NULL there; UTF-8 without NUL */
    bool quoted;         /* a scalar in quotes or in a block: text, never a number or null */
    bool faulty;         /* a schema found a mistake in it or below */
    struct tdm_node *parent, *first, *last, *next; /* children in the order of the file */
    uint32_t n_children;
    uint32_t index; /* of a list's item */
} tdm_node;

/* Reads one document from a file (at most 4 MiB, 32 levels, 1024 keys in a map). On failure *root
 * is untouched and err has path:line:column. */
tdm_code tdm_doc_read(tdm_arena *arena, const char *path, tdm_node **root, tdm_error *err);
/* The same from memory; path is what messages call it. */
tdm_code tdm_doc_parse(tdm_arena *arena, const char *path, const char *bytes, size_t n_bytes,
                       tdm_node **root, tdm_error *err);

/* JSON is read as the part of YAML that it is. Whether a path names JSON: it ends in ".json". */
bool tdm_doc_is_json(const char *path);
/* What of JSON is not YAML: a character beyond the first 65,536 as two escapes, "\ud83d\ude00".
 * They become one, in place; returns the new length. */
size_t tdm_doc_join_surrogates(char *bytes, size_t n_bytes);

/* Sets keys[0].keys[1]... of the tree to a YAML value, replacing what is there and making maps on
 * the way. `mark`
 * ("--set:a.b.c") becomes the path of the new nodes. Fails when a list or a scalar is in the way.
 */
tdm_code tdm_doc_set(tdm_arena *arena, tdm_node *root, const char *const *keys, size_t n_keys,
                     const char *value, const char *mark, tdm_error *err);

/* The value of a key in a map; NULL when there is none or when the node is no map. */
tdm_node *tdm_node_child(const tdm_node *map, const char *key);
/* The node at "a.b.c"; NULL when there is none. */
tdm_node *tdm_node_find(const tdm_node *root, const char *dotted);
/* True for an empty value, `~` or `null` without quotes. */
bool tdm_node_is_null(const tdm_node *node);
/* A new map holding nothing, at the place of another node. */
tdm_node *tdm_node_new_map(tdm_arena *arena, const tdm_node *place);
/* Appends a child; a key for maps, NULL for lists. */
void tdm_node_append(tdm_node *parent, const char *key, tdm_node *child);
/* Takes a node out of its parent. */
void tdm_node_remove(tdm_node *node);

/* Adds "path:line:column: a.b.c: message" (or "--set:a.b.c: a.b.c: message") to err and returns
 * TDM_E_INVALID. */
tdm_code tdm_node_error(const tdm_node *node, tdm_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same about the key `key` below `node`; at its place when it is there, else at the place of
 * the nearest node above it. key: "a.b.c" in canonical spelling. */
tdm_code tdm_node_error_at(const tdm_node *root, const char *key, tdm_error *err,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

#define TDM_QUOTE_SIZE 72u
/* A scalar's text for messages: control characters replaced, cut after some 60 bytes. */
const char *tdm_node_quote(char buffer[TDM_QUOTE_SIZE], const char *text);

#endif
