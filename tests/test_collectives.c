/* Every registered collective on planes of several shapes: who sends to whom, how much, and what
 * that loads. */
#include "support.h"
#include "support_planes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_GPUS = 16, MAX_FLOWS = MAX_GPUS * MAX_GPUS };

enum { N_TOPOLOGIES = 3, SWITCH = 0, TWO_NODES, PCIE };

static tdm_topology load(tdm_arena *arena, int which)
{
    return which == SWITCH      ? support_planes_switch(arena)
           : which == TWO_NODES ? support_planes_two_nodes(arena, 2)
                                : support_planes_pcie(arena);
}

static tdm_group group_of(uint32_t size, uint32_t rank0, uint32_t step)
{
    return (tdm_group){.size = size, .rank0 = rank0, .step = step};
}

static double timed(tdm_arena *arena, const tdm_topology *topology, const tdm_flow *flows,
                    uint32_t n)
{
    tdm_net *net = tdm_net_new(arena, topology);
    return tdm_net_time(arena, net, support_loads(arena, net, flows, n), n);
}

typedef struct outcome {
    uint32_t n;
    tdm_flow flows[MAX_FLOWS];
    double latency_s;
    uint64_t sent[MAX_GPUS], received[MAX_GPUS]; /* by GPU */
} outcome;

static outcome carry_out(const tdm_collective *algorithm, const tdm_collective_call *call)
{
    outcome o = {0};
    o.latency_s = -1;
    o.n = algorithm->flows(call, o.flows, &o.latency_s);
    assert_true(o.n <= algorithm->max_flows(call->topology, call->group.size));
    assert_true(o.latency_s >= 0);
    for (uint32_t f = 0; f < o.n; f++) {
        assert_int_not_equal(o.flows[f].src, o.flows[f].dst);
        assert_true(tdm_group_index(&call->group, o.flows[f].src) < call->group.size);
        assert_true(tdm_group_index(&call->group, o.flows[f].dst) < call->group.size);
        o.sent[o.flows[f].src] += o.flows[f].bytes;
        o.received[o.flows[f].dst] += o.flows[f].bytes;
    }
    return o;
}

/* Calls check for every algorithm, topology and group (consecutive and strided) of 16 GPUs. */
static void for_all(void (*check)(const tdm_collective *algorithm, const tdm_collective_call *call))
{
    static const uint64_t sizes[] = {0, 1, 1000, 1000003, 33554432, 5000000000};
    tdm_arena arena = {0};
    for (int t = 0; t < N_TOPOLOGIES; t++) {
        tdm_topology topology = load(&arena, t);
        for (uint32_t a = 0; tdm_collectives[a]; a++)
            for (uint32_t step = 1; step <= 8; step *= 2)
                for (uint32_t n = 1; n * step <= MAX_GPUS; n++)
                    for (size_t s = 0; s < TDM_COUNT(sizes); s++)
                        check(tdm_collectives[a],
                              &(tdm_collective_call){.topology = &topology,
                                                     .group = group_of(n, step - 1, step),
                                                     .bytes = sizes[s]});
    }
    tdm_arena_free(&arena);
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static void check_one_member(const tdm_collective *algorithm, const tdm_collective_call *call)
{
    if (call->group.size > 1)
        return;
    outcome o = carry_out(algorithm, call);
    assert_int_equal(o.n, 0);
    assert_true(o.latency_s == 0);
}

static void one_member(void **state)
{
    (void)state;
    for_all(check_one_member);
}

/* What one member sends, in closed form; the least that any algorithm of that kind can do. */
static uint64_t least_sent(tdm_op_kind kind, uint64_t bytes, uint64_t n)
{
    switch (kind) {
    case TDM_OP_ALL_REDUCE:
        return divide_up(2 * (n - 1) * bytes, n);
    case TDM_OP_ALL_GATHER:
    case TDM_OP_REDUCE_SCATTER:
        return divide_up((n - 1) * bytes, n);
    case TDM_OP_ALL_TO_ALL:
        return (n - 1) * divide_up(bytes, n);
    default:
        return bytes;
    }
}

/* Every member sends and receives its share, to the rounding of a whole byte per ring. */
static void check_volume(const tdm_collective *algorithm, const tdm_collective_call *call)
{
    uint32_t n = call->group.size;
    if (n < 2)
        return;
    outcome o = carry_out(algorithm, call);
    uint64_t share = least_sent(algorithm->kind, call->bytes, n);
    bool broadcast = algorithm->kind == TDM_OP_BROADCAST;
    uint32_t root = tdm_group_member(&call->group, 0);
    uint64_t sent = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t gpu = tdm_group_member(&call->group, i);
        uint64_t expected = broadcast && gpu == root ? 0 : share;
        assert_true(o.received[gpu] >= expected && o.received[gpu] <= expected + n);
        if (!broadcast)
            assert_true(o.sent[gpu] >= expected && o.sent[gpu] <= expected + n);
        sent += o.sent[gpu];
    }
    assert_true(sent >= (n - broadcast) * share && sent <= (n - broadcast) * (share + n));
    assert_true(o.latency_s > 0);
}

