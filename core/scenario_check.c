/* scenario_check.c: whether the parts of a scenario go together. Every check points at the key to
 * change. */
#include "scenario_parts.h"
#include "schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SCHEDULES = 64 };

#define TP     "parallel.tensor_model_parallel_size"
#define CP     "parallel.context_parallel_size"
#define EP     "parallel.expert_model_parallel_size"
#define ETP    "parallel.expert_tensor_parallel_size"
#define PP     "parallel.pipeline_model_parallel_size"
#define VPP    "parallel.num_virtual_stages_per_pipeline_rank"
#define DP     "parallel.data_parallel_size"
#define GLOBAL "batch.global_batch_size"

static bool gives(const tdm_scenario_loader *loader, const char *key)
{
    return tdm_scenario_gives(loader, key);
}

/* True when the section was read without mistakes or is absent: then checks of it make sense. */
static bool is_sound(const tdm_scenario_loader *loader, const char *section)
{
    const tdm_node *node = tdm_node_child(loader->document, section);
    return !node || !node->faulty;
}

/* " (try 6 or 8)": the divisors of n around `size`, within a buffer. */
static const char *suggest_divisors(char buffer[64], uint32_t n, uint32_t size)
{
    uint32_t low = size < n ? size : n, high = size;
    while (n % low != 0)
        low--;
    while (high < n && n % high != 0 && high - size < size)
        high++;
    bool has_high = high <= n && n % high == 0 && high != low;
    if (has_high)
        snprintf(buffer, 64, " (try %u or %u)", low, high);
    else
        snprintf(buffer, 64, " (try %u)", low);
    return buffer;
}

/* A size that must divide a count of the model. */
static void check_divides(tdm_scenario_loader *loader, const char *key, uint32_t size,
                          uint32_t count, const char *what)
{
    char divisors[64];
    if (count % size != 0)
        tdm_node_error_at(loader->document, key, loader->err,
                          "%u does not divide the %u %s of model %s%s", size, count, what,
                          loader->scenario->model.name, suggest_divisors(divisors, count, size));
}

static void check_tensor_parallel(tdm_scenario_loader *loader)
{
    const tdm_model *model = &loader->scenario->model;
    uint32_t tp = loader->scenario->parallel.tp;
    check_divides(loader, TP, tp, model->num_attention_heads, "heads");
    if (model->num_query_groups != model->num_attention_heads)
        check_divides(loader, TP, tp, model->num_query_groups, "query groups");
    if (tdm_model_n_expert_layers(model) < model->num_layers)
        check_divides(loader, TP, tp, model->ffn_hidden_size, "MLP columns (ffn_hidden_size)");
    if (model->moe_shared_expert_intermediate_size > 0)
        check_divides(loader, TP, tp, model->moe_shared_expert_intermediate_size,
                      "columns of the shared experts (moe_shared_expert_intermediate_size)");
    if (model->vocab_size % tp != 0)
        tdm_node_error_at(
            loader->document, TP, loader->err,
            "%u does not divide the %u words of model %s (pad model.vocab_size to %llu)", tp,
            model->vocab_size, model->name,
            (unsigned long long)tdm_ceil_div(model->vocab_size, tp) * tp);
}

/* Where the user did not write it. */
static const char *etp_origin(const tdm_scenario_loader *loader)
{
    return gives(loader, ETP) ? "" : " (the default, as in Megatron: tensor_model_parallel_size)";
}

static void check_experts(tdm_scenario_loader *loader)
{
    const tdm_model *model = &loader->scenario->model;
    const tdm_parallel *parallel = &loader->scenario->parallel;
    if (model->num_experts == 0) {
        if (parallel->ep > 1)
            tdm_node_error_at(loader->document, EP, loader->err,
                              "%u needs a model with experts, and %s has none", parallel->ep,
                              model->name);
        return;
    }
    check_divides(loader, EP, parallel->ep, model->num_experts, "experts");
    if (model->moe_ffn_hidden_size % parallel->etp == 0)
        return;
    char divisors[64];
    tdm_node_error_at(loader->document, ETP, loader->err,
                      "%u%s does not divide the %u columns of an expert (moe_ffn_hidden_size) of "
                      "model %s%s",
                      parallel->etp, etp_origin(loader), model->moe_ffn_hidden_size, model->name,
                      suggest_divisors(divisors, model->moe_ffn_hidden_size, parallel->etp));
}

