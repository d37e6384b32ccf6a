/* xml.c: expat's events as a tree. */
#include "xml.h"

#include "doc.h"

#include <errno.h>
#include <expat.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_ELEMENTS = 50000, MAX_BYTES = 64 << 20 };

typedef struct reader {
    XML_Parser parser;
    tdm_arena *arena;
    const char *path;
    tdm_xml *root, *open;
    uint32_t depth, n_elements;
    char *text; /* character data since `open` began, while it has no child */
    size_t n_text, text_capacity;
    const char *refusal; /* why reading was stopped */
} reader;

static void stop(reader *r, const char *reason)
{
    if (!r->refusal)
        r->refusal = reason;
    XML_StopParser(r->parser, XML_FALSE);
}

static const char *const *copy_attributes(tdm_arena *arena, const XML_Char **attributes)
{
    size_t n = 0;
    while (attributes[n])
        n++;
    const char **copy = TDM_ALLOC(arena, const char *, n + 1);
    for (size_t i = 0; i < n; i++)
        copy[i] = tdm_arena_strdup(arena, attributes[i]);
    return copy;
}

/* What was read of the open element's text becomes its own. */
static void keep_text(reader *r)
{
    if (r->open && !r->open->first && r->n_text > 0)
        r->open->text = tdm_arena_strndup(r->arena, r->text, r->n_text);
    r->n_text = 0;
}

static void XMLCALL on_start(void *data, const XML_Char *name, const XML_Char **attributes)
{
    reader *r = data;
    if (r->refusal)
        return;
    keep_text(r);
    if (++r->depth > MAX_DEPTH) {
        stop(r, "deeper than 64 levels");
        return;
    }
    if (++r->n_elements > MAX_ELEMENTS) {
        stop(r, "more than 50,000 elements");
        return;
    }
    tdm_xml *element = TDM_ALLOC(r->arena, tdm_xml, 1);
    *element = (tdm_xml){.name = tdm_arena_strdup(r->arena, name),
                         .path = r->path,
                         .line = (uint32_t)XML_GetCurrentLineNumber(r->parser),
                         .column = (uint32_t)XML_GetCurrentColumnNumber(r->parser) + 1,
                         .attributes = copy_attributes(r->arena, attributes),
                         .text = "",
                         .parent = r->open};
    if (!r->open)
        r->root = element;
    else if (r->open->last)
        r->open->last->next = element;
    else
        r->open->first = element;
    if (r->open)
        r->open->last = element;
    r->open = element;
}

static void XMLCALL on_end(void *data, const XML_Char *name)
{
    reader *r = data;
    (void)name;
    if (r->refusal)
        return;
    keep_text(r);
    r->open = r->open->parent;
    r->depth--;
}

static void XMLCALL on_text(void *data, const XML_Char *text, int n)
{
    reader *r = data;
    if (r->refusal || !r->open || r->open->first || n <= 0)
        return;
    if (r->n_text + (size_t)n > r->text_capacity) {
        size_t capacity = 2 * (r->n_text + (size_t)n);
        char *larger = tdm_arena_alloc(r->arena, capacity);
        if (r->n_text > 0)
            memcpy(larger, r->text, r->n_text);
        r->text = larger;
        r->text_capacity = capacity;
    }
    memcpy(r->text + r->n_text, text, (size_t)n);
    r->n_text += (size_t)n;
}

static void XMLCALL on_entity(void *data, const XML_Char *name, int is_parameter,
                              const XML_Char *value, int n, const XML_Char *base,
                              const XML_Char *system, const XML_Char *public,
                              const XML_Char *notation)
{
    (void)name, (void)is_parameter, (void)value, (void)n;
    (void)base, (void)system, (void)public, (void)notation;
    stop(data, "entities of its own are not accepted");
}

tdm_code tdm_xml_parse(tdm_arena *arena, const char *path, const char *bytes, size_t n_bytes,
                       tdm_xml **root, tdm_error *err)
{
    if (n_bytes > MAX_BYTES)
        return tdm_error_add(err, TDM_E_INVALID, "%s: larger than %d MiB", path, MAX_BYTES >> 20);
    reader r = {.parser = XML_ParserCreate(NULL), .arena = arena, .path = path};
    if (!r.parser)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: out of memory", path);
    XML_SetUserData(r.parser, &r);
    XML_SetElementHandler(r.parser, on_start, on_end);
    XML_SetCharacterDataHandler(r.parser, on_text);
    XML_SetEntityDeclHandler(r.parser, on_entity);
    /* Same input, same order of hashing: no salt from the clock. */
    XML_SetHashSalt(r.parser, 1);
    tdm_code code = TDM_OK;
    if (XML_Parse(r.parser, bytes, (int)n_bytes, XML_TRUE) != XML_STATUS_OK || r.refusal)
        code = tdm_error_add(err, TDM_E_INVALID, "%s:%u:%u: %s", path,
                             (unsigned)XML_GetCurrentLineNumber(r.parser),
                             (unsigned)XML_GetCurrentColumnNumber(r.parser) + 1,
                             r.refusal ? r.refusal : XML_ErrorString(XML_GetErrorCode(r.parser)));
    XML_ParserFree(r.parser);
    if (code == TDM_OK)
        *root = r.root;
    return code;
}

const char *tdm_xml_get(const tdm_xml *element, const char *name)
{
    for (const char *const *a = element->attributes; a[0]; a += 2)
        if (strcmp(a[0], name) == 0)
            return a[1];
    return NULL;
}

bool tdm_xml_is(const tdm_xml *element, const char *name)
{
    return strcmp(element->name, name) == 0;
}

const tdm_xml *tdm_xml_child(const tdm_xml *element, const char *name)
{
    for (const tdm_xml *child = element->first; child; child = child->next)
        if (tdm_xml_is(child, name))
            return child;
    return NULL;
}

tdm_code tdm_xml_error(const tdm_xml *element, tdm_error *err, const char *format, ...)
{
    char text[512], name[TDM_QUOTE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return tdm_error_add(err, TDM_E_INVALID, "%s:%u:%u: <%s>: %s", element->path, element->line,
                         element->column, tdm_node_quote(name, element->name), text);
}

tdm_code tdm_xml_integer(const tdm_xml *element, const char *name, int64_t otherwise, int64_t min,
                         int64_t max, int64_t *value, tdm_error *err)
{
    const char *text = tdm_xml_get(element, name);
    char quoted[TDM_QUOTE_SIZE], *end = NULL;
    if (!text) {
        *value = otherwise;
        return TDM_OK;
    }
    errno = 0;
    long long read = strtoll(text, &end, 10);
    if (end == text || *end || errno || read < min || read > max)
        return tdm_xml_error(element, err, "%s: \"%s\": expected a whole number from %lld to %lld",
                             name, tdm_node_quote(quoted, text), (long long)min, (long long)max);
    *value = read;
    return TDM_OK;
}

tdm_code tdm_xml_number(const tdm_xml *element, const char *name, double otherwise, double max,
                        double *value, tdm_error *err)
{
    const char *text = tdm_xml_get(element, name);
    char quoted[TDM_QUOTE_SIZE], *end = NULL;
    if (!text) {
        *value = otherwise;
        return TDM_OK;
    }
    double read = strtod(text, &end);
    if (end == text || *end || !(read >= 0 && read <= max))
        return tdm_xml_error(element, err, "%s: \"%s\": expected a number from 0 to %g", name,
                             tdm_node_quote(quoted, text), max);
    *value = read;
    return TDM_OK;
}