static void volume(void **state)
{
    (void)state;
    for_all(check_volume);
}

/* Ring all-reduce on one node: 2(n-1)/n x bytes, rounded up, on every directed edge, and on nothing
 * else. */
static void check_ring_edges(const tdm_collective *algorithm, const tdm_collective_call *call)
{
    uint32_t n = call->group.size;
    if (n < 2 || strncmp(algorithm->name, "ring-all-reduce", 15) != 0 ||
        call->topology->n_planes > 1)
        return;
    outcome o = carry_out(algorithm, call);
    assert_int_equal(o.n, n);
    bool seen[MAX_GPUS] = {false};
    for (uint32_t f = 0; f < n; f++) {
        uint32_t i = tdm_group_index(&call->group, o.flows[f].src);
        assert_int_equal(o.flows[f].dst, tdm_group_member(&call->group, (i + 1) % n));
        assert_true(o.flows[f].bytes == divide_up(2 * (uint64_t)(n - 1) * call->bytes, n));
        assert_false(seen[i]);
        seen[i] = true;
    }
}

static void ring_edges(void **state)
{
    (void)state;
    for_all(check_ring_edges);
}

/* Two nodes of 8: eight rings, so that every adapter carries an eighth and every NVLink port the
 * rest. */
static void ring_over_nodes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, TWO_NODES);
    const tdm_collective *ring = tdm_collective_for(TDM_OP_ALL_REDUCE);
    tdm_collective_call call = {
        .topology = &topology, .group = group_of(16, 0, 1), .bytes = 1024 * 16 * 8};
    outcome o = carry_out(ring, &call);
    uint64_t one_ring = 2 * 15 * call.bytes / 16 / 8;
    uint64_t nic_up[16] = {0}, nvlink_up[16] = {0}, nic_down[16] = {0};
    for (uint32_t f = 0; f < o.n; f++) {
        bool across = o.flows[f].src / 8 != o.flows[f].dst / 8;
        *(across ? &nic_up[o.flows[f].src] : &nvlink_up[o.flows[f].src]) += o.flows[f].bytes;
        nic_down[o.flows[f].dst] += across ? o.flows[f].bytes : 0;
    }
    for (uint32_t g = 0; g < 16; g++) {
        assert_true(nic_up[g] == one_ring);
        assert_true(nic_down[g] == one_ring);
        assert_true(nvlink_up[g] == 7 * one_ring);
    }
    /* One member per node, or an uneven spread: one ring. */
    call.group = group_of(2, 3, 8);
    assert_int_equal(carry_out(ring, &call).n, 2);
    call.group = group_of(9, 0, 1);
    assert_int_equal(carry_out(ring, &call).n, 9);
    tdm_arena_free(&arena);
}

/* A pipelined ring waits for its first chunk only: 2 (n - 1) steps at the latency of one route. */
static void ring_latency(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_switch(&arena, 8);
    tdm_route route;
    assert_true(tdm_topology_route(&topology, 0, 1, &route));
    tdm_collective_call call = {.topology = &topology, .group = group_of(8, 0, 1), .bytes = 64};
    double latency_s = carry_out(tdm_collective_for(TDM_OP_ALL_REDUCE), &call).latency_s;
    assert_true(latency_s > 13.999 * route.latency_s && latency_s < 14.001 * route.latency_s);
    latency_s = carry_out(tdm_collective_for(TDM_OP_ALL_GATHER), &call).latency_s;
    assert_true(latency_s > 6.999 * route.latency_s && latency_s < 7.001 * route.latency_s);
    tdm_arena_free(&arena);
}

static const uint32_t counts[16] = {9, 1, 2, 3, /**/ 4, 9, 5, 6, /**/ 0, 20, 9, 0, /**/ 7, 0, 8, 9};

/* Pairs take the counts without the diagonal; the way back is the transpose. */
static void counted_pairs(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, PCIE);
    tdm_collective_call call = {
        .topology = &topology, .group = group_of(4, 2, 3), .counts = counts, .token_bytes = 2048};
    for (int way = 0; way < 2; way++) {
        call.a2a = way ? TDM_A2A_COMBINE : TDM_A2A_DISPATCH;
        outcome o = carry_out(tdm_collective_for(TDM_OP_ALL_TO_ALL), &call);
        assert_int_equal(o.n, 12);
        for (uint32_t f = 0; f < o.n; f++) {
            uint32_t src = tdm_group_index(&call.group, o.flows[f].src);
            uint32_t dst = tdm_group_index(&call.group, o.flows[f].dst);
            uint32_t count = way ? counts[dst * 4 + src] : counts[src * 4 + dst];
            assert_true(o.flows[f].bytes == 2048u * count);
        }
    }
    tdm_arena_free(&arena);
}

/* On one switch: the larger of what i sends and what i + 1 receives; alone it ends with the most
 * loaded port. */
