/* test_verify_comm.c: faults planted in the communication of a plan are found with both sides' rank
 * and op. */
#include "tests/support_mutation.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void swap_collectives(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 1);
    edit_swap_ops(edit_template(plan, 1, LAYER, TDM_PASS_F), "proj.reduce", "combine.gather");
}

/* Equal in kind and bytes, so that only what they are part of tells them apart. */
static void swap_twins(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 2);
    edit_swap_passes(plan, 2, TDM_PASS_F, 0, TDM_PASS_F, 1);
}

static void no_neighbour(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_op(plan, 0, "send")->u.p2p.peer = TDM_PEER_PREVIOUS;
}

static void wrong_peer(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 1);
    edit_op(plan, 1, "send")->u.p2p.peer = TDM_PEER_PREVIOUS;
}

static void miss_recv(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 5);
    edit_drop_op(edit_template(plan, 5, "boundary-in", TDM_PASS_F), "recv");
}

static void miss_last(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 2);
    edit_drop_op(edit_template(plan, 2, NULL, TDM_PASS_O), "grads.replicated");
}

static void wrong_bytes(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 2);
    edit_op(plan, 2, "proj.reduce")->u.collective.bytes += 4;
}

static void wrong_recv_bytes(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_op(plan, 4, "recv")->u.p2p.bytes += 4;
}

static void wrong_dtype(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 2);
    edit_op(plan, 2, "proj.reduce")->dtype = TDM_DTYPE_FP32;
}

static void wrong_kind(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 3);
    edit_op(plan, 3, "proj.reduce")->kind = TDM_OP_REDUCE_SCATTER;
}

static void wrong_group(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 3);
    edit_op(plan, 3, "proj.reduce")->u.collective.group = TDM_GROUP_EP;
}

static void wrong_direction(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 6);
    edit_op(plan, 6, "dispatch")->u.collective.a2a = TDM_A2A_COMBINE;
}

static void share_communicators(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    static const char *const ops[] = {"send", "recv", "send.grad", "recv.grad"};
    for (uint32_t i = 0; i < TDM_COUNT(ops); i++)
        edit_op(plan, i == 0 || i == 3 ? 0 : 4, ops[i])->u.p2p.p2p = TDM_P2P_SHARED;
}

static void sends_swapped(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_swap_passes(plan, 0, TDM_PASS_F, 0, TDM_PASS_F, 1);
}

/* Stage 1 runs both forwards before a backward, stage 0 waits for a backward before its second
 * forward. */
static void schedules_clash(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    edit_swap_passes(plan, 0, TDM_PASS_BW, 0, TDM_PASS_F, 1);
    edit_swap_passes(plan, 4, TDM_PASS_BW, 0, TDM_PASS_F, 1);
}

/* Rank 1 lets the all-reduce wait for a dispatch which its peers issue only after their all-reduce.
 */
static void groups_cross(tdm_arena *arena, tdm_plan *plan)
{
    edit_separate(arena, plan, 1);
    edit_swap_ops(edit_template(plan, 1, LAYER, TDM_PASS_F), "proj.reduce", "dispatch");
    ((tdm_wait *)edit_op(plan, 1, "proj.reduce")->waits)[0].stream = TDM_STREAM_EP;
}

static void routing_row(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    const tdm_routing_table *t = &plan->routing;
    /* layer 3, microbatch 2, source 1: one token too many, which the expert's count knows of */
    size_t row = (size_t)3 * t->n_microbatches + 2;
    ((uint32_t *)t->sent)[row * t->ep * t->ep + 1 * t->ep + 0]++;
    ((uint32_t *)t->experts)[row * t->n_experts]++;
}

static void routing_column(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    ((uint32_t *)plan->routing.experts)[plan->routing.n_experts - 1]++;
}

static void wrong_stage(tdm_arena *arena, tdm_plan *plan)
{
    (void)arena;
    ((uint16_t *)plan->role_of)[3] = plan->role_of[4];
}

