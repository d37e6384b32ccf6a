/* schedule.h: pipeline schedules: the order of passes on each stage.
 * A schedule is one file in core/schedules/ that defines `const tdm_schedule tdm_schedule_NAME`
 * (dashes in the file name become underscores); the build collects them in a table. */
#ifndef TDM_SCHEDULE_H
#define TDM_SCHEDULE_H

#include "plan.h"

typedef struct tdm_schedule {
    const char *name;
    const char *summary;  /* one line for `tandem list` */
    bool splits_backward; /* passes B and W apart; otherwise BW */
    bool forward_only;
    /* Writes the passes of `stage` in issue order, O not included, into passes [capacity] and
     * returns how many there are (more than capacity: nothing past it was written). */
    uint32_t (*order)(uint32_t stage, uint32_t n_stages, uint32_t n_microbatches, tdm_pass *passes,
                      uint32_t capacity);
} tdm_schedule;

extern const tdm_schedule *const tdm_schedules[]; /* NULL-terminated, generated, by name */
const tdm_schedule *tdm_schedule_find(const char *name);

/* For schedules: appends a pass of chunk 0 while there is room, and counts it in any case. */
void tdm_schedule_put(tdm_pass *passes, uint32_t capacity, uint32_t *n, tdm_pass_kind kind,
                      uint32_t microbatch);

#endif