/* Ranks of one replica of the model. */
static uint64_t replica_ranks(const tdm_parallel *parallel)
{
    return (uint64_t)parallel->tp * parallel->cp * parallel->pp;
}

/* Derives the data-parallel size; false after a message. */
static bool check_world(tdm_scenario_loader *loader)
{
    tdm_parallel *parallel = &loader->scenario->parallel;
    const tdm_topology *topology = &loader->scenario->topology;
    uint64_t replica = replica_ranks(parallel); /* sizes are at most 2^20 each */
    if (replica > topology->n_gpus || topology->n_gpus % replica != 0) {
        tdm_node_error_at(
            loader->document, "parallel", loader->err,
            "tensor %u x context %u x pipeline %u = %llu ranks of a replica do not divide the %u GPUs of "
            "topology %s",
            parallel->tp, parallel->cp, parallel->pp, (unsigned long long)replica, topology->n_gpus,
            topology->name);
        return false;
    }
    uint32_t most = topology->n_gpus / (uint32_t)replica;
    if (!gives(loader, DP)) {
        parallel->dp = most;
        return true;
    }
    char divisors[64];
    if (most % parallel->dp == 0)
        return true;
    tdm_node_error_at(loader->document, DP, loader->err,
                      "%u x %llu ranks of a replica do not divide the %u GPUs of topology %s%s",
                      parallel->dp, (unsigned long long)replica, topology->n_gpus, topology->name,
                      suggest_divisors(divisors, most, parallel->dp));
    return false;
}

static void check_folding(tdm_scenario_loader *loader)
{
    const tdm_parallel *p = &loader->scenario->parallel;
    uint64_t stage = (uint64_t)p->tp * p->cp * p->dp;
    uint64_t experts = (uint64_t)p->ep * p->etp;
    if (loader->scenario->model.num_experts == 0 || stage % experts == 0)
        return;
    if (p->etp == 1 || stage % p->ep != 0) {
        tdm_node_error_at(
            loader->document, EP, loader->err,
            "%u does not divide the %llu ranks of a stage (tensor %u x context %u x data %u)",
            p->ep, (unsigned long long)stage, p->tp, p->cp, p->dp);
        return;
    }
    char divisors[64];
    tdm_node_error_at(
        loader->document, ETP, loader->err,
        "%u%s x expert_model_parallel_size %u = %llu do not divide the %llu ranks of a stage (tensor "
        "%u x context %u x data %u)%s",
        p->etp, etp_origin(loader), p->ep, (unsigned long long)experts, (unsigned long long)stage,
        p->tp, p->cp, p->dp, suggest_divisors(divisors, (uint32_t)(stage / p->ep), p->etp));
}

static void check_layers(tdm_scenario_loader *loader)
{
    const tdm_parallel *parallel = &loader->scenario->parallel;
    uint32_t layers = loader->scenario->model.num_layers;
    check_divides(loader, PP, parallel->pp, layers, "layers");
    uint32_t per_stage = layers / parallel->pp;
    char divisors[64];
    if (layers % parallel->pp == 0 && per_stage % parallel->vpp != 0)
        tdm_node_error_at(loader->document, VPP, loader->err,
                          "%u does not divide the %u layers of a stage%s", parallel->vpp, per_stage,
                          suggest_divisors(divisors, per_stage, parallel->vpp));
}

/* Megatron's other way to say how many chunks a stage has. */
static void count_chunks(tdm_scenario_loader *loader)
{
    static const char key[] = "parallel.num_layers_per_virtual_pipeline_stage";
    tdm_parallel *parallel = &loader->scenario->parallel;
    uint32_t size = loader->read.layers_per_chunk, layers = loader->scenario->model.num_layers;
    if (size == 0)
        return;
    if (gives(loader, VPP) || loader->read.layout || !loader->has_model)
        tdm_node_error_at(loader->document, key, loader->err,
                          "goes with a model of equal stages, and with no other key that divides "
                          "them; leave it out");
    else if (layers % ((uint64_t)size * parallel->pp) != 0)
        tdm_node_error_at(loader->document, key, loader->err,
                          "%u on %u pipeline stages do not divide the %u layers of model %s", size,
                          parallel->pp, layers, loader->scenario->model.name);
    else
        parallel->vpp = layers / (size * parallel->pp);
}

