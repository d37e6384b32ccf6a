/* test_plan_bad_text.c: the reader of plan text: exact messages, and no crash on any bytes. */
#include "tests/support_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct bad_case {
    const char *old, *new; /* the first `old` in the base text becomes `new` */
    const char *message;
} bad_case;

static const bad_case bad_cases[] = {
    {"tandem-plan 1", "scenario: x",
     "p.txt:1:1: this is no plan text: it must open with `tandem-plan 1`"},
    {"tandem-plan 1", "tandem-plan 2",
     "p.txt:1:13: version '2' is unknown: this program reads `tandem-plan 1`"},
    {"training dtype", "trainning dtype",
     "p.txt:5:1: 'trainning' where the line `training` belongs"},
    {"name=hand", "name=a=b",
     "p.txt:3:25: name: 'a=b' is not a name: letters, digits, _ . / - or anything in double quotes"},
    {"name=hand", "name=\"hand", "p.txt:3:25: the quotes are not closed on this line"},
    {"name=hand", "name=\"h\\d\"",
     "p.txt:3:27: name: unknown escape (accepted: \\\" \\\\ and \\x01 to \\xff)"},
    {"name=hand", "name=", "p.txt:3:25: name is missing"},
    {"name=hand", "", "p.txt:3:106: plan: name= is missing"},
    {"name=hand", "name=h\x01nd",
     "p.txt:3:26: control character 0x01: lines end with 0x0a alone, text is printable"},
    {"name=hand ", "name=hand\r\n",
     "p.txt:3:29: control character 0x0d: lines end with 0x0a alone, text is printable"},
    {"send_s=0.5", "send_s=-0.5",
     "p.txt:3:61: send_s: '-0.5' is not a finite number of at least 0"},
    {"send_s=0.5", "send_s=1e999",
     "p.txt:3:61: send_s: '1e999' is not a finite number of at least 0"},
    {"send_s=0.5", "send_s=nan", "p.txt:3:61: send_s: 'nan' is not a finite number of at least 0"},
    {"num_microbatches=2", "num_microbatches=0",
     "p.txt:3:1: num_microbatches: 0 is not 1 to 1048576"},
    {"hidden_size=4", "hidden_size=4294967296",
     "p.txt:4:42: hidden_size: '4294967296' is not a whole number from 0 to 4294967295"},
    {"hidden_size=4", "hidden_size=4 hidden_size=4", "p.txt:4:44: hidden_size stands here twice"},
    {"norm=rms", "norm=rmsnorm", "p.txt:4:266: norm: 'rmsnorm' is not one of layer, rms"},
    {"swiglu=no", "swiglu=false", "p.txt:4:218: swiglu: 'false' is neither yes nor no"},
    {"recompute=none", "recomputing=none",
     "p.txt:5:37: training: 'recomputing=none' is not one of its keys: dtype= grad_dtype= recompute= clip_grad= train="},
    {"mesh tp=2", "mesh tp=0", "p.txt:8:1: mesh: tp x cp x dp x pp must be 1 to 1048576 ranks"},
    {"mesh tp=2 cp=1", "mesh tp=4294967295 cp=4294967295",
     "p.txt:8:1: mesh: tp x cp x dp x pp must be 1 to 1048576 ranks"},
    {"ep=2 etp=1 edp", "ep=3 etp=1 edp",
     "p.txt:8:1: mesh: ep 3 x etp 1 does not divide the 2 ranks of a stage"},
    {"world=2", "world=16",
     "p.txt:8:1: mesh: edp=1 world=16 do not follow from the sizes, which give edp=1 world=2"},
    {"kind layer", "knid layer",
     "p.txt:10:1: 'knid' does not belong here: kinds, then roles, then at most one routing-table, then `end`"},
    {"kind end-of-stage", "kind layer", "p.txt:19:6: there is a kind layer already"},
    {"class=comm", "class=communication",
     "p.txt:13:16: class: 'communication' is not one of weights, gradients, optimizer, activation, comm, workspace"},
    {"slot y class", "slot x class", "p.txt:13:8: kind layer has a slot x already"},
    {"16+8/token", "8/token+16",
     "p.txt:13:27: bytes: '8/token+16' is not a size: 4096, 32/token or 4096+32/token"},
    {"16+8/token", "16+8/received+8/token",
     "p.txt:13:27: bytes: '16+8/received+8/token' is not a size: 4096, 32/token or 4096+32/token"},
    {"16+8/token", "8/token+8/token",
     "p.txt:13:27: bytes: '8/token+8/token' is not a size: 4096, 32/token or 4096+32/token"},
    {"bytes=512 dtype", "bytes=512+4/received dtype",
     "p.txt:27:1: adam: sizes by row received are for slots, not for ops"},
    {"all-to-all out group=ep token_bytes=8 direction=dispatch",
     "all-gather out group=ep bytes=0 token_bytes=8",
     "p.txt:16:1: out: token_bytes goes with group=etp only"},
    {"16+8/token", "16+8",
     "p.txt:13:27: bytes: '16+8' is not a size: 4096, 32/token or 4096+32/token"},
    {"pass F", "pass G", "p.txt:14:8: pass: 'G' is not one of F, B, W, BW, O"},
    {"pass F", "pass O", "p.txt:14:8: pass O belongs to a role, not to a kind"},
    {"pass BW", "pass F", "p.txt:17:8: kind layer has a pass F already"},
    {"gemm up", "gem up",
     "p.txt:15:5: op: 'gem' is not one of gemm, grouped-gemm, attention, attention-backward, memory, timed, "
     "all-reduce, all-gather, reduce-scatter, all-to-all, broadcast, send, recv"},
    {"gemm up", "gemm",
     "p.txt:15:10: name of the op: 'm=8' is not a name: letters, digits, _ . / - or anything in double quotes"},
    {"m=8", "m=8x", "p.txt:15:15: m: '8x' is not a whole number from 0 to 18446744073709551615"},
    {"m=8", "m=18446744073709551616",
     "p.txt:15:15: m: '18446744073709551616' is not a whole number from 0 to 18446744073709551615"},
    {"m=8 ", "", "p.txt:15:76: gemm: m= is missing"},
    {"m=8", "rows=8", "p.txt:15:13: gemm: 'rows=8' is not one of its keys: m= n= k= batch="},
    {"on=compute wait=ep", "on=gpu wait=ep",
     "p.txt:15:39: on: 'gpu' is not one of compute, tp, ep, dp, pp-send, pp-recv, pp-send-grad, pp-recv-grad, pp-send-back, pp-send-grad-back"},
    {"wait=ep", "wait=nccl",
     "p.txt:15:52: wait: 'nccl' is not one of compute, tp, ep, dp, pp-send, pp-recv, pp-send-grad, pp-recv-grad, pp-send-back, pp-send-grad-back"},
    {"tp@pass~1", "tp@pass~", "p.txt:15:63: wait: '' is not a whole number from 0 to 4294967295"},
    {"read=x", "read=z", "p.txt:15:70: read: kind layer has no slot 'z'"},
    {"read=x", "read=x,,y", "p.txt:15:72: read is missing"},
    {"read=x", "read=#2", "p.txt:15:71: read: '2' is not a whole number from 0 to 1"},
    {"next.x", "next.y",
     "p.txt:24:1: ops of kind layer use slot #1 of the following position, but kind end-of-stage has 1 slots"},
    {"    block end-of-stage count=1 first_layer=0\n", "",
     "p.txt:23:1: ops of kind layer use the following position, but the chunk ends here"},
    {"stage=0 ranks", "stage=1 ranks", "p.txt:21:12: stage: '1' is not a whole number from 0 to 0"},
    {"ranks=0-1", "ranks=0-2", "p.txt:21:22: ranks: '2' is not a whole number from 0 to 1"},
    {"ranks=0-1", "ranks=1-0", "p.txt:21:20: ranks: 1-0 runs backwards"},
    {"ranks=0-1", "ranks=0,0", "p.txt:21:22: ranks: rank 0 has a role already"},
    {"ranks=0-1", "ranks=1", "p.txt:31:1: no role has rank 0 of 2"},
    {"block layer", "block later", "p.txt:23:11: there is no kind 'later'"},
    {"count=2", "count=0",
     "p.txt:23:1: count: a block has at least 1 position, a chunk at most 65536"},
    {"count=2", "count=4000000000",
     "p.txt:23:1: count: a block has at least 1 position, a chunk at most 65536"},
    {"virtual_stage=0", "virtual_stage=1",
     "p.txt:22:1: virtual_stage: 1 of a role with 1 chunks on 1 stages"},
    {"F0 BW0", "F0 X0",
     "p.txt:25:13: 'X0' is not a pass: O, or F, B, W or BW with the microbatch behind, as in F3"},
    {"F0 BW0", "F0 0BW0",
     "p.txt:25:13: '0BW0' is not a pass: O, or F, B, W or BW with the microbatch behind, as in F3"},
    {"F1 BW1", "F2 BW1", "p.txt:25:18: microbatch: '2' is not a whole number from 0 to 1"},
    {"  passes F0", "  order F0",
     "p.txt:25:3: 'order' where the line `passes` of the role belongs"},
    {"memory adam bytes=512", "memory adam read=x bytes=512",
     "p.txt:27:22: read: ops of pass O name no slots: they belong to no block"},
    {"layers=2 micro", "layers=1 micro", "p.txt:28:1: routing-table: layers=1, but blocks use 2"},
    {"layers=2 micro", "layers=4294967295 micro",
     "p.txt:28:1: routing-table: more than 268435456 numbers"},
    {"microbatches=2 ep", "microbatches=3 ep",
     "p.txt:28:1: routing-table: microbatches=3, but the plan has 2"},
    {"row 0/0/0", "row 0/0/1", "p.txt:29:7: '0/0/1' where row 0/0/0 belongs"},
    {"x3 sent", "x5 sent", "p.txt:29:14: rows alike: '5' is not a whole number from 0 to 4"},
    {"x3 sent", "x0 sent", "p.txt:29:13: rows alike: x0 says nothing"},
    {"4*2 experts", "5*2 experts", "p.txt:29:21: count: '5' is not a whole number from 0 to 4"},
    {"1 3 2 2 experts", "1 3 2 experts",
     "p.txt:30:24: sent: 'experts' is not a whole number from 0 to 4294967295"},
    {"experts 2 1 3 2\n", "experts 2 1 3 2 9\n",
     "p.txt:30:42: '9' is too much: the line should end here"},
    {"routing-table", "end\nrouting-table",
     "p.txt:28:1: an all-to-all needs the routing table: where is `routing-table`?"},
    {"2 1 3 2\nend\n", "2 1 3 2\n", "p.txt:31:1: the text stops before its last line, `end`"},
    {"2 1 3 2\nend\n", "2 1 3 2\nend\nrole\n", "p.txt:32:1: 'role' after `end`"},
};

