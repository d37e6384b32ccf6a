/* csv: the order of passes as a file gives it (schedule.csv: PyTorch's pipeline schedule CSV). */
#include "schedule.h"

static const char *refuse(const tdm_schedule_shape *shape)
{
    const tdm_pass_table *table = shape->table;
    if (table->n_stages != shape->n_stages)
        return "needs as many rows in the file as there are pipeline stages";
    if (table->n_chunks != shape->n_chunks)
        return "needs as many stages in the file as pipeline stages x "
               "num_virtual_stages_per_pipeline_rank";
    if (table->n_microbatches != shape->n_microbatches)
        return "needs as many microbatches in the file as schedule.num_microbatches";
    return NULL;
}

static uint32_t order(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity)
{
    (void)scratch;
    uint32_t n = shape->table->n_passes[stage];
    for (uint32_t i = 0; i < n && i < capacity; i++)
        passes[i] = shape->table->passes[stage][i];
    return n;
}

const tdm_schedule tdm_schedule_csv = {
    .name = "csv",
    .summary = "the order that a file gives, in PyTorch's CSV form (schedule.csv)",
    .chunked = true,
    .needs_table = true,
    .refuse = refuse,
    .order = order,
};
