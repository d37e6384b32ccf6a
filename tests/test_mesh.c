/* test_mesh.c: rank order and groups against Megatron's published examples and against each other.
 */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static tdm_mesh make(uint32_t tp, uint32_t cp, uint32_t dp, uint32_t pp, uint32_t ep, uint32_t etp)
{
    tdm_mesh mesh;
    tdm_error err = {0};
    assert_int_equal(tdm_mesh_init(&mesh, tp, cp, dp, pp, ep, etp, &err), TDM_OK);
    return mesh;
}

static void test_folding_makes_16_ranks(void **state)
{
    (void)state;
    tdm_mesh mesh = make(8, 1, 1, 2, 8, 1);
    assert_int_equal(mesh.world, 16);
    assert_int_equal(mesh.edp, 1);
    for (uint32_t rank = 0; rank < 16; rank++) {
        tdm_group tp = tdm_mesh_group(&mesh, TDM_GROUP_TP, rank),
                  ep = tdm_mesh_group(&mesh, TDM_GROUP_EP, rank);
        for (uint32_t i = 0; i < 8; i++) {
            assert_int_equal(tdm_group_member(&tp, i), rank / 8 * 8 + i);
            assert_int_equal(tdm_group_member(&ep, i), rank / 8 * 8 + i);
        }
        assert_int_equal(tdm_mesh_stage(&mesh, rank), rank / 8);
    }
}

/* Example in Megatron's parallel_state.py: 16 GPUs, TP 2, PP 4: TP groups [0,1] [2,3] ..., DP
 * groups [0,2] [1,3] [4,6] ..., PP groups [0,4,8,12] [1,5,9,13] ... */
static void test_megatron_example(void **state)
{
    (void)state;
    tdm_mesh mesh = make(2, 1, 2, 4, 1, 1);
    tdm_group dp = tdm_mesh_group(&mesh, TDM_GROUP_DP, 6);
    assert_int_equal(tdm_group_member(&dp, 0), 4);
    assert_int_equal(tdm_group_member(&dp, 1), 6);
    tdm_group pp = tdm_mesh_group(&mesh, TDM_GROUP_PP, 9);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(tdm_group_member(&pp, i), 1 + 4 * i);
    assert_int_equal(tdm_mesh_at_stage(&mesh, 9, 0), 1);
}

/* Groups of one kind partition the ranks, and every member sees the same group. */
static void test_groups_partition(void **state)
{
    (void)state;
    static const uint32_t shapes[][6] = {{8, 1, 1, 2, 8, 1},
                                         {2, 1, 4, 2, 4, 1},
                                         {2, 2, 2, 3, 2, 2},
                                         {1, 1, 8, 1, 4, 2},
                                         {4, 1, 4, 4, 8, 2}};
    for (size_t i = 0; i < TDM_COUNT(shapes); i++) {
        const uint32_t *s = shapes[i];
        tdm_mesh mesh = make(s[0], s[1], s[2], s[3], s[4], s[5]);
        for (int kind = 0; kind < TDM_N_GROUP_KINDS; kind++) {
            uint64_t members = 0;
            for (uint32_t rank = 0; rank < mesh.world; rank++) {
                tdm_group g = tdm_mesh_group(&mesh, (tdm_group_kind)kind, rank);
                uint32_t index = tdm_group_index(&g, rank);
                assert_true(index < g.size && tdm_group_member(&g, index) == rank);
                assert_true(g.id < tdm_mesh_n_groups(&mesh, (tdm_group_kind)kind));
                members += index == 0 ? g.size : 0;
                for (uint32_t m = 0; m < g.size; m++) {
                    tdm_group same =
                        tdm_mesh_group(&mesh, (tdm_group_kind)kind, tdm_group_member(&g, m));
                    assert_int_equal(same.id, g.id);
                    assert_int_equal(same.rank0, g.rank0);
                }
            }
            assert_int_equal(members, mesh.world);
        }
        assert_int_equal(mesh.etp * mesh.ep * mesh.edp, mesh.per_stage);
    }
}

static void test_index_of_strangers(void **state)
{
    (void)state;
    tdm_mesh mesh = make(2, 1, 2, 4, 1, 1);
    tdm_group pp = tdm_mesh_group(&mesh, TDM_GROUP_PP, 9);
    for (uint32_t rank = 0; rank < 16; rank++)
        assert_int_equal(tdm_group_index(&pp, rank), rank % 4 == 1 ? rank / 4 : 4);
}

static void test_bad_sizes(void **state)
{
    (void)state;
    tdm_mesh mesh = {.world = 77};
    tdm_error err = {0};
    assert_int_equal(tdm_mesh_init(&mesh, 8, 1, 1, 2, 16, 1, &err), TDM_E_INVALID);
    assert_string_equal(
        err.text,
        "parallel.expert_model_parallel_size: 16 x expert_tensor_parallel_size 1 does not divide "
        "the 8 ranks of a stage (tensor 8 x context 1 x data 1)\n");
    assert_int_equal(tdm_mesh_init(&mesh, 0, 1, 1, 2, 1, 1, NULL), TDM_E_INVALID);
    assert_int_equal(tdm_mesh_init(&mesh, 1u << 20, 1, 2, 2, 1, 1, NULL), TDM_E_INVALID);
    assert_int_equal(tdm_mesh_init(&mesh, 1u << 31, 1u << 31, 4, 1, 1, 1, NULL), TDM_E_INVALID);
    assert_int_equal(tdm_mesh_init(&mesh, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 1, 1, NULL),
                     TDM_E_INVALID);
    assert_int_equal(mesh.world, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folding_makes_16_ranks),
        cmocka_unit_test(test_megatron_example),
        cmocka_unit_test(test_groups_partition),
        cmocka_unit_test(test_index_of_strangers),
        cmocka_unit_test(test_bad_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