static void check_zero_stage(tdm_scenario_loader *loader)
{
    static const char key[] = "parallel.zero_stage", flag[] = "parallel.use_distributed_optimizer";
    uint32_t stage = loader->read.zero_stage;
    if (!gives(loader, key))
        return;
    if (gives(loader, flag))
        tdm_node_error_at(
            loader->document, key, loader->err,
            "says what use_distributed_optimizer says already; one of them is enough");
    else if (stage > 1)
        tdm_node_error_at(loader->document, key, loader->err,
                          "%u: splitting gradients or weights over the replicas is not "
                          "implemented; write 0 or 1",
                          stage);
    loader->scenario->parallel.distributed_optimizer |= stage == 1;
}

static void check_parallel(tdm_scenario_loader *loader)
{
    const tdm_parallel *parallel = &loader->scenario->parallel;
    count_chunks(loader);
    check_zero_stage(loader);
    if (parallel->cp > 1)
        tdm_node_error_at(loader->document, CP, loader->err,
                          "%u: context parallelism is not implemented; write 1", parallel->cp);
    if (parallel->sequence_parallel && parallel->tp == 1)
        tdm_node_error_at(
            loader->document, "parallel.sequence_parallel", loader->err,
            "needs tensor_model_parallel_size above 1: it splits the sequence over those GPUs");
    if (!loader->has_model)
        return;
    check_tensor_parallel(loader);
    check_experts(loader);
    if (!loader->read.layout)
        check_layers(loader);
}

static const tdm_schedule *check_schedule(tdm_scenario_loader *loader)
{
    const char *name = loader->scenario->schedule;
    const tdm_schedule *schedule = tdm_schedule_find(name);
    if (schedule)
        return schedule;
    const char *names[MAX_SCHEDULES];
    size_t n = 0;
    for (const tdm_schedule *const *each = tdm_schedules; *each && n < MAX_SCHEDULES; each++)
        names[n++] = (*each)->name;
    char quoted[TDM_QUOTE_SIZE];
    tdm_node_quote(quoted, name);
    const char *near = tdm_suggest(name, names, n);
    if (near)
        tdm_node_error_at(loader->document, "schedule.name", loader->err,
                          "%s: no such schedule (did you mean %s?)", quoted, near);
    else
        tdm_node_error_at(loader->document, "schedule.name", loader->err,
                          "%s: no such schedule (tandem list schedules shows them)", quoted);
    return NULL;
}

/* Microbatches that the global batch makes, or 0 after a message. */
static uint32_t count_microbatches(tdm_scenario_loader *loader)
{
    const tdm_scenario *s = loader->scenario;
    uint64_t together = (uint64_t)(s->micro_batch_size ? s->micro_batch_size : 1) * s->parallel.dp;
    uint32_t global = loader->read.global_batch_size;
    if (global % together == 0)
        return (uint32_t)(global / together);
    tdm_node_error_at(loader->document, GLOBAL, loader->err,
                      "%u is no multiple of micro_batch_size %u x data-parallel size %u", global,
                      s->micro_batch_size ? s->micro_batch_size : 1, s->parallel.dp);
    return 0;
}

static void check_microbatches(tdm_scenario_loader *loader)
{
    tdm_scenario *scenario = loader->scenario;
    uint32_t given = scenario->num_microbatches;
    if (!gives(loader, GLOBAL)) {
        if (!given)
            tdm_node_error_at(loader->document, "schedule.num_microbatches", loader->err,
                              "missing (or batch.global_batch_size instead)");
        return;
    }
    uint32_t counted = count_microbatches(loader);
    if (given && counted && given != counted)
        tdm_node_error_at(
            loader->document, GLOBAL, loader->err,
            "%u makes %u microbatches, but schedule.num_microbatches says %u; one of them is enough",
            loader->read.global_batch_size, counted, given);
    scenario->num_microbatches = counted;
}

