/* scenario_perturbation.c: how the scenario's machine differs from its files. */
#include "scenario_parts.h"

#include <stdlib.h>
#include <string.h>

/* No GPU or link of a working machine is further off than this; a share above it forgot its %. */
#define MOST_SHARE 10

typedef struct gpu_source {
    const tdm_node *gpus;
    double speed;
} gpu_source;

typedef struct link_source {
    const tdm_node *links;
    double bandwidth, extra_latency_s;
} link_source;

#define AT(member) .offset = offsetof(tdm_scenario_source, member)
#define SEED(member)                                                                               \
    {                                                                                              \
        .key = "seed", .type = TDM_FIELD_UINT64, AT(member), .doc = "of the random choice"         \
    }

static const tdm_field gpu_fields[] = {
    {.key = "gpus",
     .aliases = "gpu ranks rank",
     .type = TDM_FIELD_NODE,
     .offset = offsetof(gpu_source, gpus),
     .required = true,
     .doc = "GPUs, as 3, 8-15 or [3, 8-15]"},
    {.key = "speed",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(gpu_source, speed),
     .required = true,
     .unit = TDM_UNIT_SHARE,
     .max = MOST_SHARE,
     .positive = true,
     .doc = "share of the device's speed that their kernels reach, as 90%"},
    {.key = NULL},
};

static const tdm_field link_fields[] = {
    {.key = "links",
     .aliases = "link",
     .type = TDM_FIELD_NODE,
     .offset = offsetof(link_source, links),
     .required = true,
     .doc = "links, as gpu-3-nvlink-up, gpu-3-* or gpu-3 (all its ports)"},
    {.key = "bandwidth",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(link_source, bandwidth),
     .unit = TDM_UNIT_SHARE,
     .max = MOST_SHARE,
     .positive = true,
     .doc = "share of the bandwidth that is left, as 50%"},
    {.key = "extra_latency",
     .aliases = "latency",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(link_source, extra_latency_s),
     .unit = TDM_UNIT_SECONDS,
     .max = 3600,
     .doc = "added to the latency, as 2us"},
    {.key = NULL},
};

static const tdm_field jitter_fields[] = {
    {.key = "compute",
     .type = TDM_FIELD_NUMBER,
     AT(perturbation.compute_jitter),
     .unit = TDM_UNIT_SHARE,
     .max = MOST_SHARE,
     .doc = "coefficient of variation of every kernel's time, as 2%"},
    {.key = "communication",
     .aliases = "comm",
     .type = TDM_FIELD_NUMBER,
     AT(perturbation.communication_jitter),
     .unit = TDM_UNIT_SHARE,
     .max = MOST_SHARE,
     .doc = "coefficient of variation of every communication's latency and launch, as 5%"},
    SEED(perturbation.jitter_seed),
    {.key = NULL},
};

static const tdm_field straggler_fields[] = {
    {.key = "probability",
     .type = TDM_FIELD_NUMBER,
     AT(perturbation.straggler_probability),
     .unit = TDM_UNIT_SHARE,
     .max = 1,
     .doc = "that a GPU is slow in a step, as 1%"},
    {.key = "count",
     .type = TDM_FIELD_UINT32,
     AT(perturbation.n_stragglers),
     .min = 1,
     .doc = "GPUs that are slow in a step, instead of a probability"},
    {.key = "slowdown",
     .type = TDM_FIELD_NUMBER,
     AT(perturbation.straggler_slowdown),
     .required = true,
     .min = 1,
     .max = 1000,
     .doc = "how many times as long their kernels take, as 1.5"},
    SEED(perturbation.straggler_seed),
    {.key = NULL},
};

const tdm_field tdm_perturbation_fields[] = {
    {.key = "gpus",
     .type = TDM_FIELD_LIST,
     AT(perturbed_gpus),
     .fields = gpu_fields,
     .item_bytes = sizeof(gpu_source),
     .doc = "GPUs of another speed, as [{gpus: 3, speed: 90%}]"},
    {.key = "links",
     .type = TDM_FIELD_LIST,
     AT(perturbed_links),
     .fields = link_fields,
     .item_bytes = sizeof(link_source),
     .doc = "links that lost bandwidth, as [{links: gpu-3-*, bandwidth: 50%}]"},
    {.key = "jitter",
     .type = TDM_FIELD_MAP,
     .fields = jitter_fields,
     .doc = "noise, as {compute: 2%, communication: 5%, seed: 7}"},
    {.key = "stragglers",
     .type = TDM_FIELD_MAP,
     .fields = straggler_fields,
     .doc = "GPUs that are slow for a step, as {probability: 1%, slowdown: 1.5, seed: 3}"},
    {.key = NULL},
};

/* ---- GPUs ---- */

static bool read_number(const char **at, uint32_t *value)
{
    size_t n = strspn(*at, "0123456789");
    if (n == 0 || n > 9)
        return false;
    *value = (uint32_t)strtoul(*at, NULL, 10);
    *at += n;
    return true;
}

/* "3" or "8-15". */
static void read_range(tdm_scenario_loader *loader, const tdm_node *node, tdm_gpu_speed *range)
{
    char quoted[TDM_QUOTE_SIZE];
    const char *at = node->kind == TDM_NODE_SCALAR ? node->text : "";
    bool sound = read_number(&at, &range->first);
    range->last = range->first;
    if (sound && *at == '-') {
        at++;
        sound = read_number(&at, &range->last);
    }
    uint32_t n_gpus = loader->scenario->topology.n_gpus;
    if (!sound || *at)
        tdm_node_error(node, loader->err,
                       "%s: expected a GPU as 3, several as 8-15, or a list of these",
                       node->kind == TDM_NODE_SCALAR ? tdm_node_quote(quoted, node->text) : "this");
    else if (range->last < range->first)
        tdm_node_error(node, loader->err, "%s: the last GPU comes before the first", node->text);
    else if (range->last >= n_gpus)
        tdm_node_error(node, loader->err, "%s: topology %s has GPUs 0 to %u", node->text,
                       loader->scenario->topology.name, n_gpus - 1);
}

