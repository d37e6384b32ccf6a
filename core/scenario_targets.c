/* scenario_targets.c: thresholds on figures. */
#include "figures.h"
#include "scenario_parts.h"

#include <string.h>

enum { MAX_FIGURES = 128 };

typedef struct target_source {
    double min, max;
    const char *label;
} target_source;

static const tdm_figure_info *find_figure(const char *name)
{
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        if (strcmp(info->name, name) == 0)
            return info;
    return NULL;
}

static tdm_code unknown_figure(const tdm_node *node, tdm_error *err)
{
    const char *names[MAX_FIGURES] = {0};
    size_t n = 0;
    for (const tdm_figure_info *info = tdm_figure_infos; info->name && n < MAX_FIGURES; info++)
        names[n++] = info->name;
    const char *near = tdm_suggest(node->key, names, n);
    if (near)
        return tdm_node_error(node, err, "no such figure (did you mean %s?)", near);
    char list[1024];
    size_t length = 0;
    for (size_t i = 0; i < n && length + strlen(names[i]) + 3 < sizeof list; i++) {
        if (i > 0)
            length = (size_t)(stpcpy(list + length, ", ") - list);
        length = (size_t)(stpcpy(list + length, names[i]) - list);
    }
    return tdm_node_error(node, err, "no such figure; there are %s", list);
}

/* Figures that pass times say nothing about. */
static bool needs_model(const char *figure)
{
    static const char *const names[] = {"tokens_per_s",
                                        "mfu",
                                        "hfu",
                                        "peak_memory_bytes",
                                        "expert_efficiency",
                                        "hot_rank_share",
                                        "hot_expert_share",
                                        "dropped_fraction"};
    for (size_t i = 0; i < TDM_COUNT(names); i++)
        if (strcmp(names[i], figure) == 0)
            return true;
    return false;
}

static tdm_code read_target(tdm_scenario_loader *loader, tdm_node *node, tdm_target *target)
{
    const tdm_figure_info *info = find_figure(node->key);
    if (!info)
        return unknown_figure(node, loader->err);
    if (tdm_scenario_gives(loader, "pass_times") && needs_model(info->name))
        return tdm_node_error(node, loader->err, "needs a model, and this scenario has pass_times");
    tdm_unit unit = tdm_unit_find(info->unit);
    const tdm_field fields[] = {
        {.key = "min",
         .type = TDM_FIELD_NUMBER,
         .offset = offsetof(target_source, min),
         .unit = unit,
         .doc = "lower threshold"},
        {.key = "max",
         .type = TDM_FIELD_NUMBER,
         .offset = offsetof(target_source, max),
         .unit = unit,
         .doc = "upper threshold"},
        {.key = "label",
         .type = TDM_FIELD_TEXT,
         .offset = offsetof(target_source, label),
         .doc = "what the report calls it"},
        {.key = NULL},
    };
    target_source read = {.label = info->text};
    if (tdm_schema_load(loader->arena, fields, node, &read, loader->err) != TDM_OK)
        return TDM_E_INVALID;
    bool has_min = tdm_node_child(node, "min"), has_max = tdm_node_child(node, "max");
    if (has_min == has_max)
        return tdm_node_error(node, loader->err, "expected exactly one of min and max");
    *target = (tdm_target){.figure = info->name,
                           .is_maximum = has_max,
                           .threshold = has_max ? read.max : read.min,
                           .label = read.label};
    return TDM_OK;
}

void tdm_scenario_read_targets(tdm_scenario_loader *loader)
{
    tdm_node *map = tdm_node_child(loader->document, "targets");
    if (!map || map->faulty)
        return;
    if (map->kind != TDM_NODE_MAP) {
        tdm_node_error(map, loader->err, "expected a map, as {bubble_fraction: {max: 10%%}}");
        return;
    }
    tdm_target *targets = TDM_ALLOC(loader->arena, tdm_target, map->n_children);
    uint32_t n = 0;
    for (tdm_node *child = map->first; child; child = child->next)
        if (read_target(loader, child, &targets[n]) == TDM_OK)
            n++;
    loader->scenario->targets = targets;
    loader->scenario->n_targets = n;
}
