/* support_edit.c: deep copies of plans, the pieces of a copy by name, and random plans. */
#include "tests/support_edit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- copying ---- */

static void *copy_bytes(tdm_arena *arena, const void *from, size_t n_bytes)
{
    void *to = tdm_arena_alloc(arena, n_bytes);
    if (n_bytes > 0)
        memcpy(to, from, n_bytes);
    return to;
}

#define COPY(arena, from, n) copy_bytes((arena), (from), sizeof *(from) * (n))

static void copy_template(tdm_arena *arena, tdm_template *template)
{
    tdm_op *ops = COPY(arena, template->ops, template->n_ops);
    for (uint32_t i = 0; i < template->n_ops; i++) {
        ops[i].waits = COPY(arena, ops[i].waits, ops[i].n_waits);
        ops[i].refs = COPY(arena, ops[i].refs, ops[i].n_refs);
    }
    template->ops = ops;
}

static void copy_kind(tdm_arena *arena, tdm_kind *kind)
{
    kind->slots = COPY(arena, kind->slots, kind->n_slots);
    kind->params = COPY(arena, kind->params, kind->n_params);
    for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
        copy_template(arena, &kind->templates[p]);
}

static void copy_role(tdm_arena *arena, tdm_role *role)
{
    tdm_chunk *chunks = COPY(arena, role->chunks, role->n_chunks);
    for (uint32_t c = 0; c < role->n_chunks; c++)
        chunks[c].blocks = COPY(arena, chunks[c].blocks, chunks[c].n_blocks);
    role->chunks = chunks;
    role->passes = COPY(arena, role->passes, role->n_passes);
    copy_template(arena, &role->optimizer);
}

tdm_plan edit_copy(tdm_arena *arena, const tdm_plan *plan)
{
    tdm_plan copy = *plan;
    tdm_kind *kinds = COPY(arena, plan->kinds, plan->n_kinds);
    tdm_role *roles = COPY(arena, plan->roles, plan->n_roles);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        copy_kind(arena, &kinds[k]);
    for (uint32_t r = 0; r < plan->n_roles; r++)
        copy_role(arena, &roles[r]);
    copy.kinds = kinds;
    copy.roles = roles;
    copy.role_of = COPY(arena, plan->role_of, plan->mesh.world);
    const tdm_routing_table *t = &plan->routing;
    size_t rows = (size_t)t->n_replicas * t->n_layers * t->n_microbatches;
    copy.routing.sent = COPY(arena, t->sent, rows * t->ep * t->ep);
    copy.routing.experts = COPY(arena, t->experts, rows * t->n_experts);
    return copy;
}

void edit_separate(tdm_arena *arena, tdm_plan *copy, uint32_t rank)
{
    uint32_t n_kinds = copy->n_kinds;
    tdm_kind *kinds = TDM_ALLOC(arena, tdm_kind, 2 * n_kinds);
    for (uint32_t k = 0; k < n_kinds; k++) {
        kinds[k] = kinds[n_kinds + k] = copy->kinds[k];
        copy_kind(arena, &kinds[n_kinds + k]);
    }
    tdm_role *roles = TDM_ALLOC(arena, tdm_role, copy->n_roles + 1);
    memcpy(roles, copy->roles, sizeof *roles * copy->n_roles);
    tdm_role *own = &roles[copy->n_roles];
    *own = copy->roles[copy->role_of[rank]];
    copy_role(arena, own);
    for (uint32_t c = 0; c < own->n_chunks; c++)
        for (uint32_t b = 0; b < own->chunks[c].n_blocks; b++)
            ((tdm_block *)own->chunks[c].blocks)[b].kind =
                (uint16_t)(own->chunks[c].blocks[b].kind + n_kinds);
    ((uint16_t *)copy->role_of)[rank] = (uint16_t)copy->n_roles;
    copy->kinds = kinds;
    copy->n_kinds = 2 * n_kinds;
    copy->roles = roles;
    copy->n_roles++;
}

/* ---- pieces ---- */

tdm_role *edit_role(const tdm_plan *copy, uint32_t rank)
{
    return (tdm_role *)&copy->roles[copy->role_of[rank]];
}

tdm_pass *edit_pass(const tdm_plan *copy, uint32_t rank, tdm_pass_kind kind, uint32_t microbatch)
{
    const tdm_role *role = edit_role(copy, rank);
    for (uint32_t i = 0; i < role->n_passes; i++)
        if (role->passes[i].kind == kind && role->passes[i].microbatch == microbatch)
            return (tdm_pass *)&role->passes[i];
    fail_msg("no pass %s of microbatch %u", tdm_pass_kind_name(kind), microbatch);
    return NULL;
}

static const tdm_kind *block_kind(const tdm_plan *copy, uint32_t rank, uint32_t block)
{
    const tdm_chunk *chunk = &edit_role(copy, rank)->chunks[0];
    return block < chunk->n_blocks ? &copy->kinds[chunk->blocks[block].kind] : NULL;
}

