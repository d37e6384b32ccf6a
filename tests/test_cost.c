/* test_cost.c: the bytes behind the durations of memory-bound products, by hand. */
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { TOKENS = 64, H = 64 }; /* of the support scenarios: b s, h */

/* Duration of the rank's first op of that name, on a device so slow at memory that nothing else
 * counts. */
static double bytes_of(tdm_arena *arena, const support_spec *spec, const char *name)
{
    tdm_scenario scenario = support_scenario(arena, spec);
    scenario.device.memory_bytes_per_s.value = 1e6;
    scenario.device.memory_efficiency.value = 1;
    tdm_plan plan = support_plan(arena, &scenario);
    tdm_machine machine = support_machine(&scenario);
    tdm_trace trace;
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    assert_int_equal(tdm_analytic_run(arena, &plan, &machine, &trace, err), TDM_OK);
    tdm_cursor cursor;
    tdm_instance in;
    tdm_cursor_init(&cursor, &plan, 0);
    while (tdm_cursor_next(&cursor, &in)) {
        const tdm_span *span = &trace.ranks[0].spans[in.index];
        if (strcmp(in.op->name, name) == 0)
            return (span->end_s - span->start_s) * 1e6;
    }
    fail_msg("no op %s", name);
    return 0;
}

static void check(const support_spec *spec, const char *name, double expected)
{
    tdm_arena arena = {0};
    double bytes = bytes_of(&arena, spec, name);
    if (fabs(bytes - expected) > 1e-6 * expected)
        fail_msg("%s: %.3f bytes, not %.3f", name, bytes, expected);
    tdm_arena_free(&arena);
}

/* bf16 operands; a gradient of weights is added to an fp32 one: read and written. */
static void gemm(void **state)
{
    (void)state;
    const support_spec spec = {0};
    check(&spec, "qkv", 2.0 * (TOKENS * H + H * 3 * H + TOKENS * 3 * H));
    check(&spec, "qkv.dgrad", 2.0 * (TOKENS * H + H * 3 * H + TOKENS * 3 * H));
    check(&spec, "qkv.wgrad", 2.0 * (TOKENS * H + TOKENS * 3 * H) + 8.0 * H * 3 * H);
}

/* One rank with all 4 experts: every token comes twice. */
static void grouped(void **state)
{
    (void)state;
    const support_spec spec = {.experts = 4, .topk = 2};
    const double rows = 2 * TOKENS, f = 2 * H, weights = 4 * H * f;
    check(&spec, "fc1", 2 * (rows * (H + f) + weights));
    check(&spec, "fc1.dgrad", 2 * (rows * (H + f) + weights));
    check(&spec, "fc1.wgrad", 2 * rows * (H + f) + 8 * weights);
}

/* q, k, v and the output, in both directions; backward twice as much. Rotation leaves v alone. */
static void attention(void **state)
{
    (void)state;
    const support_spec spec = {.rope = true};
    check(&spec, "attention", 2.0 * TOKENS * 4 * H);
    check(&spec, "attention.bwd", 2.0 * TOKENS * 8 * H);
    check(&spec, "rope", 2.0 * TOKENS * 2 * 2 * H);
    check(&spec, "rope.bwd", 2.0 * TOKENS * 2 * 2 * H);
}

/* Reads a row of gradient per token, reads and writes fp32 rows of the table. */
static void embedding(void **state)
{
    (void)state;
    const support_spec rope = {.rope = true}, learned = {0};
    check(&rope, "lookup", 2.0 * TOKENS * 2 * H);
    check(&rope, "lookup.wgrad", 2.0 * TOKENS * H + 8.0 * TOKENS * H);
    check(&learned, "position.wgrad", 2.0 * TOKENS * H + 8.0 * 32 * H); /* s rows of positions */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm),
        cmocka_unit_test(grouped),
        cmocka_unit_test(attention),
        cmocka_unit_test(embedding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
