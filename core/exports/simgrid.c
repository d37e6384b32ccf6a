/* A SimGrid 4.1 platform: GPUs as hosts, each direction of each link as a link, and the best path
 * between any two GPUs as their route. */
#include "core/export.h"
#include "core/graph_paths.h"

/* Routes are spelt out, n x (n - 1) of them. */
enum { MAX_GPUS = 1024 };

static tdm_code write_routes(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    for (uint32_t a = 0; a < graph->n_gpus; a++)
        for (uint32_t b = 0; b < graph->n_gpus; b++) {
            if (a == b)
                continue;
            tdm_graph_path path = tdm_pathfinder_find(finder, graph->gpus[a], graph->gpus[b]);
            if (path.type == TDM_PATH_NONE)
                return tdm_error_add(err, TDM_E_INVALID,
                                     "%s: GPU %u has no way to GPU %u, and SimGrid wants routes "
                                     "between all hosts",
                                     graph->name, a, b);
            fprintf(file, "    <route src=\"%s\" dst=\"%s\" symmetrical=\"NO\">",
                    graph->vertices[graph->gpus[a]].name, graph->vertices[graph->gpus[b]].name);
            for (uint32_t i = 0; i < path.n_edges; i++)
                fprintf(file, "<link_ctn id=\"%s\"/>", graph->edges[path.edges[i]].name);
            fprintf(file, "</route>\n");
        }
    return TDM_OK;
}

static tdm_code write_platform(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    if (graph->n_gpus > MAX_GPUS)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s: %u GPUs are more than the %d whose routes can be spelt out",
                             graph->name, graph->n_gpus, MAX_GPUS);
    fprintf(file, "<?xml version=\"1.0\"?>\n"
                  "<!DOCTYPE platform SYSTEM \"https://simgrid.org/simgrid.dtd\">\n<!-- ");
    tdm_export_xml_text(file, graph->name);
    fprintf(file, " -->\n<platform version=\"4.1\">\n"
                  "  <zone id=\"machine\" routing=\"Full\">\n");
    /* The speed stands for nothing: the graph says how GPUs are wired, not how fast they are. */
    for (uint32_t g = 0; g < graph->n_gpus; g++)
        fprintf(file, "    <host id=\"%s\" speed=\"1Gf\"/>\n",
                graph->vertices[graph->gpus[g]].name);
    for (uint32_t e = 0; e < graph->n_edges; e++)
        fprintf(file, "    <link id=\"%s\" bandwidth=\"%.17gBps\" latency=\"%.9gs\"/>\n",
                graph->edges[e].name, graph->edges[e].bytes_per_s, graph->edges[e].latency_s);
    tdm_code code = write_routes(arena, graph, file, err);
    fprintf(file, "  </zone>\n</platform>\n");
    return code;
}

const tdm_export tdm_export_simgrid = {
    .name = "simgrid",
    .summary = "SimGrid platform, version 4.1",
    .write = write_platform,
};
