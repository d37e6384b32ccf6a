/* plan_format.c: the tables of plan_format.h. */
#include "plan_format.h"

#include <assert.h>

_Static_assert(sizeof(tdm_dtype) == sizeof(unsigned), "enums are stored as unsigned");
_Static_assert(sizeof(bool) == 1, "bools are stored as bytes");

/* ---- names of enum values ---- */

static const char *dtype_name(unsigned v)
{
    return tdm_dtype_name((tdm_dtype)v);
}
static const char *norm_name(unsigned v)
{
    return v == TDM_NORM_LAYER ? "layer" : "rms";
}
static const char *position_name(unsigned v)
{
    return v == TDM_POSITION_NONE ? "none" : v == TDM_POSITION_LEARNED ? "learned" : "rope";
}
static const char *attention_name(unsigned v)
{
    return v == TDM_ATTENTION_FUSED ? "fused" : "unfused";
}
static const char *recompute_name(unsigned v)
{
    return v == TDM_RECOMPUTE_NONE ? "none" : v == TDM_RECOMPUTE_SELECTIVE ? "selective" : "full";
}
static const char *routing_name(unsigned v)
{
    return tdm_routing_model_name((tdm_routing_model)v);
}
static const char *stream_name(unsigned v)
{
    return tdm_stream_name((tdm_stream)v);
}
static const char *pass_name(unsigned v)
{
    return tdm_pass_kind_name((tdm_pass_kind)v);
}
static const char *op_kind_name(unsigned v)
{
    return tdm_op_kind_name((tdm_op_kind)v);
}
static const char *class_name(unsigned v)
{
    return tdm_class_name((tdm_class)v);
}
static const char *group_name(unsigned v)
{
    return tdm_group_kind_name((tdm_group_kind)v);
}
static const char *a2a_name(unsigned v)
{
    return v == TDM_A2A_DISPATCH ? "dispatch" : "combine";
}
static const char *peer_name(unsigned v)
{
    return v == TDM_PEER_NEXT ? "next" : "previous";
}
static const char *p2p_name(unsigned v)
{
    return v == TDM_P2P_DIRECTED ? "directed" : "shared";
}

static const char *placement_name(unsigned v)
{
    return v == TDM_PLACEMENT_V ? "v" : "loop";
}

static const tdm_text_names dtypes = {dtype_name, TDM_N_DTYPES};
static const tdm_text_names norms = {norm_name, TDM_NORM_RMS + 1};
static const tdm_text_names positions = {position_name, TDM_POSITION_ROPE + 1};
static const tdm_text_names attentions = {attention_name, TDM_ATTENTION_UNFUSED + 1};
static const tdm_text_names recomputes = {recompute_name, TDM_RECOMPUTE_FULL + 1};
static const tdm_text_names routing_models = {routing_name, TDM_N_ROUTING_MODELS};
static const tdm_text_names classes = {class_name, TDM_N_CLASSES};
static const tdm_text_names groups = {group_name, TDM_N_GROUP_KINDS};
static const tdm_text_names directions = {a2a_name, TDM_A2A_COMBINE + 1};
static const tdm_text_names placements = {placement_name, TDM_N_PLACEMENTS};
static const tdm_text_names peers = {peer_name, TDM_PEER_PREVIOUS + 1};
static const tdm_text_names communicators = {p2p_name, TDM_P2P_SHARED + 1};
const tdm_text_names tdm_text_streams = {stream_name, TDM_N_STREAMS};
const tdm_text_names tdm_text_passes = {pass_name, TDM_N_PASS_KINDS};
const tdm_text_names tdm_text_op_kinds = {op_kind_name, TDM_N_OP_KINDS};

/* ---- header ---- */

#define AT(member) offsetof(tdm_plan, member)

