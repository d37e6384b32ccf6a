/* compare.c: `tandem compare`: holds one result against another. */
#include "compare.h"
#include "cli.h"
#include "core/schema.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct arguments {
    const char *root, *path_a, *path_b;
    const char *rules, *format, *file, *tolerance_text, *figures_text;
    tdm_tolerance tolerance;
} arguments;

/* "5%" or a share. */
static int parse_tolerance(arguments *a)
{
    if (!a->tolerance_text)
        return TDM_CLI_GO_ON;
    char *end;
    double value = strtod(a->tolerance_text, &end);
    bool percent = *end == '%' && end[1] == '\0';
    if (end == a->tolerance_text || (*end && !percent) || !(value >= 0) || isinf(value) ||
        (!percent && value >= 1))
        return tdm_cli_complain(TDM_E_INVALID,
                                "compare: --tolerance: '%s' is no share (write 5%% or 0.05)",
                                a->tolerance_text);
    a->tolerance.given = true;
    a->tolerance.share = percent ? value / 100 : value;
    return TDM_CLI_GO_ON;
}

static int bad_figure(const char *name)
{
    const char *names[64];
    size_t n = 0;
    for (; tdm_figure_infos[n].name && n < TDM_COUNT(names); n++)
        names[n] = tdm_figure_infos[n].name;
    const char *nearest = tdm_suggest(name, names, n);
    if (nearest)
        return tdm_cli_complain(
            TDM_E_INVALID, "compare: --figures: no figure '%s' (did you mean %s?)", name, nearest);
    return tdm_cli_complain(TDM_E_INVALID,
                            "compare: --figures: no figure '%s' (the README lists them)", name);
}

static int parse_figures(tdm_arena *arena, arguments *a)
{
    if (a->figures_text && !a->tolerance.given)
        return tdm_cli_complain(
            TDM_E_INVALID,
            "compare: --figures says which figures have to be within the tolerance: give --tolerance, too");
    char *list = tdm_arena_strdup(arena, a->figures_text ? a->figures_text : "step_time_s");
    const char **names = TDM_ALLOC(arena, const char *, strlen(list) + 1);
    for (char *at = list; at;) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma = '\0';
        if (tdm_side_figure(at) == UINT32_MAX)
            return bad_figure(at);
        names[a->tolerance.n_figures++] = at;
        at = comma ? comma + 1 : NULL;
    }
    a->tolerance.figures = names;
    return TDM_CLI_GO_ON;
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const formats[] = {"text", "json", "csv", "md", NULL};
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = formats,
         .value = &a->format},
        {.name = "-o",
         .value_name = "FILE",
         .text = "print to FILE instead of standard output",
         .value = &a->file},
        {.name = "--tolerance",
         .value_name = "SHARE",
         .text = "exit 4 when a figure's relative error is larger: 5%",
         .value = &a->tolerance_text},
        {.name = "--figures",
         .value_name = "LIST",
         .text = "figures that the tolerance is for (default step_time_s)",
         .value = &a->figures_text},
        {.name = "--rules",
         .value_name = "FILE",
         .text = "rules that class the kernels of a foreign trace (default rules/kineto.yaml)",
         .value = &a->rules},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("compare"), options, argc, argv, 2, 2, &operands);
    if (code == TDM_CLI_GO_ON)
        code = parse_tolerance(a);
    if (code == TDM_CLI_GO_ON)
        code = parse_figures(arena, a);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->root = tdm_cli_root(arena);
    a->path_a = operands.items[0];
    a->path_b = operands.items[1];
    return TDM_CLI_GO_ON;
}

static int print(tdm_arena *arena, const arguments *a, const tdm_comparison *c, FILE *file)
{
    tdm_style style = {.markdown = strcmp(a->format, "md") == 0,
                       .colours = strcmp(a->format, "text") == 0 && isatty(fileno(file)) &&
                                  !getenv("NO_COLOR")};
    if (strcmp(a->format, "csv") == 0) {
        tdm_compare_csv(c, file);
    } else if (strcmp(a->format, "json") == 0) {
        char *text = tdm_compare_json(c, &a->tolerance);
        if (!text)
            return tdm_cli_complain(TDM_E_INTERNAL, "compare: out of memory");
        fputs(text, file);
        free(text);
    } else {
        tdm_compare_text(arena, c, &a->tolerance, &style, file);
    }
    return TDM_OK;
}

static int publish(tdm_arena *arena, const arguments *a, const tdm_comparison *c)
{
    int verdict =
        a->tolerance.given && !tdm_tolerance_all(&a->tolerance, c) ? TDM_E_TOLERANCE : TDM_OK;
    if (!a->file || strcmp(a->file, "-") == 0) {
        int code = print(arena, a, c, stdout);
        return tdm_cli_finish(code == TDM_OK ? verdict : code);
    }
    FILE *file = fopen(a->file, "w");
    if (!file)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    int code = print(arena, a, c, file);
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: %s", a->file, strerror(errno));
    return code == TDM_OK ? verdict : code;
}

/* Both sides are read before anything is said, so that all mistakes show at once. */
static int compare(tdm_arena *arena, const arguments *a)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_side predicted, measured;
    tdm_side_reader reader = {.root = a->root, .rules_path = a->rules};
    tdm_code code_a = tdm_side_read(arena, &reader, a->path_a, &predicted, err);
    tdm_code code_b = tdm_side_read(arena, &reader, a->path_b, &measured, err);
    if (code_a != TDM_OK || code_b != TDM_OK)
        return tdm_cli_fail(err);
    tdm_comparison comparison;
    tdm_compare(arena, &predicted, &measured, &comparison);
    if (a->tolerance.given && tdm_tolerance_check(&a->tolerance, &comparison, err) != TDM_OK)
        return tdm_cli_fail(err);
    return publish(arena, a, &comparison);
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {.format = "text"};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON)
        code = compare(&arena, &a);
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_compare = {
    .name = "compare",
    .usage = "PREDICTED MEASURED [options]",
    .summary = "hold a result or a trace against another: where the difference comes from",
    .run = run,
};
