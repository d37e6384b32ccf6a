/* output_scenario.c: a scenario with every value resolved, as YAML that loads again: what the
 * user's file, the files it names, the defaults and --set came to. */
#include "output.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A double-quoted scalar. */
static void put_text(FILE *file, const char *key, const char *text)
{
    fprintf(file, "%s: \"", key);
    for (const char *c = text; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(file, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            fprintf(file, "\\x%02x", (unsigned)(unsigned char)*c);
        else
            fputc(*c, file);
    }
    fputs("\"\n", file);
}

/* The least number of digits, from 6 on, that reads back as the same number. */
static void put_digits(FILE *file, double value, const char *unit)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fprintf(file, "%s%s", text, unit);
}

static void put_number(FILE *file, const char *key, double value, const char *unit)
{
    fprintf(file, "%s: ", key);
    put_digits(file, value, unit);
    fputc('\n', file);
}

static void put_uint(FILE *file, const char *key, uint64_t value)
{
    fprintf(file, "%s: %llu\n", key, (unsigned long long)value);
}

static void put_bool(FILE *file, const char *key, bool value)
{
    fprintf(file, "%s: %s\n", key, value ? "true" : "false");
}

static void put_size_unless_zero(FILE *file, const char *key, uint64_t value)
{
    if (value)
        put_uint(file, key, value);
}

static void put_model(const tdm_model *model, FILE *file)
{
    fputs("model:\n", file);
    put_text(file, "  name", model->name);
    put_uint(file, "  num_layers", model->num_layers);
    put_uint(file, "  hidden_size", model->hidden_size);
    put_uint(file, "  num_attention_heads", model->num_attention_heads);
    put_uint(file, "  num_query_groups", model->num_query_groups);
    put_uint(file, "  kv_channels", model->kv_channels);
    if (model->num_experts) {
        put_uint(file, "  num_experts", model->num_experts);
        put_uint(file, "  moe_router_topk", model->moe_router_topk);
        put_uint(file, "  moe_ffn_hidden_size", model->moe_ffn_hidden_size);
        put_size_unless_zero(file, "  moe_shared_expert_intermediate_size",
                             model->moe_shared_expert_intermediate_size);
        put_size_unless_zero(file, "  first_k_dense_replace", model->first_k_dense_replace);
        put_size_unless_zero(file, "  moe_layer_freq", model->moe_layer_freq);
        put_size_unless_zero(file, "  moe_layer_offset", model->moe_layer_offset);
    }
    if (tdm_model_n_expert_layers(model) < model->num_layers)
        put_uint(file, "  ffn_hidden_size", model->ffn_hidden_size);
    put_uint(file, "  vocab_size", model->vocab_size);
    put_size_unless_zero(file, "  max_position_embeddings", model->max_position_embeddings);
    put_bool(file, "  swiglu", model->swiglu);
    put_bool(file, "  add_bias_linear", model->add_bias_linear);
    put_bool(file, "  add_attention_bias", model->add_attention_bias);
    put_bool(file, "  add_qkv_bias", model->add_qkv_bias);
    put_bool(file, "  qk_layernorm", model->qk_layernorm);
    fprintf(file, "  softmax_type: %s\n", model->attention_sinks ? "learnable" : "vanilla");
    put_size_unless_zero(file, "  window_size", model->window_size);
    put_bool(file, "  untie_embeddings_and_output_weights", model->untie_embeddings);
    fprintf(file, "  normalization: %s\n", model->norm == TDM_NORM_RMS ? "RMSNorm" : "LayerNorm");
    fprintf(file, "  position_embedding_type: %s\n",
            model->position == TDM_POSITION_NONE   ? "none"
            : model->position == TDM_POSITION_ROPE ? "rope"
                                                   : "learned_absolute");
    fprintf(file, "  attention_backend: %s\n",
            model->attention == TDM_ATTENTION_UNFUSED ? "unfused" : "fused");
    put_number(file, "  hidden_dropout", model->hidden_dropout, "");
    put_number(file, "  attention_dropout", model->attention_dropout, "");
}

static void put_times(const char *key, const double *times_s, uint32_t n, FILE *file)
{
    fprintf(file, "  %s: [", key);
    for (uint32_t i = 0; i < n; i++) {
        fputs(i ? ", " : "", file);
        put_digits(file, times_s[i], "s");
    }
    fputs("]\n", file);
}

