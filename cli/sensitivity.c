/* sensitivity.c: lists what can be slowed, and predicts each. */
#include "sensitivity.h"

#include "jobs.h"
#include "sim/sites.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With more GPUs only some of each stage are slowed: those of one role are alike. */
enum { MOST_GPUS = 64 };

const char *tdm_slowed_kind_name(tdm_slowed_kind kind)
{
    static const char *const names[] = {"gpu", "stage", "link", "class"};
    return names[kind];
}

typedef struct listing {
    tdm_arena *arena;
    const tdm_result *result;
    tdm_sensitivity *s;
} listing;

static void add(listing *l, tdm_slowed item)
{
    l->s->items[l->s->n++] = item;
}

/* ---- what ---- */

static bool is_slowed(const listing *l, uint32_t gpu)
{
    const tdm_perturbed *perturbed = l->result->machine.perturbed;
    bool perturbs = perturbed && (perturbed->stretch[gpu] < 1 || perturbed->stretch[gpu] > 1);
    return perturbs || gpu % l->s->gpu_stride == 0;
}

static void list_gpus(listing *l)
{
    const tdm_mesh *mesh = &l->result->step.plan.mesh;
    bool named = mesh->per_stage == 1 && !l->result->scenario.pass_times.given;
    for (uint32_t g = 0; g < mesh->world; g++)
        if (is_slowed(l, g) && mesh->per_stage > 1)
            add(l, (tdm_slowed){.kind = TDM_SLOWED_GPU,
                                .name = tdm_arena_printf(l->arena, "GPU %u", g),
                                .first = g,
                                .last = g});
    for (uint32_t stage = 0; stage < mesh->pp && mesh->pp > 1; stage++)
        add(l, (tdm_slowed){.kind = TDM_SLOWED_STAGE,
                            .name = tdm_arena_printf(
                                l->arena, named ? "stage %u (GPU %u)" : "stage %u", stage, stage),
                            .first = stage * mesh->per_stage,
                            .last = (stage + 1) * mesh->per_stage - 1});
    add(l, (tdm_slowed){.kind = TDM_SLOWED_CLASS, .name = "all GPUs", .last = mesh->world - 1});
    if (l->result->step.plan.pass_times && mesh->pp > 1)
        add(l, (tdm_slowed){.kind = TDM_SLOWED_CLASS,
                            .name = "all transfers between stages",
                            .last = mesh->world - 1,
                            .sends = true});
}

/* Links that the plan's communication crosses. */
static bool *find_used(listing *l)
{
    const tdm_topology *topology = &l->result->scenario.topology;
    bool *used = TDM_ALLOC(l->arena, bool, topology->n_links + 1);
    tdm_net *net = tdm_net_new(l->arena, topology);
    tdm_sites sites;
    if (tdm_sites_list(l->arena, &l->result->step.plan, net, &sites, NULL) != TDM_OK)
        return used; /* what it could not carry out has been said already */
    for (uint32_t p = 0; p < tdm_net_n_paths(net); p++)
        for (uint32_t i = 0; i < tdm_net_path(net, p)->n_links; i++)
            used[tdm_net_path(net, p)->links[i]] = true;
    return used;
}

/* The edge of the other direction: a cable's two are called NAME-up and NAME-down. */
static uint32_t back_of(const tdm_graph *graph, uint32_t e)
{
    const tdm_edge *edge = &graph->edges[e];
    for (uint32_t i = graph->first_edge[edge->to]; i < graph->first_edge[edge->to + 1]; i++)
        if (graph->edges[i].to == edge->from && graph->edges[i].wire == edge->wire)
            return i;
    return UINT32_MAX;
}

static const char *cable_name(const listing *l, const char *name)
{
    size_t n = strlen(name);
    return n > 3 && strcmp(name + n - 3, "-up") == 0 ? tdm_arena_strndup(l->arena, name, n - 3)
                                                     : name;
}

/* GPUs of the plan that a cable is for: the one at its end, else those of its node. */
static bool find_gpus(const listing *l, const tdm_edge *edge, uint32_t *first, uint32_t *last)
{
    const tdm_graph *graph = l->result->scenario.topology.graph;
    const tdm_vertex *ends[2] = {&graph->vertices[edge->from], &graph->vertices[edge->to]};
    bool found = false;
    for (uint32_t g = 0; g < l->result->step.plan.mesh.world; g++) {
        const tdm_vertex *gpu = &graph->vertices[graph->gpus[g]];
        bool at_end = gpu == ends[0] || gpu == ends[1];
        bool gpu_ended = ends[0]->kind == TDM_VERTEX_GPU || ends[1]->kind == TDM_VERTEX_GPU;
        if (gpu_ended ? !at_end : gpu->node != ends[0]->node)
            continue;
        *first = found ? *first : g;
        *last = g;
        found = true;
    }
    return found;
}

