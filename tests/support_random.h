/* support_random.h: random valid scenarios, a pure function of a seed. */
#ifndef TANDEM_TESTS_SUPPORT_RANDOM_H
#define TANDEM_TESTS_SUPPORT_RANDOM_H

#include "core/scenario.h"

typedef struct random_scenario {
    uint64_t seed;
    tdm_scenario scenario;
    char text[1024]; /* all that was drawn, for messages */
} random_scenario;

/* Up to 64 ranks of every schedule: models on one switch, on nodes with network adapters, on PCIe
 * trees and on the topology files below `root`, or stages of unequal pass times. */
void random_scenario_draw(tdm_arena *arena, const char *root, uint64_t seed,
                          random_scenario *drawn);

/* 0 .. 1 */
double random_share(uint64_t *state);

#endif
