/* schedule.c: looks a schedule up in the generated table. */
#include "schedule.h"

#include <string.h>

const tdm_schedule *tdm_schedule_find(const char *name)
{
    for (size_t i = 0; tdm_schedules[i]; i++)
        if (strcmp(tdm_schedules[i]->name, name) == 0)
            return tdm_schedules[i];
    return NULL;
}

void tdm_schedule_put(tdm_pass *passes, uint32_t capacity, uint32_t *n, tdm_pass_kind kind,
                      uint32_t microbatch)
{
    if (*n < capacity)
        passes[*n] = (tdm_pass){.kind = kind, .chunk = 0, .microbatch = microbatch};
    ++*n;
}
