/* export.c: what the files in exports/ share. */
#include "export.h"

/* Bytes of the character at c when XML may hold it: 1 to 4; else 0. Source: RFC 3629, section 4;
 * XML 1.0, production 2 (no surrogates, no U+FFFE and U+FFFF). */
static unsigned character_length(const unsigned char *c)
{
    static const unsigned char lead[] = {0xc2, 0xe0, 0xf0, 0xf5};
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (c[0] < 0x80)
        return 1;
    for (unsigned extra = 1; extra <= 3; extra++) {
        if (c[0] < lead[extra - 1] || c[0] >= lead[extra])
            continue;
        uint32_t point = c[0] & (0x3fu >> extra);
        for (unsigned i = 1; i <= extra; i++) {
            if ((c[i] & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (c[i] & 0x3f);
        }
        bool barred = point < least[extra] || (point >= 0xd800 && point < 0xe000) ||
                      point == 0xfffe || point == 0xffff || point > 0x10ffff;
        return barred ? 0 : extra + 1;
    }
    return 0;
}

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
        else if ((unsigned char)*c >= 0x80) {
            unsigned n = character_length((const unsigned char *)c);
            fwrite(n ? c : "?", 1, n ? n : 1, file);
            c += n ? n - 1 : 0;
        } else if (*c == '-' && c[1] == '-')
            fputs("-&#45;", file), c++; /* also fit for a comment */
        else
            fputc((unsigned char)*c < 0x20 ? ' ' : *c, file);
    }
}
