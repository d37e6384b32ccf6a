/* schedule.h: looks a schedule up in the generated table. */
#include "schedule.h"

#include <string.h>

const tdm_schedule *tdm_schedule_find(const char *name)
{
    for (size_t i = 0; tdm_schedules[i]; i++)
        if (strcmp(tdm_schedules[i]->name, name) == 0)
            return tdm_schedules[i];
    return NULL;
}

bool tdm_schedule_splits(const tdm_schedule *schedule, const tdm_schedule_shape *shape)
{
    return schedule->needs_table && shape->table ? shape->table->split : schedule->splits_backward;
}

tdm_placement tdm_schedule_placement(const tdm_schedule *schedule, const tdm_schedule_shape *shape)
{
    return schedule->needs_table && shape->table ? shape->table->placement : schedule->placement;
}

const char *tdm_schedule_refuse(const tdm_schedule *schedule, const tdm_schedule_shape *shape)
{
    if (shape->n_chunks > 1 && !schedule->chunked)
        return "orders one chunk of layers per stage only (schedules with several: "
               "interleaved-1f1b, breadth-first, zb-v)";
    if (shape->n_chunks > 1 && shape->n_stages == 1)
        return "needs at least 2 pipeline stages for several chunks";
    if (schedule->needs_table && !shape->table)
        return "needs schedule.csv: the file that holds the order of passes";
    return schedule->refuse ? schedule->refuse(shape) : NULL;
}

void tdm_schedule_put(tdm_pass_list *list, tdm_pass_kind kind, uint32_t chunk, uint32_t microbatch)
{
    if (list->n < list->capacity)
        list->passes[list->n] =
            (tdm_pass){.kind = kind, .chunk = (uint16_t)chunk, .microbatch = microbatch};
    list->n++;
}
