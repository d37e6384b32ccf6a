/* Communicators, flows and latencies of the ops of whole plans. */
#include "support.h"
#include "support_planes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_IDS = 512, MAX_WORLD = 64 };

/* Who was seen on a communicator. */
typedef struct seen {
    uint64_t id;
    uint32_t n_members;
    bool member[MAX_WORLD];
} seen;

typedef struct seen_table {
    seen ids[MAX_IDS];
    uint32_t n;
} seen_table;

static seen *find(seen_table *table, tdm_comm_id id)
{
    for (uint32_t i = 0; i < table->n; i++)
        if (table->ids[i].id == id.id)
            return &table->ids[i];
    assert_true(table->n < MAX_IDS);
    table->ids[table->n] = (seen){.id = id.id, .n_members = id.n_members};
    return &table->ids[table->n++];
}

/* The ranks that an op's communicator must have, from the mesh alone. */
static void expect_members(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance,
                           bool *member)
{
    memset(member, 0, MAX_WORLD * sizeof *member);
    member[rank] = true;
    if (tdm_op_is_p2p(instance->op->kind)) {
        uint32_t peer = tdm_plan_peer(plan, rank, instance);
        if (peer != UINT32_MAX)
            member[peer] = true;
        return;
    }
    tdm_group group = tdm_mesh_group(&plan->mesh, instance->op->u.collective.group, rank);
    for (uint32_t i = 0; i < group.size; i++)
        member[tdm_group_member(&group, i)] = true;
}

/* Every id is used by exactly the ranks of one group, and by as many as it says. */
static void check_ids(const tdm_plan *plan)
{
    static seen_table table;
    memset(&table, 0, sizeof table);
    static bool all_members[MAX_IDS][MAX_WORLD];
    memset(all_members, 0, sizeof all_members);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance instance; tdm_cursor_next(&cursor, &instance);) {
            if (!tdm_op_is_collective(instance.op->kind) && !tdm_op_is_p2p(instance.op->kind))
                continue;
            tdm_comm_id id = tdm_comm_identify(plan, rank, &instance);
            seen *entry = find(&table, id);
            assert_int_equal(entry->n_members, id.n_members);
            entry->member[rank] = true;
            bool expected[MAX_WORLD];
            expect_members(plan, rank, &instance, expected);
            uint32_t n = 0;
            for (uint32_t r = 0; r < plan->mesh.world; r++)
                n += expected[r];
            assert_int_equal(n, id.n_members);
            size_t k = (size_t)(entry - table.ids);
            bool first = true;
            for (uint32_t r = 0; r < MAX_WORLD; r++)
                first = first && !all_members[k][r];
            if (first)
                memcpy(all_members[k], expected, sizeof expected);
            assert_memory_equal(all_members[k], expected, sizeof expected);
        }
    }
    for (uint32_t i = 0; i < table.n; i++)
        assert_memory_equal(table.ids[i].member, all_members[i], sizeof table.ids[i].member);
}

/* Every op with partners has flows with a path, and a latency; a message is one flow of its bytes.
 */
static void check_flows(tdm_arena *arena, const tdm_plan *plan, const tdm_topology *topology)
{
    tdm_net *net = tdm_net_new(arena, topology);
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_cursor cursor;
        tdm_cursor_init(&cursor, plan, rank);
        for (tdm_instance instance; tdm_cursor_next(&cursor, &instance);) {
            if (!tdm_op_is_collective(instance.op->kind) && !tdm_op_is_p2p(instance.op->kind))
                continue;
            tdm_transfer transfer = tdm_comm_transfer(plan, net, rank, &instance);
            bool alone = tdm_comm_identify(plan, rank, &instance).n_members < 2;
            assert_true(alone == (transfer.n_loads == 0));
            assert_true(alone ? transfer.latency_s == 0 : transfer.latency_s > 0);
            assert_true(tdm_net_time(arena, net, transfer.loads, transfer.n_loads) >= 0);
            if (tdm_op_is_p2p(instance.op->kind) && !alone) {
                bool sends = instance.op->kind == TDM_OP_SEND;
                uint64_t bytes = instance.op->u.p2p.bytes;
                uint32_t peer = tdm_plan_peer(plan, rank, &instance);
                assert_int_equal(transfer.n_loads, 1);
                assert_true(support_gpu_bytes(net, &transfer, rank, !sends) == bytes);
                assert_true(support_gpu_bytes(net, &transfer, peer, sends) == bytes);
            }
        }
    }
}

