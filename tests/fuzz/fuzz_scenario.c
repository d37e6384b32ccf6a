/* fuzz_scenario.c: any bytes as a scenario: either it loads, or it is refused with messages and
 * nothing else. */
#include "core/lower.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/tandem-fuzz-%ld.yaml", (long)getpid());
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, n_bytes, file) != n_bytes || fclose(file) != 0)
        abort();
    tdm_arena arena = {0};
    tdm_scenario scenario = {0};
    tdm_plan plan = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_code code = tdm_scenario_load(&arena, TANDEM_SOURCE_ROOT, path, NULL, 0, &scenario, err);
    if ((code == TDM_OK) != (err->n_messages == 0) || (code != TDM_OK && err->code == TDM_OK))
        abort();
    const tdm_parallel *p = &scenario.parallel;
    bool small = code == TDM_OK && p->tp * p->pp * p->dp <= 16 && scenario.num_microbatches <= 64 &&
                 (uint64_t)scenario.micro_batch_size * scenario.seq_length <= 10000 &&
                 scenario.model.num_layers <= 64 && scenario.model.num_experts <= 64;
    /* What loads can be lowered. */
    if (small && tdm_lower(&arena, &scenario, scenario.schedule, scenario.num_microbatches, &plan,
                           err) != TDM_OK) {
        fprintf(stderr, "%s", err->text);
        abort();
    }
    tdm_arena_free(&arena);
    unlink(path);
    return 0;
}
