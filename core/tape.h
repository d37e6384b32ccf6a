/* tape.h: the program of a role laid out flat: every op with its duration and with the ops it waits
 * for, found once and shared by the role's ranks. Private to walker.c and tape.c. */
#ifndef TDM_TAPE_H
#define TDM_TAPE_H

#include "engine.h"

/* An op that another waits for. */
typedef struct tdm_tape_wait {
    uint32_t index;  /* in program order */
    uint32_t number; /* 1, 2, ... on its stream */
    tdm_stream stream;
} tdm_tape_wait;

typedef struct tdm_tape_op {
    tdm_instance instance;
    double seconds; /* of a compute op; NAN: depends on the tokens routed to the rank */
    uint32_t first_wait, n_waits;
} tdm_tape_op;

typedef struct tdm_tape {
    const tdm_tape_op *ops; /* [n_ops] in program order */
    uint32_t n_ops;
    const tdm_tape_wait *waits;
    const uint32_t *streams[TDM_N_STREAMS]; /* [n_on_stream] indices of the stream's ops */
    uint32_t n_on_stream[TDM_N_STREAMS];
} tdm_tape;

/* What the walkers of one plan share. */
struct tdm_costs {
    const tdm_plan *plan;
    const tdm_device *device;
    double launch_s;
    const tdm_tape **tapes; /* [n_roles] */
};

#endif
