/* export.c: what the files in exports/ share. */
#include "export.h"

void tdm_export_xml_text(FILE *file, const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c == '&')
            fputs("&amp;", file);
        else if (*c == '<')
            fputs("&lt;", file);
        else if (*c == '>')
            fputs("&gt;", file);
        else if (*c == '"')
            fputs("&quot;", file);
        else if (*c == '-' && c[1] == '-')
            fputs("-&#45;", file), c++; /* also fit for a comment */
        else
            fputc((unsigned char)*c < 0x20 ? ' ' : *c, file);
    }
}
