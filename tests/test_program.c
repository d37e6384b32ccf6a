/* test_program.c: the flat program: waits found, ops by stream, vector clocks against
 * happens-before by brute force. */
#include "core/program.h"
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
    const tdm_program *program = tdm_program_of(arena, plan, 0);
    uint32_t issued[TDM_N_STREAMS] = {0};
    assert_int_equal(program->n_ops, o.n_ops);
    for (uint32_t i = 0; i < o.n_ops; i++) {
        uint32_t expected[TDM_N_STREAMS] = {0};
        for (uint32_t a = 0; a < i; a++)
            expected[o.ops[a].op->stream] += o.before[a * o.n_ops + i];
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
            if (program->before[i].seen[s] != expected[s])
                fail_msg("op %u, stream %s: %u instead of %u", i, tdm_stream_name((tdm_stream)s),
                         program->before[i].seen[s], expected[s]);
        assert_ptr_equal(program->ops[i].op, o.ops[i].op);
        assert_int_equal(program->ops[i].index, i);
        assert_int_equal(program->number[i], ++issued[o.ops[i].op->stream]);
    }
}

/* The lists hold every op once, where the op says it is. */
static void check_lists(const tdm_program *p)
{
    uint32_t n = 0, n_comms = 0, n_routed = 0;
    for (uint32_t s = 0; s < TDM_N_STREAMS; n += p->n_on_stream[s++])
        for (uint32_t k = 0; k < p->n_on_stream[s]; k++) {
            assert_int_equal(p->stream[p->on_stream[s][k]], s);
            assert_int_equal(p->number[p->on_stream[s][k]], k + 1);
        }
    assert_int_equal(n, p->n_ops);
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const tdm_op *op = p->ops[i].op;
        assert_int_equal(p->stream[i], op->stream);
        if (tdm_op_is_comm(op)) {
            assert_int_equal(p->comm[i], n_comms);
            assert_int_equal(p->comm_op[n_comms], i);
            assert_int_equal(p->comm_key[n_comms], tdm_comm_key(op));
            const tdm_op *user = p->users[p->comm_user[n_comms++]].op;
            assert_int_equal(tdm_op_is_p2p(user->kind), tdm_op_is_p2p(op->kind));
            if (tdm_op_is_collective(op->kind))
                assert_int_equal(user->u.collective.group, op->u.collective.group);
        }
        if (n_routed < p->n_routed && p->routed[n_routed] == i) {
            assert_true(tdm_op_is_routed(op));
            n_routed++;
        } else {
            assert_false(tdm_op_is_routed(op));
        }
        for (uint32_t w = p->first_wait[i]; w < p->first_wait[i + 1]; w++) {
            assert_true(p->waits[w].op < i);
            assert_int_equal(p->stream[p->waits[w].op], p->waits[w].stream);
            assert_int_equal(p->number[p->waits[w].op], p->waits[w].number);
        }
    }
    assert_int_equal(n_comms, p->n_comms);
    assert_int_equal(n_routed, p->n_routed);
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
        const tdm_program *programs = tdm_programs_of(&arena, &plan);
        for (uint32_t r = 0; r < plan.n_roles; r++) {
            assert_ptr_equal(programs[r].role, &plan.roles[r]);
            assert_int_equal(plan.role_of[programs[r].rank], r);
            check_lists(&programs[r]);
        }
        tdm_arena_free(&arena);
    }
}

/* A plan of one rank with one pass of these ops. */
static tdm_plan plan_of_ops(tdm_arena *arena, const tdm_op *ops, uint32_t n_ops)
{
    tdm_pass *pass = TDM_ALLOC(arena, tdm_pass, 1);
    pass->kind = TDM_PASS_O;
    tdm_role *role = TDM_ALLOC(arena, tdm_role, 1);
    *role = (tdm_role){.passes = pass, .n_passes = 1, .optimizer = {ops, n_ops}};
    tdm_plan plan = {.roles = role, .n_roles = 1, .role_of = TDM_ALLOC(arena, uint16_t, 1)};
    assert_int_equal(tdm_mesh_init(&plan.mesh, 1, 1, 1, 1, 1, 1, NULL), TDM_OK);
    return plan;
}

/* Three ops of compute, then one of tp that waits for the n-th last: knows of 3 - n. */
static void tail_counts_back(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (uint32_t n = 0; n < 5; n++) {
        tdm_op compute = {.stream = TDM_STREAM_COMPUTE, .kind = TDM_OP_GEMM, .pass = TDM_PASS_O};
        tdm_wait wait = {TDM_STREAM_COMPUTE, TDM_WAIT_TAIL, n};
        tdm_op tp = {.stream = TDM_STREAM_TP,
                     .kind = TDM_OP_ALL_REDUCE,
                     .pass = TDM_PASS_O,
                     .waits = &wait,
                     .n_waits = 1};
        tdm_op ops[] = {compute, compute, compute, tp};
        tdm_plan plan = plan_of_ops(&arena, ops, TDM_COUNT(ops));
        const tdm_program *program = tdm_program_of(&arena, &plan, 0);
        assert_int_equal(program->first_wait[4] - program->first_wait[3], n < 3);
        if (n < 3)
            assert_int_equal(program->waits[program->first_wait[3]].op, 2 - n);
        assert_int_equal(program->before[3].seen[TDM_STREAM_COMPUTE], n < 3 ? 3 - n : 0);
        assert_int_equal(program->number[3], 1);
        check_lists(program);
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
