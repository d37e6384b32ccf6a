/* doc.c: reads YAML with libyaml's event parser into a document tree. */
#include "doc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

/* Limits that no configuration comes near, so that hostile files cost little. */
enum { MAX_FILE_BYTES = 4 * 1024 * 1024, MAX_DEPTH = 32, MAX_KEYS = 1024 };

typedef struct builder {
    tdm_arena *arena;
    tdm_error *err;
    const char *path;
    tdm_node *root, *top; /* top: the open map or list */
    unsigned depth, n_documents;
    const char *key; /* read, its value is next */
    yaml_mark_t key_mark;
    bool failed; /* a mistake was reported; reading goes on */
    bool stop;   /* no sense in reading on */
} builder;

static void complain(builder *b, yaml_mark_t mark, const char *what, const char *detail)
{
    char quoted[TDM_QUOTE_SIZE];
    tdm_error_add(b->err, TDM_E_INVALID, "%s:%zu:%zu: %s%s", b->path, mark.line + 1,
                  mark.column + 1, what, detail ? tdm_node_quote(quoted, detail) : "");
    b->failed = true;
}

/* Hangs a new node into the open map or list. */
static tdm_node *add_node(builder *b, tdm_node_kind kind, yaml_mark_t mark)
{
    tdm_node *node = TDM_ALLOC(b->arena, tdm_node, 1);
    if (b->key)
        mark = b->key_mark;
    *node = (tdm_node){.kind = kind,
                       .path = b->path,
                       .line = (uint32_t)mark.line + 1,
                       .column = (uint32_t)mark.column + 1};
    if (b->top)
        tdm_node_append(b->top, b->key, node);
    else
        b->root = node;
    b->key = NULL;
    return node;
}

static void take_key(builder *b, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const tdm_node *twin = tdm_node_child(b->top, text);
    if (text[0] == '\0')
        complain(b, event->start_mark, "an empty key", NULL);
    else if (twin) {
        char quoted[TDM_QUOTE_SIZE];
        tdm_error_add(b->err, TDM_E_INVALID, "%s:%zu:%zu: %s: given twice, first in line %u",
                      b->path, event->start_mark.line + 1, event->start_mark.column + 1,
                      tdm_node_quote(quoted, text), twin->line);
        b->failed = true;
    }
    if (b->top->n_children >= MAX_KEYS) {
        complain(b, event->start_mark, "more than 1024 keys in one map", NULL);
        b->stop = true;
    }
    b->key = tdm_arena_strdup(b->arena, text);
    b->key_mark = event->start_mark;
}

static void take_scalar(builder *b, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(text, '\0', length))
        complain(b, event->start_mark, "a NUL character in ", text);
    if (b->top && b->top->kind == TDM_NODE_MAP && !b->key) {
        take_key(b, event);
        return;
    }
    tdm_node *node = add_node(b, TDM_NODE_SCALAR, event->start_mark);
    node->text = tdm_arena_strndup(b->arena, text, length);
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
}

static void open_collection(builder *b, const yaml_event_t *event, tdm_node_kind kind)
{
    if (b->top && b->top->kind == TDM_NODE_MAP && !b->key) {
        complain(b, event->start_mark, "a key must be a single word, not a map or a list", NULL);
        b->stop = true;
    } else if (++b->depth > MAX_DEPTH) {
        complain(b, event->start_mark, "nested more than 32 levels deep", NULL);
        b->stop = true;
    } else {
        b->top = add_node(b, kind, event->start_mark);
    }
}

static void check_properties(builder *b, const yaml_event_t *event, const yaml_char_t *anchor,
                             const yaml_char_t *tag)
{
    if (anchor)
        complain(b, event->start_mark,
                 "anchors are not accepted, write the value where it is used: &",
                 (const char *)anchor);
    if (tag)
        complain(b, event->start_mark,
                 "tags are not accepted, write the plain value: ", (const char *)tag);
}

static void take_alias(builder *b, const yaml_event_t *event)
{
    complain(b, event->start_mark, "aliases are not accepted, write the value out: *",
             (const char *)event->data.alias.anchor);
    b->stop = true;
}

static void take_event(builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++b->n_documents > 1) {
            complain(b, event->start_mark, "a second document begins here; one file holds one",
                     NULL);
            b->stop = true;
        }
        break;
    case YAML_ALIAS_EVENT:
        take_alias(b, event);
        break;
    case YAML_SCALAR_EVENT:
        check_properties(b, event, event->data.scalar.anchor, event->data.scalar.tag);
        take_scalar(b, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        check_properties(b, event, event->data.sequence_start.anchor,
                         event->data.sequence_start.tag);
        open_collection(b, event, TDM_NODE_LIST);
        break;
    case YAML_MAPPING_START_EVENT:
        check_properties(b, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        open_collection(b, event, TDM_NODE_MAP);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->top = b->top->parent;
        b->depth--;
        break;
    default:
        break;
    }
}

/* The byte at a line and column (both from 0, columns in characters), 0 past the end. */
static char byte_at(const char *bytes, size_t n_bytes, yaml_mark_t mark)
{
    size_t i = 0;
    for (size_t line = 0; line < mark.line; line++) {
        const char *end = memchr(bytes + i, '\n', n_bytes - i);
        if (!end)
            return 0;
        i = (size_t)(end - bytes) + 1;
    }
    for (size_t column = 0; i < n_bytes; i++) {
        bool starts_character = ((unsigned char)bytes[i] & 0xc0) != 0x80;
        if (starts_character && column++ == mark.column)
            return bytes[i];
    }
    return 0;
}