static void counted_ports(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_switch(&arena, 4);
    tdm_collective_call call = {
        .topology = &topology, .group = group_of(4, 0, 1), .counts = counts, .token_bytes = 100};
    /* sent 6 15 20 15, received 11 21 15 9 */
    static const uint64_t dispatch[] = {2100, 1500, 2000, 1500},
                          combine[] = {1500, 2100, 1500, 900};
    for (int way = 0; way < 2; way++) {
        call.a2a = way ? TDM_A2A_COMBINE : TDM_A2A_DISPATCH;
        outcome o = carry_out(tdm_collective_for(TDM_OP_ALL_TO_ALL), &call);
        assert_int_equal(o.n, 4);
        for (uint32_t f = 0; f < 4; f++) {
            assert_int_equal(o.flows[f].dst, (o.flows[f].src + 1) % 4);
            assert_true(o.flows[f].bytes == (way ? combine : dispatch)[o.flows[f].src]);
        }
        double expected = 2100 / topology.links[0].bytes_per_s;
        double time = timed(&arena, &topology, o.flows, o.n);
        assert_true(time > expected * (1 - 1e-12) && time < expected * (1 + 1e-12));
    }
    tdm_arena_free(&arena);
}

/* Members' shares of 3, 7 and 2 rows: an all-gather spares each edge the share of the member at its
 * end, a reduce-scatter that of the member at its start. */
static void uneven_shares(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = support_switch(&arena, 8);
    /* [member][src][dst], column 1 counts */
    static const uint32_t sent[3][2][2] = {{{9, 1}, {9, 2}}, {{9, 0}, {9, 7}}, {{9, 2}, {9, 0}}};
    static const uint64_t rows[] = {3, 7, 2};
    tdm_collective_call call = {.topology = &topology,
                                .group = group_of(3, 1, 2),
                                .bytes = 1200,
                                .token_bytes = 100,
                                .received = {&sent[0][0][0], 4, 2, 1}};
    for (int scatters = 0; scatters < 2; scatters++) {
        outcome o = carry_out(
            tdm_collective_for(scatters ? TDM_OP_REDUCE_SCATTER : TDM_OP_ALL_GATHER), &call);
        assert_int_equal(o.n, 3);
        for (uint32_t f = 0; f < 3; f++) {
            assert_int_equal(o.flows[f].src, 1 + 2 * f);
            assert_int_equal(o.flows[f].dst, 1 + 2 * ((f + 1) % 3));
            uint64_t spared = rows[scatters ? f : (f + 1) % 3];
            assert_int_equal(o.flows[f].bytes, 100 * (12 - spared));
        }
    }
    tdm_arena_free(&arena);
}

/* Equal shares, said one by one, load every edge as a call without shares does, also over several
 * ports. */
static void even_shares(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = load(&arena, TWO_NODES);
    static const uint32_t five[8] = {5, 5, 5, 5, 5, 5, 5, 5};
    tdm_collective_call said = {.topology = &topology,
                                .group = group_of(8, 0, 2),
                                .bytes = 5 * 8 * 1000,
                                .token_bytes = 1000,
                                .received = {five, 1, 1, 0}};
    tdm_collective_call silent = said;
    silent.received = (tdm_received){.sent = NULL};
    for (int scatters = 0; scatters < 2; scatters++) {
        const tdm_collective *algorithm =
            tdm_collective_for(scatters ? TDM_OP_REDUCE_SCATTER : TDM_OP_ALL_GATHER);
        outcome a = carry_out(algorithm, &said), b = carry_out(algorithm, &silent);
        assert_int_equal(a.n, 16);
        assert_int_equal(a.n, b.n);
        for (uint32_t f = 0; f < a.n; f++)
            assert_memory_equal(&a.flows[f], &b.flows[f], sizeof a.flows[f]);
    }
    tdm_arena_free(&arena);
}

static void registry(void **state)
{
    (void)state;
    for (tdm_op_kind kind = 0; kind < TDM_N_OP_KINDS; kind++) {
        const tdm_collective *algorithm = tdm_collective_for(kind);
        assert_true((algorithm != NULL) == tdm_op_is_collective(kind));
        if (algorithm)
            assert_int_equal(algorithm->kind, kind);
    }
    for (uint32_t a = 0; tdm_collectives[a]; a++) {
        assert_true(strlen(tdm_collectives[a]->summary) > 10);
        for (uint32_t b = 0; b < a; b++)
            assert_string_not_equal(tdm_collectives[a]->name, tdm_collectives[b]->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry),        cmocka_unit_test(one_member),
        cmocka_unit_test(volume),          cmocka_unit_test(ring_edges),
        cmocka_unit_test(ring_over_nodes), cmocka_unit_test(ring_latency),
        cmocka_unit_test(counted_pairs),   cmocka_unit_test(counted_ports),
        cmocka_unit_test(uneven_shares),   cmocka_unit_test(even_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