static const mutation mutations[] = {
    {"swapped collectives",
     MOE,
     swap_collectives,
     {"rank 0 and rank 1: not the same kind on the tp group of ranks 0..3",
      "rank 0 has bf16 all-reduce of 8192 bytes, op \"proj.reduce\" (F mb 0, layer 0)",
      "rank 1 has bf16 all-gather of 8192 bytes, op \"combine.gather\" (F mb 0, layer 0)"}},
    {"swapped twins",
     MOE,
     swap_twins,
     {"rank 0 and rank 2: not the same order on the tp group",
      "rank 0 has bf16 all-reduce of 8192 bytes, op \"lookup.reduce\" (F mb 0, embedding)",
      "rank 2 has bf16 all-reduce of 8192 bytes, op \"lookup.reduce\" (F mb 1, embedding)"}},
    {"send to nobody",
     MOE,
     no_neighbour,
     {"rank 0: op \"send\" (F mb 0, boundary-out) has no neighbour"}},
    {"wrong peer",
     {.pp = 4},
     wrong_peer,
     {"rank 1", "op \"send\" (F mb 0, boundary-out)",
      "rank 2: bf16 recv of 8192 bytes, op \"recv\" (F mb 0, boundary-in) has no counterpart on rank 1"}},
    {"missing receive",
     MOE,
     miss_recv,
     {"rank 1: bf16 send of 8192 bytes, op \"send\" (F mb 0, boundary-out) has no counterpart on rank 5"}},
    {"one collective too few",
     MOE,
     miss_last,
     {"rank 0: fp32 all-reduce of",
      "op \"grads.replicated\" (O) has no counterpart on rank 2: on the tp group of ranks 0..3 they issue 37 and 36 operations"}},
    {"wrong bytes on one rank",
     MOE,
     wrong_bytes,
     {"rank 0 and rank 2: not the same bytes on the tp group of ranks 0..3, operation 2",
      "bf16 all-reduce of 8192 bytes, op \"proj.reduce\"",
      "bf16 all-reduce of 8196 bytes, op \"proj.reduce\""}},
    {"wrong bytes of a receive",
     MOE,
     wrong_recv_bytes,
     {"rank 0 and rank 4: not the same bytes on the communicator from rank 0 to rank 4, operation 1",
      "op \"send\" (F mb 0, boundary-out)", "op \"recv\" (F mb 0, boundary-in)"}},
    {"wrong dtype",
     MOE,
     wrong_dtype,
     {"rank 0 and rank 2: not the same dtype", "op \"proj.reduce\""}},
    {"wrong kind",
     MOE,
     wrong_kind,
     {"rank 0 and rank 3: not the same kind",
      "rank 3 has bf16 reduce-scatter of 8192 bytes, op \"proj.reduce\""}},
    {"wrong group",
     MOE,
     wrong_group,
     {"rank 0 and rank 3: not the same kind on the tp group of ranks 0..3",
      "rank 0 and rank 3: not the same kind on the ep group of ranks 0..3, operation 1",
      "rank 3 has bf16 all-reduce of 8192 bytes, op \"proj.reduce\" (F mb 0, layer 0)"}},
    {"wrong direction",
     MOE,
     wrong_direction,
     {"rank 4 and rank 6: not the same direction on the ep group of ranks 4..7",
      "op \"dispatch\" (F mb 0, layer 2)"}},
    {"opposing sends",
     MOE,
     share_communicators,
     {"rank 0 and rank 4: opposing sends (a deadlock) on the communicator of ranks 0 and 4, both directions, operation 2",
      "rank 0 has bf16 send of 8192 bytes, op \"send\" (F mb 1, boundary-out)",
      "rank 4 has bf16 send of 8192 bytes, op \"send.grad\" (BW mb 0, boundary-in)"}},
    {"sends in the opposite order",
     MOE,
     sends_swapped,
     {"rank 0 and rank 4: not the same pass on the communicator from rank 0 to rank 4, operation 1",
      "op \"send\" (F mb 1, boundary-out)", "op \"recv\" (F mb 0, boundary-in)"}},
    {"schedules that wait for each other",
     MOE,
     schedules_clash,
     {"deadlock", "op \"recv.grad\" (BW mb 0, boundary-out) on stream pp-recv",
      "op \"recv\" (F mb 1, boundary-in) on stream pp-recv",
      "is ready and needs its counterpart on rank"}},
    {"groups in crossed order",
     MOE,
     groups_cross,
     {"deadlock",
      "rank 1: op \"proj.reduce\" (F mb 0, layer 0) on stream tp waits for rank 1: op \"dispatch\" (F mb 0, layer 0) on stream ep",
      "rank 0: op \"proj.reduce\" (F mb 0, layer 0) on stream tp is ready and needs its counterpart on rank 1"}},
    {"routing: a source sends too much",
     MOE,
     routing_row,
     {"rank 5: op \"dispatch\" (F mb 2, layer 3)",
      "sends 33 token-expert pairs, but its tokens times top-k are 32"}},
    {"routing: an expert gets too much",
     MOE,
     routing_column,
     {"rank 3: op \"dispatch\" (F mb 0, layer 0)", "its experts' counts add up to"}},
    {"role of another stage", MOE, wrong_stage, {"rank 3 has no role of its stage"}},
};

static void planted_faults_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < TDM_COUNT(mutations); i++)
        mutation_check(&mutations[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planted_faults_are_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
