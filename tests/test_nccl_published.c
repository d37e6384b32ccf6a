/* test_nccl_published.c: operations that share links, against published figures, each cited here.
 * With the variable TANDEM_DATA naming a folder that holds published/, the cited figures are held
 * against the files there; misses are stated in docs/fidelity.md. TDM_NCCL_TABLE=1 prints the rows
 * of that table. */
#include "core/nccl/concurrent.h"
#include "core/topology_load.h"
#include "tests/support_graph.h"
#include "tests/support_nccl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The figure behind `start` in a file of TANDEM_DATA is the cited one, where there is the file. */
static void check_cited(const char *file, const char *start, double cited)
{
    char path[4096], line[512];
    const char *folder = getenv("TANDEM_DATA");
    snprintf(path, sizeof path, "%s/published/%s", folder ? folder : "", file);
    FILE *in = folder ? fopen(path, "r") : NULL;
    bool found = in == NULL;
    while (in && !found && fgets(line, sizeof line, in))
        if (strncmp(line, start, strlen(start)) == 0) {
            found = true;
            if (strtod(line + strlen(start), NULL) != cited)
                fail_msg("%s: %s is not %g", file, line, cited);
        }
    if (in)
        fclose(in);
    if (!found)
        fail_msg("%s has no %s", file, start);
}

/* Predicted over measured, within [-below, above]. */
static void hold(const char *what, double measured, double predicted, double below, double above)
{
    double error = predicted / measured - 1;
    if (getenv("TDM_NCCL_TABLE"))
        printf("| %s | %.4g | %.4g | %+.1f |\n", what, measured, predicted, 100 * error);
    if (error < -below || error > above)
        fail_msg("%s: %g predicted, %g published", what, predicted, measured);
}

static tdm_graph machine(tdm_arena *arena, const char *path)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_topology_file file = {0};
    if (tdm_topology_read(arena, TANDEM_SOURCE_ROOT,
                          tdm_arena_printf(arena, "%s/%s", TANDEM_SOURCE_ROOT, path), NULL, &file,
                          err) != TDM_OK)
        fail_msg("%s", err->text);
    return file.graph;
}

/* Seconds of one operation, launch included. */
static double time_of(tdm_arena *arena, tdm_nccl_user *user, uint64_t bytes)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_operation it = {
        .user = user, .bytes = bytes, .launch_s = tdm_nccl_launch_s(user->comm)};
    if (tdm_nccl_run_together(arena, &it, 1, err) != TDM_OK)
        fail_msg("%s", err->text);
    return it.end_s;
}

/* "Scalable Training of Mixture-of-Experts Models with Megatron Core", arXiv:2603.07685, table 7:
 * all-to-all of expert parallelism on nodes of 8 H100 with InfiniBand (400 Gbit/s for each GPU is
 * what such nodes have; the table does not say). Each rank sends 4096 tokens to 8 experts each, of
 * 7168 values in bf16 (the paper's shape; 2 bytes are taken for both directions). EP 64 is a miss.
 */
static void test_expert_all_to_all(void **state)
{
    (void)state;
    static const uint64_t bytes = 4096ull * 8 * 7168 * 2;
    static const struct {
        uint32_t ranks;
        double dispatch_us, combine_us, tolerance;
    } rows[] = {{8, 1265, 1277, 0.05},
                {16, 5774, 5628, 0.1},
                {32, 8059, 7815, 0.15},
                {64, 9164, 8727, 0.25}};
    static const char *const file = "mcore_ep_latency_table7.csv";
    tdm_arena a = {0};
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        uint32_t n = rows[i].ranks;
        tdm_graph graph =
            support_graph_nvswitch(&a, "hgx-h100", n / 8, 8, 90, 18, 48e9, n > 8 ? 50e9 : 0);
        tdm_nccl_comm comm = support_nccl_comm(&a, graph, n);
        tdm_nccl_user user = {.comm = &comm, .func = TDM_NCCL_ALL_TO_ALL};
        double predicted_us = 1e6 * time_of(&a, &user, bytes);
        check_cited(file, tdm_arena_printf(&a, "dispatch,%u,H100,all-to-all,", n),
                    rows[i].dispatch_us);
        check_cited(file, tdm_arena_printf(&a, "combine,%u,H100,all-to-all,", n),
                    rows[i].combine_us);
        hold(tdm_arena_printf(&a, "EP %u dispatch, us", n), rows[i].dispatch_us, predicted_us,
             rows[i].tolerance, rows[i].tolerance);
        hold(tdm_arena_printf(&a, "EP %u combine, us", n), rows[i].combine_us, predicted_us,
             rows[i].tolerance, rows[i].tolerance);
    }
    tdm_arena_free(&a);
}

