/* test_routing_skew.c: skewed routing: choices follow the popularity whatever the layout, full
 * experts drop what comes last, and the hot rank pays for it in memory. */
#include "core/figures.h"
#include "core/plan_text.h"
#include "core/routing.h"
#include "core/routing_csv.h"
#include "core/verify.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 8, LAYERS = 3 };

static const double weights[LAYERS * N] = {1, 2, 3, 4, 5, 6, 7, 8,   3, 3, 3, 3,
                                           3, 3, 3, 3, 9, 1, 1, 0.5, 2, 4, 8, 1};
static const tdm_routing_record record = {"test", LAYERS, N, weights};

static const tdm_routing skews[] = {
    {.model = TDM_ROUTING_ZIPF, .seed = 7, .exponent = 1},
    {.model = TDM_ROUTING_DIRICHLET, .seed = 7, .concentration = 8},
    {.model = TDM_ROUTING_HOT, .seed = 7, .hot_expert = 5, .hot_share = 0.3},
    {.model = TDM_ROUTING_RECORDED, .seed = 7, .record = &record},
};

/* Ordered pairs (a, b) come with p[a] * p[b] / (1 - p[a]): chi-squared over all of them. */
static void test_choices_follow_popularity(void **state)
{
    (void)state;
    enum { DRAWS = 400000 };
    for (size_t s = 0; s < TDM_COUNT(skews); s++) {
        tdm_arena arena = {0};
        const tdm_popularity *popularity = NULL;
        assert_int_equal(tdm_popularity_build(&arena, &skews[s], LAYERS, N, 2, &popularity, NULL),
                         TDM_OK);
        tdm_routing_key key = {skews[s].model, 99, N, 2, 1000, popularity};
        for (uint32_t layer = 0; layer < LAYERS; layer++) {
            double p[N], sum = 0, chi2 = 0;
            static uint32_t counts[N][N];
            memset(counts, 0, sizeof counts);
            tdm_popularity_shares(&skews[s], layer, N, p);
            for (uint32_t i = 0; i < DRAWS; i++) {
                uint32_t e[2];
                tdm_routing_experts(&key, 0, layer, i / 1000, i % 1000, e);
                counts[e[0]][e[1]]++;
            }
            for (int a = 0; a < N; a++) {
                sum += p[a];
                assert_int_equal(counts[a][a], 0);
                for (int b = 0; b < N; b++) {
                    double expected = DRAWS * p[a] * p[b] / (1 - p[a]);
                    if (a != b)
                        chi2 += (counts[a][b] - expected) * (counts[a][b] - expected) / expected;
                }
            }
            assert_true(fabs(sum - 1) < 1e-12);
            /* 55 degrees of freedom: mean 55, standard deviation 10.5. */
            if (chi2 < 55 - 5 * 10.5 || chi2 > 55 + 5 * 10.5)
                fail_msg("model %zu, layer %u: chi-squared %g", s, layer, chi2);
        }
        tdm_arena_free(&arena);
    }
}

static void test_shapes(void **state)
{
    (void)state;
    double p[N], q[N];
    tdm_popularity_shares(&skews[2], 0, N, p);
    assert_true(fabs(p[5] - 0.3) < 1e-15 && fabs(p[0] - 0.1) < 1e-15);
    tdm_popularity_shares(&skews[3], 2, N, p);
    assert_true(fabs(p[0] - 9 / 26.5) < 1e-15 && fabs(p[3] - 0.5 / 26.5) < 1e-15);
    /* Zipf: 1, 1/2, 1/3 ... in another order in each layer. */
    tdm_popularity_shares(&skews[0], 0, N, p);
    tdm_popularity_shares(&skews[0], 1, N, q);
    assert_memory_not_equal(p, q, sizeof p);
    double harmonic = 0;
    for (int i = 1; i <= N; i++)
        harmonic += 1.0 / i;
    for (int i = 1; i <= N; i++) {
        int n_found = 0;
        for (int e = 0; e < N; e++)
            n_found += fabs(p[e] - 1 / (i * harmonic)) < 1e-15;
        assert_int_equal(n_found, 1);
    }
    /* Dirichlet: the variance of a share is (1/n)(1 - 1/n)/(n c + 1). */
    double variance = 0;
    for (uint32_t layer = 0; layer < 4000; layer++) {
        tdm_popularity_shares(&skews[1], layer, N, p);
        variance += (p[layer % N] - 1.0 / N) * (p[layer % N] - 1.0 / N) / 4000;
    }
    double expected = 1.0 / N * (1 - 1.0 / N) / (N * 8 + 1);
    assert_true(fabs(variance / expected - 1) < 0.15);
    tdm_routing other = skews[1];
    other.seed++;
    tdm_popularity_shares(&other, 0, N, q);
    tdm_popularity_shares(&skews[1], 0, N, p);
    assert_memory_not_equal(p, q, sizeof p);
}