tdm_template *edit_template(const tdm_plan *copy, uint32_t rank, const char *kind,
                            tdm_pass_kind pass)
{
    if (pass == TDM_PASS_O)
        return &edit_role(copy, rank)->optimizer;
    for (uint32_t b = 0; block_kind(copy, rank, b); b++)
        if (strcmp(block_kind(copy, rank, b)->name, kind) == 0)
            return (tdm_template *)&block_kind(copy, rank, b)->templates[pass];
    fail_msg("rank %u has no block of kind %s", rank, kind);
    return NULL;
}

static tdm_op *op_in(const tdm_template *template, const char *name)
{
    for (uint32_t i = 0; i < template->n_ops; i++)
        if (strcmp(template->ops[i].name, name) == 0)
            return (tdm_op *)&template->ops[i];
    return NULL;
}

static tdm_op *find_op(const tdm_plan *copy, uint32_t rank, const char *name, const tdm_kind **kind,
                       const tdm_kind **next)
{
    for (uint32_t b = 0; block_kind(copy, rank, b); b++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++) {
            *kind = block_kind(copy, rank, b);
            tdm_op *op = op_in(&(*kind)->templates[p], name);
            bool repeats = edit_role(copy, rank)->chunks[0].blocks[b].count > 1;
            *next = repeats ? *kind : block_kind(copy, rank, b + 1);
            if (op)
                return op;
        }
    *kind = *next = NULL;
    tdm_op *op = op_in(&edit_role(copy, rank)->optimizer, name);
    if (!op)
        fail_msg("rank %u has no op %s", rank, name);
    return op;
}

tdm_op *edit_op(const tdm_plan *copy, uint32_t rank, const char *name)
{
    const tdm_kind *kind, *next;
    return find_op(copy, rank, name, &kind, &next);
}

tdm_ref *edit_ref(const tdm_plan *copy, uint32_t rank, const char *op_name, const char *slot,
                  bool next)
{
    const tdm_kind *kind, *following;
    tdm_op *op = find_op(copy, rank, op_name, &kind, &following);
    for (uint32_t i = 0; i < op->n_refs; i++) {
        const tdm_kind *owner = op->refs[i].next ? following : kind;
        if (op->refs[i].next == next && strcmp(owner->slots[op->refs[i].slot].name, slot) == 0)
            return (tdm_ref *)&op->refs[i];
    }
    fail_msg("op %s has no ref to %s", op_name, slot);
    return NULL;
}

/* ---- edits ---- */

void edit_drop_wait(tdm_op *op, tdm_stream stream)
{
    tdm_wait *waits = (tdm_wait *)op->waits;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < op->n_waits; i++)
        if (waits[i].stream != stream)
            waits[kept++] = waits[i];
    if (kept == op->n_waits)
        fail_msg("op %s does not wait for %s", op->name, tdm_stream_name(stream));
    op->n_waits = kept;
}

void edit_drop_op(tdm_template *template, const char *name)
{
    tdm_op *op = op_in(template, name);
    assert_non_null(op);
    uint32_t i = (uint32_t)(op - template->ops);
    memmove(op, op + 1, sizeof *op * (template->n_ops - i - 1));
    template->n_ops--;
}

void edit_swap_ops(tdm_template *template, const char *a, const char *b)
{
    tdm_op *x = op_in(template, a), *y = op_in(template, b), kept;
    assert_non_null(x);
    assert_non_null(y);
    kept = *x;
    *x = *y;
    *y = kept;
}

void edit_drop_pass(tdm_role *role, tdm_pass_kind kind, uint32_t microbatch)
{
    tdm_pass *passes = (tdm_pass *)role->passes;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < role->n_passes; i++)
        if (passes[i].kind != kind || passes[i].microbatch != microbatch)
            passes[kept++] = passes[i];
    assert_int_equal(kept + 1, role->n_passes);
    role->n_passes = kept;
}

void edit_swap_passes(const tdm_plan *copy, uint32_t rank, tdm_pass_kind kind_a, uint32_t a,
                      tdm_pass_kind kind_b, uint32_t b)
{
    tdm_pass *x = edit_pass(copy, rank, kind_a, a), *y = edit_pass(copy, rank, kind_b, b),
             kept = *x;
    *x = *y;
    *y = kept;
}

/* ---- random plans ---- */

