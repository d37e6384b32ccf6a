/* support.h: small scenarios and plans made in memory, for tests. */
#ifndef TANDEM_TESTS_SUPPORT_H
#define TANDEM_TESTS_SUPPORT_H

#include "core/engine.h"
#include "core/lower.h"
#include "core/schedule.h"

/* Zero fields take defaults: sizes 1, 4 layers, 4 microbatches, micro-batch 2, sequence 32, hidden
 * 64, 8 heads, vocabulary 256, schedule 1f1b, no experts, bf16. */
typedef struct support_spec {
    uint32_t tp, ep, dp, pp, vpp;
    uint32_t layers, experts, topk, microbatches, micro_batch, seq, hidden, heads;
    /* with experts: dense layers at the start; of the rest, layers moe_offset modulo moe_every */
    uint32_t dense_first, moe_every, moe_offset;
    uint32_t shared; /* columns of the shared experts */
    const char *schedule;
    bool sequence_parallel, distributed_optimizer, dropout, unfused, tied, swiglu, rope, clip,
        balanced, bias;
    tdm_recompute recompute;
    uint32_t etp;
    double capacity; /* factor; 0: nothing is dropped */
    bool padded;
} support_spec;

tdm_scenario support_scenario(tdm_arena *arena, const support_spec *spec);
/* p stages with the same pass times on each. */
tdm_scenario support_pass_times(tdm_arena *arena, uint32_t pp, uint32_t microbatches,
                                const char *schedule, double forward_s, double backward_input_s,
                                double backward_weight_s, double send_s);
/* Gives the scenario the chunks, microbatches and layers that its schedule asks for, if it asks;
 * false when there are none. */
bool support_suit(tdm_scenario *scenario);
/* Lowers with the scenario's own schedule; fails the test on an error. */
tdm_plan support_plan(tdm_arena *arena, const tdm_scenario *scenario);
/* As the files say; tdm_machine_of has the perturbation as well. */
tdm_machine support_machine(const tdm_scenario *scenario);
/* n GPUs on one switch, 100 GB/s and 1 us a link. */
tdm_topology support_switch(tdm_arena *arena, uint32_t n_gpus);

/* A set of specs that covers schedules, TP, EP, DP, PP, sequence parallelism, recompute and ZeRO-1;
 * ends with n. */
extern const support_spec support_specs[];
extern const size_t support_n_specs;

#endif