/* All experts of a token are distinct also where nearly all weight lies on one. */
static void test_extreme_shares(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const tdm_routing extreme[] = {
        {.model = TDM_ROUTING_HOT, .hot_expert = 2, .hot_share = 0.999999},
        {.model = TDM_ROUTING_ZIPF, .exponent = 16},
        {.model = TDM_ROUTING_DIRICHLET, .concentration = 0.001},
    };
    for (size_t s = 0; s < TDM_COUNT(extreme); s++) {
        const tdm_popularity *popularity = NULL;
        assert_int_equal(tdm_popularity_build(&arena, &extreme[s], 20, N, N, &popularity, NULL),
                         TDM_OK);
        tdm_routing_key key = {extreme[s].model, 5, N, N, 1000, popularity};
        for (uint32_t i = 0; i < 2000; i++) {
            uint32_t e[N], seen = 0;
            tdm_routing_experts(&key, 0, i % 20, 0, i, e);
            for (uint32_t j = 0; j < N; j++)
                seen |= 1u << e[j];
            assert_int_equal(seen, (1u << N) - 1);
        }
    }
    const tdm_popularity *popularity = NULL;
    const tdm_routing all = {.model = TDM_ROUTING_HOT, .hot_share = 1};
    assert_int_equal(tdm_popularity_build(&arena, &all, 1, N, 2, &popularity, NULL), TDM_E_INVALID);
    tdm_arena_free(&arena);
}

static tdm_plan skewed_plan(tdm_arena *arena, const support_spec *spec, const tdm_routing *routing,
                            double capacity_factor)
{
    tdm_scenario scenario = support_scenario(arena, spec);
    scenario.routing = *routing;
    scenario.routing.capacity_factor = capacity_factor;
    return support_plan(arena, &scenario);
}

/* Pairs that reach each expert, by layer and microbatch, are those of a walk over all tokens in
 * their order: drops included, and whatever the split. */
