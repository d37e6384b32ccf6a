/* support.c: small scenarios and plans made in memory. */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

const support_spec support_specs[] = {
    {0},
    {.tp = 2},
    {.tp = 4, .sequence_parallel = true},
    {.tp = 2, .pp = 2, .sequence_parallel = true},
    {.tp = 2, .pp = 4, .sequence_parallel = true, .schedule = "zb-h1", .rope = true},
    {.pp = 2},
    {.pp = 4, .schedule = "gpipe"},
    {.pp = 4, .schedule = "zb-h1", .microbatches = 8},
    {.pp = 4, .schedule = "forward-only"},
    {.dp = 4, .clip = true},
    {.dp = 2, .tp = 2, .pp = 2, .distributed_optimizer = true, .clip = true},
    {.tp = 2, .pp = 2, .dropout = true, .unfused = true, .bias = true},
    {.tp = 2, .pp = 2, .dropout = true, .unfused = true, .recompute = TDM_RECOMPUTE_SELECTIVE},
    {.tp = 2, .pp = 2, .recompute = TDM_RECOMPUTE_FULL, .sequence_parallel = true, .dropout = true},
    {.pp = 2, .tied = true, .swiglu = true, .rope = true},
    {.tp = 2,
     .pp = 2,
     .schedule = "zb-h1",
     .sequence_parallel = true,
     .recompute = TDM_RECOMPUTE_FULL},
    {.pp = 2, .vpp = 2, .schedule = "interleaved-1f1b"},
    {.tp = 2, .pp = 4, .vpp = 2, .layers = 8, .schedule = "breadth-first", .dropout = true},
    {.pp = 4, .schedule = "zb-h2", .microbatches = 8},
    {.pp = 4, .schedule = "auto", .microbatches = 8},
    {.tp = 2, .pp = 2, .ep = 2, .experts = 4, .topk = 2, .schedule = "auto", .microbatches = 6},
    {.tp = 2,
     .ep = 2,
     .experts = 4,
     .topk = 2,
     .pp = 2,
     .vpp = 2,
     .schedule = "interleaved-1f1b",
     .sequence_parallel = true},
    {.experts = 8, .topk = 2},
    {.experts = 4, .topk = 2, .shared = 96, .dense_first = 1, .swiglu = true},
    {.tp = 4, .ep = 4, .experts = 8, .topk = 2, .moe_every = 2, .moe_offset = 1, .shared = 64},
    {.tp = 2,
     .dp = 2,
     .ep = 4,
     .experts = 8,
     .topk = 2,
     .pp = 2,
     .schedule = "zb-h1",
     .sequence_parallel = true,
     .dense_first = 3,
     .shared = 64,
     .dropout = true},
    {.tp = 2,
     .ep = 2,
     .experts = 4,
     .topk = 2,
     .pp = 2,
     .layers = 8,
     .recompute = TDM_RECOMPUTE_FULL,
     .sequence_parallel = true,
     .dense_first = 1,
     .moe_every = 3,
     .moe_offset = 1,
     .shared = 128,
     .bias = true},
    {.dp = 2,
     .ep = 2,
     .experts = 2,
     .topk = 1,
     .pp = 2,
     .vpp = 2,
     .layers = 8,
     .schedule = "interleaved-1f1b",
     .moe_every = 2,
     .shared = 32,
     .recompute = TDM_RECOMPUTE_SELECTIVE,
     .unfused = true,
     .dropout = true},
    {.tp = 2, .ep = 2, .experts = 4, .topk = 2, .pp = 2, .shared = 32, .schedule = "auto"},
    {.pp = 2, .vpp = 2, .schedule = "zb-v", .tied = true},
    {.tp = 2,
     .ep = 2,
     .experts = 4,
     .topk = 2,
     .pp = 3,
     .vpp = 2,
     .layers = 6,
     .microbatches = 6,
     .schedule = "zb-v",
     .sequence_parallel = true,
     .recompute = TDM_RECOMPUTE_FULL,
     .dropout = true},
    {.tp = 4, .ep = 4, .experts = 8, .topk = 2},
    {.tp = 4, .ep = 4, .experts = 8, .topk = 2, .sequence_parallel = true},
    {.tp = 4, .ep = 4, .experts = 4, .topk = 1, .pp = 2, .schedule = "zb-h1"},
    {.tp = 8, .ep = 8, .experts = 16, .topk = 2, .pp = 2, .microbatches = 8},
    {.tp = 8,
     .ep = 8,
     .experts = 16,
     .topk = 2,
     .pp = 2,
     .balanced = true,
     .recompute = TDM_RECOMPUTE_FULL},
    {.tp = 8, .ep = 8, .experts = 16, .topk = 2, .pp = 2, .schedule = "forward-only"},
    {.tp = 2, .ep = 2, .experts = 4, .topk = 2, .pp = 2, .dropout = true},
    {.tp = 2,
     .ep = 2,
     .experts = 4,
     .topk = 2,
     .pp = 2,
     .dropout = true,
     .sequence_parallel = true,
     .recompute = TDM_RECOMPUTE_FULL},
    {.dp = 4, .ep = 4, .experts = 8, .topk = 3, .distributed_optimizer = true},
    {.dp = 4, .tp = 2, .ep = 4, .experts = 8, .topk = 2, .pp = 2, .clip = true, .swiglu = true},
};
const size_t support_n_specs = TDM_COUNT(support_specs);

