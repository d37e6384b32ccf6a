/* table.h: tables on standard output, aligned for people, as Markdown, or as HTML. */
#ifndef TDM_TABLE_H
#define TDM_TABLE_H

#include "core/base.h"

#include <stdio.h>

enum { TDM_TABLE_COLUMNS = 72, TDM_REPORT_WIDTH = 100 };

/* How a report is printed. */
typedef struct tdm_style {
    bool markdown;
    bool html;
    bool colours; /* escape sequences; on a terminal only */
} tdm_style;

typedef struct tdm_table {
    tdm_arena *arena;
    uint32_t n_columns;
    uint32_t n_left; /* so many columns stand at the left, the others at the right */
    bool last_left;  /* the last column, too */
    const char *heads[TDM_TABLE_COLUMNS];
    const char **cells; /* [n_cells] row by row */
    uint32_t n_cells, capacity;
} tdm_table;

void tdm_table_head(tdm_table *table, const char *text);
/* Adds one cell, printf style; rows fill from left to right. */
void tdm_table_cell(tdm_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tdm_table_print(const tdm_table *table, const tdm_style *style, FILE *file);

/* The style of a format ("text", "md", others) printed to the file: colours on a terminal, unless
 * NO_COLOR is set. */
tdm_style tdm_style_of(const char *format, FILE *file);
/* A heading with an optional remark behind it. */
void tdm_style_heading(const tdm_style *style, FILE *file, const char *title, const char *remark);
/* Text broken into lines of TDM_REPORT_WIDTH columns, each behind `indent` blanks. */
void tdm_style_wrap(FILE *file, uint32_t indent, const char *text);

#endif