static void put_pass_times(const tdm_scenario *scenario, FILE *file)
{
    const tdm_pass_times *times = &scenario->pass_times;
    fputs("pass_times:\n", file);
    put_times("forward", times->forward_s, scenario->parallel.pp, file);
    put_times("backward_input", times->backward_input_s, scenario->parallel.pp, file);
    put_times("backward_weight", times->backward_weight_s, scenario->parallel.pp, file);
    put_number(file, "  send", times->send_s, "s");
    put_number(file, "  kept_for_weight", times->kept_share, "");
    fprintf(file, "parallel:\n  pipeline_model_parallel_size: %u\n", scenario->parallel.pp);
    put_uint(file, "  num_virtual_stages_per_pipeline_rank", scenario->parallel.vpp);
}

/* Uneven layers in Megatron's form: Et*3|t*4|t*3L. */
static void put_layout(const tdm_scenario *scenario, FILE *file)
{
    uint32_t n_stages = scenario->parallel.pp * scenario->parallel.vpp;
    if (!scenario->stage_layers)
        return;
    fputs("  pipeline_model_parallel_layout: \"E", file);
    for (uint32_t i = 0; i < n_stages; i++)
        fprintf(file, "%st*%u", i == 0 ? "" : "|", scenario->stage_layers[i]);
    fputs("L\"\n", file);
}

/* The order's file is named from the root folder: the resolved scenario may lie anywhere. */
static void put_schedule(const tdm_scenario *scenario, FILE *file)
{
    fputs("schedule:\n", file);
    put_text(file, "  name", scenario->schedule);
    put_uint(file, "  num_microbatches", scenario->num_microbatches);
    if (scenario->activation_limit)
        put_uint(file, "  activation_limit", scenario->activation_limit);
    if (scenario->csv_path) {
        char *path = realpath(scenario->csv_path, NULL);
        put_text(file, "  csv", path ? path : scenario->csv_path);
        free(path);
    }
}

static void put_parallel(const tdm_parallel *parallel, FILE *file)
{
    fputs("parallel:\n", file);
    put_uint(file, "  tensor_model_parallel_size", parallel->tp);
    put_uint(file, "  context_parallel_size", parallel->cp);
    put_uint(file, "  expert_model_parallel_size", parallel->ep);
    put_uint(file, "  expert_tensor_parallel_size", parallel->etp);
    put_uint(file, "  pipeline_model_parallel_size", parallel->pp);
    put_uint(file, "  num_virtual_stages_per_pipeline_rank", parallel->vpp);
    put_uint(file, "  data_parallel_size", parallel->dp);
    put_bool(file, "  sequence_parallel", parallel->sequence_parallel);
    put_bool(file, "  use_distributed_optimizer", parallel->distributed_optimizer);
}

static void put_training(const tdm_scenario *scenario, FILE *file)
{
    static const char *const recompute[] = {"none", "selective", "full"};
    const tdm_training *training = &scenario->training;
    fprintf(file, "training:\n  dtype: %s\n  grad_dtype: %s\n", tdm_dtype_name(training->dtype),
            tdm_dtype_name(training->grad_dtype));
    fprintf(file, "  recompute_granularity: %s\n", recompute[training->recompute]);
    put_number(file, "  clip_grad", training->clip_grad, "");
}

static const char *target_unit(const tdm_target *target)
{
    for (const tdm_figure_info *info = tdm_figure_infos; info->name; info++)
        if (strcmp(info->name, target->figure) == 0)
            return strcmp(info->unit, "bytes") == 0 ? "B" : info->unit;
    return "";
}

/* The scenario is written to another folder: relative paths would lead elsewhere from there. */
static void put_path(FILE *file, const char *key, const char *path)
{
    char folder[4096], whole[8192];
    if (*path == '/' || !getcwd(folder, sizeof folder)) {
        put_text(file, key, path);
        return;
    }
    snprintf(whole, sizeof whole, "%s/%s", folder, path);
    put_text(file, key, whole);
}

