/* topo.c: `tandem topo`: shows a machine's wiring, and turns one description of it into another. */
#include "topo.h"
#include "cli.h"
#include "core/export.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct arguments {
    const char *operand, *format, *path, *output;
    bool matrix;
    tdm_topo_given given;
} arguments;

/* "text", "json", then what the exports are called. */
static const char *const *format_names(tdm_arena *arena)
{
    size_t n = 0;
    while (tdm_exports[n])
        n++;
    const char **names = TDM_ALLOC(arena, const char *, n + 3);
    names[0] = "text";
    names[1] = "json";
    for (size_t i = 0; i < n; i++)
        names[i + 2] = tdm_exports[i]->name;
    return names;
}

static int parse(tdm_arena *arena, int argc, char **argv, arguments *a)
{
    static const char *const wirings[] = {"switch", "cube-mesh", "pairs", "none", NULL};
    tdm_cli_strings operands;
    const tdm_cli_option options[] = {
        {.name = "--format",
         .value_name = "FORMAT",
         .text = "how to print",
         .choices = format_names(arena),
         .value = &a->format},
        {.name = "--matrix",
         .text = "the table of nvidia-smi topo -m, as --format matrix",
         .flag = &a->matrix},
        {.name = "--path",
         .value_name = "A,B",
         .text = "only the path from GPU A to GPU B, link by link",
         .value = &a->path},
        {.name = "--gpu",
         .value_name = "DEVICE",
         .text = "the GPU, where the text does not say: a device, or sm86",
         .value = &a->given.gpu},
        {.name = "--nvlinks",
         .value_name = "N",
         .text = "NVLinks of one GPU, where the device does not say",
         .value = &a->given.nvlinks},
        {.name = "--nvlink",
         .value_name = "WIRING",
         .text = "how NVLink joins GPUs, where the text does not say",
         .choices = wirings,
         .value = &a->given.wiring},
        {.name = "--gpu-at",
         .value_name = "BUSID,...",
         .text = "which devices are the GPUs, where the text does not say",
         .value = &a->given.gpu_at},
        {.name = "--pcie",
         .value_name = "GEN",
         .text = "PCIe generation, where the text has no speeds (that of the GPU)",
         .value = &a->given.pcie},
        {.name = "--nic",
         .value_name = "SPEED",
         .text = "line rate of an adapter, where the text has none, as 400Gbit/s",
         .value = &a->given.nic},
        {.name = "-o",
         .value_name = "FILE",
         .text = "write to FILE instead of standard output",
         .value = &a->output},
        {0},
    };
    int code = tdm_cli_parse(arena, tdm_verb_find("topo"), options, argc, argv, 1, 1, &operands);
    if (code != TDM_CLI_GO_ON)
        return code;
    a->operand = operands.items[0];
    if ((a->matrix || a->path) && a->format)
        return tdm_cli_complain(TDM_E_INVALID, "topo: %s goes without --format",
                                a->matrix ? "--matrix" : "--path");
    if (a->matrix && a->path)
        return tdm_cli_complain(TDM_E_INVALID, "topo: --matrix and --path: one of them at a time");
    a->format = a->matrix ? "matrix" : a->format ? a->format : "text";
    return TDM_CLI_GO_ON;
}

static tdm_code print(tdm_arena *arena, const arguments *a, const tdm_graph *graph, FILE *file,
                      tdm_error *err)
{
    if (a->path)
        return tdm_topo_path(arena, graph, a->path, file, err);
    if (strcmp(a->format, "json") == 0)
        return tdm_topo_json(arena, graph, file, err);
    for (const tdm_export *const *export = tdm_exports; *export; export ++)
        if (strcmp((*export)->name, a->format) == 0)
            return (*export)->write(arena, graph, file, err);
    tdm_topo_tree(arena, graph, file);
    tdm_topo_draw(arena, graph, file);
    tdm_topo_bisection(arena, graph, file);
    return TDM_OK;
}

/* Everything is written into memory first: what fails prints nothing. */
static int publish(tdm_arena *arena, const arguments *a, const tdm_graph *graph, tdm_error *err)
{
    char *text = NULL;
    size_t length = 0;
    FILE *memory = open_memstream(&text, &length);
    if (!memory)
        return tdm_cli_complain(TDM_E_INTERNAL, "topo: %s", strerror(errno));
    tdm_code code = print(arena, a, graph, memory, err);
    bool failed = ferror(memory) != 0;
    int status;
    if (fclose(memory) != 0 || failed)
        status = tdm_cli_complain(TDM_E_INTERNAL, "topo: %s", strerror(ENOMEM));
    else
        status = code == TDM_OK ? tdm_cli_put(a->output, text, length) : tdm_cli_fail(err);
    free(text);
    return status;
}

static int run(int argc, char **argv)
{
    tdm_arena arena = {0};
    arguments a = {0};
    int code = parse(&arena, argc, argv, &a);
    if (code == TDM_CLI_GO_ON) {
        tdm_graph graph;
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1), *notes = TDM_ALLOC(&arena, tdm_error, 1);
        if (tdm_topo_load(&arena, tdm_cli_root(&arena), a.operand, &a.given, &graph, notes, err) !=
            TDM_OK) {
            code = tdm_cli_fail(err);
        } else {
            tdm_cli_warn(notes->text);
            code = publish(&arena, &a, &graph, err);
        }
    }
    tdm_arena_free(&arena);
    return code;
}

const tdm_verb tdm_verb_topo = {
    .name = "topo",
    .usage = "TOPOLOGY|FILE [options]",
    .summary = "shows a machine's wiring, imports and exports it",
    .run = run,
};