static uint32_t or_default(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

tdm_topology support_switch(tdm_arena *arena, uint32_t n)
{
    tdm_link *links = TDM_ALLOC(arena, tdm_link, 2 * n);
    int32_t *parent = TDM_ALLOC(arena, int32_t, n + 1);
    uint32_t *up = TDM_ALLOC(arena, uint32_t, n + 1), *down = TDM_ALLOC(arena, uint32_t, n + 1);
    for (uint32_t g = 0; g < n; g++) {
        links[2 * g] = (tdm_link){tdm_arena_printf(arena, "up-%u", g), 100e9, 1e-6};
        links[2 * g + 1] = (tdm_link){tdm_arena_printf(arena, "down-%u", g), 100e9, 1e-6};
        parent[g] = (int32_t)n;
        up[g] = 2 * g;
        down[g] = 2 * g + 1;
    }
    parent[n] = -1;
    tdm_plane *plane = TDM_ALLOC(arena, tdm_plane, 1);
    *plane = (tdm_plane){
        .name = "nvlink", .n_vertices = n + 1, .parent = parent, .up = up, .down = down};
    return (tdm_topology){.name = "test-switch",
                          .n_gpus = n,
                          .gpus_per_node = n,
                          .device_name = "test-gpu",
                          .n_links = 2 * n,
                          .links = links,
                          .n_planes = 1,
                          .planes = plane,
                          .link_bytes_per_s = {100e9, TDM_GRADE_GUESS, "test"},
                          .collective_launch_s = {8e-6, TDM_GRADE_GUESS, "test"},
                          .p2p_launch_s = {5e-6, TDM_GRADE_GUESS, "test"},
                          .grade = TDM_GRADE_GUESS};
}

static tdm_value guess(double value)
{
    return (tdm_value){value, TDM_GRADE_GUESS, "test"};
}

static tdm_device test_device(void)
{
    tdm_device device = {.name = "test-gpu",
                         .memory_bytes = guess(64e9),
                         .memory_bytes_per_s = guess(1e12),
                         .launch_s = guess(3e-6),
                         .kernel_floor_s = guess(2e-6),
                         .gemm_efficiency = guess(0.7),
                         .grouped_gemm_efficiency = guess(0.5),
                         .attention_efficiency = guess(0.5),
                         .attention_backward_efficiency = guess(0.4),
                         .memory_efficiency = guess(0.8),
                         .context_bytes = guess(1e9)};
    device.peak_flops_per_s[TDM_DTYPE_BF16] = guess(100e12);
    device.peak_flops_per_s[TDM_DTYPE_FP16] = guess(100e12);
    device.peak_flops_per_s[TDM_DTYPE_FP32] = guess(20e12);
    return device;
}

static tdm_model test_model(const support_spec *spec)
{
    uint32_t hidden = or_default(spec->hidden, 64), heads = or_default(spec->heads, 8);
    return (tdm_model){.name = "test",
                       .num_layers = or_default(spec->layers, 4),
                       .hidden_size = hidden,
                       .num_attention_heads = heads,
                       .num_query_groups = heads,
                       .kv_channels = hidden / heads,
                       .ffn_hidden_size = 4 * hidden,
                       .num_experts = spec->experts,
                       .moe_router_topk = spec->topk,
                       .moe_ffn_hidden_size = 2 * hidden,
                       .moe_shared_expert_intermediate_size = spec->shared,
                       .first_k_dense_replace = spec->dense_first,
                       .moe_layer_freq = spec->moe_every,
                       .moe_layer_offset = spec->moe_offset,
                       .vocab_size = 256,
                       .max_position_embeddings = 64,
                       .swiglu = spec->swiglu,
                       .add_bias_linear = spec->bias,
                       .untie_embeddings = !spec->tied,
                       .norm = TDM_NORM_LAYER,
                       .position = spec->rope ? TDM_POSITION_ROPE : TDM_POSITION_LEARNED,
                       .attention = spec->unfused ? TDM_ATTENTION_UNFUSED : TDM_ATTENTION_FUSED,
                       .hidden_dropout = spec->dropout ? 0.1 : 0,
                       .attention_dropout = spec->dropout ? 0.1 : 0};
}

tdm_scenario support_scenario(tdm_arena *arena, const support_spec *spec)
{
    tdm_parallel parallel = {.tp = or_default(spec->tp, 1),
                             .cp = 1,
                             .ep = or_default(spec->ep, 1),
                             .etp = or_default(spec->etp, 1),
                             .dp = or_default(spec->dp, 1),
                             .pp = or_default(spec->pp, 1),
                             .vpp = or_default(spec->vpp, 1),
                             .sequence_parallel = spec->sequence_parallel,
                             .distributed_optimizer = spec->distributed_optimizer};
    return (tdm_scenario){
        .name = "test",
        .path = "test.yaml",
        .model = test_model(spec),
        .topology = support_switch(arena, parallel.tp * parallel.dp * parallel.pp),
        .device = test_device(),
        .parallel = parallel,
        .training = {.dtype = TDM_DTYPE_BF16,
                     .grad_dtype = TDM_DTYPE_FP32,
                     .recompute = spec->recompute,
                     .clip_grad = spec->clip ? 1.0 : 0.0,
                     .train = true},
        .schedule = spec->schedule ? spec->schedule : "1f1b",
        .num_microbatches = or_default(spec->microbatches, 4),
        .micro_batch_size = or_default(spec->micro_batch, 2),
        .seq_length = or_default(spec->seq, 32),
        .routing = {.model = spec->balanced ? TDM_ROUTING_BALANCED : TDM_ROUTING_UNIFORM,
                    .seed = 1234,
                    .capacity_factor = spec->capacity,
                    .pad_to_capacity = spec->padded},
        .nccl = tdm_nccl_settings_default()};
}

static const double *repeat(tdm_arena *arena, double value, uint32_t n)
{
    double *values = TDM_ALLOC(arena, double, n);
    for (uint32_t i = 0; i < n; i++)
        values[i] = value;
    return values;
}

tdm_scenario support_pass_times(tdm_arena *arena, uint32_t pp, uint32_t microbatches,
                                const char *schedule, double forward_s, double backward_input_s,
                                double backward_weight_s, double send_s)
{
    return (tdm_scenario){
        .name = "pass-times",
        .path = "test.yaml",
        .topology = support_switch(arena, pp),
        .device = test_device(),
        .parallel = {.tp = 1, .cp = 1, .ep = 1, .etp = 1, .dp = 1, .pp = pp, .vpp = 1},
        .training = {.dtype = TDM_DTYPE_BF16, .grad_dtype = TDM_DTYPE_FP32, .train = true},
        .schedule = schedule,
        .num_microbatches = microbatches,
        .micro_batch_size = 1,
        .seq_length = 1,
        .pass_times = {.given = true,
                       .forward_s = repeat(arena, forward_s, pp),
                       .backward_input_s = repeat(arena, backward_input_s, pp),
                       .backward_weight_s = repeat(arena, backward_weight_s, pp),
                       .send_s = send_s,
                       .kept_share = 0.5},
        .nccl = tdm_nccl_settings_default()};
}

bool support_suit(tdm_scenario *scenario)
{
    tdm_parallel *parallel = &scenario->parallel;
    const tdm_schedule *schedule = tdm_schedule_find(scenario->schedule);
    tdm_schedule_shape shape = {.n_stages = parallel->pp,
                                .n_chunks = parallel->vpp,
                                .n_microbatches = scenario->num_microbatches};
    if (!tdm_schedule_refuse(schedule, &shape))
        return true;
    if (schedule->needs_table)
        return false;
    parallel->vpp = 2;
    scenario->num_microbatches =
        (uint32_t)tdm_ceil_div(scenario->num_microbatches, parallel->pp) * parallel->pp;
    scenario->model.num_layers =
        (uint32_t)tdm_ceil_div(scenario->model.num_layers, 2 * parallel->pp) * 2 * parallel->pp;
    shape = (tdm_schedule_shape){
        .n_stages = parallel->pp, .n_chunks = 2, .n_microbatches = scenario->num_microbatches};
    return !tdm_schedule_refuse(schedule, &shape);
}

tdm_plan support_plan(tdm_arena *arena, const tdm_scenario *scenario)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_plan plan = {0};
    tdm_code code =
        tdm_lower(arena, scenario, scenario->schedule, scenario->num_microbatches, &plan, err);
    if (code != TDM_OK)
        fail_msg("lowering failed: %s", err->text);
    return plan;
}

tdm_machine support_machine(const tdm_scenario *scenario)
{
    return (tdm_machine){.topology = &scenario->topology, .device = &scenario->device};
}
