/* scenario_routing.c: what a scenario says of its routing beyond the model's name. */
#include "files.h"
#include "routing_csv.h"
#include "scenario_parts.h"

/* Parameters, and the one model that each belongs to. */
static const struct {
    const char *key;
    tdm_routing_model model;
} parameters[] = {
    {"routing.exponent", TDM_ROUTING_ZIPF},  {"routing.concentration", TDM_ROUTING_DIRICHLET},
    {"routing.hot_expert", TDM_ROUTING_HOT}, {"routing.hot_share", TDM_ROUTING_HOT},
    {"routing.csv", TDM_ROUTING_RECORDED},
};

static void check_parameters(tdm_scenario_loader *loader)
{
    tdm_routing_model model = loader->read.routing.model;
    for (size_t i = 0; i < TDM_COUNT(parameters); i++)
        if (parameters[i].model != model && tdm_scenario_gives(loader, parameters[i].key))
            tdm_node_error_at(loader->document, parameters[i].key, loader->err,
                              "goes with routing.model: %s only, not with %s",
                              tdm_routing_model_name(parameters[i].model),
                              tdm_routing_model_name(model));
    if (loader->read.routing.pad_to_capacity &&
        !tdm_scenario_gives(loader, "routing.capacity_factor"))
        tdm_node_error_at(loader->document, "routing.pad_to_capacity", loader->err,
                          "needs routing.capacity_factor, which says up to where to pad");
    if (tdm_scenario_gives(loader, "routing.capacity_factor") &&
        loader->read.routing.capacity_factor <= 0)
        tdm_node_error_at(loader->document, "routing.capacity_factor", loader->err,
                          "0: expected a number above 0; leave it out to drop nothing");
}

static void check_hot(tdm_scenario_loader *loader)
{
    const tdm_routing *routing = &loader->read.routing;
    const tdm_model *model = &loader->scenario->model;
    if (!tdm_scenario_gives(loader, "routing.hot_share"))
        tdm_node_error_at(loader->document, "routing.hot_share", loader->err,
                          "missing: the hot expert's share of the first choices, as 20%%");
    if (routing->hot_expert >= model->num_experts)
        tdm_node_error_at(loader->document, "routing.hot_expert", loader->err,
                          "%u: model %s has experts 0 to %u", routing->hot_expert, model->name,
                          model->num_experts - 1);
    if (routing->hot_share >= 1 && model->moe_router_topk > 1)
        tdm_node_error_at(loader->document, "routing.hot_share", loader->err,
                          "100%% leaves nothing for a token's other %u experts",
                          model->moe_router_topk - 1);
}

/* More rows than a rank has tokens: a token chooses an expert once. Megatron's top-k over the
 * tokens fails there. Source: Megatron-LM, torch.topk with k=expert_capacity in
 * megatron/core/transformer/moe/moe_utils.py. */
static void check_padding(tdm_scenario_loader *loader)
{
    const tdm_routing *routing = &loader->read.routing;
    const tdm_model *model = &loader->scenario->model;
    double most = (double)model->num_experts / model->moe_router_topk;
    if (routing->capacity_factor > most)
        tdm_node_error_at(
            loader->document, "routing.capacity_factor", loader->err,
            "%g: with pad_to_capacity at most num_experts / moe_router_topk, %g: there "
            "an expert has a row for every token",
            routing->capacity_factor, most);
}

static void read_record(tdm_scenario_loader *loader)
{
    const char *name = loader->read.recorded;
    if (!name) {
        tdm_node_error_at(loader->document, "routing.csv", loader->err,
                          "missing: the file with lines layer,expert,weight");
        return;
    }
    const char *path = *name == '/' ? name : tdm_file_join(loader->arena, loader->folder, name);
    tdm_routing_record *record = TDM_ALLOC(loader->arena, tdm_routing_record, 1);
    if (tdm_routing_csv_read(loader->arena, path, &loader->scenario->model, record, loader->err) ==
        TDM_OK)
        loader->scenario->routing.record = record;
}

/* Defaults stand in the scenario only where they mean something, so that a plan names no others. */
static void keep_own_parameters(tdm_routing *routing)
{
    if (routing->model != TDM_ROUTING_ZIPF)
        routing->exponent = 0;
    if (routing->model != TDM_ROUTING_DIRICHLET)
        routing->concentration = 0;
}

void tdm_scenario_read_routing(tdm_scenario_loader *loader)
{
    const tdm_node *section = tdm_node_child(loader->document, "routing");
    keep_own_parameters(&loader->scenario->routing);
    if (!section || section->faulty)
        return;
    check_parameters(loader);
    if (!loader->has_model || loader->scenario->model.num_experts == 0)
        return;
    if (loader->read.routing.model == TDM_ROUTING_HOT)
        check_hot(loader);
    if (loader->read.routing.pad_to_capacity)
        check_padding(loader);
    if (loader->read.routing.model == TDM_ROUTING_RECORDED)
        read_record(loader);
}
