/* Max-min fair times: closed forms, and random sets against a slow solver written another way. */
#include "support.h"
#include "support_planes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_close(double value, double expected)
{
    if (fabs(value - expected) > 1e-11 * fabs(expected))
        fail_msg("%.17g instead of %.17g", value, expected);
}

/* Two switches of two GPUs, uplinks of 10 B/s that meet in a root, ports of 100 B/s; GPU 3's port
 * has 40 B/s. */
static tdm_topology tree(tdm_arena *arena)
{
    static const int32_t parent[] = {4, 4, 5, 5, 6, 6, -1};
    static const uint32_t up[] = {0, 2, 4, 6, 8, 10, 0}, down[] = {1, 3, 5, 7, 9, 11, 0};
    tdm_link *links = TDM_ALLOC(arena, tdm_link, 12);
    for (uint32_t l = 0; l < 12; l++)
        links[l] = (tdm_link){tdm_arena_printf(arena, "l%u", l),
                              l >= 8   ? 10
                              : l >= 6 ? 40
                                       : 100,
                              0};
    tdm_plane *plane = TDM_ALLOC(arena, tdm_plane, 1);
    *plane = (tdm_plane){"tree", 7, parent, up, down};
    return (tdm_topology){.n_gpus = 4,
                          .gpus_per_node = 4,
                          .n_links = 12,
                          .links = links,
                          .n_planes = 1,
                          .planes = plane};
}

static double timed(tdm_arena *arena, const tdm_topology *topology, const tdm_flow *flows,
                    uint32_t n)
{
    tdm_net *net = tdm_net_new(arena, topology);
    return tdm_net_time(arena, net, support_loads(arena, net, flows, n), n);
}

static void closed_forms(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = tree(&arena);
    const tdm_flow alone[] = {{0, 1, 1000}};
    assert_close(timed(&arena, &topology, alone, 1), 10);
    const tdm_flow narrow[] = {{2, 3, 1000}};
    assert_close(timed(&arena, &topology, narrow, 1), 25);
    const tdm_flow apart[] = {{0, 1, 1000}, {1, 0, 500}, {2, 3, 4000}};
    assert_close(timed(&arena, &topology, apart, 3), 100);
    const tdm_flow uplink[] = {{0, 2, 100},
                               {1, 3, 200}}; /* 5 B/s each; 100 left at 20 s, 10 B/s alone */
    assert_close(timed(&arena, &topology, uplink, 2), 30);
    /* 0 -> 2 gets 10 B/s on the uplink for 10 s, 0 -> 1 the other 90 of the port, then 100. */
    const tdm_flow rest[] = {{0, 2, 100}, {0, 1, 9000}};
    assert_close(timed(&arena, &topology, rest, 2), 10 + 81);
    assert_close(timed(&arena, &topology, alone, 0), 0);
    tdm_arena_free(&arena);
}

static void nothing_to_move(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = tree(&arena);
    const tdm_flow none[] = {{0, 1, 0}, {2, 2, 500}};
    assert_true(timed(&arena, &topology, none, 2) == 0);
    const tdm_flow some[] = {{0, 1, 0}, {0, 1, 1000}, {2, 2, 500}};
    assert_close(timed(&arena, &topology, some, 3), 10);
    tdm_arena_free(&arena);
}

static void no_route(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology topology = tree(&arena);
    tdm_plane cut = topology.planes[0];
    static const int32_t parent[] = {4, 4, 5, 5, -1, -1, -1};
    cut.parent = parent;
    topology.planes = &cut;
    const tdm_flow flows[] = {{0, 1, 10}, {0, 2, 0}};
    assert_true(timed(&arena, &topology, flows, 2) < 0);
    assert_close(timed(&arena, &topology, flows, 1), 0.1);
    tdm_arena_free(&arena);
}

/* The reference: a dense matrix of who crosses what, long double, one link fixed at a time, one
 * event at a time. */
enum { MAX_FLOWS = 256, MAX_LINKS = 128 };
typedef struct reference {
    uint32_t n_flows, n_links;
    bool crosses[MAX_LINKS][MAX_FLOWS];
    long double capacity[MAX_LINKS];
    long double left[MAX_FLOWS], rate[MAX_FLOWS];
} reference;