static const tdm_text_field plan_fields[] = {
    {.key = "name", .type = TDM_TEXT_STRING, .offset = AT(name)},
    {.key = "schedule", .type = TDM_TEXT_STRING, .offset = AT(schedule)},
    {.key = "train", .type = TDM_TEXT_BOOL, .offset = AT(train)},
    {.key = "pass_times", .type = TDM_TEXT_BOOL, .offset = AT(pass_times)},
    {.key = "send_s", .type = TDM_TEXT_REAL, .offset = AT(send_s)},
    {.key = "micro_batch_size", .type = TDM_TEXT_U32, .offset = AT(micro_batch_size)},
    {.key = "seq_length", .type = TDM_TEXT_U32, .offset = AT(seq_length)},
    {.key = "num_microbatches", .type = TDM_TEXT_U32, .offset = AT(num_microbatches)},
    {.key = "placement",
     .type = TDM_TEXT_ENUM,
     .offset = AT(placement),
     .names = &placements,
     .optional = true},
    {.key = NULL},
};
static const tdm_text_field model_fields[] = {
    {.key = "name", .type = TDM_TEXT_STRING, .offset = AT(model.name)},
    {.key = "num_layers", .type = TDM_TEXT_U32, .offset = AT(model.num_layers)},
    {.key = "hidden_size", .type = TDM_TEXT_U32, .offset = AT(model.hidden_size)},
    {.key = "num_attention_heads", .type = TDM_TEXT_U32, .offset = AT(model.num_attention_heads)},
    {.key = "num_query_groups", .type = TDM_TEXT_U32, .offset = AT(model.num_query_groups)},
    {.key = "kv_channels", .type = TDM_TEXT_U32, .offset = AT(model.kv_channels)},
    {.key = "ffn_hidden_size", .type = TDM_TEXT_U32, .offset = AT(model.ffn_hidden_size)},
    {.key = "num_experts", .type = TDM_TEXT_U32, .offset = AT(model.num_experts)},
    {.key = "moe_router_topk", .type = TDM_TEXT_U32, .offset = AT(model.moe_router_topk)},
    {.key = "moe_ffn_hidden_size", .type = TDM_TEXT_U32, .offset = AT(model.moe_ffn_hidden_size)},
    {.key = "vocab_size", .type = TDM_TEXT_U32, .offset = AT(model.vocab_size)},
    {.key = "max_position_embeddings",
     .type = TDM_TEXT_U32,
     .offset = AT(model.max_position_embeddings)},
    {.key = "swiglu", .type = TDM_TEXT_BOOL, .offset = AT(model.swiglu)},
    {.key = "add_bias_linear", .type = TDM_TEXT_BOOL, .offset = AT(model.add_bias_linear)},
    {.key = "untie_embeddings", .type = TDM_TEXT_BOOL, .offset = AT(model.untie_embeddings)},
    {.key = "norm", .type = TDM_TEXT_ENUM, .offset = AT(model.norm), .names = &norms},
    {.key = "position", .type = TDM_TEXT_ENUM, .offset = AT(model.position), .names = &positions},
    {.key = "attention",
     .type = TDM_TEXT_ENUM,
     .offset = AT(model.attention),
     .names = &attentions},
    {.key = "hidden_dropout", .type = TDM_TEXT_REAL, .offset = AT(model.hidden_dropout)},
    {.key = "attention_dropout", .type = TDM_TEXT_REAL, .offset = AT(model.attention_dropout)},
    {.key = "moe_shared_expert_intermediate_size",
     .type = TDM_TEXT_U32,
     .offset = AT(model.moe_shared_expert_intermediate_size),
     .optional = true},
    {.key = "first_k_dense_replace",
     .type = TDM_TEXT_U32,
     .offset = AT(model.first_k_dense_replace),
     .optional = true},
    {.key = "moe_layer_freq",
     .type = TDM_TEXT_U32,
     .offset = AT(model.moe_layer_freq),
     .optional = true},
    {.key = "moe_layer_offset",
     .type = TDM_TEXT_U32,
     .offset = AT(model.moe_layer_offset),
     .optional = true},
    {.key = "add_attention_bias",
     .type = TDM_TEXT_BOOL,
     .offset = AT(model.add_attention_bias),
     .optional = true},
    {.key = "add_qkv_bias",
     .type = TDM_TEXT_BOOL,
     .offset = AT(model.add_qkv_bias),
     .optional = true},
    {.key = "qk_layernorm",
     .type = TDM_TEXT_BOOL,
     .offset = AT(model.qk_layernorm),
     .optional = true},
    {.key = "attention_sinks",
     .type = TDM_TEXT_BOOL,
     .offset = AT(model.attention_sinks),
     .optional = true},
    {.key = "window_size", .type = TDM_TEXT_U32, .offset = AT(model.window_size), .optional = true},
    {.key = NULL},
};
static const tdm_text_field training_fields[] = {
    {.key = "dtype", .type = TDM_TEXT_ENUM, .offset = AT(training.dtype), .names = &dtypes},
    {.key = "grad_dtype",
     .type = TDM_TEXT_ENUM,
     .offset = AT(training.grad_dtype),
     .names = &dtypes},
    {.key = "recompute",
     .type = TDM_TEXT_ENUM,
     .offset = AT(training.recompute),
     .names = &recomputes},
    {.key = "clip_grad", .type = TDM_TEXT_REAL, .offset = AT(training.clip_grad)},
    {.key = "train", .type = TDM_TEXT_BOOL, .offset = AT(training.train)},
    {.key = NULL},
};
static const tdm_text_field parallel_fields[] = {
    {.key = "tp", .type = TDM_TEXT_U32, .offset = AT(parallel.tp)},
    {.key = "cp", .type = TDM_TEXT_U32, .offset = AT(parallel.cp)},
    {.key = "ep", .type = TDM_TEXT_U32, .offset = AT(parallel.ep)},
    {.key = "etp", .type = TDM_TEXT_U32, .offset = AT(parallel.etp)},
    {.key = "dp", .type = TDM_TEXT_U32, .offset = AT(parallel.dp)},
    {.key = "pp", .type = TDM_TEXT_U32, .offset = AT(parallel.pp)},
    {.key = "vpp", .type = TDM_TEXT_U32, .offset = AT(parallel.vpp)},
    {.key = "sequence_parallel", .type = TDM_TEXT_BOOL, .offset = AT(parallel.sequence_parallel)},
    {.key = "distributed_optimizer",
     .type = TDM_TEXT_BOOL,
     .offset = AT(parallel.distributed_optimizer)},
    {.key = NULL},
};
static const tdm_text_field routing_fields[] = {
    {.key = "model",
     .type = TDM_TEXT_ENUM,
     .offset = AT(routing_spec.model),
     .names = &routing_models},
    {.key = "seed", .type = TDM_TEXT_U64, .offset = AT(routing_spec.seed)},
    {.key = "exponent",
     .type = TDM_TEXT_REAL,
     .offset = AT(routing_spec.exponent),
     .optional = true},
    {.key = "concentration",
     .type = TDM_TEXT_REAL,
     .offset = AT(routing_spec.concentration),
     .optional = true},
    {.key = "hot_expert",
     .type = TDM_TEXT_U32,
     .offset = AT(routing_spec.hot_expert),
     .optional = true},
    {.key = "hot_share",
     .type = TDM_TEXT_REAL,
     .offset = AT(routing_spec.hot_share),
     .optional = true},
    {.key = "capacity_factor",
     .type = TDM_TEXT_REAL,
     .offset = AT(routing_spec.capacity_factor),
     .optional = true},
    {.key = "pad_to_capacity",
     .type = TDM_TEXT_BOOL,
     .offset = AT(routing_spec.pad_to_capacity),
     .optional = true},
    {.key = NULL},
};
static const tdm_text_field mesh_fields[] = {
    {.key = "tp", .type = TDM_TEXT_U32, .offset = AT(mesh.tp)},
    {.key = "cp", .type = TDM_TEXT_U32, .offset = AT(mesh.cp)},
    {.key = "dp", .type = TDM_TEXT_U32, .offset = AT(mesh.dp)},
    {.key = "pp", .type = TDM_TEXT_U32, .offset = AT(mesh.pp)},
    {.key = "ep", .type = TDM_TEXT_U32, .offset = AT(mesh.ep)},
    {.key = "etp", .type = TDM_TEXT_U32, .offset = AT(mesh.etp)},
    {.key = "edp", .type = TDM_TEXT_U32, .offset = AT(mesh.edp)},
    {.key = "world", .type = TDM_TEXT_U32, .offset = AT(mesh.world)},
    {.key = "copies", .type = TDM_TEXT_U32, .offset = AT(mesh.copies), .optional = true},
    {.key = NULL},
};
#undef AT

