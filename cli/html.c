/* html.c: text, pictures and the frame of a page. */
#include "html.h"

#include "core/files.h"

#include <stdlib.h>
#include <string.h>

/* ---- text ---- */

/* Length of the character of XML that the bytes begin with; 0: none. Source: RFC 3629, section 4;
 * XML 1.0, section 2.2. */
static size_t character_at(const unsigned char *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80             ? 1
               : (at[0] & 0xE0) == 0xC0 ? 2
               : (at[0] & 0xF0) == 0xE0 ? 3
               : (at[0] & 0xF8) == 0xF0 ? 4
                                        : 0;
    if (n == 0)
        return 0;
    uint32_t code = n == 1 ? at[0] : at[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3Fu);
    }
    bool surrogate = code >= 0xD800 && code < 0xE000;
    bool blank = code == '\t' || code == '\n' || code == '\r';
    return code < least[n] || code > 0x10FFFF || surrogate || code == 0xFFFE || code == 0xFFFF ||
                   (code < 0x20 && !blank)
               ? 0
               : n;
}

void tdm_html_text(FILE *file, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        const char *entity = *at == '&'    ? "&amp;"
                             : *at == '<'  ? "&lt;"
                             : *at == '>'  ? "&gt;"
                             : *at == '"'  ? "&quot;"
                             : *at == '\'' ? "&#39;"
                                           : NULL;
        size_t n = character_at(at);
        if (entity)
            fputs(entity, file);
        else if (n == 0)
            fputs("\xEF\xBF\xBD", file);
        else
            fwrite(at, 1, n, file);
        at += n > 0 ? n : 1;
    }
}

/* ---- the frame ---- */

/* The colours of the waterfall are those of the pictures: Okabe and Ito, plots/style.gp. */
static const char *const style[] = {
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--muted:#59636e;--line:#d8dee4;",
    "--card:#f5f7f9;--good:#1a7f37;--bad:#c9202c}",
    "@media(prefers-color-scheme:dark){:root{--bg:#111518;--fg:#e4e8ec;--muted:#98a2ac;",
    "--line:#343b42;--card:#1a2025;--good:#4cc265;--bad:#ff6b63}figure svg{opacity:.88}}",
    "*{box-sizing:border-box}",
    "body{margin:0;background:var(--bg);color:var(--fg);",
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}",
    "main{max-width:70rem;margin:0 auto;padding:2rem 1.25rem 4rem}",
    "h1{font-size:1.7rem;line-height:1.25;margin:0}",
    "h2{font-size:1.15rem;margin:2.4rem 0 .7rem;padding-bottom:.3rem;",
    "border-bottom:1px solid var(--line)}",
    "h2 small{color:var(--muted);font-weight:400;margin-left:.4rem}",
    "p{margin:.5rem 0}.muted{color:var(--muted)}",
    ".scroll{overflow-x:auto}",
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.93em}",
    "th,td{padding:.22rem .8rem .22rem 0;text-align:left;vertical-align:top;",
    "border-bottom:1px solid var(--line)}",
    "th{color:var(--muted);font-weight:600}",
    ".n{text-align:right;white-space:nowrap}",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.4rem,1fr));gap:.7rem;",
    "margin:1.4rem 0}",
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:.5rem;",
    "padding:.6rem .8rem}",
    ".tile b{display:block;font-size:1.2rem;white-space:nowrap;font-variant-numeric:tabular-nums}",
    ".tile span{color:var(--muted);font-size:.87em}",
    ".pass{color:var(--good);font-weight:600}.fail{color:var(--bad);font-weight:600}",
    ".stack{display:flex;height:1.5rem;border-radius:.3rem;overflow:hidden;margin:.4rem 0 .8rem}",
    ".stack i{min-width:0}",
    "td i{display:inline-block;width:.8em;height:.8em;border-radius:.15em;margin-right:.5em}",
    ".s0{background:#0072B2}.s1{background:#D55E00}.s2{background:#E69F00}",
    ".s3{background:#999999}.s4{background:#F0E442}.s5{background:#CC79A7}",
    "figure{margin:1rem 0}figure svg{display:block;width:100%;height:auto;border-radius:.4rem;background:#fff}",
    "figcaption{color:var(--muted);font-size:.87em;margin-top:.3rem}",
    "pre{background:var(--card);border:1px solid var(--line);border-radius:.4rem;",
    "padding:.7rem .9rem;overflow-x:auto;font-size:.87em;line-height:1.4;white-space:pre-wrap;",
    "overflow-wrap:anywhere}",
    "summary{cursor:pointer}",
};

