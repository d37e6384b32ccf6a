/* test_lower.c: what lowering stores and moves, against published formulas and invariants. */
#include "tests/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Bytes a layer keeps for its backward pass: activations born in its own F and dead later, and its
 * input x. */
static uint64_t stored_bytes(const tdm_plan *plan)
{
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < plan->n_kinds; k++) {
        const tdm_kind *kind = &plan->kinds[k];
        if (!strstr(kind->name, "layer"))
            continue;
        const tdm_template *forward = &kind->templates[TDM_PASS_F];
        for (uint32_t slot = 0; slot < kind->n_slots; slot++) {
            bool born = slot == 0, dead = false; /* slot 0 is x, born before */
            for (uint32_t i = 0; i < forward->n_ops; i++)
                for (uint32_t r = 0; r < forward->ops[i].n_refs; r++) {
                    const tdm_ref *ref = &forward->ops[i].refs[r];
                    if (ref->slot != slot || ref->next)
                        continue;
                    born |= ref->birth;
                    dead |= ref->death;
                }
            if (born && !dead)
                bytes += kind->slots[slot].bytes.fixed;
        }
    }
    return bytes;
}

/* Korthikanti et al. 2022, table 2: bytes of activations a layer of their GPT stores. */
static void test_activation_formulas(void **state)
{
    (void)state;
    enum { S = 32, B = 2, H = 64, A = 8, T = 4 };
    const uint64_t sbh = (uint64_t)S * B * H,
                   attention = 5 * (uint64_t)A * S * S * B; /* sbh * 5as/h */
    const struct {
        support_spec spec;
        uint64_t bytes;
    } cases[] = {
        {{0}, sbh * 34 + attention},
        {{.tp = T}, sbh * 10 + sbh * 24 / T + attention / T},
        {{.tp = T, .sequence_parallel = true}, sbh * 34 / T + attention / T},
        {{.tp = T, .recompute = TDM_RECOMPUTE_SELECTIVE}, sbh * 10 + sbh * 24 / T},
        {{.tp = T, .sequence_parallel = true, .recompute = TDM_RECOMPUTE_SELECTIVE}, sbh * 34 / T},
        {{.tp = T, .recompute = TDM_RECOMPUTE_FULL}, 2 * sbh},
        {{.recompute = TDM_RECOMPUTE_FULL}, 2 * sbh},
    };
    tdm_arena arena = {0};
    for (size_t i = 0; i < TDM_COUNT(cases); i++) {
        support_spec spec = cases[i].spec;
        spec.dropout = spec.unfused = spec.bias = true;
        tdm_scenario scenario = support_scenario(&arena, &spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        assert_int_equal(stored_bytes(&plan), cases[i].bytes);
    }
    tdm_arena_free(&arena);
}

/* Model FLOPs of an iteration, same paper, eq. 7: 72 B L s h^2 (1 + s/6h + v/12hL). The layers'
 * part is exact here: GPT with 4h feed-forward. */
static void test_model_flops(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const support_spec specs[] = {
        {.unfused = true}, {.tp = 4}, {.pp = 2, .dp = 2, .schedule = "zb-h1"}};
    for (size_t i = 0; i < TDM_COUNT(specs); i++) {
        tdm_scenario scenario = support_scenario(&arena, &specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        double flops = 0;
        for (uint32_t rank = 0; rank < plan.mesh.world; rank++) {
            tdm_cursor cursor;
            tdm_instance in;
            tdm_cursor_init(&cursor, &plan, rank);
            while (tdm_cursor_next(&cursor, &in))
                flops += in.op->recompute ? 0 : tdm_op_flops(&plan, rank, &in);
        }
        double batch = 4.0 * 2.0 * plan.mesh.dp, layers = 4, s = 32, h = 64, v = 256;
        double expected =
            72 * batch * layers * s * h * h * (1 + s / (6 * h) + v / (12 * h * layers));
        assert_true(flops > expected * (1 - 1e-12) && flops < expected * (1 + 1e-12));
    }
    tdm_arena_free(&arena);
}

/* The cursor yields as many ops as counted, in passes of the role's order, positions up in F and
 * down otherwise. */
static void test_cursor_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < support_n_specs; i++) {
        tdm_arena arena = {0};
        tdm_scenario scenario = support_scenario(&arena, &support_specs[i]);
        tdm_plan plan = support_plan(&arena, &scenario);
        for (uint32_t rank = 0; rank < plan.mesh.world; rank++) {
            tdm_cursor cursor;
            tdm_instance in, before = {0};
            uint32_t n = 0;
            tdm_cursor_init(&cursor, &plan, rank);
            while (tdm_cursor_next(&cursor, &in)) {
                assert_int_equal(in.index, n++);
                bool same_pass = n > 1 && in.pass_index == before.pass_index;
                assert_int_equal(in.first_of_pass, !same_pass);
                if (same_pass && in.pass.kind != TDM_PASS_O)
                    assert_true(in.pass.kind == TDM_PASS_F ? in.position >= before.position
                                                           : in.position <= before.position);
                before = in;
            }
            assert_int_equal(n, tdm_plan_n_ops(&plan, rank));
        }
        tdm_arena_free(&arena);
    }
}

