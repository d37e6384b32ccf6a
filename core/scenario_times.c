/* scenario_times.c: scenarios that give the times of the passes instead of a model: one GPU per
 * stage, no links. */
#include "scenario_parts.h"

#include <string.h>

typedef struct times_source {
    const tdm_node *passes[3]; /* forward, backward_input, backward_weight */
    double send_s, kept_share;
} times_source;

#define PASS(key_, i, doc_)                                                                        \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_NODE, .offset = offsetof(times_source, passes[i]),          \
        .required = true, .doc = doc_                                                              \
    }

static const tdm_field times_fields[] = {
    PASS("forward", 0, "a time, or a list of one per stage"),
    PASS("backward_input", 1, "a time, or a list of one per stage"),
    PASS("backward_weight", 2, "a time, or a list of one per stage"),
    {.key = "send",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(times_source, send_s),
     .unit = TDM_UNIT_SECONDS,
     .doc = "one transfer between neighbouring stages (default 0s)"},
    {.key = "kept_for_weight",
     .type = TDM_FIELD_NUMBER,
     .offset = offsetof(times_source, kept_share),
     .unit = TDM_UNIT_SHARE,
     .max = 1,
     .doc = "schedule auto: share of a forward's activations that stay between backward_input and "
            "backward_weight (default 50%)"},
    {.key = NULL},
};

static const tdm_field time_field = {
    .type = TDM_FIELD_NUMBER, .unit = TDM_UNIT_SECONDS, .doc = "a time"};

/* One time for all stages or a list of one per stage, as an array [pp]. */
static const double *read_passes(tdm_scenario_loader *loader, const tdm_node *node, uint32_t pp)
{
    if (node->kind == TDM_NODE_LIST && node->n_children != pp) {
        tdm_node_error(node, loader->err, "%u times, but pipeline_model_parallel_size is %u",
                       node->n_children, pp);
        return NULL;
    }
    double *times = TDM_ALLOC(loader->arena, double, pp);
    if (node->kind != TDM_NODE_LIST) {
        tdm_schema_scalar(loader->arena, &time_field, node, &times[0], loader->err);
        for (uint32_t i = 1; i < pp; i++)
            times[i] = times[0];
        return times;
    }
    uint32_t i = 0;
    for (const tdm_node *item = node->first; item; item = item->next)
        tdm_schema_scalar(loader->arena, &time_field, item, &times[i++], loader->err);
    return times;
}

/* What only a model gives a meaning to. */
static void refuse_model_keys(tdm_scenario_loader *loader)
{
    static const char *const keys[] = {"model",   "topology",     "device", "training",
                                       "routing", "memory_limit", "nodes"};
    for (size_t i = 0; i < TDM_COUNT(keys); i++) {
        const tdm_node *node = tdm_node_child(loader->document, keys[i]);
        if (node)
            tdm_node_error(
                node, loader->err,
                "has no meaning beside pass_times, which stand for model and machine; remove one of them");
    }
}

static void refuse_sizes(tdm_scenario_loader *loader)
{
    const tdm_parallel *parallel = &loader->read.parallel;
    const struct {
        const char *key;
        uint32_t size;
    } sizes[] = {
        {"parallel.tensor_model_parallel_size", parallel->tp},
        {"parallel.context_parallel_size", parallel->cp},
        {"parallel.expert_model_parallel_size", parallel->ep},
        {"parallel.expert_tensor_parallel_size", parallel->etp},
        {"parallel.data_parallel_size", parallel->dp},
    };
    for (size_t i = 0; i < TDM_COUNT(sizes); i++)
        if (sizes[i].size > 1)
            tdm_node_error_at(
                loader->document, sizes[i].key, loader->err,
                "%u: pass times are those of a whole stage, so only pipeline_model_parallel_size may be "
                "above 1",
                sizes[i].size);
}

static void set_machine(tdm_scenario *scenario, uint32_t pp)
{
    scenario->topology = (tdm_topology){.name = "pass-times",
                                        .description = "one GPU per stage",
                                        .n_gpus = pp,
                                        .gpus_per_node = pp};
    scenario->device = (tdm_device){.name = "none"};
    scenario->parallel.etp = 1;
    scenario->parallel.dp = 1;
}

void tdm_scenario_read_times(tdm_scenario_loader *loader)
{
    tdm_scenario *scenario = loader->scenario;
    tdm_node *map = tdm_node_child(loader->document, "pass_times");
    const tdm_node *parallel = tdm_node_child(loader->document, "parallel");
    refuse_model_keys(loader);
    times_source read = {.kept_share = 0.5};
    if (map->faulty ||
        tdm_schema_load(loader->arena, times_fields, map, &read, loader->err) != TDM_OK ||
        (parallel && parallel->faulty))
        return;
    refuse_sizes(loader);
    uint32_t pp = loader->read.parallel.pp;
    scenario->pass_times =
        (tdm_pass_times){.given = true,
                         .forward_s = read_passes(loader, read.passes[0], pp),
                         .backward_input_s = read_passes(loader, read.passes[1], pp),
                         .backward_weight_s = read_passes(loader, read.passes[2], pp),
                         .send_s = read.send_s,
                         .kept_share = read.kept_share};
    set_machine(scenario, pp);
}
