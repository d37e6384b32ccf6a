/* test_hb.c: vector clocks against happens-before by brute force. */
#include "core/layout.h"
#include "tests/support.h"
#include "tests/support_edit.h"
#include "tests/support_order.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Every op's clock counts exactly the ops of each stream that are before it. */
static void check_clocks(tdm_arena *arena, const tdm_plan *plan)
{
    order o = order_of(arena, plan);
    tdm_hb *hb = tdm_hb_new(arena, plan->roles[plan->role_of[0]].n_passes);
    uint32_t issued[TDM_N_STREAMS] = {0};
    for (uint32_t i = 0; i < o.n_ops; i++) {
        tdm_clock clock;
        uint32_t position, expected[TDM_N_STREAMS] = {0};
        tdm_hb_step(hb, &o.ops[i], &clock, &position);
        for (uint32_t a = 0; a < i; a++)
            expected[o.ops[a].op->stream] += o.before[a * o.n_ops + i];
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
            if (clock.seen[s] != expected[s])
                fail_msg("op %u, stream %s: %u instead of %u", i, tdm_stream_name((tdm_stream)s),
                         clock.seen[s], expected[s]);
        assert_int_equal(position, ++issued[o.ops[i].op->stream]);
    }
}

static void random_programs(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (uint32_t round = 0; round < 60; round++) {
        tdm_arena arena = {0};
        tdm_plan plan = edit_random_plan(&arena, &seed);
        check_clocks(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

static void lowered_programs(void **state)
{
    (void)state;
    static const support_spec specs[] = {
        {.tp = 2, .pp = 2},
        {.tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2, .schedule = "zb-h1"}};
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        check_clocks(&arena, &plan);
        tdm_arena_free(&arena);
    }
}

/* Three ops of compute, then one of tp that waits for the n-th last: knows of 3 - n. */
static void tail_counts_back(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (uint32_t n = 0; n < 5; n++) {
        tdm_hb *hb = tdm_hb_new(&arena, 1);
        tdm_op compute = {.stream = TDM_STREAM_COMPUTE};
        tdm_wait wait = {TDM_STREAM_COMPUTE, TDM_WAIT_TAIL, n};
        tdm_op tp = {.stream = TDM_STREAM_TP, .waits = &wait, .n_waits = 1};
        tdm_clock clock;
        uint32_t position;
        for (uint32_t i = 0; i < 3; i++)
            tdm_hb_step(hb, &(tdm_instance){.op = &compute, .index = i}, &clock, &position);
        tdm_hb_step(hb, &(tdm_instance){.op = &tp, .index = 3}, &clock, &position);
        assert_int_equal(clock.seen[TDM_STREAM_COMPUTE], n < 3 ? 3 - n : 0);
        assert_int_equal(position, 1);
    }
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tail_counts_back),
        cmocka_unit_test(random_programs),
        cmocka_unit_test(lowered_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