uint32_t edit_random(uint64_t *state, uint32_t n)
{
    /* Source: Steele, Lea, Flood 2014, SplitMix64. */
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

enum { RANDOM_OPS = 24, RANDOM_SLOTS = 20, RANDOM_MICROBATCHES = 5 };

/* Ops 0 .. RANDOM_OPS - 1 are of F, the others of BW. */
static void random_ops(tdm_arena *arena, uint64_t *state, tdm_op *ops)
{
    for (uint32_t i = 0; i < 2 * RANDOM_OPS; i++) {
        tdm_wait *waits = TDM_ALLOC(arena, tdm_wait, 3);
        ops[i] = (tdm_op){
            .name = tdm_arena_printf(arena, "op-%u", i),
            .kind = TDM_OP_MEMORY,
            .stream = (tdm_stream)(edit_random(state, 2) * edit_random(state, TDM_N_STREAMS)),
            .pass = i < RANDOM_OPS ? TDM_PASS_F : TDM_PASS_B,
            .waits = waits,
            .n_waits = edit_random(state, 4),
            .refs = TDM_ALLOC(arena, tdm_ref, RANDOM_SLOTS)};
        for (uint32_t w = 0; w < ops[i].n_waits; w++) {
            waits[w].stream = (tdm_stream)edit_random(state, TDM_N_STREAMS);
            waits[w].kind = edit_random(state, 3) == 0 ? TDM_WAIT_PASS : TDM_WAIT_TAIL;
            waits[w].n = waits[w].kind == TDM_WAIT_PASS
                             ? edit_random(state, 4)
                             : edit_random(state, 3) * edit_random(state, 16);
        }
    }
}

/* A tensor is born by one op, dies with a later one, and some of those between use it. */
static void random_lifetime(uint64_t *state, tdm_op *ops, uint32_t slot)
{
    uint32_t birth = edit_random(state, 2 * RANDOM_OPS);
    uint32_t span = edit_random(state, 3) == 0 ? 2 * RANDOM_OPS : 6;
    uint32_t death = birth + edit_random(state, span);
    if (death >= 2 * RANDOM_OPS)
        death = 2 * RANDOM_OPS - 1;
    for (uint32_t i = birth; i <= death; i++) {
        if (i != birth && i != death && edit_random(state, 3) != 0)
            continue;
        ((tdm_ref *)ops[i].refs)[ops[i].n_refs++] = (tdm_ref){.slot = (uint16_t)slot,
                                                              .read = i != birth,
                                                              .write = i == birth,
                                                              .birth = i == birth,
                                                              .death = i == death};
    }
}

tdm_plan edit_random_plan(tdm_arena *arena, uint64_t *state)
{
    tdm_op *ops = TDM_ALLOC(arena, tdm_op, 2 * RANDOM_OPS);
    tdm_slot *slots = TDM_ALLOC(arena, tdm_slot, RANDOM_SLOTS);
    tdm_kind *kind = TDM_ALLOC(arena, tdm_kind, 1);
    tdm_block *block = TDM_ALLOC(arena, tdm_block, 1);
    tdm_chunk *chunk = TDM_ALLOC(arena, tdm_chunk, 1);
    tdm_role *role = TDM_ALLOC(arena, tdm_role, 1);
    tdm_pass *passes = TDM_ALLOC(arena, tdm_pass, 2 * RANDOM_MICROBATCHES);
    random_ops(arena, state, ops);
    for (uint32_t s = 0; s < RANDOM_SLOTS; s++) {
        static const uint32_t most[] = {1, 300, 5000, 100000};
        slots[s] = (tdm_slot){.name = tdm_arena_printf(arena, "slot-%u", s),
                              .class_ = (tdm_class)(TDM_CLASS_ACTIVATION + edit_random(state, 3)),
                              .bytes.fixed =
                                  edit_random(state, most[edit_random(state, TDM_COUNT(most))])};
        random_lifetime(state, ops, s);
    }
    *kind = (tdm_kind){.name = "layer", .slots = slots, .n_slots = RANDOM_SLOTS};
    kind->templates[TDM_PASS_F] = (tdm_template){ops, RANDOM_OPS};
    kind->templates[TDM_PASS_BW] = (tdm_template){ops + RANDOM_OPS, RANDOM_OPS};
    *block = (tdm_block){.count = 1 + edit_random(state, 3)};
    *chunk = (tdm_chunk){.blocks = block, .n_blocks = 1, .n_positions = block->count};
    uint32_t n = 0, forward = 0, backward = 0;
    while (backward < RANDOM_MICROBATCHES) {
        bool up =
            forward < RANDOM_MICROBATCHES && (forward == backward || edit_random(state, 2) == 0);
        passes[n++] = (tdm_pass){up ? TDM_PASS_F : TDM_PASS_BW, 0, up ? forward++ : backward++};
    }
    *role = (tdm_role){.chunks = chunk, .n_chunks = 1, .passes = passes, .n_passes = n};
    tdm_plan plan = {.name = "random",
                     .train = true,
                     .num_microbatches = RANDOM_MICROBATCHES,
                     .kinds = kind,
                     .n_kinds = 1,
                     .roles = role,
                     .n_roles = 1,
                     .role_of = TDM_ALLOC(arena, uint16_t, 1)};
    assert_int_equal(tdm_mesh_init(&plan.mesh, 1, 1, 1, 1, 1, 1, NULL), TDM_OK);
    return plan;
}