static char *replace(tdm_arena *arena, const bad_case *c)
{
    const char *at = strstr(support_text_base, c->old);
    if (!at)
        fail_msg("the base text has no '%s'", c->old);
    return tdm_arena_printf(arena, "%.*s%s%s", (int)(at - support_text_base), support_text_base,
                            c->new, at + strlen(c->old));
}

/* A value that the message quotes must stand where the message says. */
static bool points_at_value(const char *bytes, const char *message)
{
    unsigned line = 0, column = 0;
    const char *quote = strchr(message, '\'');
    if (!quote || sscanf(message, "p.txt:%u:%u", &line, &column) != 2)
        return quote == NULL;
    for (unsigned i = 1; i < line; i++)
        bytes = strchr(bytes, '\n') + 1;
    size_t length = strcspn(quote + 1, "'");
    return strncmp(bytes + column - 1, quote + 1, length) == 0;
}

static void test_messages(void **state)
{
    (void)state;
    static tdm_error err;
    int n_wrong = 0;
    for (size_t i = 0; i < TDM_COUNT(bad_cases); i++) {
        tdm_arena arena = {0};
        tdm_plan plan = {.n_kinds = 12345};
        const char *changed = replace(&arena, &bad_cases[i]);
        tdm_code code = support_parse(&arena, changed, strlen(changed), &plan, &err);
        const char *expected = tdm_arena_printf(&arena, "%s\n", bad_cases[i].message);
        if (code != TDM_E_INVALID || strcmp(err.text, expected) != 0) {
            print_error("case %zu (%s): expected\n  %sgot\n  %s", i, bad_cases[i].new, expected,
                        err.text);
            n_wrong++;
        }
        assert_true(points_at_value(changed, err.text));
        assert_int_equal(plan.n_kinds, 12345); /* untouched */
        tdm_arena_free(&arena);
    }
    assert_int_equal(n_wrong, 0);
}