const tdm_text_section tdm_text_sections[] = {
    {.word = "plan", .fields = plan_fields},
    {.word = "model", .fields = model_fields, .model = true},
    {.word = "training", .fields = training_fields},
    {.word = "parallel", .fields = parallel_fields},
    {.word = "routing", .fields = routing_fields},
    {.word = "mesh", .fields = mesh_fields},
    {.word = NULL},
};

/* ---- kinds and roles ---- */

const tdm_text_field tdm_text_slot_fields[] = {
    {.key = "class",
     .type = TDM_TEXT_ENUM,
     .offset = offsetof(tdm_slot, class_),
     .names = &classes},
    {.key = "bytes", .type = TDM_TEXT_SIZE, .offset = offsetof(tdm_slot, bytes)},
    {.key = NULL},
};
const tdm_text_field tdm_text_param_fields[] = {
    {.key = "count", .type = TDM_TEXT_U64, .offset = offsetof(tdm_param, count)},
    {.key = "expert",
     .type = TDM_TEXT_BOOL,
     .offset = offsetof(tdm_param, expert),
     .optional = true},
    {.key = "sync_tp",
     .type = TDM_TEXT_BOOL,
     .offset = offsetof(tdm_param, sync_tp),
     .optional = true},
    {.key = "embedding",
     .type = TDM_TEXT_BOOL,
     .offset = offsetof(tdm_param, embedding),
     .optional = true},
    {.key = NULL},
};
const tdm_text_field tdm_text_block_fields[] = {
    {.key = "count", .type = TDM_TEXT_U32, .offset = offsetof(tdm_block, count)},
    {.key = "first_layer", .type = TDM_TEXT_U32, .offset = offsetof(tdm_block, first_layer)},
    {.key = NULL},
};
const tdm_text_field tdm_text_chunk_fields[] = {
    {.key = "virtual_stage", .type = TDM_TEXT_U32, .offset = offsetof(tdm_chunk, virtual_stage)},
    {.key = NULL},
};
const tdm_text_field tdm_text_routing_fields[] = {
    {.key = "replicas", .type = TDM_TEXT_U32, .offset = offsetof(tdm_routing_table, n_replicas)},
    {.key = "layers", .type = TDM_TEXT_U32, .offset = offsetof(tdm_routing_table, n_layers)},
    {.key = "microbatches",
     .type = TDM_TEXT_U32,
     .offset = offsetof(tdm_routing_table, n_microbatches)},
    {.key = "ep", .type = TDM_TEXT_U32, .offset = offsetof(tdm_routing_table, ep)},
    {.key = "experts", .type = TDM_TEXT_U32, .offset = offsetof(tdm_routing_table, n_experts)},
    {.key = NULL},
};

