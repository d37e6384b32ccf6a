/* The table that `nvidia-smi topo -m` prints, with its legends; NET between nodes is ours. */
#include "core/export.h"
#include "core/graph_paths.h"
#include "core/graph_tree.h"

#include <string.h>

/* One cell. What nvidia-smi does not know is shown as it would: no way over another GPU, and C2C as
 * the host bridge that it is. */
static const char *cell(tdm_arena *arena, tdm_pathfinder *finder, uint32_t a, uint32_t b)
{
    tdm_graph_path path = tdm_pathfinder_find(finder, a, b);
    if (path.type == TDM_PATH_LOC)
        return " X ";
    if (path.type == TDM_PATH_NVL)
        return tdm_arena_printf(arena, "NV%u", path.n_nvlinks);
    if (path.type == TDM_PATH_NVB)
        path = tdm_pathfinder_find_pcie(finder, a, b);
    if (path.type == TDM_PATH_C2C || path.type == TDM_PATH_P2C)
        return "PHB";
    return path.type == TDM_PATH_NONE ? "N/A" : tdm_path_type_name(path.type);
}

static void write_legend(FILE *file)
{
    fputs("\nLegend:\n\n  X    = Self\n"
          "  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes "
          "(e.g., QPI/UPI)\n"
          "  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host "
          "Bridges within a NUMA node\n"
          "  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)\n"
          "  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host "
          "Bridge)\n"
          "  PIX  = Connection traversing at most a single PCIe bridge\n"
          "  NV#  = Connection traversing a bonded set of # NVLinks\n",
          file);
}

static void write_row(tdm_arena *arena, const tdm_graph *graph, const tdm_graph_tree *tree,
                      tdm_pathfinder *finder, const uint32_t *devices, uint32_t n, uint32_t row,
                      FILE *file)
{
    const tdm_vertex *v = &graph->vertices[devices[row]];
    uint32_t socket = tdm_graph_tree_socket(graph, tree, devices[row]);
    const tdm_vertex *cpu = socket == TDM_NO_VERTEX ? NULL : &graph->vertices[socket];
    bool is_gpu = v->kind == TDM_VERTEX_GPU;
    fprintf(file, "%s%u", is_gpu ? "GPU" : "NIC", v->index);
    for (uint32_t b = 0; b < n; b++)
        fprintf(file, "\t%s", cell(arena, finder, devices[row], devices[b]));
    if (is_gpu) {
        fprintf(file, "\t%s", cpu && cpu->cpus ? cpu->cpus : "N/A");
        if (cpu && cpu->numa >= 0)
            fprintf(file, "\t%d\tN/A", (int)cpu->numa);
        else
            fprintf(file, "\tN/A\tN/A");
    }
    fputc('\n', file);
}

static tdm_code write_matrix(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    (void)err;
    uint32_t n = 0, n_nics = 0;
    tdm_graph_tree tree = tdm_graph_tree_make(arena, graph);
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    uint32_t *devices = TDM_ALLOC(arena, uint32_t, graph->n_vertices + 1u);
    for (; n < graph->n_gpus; n++)
        devices[n] = graph->gpus[n];
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        if (graph->vertices[v].kind == TDM_VERTEX_NIC) {
            devices[n++] = v;
            n_nics++;
        }
    for (uint32_t i = 0; i < n; i++)
        fprintf(file, "\t%s%u", i < graph->n_gpus ? "GPU" : "NIC",
                graph->vertices[devices[i]].index);
    fputs("\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n", file);
    for (uint32_t a = 0; a < n; a++)
        write_row(arena, graph, &tree, finder, devices, n, a, file);
    write_legend(file);
    if (n_nics > 0)
        fputs("\nNIC Legend:\n\n", file);
    for (uint32_t i = graph->n_gpus; i < n; i++) {
        const tdm_vertex *v = &graph->vertices[devices[i]];
        fprintf(file, "  NIC%u: %s\n", v->index, v->label ? v->label : v->name);
    }
    return TDM_OK;
}

const tdm_export tdm_export_matrix = {
    .name = "matrix",
    .summary = "the table of nvidia-smi topo -m",
    .write = write_matrix,
};