static void reference_rates(reference *r)
{
    bool fixed[MAX_FLOWS];
    for (uint32_t f = 0; f < r->n_flows; f++) {
        fixed[f] = r->left[f] <= 0;
        r->rate[f] = 0;
    }
    for (;;) {
        long double least = INFINITY;
        uint32_t bottleneck = MAX_LINKS;
        for (uint32_t l = 0; l < r->n_links; l++) {
            long double used = 0;
            uint32_t waiting = 0;
            for (uint32_t f = 0; f < r->n_flows; f++) {
                used += r->crosses[l][f] && fixed[f] ? r->rate[f] : 0;
                waiting += r->crosses[l][f] && !fixed[f];
            }
            if (waiting > 0 && (r->capacity[l] - used) / waiting < least) {
                least = (r->capacity[l] - used) / waiting;
                bottleneck = l;
            }
        }
        if (bottleneck == MAX_LINKS)
            return;
        for (uint32_t f = 0; f < r->n_flows; f++)
            if (r->crosses[bottleneck][f] && !fixed[f]) {
                fixed[f] = true;
                r->rate[f] = least;
            }
    }
}

static double reference_time(const tdm_topology *topology, const tdm_flow *flows, uint32_t n)
{
    static reference r;
    memset(&r, 0, sizeof r);
    r.n_flows = n;
    r.n_links = topology->n_links;
    assert_true(n <= MAX_FLOWS && r.n_links <= MAX_LINKS);
    for (uint32_t l = 0; l < r.n_links; l++)
        r.capacity[l] = topology->links[l].bytes_per_s;
    for (uint32_t f = 0; f < n; f++) {
        tdm_route route;
        assert_true(tdm_topology_route(topology, flows[f].src, flows[f].dst, &route));
        r.left[f] = route.n_links > 0 ? (long double)flows[f].bytes : 0;
        for (uint32_t l = 0; l < route.n_links; l++)
            r.crosses[route.links[l]][f] = true;
    }
    long double now = 0;
    for (;;) {
        reference_rates(&r);
        long double step = INFINITY;
        uint32_t first = MAX_FLOWS;
        for (uint32_t f = 0; f < n; f++)
            if (r.left[f] > 0 && r.left[f] / r.rate[f] < step) {
                step = r.left[f] / r.rate[f];
                first = f;
            }
        if (first == MAX_FLOWS)
            return (double)now;
        now += step;
        for (uint32_t f = 0; f < n; f++)
            r.left[f] -= r.left[f] > 0 ? step * r.rate[f] : 0;
        r.left[first] = 0;
    }
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
    return (uint32_t)(*seed >> 33);
}

static void compare_random(const tdm_topology *topology, uint32_t n_flows, uint64_t seed)
{
    tdm_arena scratch = {0};
    tdm_flow flows[MAX_FLOWS];
    bool few_sizes = next_random(&seed) % 2; /* equal sizes end together */
    for (uint32_t f = 0; f < n_flows; f++) {
        uint32_t size =
            few_sizes ? 1000000 * (1 + next_random(&seed) % 3) : next_random(&seed) % 5000000;
        flows[f] = (tdm_flow){next_random(&seed) % topology->n_gpus,
                              next_random(&seed) % topology->n_gpus, size};
    }
    double expected = reference_time(topology, flows, n_flows);
    double value = timed(&scratch, topology, flows, n_flows);
    if (fabs(value - expected) > 1e-11 * expected)
        fail_msg("%u flows, seed %llu: %.17g instead of %.17g", n_flows, (unsigned long long)seed,
                 value, expected);
    tdm_arena_free(&scratch);
}

static void random_sets(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_topology one = support_switch(&arena, 16);
    tdm_topology other = tree(&arena);
    for (uint64_t seed = 1; seed <= 150; seed++) {
        uint32_t n_flows = 1 + (uint32_t)(seed * 7 % 40);
        compare_random(&one, n_flows, seed);
        compare_random(&other, n_flows, seed);
    }
    compare_random(&one, 256, 99);
    compare_random(&other, 256, 99);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_forms),
        cmocka_unit_test(nothing_to_move),
        cmocka_unit_test(no_route),
        cmocka_unit_test(random_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
