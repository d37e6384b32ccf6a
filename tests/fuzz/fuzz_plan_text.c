/* fuzz_plan_text.c: any bytes as a plan: what reads writes the same twice, and what verify passes
 * can be laid out and ridden. */
#include "core/plan_text.h"
#include "core/verify.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

static void require(bool condition, const char *text)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", text);
    abort();
}

static char *write_plan(const tdm_plan *plan, size_t *length)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, length);
    require(file && tdm_plan_write(plan, file, NULL) == TDM_OK && fclose(file) == 0, "no text");
    return text;
}

static void check_text(tdm_arena *arena, const tdm_plan *plan, tdm_error *err)
{
    size_t first_length, second_length;
    tdm_plan again = {0};
    char *first = write_plan(plan, &first_length);
    tdm_code code = tdm_plan_parse(arena, "again", first, first_length, &again, err);
    require(code == TDM_OK, err->text);
    char *second = write_plan(&again, &second_length);
    require(first_length == second_length && memcmp(first, second, first_length) == 0,
            "another text");
    require(tdm_plan_hash(plan) == tdm_plan_hash(&again), "another hash");
    free(first);
    free(second);
}

/* Programs that would take long say nothing more than short ones. */
static bool is_small(const tdm_plan *plan)
{
    uint64_t n_ops = 0;
    if (plan->mesh.world > 32)
        return false;
    for (uint32_t r = 0; r < plan->n_roles; r++)
        for (uint32_t c = 0; c < plan->roles[r].n_chunks; c++)
            n_ops += (uint64_t)plan->roles[r].n_passes * plan->roles[r].chunks[c].n_positions;
    return n_ops < 2000;
}

static void check_run(tdm_arena *arena, const tdm_plan *plan, tdm_error *err)
{
    tdm_scenario machine_of = support_scenario(arena, &(support_spec){.tp = 1});
    machine_of.topology = support_switch(arena, plan->mesh.world);
    tdm_machine machine = support_machine(&machine_of);
    tdm_trace trace;
    for (uint32_t rank = 0; rank < plan->mesh.world; rank++) {
        tdm_layout layout;
        require(tdm_layout_build(arena, plan, rank, true, &layout, err) == TDM_OK, err->text);
        require(tdm_verify_layout(plan, &layout, err) == TDM_OK, err->text);
    }
    require(tdm_analytic_run(arena, plan, &machine, &trace, err) == TDM_OK, err->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    tdm_arena arena = {0};
    tdm_plan plan = {0};
    tdm_verify_report report;
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_code code = tdm_plan_parse(&arena, "fuzz", (const char *)bytes, n_bytes, &plan, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    if (code == TDM_OK) {
        check_text(&arena, &plan, err);
        if (is_small(&plan) && tdm_verify_plan(&plan, &report, err) == TDM_OK)
            check_run(&arena, &plan, err);
    }
    tdm_arena_free(&arena);
    return 0;
}
