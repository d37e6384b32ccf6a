/* fuzz_nccl_tests.c: any bytes as a log of nccl-tests. What reads as one has rows that make sense.
 */
#include "core/nccl_log.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    tdm_arena arena = {0};
    tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
    tdm_nccl_log log = {0};
    const char *text = tdm_arena_strndup(&arena, (const char *)bytes, n_bytes);
    tdm_code code = tdm_nccl_log_parse(&arena, "fuzz.log", text, n_bytes, &log, err);
    require((code == TDM_OK) == (err->n_messages == 0), "code and messages differ");
    require(code != TDM_OK || log.n_rows > 0, "a log without rows");
    for (uint32_t i = 0; i < log.n_rows; i++)
        require(log.rows[i].bytes > 0 && isfinite(log.rows[i].time_s) && log.rows[i].time_s > 0,
                "a row that makes no sense");
    tdm_arena_free(&arena);
    return 0;
}
