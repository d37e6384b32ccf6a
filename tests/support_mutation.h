/* support_mutation.h: a fault planted in a sound plan, and what verify must say about it. */
#ifndef TANDEM_TESTS_SUPPORT_MUTATION_H
#define TANDEM_TESTS_SUPPORT_MUTATION_H

#include "core/verify.h"
#include "tests/support.h"
#include "tests/support_edit.h"

typedef struct mutation {
    const char *name;
    support_spec spec;
    void (*edit)(tdm_arena *arena, tdm_plan *plan);
    const char *expected[4]; /* what the message must hold */
} mutation;

/* MoE on 8 ranks: ranks 0 to 3 are stage 0, 4 to 7 stage 1. */
#define MOE                                                                                        \
    {                                                                                              \
        .tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2                                         \
    }
#define MOE_SPLIT                                                                                  \
    {                                                                                              \
        .tp = 4, .ep = 4, .pp = 2, .experts = 8, .topk = 2, .schedule = "zb-h1"                    \
    }
#define LAYER "moe-layer"

/* Plants the fault in a copy; fails the test when verify does not find it in these words, or finds
 * one in the original. */
void mutation_check(const mutation *mutation);

#endif