/* Each cable of one kind of wire that the plan uses, then all of them together. */
static void list_wire(listing *l, const bool *used, tdm_wire wire)
{
    const tdm_graph *graph = l->result->scenario.topology.graph;
    uint32_t *all = TDM_ALLOC(l->arena, uint32_t, graph->n_edges + 1), n_all = 0, n = 0;
    for (uint32_t e = 0; e < graph->n_edges; e++) {
        uint32_t back = back_of(graph, e), first = 0, last = 0, *pair = &all[n_all];
        if (graph->edges[e].wire != wire || !used[e])
            continue;
        all[n_all++] = e;
        if (back != UINT32_MAX && used[back] && back < e)
            continue; /* listed with the other direction */
        bool both = back != UINT32_MAX && used[back];
        uint32_t *own = TDM_ALLOC(l->arena, uint32_t, 2);
        own[0] = *pair;
        own[1] = back;
        if (n++ % l->s->gpu_stride != 0 || !find_gpus(l, &graph->edges[e], &first, &last))
            continue;
        add(l, (tdm_slowed){.kind = TDM_SLOWED_LINK,
                            .name = cable_name(l, graph->edges[e].name),
                            .first = first,
                            .last = last,
                            .links = own,
                            .n_links = both ? 2 : 1});
    }
    if (n_all == 0)
        return;
    add(l, (tdm_slowed){.kind = TDM_SLOWED_CLASS,
                        .name = tdm_arena_printf(l->arena, "all links of %s", tdm_wire_name(wire)),
                        .last = l->result->step.plan.mesh.world - 1,
                        .links = all,
                        .n_links = n_all});
}

static void list_all(listing *l)
{
    const tdm_topology *topology = &l->result->scenario.topology;
    uint32_t world = l->result->step.plan.mesh.world;
    uint32_t n_edges = topology->graph ? topology->graph->n_edges : 0;
    l->s->gpu_stride = (uint32_t)tdm_ceil_div(world, MOST_GPUS);
    l->s->items = TDM_ALLOC(l->arena, tdm_slowed, 2 * (size_t)world + 2 + n_edges + TDM_N_WIRES);
    list_gpus(l);
    const bool *used = topology->graph ? find_used(l) : NULL;
    for (int wire = 0; wire < TDM_N_WIRES && used; wire++)
        list_wire(l, used, (tdm_wire)wire);
}

/* ---- predict ---- */

/* The scenario with one more slow thing. */
static void slow_down(tdm_arena *arena, const tdm_slowed *item, double share,
                      tdm_scenario *scenario)
{
    tdm_perturbation *p = &scenario->perturbation;
    uint32_t n_speeds = p->n_speeds + (item->n_links == 0),
             n_changes = p->n_changes + item->n_links;
    tdm_gpu_speed *speeds = TDM_ALLOC(arena, tdm_gpu_speed, n_speeds);
    tdm_link_change *changes = TDM_ALLOC(arena, tdm_link_change, n_changes);
    for (uint32_t i = 0; i < p->n_speeds; i++)
        speeds[i] = p->speeds[i];
    if (item->n_links == 0)
        speeds[p->n_speeds] = (tdm_gpu_speed){item->first, item->last, share};
    for (uint32_t i = 0; i < p->n_changes; i++)
        changes[i] = p->changes[i];
    for (uint32_t i = 0; i < item->n_links; i++)
        changes[p->n_changes + i] =
            (tdm_link_change){scenario->topology.links[item->links[i]].name, share, 0};
    p->speeds = speeds;
    p->n_speeds = n_speeds;
    p->changes = changes;
    p->n_changes = n_changes;
}

static tdm_code compute(tdm_arena *arena, void *context, uint32_t i, void *step_s, tdm_error *err)
{
    const listing *l = context;
    const tdm_slowed *item = &l->s->items[i];
    double factor = 1 + l->s->slowing;
    tdm_result *slower = TDM_ALLOC(arena, tdm_result, 1);
    *slower = *l->result;
    if (item->sends)
        slower->step.plan.send_s *= factor;
    else
        slow_down(arena, item, 1 / factor, &slower->scenario);
    tdm_machine machine = tdm_machine_of(arena, &slower->scenario, 0);
    tdm_figures figures;
    tdm_code code = tdm_predict_on(arena, slower, &machine, false, &figures, err);
    if (code == TDM_OK)
        *(double *)step_s = figures.step_time_s;
    return code;
}

/* Largest change first; what is alike stays in order. */
static int by_change(const void *a, const void *b)
{
    const tdm_slowed *x = a, *y = b;
    if (x->level > y->level || x->level < y->level)
        return x->level > y->level ? -1 : 1;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

tdm_code tdm_sensitivity_run(tdm_arena *arena, const tdm_result *result, double slowing,
                             uint32_t n_jobs, bool quiet, tdm_sensitivity *s, tdm_error *err)
{
    *s = (tdm_sensitivity){.slowing = slowing};
    listing l = {.arena = arena, .result = result, .s = s};
    list_all(&l);
    double before_s = result->step.figures.step_time_s;
    double *steps_s = TDM_ALLOC(arena, double, s->n);
    const tdm_jobs jobs = {.n = s->n,
                           .n_parallel = n_jobs,
                           .what = "prediction",
                           .quiet = quiet,
                           .result_bytes = sizeof *steps_s,
                           .work = compute,
                           .context = &l};
    tdm_code code = tdm_jobs_run(&jobs, steps_s, err);
    if (code != TDM_OK)
        return code;
    for (uint32_t i = 0; i < s->n; i++) {
        tdm_slowed *item = &s->items[i];
        /* What rounding makes of no change is none. */
        double change_s = steps_s[i] - before_s, least_s = 1e-9 * before_s;
        item->step_s = steps_s[i];
        item->level = before_s > 0 ? rint(change_s / least_s) : 0;
        item->change_s = change_s > least_s || change_s < -least_s ? change_s : 0;
        item->elasticity = before_s > 0 ? item->change_s / before_s / slowing : 0;
    }
    qsort(s->items, s->n, sizeof *s->items, by_change);
    return TDM_OK;
}

const tdm_slowed *tdm_sensitivity_worst(const tdm_sensitivity *s, tdm_slowed_kind kind)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->items[i].kind == kind)
            return &s->items[i];
    return NULL;
}
