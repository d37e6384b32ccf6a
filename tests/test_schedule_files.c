/* test_schedule_files.c: orders of passes from PyTorch's CSV, and Megatron's layout strings. */
#include "core/schedule_csv.h"
#include "core/stage_layout.h"
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static tdm_code parse(tdm_arena *arena, const char *text, tdm_pass_table *table, tdm_error **err)
{
    *err = TDM_ALLOC(arena, tdm_error, 1);
    return tdm_schedule_csv_parse(arena, "s.csv", text, strlen(text), table, *err);
}

static void test_reads_torch(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    tdm_pass_table table;
    tdm_error *err;
    const char *text = "0F0,0F1,,0SEND_F0,2F0, 2F1 ,2RECV_B0,2B0,2B1,0UNSHARD,0B0,0B1\r\n"
                       ",1F0,1F1,3F0,3B0,3F1,3B1,1B0,1B1,1REDUCE_GRAD\n";
    assert_int_equal(parse(&arena, text, &table, &err), TDM_OK);
    assert_int_equal(table.n_stages, 2);
    assert_int_equal(table.n_chunks, 2);
    assert_int_equal(table.n_microbatches, 2);
    assert_false(table.split);
    assert_int_equal(table.n_passes[0], 8);
    assert_int_equal(table.n_passes[1], 8);
    assert_int_equal(table.passes[0][2].chunk, 1);
    assert_int_equal(table.passes[0][2].kind, TDM_PASS_F);
    assert_int_equal(table.passes[1][3].kind, TDM_PASS_BW);
    assert_int_equal(table.passes[1][5].microbatch, 1);
    tdm_arena_free(&arena);
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "s.csv:1:1: no pass in the file\n"},
        {",,\n,\n", "s.csv:1:1: no pass in the file\n"},
        {"0F0,0X1\n",
         "s.csv:1:5: '0X1': expected STAGE, F, B, I or W, MICROBATCH, as in 0F0, 1B3, 2I0 or 2W0\n"},
        {"0F0\nF1\n",
         "s.csv:2:1: 'F1': expected STAGE, F, B, I or W, MICROBATCH, as in 0F0, 1B3, 2I0 or 2W0\n"},
        {"0F99999999999999999999\n",
         "s.csv:1:1: '0F99999999999999999999': expected STAGE, F, B, I or "
         "W, MICROBATCH, as in 0F0, 1B3, 2I0 or 2W0\n"},
        {"0F0,0B0,0I1\n",
         "s.csv:1:9: '0I1': whole backwards (B) and split ones (I, W) cannot be mixed\n"},
        {"0F0\n0F1,1F0\n",
         "s.csv:2:1: stage 0 stands in row 1; of 2 rows, row 0 is the one that holds it\n"},
        {"0F0,2F0\n1F0,3F0\n2B0\n4F0,5F0,6F0,7F0\n",
         "s.csv:1:1: stage 2 stands in row 0; of 4 rows, row 2 is the one that holds it\n"},
        {"0F0,4F0\n1F0,5F0\n2F0,3F0\n",
         "s.csv:1:1: stage 4 stands in row 0; of 3 rows, row 1 is the one that holds it\n"},
        {"0F0,5F0\n1F0,3F0\n2F0,4F0\n",
         "s.csv:2:1: stage 3 stands in row 1; of 3 rows, row 0 holds it in a loop and row 2 in a "
         "V, and other placements are not supported\n"},
        {"0F0,2F0\n1F0\n", "s.csv:1:1: 3 stages on 2 rows: every rank must have the same number\n"},
        {"(0F0;1B0)OVERLAP_F_B\n", "s.csv:1:1: '(0F0;1B0)OVERLAP_F_B': overlapped forward and "
                                   "backward in one action are not supported\n"},
    };
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        tdm_arena arena = {0};
        tdm_pass_table table = {.n_stages = 77};
        tdm_error *err;
        assert_int_equal(parse(&arena, cases[i].text, &table, &err), TDM_E_INVALID);
        assert_string_equal(err->text, cases[i].message);
        assert_int_equal(table.n_stages, 77);
        tdm_arena_free(&arena);
    }
}