static void test_zero_byte(void **state)
{
    (void)state;
    static tdm_error err;
    tdm_arena arena = {0};
    tdm_plan plan;
    const char *bytes = support_text_base;
    assert_int_equal(support_parse(&arena, bytes, strlen(bytes) + 1, &plan, &err), TDM_E_INVALID);
    assert_string_equal(
        err.text,
        "p.txt:32:1: control character 0x00: lines end with 0x0a alone, text is printable\n");
    assert_int_equal(support_parse(&arena, bytes, 0, &plan, &err), TDM_E_INVALID);
    assert_string_equal(err.text,
                        "p.txt:1:1: this is no plan text: it must open with `tandem-plan 1`\n");
    tdm_arena_free(&arena);
}

/* ---- any bytes ---- */

/* xorshift64*: the same mutations in every run. */
static uint32_t draw(uint64_t *seed, size_t below)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return (uint32_t)((*seed * UINT64_C(2685821657736338717) >> 32) % below);
}

/* One edit: another byte, a digit, a byte less, a piece copied elsewhere, the end cut off. */
static size_t mutate(char *bytes, size_t length, size_t room, uint64_t *seed)
{
    static const char likely[] = "0123456789 =,*~@-+#\"\\/.\nxFBWO";
    size_t at = draw(seed, length), from = draw(seed, length);
    size_t piece = 1 + draw(seed, 40);
    switch (draw(seed, 6)) {
    case 0:
        bytes[at] = (char)draw(seed, 256);
        return length;
    case 1:
    case 2:
        bytes[at] = likely[draw(seed, sizeof likely - 1)];
        return length;
    case 3:
        piece = piece < length - at ? piece : length - at;
        memmove(bytes + at, bytes + at + piece, length - at - piece);
        return length - piece > 0 ? length - piece : length;
    case 4:
        piece = piece < length - from ? piece : length - from;
        if (length + piece > room)
            return length;
        memmove(bytes + at + piece, bytes + at, length - at);
        memmove(bytes + at,
                bytes + (from < at               ? from
                         : from + piece < length ? from + piece
                                                 : at),
                piece);
        return length + piece;
    default:
        return draw(seed, 20) == 0 ? at + 1 : length;
    }
}

