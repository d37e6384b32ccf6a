/* test_published.c: predictions against published numbers, each cited.
 *
 * Qi et al. 2024, Zero Bubble Pipeline Parallelism (arXiv:2401.10241): bubble rates of table 5,
 * which the authors calculated from the profiled pass times of table 6 (8 stages, p2p time
 * included). With the variable TANDEM_DATA naming a folder that holds
 * published/zb_table5_bubble_rate.csv and zb_table6_profiled_ms.csv, every row there is checked as
 * well. */
#include "core/figures.h"
#include "sim/sim.h"
#include "tests/support.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct zero_bubble_row {
    char model[16];
    uint32_t stages, microbatches;
    double forward_ms, input_ms, weight_ms, send_ms; /* table 6 */
    double rate_1f1b, rate_zb_h1;                    /* table 5 */
} zero_bubble_row;

static const zero_bubble_row cited[] = {
    {"1.5B", 8, 24, 18.522, 18.086, 9.337, 0.601, 0.2431, 0.1585},
    {"1.5B", 8, 32, 18.513, 18.086, 9.331, 0.626, 0.1985, 0.1242},
    {"1.5B", 8, 64, 18.546, 18.097, 9.321, 0.762, 0.1240, 0.0674},
    {"6.2B", 8, 24, 29.718, 29.444, 19.927, 0.527, 0.2347, 0.1323},
    {"6.2B", 8, 32, 29.802, 29.428, 19.530, 0.577, 0.1898, 0.1045},
    {"6.2B", 8, 64, 29.935, 29.621, 19.388, 0.535, 0.1091, 0.0554},
};

static double bubble_rate(const zero_bubble_row *row, const char *schedule, bool simulate)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_scenario sc =
        support_pass_times(&arena, row->stages, row->microbatches, schedule, row->forward_ms * 1e-3,
                           row->input_ms * 1e-3, row->weight_ms * 1e-3, row->send_ms * 1e-3);
    tdm_plan plan = support_plan(&arena, &sc);
    tdm_machine machine = support_machine(&sc);
    tdm_trace trace = {0};
    char path[] = "/tmp/tandem-published-XXXXXX";
    close(mkstemp(path));
    tdm_code code = simulate ? tdm_sim_run(&arena, &plan, &machine, path, &trace, err)
                             : tdm_analytic_run(&arena, &plan, &machine, &trace, err);
    unlink(path);
    if (code != TDM_OK)
        fail_msg("%s", err->text);
    tdm_figures figures = {0};
    code = tdm_figures_compute(&arena, &plan, &trace, NULL, &machine, &figures, err);
    assert_int_equal(code, TDM_OK);
    double rate = figures.bubble_fraction;
    tdm_arena_free(&arena);
    return rate;
}

/* Equal to the four digits that the paper prints. */
static void check_rate(const zero_bubble_row *row, const char *schedule, double published)
{
    for (int simulate = 0; simulate < (tdm_sim_missing() ? 1 : 2); simulate++) {
        double rate = bubble_rate(row, schedule, simulate);
        if (fabs(rate - published) > 0.5e-4 + 1e-9)
            fail_msg("%s, m = %u, %s, engine %s: %.6f, published %.4f", row->model,
                     row->microbatches, schedule, simulate ? "sim" : "analytic", rate, published);
    }
}

static void test_zero_bubble_rates(void **state)
{
    (void)state;
    for (size_t i = 0; i < TDM_COUNT(cited); i++) {
        check_rate(&cited[i], "1f1b", cited[i].rate_1f1b);
        check_rate(&cited[i], "zb-h1", cited[i].rate_zb_h1);
    }
}

static FILE *open_data(const char *name)
{
    const char *folder = getenv("TANDEM_DATA");
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/published/%s", folder, name) >= (int)sizeof path)
        return NULL;
    return fopen(path, "r");
}

/* Rates of one model and number of microbatches in table 5; false when there are none. */
static bool find_rates(zero_bubble_row *row)
{
    FILE *file = open_data("zb_table5_bubble_rate.csv");
    bool found = false;
    char line[512];
    while (file && !found && fgets(line, sizeof line, file)) {
        char model[16];
        unsigned p, m;
        double rates[3];
        found = sscanf(line, "%15[^,],%u,%u,%lf,%lf,%lf", model, &p, &m, &rates[0], &rates[1],
                       &rates[2]) == 6 &&
                strcmp(model, row->model) == 0 && p == row->stages && m == row->microbatches;
        row->rate_1f1b = rates[0];
        row->rate_zb_h1 = rates[2];
    }
    if (file)
        fclose(file);
    return found;
}

static void test_zero_bubble_rates_of_the_data(void **state)
{
    (void)state;
    FILE *file = open_data("zb_table6_profiled_ms.csv");
    if (!file) {
        print_message("TANDEM_DATA has no zero-bubble tables: skipped\n");
        skip();
    }
    char line[512];
    unsigned n_rows = 0;
    while (fgets(line, sizeof line, file)) {
        zero_bubble_row row = {0};
        if (sscanf(line, "%15[^,],%u,%u,%lf,%lf,%lf,%lf", row.model, &row.stages, &row.microbatches,
                   &row.forward_ms, &row.input_ms, &row.weight_ms, &row.send_ms) != 7 ||
            !find_rates(&row))
            continue;
        check_rate(&row, "1f1b", row.rate_1f1b);
        check_rate(&row, "zb-h1", row.rate_zb_h1);
        n_rows++;
    }
    fclose(file);
    assert_true(n_rows >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_bubble_rates),
        cmocka_unit_test(test_zero_bubble_rates_of_the_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
