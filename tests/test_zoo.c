/* test_zoo.c: the models of scenarios/models have the parameters that were published for them, and
 * so have the plans made of them. */
#include "core/lower.h"
#include "core/model_load.h"
#include "core/verify.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROOT TANDEM_SOURCE_ROOT

typedef struct published {
    const char *name;
    uint64_t exact;         /* elements of the released weights; 0: not published */
    double params;          /* 0.5 % */
    double active;          /* 2 %: two digits are published; 0: dense */
    bool without_embedding; /* as active is counted there */
    const char *source;
} published;

/* Exact counts: half the bytes of a 16-bit release, metadata.total_size of
 * model.safetensors.index.json, or the count that huggingface.co shows beside it. */
static const published zoo[] = {
    {"gpt-175b", 0, 175e9, 0, false, "Brown et al. 2020, arXiv:2005.14165, table 2.1"},
    {"gpt-22b", 0, 22e9, 0, false, "Korthikanti et al. 2022, arXiv:2205.05198, table 3"},
    {"gpt-oss-120b", 0, 116.83e9, 5.13e9, true, "OpenAI 2025, arXiv:2508.10925, table 1"},
    {"gpt-oss-20b", 0, 20.91e9, 3.61e9, true, "OpenAI 2025, arXiv:2508.10925, table 1"},
    {"llama-2-70b", 68976648192, 69e9, 0, false, "huggingface.co/meta-llama/Llama-2-70b-hf"},
    {"llama-2-7b", 6738415616, 6.74e9, 0, false, "huggingface.co/meta-llama/Llama-2-7b-hf"},
    {"llama-3.1-405b", 405853388800, 406e9, 0, false, "huggingface.co/meta-llama/Llama-3.1-405B"},
    {"llama-3.1-70b", 70553706496, 70.6e9, 0, false, "huggingface.co/meta-llama/Llama-3.1-70B"},
    {"llama-3.1-8b", 8030261248, 8.03e9, 0, false, "huggingface.co/meta-llama/Llama-3.1-8B"},
    {"llama-7b", 6738415616, 6.74e9, 0, false, "huggingface.co/huggyllama/llama-7b"},
    {"mixtral-8x22b", 140620634112, 141e9, 39e9, false,
     "Mistral AI 2024, Cheaper, Better, Faster, Stronger: 39B active parameters out of 141B"},
    {"mixtral-8x7b", 46702792704, 46.7e9, 12.9e9, false,
     "Mistral AI 2023, Mixtral of experts: 46.7B total parameters, 12.9B per token"},
    {"qwen3-235b-a22b", 235093634560, 235e9, 22e9, false,
     "huggingface.co/Qwen/Qwen3-235B-A22B: 235B in total and 22B activated"},
    {"qwen3-30b-a3b", 30532122624, 30.5e9, 3.3e9, false,
     "huggingface.co/Qwen/Qwen3-30B-A3B: 30.5B in total and 3.3B activated"},
};

static tdm_model load(tdm_arena *arena, const char *name)
{
    tdm_error err = {0};
    tdm_model model = {0};
    const char *path = tdm_arena_printf(arena, "%s/scenarios/models/%s.yaml", ROOT, name);
    if (tdm_model_load(arena, path, &model, &err) != TDM_OK)
        fail_msg("%s", err.text);
    return model;
}

static void expect_near(const published *it, const char *what, double got, double expected,
                        double tolerance)
{
    if (fabs(got - expected) > tolerance * expected)
        fail_msg("%s: %.5g %s parameters, not %.5g (%s)", it->name, got, what, expected,
                 it->source);
}

static void counts_as_published(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(zoo); i++) {
        tdm_model model = load(&arena, zoo[i].name);
        uint64_t params = tdm_model_params(&model), active = tdm_model_active_params(&model);
        assert_string_equal(model.name, zoo[i].name);
        expect_near(&zoo[i], "", (double)params, zoo[i].params, 0.005);
        if (zoo[i].exact)
            assert_int_equal(params, zoo[i].exact);
        if (zoo[i].without_embedding)
            active -= (uint64_t)model.vocab_size * model.hidden_size;
        if (zoo[i].active > 0)
            expect_near(&zoo[i], "active", (double)active, zoo[i].active, 0.02);
        else
            assert_int_equal(active, params);
    }
    tdm_arena_free(&arena);
}

/* Parameters over the ranks of one replica: those that TP ranks share counted once. */
static uint64_t plan_params(const tdm_plan *plan)
{
    uint64_t sum = 0, tp = plan->mesh.tp, ep = plan->mesh.ep;
    for (uint32_t stage = 0; stage < plan->mesh.pp; stage++) {
        const tdm_chunk *chunk = &plan->roles[stage].chunks[0];
        for (uint32_t b = 0; b < chunk->n_blocks; b++) {
            const tdm_kind *kind = &plan->kinds[chunk->blocks[b].kind];
            for (uint32_t p = 0; p < kind->n_params; p++) {
                const tdm_param *param = &kind->params[p];
                bool copied = strstr(param->name, "norm") || strcmp(param->name, "gate") == 0 ||
                              strcmp(param->name, "gate.bias") == 0 ||
                              strcmp(param->name, "positions") == 0 ||
                              strcmp(param->name, "proj.bias") == 0 ||
                              strcmp(param->name, "fc2.bias") == 0 ||
                              strcmp(param->name, "shared.fc2.bias") == 0;
                uint64_t ranks = param->expert ? ep : copied ? 1 : tp;
                sum += ranks * param->count * chunk->blocks[b].count;
            }
        }
    }
    return sum;
}

/* Every model makes a sound plan that holds all of it. */
static void plans_hold_all_parameters(void **state)
{
    (void)state;
    for (size_t i = 0; i < TDM_COUNT(zoo); i++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        tdm_scenario scenario = {0};
        tdm_plan plan = {0};
        tdm_verify_report report;
        tdm_model model = load(&arena, zoo[i].name);
        const char *sets[] = {tdm_arena_printf(&arena, "model=%s", zoo[i].name),
                              model.vocab_size % 2 ? "parallel.tp=1" : "parallel.tp=2",
                              model.num_experts ? "parallel.ep=4" : "parallel.ep=1",
                              "parallel.etp=1",
                              "parallel.pp=2",
                              "parallel.sp=true"};
        if (tdm_scenario_load(&arena, ROOT, ROOT "/scenarios/small-moe-16gpu.yaml", sets,
                              TDM_COUNT(sets), &scenario, &err) != TDM_OK ||
            tdm_lower(&arena, &scenario, scenario.schedule, scenario.num_microbatches, &plan,
                      &err) != TDM_OK ||
            tdm_verify_plan(&plan, &report, &err) != TDM_OK)
            fail_msg("%s: %s", zoo[i].name, err.text);
        uint64_t copies =
            model.untie_embeddings ? 0 : (uint64_t)model.vocab_size * model.hidden_size;
        assert_int_equal(plan_params(&plan), tdm_model_params(&model) + copies);
        tdm_arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_as_published),
        cmocka_unit_test(plans_hold_all_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