static void report_syntax(builder *b, const yaml_parser_t *parser, const char *bytes,
                          size_t n_bytes)
{
    if (byte_at(bytes, n_bytes, parser->problem_mark) == '\t') {
        complain(b, parser->problem_mark, "a tab where YAML wants blanks", NULL);
        return;
    }
    const char *problem = parser->problem ? parser->problem : "out of memory";
    const char *language = tdm_doc_is_json(b->path) ? "JSON" : "YAML";
    if (parser->context)
        tdm_error_add(b->err, TDM_E_INVALID,
                      "%s:%zu:%zu: not valid %s: %s (%s that begins in line %zu)", b->path,
                      parser->problem_mark.line + 1, parser->problem_mark.column + 1, language,
                      problem, parser->context, parser->context_mark.line + 1);
    else
        tdm_error_add(b->err, TDM_E_INVALID, "%s:%zu:%zu: not valid %s: %s", b->path,
                      parser->problem_mark.line + 1, parser->problem_mark.column + 1, language,
                      problem);
    b->failed = true;
}

static void parse_events(builder *b, yaml_parser_t *parser, const char *bytes, size_t n_bytes)
{
    bool done = false;
    while (!done && !b->stop) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            report_syntax(b, parser, bytes, n_bytes);
            return;
        }
        done = event.type == YAML_STREAM_END_EVENT;
        take_event(b, &event);
        yaml_event_delete(&event);
    }
}

/* Length of the UTF-8 character at the start of p, 0 when it is none, overlong ones and surrogates
 * included. */
static size_t character_length(const unsigned char *p, size_t n)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = p[0] < 0x80       ? 1
                    : p[0] >> 5 == 6  ? 2
                    : p[0] >> 4 == 14 ? 3
                    : p[0] >> 3 == 30 ? 4
                                      : 0;
    if (length <= 1 || length > n)
        return length > n ? 0 : length;
    uint32_t code = p[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3fu);
    }
    bool valid = code >= least[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return valid ? length : 0;
}

/* Reports the first byte that is no text. libyaml would notice too, but does not say where. */
static bool check_text(builder *b, const char *bytes, size_t n_bytes)
{
    yaml_mark_t mark = {0, 0, 0};
    for (size_t i = 0; i < n_bytes;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t length = character_length((const unsigned char *)bytes + i, n_bytes - i);
        if (length == 0 || c == 0x7f || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
            char what[64];
            snprintf(what, sizeof what, "byte 0x%02x is %s", c,
                     length ? "a control character" : "not valid UTF-8");
            complain(b, mark, what, NULL);
            return false;
        }
        mark.column++;
        if (c == '\n') {
            mark.line++;
            mark.column = 0;
        }
        i += length;
    }
    return true;
}

static tdm_code finish(builder *b, tdm_node **root)
{
    if (!b->failed && !b->root) {
        tdm_error_add(b->err, TDM_E_INVALID, "%s:1:1: the file is empty", b->path);
        b->failed = true;
    }
    if (b->failed)
        return TDM_E_INVALID;
    *root = b->root;
    return TDM_OK;
}

tdm_code tdm_doc_parse(tdm_arena *arena, const char *path, const char *bytes, size_t n_bytes,
                       tdm_node **root, tdm_error *err)
{
    if (n_bytes > MAX_FILE_BYTES)
        return tdm_error_add(err, TDM_E_INVALID, "%s: larger than 4 MiB", path);
    builder b = {.arena = arena, .err = err, .path = tdm_arena_strdup(arena, path)};
    if (!check_text(&b, bytes, n_bytes))
        return TDM_E_INVALID;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", path);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, n_bytes);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    parse_events(&b, &parser, bytes, n_bytes);
    yaml_parser_delete(&parser);
    return finish(&b, root);
}

/* The file's bytes in the arena. */
static tdm_code read_bytes(tdm_arena *arena, const char *path, FILE *file, char **bytes,
                           size_t *n_bytes, tdm_error *err)
{
    struct stat status;
    if (fstat(fileno(file), &status) == 0 && S_ISDIR(status.st_mode))
        return tdm_error_add(err, TDM_E_INVALID, "%s: is a folder, not a file", path);
    size_t capacity = 16 * 1024, n = 0;
    char *buffer = tdm_arena_alloc(arena, capacity);
    for (;;) {
        n += fread(buffer + n, 1, capacity - n, file);
        if (n < capacity)
            break;
        if (n > MAX_FILE_BYTES)
            return tdm_error_add(err, TDM_E_INVALID, "%s: larger than 4 MiB", path);
        char *larger = tdm_arena_alloc(arena, capacity * 4);
        memcpy(larger, buffer, n);
        buffer = larger;
        capacity *= 4;
    }
    if (ferror(file))
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    *bytes = buffer;
    *n_bytes = n;
    return TDM_OK;
}

tdm_code tdm_doc_read(tdm_arena *arena, const char *path, tdm_node **root, tdm_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return tdm_error_add(err, TDM_E_INVALID, "%s: %s", path, strerror(errno));
    char *bytes = NULL;
    size_t n_bytes = 0;
    tdm_code code = read_bytes(arena, path, file, &bytes, &n_bytes, err);
    fclose(file);
    if (code != TDM_OK)
        return code;
    if (tdm_doc_is_json(path))
        n_bytes = tdm_doc_join_surrogates(bytes, n_bytes);
    return tdm_doc_parse(arena, path, bytes, n_bytes, root, err);
}
