/* scenario_load.c: reads a scenario: the document, its assignments, what it names, then the checks.
 */
#include "files.h"
#include "scenario_parts.h"
#include "schedule.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *tdm_routing_model_name(tdm_routing_model model)
{
    static const char *const names[TDM_N_ROUTING_MODELS] = {
        [TDM_ROUTING_UNIFORM] = "uniform", [TDM_ROUTING_BALANCED] = "balanced",
        [TDM_ROUTING_ZIPF] = "zipf",       [TDM_ROUTING_DIRICHLET] = "dirichlet",
        [TDM_ROUTING_HOT] = "hot",         [TDM_ROUTING_RECORDED] = "recorded"};
    assert((unsigned)model < TDM_N_ROUTING_MODELS);
    return names[model];
}

const char *tdm_recompute_name(tdm_recompute recompute)
{
    static const char *const names[] = {[TDM_RECOMPUTE_NONE] = "none",
                                        [TDM_RECOMPUTE_SELECTIVE] = "selective",
                                        [TDM_RECOMPUTE_FULL] = "full"};
    assert((unsigned)recompute < TDM_COUNT(names));
    return names[recompute];
}

tdm_code tdm_scenario_error(const tdm_scenario *scenario, const char *key, tdm_error *err,
                            const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (scenario->document)
        return tdm_node_error_at(scenario->document, key, err, "%s", message);
    const char *path = scenario->path ? scenario->path : "scenario";
    return tdm_error_add(err, TDM_E_INVALID, "%s: %s: %s", path, key, message);
}

/* `model: NAME` becomes `model: {base: NAME}`, so that single keys of the model can be set. */
static void open_model(tdm_arena *arena, tdm_node *document, const char *assignment)
{
    size_t length = strcspn(assignment, ".=");
    bool whole =
        strncmp(assignment, "model", length) == 0 && length == 5 && assignment[length] == '=';
    bool flat = assignment[length] == '=' && !whole &&
                tdm_schema_find(tdm_model_fields, tdm_arena_strndup(arena, assignment, length)) &&
                !tdm_schema_find(tdm_scenario_fields, tdm_arena_strndup(arena, assignment, length));
    bool below =
        strncmp(assignment, "model", length) == 0 && length == 5 && assignment[length] == '.';
    tdm_node *model = tdm_node_child(document, "model");
    if ((!flat && !below) || !model || model->kind != TDM_NODE_SCALAR || tdm_node_is_null(model))
        return;
    tdm_node *map = tdm_node_new_map(arena, model);
    tdm_node_remove(model);
    tdm_node_append(map, "base", model);
    tdm_node_append(document, "model", map);
}

static void apply_sets(tdm_scenario_loader *loader, const char *const *sets, size_t n_sets)
{
    for (size_t i = 0; i < n_sets; i++) {
        open_model(loader->arena, loader->document, sets[i]);
        tdm_schema_set(loader->arena, tdm_scenario_fields, loader->document, sets[i], loader->err);
    }
}

static tdm_code read_document(tdm_scenario_loader *loader, const char *path,
                              const char *const *sets, size_t n_sets)
{
    tdm_code code = tdm_doc_read(loader->arena, path, &loader->document, loader->err);
    if (code != TDM_OK)
        return code;
    if (loader->document->kind != TDM_NODE_MAP)
        return tdm_node_error(loader->document, loader->err,
                              "expected a map of keys (model, parallel, schedule ...)");
    apply_sets(loader, sets, n_sets);
    return TDM_OK;
}

static void set_defaults(tdm_scenario_source *read)
{
    read->parallel = (tdm_parallel){.tp = 1, .cp = 1, .ep = 1, .pp = 1, .vpp = 1};
    read->training = (tdm_training){
        .dtype = TDM_DTYPE_BF16, .grad_dtype = TDM_DTYPE_FP32, .clip_grad = 1, .train = true};
    read->fp32_grads = true;
    read->routing = (tdm_routing){
        .model = TDM_ROUTING_UNIFORM, .seed = 1234, .exponent = 1, .concentration = 1};
    read->perturbation = (tdm_perturbation){.jitter_seed = 1234, .straggler_seed = 1234};
}

/* What is independent of the rest goes into the scenario as it is. */
static void copy_parts(tdm_scenario_loader *loader)
{
    const tdm_scenario_source *read = &loader->read;
    tdm_scenario *scenario = loader->scenario;
    scenario->document = loader->document;
    scenario->parallel = read->parallel;
    scenario->training = read->training;
    scenario->schedule = read->schedule;
    scenario->num_microbatches = read->num_microbatches;
    scenario->activation_limit = read->activation_limit;
    scenario->micro_batch_size = read->micro_batch_size;
    scenario->seq_length = read->seq_length;
    scenario->routing = read->routing;
    scenario->memory_limit_bytes = read->memory_limit_bytes;
    scenario->nodes = read->nodes;
    if (!tdm_scenario_gives(loader, "parallel.expert_tensor_parallel_size"))
        scenario->parallel.etp = scenario->parallel.tp; /* Megatron's default */
}

static void read_parts(tdm_scenario_loader *loader)
{
    tdm_schema_load(loader->arena, tdm_scenario_fields, loader->document, &loader->read,
                    loader->err);
    copy_parts(loader);
    tdm_scenario_read_order(loader);
    if (tdm_scenario_gives(loader, "pass_times")) {
        tdm_scenario_read_times(loader);
    } else {
        tdm_scenario_find_model(loader);
        tdm_scenario_find_machine(loader);
    }
    tdm_scenario_read_targets(loader);
    tdm_scenario_read_layout(loader);
    tdm_scenario_read_routing(loader);
    tdm_scenario_read_perturbation(loader);
    tdm_scenario_read_nccl(loader);
    tdm_nccl_settings *settings = TDM_ALLOC(loader->arena, tdm_nccl_settings, 1);
    *settings = loader->scenario->nccl;
    loader->scenario->topology.nccl = settings;
    tdm_scenario_check(loader);
}

tdm_code tdm_scenario_key(tdm_arena *arena, const char *key, const char *mark,
                          const char **canonical, const char **brief, tdm_error *err)
{
    return tdm_schema_key(arena, tdm_scenario_fields, key, mark, canonical, brief, err);
}

tdm_code tdm_scenario_load(tdm_arena *arena, const char *root, const char *path,
                           const char *const *sets, size_t n_sets, tdm_scenario *scenario,
                           tdm_error *err)
{
    tdm_scenario read = {.name = tdm_file_stem(arena, path), .path = tdm_arena_strdup(arena, path)};
    tdm_scenario_loader loader = {.arena = arena,
                                  .root = root,
                                  .folder = tdm_file_folder(arena, path),
                                  .scenario = &read,
                                  .notes = TDM_ALLOC(arena, tdm_error, 1),
                                  .err = err ? err : TDM_ALLOC(arena, tdm_error, 1)};
    unsigned before = loader.err->n_messages;
    set_defaults(&loader.read);
    tdm_code code = read_document(&loader, path, sets, n_sets);
    if (code != TDM_OK)
        return code;
    read_parts(&loader);
    if (loader.err->n_messages > before)
        return TDM_E_INVALID;
    read.notes = loader.notes->n_messages > 0 ? loader.notes->text : NULL;
    *scenario = read;
    return TDM_OK;
}
