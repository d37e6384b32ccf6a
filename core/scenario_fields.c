/* scenario_fields.c: the keys of a scenario. Canonical keys are Megatron's flags with underscores;
 * aliases are those of torchtitan, SimuMax, vTrain and vLLM. A key left out has Megatron's default.
 * Source: Megatron-LM, megatron/training/arguments.py. */
#include "fabric.h"
#include "scenario_parts.h"

/* Products of up to four sizes stay within 64 bits; the mesh has its own, lower limit. */
enum { MAX_SIZE = 1048576 };
/* A plan keeps every pass of every microbatch. */
enum { MAX_MICROBATCHES = 65536 };

#define AT(member) .offset = offsetof(tdm_scenario_source, member)
#define SIZE(key_, aliases_, member, doc_)                                                         \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_UINT32, AT(member), .min = 1,          \
        .max = MAX_SIZE, .doc = doc_                                                               \
    }
#define FLAG(key_, aliases_, member, doc_)                                                         \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_BOOL, AT(member), .doc = doc_          \
    }
#define NODE(key_, member, fields_, doc_)                                                          \
    {                                                                                              \
        .key = key_, .type = TDM_FIELD_NODE, AT(member), .fields = fields_, .doc = doc_            \
    }
#define SECTION(key_, aliases_, fields_, doc_)                                                     \
    {                                                                                              \
        .key = key_, .aliases = aliases_, .type = TDM_FIELD_MAP, .fields = fields_, .doc = doc_    \
    }

static const tdm_choice dtype_choices[] = {
    {"bf16", TDM_DTYPE_BF16, false},
    {"fp16", TDM_DTYPE_FP16, false},
    {"fp32", TDM_DTYPE_FP32, false},
    {"bfloat16", TDM_DTYPE_BF16, true},
    {"float16", TDM_DTYPE_FP16, true},
    {"float32", TDM_DTYPE_FP32, true},
    {NULL, 0, false},
};

static const tdm_choice recompute_choices[] = {
    {"none", TDM_RECOMPUTE_NONE, false},
    {"selective", TDM_RECOMPUTE_SELECTIVE, false},
    {"full", TDM_RECOMPUTE_FULL, false},
    {NULL, 0, false},
};

static const tdm_choice routing_choices[] = {
    {"uniform", TDM_ROUTING_UNIFORM, false},
    {"balanced", TDM_ROUTING_BALANCED, false},
    {"zipf", TDM_ROUTING_ZIPF, false},
    {"dirichlet", TDM_ROUTING_DIRICHLET, false},
    {"hot", TDM_ROUTING_HOT, false},
    {"recorded", TDM_ROUTING_RECORDED, false},
    {NULL, 0, false},
};

static const tdm_field parallel_fields[] = {
    SIZE("tensor_model_parallel_size", "tensor_parallel_size tensor_parallel_degree tp_size tp",
         parallel.tp, "GPUs that share each matrix"),
    SIZE("context_parallel_size", "context_parallel_degree cp_size cp", parallel.cp,
         "GPUs that share each sequence"),
    SIZE("expert_model_parallel_size",
         "expert_parallel_size expert_parallel_degree ep_size moe_ep ep", parallel.ep,
         "GPUs that share the experts"),
    SIZE("expert_tensor_parallel_size", "etp_size moe_tp etp", parallel.etp,
         "GPUs that share each expert (default: tensor_model_parallel_size)"),
    SIZE("pipeline_model_parallel_size",
         "pipeline_parallel_size pipeline_parallel_degree pp_size pp", parallel.pp,
         "pipeline stages"),
    SIZE("num_virtual_stages_per_pipeline_rank",
         "virtual_pipeline_model_parallel_size interleaving_size vpp_size vpp", parallel.vpp,
         "chunks of layers per pipeline stage (default: 1)"),
    SIZE("num_layers_per_virtual_pipeline_stage", NULL, layers_per_chunk,
         "layers of a chunk, instead of the number of chunks"),
    {.key = "pipeline_model_parallel_layout",
     .type = TDM_FIELD_TEXT,
     AT(layout),
     .doc = "layers of each stage, as Et*3|t*4|t*3L (default: all stages alike)"},
    SIZE("data_parallel_size", "data_parallel_shard_degree dp_size dp", parallel.dp,
         "replicas of the model (default: what the topology's GPUs allow)"),
    FLAG("sequence_parallel", "enable_sequence_parallel sp", parallel.sequence_parallel,
         "norms and dropouts on 1/t of the sequence"),
    FLAG("use_distributed_optimizer", "distributed_optimizer", parallel.distributed_optimizer,
         "ZeRO-1: optimizer state split over the replicas"),
    {.key = "zero_stage",
     .aliases = "zero_state",
     .type = TDM_FIELD_UINT32,
     AT(zero_stage),
     .max = 3,
     .doc = "1: use_distributed_optimizer, by another name"},
    {.key = NULL},
};

static const tdm_field schedule_fields[] = {
    {.key = "name",
     .type = TDM_FIELD_TEXT,
     AT(schedule),
     .required = true,
     .doc = "pipeline schedule, as 1f1b"},
    {.key = "num_microbatches",
     .aliases = "micro_batch_num gradient_accumulation_steps",
     .type = TDM_FIELD_UINT32,
     AT(num_microbatches),
     .min = 1,
     .max = MAX_MICROBATCHES,
     .doc = "microbatches per replica and step"},
    SIZE("activation_limit", NULL, activation_limit,
         "schedule auto: microbatches of activations a stage may hold (default: twice the stages)"),
    {.key = "csv",
     .type = TDM_FIELD_TEXT,
     AT(csv),
     .doc = "schedule csv: file with the order of passes, in PyTorch's form"},
    {.key = NULL},
};