/* What the schedule itself asks of stages, chunks and microbatches. */
static void check_shape(tdm_scenario_loader *loader)
{
    const tdm_scenario *s = loader->scenario;
    const tdm_schedule *schedule = tdm_schedule_find(s->schedule);
    tdm_schedule_shape shape = {.n_stages = s->parallel.pp,
                                .n_chunks = s->parallel.vpp,
                                .n_microbatches = s->num_microbatches,
                                .activation_limit = s->activation_limit,
                                .table = s->pass_table};
    if (!schedule || s->num_microbatches == 0)
        return;
    const char *refusal = tdm_schedule_refuse(schedule, &shape);
    if (refusal)
        tdm_node_error_at(loader->document, "schedule.name", loader->err, "%s %s", schedule->name,
                          refusal);
}

/* Larger products are slips, and would not fit the arithmetic that follows. */
static void check_work(tdm_scenario_loader *loader)
{
    const double most_tokens = 1e9, most_elements = 1e17;
    const tdm_scenario *s = loader->scenario;
    const tdm_model *m = &s->model;
    double tokens = (double)s->micro_batch_size * s->seq_length;
    double padding = s->routing.pad_to_capacity ? fmax(1, s->routing.capacity_factor) : 1;
    if (tokens * (m->num_experts ? m->moe_router_topk : 1) * padding > most_tokens) {
        tdm_node_error_at(
            loader->document, "batch.seq_length", loader->err,
            "micro_batch_size x seq_length makes %.3g tokens per microbatch; at most %.0e are accepted",
            tokens, most_tokens);
        return;
    }
    double f = (double)m->moe_ffn_hidden_size * m->moe_router_topk +
               m->moe_shared_expert_intermediate_size + m->ffn_hidden_size;
    double scores =
        m->attention == TDM_ATTENTION_UNFUSED ? (double)m->num_attention_heads * s->seq_length : 0;
    double heads = (double)(m->num_attention_heads + 2.0 * m->num_query_groups) * m->kv_channels;
    double layer = 10.0 * m->hidden_size + 3 * f + 2 * scores + heads;
    double elements = tokens * (layer * m->num_layers + m->vocab_size) * s->num_microbatches;
    if (elements > most_elements)
        tdm_node_error_at(loader->document, "batch", loader->err,
                          "about %.0e activations in one step; at most %.0e are accepted", elements,
                          most_elements);
}

/* Attention is planned over the whole sequence. */
static void note_windows(tdm_scenario_loader *loader)
{
    uint32_t window = loader->scenario->model.window_size, s = loader->scenario->seq_length;
    if (window > 0 && window < s)
        tdm_node_error_at(loader->document, "model.window_size", loader->notes,
                          "windows of %u tokens are not modelled: attention counts all %u tokens "
                          "of a sequence in every layer",
                          window, s);
}

static void check_batch(tdm_scenario_loader *loader)
{
    const tdm_scenario *s = loader->scenario;
    if (!s->micro_batch_size)
        tdm_node_error_at(loader->document, "batch.micro_batch_size", loader->err,
                          "missing: sequences per microbatch");
    if (!s->seq_length)
        tdm_node_error_at(loader->document, "batch.seq_length", loader->err,
                          "missing: tokens per sequence");
    if (!loader->has_model || !s->micro_batch_size || !s->seq_length)
        return;
    if (s->model.position == TDM_POSITION_LEARNED &&
        s->seq_length > s->model.max_position_embeddings)
        tdm_node_error_at(loader->document, "batch.seq_length", loader->err,
                          "%u is more than the %u positions of model %s (max_position_embeddings)",
                          s->seq_length, s->model.max_position_embeddings, s->model.name);
    note_windows(loader);
    check_work(loader);
    bool splits_sequence = s->parallel.sequence_parallel && s->seq_length % s->parallel.tp != 0;
    if (is_sound(loader, "parallel") && splits_sequence) {
        tdm_node_error_at(loader->document, "batch.seq_length", loader->err,
                          "%u is no multiple of tensor_model_parallel_size %u, which sequence "
                          "parallelism splits each sequence by",
                          s->seq_length, s->parallel.tp);
        return;
    }
    bool splits_tokens = s->model.num_experts > 0;
    uint64_t tokens = (uint64_t)s->micro_batch_size * s->seq_length;
    if (is_sound(loader, "parallel") && splits_tokens && tokens % s->parallel.tp != 0)
        tdm_node_error_at(
            loader->document, "batch.seq_length", loader->err,
            "%u x micro_batch_size %u = %llu tokens cannot be split over tensor_model_parallel_size %u "
            "ranks",
            s->seq_length, s->micro_batch_size, (unsigned long long)tokens, s->parallel.tp);
}

