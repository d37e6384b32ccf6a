/* compare.c: `tandem compare`: holds one result against another. */
#include "compare.h"
#include "cli.h"

typedef struct arguments {
    const char *root, *path_a, *path_b;
    const char *rules, *format, *file, *tolerance_text, *figures_text;
    tdm_tolerance tolerance;
} arguments;

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
        code = tdm_tolerance_parse(arena, "compare", a->tolerance_text, a->figures_text,
                                   &a->tolerance);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->root = tdm_cli_root(arena);
    a->path_a = operands.items[0];
    a->path_b = operands.items[1];
    return TDM_CLI_GO_ON;
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
    if (a->tolerance.given &&
        tdm_tolerance_check("compare", &a->tolerance, &comparison, err) != TDM_OK)
        return tdm_cli_fail(err);
    int code = tdm_compare_print(arena, a->format, a->file, &comparison, &a->tolerance);
    return code == TDM_OK ? tdm_tolerance_verdict(&a->tolerance, &comparison) : code;
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