static uint32_t n_items(const tdm_node *node)
{
    return node->kind == TDM_NODE_LIST ? node->n_children : 1;
}

static void read_gpus(tdm_scenario_loader *loader)
{
    const tdm_list *list = &loader->read.perturbed_gpus;
    const gpu_source *items = list->items;
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n_items; i++)
        n += n_items(items[i].gpus);
    tdm_gpu_speed *speeds = TDM_ALLOC(loader->arena, tdm_gpu_speed, n), *next = speeds;
    for (uint32_t i = 0; i < list->n_items; i++) {
        const tdm_node *node = items[i].gpus;
        bool many = node->kind == TDM_NODE_LIST;
        for (node = many ? node->first : node; node; node = many ? node->next : NULL) {
            next->speed = items[i].speed;
            read_range(loader, node, next++);
        }
    }
    loader->scenario->perturbation.speeds = speeds;
    loader->scenario->perturbation.n_speeds = n;
}

/* ---- links ---- */

static bool names_a_link(const tdm_topology *topology, const char *name)
{
    for (uint32_t l = 0; l < topology->n_links; l++)
        if (tdm_link_is_named(name, topology->links[l].name))
            return true;
    return false;
}

static void refuse_link(tdm_scenario_loader *loader, const tdm_node *node)
{
    const tdm_topology *topology = &loader->scenario->topology;
    char quoted[TDM_QUOTE_SIZE];
    tdm_node_quote(quoted, node->text);
    if (topology->n_links == 0) {
        tdm_node_error(node, loader->err,
                       "%s: pass times have no links; change pass_times.send instead", quoted);
        return;
    }
    const char **names = TDM_ALLOC(loader->arena, const char *, topology->n_links);
    for (uint32_t l = 0; l < topology->n_links; l++)
        names[l] = topology->links[l].name;
    const char *near = tdm_suggest(node->text, names, topology->n_links);
    if (near)
        tdm_node_error(node, loader->err, "%s: no link of topology %s (did you mean %s?)", quoted,
                       topology->name, near);
    else
        tdm_node_error(
            node, loader->err,
            "%s: no link of topology %s; its links are %s, %s ... %s (tandem topo %s shows "
            "all)",
            quoted, topology->name, names[0], names[1], names[topology->n_links - 1],
            topology->name);
}

static void read_link(tdm_scenario_loader *loader, const tdm_node *node, tdm_link_change *change)
{
    if (node->kind != TDM_NODE_SCALAR || tdm_node_is_null(node))
        tdm_node_error(
            node, loader->err,
            "expected a link as gpu-3-nvlink-up, a pattern as gpu-3-*, or a list of these");
    else if (names_a_link(&loader->scenario->topology, node->text))
        change->name = node->text;
    else
        refuse_link(loader, node);
}

static void read_links(tdm_scenario_loader *loader)
{
    const tdm_list *list = &loader->read.perturbed_links;
    const link_source *items = list->items;
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n_items; i++)
        n += n_items(items[i].links);
    tdm_link_change *changes = TDM_ALLOC(loader->arena, tdm_link_change, n), *next = changes;
    for (uint32_t i = 0; i < list->n_items; i++) {
        const tdm_node *node = items[i].links, *item = node->parent;
        bool narrowed = tdm_node_child(item, "bandwidth") != NULL;
        if (!narrowed && !tdm_node_child(item, "extra_latency"))
            tdm_node_error(item, loader->err, "says no change: give bandwidth or extra_latency");
        bool many = node->kind == TDM_NODE_LIST;
        for (node = many ? node->first : node; node; node = many ? node->next : NULL) {
            next->bandwidth = narrowed ? items[i].bandwidth : 1;
            next->extra_latency_s = items[i].extra_latency_s;
            read_link(loader, node, next++);
        }
    }
    loader->scenario->perturbation.changes = changes;
    loader->scenario->perturbation.n_changes = n;
}

/* ---- chance ---- */

static void check_stragglers(tdm_scenario_loader *loader)
{
    static const char at[] = "perturbation.stragglers";
    uint32_t n = loader->read.perturbation.n_stragglers, n_gpus = loader->scenario->topology.n_gpus;
    bool share = tdm_scenario_gives(loader, "perturbation.stragglers.probability");
    bool count = tdm_scenario_gives(loader, "perturbation.stragglers.count");
    if (!tdm_scenario_gives(loader, at))
        return;
    if (share == count)
        tdm_node_error_at(loader->document, at, loader->err,
                          "expected exactly one of probability and count");
    else if (n > n_gpus)
        tdm_node_error_at(loader->document, "perturbation.stragglers.count", loader->err,
                          "%u: topology %s has %u GPUs", n, loader->scenario->topology.name,
                          n_gpus);
}

void tdm_scenario_read_perturbation(tdm_scenario_loader *loader)
{
    const tdm_node *section = tdm_node_child(loader->document, "perturbation");
    bool has_machine = loader->has_topology || loader->scenario->pass_times.given;
    if (!section || section->faulty || !has_machine)
        return;
    loader->scenario->perturbation = loader->read.perturbation;
    read_gpus(loader);
    read_links(loader);
    check_stragglers(loader);
}