static void every_plan(void **state)
{
    (void)state;
    for (size_t s = 0; s < support_n_specs; s++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &support_specs[s]);
        tdm_plan plan = support_plan(&arena, &scenario);
        tdm_topology topology = support_switch(&arena, plan.mesh.world < 2 ? 2 : plan.mesh.world);
        topology.collective_launch_s.value = 5e-6;
        topology.p2p_launch_s.value = 3e-6;
        check_ids(&plan);
        check_flows(&arena, &plan, &topology);
        tdm_arena_free(&arena);
    }
}

/* The launch times of the topology are in the latencies, once. */
static void launch_times(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.tp = 2, .pp = 2};
    tdm_scenario scenario = support_scenario(&arena, &spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_topology topology = support_switch(&arena, 4);
    tdm_topology slower = topology;
    slower.collective_launch_s.value = topology.collective_launch_s.value + 7e-6;
    slower.p2p_launch_s.value = topology.p2p_launch_s.value + 4e-6;
    tdm_net *net = tdm_net_new(&arena, &topology), *slow_net = tdm_net_new(&arena, &slower);
    uint32_t n_p2p = 0, n_collectives = 0;
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, &plan, 0);
    for (tdm_instance instance; tdm_cursor_next(&cursor, &instance);) {
        bool p2p = tdm_op_is_p2p(instance.op->kind);
        if (!p2p && !tdm_op_is_collective(instance.op->kind))
            continue;
        if (tdm_comm_identify(&plan, 0, &instance).n_members < 2)
            continue;
        double base_s = tdm_comm_transfer(&plan, net, 0, &instance).latency_s;
        double more_s = tdm_comm_transfer(&plan, slow_net, 0, &instance).latency_s;
        double difference = more_s - base_s - (p2p ? 4e-6 : 7e-6);
        assert_true(difference > -1e-15 && difference < 1e-15);
        n_p2p += p2p;
        n_collectives += !p2p;
    }
    assert_true(n_p2p > 0 && n_collectives > 0);
    tdm_arena_free(&arena);
}

/* Directed communicators differ by direction, a shared one does not. */
static void directions(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.pp = 2};
    tdm_scenario scenario = support_scenario(&arena, &spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, &plan, 0);
    uint64_t ids[2][2] = {{0}}; /* [shared][receive] */
    for (tdm_instance instance; tdm_cursor_next(&cursor, &instance);) {
        if (!tdm_op_is_p2p(instance.op->kind))
            continue;
        for (int shared = 0; shared < 2; shared++) {
            tdm_op op = *instance.op;
            op.u.p2p.p2p = shared ? TDM_P2P_SHARED : TDM_P2P_DIRECTED;
            tdm_instance changed = instance;
            changed.op = &op;
            ids[shared][op.kind == TDM_OP_RECV] = tdm_comm_identify(&plan, 0, &changed).id;
        }
    }
    assert_true(ids[0][0] != 0 && ids[1][0] != 0);
    assert_true(ids[0][0] != ids[0][1]);
    assert_true(ids[1][0] == ids[1][1]);
    assert_true(ids[0][0] != ids[1][0]);
    tdm_arena_free(&arena);
}

/* With pass times a transfer is a time, not bytes. */
static void pass_times(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_scenario scenario = support_pass_times(&arena, 4, 6, "1f1b", 1e-3, 1e-3, 1e-3, 25e-6);
    tdm_plan plan = support_plan(&arena, &scenario);
    tdm_net *net = tdm_net_new(&arena, &scenario.topology);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, &plan, 1);
    uint32_t n = 0;
    for (tdm_instance instance; tdm_cursor_next(&cursor, &instance);) {
        if (!tdm_op_is_p2p(instance.op->kind))
            continue;
        tdm_transfer transfer = tdm_comm_transfer(&plan, net, 1, &instance);
        assert_int_equal(transfer.n_loads, 0);
        assert_true(transfer.latency_s == 25e-6);
        n++;
    }
    assert_int_equal(n, 4 * 6);
    check_ids(&plan);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_plan),
        cmocka_unit_test(launch_times),
        cmocka_unit_test(directions),
        cmocka_unit_test(pass_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
