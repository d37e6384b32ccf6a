/* export.h: formats that a graph can be written in, one per file in core/exports/.
 * A file defines `const tdm_export tdm_export_NAME`; the build collects them in a table. */
#ifndef TDM_EXPORT_H
#define TDM_EXPORT_H

#include "graph.h"

#include <stdio.h>

typedef struct tdm_export {
    const char *name;    /* "dot": what `--format` says */
    const char *summary; /* one line for people */
    /* Writes the graph; errors of the file are the caller's to see (ferror). Fails when the format
     * cannot hold this graph. */
    tdm_code (*write)(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err);
} tdm_export;

extern const tdm_export *const tdm_exports[]; /* NULL-terminated, generated, by name */

/* Writes text with what XML reserves as entities. */
void tdm_export_xml_text(FILE *file, const char *text);

#endif
