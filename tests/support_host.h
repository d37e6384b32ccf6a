/* support_host.h: plans that really run, and what they compute against one rank alone. */
#ifndef TANDEM_TESTS_SUPPORT_HOST_H
#define TANDEM_TESTS_SUPPORT_HOST_H

#include "backend/rank.h"
#include "core/scenario.h"

#include <pthread.h>

enum { HOST_STEPS = 3 };

/* The gradients of a model's parameter, over all ranks, at the first and the last step. */
typedef struct host_entry {
    const char *kind, *param;
    uint32_t layer;
    uint64_t count;       /* of the whole model's; expanded as pieces come */
    float *gradients[2];  /* [count] */
    bool *seen;           /* [count] */
    double off[2], of[2]; /* sums of squares: differences and reference, over all ranks' pieces */
    bool reached;         /* by a piece of the compared run */
} host_entry;

typedef struct host_book {
    tdm_arena *arena;
    const tdm_plan *plan;
    bool compares; /* the entries are the reference: pieces are held against them */
    host_entry *entries;
    uint32_t n_entries, n_wrong;
    uint64_t n_compared;
    pthread_mutex_t mutex;
} host_book;

host_book host_book_new(tdm_arena *arena);
/* What a device shows to, with the book as context, whose plan is set. */
tdm_watch host_see;
/* Every entry was reached, and is off by so little of its size. */
void host_check_gradients(const char *what, const host_book *book, double tolerance);

typedef struct host_outcome {
    double loss[HOST_STEPS], grad_norm[HOST_STEPS];
    tdm_exec_count *counts;    /* [world]; ARENA: not filled */
    const tdm_layout *layouts; /* [world] */
    tdm_plan plan;
} host_outcome;

/* Changes a rank's weights before the first step. */
typedef void host_change(void *context, const tdm_plan *plan, uint32_t rank, float *weights);

/* Lowers, lays out and runs the scenario for so many steps on the host device. Gradients go to the
 * book unless it is NULL; change may be NULL. Fails the test, with `what` in the message, when
 * something fails. */
void host_run(tdm_arena *arena, const char *what, const tdm_scenario *scenario,
              tdm_exec_placement placement, uint32_t n_steps, host_book *book, host_change *change,
              void *context, host_outcome *outcome);

/* The same model, data and drops on one rank, with nothing that only changes how it is computed:
 * experts are not padded. Where they are in the scenario, and some choices may be dropped, its
 * micro-batch must be a multiple of TP. */
tdm_scenario host_alone(const tdm_scenario *scenario);

/* Runs the scenario and the same on one rank: losses and norms of the gradient within 1e-5,
 * gradients within 1e-4 (relative), memory in use as planned. */
void host_compare(const char *what, const tdm_scenario *scenario, tdm_exec_placement placement);

/* Where a parameter's weights begin on a rank, in numbers; UINT64_MAX: it has none of that name and
 * layer. */
uint64_t host_weight_place(const tdm_plan *plan, uint32_t rank, const char *kind, const char *param,
                           uint32_t layer, uint64_t *count);

#endif
