/* test_routing.c: planned routing: counts equal a count by hand, whatever the layout. */
#include "core/routing.h"
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static tdm_routing_key key_of(tdm_arena *arena, const tdm_plan *plan)
{
    tdm_routing_key key;
    assert_int_equal(tdm_routing_key_make(arena, plan, &key, NULL), TDM_OK);
    return key;
}

static void test_experts_are_distinct_and_in_range(void **state)
{
    (void)state;
    for (uint32_t topk = 1; topk <= 8; topk++)
        for (int model = 0; model <= TDM_ROUTING_BALANCED; model++) {
            tdm_routing_key key = {.model = (tdm_routing_model)model,
                                   .seed = 7,
                                   .n_experts = 8,
                                   .topk = topk,
                                   .seq_length = 64};
            for (uint32_t p = 0; p < 500; p++) {
                uint32_t experts[8], seen = 0;
                tdm_routing_experts(&key, 0, 3, 5, p, experts);
                for (uint32_t j = 0; j < topk; j++) {
                    assert_true(experts[j] < 8);
                    assert_false(seen >> experts[j] & 1);
                    seen |= 1u << experts[j];
                }
            }
        }
}

/* Each choice is uniform, the later ones over what is left: chi-squared over all ordered pairs of 8
 * experts. */
static void test_pairs_are_uniform(void **state)
{
    (void)state;
    enum { N = 8, DRAWS = 560000 };
    tdm_routing_key key = {
        .model = TDM_ROUTING_UNIFORM, .seed = 99, .n_experts = N, .topk = 2, .seq_length = 1000};
    static uint32_t counts[N][N];
    memset(counts, 0, sizeof counts);
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint32_t e[2];
        tdm_routing_experts(&key, 0, i / 100000, i / 1000, i % 1000, e);
        counts[e[0]][e[1]]++;
    }
    double expected = DRAWS / (double)(N * (N - 1)), chi2 = 0;
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            if (a != b)
                chi2 += (counts[a][b] - expected) * (counts[a][b] - expected) / expected;
    /* 55 degrees of freedom: mean 55, standard deviation 10.5. */
    assert_true(chi2 < 55 + 5 * 10.5 && chi2 > 55 - 5 * 10.5);
}

/* The table's counts, recounted token by token from tdm_routing_experts. */
static void check_table(const support_spec *spec)
{
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_routing_key key = key_of(&arena, &plan);
    const tdm_mesh *mesh = &plan.mesh;
    uint32_t n_local = key.n_experts / mesh->ep, tokens = plan.micro_batch_size * plan.seq_length;
    for (uint32_t layer = 0; layer < plan.model.num_layers; layer++)
        for (uint32_t mb = 0; mb < plan.num_microbatches; mb++) {
            uint32_t *sent = TDM_ALLOC(&arena, uint32_t, mesh->per_stage * mesh->ep);
            for (uint32_t d = 0; d < mesh->dp; d++)
                for (uint32_t t = 0; t < tokens; t++) {
                    uint32_t rank = d * mesh->tp + t / (tokens / mesh->tp), e[8];
                    uint64_t sample =
                        ((uint64_t)mb * mesh->dp + d) * plan.micro_batch_size + t / plan.seq_length;
                    tdm_routing_experts(&key, 0, layer, sample, t % plan.seq_length, e);
                    for (uint32_t j = 0; j < key.topk; j++)
                        sent[rank * mesh->ep + e[j] / n_local]++;
                }
            for (uint32_t rank = 0; rank < mesh->per_stage; rank++) {
                const uint32_t *row = tdm_plan_sent(&plan, rank, layer, mb);
                assert_memory_equal(row + rank % mesh->ep * mesh->ep, sent + rank * mesh->ep,
                                    mesh->ep * sizeof *row);
                uint64_t received = 0;
                for (uint32_t src = rank / mesh->ep * mesh->ep;
                     src < (rank / mesh->ep + 1) * mesh->ep; src++)
                    received += sent[src * mesh->ep + rank % mesh->ep];
                assert_int_equal(tdm_plan_tokens(&plan, rank, layer, mb), received);
                const uint32_t *experts = tdm_plan_experts(&plan, rank, layer, mb);
                uint64_t own = 0;
                for (uint32_t i = 0; i < n_local; i++)
                    own += experts[rank % mesh->ep * n_local + i];
                assert_int_equal(own, received);
            }
        }
    tdm_arena_free(&arena);
}

static void test_table_equals_recount(void **state)
{
    (void)state;
    check_table(&(support_spec){.experts = 8, .topk = 2});
    check_table(&(support_spec){.tp = 8, .ep = 8, .experts = 16, .topk = 2, .pp = 2});
    check_table(&(support_spec){.tp = 2, .dp = 4, .ep = 4, .experts = 8, .topk = 3});
    check_table(&(support_spec){
        .tp = 4, .ep = 2, .dp = 2, .experts = 8, .topk = 1, .micro_batch = 3, .seq = 16});
    check_table(&(support_spec){.tp = 4, .ep = 4, .experts = 8, .topk = 2, .balanced = true});
}

/* Totals by expert and layer do not depend on the layout when the global batch is the same. */
static void test_layout_independent(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.experts = 8, .topk = 2, .microbatches = 8, .micro_batch = 2},
        {.experts = 8, .topk = 2, .microbatches = 2, .micro_batch = 4, .dp = 2, .ep = 2},
        {.experts = 8,
         .topk = 2,
         .microbatches = 4,
         .micro_batch = 4,
         .tp = 4,
         .ep = 4,
         .sequence_parallel = true},
    };
    tdm_arena arena = {0};
    uint64_t totals[3][8] = {{0}};
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_scenario scenario = support_scenario(&arena, &specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        for (uint32_t replica = 0; replica < plan.routing.n_replicas; replica++)
            for (uint32_t mb = 0; mb < plan.num_microbatches; mb++)
                for (uint32_t e = 0; e < 8; e++)
                    totals[i][e] += tdm_plan_experts(&plan, replica * plan.mesh.ep, 1, mb)[e];
    }
    assert_memory_equal(totals[0], totals[1], sizeof totals[0]);
    assert_memory_equal(totals[0], totals[2], sizeof totals[0]);
    tdm_arena_free(&arena);
}

static void test_balanced_is_exact(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(
        &arena, &(support_spec){.tp = 4, .ep = 4, .experts = 8, .topk = 2, .balanced = true});
    tdm_plan plan = support_plan(&arena, &scenario);
    for (uint32_t e = 0; e < 8; e++)
        assert_int_equal(tdm_plan_experts(&plan, 0, 0, 0)[e], 2 * 32 * 2 / 8);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts_are_distinct_and_in_range),
        cmocka_unit_test(test_pairs_are_uniform),
        cmocka_unit_test(test_table_equals_recount),
        cmocka_unit_test(test_layout_independent),
        cmocka_unit_test(test_balanced_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