/* A registered schedule written as CSV and read again orders the same passes. */
static void test_same_order_as_the_schedule(void **state)
{
    (void)state;
    static const char ops[] = {'F', 'I', 'W', 'B'};
    static const char *const names[] = {"1f1b", "zb-h1", "interleaved-1f1b", "breadth-first"};
    for (size_t k = 0; k < TDM_COUNT(names); k++) {
        tdm_arena arena = {0};
        tdm_scenario sc = support_pass_times(&arena, 4, 8, names[k], 1, 1, 1, 0.1);
        assert_true(support_suit(&sc));
        tdm_plan plan = support_plan(&arena, &sc);
        char text[16384];
        size_t n = 0;
        for (uint32_t s = 0; s < 4; s++) {
            for (uint32_t i = 0; i < plan.roles[s].n_passes; i++) {
                const tdm_pass *p = &plan.roles[s].passes[i];
                n += (size_t)snprintf(text + n, sizeof text - n, "%s%u%c%u", i ? "," : "",
                                      p->chunk * 4u + s, ops[p->kind], p->microbatch);
            }
            text[n++] = '\n';
        }
        tdm_pass_table table;
        tdm_error *err = TDM_ALLOC(&arena, tdm_error, 1);
        assert_int_equal(tdm_schedule_csv_parse(&arena, "s", text, n, &table, err), TDM_OK);
        sc.schedule = "csv";
        sc.pass_table = &table;
        tdm_plan again = support_plan(&arena, &sc);
        for (uint32_t s = 0; s < 4; s++) {
            assert_int_equal(again.roles[s].n_passes, plan.roles[s].n_passes);
            for (uint32_t i = 0; i < plan.roles[s].n_passes; i++) {
                assert_int_equal(again.roles[s].passes[i].kind, plan.roles[s].passes[i].kind);
                assert_int_equal(again.roles[s].passes[i].chunk, plan.roles[s].passes[i].chunk);
                assert_int_equal(again.roles[s].passes[i].microbatch,
                                 plan.roles[s].passes[i].microbatch);
            }
        }
        tdm_arena_free(&arena);
    }
}

static void test_layouts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t stages, layers, counts[4];
        const char *problem;
    } cases[] = {
        {"Et*3|t*4|t*3L", 3, 10, {3, 4, 3}, NULL},
        {"E|(t|)*2L", 4, 2, {0, 1, 1, 0}, NULL},
        {"E, tt | (tt|)*2 , L", 4, 6, {2, 2, 2, 0}, NULL},
        {"Et|t*0|tL", 3, 2, {1, 0, 1}, NULL},
        {"Et|tL", 3, 2, {0}, "has 2 stages, the layout of the ranks 3"},
        {"Et|t|t|tL", 2, 4, {0}, "has more than 2 stages, the layout of the ranks 2"},
        {"Et|tL", 2, 4, {0}, "has 2 layers, the model 4"},
        {"t|tL", 2, 2, {0}, "must begin with its only E, the embedding"},
        {"Et|Lt", 2, 2, {0}, "must end with its only L, the loss"},
        {"Et|tmL", 2, 2, {0}, "character 5: multi-token prediction (m) is not supported"},
        {"Et*|tL", 2, 2, {0}, "character 4: expected a number after '*'"},
        {"E(t|", 2, 2, {0}, "character 5: expected ')'"},
        {"Et)L", 1, 1, {0}, "character 3: ')' without '('"},
        {"Ex|L",
         2,
         1,
         {0},
         "character 2: expected E, t, L, |, a group in parentheses or '*' and a number"},
        {"Et*9999999|L", 2, 1, {0}, "character 9: too many repetitions"},
        {"", 1, 1, {0}, "must begin with its only E, the embedding"},
    };
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        uint32_t layers[4] = {0};
        const char *problem =
            tdm_stage_layout_parse(&arena, cases[i].text, cases[i].stages, cases[i].layers, layers);
        if (!cases[i].problem && problem)
            fail_msg("%s: %s", cases[i].text, problem);
        if (cases[i].problem)
            assert_string_equal(problem ? problem : "", cases[i].problem);
        else
            assert_memory_equal(layers, cases[i].counts, cases[i].stages * sizeof *layers);
    }
    tdm_arena_free(&arena);
}

/* Random bytes never crash the parsers. */
static void test_any_bytes(void **state)
{
    (void)state;
    static const char alphabet[] = "0123FBIWSEND_,\n\r ()*tEL|m;-";
    uint64_t seed = 88172645463325252u;
    tdm_arena arena = {0};
    for (int i = 0; i < 20000; i++) {
        char text[64];
        size_t n = 0;
        for (; n < sizeof text - 1; n++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if (seed % 50 == 0)
                break;
            text[n] = alphabet[seed % (sizeof alphabet - 1)];
        }
        text[n] = '\0';
        tdm_pass_table table;
        uint32_t layers[3];
        tdm_schedule_csv_parse(&arena, "s", text, n, &table, NULL);
        tdm_stage_layout_parse(&arena, text, 3, 4, layers);
        tdm_arena_reset(&arena);
    }
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_torch),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_same_order_as_the_schedule),
        cmocka_unit_test(test_layouts),
        cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
