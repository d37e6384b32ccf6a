/* fit_file.c: puts a block `site` into a topology file and leaves the rest as it is. */
#include "core/files.h"
#include "fit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static size_t line_length(const char *line)
{
    size_t n = strcspn(line, "\n");
    return n + (line[n] == '\n');
}

/* The block `site` among the lines at the left margin: from its key to the next of them that is no
 * comment. *length 0: there is none, and the end of the text is returned. */
static const char *find_block(const char *text, size_t *length)
{
    const char *begin = NULL, *end = NULL;
    for (const char *line = text; *line; line += line_length(line)) {
        bool deeper = strchr(" \t\r\n#-", *line) != NULL;
        if (!begin && strncmp(line, "site:", 5) == 0)
            begin = line;
        if (begin && (line == begin || (deeper && (*line == ' ' || *line == '\t' || *line == '-'))))
            end = line + line_length(line);
        else if (begin && !deeper)
            break;
    }
    *length = begin ? (size_t)(end - begin) : 0;
    return begin ? begin : text + strlen(text);
}

static tdm_code put(const char *temporary, const char *text, const char *output, tdm_error *err)
{
    FILE *file = fopen(temporary, "w");
    if (!file)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", temporary, strerror(errno));
    bool bad = fputs(text, file) == EOF;
    bad |= fclose(file) != 0;
    if (!bad && rename(temporary, output) == 0)
        return TDM_OK;
    tdm_error_add(err, TDM_E_INTERNAL, "%s: %s", output, strerror(errno));
    unlink(temporary);
    return TDM_E_INTERNAL;
}

tdm_code tdm_fit_write(tdm_arena *arena, const char *path, const tdm_nccl_site *site,
                       const char *output, tdm_error *err)
{
    const char *text;
    size_t n_text, length;
    tdm_code code = tdm_file_read(arena, path, &text, &n_text, err);
    if (code != TDM_OK)
        return code;
    text = tdm_arena_strndup(arena, text, n_text);
    const char *at = find_block(text, &length), *block = tdm_nccl_site_write(arena, site);
    bool ends = at == text || at[-1] == '\n';
    const char *whole = tdm_arena_printf(arena, "%.*s%s%s%s", (int)(at - text), text,
                                         ends ? "" : "\n", block, at + length);
    tdm_node *root; /* a file that spells its keys otherwise shows itself here */
    code = tdm_doc_parse(arena, output, whole, strlen(whole), &root, err);
    if (code != TDM_OK)
        return code;
    return put(tdm_arena_printf(arena, "%s.%ld", output, (long)getpid()), whole, output, err);
}
