/* plot_table.c: CSV files as tables, and the small things that data functions share. */
#include "plot.h"

#include "core/files.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Takes one cell, ends it with NUL in place, and moves *at behind its comma or line end; *last: it
 * was the last of its line. */
static char *take_cell(char **at, bool *last)
{
    char *from = *at, *out = *at, *in = *at;
    bool quoted = *in == '"';
    in += quoted;
    while (*in && (quoted || (*in != ',' && *in != '\n' && *in != '\r'))) {
        if (quoted && *in == '"') {
            if (in[1] != '"') {
                quoted = false;
                in++;
                continue;
            }
            in++;
        }
        *out++ = *in++;
    }
    *last = *in != ',';
    while (*in == '\r')
        in++;
    in += *in == ',' || *in == '\n';
    *out = '\0';
    *at = in;
    return from;
}

static uint32_t count_columns(const char *text)
{
    uint32_t n = 1;
    bool quoted = false;
    for (; *text && (quoted || *text != '\n'); text++) {
        quoted = quoted != (*text == '"');
        n += !quoted && *text == ',';
    }
    return n;
}

static uint32_t count_lines(const char *text)
{
    uint32_t n = 1;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

tdm_code tdm_plot_table_read(tdm_arena *arena, const char *path, tdm_plot_table *table,
                             tdm_error *err)
{
    const char *text;
    size_t length;
    tdm_code code = tdm_file_read(arena, path, &text, &length, err);
    if (code != TDM_OK)
        return code;
    char *at = tdm_arena_strndup(arena, text, length);
    *table = (tdm_plot_table){.path = path, .n_columns = count_columns(at)};
    table->cells = TDM_ALLOC(arena, const char *, ((size_t)count_lines(at) + 1) * table->n_columns);
    table->heads = TDM_ALLOC(arena, const char *, table->n_columns);
    for (uint32_t line = 0; *at; line++) {
        const char **cells =
            line ? table->cells + (size_t)(line - 1) * table->n_columns : table->heads;
        uint32_t n = 0;
        for (bool last = false; !last; n++) {
            const char *cell = take_cell(&at, &last);
            if (n < table->n_columns)
                cells[n] = cell;
        }
        if (n != table->n_columns)
            return tdm_error_add(
                err, TDM_E_INVALID, "%s:%lu: %lu cells, not %lu as in the first line", path,
                (unsigned long)line + 1, (unsigned long)n, (unsigned long)table->n_columns);
        table->n_rows = line;
    }
    return TDM_OK;
}

uint32_t tdm_plot_column(const tdm_plot_table *table, const char *head)
{
    for (uint32_t c = 0; c < table->n_columns; c++)
        if (table->heads[c] && strcmp(table->heads[c], head) == 0)
            return c;
    return UINT32_MAX;
}

double tdm_plot_number(const tdm_plot_table *table, uint32_t row, uint32_t column)
{
    if (column == UINT32_MAX)
        return NAN;
    const char *cell = tdm_plot_cell(table, row, column);
    char *end;
    double value = strtod(cell, &end);
    return end != cell && *end == '\0' ? value : NAN;
}

FILE *tdm_plot_open(tdm_arena *arena, const char *base, const char *ending, tdm_error *err)
{
    const char *path = tdm_arena_printf(arena, "%s%s", base, ending);
    FILE *file = fopen(path, "w");
    if (!file)
        tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", path, strerror(errno));
    return file;
}

tdm_code tdm_plot_close(FILE *file, const char *base, tdm_error *err)
{
    bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", base, strerror(errno));
}

void tdm_plot_assign(FILE *file, const char *name, const char *text)
{
    fprintf(file, "%s = '", name);
    for (; *text; text++) {
        if (*text == '\'')
            fputc('\'', file);
        fputc(*text == '\n' ? ' ' : *text, file);
    }
    fputs("'\n", file);
}
