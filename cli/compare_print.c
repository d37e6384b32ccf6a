/* compare_print.c: a comparison in any of its formats. */
#include "cli.h"
#include "compare.h"

#include <stdlib.h>
#include <string.h>

typedef struct printing {
    tdm_arena *arena;
    const char *format, *json;
    const tdm_comparison *comparison;
    const tdm_tolerance *tolerance;
} printing;

static void print(void *context, FILE *file)
{
    const printing *p = context;
    tdm_style style = tdm_style_of(p->format, file);
    if (p->json)
        fputs(p->json, file);
    else if (strcmp(p->format, "csv") == 0)
        tdm_compare_csv(p->comparison, file);
    else
        tdm_compare_text(p->arena, p->comparison, p->tolerance, &style, file);
}

int tdm_compare_print(tdm_arena *arena, const char *format, const char *path,
                      const tdm_comparison *c, const tdm_tolerance *tolerance)
{
    bool json = strcmp(format, "json") == 0;
    char *text = json ? tdm_compare_json(c, tolerance) : NULL;
    if (json && !text)
        return tdm_cli_complain(TDM_E_INTERNAL, "out of memory");
    printing p = {arena, format, text, c, tolerance};
    int code = tdm_cli_print(path, print, &p);
    free(text);
    return code;
}
