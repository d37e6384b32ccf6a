/* ramps.c: fits the rows of core/nccl/ramp.c again, to the sets that docs/fidelity.md names:
 *
 *     cmake --build build/release --target ramps && TANDEM_DATA=FOLDER build/release/tests/ramps
 * [half]
 *
 * Prints the rows, the default launch floors and the errors; half: fits to every other size and
 * prints the errors on the rest. Takes some seconds. */
#include "core/nccl/ramp_fit.h"
#include "core/stats.h"
#include "tests/support_nccl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const algos[] = {
    "TREE", "RING", "COLLNET_DIRECT", "COLLNET_CHAIN", "NVLS", "NVLS_TREE", "PAT", "P2P"};

/* The order of ramp.c: several nodes first, then generations, algorithms by name. */
static int by_row(const void *a, const void *b)
{
    const tdm_nccl_ramp_row *x = a, *y = b;
    const int of_x[] = {x->any_generation ? -1 : (int)x->key.generation,
                        strcmp(algos[x->key.algo], algos[y->key.algo]), (int)x->key.proto,
                        x->key.all_reduce};
    const int of_y[] = {y->any_generation ? -1 : (int)y->key.generation, 0, (int)y->key.proto,
                        y->key.all_reduce};
    for (size_t i = 0; i < TDM_COUNT(of_x); i++)
        if (of_x[i] != of_y[i])
            return of_x[i] < of_y[i] ? -1 : 1;
    return 0;
}

static void print_row(const tdm_nccl_ramp_row *row)
{
    static const char *const generations[] = {"TDM_NCCL_VOLTA", "TDM_NCCL_AMPERE",
                                              "TDM_NCCL_HOPPER", "TDM_NCCL_BLACKWELL"};
    static const char *const protos[] = {"LL", "LL128", "SIMPLE"};
    printf("    {%s, TDM_NCCL_%s, TDM_NCCL_%s, %s, %s, {%.3g, %.4g, %.3g, %.3g, %.3g}}, "
           "/* %u, %u, %.1f */\n",
           row->any_generation ? "ANY" : generations[row->key.generation], algos[row->key.algo],
           protos[row->key.proto],
           row->any_function     ? "ANY"
           : row->key.all_reduce ? "ALL_REDUCE"
                                 : "OTHERS",
           row->key.one_node ? "true" : "false", row->ramp.latency_share, row->ramp.efficiency,
           row->ramp.own_steps, row->ramp.half_bytes, row->ramp.power, row->n_points, row->n_sets,
           100 * row->error);
}

/* Medians of the sets' floors by generation. */
static void print_launches(tdm_arena *arena, const support_nccl_set *sets, uint32_t n,
                           const double *launch_s)
{
    double *of = TDM_ALLOC(arena, double, n);
    for (int g = 0; g < TDM_NCCL_N_GENERATIONS; g++) {
        uint32_t n_of = 0;
        for (uint32_t s = 0; s < n; s++)
            if ((int)tdm_nccl_generation_of(sets[s].comm.min_sm) == g)
                of[n_of++] = launch_s[s] * 1e6;
        if (n_of > 0) {
            tdm_stats_sort(of, n_of);
            printf("launch, generation %d: %.1f us (%u sets)\n", g,
                   tdm_stats_quantile(of, n_of, 0.5), n_of);
        }
    }
}

static void print_errors(double (*percent)[3], uint32_t n)
{
    static const char *const names[] = {"up to 64 KiB", "64 KiB to 16 MiB", "above 16 MiB"};
    for (int band = 0; band < 3; band++) {
        double sum = 0, worst = 0;
        uint32_t n_of = 0;
        for (uint32_t s = 0; s < n; s++)
            if (percent[s][band] >= 0) {
                sum += percent[s][band];
                worst = percent[s][band] > worst ? percent[s][band] : worst;
                n_of++;
            }
        printf("%s: %.1f %% over %u sets, worst %.1f %%\n", names[band], sum / n_of, n_of, worst);
    }
}

int main(int argc, char **argv)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    bool half = argc > 1 && strcmp(argv[1], "half") == 0;
    const char *folder = getenv("TANDEM_DATA");
    support_nccl_set *sets;
    uint32_t n = folder ? support_nccl_sets(&arena, folder, &sets) : 0, n_rows = 0;
    if (n == 0) {
        fputs("ramps: set TANDEM_DATA to the folder with nccl/ and published/\n", stderr);
        return 77;
    }
    tdm_nccl_measured *measured = support_nccl_measured(&arena, sets, n);
    tdm_nccl_ramp_row *rows = TDM_ALLOC(&arena, tdm_nccl_ramp_row, TDM_NCCL_MOST_ROWS);
    double(*percent)[3] = tdm_arena_alloc(&arena, sizeof *percent * n);
    double *launch_s = TDM_ALLOC(&arena, double, n);
    if (tdm_nccl_ramp_fit(&arena, measured, n, half, NULL, rows, &n_rows, err) != TDM_OK ||
        tdm_nccl_ramp_score(&arena, measured, n, half, rows, n_rows, percent, launch_s, err) !=
            TDM_OK) {
        fputs(err->text, stderr);
        return 1;
    }
    qsort(rows, n_rows, sizeof *rows, by_row);
    for (uint32_t r = 0; r < n_rows; r++)
        print_row(&rows[r]);
    print_launches(&arena, sets, n, launch_s);
    print_errors(percent, n);
    tdm_arena_free(&arena);
    return 0;
}