/* ---- ops ---- */

#define AT(member) offsetof(tdm_op, member)

const tdm_text_field tdm_text_op_fields[] = {
    {.key = "dtype", .type = TDM_TEXT_ENUM, .offset = AT(dtype), .names = &dtypes},
    {.key = "recompute", .type = TDM_TEXT_BOOL, .offset = AT(recompute), .optional = true},
    {.key = "on", .type = TDM_TEXT_ENUM, .offset = AT(stream), .names = &tdm_text_streams},
    {.key = NULL},
};
static const tdm_text_field gemm_fields[] = {
    {.key = "m", .type = TDM_TEXT_U64, .offset = AT(u.gemm.m)},
    {.key = "n", .type = TDM_TEXT_U64, .offset = AT(u.gemm.n)},
    {.key = "k", .type = TDM_TEXT_U64, .offset = AT(u.gemm.k)},
    {.key = "batch",
     .type = TDM_TEXT_U32,
     .offset = AT(u.gemm.batch),
     .optional = true,
     .fallback = 1},
    {.key = NULL},
};
static const tdm_text_field grouped_fields[] = {
    {.key = "n", .type = TDM_TEXT_U64, .offset = AT(u.grouped.n)},
    {.key = "k", .type = TDM_TEXT_U64, .offset = AT(u.grouped.k)},
    {.key = "rows_inner",
     .type = TDM_TEXT_BOOL,
     .offset = AT(u.grouped.rows_inner),
     .optional = true},
    {.key = NULL},
};
static const tdm_text_field attention_fields[] = {
    {.key = "batch", .type = TDM_TEXT_U64, .offset = AT(u.attention.batch)},
    {.key = "seq", .type = TDM_TEXT_U64, .offset = AT(u.attention.seq)},
    {.key = "heads", .type = TDM_TEXT_U64, .offset = AT(u.attention.heads)},
    {.key = "kv_heads", .type = TDM_TEXT_U64, .offset = AT(u.attention.kv_heads)},
    {.key = "head_size", .type = TDM_TEXT_U64, .offset = AT(u.attention.head_size)},
    {.key = "causal", .type = TDM_TEXT_BOOL, .offset = AT(u.attention.causal)},
    {.key = NULL},
};
static const tdm_text_field memory_fields[] = {
    {.key = "bytes", .type = TDM_TEXT_SIZE, .offset = AT(u.memory.bytes)},
    {.key = NULL},
};
static const tdm_text_field timed_fields[] = {
    {.key = "seconds", .type = TDM_TEXT_REAL, .offset = AT(u.timed.seconds)},
    {.key = NULL},
};
static const tdm_text_field collective_fields[] = {
    {.key = "group", .type = TDM_TEXT_ENUM, .offset = AT(u.collective.group), .names = &groups},
    {.key = "bytes", .type = TDM_TEXT_U64, .offset = AT(u.collective.bytes)},
    {.key = NULL},
};
static const tdm_text_field gather_fields[] = {
    {.key = "group", .type = TDM_TEXT_ENUM, .offset = AT(u.collective.group), .names = &groups},
    {.key = "bytes", .type = TDM_TEXT_U64, .offset = AT(u.collective.bytes)},
    {.key = "token_bytes",
     .type = TDM_TEXT_U64,
     .offset = AT(u.collective.token_bytes),
     .optional = true},
    {.key = NULL},
};
static const tdm_text_field all_to_all_fields[] = {
    {.key = "group", .type = TDM_TEXT_ENUM, .offset = AT(u.collective.group), .names = &groups},
    {.key = "token_bytes", .type = TDM_TEXT_U64, .offset = AT(u.collective.token_bytes)},
    {.key = "direction",
     .type = TDM_TEXT_ENUM,
     .offset = AT(u.collective.a2a),
     .names = &directions},
    {.key = NULL},
};
static const tdm_text_field p2p_fields[] = {
    {.key = "peer", .type = TDM_TEXT_ENUM, .offset = AT(u.p2p.peer), .names = &peers},
    {.key = "bytes", .type = TDM_TEXT_U64, .offset = AT(u.p2p.bytes)},
    {.key = "communicator",
     .type = TDM_TEXT_ENUM,
     .offset = AT(u.p2p.p2p),
     .names = &communicators,
     .optional = true},
    {.key = NULL},
};
#undef AT

