/* schedule.h: pipeline schedules: the order of passes on each stage.
 * A schedule is one file in core/schedules/ that defines `const tdm_schedule tdm_schedule_NAME`
 * (dashes in the file name become underscores); the build collects them in a table. */
#ifndef TDM_SCHEDULE_H
#define TDM_SCHEDULE_H

#include "plan.h"

/* Pass times of one microbatch on each stage, for schedules that weigh them. Arrays are [n_stages]
 * and hold the sum over a stage's chunks. */
typedef struct tdm_stage_times {
    const double *forward_s;
    const double *backward_input_s;
    const double *backward_weight_s;
    double send_s;
    double kept_share; /* of a forward's activations, how much stays from B until W */
} tdm_stage_times;

/* An order of passes that was read from a file: passes [n_stages][n_passes of the stage]. */
typedef struct tdm_pass_table {
    uint32_t n_stages, n_chunks, n_microbatches;
    bool split; /* passes B and W apart */
    const tdm_pass *const *passes;
    const uint32_t *n_passes;
    tdm_placement placement;
} tdm_pass_table;

/* What a schedule is asked to order. */
typedef struct tdm_schedule_shape {
    uint32_t n_stages;            /* p */
    uint32_t n_chunks;            /* v: chunks of layers per stage, placed as the schedule says */
    uint32_t n_microbatches;      /* m */
    uint32_t activation_limit;    /* microbatches of activations a stage may hold; 0: not given */
    const tdm_stage_times *times; /* NULL unless the schedule needs them */
    const tdm_pass_table *table;  /* NULL unless one was read */
} tdm_schedule_shape;

typedef struct tdm_schedule {
    const char *name;
    const char *summary;  /* one line for `tandem list` */
    bool splits_backward; /* passes B and W apart; otherwise BW */
    bool forward_only;
    bool chunked;     /* can order more than one chunk per stage */
    bool holds_sends; /* gradients may lie a whole chunk's backwards before they are taken */
    bool needs_times; /* shape->times must be given */
    bool needs_table; /* shape->table must be given; it says what is split */
    /* Why the schedule cannot order this shape, ending in what it accepts; NULL: it can. May be
     * NULL for a schedule that takes any shape. */
    const char *(*refuse)(const tdm_schedule_shape *shape);
    /* Writes the passes of `stage` in issue order, O not included, into passes [capacity] and
     * returns how many there are (more than capacity: nothing past it was written). */
    uint32_t (*order)(tdm_arena *scratch, const tdm_schedule_shape *shape, uint32_t stage,
                      tdm_pass *passes, uint32_t capacity);
    tdm_placement placement; /* of several chunks; with needs_table the table says it */
} tdm_schedule;

extern const tdm_schedule *const tdm_schedules[]; /* NULL-terminated, generated, by name */
const tdm_schedule *tdm_schedule_find(const char *name);

/* Why the schedule cannot order the shape, chunks it does not know included; NULL: it can. */
const char *tdm_schedule_refuse(const tdm_schedule *schedule, const tdm_schedule_shape *shape);

/* Whether the backward comes as passes B and W apart. */
bool tdm_schedule_splits(const tdm_schedule *schedule, const tdm_schedule_shape *shape);

/* Where the chunks of a shape lie. */
tdm_placement tdm_schedule_placement(const tdm_schedule *schedule, const tdm_schedule_shape *shape);

/* How many passes later a sent gradient's buffer must be free, in passes W apart or not. */
static inline uint32_t tdm_schedule_send_lag(const tdm_schedule *schedule, uint32_t n_microbatches)
{
    return schedule->holds_sends ? n_microbatches : 2;
}

/* For schedules: a list of passes that counts past its capacity. */
typedef struct tdm_pass_list {
    tdm_pass *passes;
    uint32_t capacity, n;
} tdm_pass_list;
void tdm_schedule_put(tdm_pass_list *list, tdm_pass_kind kind, uint32_t chunk, uint32_t microbatch);

#endif