/* Mean bus bandwidth from 16 to 256 MiB of the group whose first rank is 0, every stride-th. */
static double mean_bus_gb_per_s(tdm_arena *arena, const tdm_graph *graph, uint32_t n,
                                uint32_t stride)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_settings settings = tdm_nccl_settings_default();
    tdm_nccl_comm comm;
    uint32_t ranks[16], n_sizes = 0;
    double sum = 0;
    for (uint32_t r = 0; r < n; r++)
        ranks[r] = r * stride;
    if (tdm_nccl_comm_build(arena, graph, ranks, n, &settings, &comm, err) != TDM_OK)
        fail_msg("%s", err->text);
    tdm_nccl_user user = {.comm = &comm, .func = TDM_NCCL_ALL_REDUCE};
    for (uint64_t bytes = 16 << 20; bytes <= 256 << 20; bytes *= 2, n_sizes++)
        sum += (double)bytes / time_of(arena, &user, bytes) * 1e-9 *
               tdm_nccl_bus_factor(TDM_NCCL_ALL_REDUCE, n);
    return sum / n_sizes;
}

/* PKU-DAIR/Hetu-Galvatron (cea12ffb), galvatron/profile_hardware/hardware_configs: all-reduce on
 * two nodes of 8 GPUs, ranks in a row against ranks strided over the nodes. The tool runs
 * nccl-tests on one group at a time (core/profiler.py, launch_nccl_test), as its script says from
 * 16 to 256 MB over the adapters mlx5_2 and mlx5_5 (scripts/profile_hardware.sh), and keeps the
 * "Avg bus bandwidth". GPUs and rate are not named: 150 GB/s of NVLink are A100's, and 44.7 GB/s of
 * all 16 ranks need two adapters of 200 Gbit/s. The strided pair is a miss, see docs/fidelity.md.
 */
static void test_strided_groups(void **state)
{
    (void)state;
    static const struct {
        uint32_t n, stride, consecutive;
        double gb_per_s, below, above;
    } rows[] = {
        {2, 1, 1, 149.666, 0.2, 0.2},  {4, 1, 1, 157.984, 0.2, 0.2}, {8, 1, 1, 155.658, 0.2, 0.2},
        {16, 1, 1, 44.682, 0.1, 0.1},  {8, 2, 0, 20.7724, 0.1, 0.1}, {4, 4, 0, 16.22, 0.25, 0.25},
        {2, 8, 0, 8.13007, 0.25, 0.8},
    };
    tdm_arena a = {0};
    tdm_graph graph = machine(&a, "tests/topologies/good/two-adapters-2.yaml");
    double predicted[TDM_COUNT(rows)];
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        check_cited("galvatron_hardware_profile.csv",
                    tdm_arena_printf(&a,
                                     "allreduce_bandwidth_2nodes_8gpus_per_node,2,8,"
                                     "allreduce_size_%u_consec_%u,",
                                     rows[i].n, rows[i].consecutive),
                    rows[i].gb_per_s);
        predicted[i] = mean_bus_gb_per_s(&a, &graph, rows[i].n, rows[i].stride);
        hold(tdm_arena_printf(&a, "%u ranks, %s, GB/s", rows[i].n,
                              rows[i].consecutive ? "in a row" : "strided"),
             rows[i].gb_per_s, predicted[i], rows[i].below, rows[i].above);
    }
    /* What the layout of a group costs. */
    hold("groups of 8, in a row over strided", rows[2].gb_per_s / rows[4].gb_per_s,
         predicted[2] / predicted[4], 0.2, 0.2);
    hold("groups of 4, in a row over strided", rows[1].gb_per_s / rows[5].gb_per_s,
         predicted[1] / predicted[5], 0.2, 0.2);
    hold("groups of 2, in a row over strided", rows[0].gb_per_s / rows[6].gb_per_s,
         predicted[0] / predicted[6], 0.45, 0);
    tdm_arena_free(&a);
}

enum { N_GPUS = 16 };

/* GB/s of all messages [N_GPUS][N_GPUS] together when each moves as fast as the others. */
static double together(tdm_arena *arena, const tdm_nccl_comm *comm, const uint64_t *messages)
{
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_nccl_traffic traffic = {0};
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_GPUS * N_GPUS; i++)
        n += messages[i] > 0;
    if (tdm_nccl_traffic_of_messages(arena, comm, messages, &traffic, err) != TDM_OK)
        fail_msg("%s", err->text);
    return n * tdm_nccl_traffic_bw(comm, &traffic);
}

static double all_pairs(tdm_arena *arena, const tdm_nccl_comm *comm, uint32_t n)
{
    uint64_t messages[N_GPUS * N_GPUS] = {0};
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            messages[i * N_GPUS + j] = i != j;
    return together(arena, comm, messages);
}

/* voipmonitor/rtx6kpro (29f3863a), hardware/asrockrack-turin-cpayne-16gpu.md: peer-to-peer writes
 * between 16 GPUs under 4 PCIe switches. One number, what a switch passes, was taken from the 4-GPU
 * row; the root complex is given the same. */