void tdm_html_begin(FILE *file, const char *title)
{
    fputs("<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
          "<meta charset=\"utf-8\"/>\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>",
          file);
    tdm_html_text(file, title);
    fputs("</title>\n<style>\n", file);
    for (size_t i = 0; i < TDM_COUNT(style); i++)
        fprintf(file, "%s\n", style[i]);
    fputs("</style>\n</head>\n<body>\n<main>\n", file);
}

void tdm_html_end(FILE *file)
{
    fputs("</main>\n</body>\n</html>\n", file);
}

void tdm_html_heading(FILE *file, const char *title, const char *remark)
{
    fputs("<h2>", file);
    tdm_html_text(file, title);
    if (remark[0]) {
        fputs(" <small>", file);
        tdm_html_text(file, remark);
        fputs("</small>", file);
    }
    fputs("</h2>\n", file);
}

/* ---- pictures ---- */

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Behind what begins here, if it only names a part of the drawing: titles would show as the
 * picture's, and of several plots in one picture the names are not even different. */
static const char *skip_names(const char *at)
{
    const char *end = starts(at, "<title>")          ? "</title>"
                      : starts(at, "<desc>")         ? "</desc>"
                      : starts(at, " id=\"gnuplot_") ? "\""
                                                     : NULL;
    const char *found = end ? strstr(at + (end[0] == '"' ? strlen(" id=\"") : 0), end) : NULL;
    return found ? found + strlen(end) : at;
}

/* Copies the picture's inside and gives its ids, and what refers to them, the name. */
static void put_inside(FILE *file, const char *at, const char *name)
{
    static const char *const before_ids[] = {" id=\"", " id='", "href='#", "href=\"#", "url(#"};
    while (*at) {
        const char *behind = skip_names(at);
        if (behind != at) {
            at = behind;
            continue;
        }
        size_t n = 1;
        bool id = false;
        for (size_t i = 0; i < TDM_COUNT(before_ids) && !id; i++)
            if ((id = starts(at, before_ids[i])))
                n = strlen(before_ids[i]);
        fwrite(at, 1, n, file);
        if (id)
            fprintf(file, "%s-", name);
        at += n;
    }
}

/* viewBox="...", as the picture has it. */
static void put_view_box(FILE *file, const char *head, const char *end)
{
    const char *box = strstr(head, "viewBox=\"");
    const char *close = box && box < end ? strchr(box + strlen("viewBox=\""), '"') : NULL;
    if (close)
        fprintf(file, " %.*s", (int)(close + 1 - box), box);
}

tdm_code tdm_html_picture(tdm_arena *arena, FILE *file, const char *path, const char *name,
                          const char *caption, tdm_error *err)
{
    const char *text;
    size_t length;
    tdm_code code = tdm_file_read(arena, path, &text, &length, err);
    if (code != TDM_OK)
        return code;
    const char *head = strstr(text, "<svg"), *end = head ? strchr(head, '>') : NULL;
    if (!end)
        return tdm_error_add(err, TDM_E_INTERNAL, "%s: no SVG", path);
    fputs("<figure>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
          "xmlns:xlink=\"http://www.w3.org/1999/xlink\" role=\"img\" aria-label=\"",
          file);
    tdm_html_text(file, caption);
    fputc('"', file);
    put_view_box(file, head, end);
    fputc('>', file);
    put_inside(file, end + 1, name);
    fputs("<figcaption>", file);
    tdm_html_text(file, caption);
    fputs("</figcaption>\n</figure>\n", file);
    return TDM_OK;
}