static void test_counts_equal_a_walk(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.experts = N, .topk = 2, .layers = LAYERS},
        {.experts = N, .topk = 2, .layers = LAYERS, .tp = 4, .ep = 4},
        {.experts = N, .topk = 2, .layers = LAYERS, .tp = 4, .ep = 2},
        {.experts = N, .topk = 3, .layers = LAYERS, .dp = 4, .ep = 4},
        {.experts = N, .topk = 2, .layers = LAYERS, .tp = 2, .dp = 2, .ep = 4},
    };
    static const double factors[] = {0, 0.5, 1.25};
    for (size_t i = 0; i < TDM_COUNT(specs) * TDM_COUNT(factors) * TDM_COUNT(skews); i++) {
        tdm_arena arena = {0};
        double factor = factors[i / TDM_COUNT(specs) % TDM_COUNT(factors)];
        const tdm_routing *routing = &skews[i / TDM_COUNT(specs) / TDM_COUNT(factors)];
        tdm_plan plan = skewed_plan(&arena, &specs[i % TDM_COUNT(specs)], routing, factor);
        tdm_routing_key key;
        assert_int_equal(tdm_routing_key_make(&arena, &plan, &key, NULL), TDM_OK);
        uint32_t tokens = plan.micro_batch_size * plan.seq_length;
        uint32_t even = tokens * key.topk / N;
        uint32_t capacity = factor > 0 ? (uint32_t)ceil(even * factor) : UINT32_MAX;
        for (uint32_t layer = 0; layer < LAYERS; layer++)
            for (uint32_t mb = 0; mb < plan.num_microbatches; mb++) {
                uint32_t all[N] = {0}, seen[N] = {0};
                for (uint32_t d = 0; d < plan.mesh.dp; d++) {
                    uint32_t taken[N] = {0};
                    for (uint32_t t = 0; t < tokens; t++) {
                        uint32_t e[N];
                        uint64_t sample = ((uint64_t)mb * plan.mesh.dp + d) * plan.micro_batch_size;
                        tdm_routing_experts(&key, 0, layer, sample + t / plan.seq_length,
                                            t % plan.seq_length, e);
                        for (uint32_t j = 0; j < key.topk; j++)
                            taken[e[j]] += taken[e[j]] < capacity;
                    }
                    for (uint32_t e = 0; e < N; e++)
                        all[e] += taken[e];
                }
                for (uint32_t r = 0; r < plan.routing.n_replicas; r++)
                    for (uint32_t e = 0; e < N; e++)
                        seen[e] += tdm_plan_experts(&plan, r * plan.mesh.ep, layer, mb)[e];
                assert_memory_equal(all, seen, sizeof all);
            }
        tdm_verify_report report;
        tdm_error err = {0};
        if (tdm_verify_plan(&plan, &report, &err) != TDM_OK)
            fail_msg("%s", err.text);
        tdm_arena_free(&arena);
    }
}

/* 64 tokens, top-2 of 8 experts: 16 each at factor 1; a hot expert asks for more and gets 16. */
static void test_capacity_by_hand(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.experts = N, .topk = 2, .tp = 4, .ep = 4};
    tdm_plan plan = skewed_plan(&arena, &spec, &skews[2], 1);
    assert_int_equal(tdm_routing_capacity(&plan.routing_spec, 64, 2, N), 16);
    assert_int_equal(tdm_plan_experts(&plan, 0, 1, 2)[5], 16);
    tdm_routing spec_of = {.capacity_factor = 1.1};
    assert_int_equal(tdm_routing_capacity(&spec_of, 64, 2, N), 18); /* 17.6 */
    spec_of.capacity_factor = 0;
    assert_true(tdm_routing_capacity(&spec_of, 64, 2, N) == UINT64_MAX);
    /* A plan that drops passes for none that does not. */
    tdm_verify_report report;
    plan.routing_spec.capacity_factor = 0;
    assert_int_not_equal(tdm_verify_plan(&plan, &report, NULL), TDM_OK);
    tdm_arena_free(&arena);
}

static void test_recorded_file(void **state)
{
    (void)state;
    static const char text[] = "layer,expert,count\n# from a run\n0,1,10\r\n0, 2 ,2.5e1\n1,0,1\n"
                               "1,3,0\n1,2,4\n";
    tdm_arena arena = {0};
    tdm_error err = {0};
    tdm_routing_record read = {0};
    const tdm_model model = {.num_layers = 2, .num_experts = 4, .moe_router_topk = 2};
    const double expected[] = {0, 10, 25, 0, 1, 0, 4, 0};
    assert_int_equal(
        tdm_routing_csv_parse(&arena, "r.csv", text, strlen(text), &model, &read, &err), TDM_OK);
    assert_memory_equal(read.weights, expected, sizeof expected);
    assert_int_equal(tdm_routing_csv_parse(&arena, "r.csv", text, 0, &model, &read, &err),
                     TDM_E_INVALID);
    tdm_arena_free(&arena);
}

