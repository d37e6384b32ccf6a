/* fuzz_trace.c: any bytes as a trace: either figures come of it whose waterfall adds up, or it is
 * refused with messages and nothing else. */
#include "core/measured.h"

#include <math.h>
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

static void check_rank(const tdm_rank_figures *rank, double step_s)
{
    const tdm_waterfall *w = &rank->waterfall;
    double sum = w->compute_s + w->exposed_transfer_s + w->peer_wait_s + w->bubble_s +
                 w->issue_gap_s + w->optimizer_s;
    require(fabs(sum - step_s) <= 1e-9 * step_s, "a waterfall does not add up");
    require(w->compute_s >= 0 && w->exposed_transfer_s >= 0 && w->peer_wait_s >= 0 &&
                w->bubble_s >= -1e-9 * step_s && w->issue_gap_s >= 0 && w->optimizer_s >= 0,
            "a part below zero");
    require(rank->any_busy_s <= step_s * (1 + 1e-9), "busy for longer than the step");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static tdm_arena rules_arena;
    static tdm_kernel_rules rules;
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    if (!rules.rules)
        require(tdm_kernel_rules_load(&rules_arena, TANDEM_SOURCE_ROOT "/rules/kineto.yaml", &rules,
                                      err) == TDM_OK,
                "no rules");
    /* Behind the text there is a NUL, as there is behind a file that was read. */
    const char *text = tdm_arena_strndup(&arena, (const char *)bytes, n_bytes);
    tdm_kineto kineto;
    tdm_measured measured;
    tdm_code code = tdm_kineto_parse(&arena, "rank0.json", text, n_bytes, &rules, &kineto, err);
    if (code == TDM_OK)
        code = tdm_measured_compute(&arena, &kineto, &measured, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    for (uint32_t s = 0; code == TDM_OK && s < measured.n_steps; s++)
        for (uint32_t r = 0; r < measured.steps[s].figures.n_ranks; r++)
            check_rank(&measured.steps[s].figures.ranks[r], measured.steps[s].figures.step_time_s);
    tdm_arena_free(&arena);
    return 0;
}
