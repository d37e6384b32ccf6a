/* fuzz_topology.c: any bytes as a machine's wiring: either a graph comes of it, whose paths,
 * bisection and exports can be had and whose XML reads back, or it is refused with messages. The
 * first byte says what is given beside the text. */
#include "core/export.h"
#include "core/graph_bisection.h"
#include "core/graph_paths.h"
#include "core/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void require(bool condition, const char *text)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", text);
    abort();
}

static void check_edges(const tdm_graph *graph)
{
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        const tdm_edge *edge = &graph->edges[e];
        require(edge->from < graph->n_vertices && edge->to < graph->n_vertices,
                "an edge to nowhere");
        require(edge->bytes_per_s > 0 && edge->bytes_per_s < 1e18 && edge->latency_s >= 0 &&
                    edge->count > 0,
                "an edge without a rate");
    }
}

static void check_paths(tdm_arena *arena, const tdm_graph *graph)
{
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    for (uint32_t a = 0; a < graph->n_gpus; a++)
        for (uint32_t b = 0; b < graph->n_gpus; b++) {
            tdm_graph_path path = tdm_pathfinder_find(finder, graph->gpus[a], graph->gpus[b]);
            require((path.type == TDM_PATH_LOC) == (a == b), "a path to itself");
            uint32_t at = graph->gpus[a];
            for (uint32_t i = 0; i < path.n_edges; i++) {
                const tdm_edge *edge = &graph->edges[path.edges[i]];
                require(edge->from == at && edge->bytes_per_s >= path.bytes_per_s, "a torn path");
                at = edge->to;
            }
            require(path.n_edges == 0 || at == graph->gpus[b], "a path that ends elsewhere");
        }
}

static char *written(tdm_arena *arena, const tdm_graph *graph, const tdm_export *export,
                     size_t *length)
{
    char *text = NULL;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    FILE *file = open_memstream(&text, length);
    require(file != NULL, "no memory");
    tdm_code code = export->write(arena, graph, file, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    require(fclose(file) == 0, "not written");
    return text;
}

static void check_exports(tdm_arena *arena, const tdm_graph *graph)
{
    for (const tdm_export *const *export = tdm_exports; *export; export ++) {
        size_t length = 0;
        char *text = written(arena, graph, *export, &length);
        if (strcmp((*export)->name, "nccl") == 0) {
            const tdm_import_options none = {0};
            tdm_graph again;
            tdm_error *err = TDM_ALLOC(arena, tdm_error, 1),
                      *notes = TDM_ALLOC(arena, tdm_error, 1);
            tdm_code code =
                tdm_import_text(arena, "again", text, length, &none, &again, notes, err);
            /* Where a GPU's kind is not in the graph, it is not in the XML. */
            require(code == TDM_OK || graph->vertices[graph->gpus[0]].sm == 0, err->text);
            require(code != TDM_OK || again.n_gpus == graph->n_gpus, "other GPUs");
        }
        free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    tdm_arena arena = {0};
    tdm_graph graph;
    uint8_t given = n_bytes > 0 ? bytes[0] : 0;
    const tdm_import_options options = {.sm = given & 1   ? 0
                                              : given & 2 ? 70
                                                          : 90,
                                        .nvlinks = given & 4 ? 0 : 18,
                                        .wiring = (tdm_nvlink_wiring)((given >> 3) % 5),
                                        .pcie_generation = given & 1 ? 0 : 4,
                                        .nic_bytes_per_s = given & 64 ? 0 : 25e9,
                                        .gpu_at = given & 128 ? "0000:01:00.0" : NULL};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1), *notes = TDM_ALLOC(&arena, tdm_error, 1);
    const char *text = (const char *)bytes + (n_bytes > 0);
    size_t length = n_bytes - (n_bytes > 0);
    tdm_code code = tdm_import_text(&arena, "fuzz", text, length, &options, &graph, notes, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code == TDM_OK) {
        require(graph.n_gpus > 0, "a machine without GPUs");
        check_edges(&graph);
        if (graph.n_gpus <= 24 && graph.n_vertices <= 400) {
            check_paths(&arena, &graph);
            check_exports(&arena, &graph);
        }
        if (graph.n_gpus <= 8 && graph.n_vertices <= 100)
            tdm_graph_bisection(&arena, &graph);
    }
    tdm_arena_free(&arena);
    return 0;
}