static void check_dtype(tdm_scenario_loader *loader)
{
    const tdm_device *device = &loader->scenario->device;
    tdm_dtype dtype = loader->scenario->training.dtype;
    if (device->peak_flops_per_s[dtype].value > 0)
        return;
    char list[64] = "none";
    size_t length = 0;
    for (unsigned i = 0; i < TDM_N_DTYPES; i++)
        if (device->peak_flops_per_s[i].value > 0)
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s",
                                       length ? ", " : "", tdm_dtype_name((tdm_dtype)i));
    tdm_node_error_at(loader->document, "training.dtype", loader->err,
                      "%s%s is not supported by device %s; it has %s", tdm_dtype_name(dtype),
                      gives(loader, "training.dtype") ? "" : ", the default,", device->name, list);
}

static void check_grad_dtype(tdm_scenario_loader *loader)
{
    static const char key[] = "training.grad_dtype",
                      flag[] = "training.accumulate_allreduce_grads_in_fp32";
    tdm_training *training = &loader->scenario->training;
    if (gives(loader, key) && gives(loader, flag)) {
        tdm_node_error_at(loader->document, flag, loader->err,
                          "says what grad_dtype says already; one of them is enough");
        return;
    }
    if (gives(loader, flag) && !loader->read.fp32_grads)
        training->grad_dtype = training->dtype;
    if (training->grad_dtype != TDM_DTYPE_FP32 && training->grad_dtype != training->dtype)
        tdm_node_error_at(loader->document, key, loader->err, "%s: expected fp32 or the dtype, %s",
                          tdm_dtype_name(training->grad_dtype), tdm_dtype_name(training->dtype));
}

static void check_memory_limit(tdm_scenario_loader *loader)
{
    const tdm_scenario *s = loader->scenario;
    double memory = s->device.memory_bytes.value;
    char limit[TDM_QUOTE_SIZE], most[32];
    if ((double)s->memory_limit_bytes > memory)
        tdm_node_error_at(
            loader->document, "memory_limit", loader->err,
            "%s is more than device %s has, %s (leave memory_limit out to use all of it)",
            tdm_node_quote(limit, tdm_node_child(loader->document, "memory_limit")->text),
            s->device.name, tdm_quantity_write(most, sizeof most, memory, TDM_UNIT_BYTES, 4));
}

/* A key of no meaning may be a misspelt section: checks without it would only confuse. */
static bool all_keys_known(const tdm_scenario_loader *loader)
{
    for (const tdm_node *child = loader->document->first; child; child = child->next)
        if (!tdm_schema_find(tdm_scenario_fields, child->key))
            return false;
    return true;
}

void tdm_scenario_check(tdm_scenario_loader *loader)
{
    tdm_scenario *scenario = loader->scenario;
    bool timed = gives(loader, "pass_times");
    bool parallel = is_sound(loader, "parallel"), batch = is_sound(loader, "batch");
    if (!all_keys_known(loader))
        return;
    if (parallel)
        check_parallel(loader);
    bool has_world = timed || (parallel && loader->has_topology && check_world(loader));
    if (has_world && loader->has_model)
        check_folding(loader);
    if (scenario->schedule) {
        const tdm_schedule *schedule = check_schedule(loader);
        scenario->training.train = schedule && !schedule->forward_only;
    }
    if (has_world && batch && scenario->schedule && is_sound(loader, "schedule")) {
        check_microbatches(loader);
        check_shape(loader);
    }
    if (!timed && batch)
        check_batch(loader);
    if (!timed && is_sound(loader, "training"))
        check_grad_dtype(loader);
    if (loader->has_device && is_sound(loader, "training"))
        check_dtype(loader);
    if (loader->has_device && is_sound(loader, "memory_limit"))
        check_memory_limit(loader);
}
