/* html.h: HTML that is well-formed XML, too, and fetches nothing. */
#ifndef TDM_HTML_H
#define TDM_HTML_H

#include "core/base.h"

#include <stdio.h>

/* Text between tags or within quotes. What is not UTF-8, or no character of XML, becomes U+FFFD. */
void tdm_html_text(FILE *file, const char *text);
/* The page from its first line to <main>, with its style; and its end. */
void tdm_html_begin(FILE *file, const char *title);
void tdm_html_end(FILE *file);
/* A heading of second order, with an optional remark behind it. */
void tdm_html_heading(FILE *file, const char *title, const char *remark);
/* A picture that gnuplot drew, in place: without its size, so that it fits the page, without names
 * of its parts, and with `name` before the ids that are left, so that they are the page's only
 * ones. */
tdm_code tdm_html_picture(tdm_arena *arena, FILE *file, const char *path, const char *name,
                          const char *caption, tdm_error *err);

#endif
