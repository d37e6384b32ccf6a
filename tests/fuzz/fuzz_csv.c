/* fuzz_csv.c: any bytes as an order of passes and as a recorded routing. What reads as an order is
 * lowered; verify then says whether it can run, and if it can, it is ridden. */
#include "core/routing_csv.h"
#include "core/schedule_csv.h"
#include "core/verify.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void require(bool condition, const char *text)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", text);
    abort();
}

static bool is_small(const tdm_pass_table *table)
{
    uint64_t n_passes = 0;
    for (uint32_t s = 0; s < table->n_stages; s++)
        n_passes += table->n_passes[s];
    return table->n_stages <= 16 && table->n_chunks <= 8 && table->n_microbatches <= 64 &&
           n_passes <= 2000;
}

static void ride(tdm_arena *arena, const tdm_pass_table *table, tdm_error *err)
{
    tdm_plan plan = {0};
    tdm_verify_report report;
    tdm_trace trace;
    tdm_scenario sc =
        support_pass_times(arena, table->n_stages, table->n_microbatches, "csv", 3, 2, 1, 0.5);
    sc.parallel.vpp = table->n_chunks;
    uint32_t n = table->n_stages * table->n_chunks;
    double *seconds = TDM_ALLOC(arena, double, n);
    for (uint32_t i = 0; i < n; i++)
        seconds[i] = 1 + i % 3;
    sc.pass_times.forward_s = sc.pass_times.backward_input_s = sc.pass_times.backward_weight_s =
        seconds;
    sc.pass_table = table;
    if (tdm_lower(arena, &sc, sc.schedule, sc.num_microbatches, &plan, err) != TDM_OK ||
        tdm_verify_plan(&plan, &report, err) != TDM_OK) {
        require(err->n_messages > 0, "refused without a reason");
        return;
    }
    tdm_machine machine = support_machine(&sc);
    require(tdm_analytic_run(arena, &plan, &machine, &trace, err) == TDM_OK, err->text);
}

static void read_order(tdm_arena *arena, const char *text, size_t length)
{
    tdm_pass_table table = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_code code = tdm_schedule_csv_parse(arena, "fuzz.csv", text, length, &table, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code == TDM_OK && is_small(&table))
        ride(arena, &table, err);
}

static void read_routing(tdm_arena *arena, const char *text, size_t length)
{
    tdm_scenario sc = support_scenario(arena, &(support_spec){.experts = 4, .topk = 2});
    tdm_routing_record record = {0};
    tdm_error *err = TDM_ALLOC(arena, tdm_error, 1);
    tdm_code code = tdm_routing_csv_parse(arena, "fuzz.csv", text, length, &sc.model, &record, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code != TDM_OK)
        return;
    tdm_plan plan = {0};
    sc.routing.model = TDM_ROUTING_RECORDED;
    sc.routing.record = &record;
    code = tdm_lower(arena, &sc, sc.schedule, sc.num_microbatches, &plan, err);
    require(code == TDM_OK, err->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    tdm_arena arena = {0};
    read_order(&arena, (const char *)bytes, n_bytes);
    read_routing(&arena, (const char *)bytes, n_bytes);
    tdm_arena_free(&arena);
    return 0;
}