/* Lowered forward and backward move the same volume over TP with and without sequence parallelism:
 * an all-reduce equals a reduce-scatter and an all-gather. Source: Korthikanti et al. 2022,
 * section 4.2.2. */
static void test_sequence_parallel_adds_gathers(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    uint64_t wire[2] = {0, 0};
    for (int sp = 0; sp < 2; sp++) {
        support_spec spec = {.tp = 4, .sequence_parallel = sp == 1};
        tdm_scenario scenario = support_scenario(&arena, &spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        const tdm_kind *layer = &plan.kinds[1];
        assert_string_equal(layer->name, "layer");
        const tdm_template *t = &layer->templates[TDM_PASS_F];
        for (uint32_t i = 0; i < t->n_ops; i++)
            if (tdm_op_is_collective(t->ops[i].kind))
                wire[sp] +=
                    t->ops[i].u.collective.bytes * (t->ops[i].kind == TDM_OP_ALL_REDUCE ? 2 : 1);
    }
    assert_true(wire[0] > 0);
    assert_int_equal(wire[0], wire[1]);
    tdm_arena_free(&arena);
}

/* Split passes hold the ops of the whole one, each once. */
static void test_split_is_a_partition(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    support_spec whole = {.tp = 2, .pp = 2, .ep = 2, .experts = 4, .topk = 2}, split = whole;
    split.schedule = "zb-h1";
    tdm_scenario a = support_scenario(&arena, &whole), b = support_scenario(&arena, &split);
    tdm_plan pa = support_plan(&arena, &a), pb = support_plan(&arena, &b);
    for (uint32_t k = 0; k < pa.n_kinds; k++) {
        const tdm_template *ta = pa.kinds[k].templates, *tb = pb.kinds[k].templates;
        assert_int_equal(ta[TDM_PASS_BW].n_ops, tb[TDM_PASS_B].n_ops + tb[TDM_PASS_W].n_ops);
        assert_int_equal(ta[TDM_PASS_F].n_ops, tb[TDM_PASS_F].n_ops);
        for (uint32_t i = 0; i < tb[TDM_PASS_W].n_ops; i++)
            assert_int_equal(tb[TDM_PASS_W].ops[i].pass, TDM_PASS_W);
    }
    tdm_arena_free(&arena);
}

/* One stage's passes: each microbatch of each chunk F, B and W (or BW) once, in that order. */
static void check_order(const tdm_schedule *schedule, const tdm_schedule_shape *shape,
                        uint32_t stage)
{
    enum { CAPACITY = 512, MOST = 64 };
    tdm_arena arena = {0};
    tdm_pass passes[CAPACITY];
    uint32_t at[TDM_N_PASS_KINDS][MOST] = {{0}}, seen[TDM_N_PASS_KINDS] = {0};
    uint32_t n = schedule->order(&arena, shape, stage, passes, CAPACITY);
    uint32_t m = shape->n_microbatches, works = m * shape->n_chunks;
    assert_true(n <= CAPACITY && works <= MOST);
    assert_int_equal(schedule->order(&arena, shape, stage, NULL, 0), n);
    for (uint32_t k = 0; k < n; k++) {
        assert_true(passes[k].microbatch < m && passes[k].chunk < shape->n_chunks);
        at[passes[k].kind][passes[k].chunk * m + passes[k].microbatch] = k + 1;
        seen[passes[k].kind]++;
    }
    bool split = schedule->splits_backward, forward = schedule->forward_only;
    assert_int_equal(n, works * (forward ? 1u : split ? 3u : 2u));
    assert_int_equal(seen[TDM_PASS_F], works);
    for (uint32_t i = 0; i < works; i++)
        assert_true(at[TDM_PASS_F][i] > 0);
    for (uint32_t i = 0; i < works && !forward; i++) {
        tdm_pass_kind back = split ? TDM_PASS_B : TDM_PASS_BW;
        assert_true(at[TDM_PASS_F][i] < at[back][i]);
        if (split)
            assert_true(at[TDM_PASS_B][i] < at[TDM_PASS_W][i]);
    }
    tdm_arena_free(&arena);
}

static void test_schedules_are_complete(void **state)
{
    (void)state;
    uint32_t n_checked = 0;
    for (size_t i = 0; tdm_schedules[i]; i++)
        for (uint32_t p = 1; p <= 6; p++)
            for (uint32_t v = 1; v <= 3; v++)
                for (uint32_t m = 1; m <= 18; m++) {
                    static const double ones[] = {1, 1, 1, 1, 1, 1};
                    const tdm_stage_times times = {ones, ones, ones, 0.1, 0.5};
                    tdm_schedule_shape shape = {
                        .n_stages = p, .n_chunks = v, .n_microbatches = m, .times = &times};
                    if (tdm_schedule_refuse(tdm_schedules[i], &shape))
                        continue;
                    n_checked++;
                    for (uint32_t stage = 0; stage < p; stage++)
                        check_order(tdm_schedules[i], &shape, stage);
                }
    assert_true(n_checked > 500);
}

/* A parameter that every TP rank holds whole. */
static bool is_copied(const tdm_param *param)
{
    const char *name = param->name;
    return !param->expert &&
           (strstr(name, "norm") || !strcmp(name, "gate") || !strcmp(name, "gate.bias") ||
            !strcmp(name, "positions") || !strcmp(name, "proj.bias") || !strcmp(name, "fc2.bias") ||
            !strcmp(name, "shared.fc2.bias"));
}

/* Over all ranks a plan holds as many parameters as the model has, whatever small vectors it has.
 */
static void check_parameters(tdm_arena *arena, const tdm_scenario *scenario)
{
    tdm_plan plan = support_plan(arena, scenario);
    uint64_t sharded = 0, replicated = 0;
    for (uint32_t stage = 0; stage < plan.mesh.pp; stage++) {
        const tdm_chunk *chunk = &plan.roles[stage].chunks[0];
        for (uint32_t b = 0; b < chunk->n_blocks; b++) {
            const tdm_kind *kind = &plan.kinds[chunk->blocks[b].kind];
            for (uint32_t p = 0; p < kind->n_params; p++)
                *(is_copied(&kind->params[p]) ? &replicated : &sharded) +=
                    kind->params[p].count * chunk->blocks[b].count;
        }
    }
    assert_int_equal(sharded * plan.mesh.tp + replicated, tdm_model_params(&scenario->model));
}

static void test_parameter_counts(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const support_spec specs[] = {
        {.bias = true},
        {.swiglu = true, .rope = true},
        {.experts = 8, .topk = 2, .tied = true},
        {.experts = 8, .topk = 2, .bias = true, .swiglu = true},
        {.tp = 4, .pp = 2},
        {.experts = 8, .topk = 2, .dense_first = 1, .shared = 64},
        {.tp = 4, .ep = 4, .experts = 8, .topk = 2, .bias = true, .moe_every = 2, .shared = 64},
        {.tp = 4, .ep = 4, .experts = 8, .topk = 2},
        {.tp = 4, .ep = 4, .experts = 8, .topk = 2, .bias = true}};
    for (size_t i = 0; i < TDM_COUNT(specs); i++)
        for (unsigned extras = 0; extras < 16; extras++) {
            tdm_scenario scenario = support_scenario(&arena, &specs[i]);
            tdm_model *m = &scenario.model;
            m->add_attention_bias = extras & 1;
            m->add_qkv_bias = extras & 2;
            m->qk_layernorm = extras & 4;
            m->attention_sinks = extras & 8;
            check_parameters(&arena, &scenario);
        }
    tdm_arena_free(&arena);
}

static const tdm_op *find_op(const tdm_template *template, const char *name)
{
    for (uint32_t i = 0; i < template->n_ops; i++)
        if (strcmp(template->ops[i].name, name) == 0)
            return &template->ops[i];
    return NULL;
}

/* A dense layer with sequence parallelism begins its backward pass with a gather of what may just
 * have come from the next stage. */
static void test_gather_waits_for_receive(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.tp = 2, .pp = 2, .sequence_parallel = true};
    tdm_scenario scenario = support_scenario(&arena, &spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    const tdm_template *backward = &plan.kinds[1].templates[TDM_PASS_BW];
    const tdm_op *gather = &backward->ops[0];
    assert_string_equal(gather->name, "fc2.dgather");
    bool waits = false;
    for (uint32_t i = 0; i < gather->n_waits; i++)
        waits |= gather->waits[i].stream == TDM_STREAM_PP_RECV_GRAD &&
                 gather->waits[i].kind == TDM_WAIT_TAIL && gather->waits[i].n == 0;
    assert_true(waits);
    tdm_arena_free(&arena);
}

/* Dropout stands behind both halves of a layer, whatever the second is: a mask each. */
static void test_dropout_behind_experts(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    uint64_t stored[2];
    for (int dropout = 0; dropout < 2; dropout++) {
        const support_spec spec = {
            .tp = 2, .ep = 2, .experts = 4, .topk = 2, .dropout = dropout == 1};
        tdm_scenario scenario = support_scenario(&arena, &spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        stored[dropout] = stored_bytes(&plan);
        const tdm_template *backward = &plan.kinds[1].templates[TDM_PASS_BW];
        assert_int_equal(find_op(backward, "add2.bwd") != NULL, dropout);
    }
    assert_int_equal(stored[1] - stored[0], 2 * 32 * 2 * 64); /* two masks of sbh bytes */
    tdm_arena_free(&arena);
}

/* Adam touches 4 + 24 + 2 bytes of each parameter it updates and clears 4 of every parameter the
 * rank holds. */
static void test_optimizer_bytes(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    for (int shard = 0; shard < 2; shard++) {
        const support_spec spec = {.dp = 4, .distributed_optimizer = shard == 1};
        tdm_scenario scenario = support_scenario(&arena, &spec);
        tdm_plan plan = support_plan(&arena, &scenario);
        uint64_t n = tdm_model_params(&scenario.model);
        const tdm_op *adam = find_op(&plan.roles[0].optimizer, "adam");
        assert_non_null(adam);
        assert_int_equal(adam->u.memory.bytes.fixed, 30 * (shard ? n / 4 : n) + 4 * n);
    }
    tdm_arena_free(&arena);
}

/* Reductions of the loss run in fp32 whatever the model's type. */
static void test_loss_is_fp32(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    const support_spec spec = {.tp = 2};
    tdm_scenario scenario = support_scenario(&arena, &spec);
    tdm_plan plan = support_plan(&arena, &scenario);
    static const char *const names[] = {"loss.max.reduce", "loss.sums.reduce"};
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        const tdm_op *op = find_op(&plan.kinds[2].templates[TDM_PASS_F], names[i]);
        assert_non_null(op);
        assert_int_equal(op->dtype, TDM_DTYPE_FP32);
        assert_int_equal(op->u.collective.bytes, (i + 1) * 4 * 2 * 32); /* tokens: b s */
    }
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activation_formulas),
        cmocka_unit_test(test_model_flops),
        cmocka_unit_test(test_cursor_order),
        cmocka_unit_test(test_sequence_parallel_adds_gathers),
        cmocka_unit_test(test_split_is_a_partition),
        cmocka_unit_test(test_schedules_are_complete),
        cmocka_unit_test(test_parameter_counts),
        cmocka_unit_test(test_gather_waits_for_receive),
        cmocka_unit_test(test_dropout_behind_experts),
        cmocka_unit_test(test_optimizer_bytes),
        cmocka_unit_test(test_loss_is_fp32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