/* What was accepted must be safe to walk, and its own text must read back. */
static void walk(tdm_arena *arena, const tdm_plan *plan)
{
    support_text out = support_write(plan);
    tdm_plan again = support_read(arena, out.bytes, out.length);
    assert_int_equal(tdm_plan_hash(&again), tdm_plan_hash(plan));
    free(out.bytes);
    uint64_t sum = 0;
    for (uint32_t rank = 0; rank < plan->mesh.world && rank < 16; rank++) {
        tdm_cursor cursor;
        tdm_instance instance;
        tdm_cursor_init(&cursor, plan, rank);
        for (int n = 0; n < 2000 && tdm_cursor_next(&cursor, &instance); n++) {
            const tdm_op *op = instance.op;
            sum += tdm_op_flops(plan, rank, &instance) > 0;
            if (op->kind == TDM_OP_ALL_TO_ALL)
                sum += *tdm_plan_sent(plan, rank, instance.layer, instance.pass.microbatch);
            if (tdm_op_is_p2p(op->kind))
                sum += tdm_plan_peer(plan, rank, &instance) < plan->mesh.world;
            for (uint32_t i = 0; i < op->n_refs; i++)
                sum +=
                    instance.kind->slots[op->refs[i].next ? 0 : op->refs[i].slot].bytes.fixed > 0;
        }
    }
    assert_true(sum < UINT64_MAX);
}

static void mutate_often(const char *bytes, size_t length, uint32_t n_rounds, uint32_t *n_accepted,
                         uint32_t *n_refused)
{
    static tdm_error err;
    uint64_t seed = UINT64_C(88172645463325252);
    size_t room = length + 4096;
    char *copy = malloc(room), *exact;
    assert_non_null(copy);
    for (uint32_t round = 0; round < n_rounds; round++) {
        tdm_arena arena = {0};
        tdm_plan plan;
        memcpy(copy, bytes, length);
        size_t n = length;
        for (uint32_t edits = 1 + draw(&seed, 3); edits > 0; edits--)
            n = mutate(copy, n, room, &seed);
        exact = malloc(n); /* so that reading one byte too far is seen */
        assert_non_null(exact);
        memcpy(exact, copy, n);
        tdm_code code = support_parse(&arena, exact, n, &plan, &err);
        free(exact);
        if (code == TDM_OK) {
            walk(&arena, &plan);
            ++*n_accepted;
        } else {
            assert_int_equal(code, TDM_E_INVALID);
            assert_int_equal(err.n_messages, 1);
            assert_int_equal(strncmp(err.text, "p.txt:", 6), 0);
            ++*n_refused;
        }
        tdm_arena_free(&arena);
    }
    free(copy);
}

static void test_mutations(void **state)
{
    (void)state;
    uint32_t n_accepted = 0, n_refused = 0;
    mutate_often(support_text_base, strlen(support_text_base), 12000, &n_accepted, &n_refused);
    tdm_arena arena = {0};
    tdm_scenario scenario = support_scenario(&arena, &support_specs[17]);
    tdm_plan plan = support_plan(&arena, &scenario);
    support_text out = support_write(&plan);
    mutate_often(out.bytes, out.length, 2000, &n_accepted, &n_refused);
    free(out.bytes);
    tdm_arena_free(&arena);
    assert_true(n_accepted > 500); /* both ways are walked */
    assert_true(n_refused > 3000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_zero_byte),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
