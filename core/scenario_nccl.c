/* scenario_nccl.c: variables of NCCL in a scenario, as {NCCL_ALGO: ring}, with the prefix or
 * without. */
#include "scenario_parts.h"

#include <string.h>

static const char *without_prefix(const char *name)
{
    return strncmp(name, "NCCL_", 5) == 0 ? name + 5 : name;
}

/* The same variable further up in the file; one from the command line takes its place. */
static const tdm_node *given_before(const tdm_node *node)
{
    for (const tdm_node *other = node->parent->first; other != node; other = other->next)
        if (strcmp(without_prefix(other->key), without_prefix(node->key)) == 0)
            return other;
    return NULL;
}

static void read_variable(tdm_scenario_loader *loader, tdm_node *node)
{
    tdm_scenario *scenario = loader->scenario;
    const tdm_node *before = given_before(node);
    if (before && node->line > 0) {
        tdm_node_error(node, loader->err, "is given already, as %s in line %u", before->written,
                       before->line);
        return;
    }
    if (node->kind != TDM_NODE_SCALAR || tdm_node_is_null(node)) {
        tdm_node_error(node, loader->err, "expected a text or a number, as NCCL_ALGO: ring");
        return;
    }
    const char *mark = node->line ? tdm_arena_printf(loader->arena, "%s:%u:%u: nccl", node->path,
                                                     node->line, node->column)
                                  : tdm_arena_printf(loader->arena, "%s: nccl", node->path);
    if (tdm_nccl_settings_set(&scenario->nccl, mark, node->key, node->text, loader->err) != TDM_OK)
        return;
    tdm_nccl_given *given = TDM_ALLOC(loader->arena, tdm_nccl_given, scenario->n_nccl_given + 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < scenario->n_nccl_given; i++)
        if (strcmp(without_prefix(scenario->nccl_given[i].name), without_prefix(node->key)) != 0)
            given[n++] = scenario->nccl_given[i];
    given[n++] = (tdm_nccl_given){
        .name = tdm_arena_printf(loader->arena, "NCCL_%s", without_prefix(node->key)),
        .value = node->text};
    scenario->nccl_given = given;
    scenario->n_nccl_given = n;
}

void tdm_scenario_read_nccl(tdm_scenario_loader *loader)
{
    tdm_node *section = tdm_node_child(loader->document, "nccl");
    loader->scenario->nccl = tdm_nccl_settings_default();
    if (!section)
        return;
    if (section->kind != TDM_NODE_MAP)
        tdm_node_error(section, loader->err,
                       "expected a map of NCCL's variables, as {NCCL_ALGO: ring}");
    else if (loader->scenario->pass_times.given)
        tdm_node_error(section, loader->err,
                       "pass times have no collectives; change pass_times.send instead");
    else
        for (tdm_node *node = section->first; node; node = node->next)
            read_variable(loader, node);
}