/* What the text says of the routing reads back, and the same text follows from it. */
static void test_plan_text(void **state)
{
    (void)state;
    for (size_t s = 0; s < TDM_COUNT(skews); s++) {
        tdm_arena arena = {0};
        tdm_error err = {0};
        const support_spec spec = {.experts = N, .topk = 2, .layers = LAYERS, .dp = 4, .ep = 4};
        tdm_plan plan = skewed_plan(&arena, &spec, &skews[s], 1.1), again = {0};
        char *text = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&text, &length);
        assert_int_equal(tdm_plan_write(&plan, file, &err), TDM_OK);
        fclose(file);
        if (tdm_plan_parse(&arena, "p.txt", text, length, &again, &err) != TDM_OK)
            fail_msg("%s", err.text);
        free(text);
        assert_true(tdm_plan_hash(&plan) == tdm_plan_hash(&again));
        const tdm_routing *a = &plan.routing_spec, *b = &again.routing_spec;
        assert_true(a->model == b->model && a->seed == b->seed && a->hot_expert == b->hot_expert);
        assert_memory_equal(&a->exponent, &b->exponent, sizeof a->exponent);
        assert_memory_equal(&a->concentration, &b->concentration, sizeof a->concentration);
        assert_memory_equal(&a->hot_share, &b->hot_share, sizeof a->hot_share);
        assert_memory_equal(&a->capacity_factor, &b->capacity_factor, sizeof a->capacity_factor);
        tdm_arena_free(&arena);
    }
}

/* The rank of the hot expert needs most memory, less with a capacity, and the figures name it. */
static void test_hot_rank(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.experts = N, .topk = 2, .tp = 4, .ep = 4, .seq = 256};
    uint64_t peak[2];
    for (int i = 0; i < 2; i++) {
        tdm_scenario sc = support_scenario(&arena, &spec);
        sc.routing = skews[2];
        sc.routing.capacity_factor = i;
        tdm_plan plan = support_plan(&arena, &sc);
        tdm_machine machine = support_machine(&sc);
        tdm_layout *layouts = TDM_ALLOC(&arena, tdm_layout, plan.mesh.world);
        tdm_trace trace = {0};
        tdm_figures f = {0};
        assert_int_equal(tdm_layout_build_all(&arena, &plan, false, layouts, NULL), TDM_OK);
        assert_int_equal(tdm_analytic_run(&arena, &plan, &machine, &trace, NULL), TDM_OK);
        assert_int_equal(tdm_figures_compute(&arena, &plan, &trace, layouts, &machine, &f, NULL),
                         TDM_OK);
        peak[i] = f.ranks[2].peak_memory_bytes; /* holds experts 4 and 5 */
        uint64_t kept = 0, received = 0;
        for (uint32_t layer = 0; layer < plan.model.num_layers; layer++)
            for (uint32_t mb = 0; mb < plan.num_microbatches; mb++)
                for (uint32_t rank = 0; rank < 4; rank++) {
                    kept += tdm_plan_tokens(&plan, rank, layer, mb);
                    received += rank == 2 ? tdm_plan_tokens(&plan, rank, layer, mb) : 0;
                }
        double offered = 2.0 * 256 * 2 * plan.model.num_layers * plan.num_microbatches;
        assert_true(fabs(f.dropped_fraction - (1 - (double)kept / offered)) < 1e-12);
        assert_true((f.dropped_fraction > 0.05) == (i == 1));
        if (i == 1)
            continue;
        assert_int_equal(f.hot_rank, 2);
        assert_int_equal(f.hot_expert, 5);
        assert_true(fabs(f.hot_rank_share - 4 * (double)received / (double)kept) < 1e-12);
        assert_true(f.hot_rank_share > 1.3);
        for (uint32_t rank = 0; rank < 4; rank++)
            assert_true(rank == 2 || f.ranks[rank].peak_memory_bytes < peak[0]);
    }
    assert_true(peak[1] < peak[0]);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choices_follow_popularity),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_extreme_shares),
        cmocka_unit_test(test_counts_equal_a_walk),
        cmocka_unit_test(test_capacity_by_hand),
        cmocka_unit_test(test_recorded_file),
        cmocka_unit_test(test_plan_text),
        cmocka_unit_test(test_hot_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