static const tdm_field batch_fields[] = {
    SIZE("micro_batch_size", "micro_batch", micro_batch_size, "sequences per microbatch"),
    SIZE("global_batch_size", NULL, global_batch_size, "sequences per step over all replicas"),
    SIZE("seq_length", "seq_len sequence_length", seq_length, "tokens per sequence"),
    {.key = NULL},
};

static const tdm_field training_fields[] = {
    {.key = "dtype",
     .aliases = "params_dtype torch_dtype",
     .type = TDM_FIELD_CHOICE,
     AT(training.dtype),
     .choices = dtype_choices,
     .doc = "of weights and activations"},
    {.key = "grad_dtype",
     .type = TDM_FIELD_CHOICE,
     AT(training.grad_dtype),
     .choices = dtype_choices,
     .doc = "of accumulated gradients and their reduction (default fp32)"},
    FLAG("accumulate_allreduce_grads_in_fp32", NULL, fp32_grads,
         "true: grad_dtype fp32; false: as dtype"),
    {.key = "recompute_granularity",
     .aliases = "recompute",
     .type = TDM_FIELD_CHOICE,
     AT(training.recompute),
     .choices = recompute_choices,
     .doc = "activations computed again in the backward pass"},
    {.key = "clip_grad",
     .type = TDM_FIELD_NUMBER,
     AT(training.clip_grad),
     .doc = "largest global gradient norm, 0 for no clipping (default 1)"},
    {.key = NULL},
};

static const tdm_field routing_fields[] = {
    {.key = "model",
     .type = TDM_FIELD_CHOICE,
     AT(routing.model),
     .choices = routing_choices,
     .doc = "how tokens choose experts"},
    {.key = "seed", .type = TDM_FIELD_UINT64, AT(routing.seed), .doc = "of the random choice"},
    {.key = "exponent",
     .type = TDM_FIELD_NUMBER,
     AT(routing.exponent),
     .max = 16,
     .doc = "zipf: the i-th most popular expert has weight i^-exponent (default 1)"},
    {.key = "concentration",
     .type = TDM_FIELD_NUMBER,
     AT(routing.concentration),
     .min = 0.001,
     .max = 1e9,
     .doc = "dirichlet: large is even, small is skewed (default 1)"},
    {.key = "hot_expert",
     .type = TDM_FIELD_UINT32,
     AT(routing.hot_expert),
     .max = MAX_SIZE,
     .doc = "hot: the popular expert (default 0)"},
    {.key = "hot_share",
     .type = TDM_FIELD_NUMBER,
     .unit = TDM_UNIT_SHARE,
     AT(routing.hot_share),
     .max = 1,
     .doc = "hot: its probability in a token's first choice"},
    {.key = "csv",
     .type = TDM_FIELD_TEXT,
     AT(recorded),
     .doc = "recorded: file of lines layer,expert,weight"},
    {.key = "capacity_factor",
     .aliases = "moe_expert_capacity_factor",
     .type = TDM_FIELD_NUMBER,
     AT(routing.capacity_factor),
     .max = 1e6,
     .doc = "an expert takes at most this times its even share, the rest is dropped (default: "
            "nothing is dropped)"},
    FLAG("pad_to_capacity", "moe_pad_expert_input_to_capacity", routing.pad_to_capacity,
         "every rank sends each expert rows up to its capacity; needs capacity_factor"),
    {.key = NULL},
};

const tdm_field tdm_scenario_fields[] = {
    {.key = "description", .type = TDM_FIELD_TEXT, AT(description), .doc = "one line for people"},
    NODE("model", model, tdm_model_fields, "the name of a model or a map of its keys"),
    NODE("pass_times", pass_times, NULL, "times of the passes instead of a model"),
    {.key = "topology",
     .type = TDM_FIELD_TEXT,
     AT(topology),
     .doc = "the GPUs and what joins them"},
    {.key = "nodes",
     .type = TDM_FIELD_UINT32,
     AT(nodes),
     .min = 1,
     .max = TDM_MAX_GPUS,
     .doc = "nodes of the topology (default: the topology's)"},
    {.key = "device",
     .type = TDM_FIELD_TEXT,
     AT(device),
     .doc = "the GPU (default: the topology's)"},
    SECTION("parallel", "parallelism", parallel_fields, "how the model is split"),
    {.key = "schedule",
     .type = TDM_FIELD_MAP,
     .required = true,
     .fields = schedule_fields,
     .doc = "the order of passes, as {name: 1f1b, num_microbatches: 8}"},
    SECTION("batch", NULL, batch_fields, "what is processed in one step"),
    SECTION("training", NULL, training_fields, "dtypes, recomputation, clipping"),
    SECTION("routing", NULL, routing_fields, "which experts the tokens choose"),
    {.key = "memory_limit",
     .type = TDM_FIELD_BYTES,
     AT(memory_limit_bytes),
     .min = 1,
     .doc = "memory that one rank may use (default: the device's)"},
    NODE("targets", targets, NULL, "thresholds on figures"),
    SECTION("perturbation", NULL, tdm_perturbation_fields,
            "slower GPUs and links, noise, stragglers"),
    NODE("nccl", nccl, NULL, "variables of NCCL, as {NCCL_ALGO: ring}"),
    {.key = NULL},
};
