/* xml.h: an XML document as a tree whose elements know their place, for messages. Only this module
 * knows the parser (expat). Entities of its own are refused, external ones are not read, depth and
 * size are limited. */
#ifndef TDM_XML_H
#define TDM_XML_H

#include "base.h"

typedef struct tdm_xml tdm_xml;
struct tdm_xml {
    const char *name;
    const char *path;              /* file as the user named it */
    uint32_t line, column;         /* of the element's start, from 1 */
    const char *const *attributes; /* name, value, name, value ..., NULL */
    const char *text; /* character data right behind its start, up to the first child */
    tdm_xml *parent, *first, *last, *next; /* children in the order of the file */
};

/* Parses a document (at most 64 levels, 50,000 elements); path is what messages call it. On
 * failure *root is untouched and err has path:line:column. */
tdm_code tdm_xml_parse(tdm_arena *arena, const char *path, const char *bytes, size_t n_bytes,
                       tdm_xml **root, tdm_error *err);

/* The value of an attribute; NULL when there is none. */
const char *tdm_xml_get(const tdm_xml *element, const char *name);
/* The first child of that name; NULL when there is none. */
const tdm_xml *tdm_xml_child(const tdm_xml *element, const char *name);
bool tdm_xml_is(const tdm_xml *element, const char *name);

/* An attribute as a whole number within [min, max]; `otherwise` when it is absent. Complains and
 * leaves *value untouched when it is something else. */
tdm_code tdm_xml_integer(const tdm_xml *element, const char *name, int64_t otherwise, int64_t min,
                         int64_t max, int64_t *value, tdm_error *err);
/* The same of a number that is not negative. */
tdm_code tdm_xml_number(const tdm_xml *element, const char *name, double otherwise, double max,
                        double *value, tdm_error *err);

/* Adds "path:line:column: <name>: message" to err and returns TDM_E_INVALID. */
tdm_code tdm_xml_error(const tdm_xml *element, tdm_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
