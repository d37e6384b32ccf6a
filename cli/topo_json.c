/* topo_json.c: a graph, its paths and its bisection for programs. */
#include "topo.h"

#include "core/graph_paths.h"

#include <jansson.h>
#include <stdlib.h>

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text && json_object_set_new(object, key, json_string(text)) != 0)
        json_object_set_new(object, key, json_null()); /* not UTF-8 */
}

static json_t *vertex_json(const tdm_vertex *v)
{
    json_t *o = json_pack("{s:s, s:s, s:I}", "name", v->name, "kind", tdm_vertex_kind_name(v->kind),
                          "index", (json_int_t)v->index);
    if (v->node != TDM_NO_NODE)
        json_object_set_new(o, "node", json_integer(v->node));
    set_text(o, "label", v->label);
    set_text(o, "bus_id", v->address);
    if (v->kind == TDM_VERTEX_GPU && v->sm > 0)
        json_object_set_new(o, "sm", json_integer(v->sm));
    if (v->kind == TDM_VERTEX_NIC && v->nic_bytes_per_s > 0)
        json_object_set_new(o, "bytes_per_s", json_real(v->nic_bytes_per_s));
    if (v->through_bytes_per_s > 0)
        json_object_set_new(o, "through_bytes_per_s", json_real(v->through_bytes_per_s));
    if (v->kind == TDM_VERTEX_SOCKET) {
        json_object_set_new(o, "numa", json_integer(v->numa));
        set_text(o, "cpus", v->cpus);
    }
    return o;
}

static json_t *edges_json(const tdm_graph *graph)
{
    json_t *edges = json_array();
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        const tdm_edge *edge = &graph->edges[e];
        json_array_append_new(
            edges, json_pack("{s:s, s:s, s:s, s:s, s:I, s:f, s:f}", "name", edge->name, "from",
                             graph->vertices[edge->from].name, "to", graph->vertices[edge->to].name,
                             "wire", tdm_wire_name(edge->wire), "count", (json_int_t)edge->count,
                             "bytes_per_s", edge->bytes_per_s, "latency_s", edge->latency_s));
    }
    return edges;
}

/* The best path of every pair of GPUs, up to a size that programs still like to read. */
static json_t *paths_json(tdm_arena *arena, const tdm_graph *graph)
{
    enum { MOST_GPUS = 256 };
    json_t *paths = json_array();
    tdm_pathfinder *finder = tdm_pathfinder_new(arena, graph);
    for (uint32_t a = 0; a < graph->n_gpus && graph->n_gpus <= MOST_GPUS; a++)
        for (uint32_t b = 0; b < graph->n_gpus; b++) {
            tdm_graph_path path = tdm_pathfinder_find(finder, graph->gpus[a], graph->gpus[b]);
            if (a == b || path.type == TDM_PATH_NONE)
                continue;
            json_t *edges = json_array();
            for (uint32_t i = 0; i < path.n_edges; i++)
                json_array_append_new(edges, json_string(graph->edges[path.edges[i]].name));
            json_array_append_new(paths, json_pack("{s:I, s:I, s:s, s:f, s:f, s:o}", "from",
                                                   (json_int_t)a, "to", (json_int_t)b, "type",
                                                   tdm_path_type_name(path.type), "bytes_per_s",
                                                   path.bytes_per_s, "latency_s", path.latency_s,
                                                   "links", edges));
        }
    return paths;
}

static json_t *bisection_json(tdm_arena *arena, const tdm_graph *graph)
{
    tdm_bisection b = tdm_graph_bisection(arena, graph);
    if (b.n_splits == 0)
        return json_null();
    json_t *half = json_array();
    for (uint32_t i = 0; i < b.n_half; i++)
        json_array_append_new(half, json_integer(b.half[i]));
    return json_pack("{s:f, s:b, s:I, s:o}", "bytes_per_s", b.bytes_per_s, "exact", b.exact,
                     "splits_tried", (json_int_t)b.n_splits, "half", half);
}

tdm_code tdm_topo_json(tdm_arena *arena, const tdm_graph *graph, FILE *file, tdm_error *err)
{
    json_t *vertices = json_array();
    for (uint32_t v = 0; v < graph->n_vertices; v++)
        json_array_append_new(vertices, vertex_json(&graph->vertices[v]));
    json_t *root =
        json_pack("{s:i, s:s, s:I, s:I, s:o, s:o, s:o, s:o}", "schema_version", 1, "name",
                  graph->name, "nodes", (json_int_t)graph->n_nodes, "gpus",
                  (json_int_t)graph->n_gpus, "vertices", vertices, "links", edges_json(graph),
                  "paths", paths_json(arena, graph), "bisection", bisection_json(arena, graph));
    if (!root)
        return tdm_error_add(err, TDM_E_INTERNAL, "topo: %s: not fit for JSON", graph->name);
    json_dumpf(root, file, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    fputc('\n', file);
    json_decref(root);
    return TDM_OK;
}
