/* test_scenario.c: the scenarios of the tree load to the numbers they stand for. */
#include "core/model_load.h"
#include "core/scenario.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROOT TANDEM_SOURCE_ROOT

static tdm_scenario load(tdm_arena *arena, const char *path, const char *const *sets, size_t n_sets)
{
    tdm_error err = {0};
    tdm_scenario scenario = {0};
    if (tdm_scenario_load(arena, ROOT, path, sets, n_sets, &scenario, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return scenario;
}

static void expect_failure(const char *path, const char *set, const char *message)
{
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_scenario scenario = {0};
    assert_int_equal(tdm_scenario_load(&arena, ROOT, path, &set, 1, &scenario, &err),
                     TDM_E_INVALID);
    if (!strstr(err.text, message))
        fail_msg("expected '%s' in: %s", message, err.text);
    assert_null(scenario.name);
    tdm_arena_free(&arena);
}

static void reference(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario s = load(&arena, ROOT "/scenarios/moe-30b-16gpu.yaml", NULL, 0);
    assert_string_equal(s.name, "moe-30b-16gpu");
    assert_string_equal(s.model.name, "moe-30b");
    assert_string_equal(s.topology.name, "nvswitch16-a100-80g");
    assert_int_equal(s.topology.n_gpus, 16);
    assert_true(s.parallel.tp == 8 && s.parallel.ep == 8 && s.parallel.etp == 1 &&
                s.parallel.pp == 2);
    assert_true(s.parallel.dp == 1 && s.parallel.cp == 1 && !s.parallel.sequence_parallel);
    assert_string_equal(s.schedule, "1f1b");
    assert_true(s.num_microbatches == 8 && s.micro_batch_size == 32 && s.seq_length == 512);
    assert_true(s.training.train && s.training.recompute == TDM_RECOMPUTE_NONE &&
                s.training.clip_grad == 0);
    assert_true(s.training.dtype == TDM_DTYPE_BF16 && s.training.grad_dtype == TDM_DTYPE_FP32);
    assert_true(s.memory_limit_bytes == 64000000000u);
    assert_int_equal(s.n_targets, 8);
    assert_string_equal(s.targets[3].figure, "tokens_per_s");
    assert_true(!s.targets[3].is_maximum && s.targets[3].threshold == 20000);
    assert_true(s.targets[7].is_maximum && s.targets[7].threshold == 0.1);
    const char *set = "parallel.sequence_parallel=true";
    tdm_scenario with = load(&arena, ROOT "/scenarios/moe-30b-16gpu.yaml", &set, 1);
    tdm_scenario sp = load(&arena, ROOT "/scenarios/moe-30b-16gpu-sp.yaml", NULL, 0);
    assert_memory_equal(&with.parallel, &sp.parallel, sizeof sp.parallel);
    assert_true(sp.parallel.sequence_parallel && sp.n_targets == 8);
    tdm_arena_free(&arena);
}

static tdm_model load_model(tdm_arena *arena, const char *path)
{
    tdm_error err = {0};
    tdm_model model = {0};
    if (tdm_model_load(arena, path, &model, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return model;
}

/* Source: Narayanan et al. 2021 (SC21, arXiv:2104.04473), eq. 2, which leaves the final norm out.
 */
static double gpt_params(double l, double h, double v, double s)
{
    return 12 * l * h * h * (1 + 13 / (12 * h) + (v + s) / (12 * l * h));
}

static void counts_parameters(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_model moe = load_model(&arena, ROOT "/scenarios/models/moe-30b.yaml");
    uint64_t norms = 110ull * 2 * 2 * 1024; /* two layer norms, scale and shift */
    assert_int_equal(tdm_model_layer_params(&moe) - norms, 29996482560u);
    assert_int_equal(tdm_model_params(&moe), 29996482560u + norms + 2 * 32000ull * 1024 + 2 * 1024);
    tdm_model gpt22 = load_model(&arena, ROOT "/scenarios/models/gpt-22b.yaml");
    assert_true((double)tdm_model_params(&gpt22) == gpt_params(48, 6144, 51200, 2048) + 2 * 6144);
    tdm_model gpt175 = load_model(&arena, ROOT "/scenarios/models/gpt-175b.yaml");
    assert_true(fabs((double)tdm_model_params(&gpt175) - gpt_params(96, 12288, 51200, 2048) -
                     2 * 12288) < 1);
    tdm_model llama = load_model(&arena, ROOT "/scenarios/models/llama-7b.yaml");
    assert_int_equal(tdm_model_params(&llama),
                     6738415616u); /* as Hugging Face counts the released weights */
    tdm_arena_free(&arena);
}

static void defaults_are_megatrons(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const char *sets[] = {
        "model={num_layers: 2, hidden_size: 1024, n_heads: 8, vocab_size: 1000, max_position_embeddings: 4096}",
        "training=null", "global_batch_size=64", "schedule.num_microbatches=null"};
    tdm_scenario s =
        load(&arena, ROOT "/scenarios/llama-16gpu-tp4-pp2-dp2.yaml", sets, TDM_COUNT(sets));
    const tdm_model *m = &s.model;
    assert_string_equal(m->name, "llama-16gpu-tp4-pp2-dp2");
    assert_true(m->num_query_groups == 8 && m->kv_channels == 128 && m->ffn_hidden_size == 4096 &&
                m->num_experts == 0);
    assert_true(m->add_bias_linear && !m->untie_embeddings && !m->swiglu &&
                m->hidden_dropout == 0.1);
    assert_true(m->norm == TDM_NORM_LAYER && m->position == TDM_POSITION_LEARNED);
    assert_true(s.training.clip_grad == 1 && s.training.grad_dtype == TDM_DTYPE_FP32);
    assert_int_equal(s.num_microbatches, 32); /* 64 / (1 x dp 2) */
    tdm_arena_free(&arena);
}

static void sets_reach_everything(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const char *sets[] = {"num_layers=4",
                          "model.num_attention_heads=16",
                          "tp_size=2",
                          "dp=null",
                          "schedule.name=zb-h1",
                          "topology=dgx-2",
                          "dtype=fp16",
                          "training.accumulate-allreduce-grads-in-fp32=false",
                          "grad_dtype=null",
                          "targets.mfu={min: 40%}",
                          "targets.step_time_s.max=2s"};
    tdm_scenario s =
        load(&arena, ROOT "/scenarios/llama-16gpu-tp4-pp2-dp2.yaml", sets, TDM_COUNT(sets));
    assert_int_equal(s.model.num_layers, 4);
    assert_int_equal(s.model.num_attention_heads, 16);
    assert_int_equal(s.model.hidden_size, 4096);
    assert_string_equal(s.model.name, "llama-7b");
    assert_true(s.parallel.tp == 2 && s.parallel.pp == 2 && s.parallel.dp == 4);
    assert_string_equal(s.schedule, "zb-h1");
    assert_true(s.training.dtype == TDM_DTYPE_FP16 && s.training.grad_dtype == TDM_DTYPE_FP16);
    assert_int_equal(s.n_targets, 2);
    assert_true(s.targets[0].threshold == 0.4 && !s.targets[0].is_maximum);
    assert_true(s.targets[1].threshold == 2 && s.targets[1].is_maximum);
    tdm_arena_free(&arena);
}

/* With the prefix or without; the command line wins over what stands before. */
static void variables_of_nccl(void **state)
{
    (void)state;
    static const char *const sets[] = {"nccl.ALGO=ring", "nccl.NCCL_MAX_NCHANNELS=8",
                                       "nccl.NCCL_ALGO=ring;allreduce:tree"};
    tdm_arena arena = {0};
    tdm_scenario plain = load(&arena, ROOT "/scenarios/moe-30b-16gpu.yaml", NULL, 0);
    tdm_scenario s = load(&arena, ROOT "/scenarios/moe-30b-16gpu.yaml", sets, TDM_COUNT(sets));
    assert_true(plain.n_nccl_given == 0 && plain.nccl.algo[TDM_NCCL_ALL_REDUCE][TDM_NCCL_NVLS]);
    assert_int_equal(s.nccl.max_channels, 8);
    assert_true(s.nccl.algo[TDM_NCCL_ALL_GATHER][TDM_NCCL_RING]);
    assert_false(s.nccl.algo[TDM_NCCL_ALL_GATHER][TDM_NCCL_TREE]);
    assert_true(s.nccl.algo[TDM_NCCL_ALL_REDUCE][TDM_NCCL_TREE]);
    assert_false(s.nccl.algo[TDM_NCCL_ALL_REDUCE][TDM_NCCL_RING]);
    assert_int_equal(s.n_nccl_given, 2);
    assert_string_equal(s.nccl_given[1].name, "NCCL_ALGO");
    assert_string_equal(s.nccl_given[1].value, "ring;allreduce:tree");
    tdm_arena_free(&arena);
}

static void pass_times(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario s = load(&arena, ROOT "/scenarios/zb-1.5b.yaml", NULL, 0);
    assert_true(s.pass_times.given && s.parallel.pp == 8 && s.parallel.dp == 1 &&
                s.topology.n_gpus == 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(s.pass_times.forward_s[i] == 0.018522);
        assert_true(s.pass_times.backward_input_s[i] == 0.018086);
        assert_true(s.pass_times.backward_weight_s[i] == 0.009337);
    }
    assert_true(s.pass_times.send_s == 0.000601);
    const char *sets[] = {"pp=2", "pass_times.forward=[1ms, 3ms]", "pass_times.send=null"};
    s = load(&arena, ROOT "/scenarios/zb-1.5b.yaml", sets, TDM_COUNT(sets));
    assert_true(s.pass_times.forward_s[0] == 0.001 && s.pass_times.forward_s[1] == 0.003);
    assert_true(s.pass_times.backward_input_s[1] == 0.018086 && s.pass_times.send_s == 0);
    tdm_arena_free(&arena);
}

/* Fewer ranks than GPUs are allowed when the scenario says how many replicas it wants. */
static void part_of_the_machine(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const char *one = "data_parallel_size=1";
    tdm_scenario s = load(&arena, ROOT "/scenarios/llama-16gpu-tp4-pp2-dp2.yaml", &one, 1);
    assert_true(s.parallel.tp * s.parallel.pp * s.parallel.dp == 8 && s.topology.n_gpus == 16);
    expect_failure(
        ROOT "/scenarios/llama-16gpu-tp4-pp2-dp2.yaml", "data_parallel_size=3",
        "--set:data_parallel_size: parallel.data_parallel_size: 3 x 8 ranks of a replica do not divide the 16 GPUs");
    tdm_arena_free(&arena);
}

/* A message made after loading still points at the line, also into a model file and at --set. */
static void errors_after_loading(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_error err = {0};
    const char *set = "batch.micro_batch_size=16";
    tdm_scenario s = load(&arena, ROOT "/scenarios/moe-30b-16gpu.yaml", &set, 1);
    assert_int_equal(
        tdm_scenario_error(&s, "parallel.pipeline_model_parallel_size", &err, "%d is %s", 2, "few"),
        TDM_E_INVALID);
    tdm_scenario_error(&s, "model.hidden_size", &err, "small");
    tdm_scenario_error(&s, "batch.micro_batch_size", &err, "odd");
    s.document = NULL;
    tdm_scenario_error(&s, "batch.micro_batch_size", &err, "odd");
    assert_string_equal(
        err.text, ROOT
        "/scenarios/moe-30b-16gpu.yaml:11:3: parallel.pipeline_model_parallel_size: 2 is few\n" ROOT
        "/scenarios/models/moe-30b.yaml:6:1: model.hidden_size: small\n"
        "--set:batch.micro_batch_size: batch.micro_batch_size: odd\n" ROOT
        "/scenarios/moe-30b-16gpu.yaml: batch.micro_batch_size: odd\n");
    tdm_arena_free(&arena);
}

static void refuses(void **state)
{
    (void)state;
    static const char moe[] = ROOT "/scenarios/moe-30b-16gpu.yaml";
    expect_failure(
        moe, "tp=7",
        "--set:tp: parallel.tensor_model_parallel_size: 7 does not divide the 16 heads of model moe-30b (try 4 or 8)");
    expect_failure(moe, "model=nothing", "--set:model: model: nothing: no such model");
    expect_failure(moe, "num_microbatches=0", "expected a whole number from 1 to 65536");
    expect_failure(moe, "seed=1e3",
                   "routing.seed: 1e3: expected a whole number from 0 to 9007199254740992");
    expect_failure(moe, "hidden_size=4294967296", "expected a whole number from 1 to 1048576");
    expect_failure(moe, "pp=1048576", "do not divide the 16 GPUs");
    expect_failure("no-such-file.yaml", "tp=1", "no-such-file.yaml: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),
        cmocka_unit_test(counts_parameters),
        cmocka_unit_test(defaults_are_megatrons),
        cmocka_unit_test(sets_reach_everything),
        cmocka_unit_test(variables_of_nccl),
        cmocka_unit_test(pass_times),
        cmocka_unit_test(part_of_the_machine),
        cmocka_unit_test(errors_after_loading),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
