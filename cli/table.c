/* table.c: tables on standard output. */
#include "table.h"

#include "html.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

tdm_style tdm_style_of(const char *format, FILE *file)
{
    return (tdm_style){.markdown = strcmp(format, "md") == 0,
                       .colours = strcmp(format, "text") == 0 && isatty(fileno(file)) &&
                                  !getenv("NO_COLOR")};
}

void tdm_table_head(tdm_table *table, const char *text)
{
    assert(table->n_columns < TDM_TABLE_COLUMNS && table->capacity == 0);
    table->heads[table->n_columns++] = text;
}

void tdm_table_cell(tdm_table *table, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (table->n_cells == table->capacity) {
        uint32_t capacity = table->capacity ? table->capacity * 2 : 32 * table->n_columns;
        const char **cells = TDM_ALLOC(table->arena, const char *, capacity);
        if (table->n_cells)
            memcpy(cells, table->cells, sizeof *cells * table->n_cells);
        table->cells = cells;
        table->capacity = capacity;
    }
    table->cells[table->n_cells++] = tdm_arena_strdup(table->arena, text);
}

static bool is_left(const tdm_table *table, uint32_t column)
{
    return column < table->n_left || (table->last_left && column + 1 == table->n_columns);
}

/* Blanks wanted so far; they are written only when something follows, so that no line ends with
 * one. */
static void print_blanks(FILE *file, uint32_t *n)
{
    fprintf(file, "%*s", (int)*n, "");
    *n = 0;
}

static void print_row(const tdm_table *table, const tdm_style *style, const char *const *cells,
                      const uint32_t *widths, FILE *file)
{
    uint32_t blanks = 1;
    for (uint32_t c = 0; c < table->n_columns; c++) {
        uint32_t length = (uint32_t)strlen(cells[c]), pad = widths[c] - length;
        bool left = is_left(table, c);
        if (style->markdown) {
            fprintf(file, "%s %*s%s%*s |", c == 0 ? "|" : "", left ? 0 : (int)pad, "", cells[c],
                    left ? (int)pad : 0, "");
            continue;
        }
        blanks += 1 + (left ? 0 : pad);
        if (length > 0) {
            print_blanks(file, &blanks);
            fputs(cells[c], file);
        }
        blanks += 1 + (left ? pad : 0);
    }
    fputc('\n', file);
}

static void print_html_row(const tdm_table *table, const char *const *cells, const char *tag,
                           FILE *file)
{
    fputs("<tr>", file);
    for (uint32_t c = 0; c < table->n_columns; c++) {
        fprintf(file, "<%s%s>", tag, is_left(table, c) ? "" : " class=\"n\"");
        tdm_html_text(file, cells[c]);
        fprintf(file, "</%s>", tag);
    }
    fputs("</tr>\n", file);
}

static void print_html(const tdm_table *table, bool has_heads, FILE *file)
{
    fputs("<div class=\"scroll\"><table>\n", file);
    if (has_heads)
        print_html_row(table, table->heads, "th", file);
    for (uint32_t i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns)
        print_html_row(table, table->cells + i, "td", file);
    fputs("</table></div>\n", file);
}

void tdm_table_print(const tdm_table *table, const tdm_style *style, FILE *file)
{
    uint32_t widths[TDM_TABLE_COLUMNS];
    for (uint32_t c = 0; c < table->n_columns; c++) {
        widths[c] = (uint32_t)strlen(table->heads[c]);
        for (uint32_t i = c; i < table->n_cells; i += table->n_columns)
            widths[c] =
                strlen(table->cells[i]) > widths[c] ? (uint32_t)strlen(table->cells[i]) : widths[c];
    }
    bool has_heads = false;
    for (uint32_t c = 0; c < table->n_columns; c++)
        has_heads = has_heads || table->heads[c][0];
    if (style->html) {
        print_html(table, has_heads, file);
        return;
    }
    if (has_heads || style->markdown)
        print_row(table, style, table->heads, widths, file);
    if (style->markdown) {
        for (uint32_t c = 0; c < table->n_columns; c++)
            fputs(is_left(table, c) ? "|---" : "|---:", file);
        fputs("|\n", file);
    }
    for (uint32_t i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns)
        print_row(table, style, table->cells + i, widths, file);
}

void tdm_style_heading(const tdm_style *style, FILE *file, const char *title, const char *remark)
{
    if (style->html) {
        tdm_html_heading(file, title, remark);
        return;
    }
    const char *before = style->markdown ? "## " : style->colours ? "\033[1m" : "";
    fprintf(file, "\n%s%s%s%s%s\n%s", before, title, style->colours ? "\033[0m" : "",
            remark[0] ? "  " : "", remark, style->markdown ? "\n" : "");
}

/* Whether the blank at text[n] may become a line's end: not between a number and its unit. */
static bool may_break(const char *text, size_t n)
{
    static const char *const units[] = {"%", "ms", "GB", "GiB", "points"};
    if (n == 0 || text[n] != ' ')
        return false;
    for (size_t i = 0; i < TDM_COUNT(units); i++)
        if (text[n - 1] >= '0' && text[n - 1] <= '9' &&
            strncmp(text + n + 1, units[i], strlen(units[i])) == 0)
            return false;
    return true;
}

void tdm_style_wrap(FILE *file, uint32_t indent, const char *text)
{
    while (*text) {
        size_t room = TDM_REPORT_WIDTH - indent, n = strlen(text);
        if (n > room) {
            n = room;
            while (n > 0 && !may_break(text, n))
                n--;
            n = n ? n : room; /* a word wider than the line */
        }
        fprintf(file, "%*s%.*s\n", (int)indent, "", (int)n, text);
        text += n;
        while (*text == ' ')
            text++;
    }
}
