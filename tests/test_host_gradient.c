/* test_host_gradient.c: the reference itself: gradients of one rank are slopes of its loss, by
 * central differences along the gradient and along random directions, parameter by parameter. */
#include "backend/host/host.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_host.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* One direction in one parameter's space, and how far along it. */
typedef struct shift {
    const char *kind, *param;
    uint32_t layer;
    const float *direction;
    double by;
    bool done;
} shift;

static void move_weights(void *context, const tdm_plan *plan, uint32_t rank, float *weights)
{
    shift *s = context;
    uint64_t count, at = host_weight_place(plan, rank, s->kind, s->param, s->layer, &count);
    if (at == UINT64_MAX)
        return;
    s->done = true;
    for (uint64_t i = 0; i < count; i++)
        weights[at + i] += (float)(s->by * s->direction[i]);
}

static double loss_at(const char *what, const tdm_scenario *sc, shift *s, double by)
{
    tdm_arena arena = {0};
    host_outcome outcome;
    s->by = by;
    host_run(&arena, what, sc, TDM_EXEC_ARENA, 1, NULL, move_weights, s, &outcome);
    double loss = outcome.loss[0];
    tdm_arena_free(&arena);
    return loss;
}

static double norm_of(const float *values, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += (double)values[i] * values[i];
    return sqrt(sum);
}

/* A step short enough for the curvature of a norm over few numbers. A loss of 4 in fp32 knows its
 * slope to some NOISE then; gradients shorter than LEAST are not told from it. */
static const double STEP = 2e-3, NOISE = 1e-4, LEAST = 5e-3;

static void check_direction(const char *what, const tdm_scenario *sc, const host_entry *e,
                            const float *direction, double tolerance)
{
    shift s = {.kind = e->kind, .param = e->param, .layer = e->layer, .direction = direction};
    double slope = (loss_at(what, sc, &s, STEP) - loss_at(what, sc, &s, -STEP)) / (2 * STEP);
    double expected = 0, size = norm_of(e->gradients[0], e->count);
    for (uint64_t i = 0; i < e->count; i++)
        expected += (double)direction[i] * e->gradients[0][i];
    assert_true(s.done);
    if (!(fabs(slope - expected) <= tolerance * size + NOISE))
        fail_msg("%s: %s %s, layer %u: the loss rises by %.6g, the gradient says %.6g (its length "
                 "is %.3g)",
                 what, e->kind, e->param, e->layer, slope, expected, size);
}

static void check_entry(const char *what, const tdm_scenario *sc, const host_entry *e,
                        uint64_t *state)
{
    tdm_arena arena = {0};
    float *direction = TDM_ALLOC(&arena, float, e->count);
    double size = norm_of(e->gradients[0], e->count), unit = 1 / sqrt((double)e->count);
    for (uint64_t i = 0; i < e->count; i++)
        direction[i] = size > 0 ? (float)(e->gradients[0][i] / size) : (float)unit;
    check_direction(what, sc, e, direction, 0.02);
    for (uint64_t i = 0; i < e->count; i++)
        direction[i] = edit_random(state, 2) ? (float)unit : (float)-unit;
    check_direction(what, sc, e, direction, 0.02);
    tdm_arena_free(&arena);
}

static void check_model(const char *what, const tdm_scenario *sc)
{
    tdm_arena arena = {0};
    host_book book = host_book_new(&arena);
    host_outcome outcome;
    uint64_t state = 1;
    uint32_t n_large = 0;
    host_run(&arena, what, sc, TDM_EXEC_CHECKED, 1, &book, NULL, NULL, &outcome);
    for (uint32_t i = 0; i < book.n_entries; i++) {
        n_large += norm_of(book.entries[i].gradients[0], book.entries[i].count) > LEAST;
        check_entry(what, sc, &book.entries[i], &state);
    }
    assert_true(n_large * 10 >= book.n_entries * 8);
    tdm_arena_free(&arena);
}

static tdm_scenario small(tdm_arena *arena, const support_spec *given)
{
    support_spec spec = *given;
    spec.layers = 2;
    spec.hidden = 16;
    spec.heads = 4;
    spec.seq = 8;
    spec.microbatches = 2;
    tdm_scenario sc = support_scenario(arena, &spec);
    sc.model.vocab_size = 24;
    sc.training.dtype = sc.training.grad_dtype = TDM_DTYPE_FP32;
    return sc;
}

static void test_dense(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = small(&arena, &(support_spec){.bias = true});
    check_model("layer norm, GELU, learned positions", &sc);
    sc = small(&arena, &(support_spec){.unfused = true, .dropout = true, .tied = true});
    check_model("unfused attention, dropout, tied", &sc);
    sc = small(&arena, &(support_spec){.swiglu = true, .rope = true});
    sc.model.norm = TDM_NORM_RMS;
    sc.model.num_query_groups = 2;
    sc.model.add_qkv_bias = true;
    check_model("RMS norm, SwiGLU, RoPE, grouped queries", &sc);
    tdm_arena_free(&arena);
}

static void test_attention_extras(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (int unfused = 0; unfused < 2; unfused++) {
        tdm_scenario sc =
            small(&arena, &(support_spec){.unfused = unfused, .rope = true, .dropout = unfused});
        sc.model.qk_layernorm = sc.model.attention_sinks = sc.model.add_attention_bias = true;
        sc.model.num_query_groups = 2;
        check_model("norms of queries and keys, sinks", &sc);
    }
    tdm_arena_free(&arena);
}

static void test_experts(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario sc = small(&arena, &(support_spec){.experts = 4, .topk = 2, .bias = true});
    check_model("experts", &sc);
    sc = small(&arena, &(support_spec){.experts = 4, .topk = 2, .shared = 24, .swiglu = true});
    sc.routing.model = TDM_ROUTING_HOT;
    sc.routing.hot_share = 0.6;
    sc.routing.capacity_factor = 1;
    check_model("shared experts, drops", &sc);
    sc.routing.pad_to_capacity = true;
    check_model("experts padded to their capacity", &sc);
    tdm_arena_free(&arena);
}

int main(void)
{
    if (tdm_host_absent()) {
        printf("skipped: %s\n", tdm_host_absent());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_attention_extras),
        cmocka_unit_test(test_experts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