static void put_routing(const tdm_scenario *scenario, FILE *file)
{
    const tdm_routing *routing = &scenario->routing;
    fprintf(file, "routing:\n  model: %s\n", tdm_routing_model_name(routing->model));
    put_uint(file, "  seed", routing->seed);
    if (routing->model == TDM_ROUTING_ZIPF)
        put_number(file, "  exponent", routing->exponent, "");
    if (routing->model == TDM_ROUTING_DIRICHLET)
        put_number(file, "  concentration", routing->concentration, "");
    if (routing->model == TDM_ROUTING_HOT) {
        put_uint(file, "  hot_expert", routing->hot_expert);
        put_number(file, "  hot_share", routing->hot_share, "");
    }
    if (routing->record)
        put_path(file, "  csv", routing->record->path);
    if (routing->capacity_factor > 0)
        put_number(file, "  capacity_factor", routing->capacity_factor, "");
    if (routing->pad_to_capacity)
        fprintf(file, "  pad_to_capacity: true\n");
}

static void put_targets(const tdm_scenario *scenario, FILE *file)
{
    if (scenario->n_targets)
        fputs("targets:\n", file);
    for (uint32_t i = 0; i < scenario->n_targets; i++) {
        const tdm_target *target = &scenario->targets[i];
        fprintf(file, "  %s:\n", target->figure);
        put_number(file, target->is_maximum ? "    max" : "    min", target->threshold,
                   target_unit(target));
        put_text(file, "    label", target->label);
    }
}

static void put_changes(const tdm_perturbation *p, FILE *file)
{
    fputs(p->n_speeds ? "  gpus:\n" : "", file);
    for (uint32_t i = 0; i < p->n_speeds; i++) {
        fprintf(file, "    - gpus: %u-%u\n", p->speeds[i].first, p->speeds[i].last);
        put_number(file, "      speed", p->speeds[i].speed, "");
    }
    fputs(p->n_changes ? "  links:\n" : "", file);
    for (uint32_t i = 0; i < p->n_changes; i++) {
        put_text(file, "    - links", p->changes[i].name);
        put_number(file, "      bandwidth", p->changes[i].bandwidth, "");
        put_number(file, "      extra_latency", p->changes[i].extra_latency_s, "s");
    }
}

static void put_perturbation(const tdm_perturbation *p, FILE *file)
{
    if (!tdm_perturbation_is_given(p))
        return;
    fputs("perturbation:\n", file);
    put_changes(p, file);
    fputs("  jitter:\n", file);
    put_number(file, "    compute", p->compute_jitter, "");
    put_number(file, "    communication", p->communication_jitter, "");
    put_uint(file, "    seed", p->jitter_seed);
    if (p->straggler_slowdown <= 0)
        return;
    fputs("  stragglers:\n", file);
    if (p->n_stragglers)
        put_uint(file, "    count", p->n_stragglers);
    else
        put_number(file, "    probability", p->straggler_probability, "");
    put_number(file, "    slowdown", p->straggler_slowdown, "");
    put_uint(file, "    seed", p->straggler_seed);
}

static void put_nccl(const tdm_scenario *scenario, FILE *file)
{
    fputs(scenario->n_nccl_given ? "nccl:\n" : "", file);
    for (uint32_t i = 0; i < scenario->n_nccl_given; i++) {
        fputs("  ", file);
        put_text(file, scenario->nccl_given[i].name, scenario->nccl_given[i].value);
    }
}

void tdm_output_scenario(const tdm_scenario *scenario, FILE *file)
{
    fprintf(file, "# %s with every value resolved.\n", scenario->name);
    if (scenario->pass_times.given) {
        put_pass_times(scenario, file);
    } else {
        put_model(&scenario->model, file);
        put_text(file, "topology", scenario->topology.name);
        if (scenario->nodes)
            put_uint(file, "nodes", scenario->nodes);
        put_text(file, "device", scenario->device.name);
        put_parallel(&scenario->parallel, file);
        put_layout(scenario, file);
    }
    put_schedule(scenario, file);
    if (!scenario->pass_times.given) {
        fputs("batch:\n", file);
        put_uint(file, "  micro_batch_size", scenario->micro_batch_size);
        put_uint(file, "  seq_length", scenario->seq_length);
        put_training(scenario, file);
        if (scenario->model.num_experts) {
            put_routing(scenario, file);
        }
        if (scenario->memory_limit_bytes)
            fprintf(file, "memory_limit: %lluB\n",
                    (unsigned long long)scenario->memory_limit_bytes);
    }
    put_targets(scenario, file);
    put_perturbation(&scenario->perturbation, file);
    put_nccl(scenario, file);
}