static void test_pcie_tree(void **state)
{
    (void)state;
    static const struct {
        const char *row;
        double cited, gb_per_s, tolerance;
        uint32_t pairs[2][2], all;
    } rows[] = {
        {"\"single GPU pair, same switch\",W,", 56.3, 56.3, 0.05, {{0, 1}}, 0},
        {"\"single GPU pair, across switches\",W,", 56.3, 56.3, 0.05, {{0, 4}}, 0},
        {"\"2 pairs into the same destination switch (uplink saturated), aggregate\",W,",
         56.4,
         56.4,
         0.05,
         {{0, 8}, {1, 9}},
         0},
        {"\"2 pairs inside one switch, aggregate\",W,", 112, 112, 0.15, {{0, 1}, {2, 3}}, 0},
        {"\"4-GPU all-to-all inside one switch, aggregate\",W,", 163.6, 163.6, 0.15, {{0}}, 4},
        {"\"one source switch to two destination switches, aggregate\",W,",
         55,
         55,
         0.05,
         {{0, 4}, {1, 8}},
         0},
        {"\"two source switches, aggregate\",W,", 112.8, 112.8, 0.05, {{0, 8}, {4, 12}}, 0},
        /* 187 to 190 */
        {"\"8-GPU all-to-all, aggregate\",W,", 187, 188.5, 0.05, {{0}}, 8},
        {"\"16-GPU all-to-all, aggregate\",W,", 204.4, 204.4, 0.05, {{0}}, 16},
    };
    tdm_arena a = {0};
    tdm_graph graph = machine(&a, "topologies/pcie-16-rtx-pro-6000.yaml");
    tdm_nccl_comm comm = support_nccl_comm(&a, graph, N_GPUS);
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        uint64_t messages[N_GPUS * N_GPUS] = {0};
        for (int p = 0; p < 2; p++)
            if (rows[i].pairs[p][1] > 0)
                messages[rows[i].pairs[p][0] * N_GPUS + rows[i].pairs[p][1]] = 1;
        check_cited("pcie16_rtxpro6000_p2p.csv", tdm_arena_printf(&a, "Turin,%s", rows[i].row),
                    rows[i].cited);
        hold(rows[i].row, rows[i].gb_per_s,
             rows[i].all ? all_pairs(&a, &comm, rows[i].all) : together(&a, &comm, messages),
             rows[i].tolerance, rows[i].tolerance);
    }
    hold("each pair of 16, GB/s", 0.85, all_pairs(&a, &comm, N_GPUS) / 240, 0.05, 0.05);
    tdm_arena_free(&a);
}

/* The same board, reads: NCCL writes. With all capacities in the ratio of the 4-GPU rows, all pairs
 * of 16 are a miss. */
static void test_pcie_reads(void **state)
{
    (void)state;
    static const struct {
        uint32_t n;
        double gb_per_s, below, above;
    } rows[] = {{4, 67.4, 1e-9, 1e-9}, {8, 74, 0.15, 0.15}, {16, 64.5, 0, 0.35}};
    tdm_arena a = {0};
    tdm_graph graph = machine(&a, "topologies/pcie-16-rtx-pro-6000.yaml");
    tdm_edge *edges = TDM_ALLOC(&a, tdm_edge, graph.n_edges);
    tdm_vertex *vertices = TDM_ALLOC(&a, tdm_vertex, graph.n_vertices);
    memcpy(edges, graph.edges, graph.n_edges * sizeof *edges);
    memcpy(vertices, graph.vertices, graph.n_vertices * sizeof *vertices);
    for (uint32_t e = 0; e < graph.n_edges; e++)
        edges[e].bytes_per_s *= 67.4 / 163.6;
    for (uint32_t v = 0; v < graph.n_vertices; v++)
        vertices[v].through_bytes_per_s *= 67.4 / 163.6;
    graph.edges = edges;
    graph.vertices = vertices;
    tdm_nccl_comm comm = support_nccl_comm(&a, graph, N_GPUS);
    for (size_t i = 0; i < TDM_COUNT(rows); i++) {
        check_cited("pcie16_rtxpro6000_p2p.csv",
                    tdm_arena_printf(&a, "Turin,\"%u-GPU all-to-all%s, aggregate\",R,", rows[i].n,
                                     rows[i].n == 4 ? " inside one switch" : ""),
                    rows[i].gb_per_s);
        hold(tdm_arena_printf(&a, "%u-GPU all-to-all, reads", rows[i].n), rows[i].gb_per_s,
             all_pairs(&a, &comm, rows[i].n), rows[i].below, rows[i].above);
    }
    tdm_arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expert_all_to_all),
        cmocka_unit_test(test_strided_groups),
        cmocka_unit_test(test_pcie_tree),
        cmocka_unit_test(test_pcie_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