const tdm_text_field *tdm_text_shape_fields(tdm_op_kind kind)
{
    static const tdm_text_field *const tables[TDM_N_OP_KINDS] = {
        [TDM_OP_GEMM] = gemm_fields,
        [TDM_OP_GROUPED_GEMM] = grouped_fields,
        [TDM_OP_ATTENTION] = attention_fields,
        [TDM_OP_ATTENTION_BACKWARD] = attention_fields,
        [TDM_OP_MEMORY] = memory_fields,
        [TDM_OP_TIMED] = timed_fields,
        [TDM_OP_ALL_REDUCE] = collective_fields,
        [TDM_OP_ALL_GATHER] = gather_fields,
        [TDM_OP_REDUCE_SCATTER] = gather_fields,
        [TDM_OP_ALL_TO_ALL] = all_to_all_fields,
        [TDM_OP_BROADCAST] = collective_fields,
        [TDM_OP_SEND] = p2p_fields,
        [TDM_OP_RECV] = p2p_fields,
    };
    assert((unsigned)kind < TDM_N_OP_KINDS);
    return tables[kind];
}

tdm_pass_kind tdm_text_default_pass(tdm_pass_kind template_kind)
{
    return template_kind == TDM_PASS_BW ? TDM_PASS_B : template_kind;
}
