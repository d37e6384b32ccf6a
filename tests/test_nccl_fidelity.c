/* test_nccl_fidelity.c: predicted against measured collectives, set by set; needs TANDEM_DATA, a
 * folder with nccl/ and published/aiconfigurator_nccl.csv. TDM_NCCL_TABLE=1 prints the rows of
 * docs/fidelity.md. Each set has one launch floor fitted to it, nothing else. */
#include "tests/support_nccl.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { BANDS = 3 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int band(uint64_t bytes)
{
    return bytes <= 65536 ? 0 : bytes <= 16777216 ? 1 : 2;
}

/* Median absolute error of a set in a band, in percent; negative: no point. */
static double median_error(tdm_arena *arena, const support_nccl_set *set, int which,
                           double launch_s)
{
    double *all = TDM_ALLOC(arena, double, set->n + 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < set->n; i++) {
        tdm_nccl_cost cost;
        if (band(set->bytes[i]) != which)
            continue;
        assert_int_equal(tdm_nccl_time(&set->comm, set->func, set->bytes[i], &cost, NULL), TDM_OK);
        all[n++] = 100 * fabs((cost.time_s + launch_s) / set->time_s[i] - 1);
    }
    qsort(all, n, sizeof *all, by_value);
    return n ? (all[(n - 1) / 2] + all[n / 2]) / 2 : -1;
}

static void print_row(const support_nccl_set *set, double launch_s, const double error[BANDS])
{
    printf("| %s | %s | %.1f |", set->name, tdm_nccl_func_name(set->func), launch_s * 1e6);
    for (int b = 0; b < BANDS; b++)
        if (error[b] >= 0)
            printf(" %.1f |", error[b]);
        else
            printf(" - |");
    printf("\n");
}

static void test_sets(void **state)
{
    (void)state;
    static const double goal[BANDS] = {15, 15, 8};
    const bool print = getenv("TDM_NCCL_TABLE") != NULL;
    tdm_arena arena = {0};
    tdm_error err = {0};
    support_nccl_set *sets;
    double sum[BANDS] = {0};
    uint32_t n_sets = support_nccl_sets(&arena, getenv("TANDEM_DATA"), &sets), n[BANDS] = {0};
    assert_true(n_sets >= 100);
    for (uint32_t i = 0; i < n_sets; i++) {
        double launch_s, error[BANDS];
        assert_int_equal(tdm_nccl_fit_launch(&arena, &sets[i].comm, sets[i].func, sets[i].bytes,
                                             sets[i].time_s, sets[i].n, &launch_s, &err),
                         TDM_OK);
        for (int b = 0; b < BANDS; b++) {
            error[b] = median_error(&arena, &sets[i], b, launch_s);
            n[b] += error[b] >= 0;
            sum[b] += error[b] >= 0 ? error[b] : 0;
        }
        if (print)
            print_row(&sets[i], launch_s, error);
        if (error[2] > 20)
            fail_msg("%s: %.1f %% above 16 MiB, more than 20 %%", sets[i].name, error[2]);
    }
    for (int b = 0; b < BANDS; b++) {
        if (print)
            printf("band %d: %.1f %% over %u sets\n", b, sum[b] / n[b], n[b]);
        assert_true(n[b] > 0 && sum[b] / n[b] <= goal[b]);
    }
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets)};
    const char *folder = getenv("TANDEM_DATA");
    tdm_arena arena = {0};
    support_nccl_set *sets;
    uint32_t n = folder ? support_nccl_sets(&arena, folder, &sets) : 0;
    tdm_arena_free(&arena);
    if (n == 0)
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
