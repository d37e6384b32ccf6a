/* fold_graph.c: where links go when GPUs move. */
#include "fold_graph.h"

#include <string.h>

#define NOWHERE UINT32_MAX

typedef struct mover {
    const tdm_topology *topology;
    const tdm_graph *graph;
    uint32_t *image;           /* [n_vertices] NOWHERE: not met */
    uint32_t *queue, n_queued; /* [n_vertices] */
    uint32_t *links;
} mover;

/* Traffic between GPUs on NVSwitch passes these, in one node only NVSwitches; it never turns to the
 * processors. */
static bool is_passed(const mover *m, tdm_vertex_kind kind)
{
    return kind == TDM_VERTEX_NVSWITCH ||
           (m->graph->n_nodes > 1 && (kind == TDM_VERTEX_PCIE_SWITCH || kind == TDM_VERTEX_NIC ||
                                      kind == TDM_VERTEX_SWITCH));
}

static bool set_image(mover *m, uint32_t vertex, uint32_t image)
{
    if (m->image[vertex] != NOWHERE)
        return m->image[vertex] == image;
    m->image[vertex] = image;
    m->queue[m->n_queued++] = vertex;
    return true;
}

static bool is_alike(const mover *m, uint32_t a, uint32_t b)
{
    const tdm_edge *x = &m->graph->edges[a], *y = &m->graph->edges[b];
    const tdm_link *p = &m->topology->links[a], *q = &m->topology->links[b];
    return x->wire == y->wire && m->graph->vertices[x->to].kind == m->graph->vertices[y->to].kind &&
           p->bytes_per_s == q->bytes_per_s && p->latency_s == q->latency_s;
}

/* The edge of the image that takes the place of an edge: to the image of its end where that is
 * known, else the one of the same place among the alike. */
static uint32_t edge_image(const mover *m, uint32_t vertex, uint32_t e)
{
    const tdm_graph *graph = m->graph;
    uint32_t at = m->image[vertex], known = m->image[graph->edges[e].to], place = 0;
    for (uint32_t i = graph->first_edge[vertex]; i < e; i++)
        place += known == NOWHERE ? is_alike(m, e, i)
                                  : graph->edges[i].to == graph->edges[e].to && is_alike(m, e, i);
    for (uint32_t i = graph->first_edge[at]; i < graph->first_edge[at + 1]; i++)
        if (is_alike(m, e, i) && (known == NOWHERE || graph->edges[i].to == known) && place-- == 0)
            return i;
    return NOWHERE;
}

/* From a vertex to those that traffic goes on to. Network switches lead to other switches and back
 * to adapters, which are met from their own side. */
static bool move_edges(mover *m, uint32_t vertex)
{
    const tdm_graph *graph = m->graph;
    for (uint32_t e = graph->first_edge[vertex]; e < graph->first_edge[vertex + 1]; e++) {
        tdm_vertex_kind from = graph->vertices[vertex].kind,
                        to = graph->vertices[graph->edges[e].to].kind;
        bool met = m->image[graph->edges[e].to] != NOWHERE;
        bool goes_on = is_passed(m, to) && !(from == TDM_VERTEX_SWITCH && to == TDM_VERTEX_NIC);
        if (!met && !goes_on)
            continue;
        uint32_t image = edge_image(m, vertex, e);
        if (image == NOWHERE || !set_image(m, graph->edges[e].to, graph->edges[image].to))
            return false;
        m->links[e] = image;
    }
    return true;
}

/* Edges that lead to vertices which were met later than they. */
static bool move_rest(mover *m)
{
    const tdm_graph *graph = m->graph;
    for (uint32_t i = 0; i < m->n_queued; i++) {
        uint32_t vertex = m->queue[i];
        for (uint32_t e = graph->first_edge[vertex]; e < graph->first_edge[vertex + 1]; e++) {
            if (m->links[e] != NOWHERE || m->image[graph->edges[e].to] == NOWHERE)
                continue;
            m->links[e] = edge_image(m, vertex, e);
            if (m->links[e] == NOWHERE)
                return false;
        }
    }
    return true;
}

bool tdm_fold_graph_move(tdm_arena *scratch, const tdm_topology *topology, const uint32_t *gpus,
                         uint32_t *links)
{
    const tdm_graph *graph = topology->graph;
    mover m = {.topology = topology,
               .graph = graph,
               .image = TDM_ALLOC(scratch, uint32_t, graph->n_vertices + 1),
               .queue = TDM_ALLOC(scratch, uint32_t, graph->n_vertices + 1),
               .links = links};
    memset(m.image, 0xff, graph->n_vertices * sizeof *m.image);
    memset(links, 0xff, topology->n_links * sizeof *links);
    for (uint32_t g = 0; g < graph->n_gpus; g++)
        set_image(&m, graph->gpus[g], graph->gpus[gpus[g]]);
    for (uint32_t i = 0; i < m.n_queued; i++)
        if (!move_edges(&m, m.queue[i]))
            return false;
    if (!move_rest(&m))
        return false;
    for (uint32_t l = 0; l < topology->n_links; l++)
        if (links[l] == NOWHERE)
            links[l] = l; /* no traffic */
    return true;
}

bool tdm_fold_graph_may_move(const tdm_graph *graph)
{
    for (uint32_t g = 0; g < graph->n_gpus; g++) {
        uint32_t v = graph->gpus[g];
        bool switched = false;
        for (uint32_t e = graph->first_edge[v]; e < graph->first_edge[v + 1]; e++)
            switched |= graph->vertices[graph->edges[e].to].kind == TDM_VERTEX_NVSWITCH;
        if (!switched)
            return false;
    }
    return true;
}
