/* verify_layout.c: checks a placement on its own: walks the program again, notes for every tensor
 * when it is used, and keeps a map of the arena that says whose bytes they were last. */
#include "verify_private.h"

#include <inttypes.h>
#include <string.h>

/* Uses of one tensor, the same on all ranks of a role. An earlier tensor must be over for the
 * earliest that any of them can see. */
typedef struct use {
    tdm_clock before; /* what had ended before every op that uses it: least over the ops */
    tdm_clock last;   /* last use on each stream */
    tdm_size size;
    uint64_t index; /* into the layout's offsets */
    uint32_t birth; /* op index + 1 */
    uint32_t chunk, microbatch, position, slot, layer;
} use;

/* The uses of a role, in order of birth. */
typedef struct role_uses {
    const tdm_role *role;
    use *items;
    uint32_t n;
} role_uses;

/* Where one rank has the tensor. */
typedef struct place {
    uint64_t offset, bytes;
} place;

typedef struct checker {
    const tdm_plan *plan;
    const tdm_layout *layout;
    tdm_error *err;
    const role_uses *uses;
    place *places; /* of uses->items */
    uint32_t n_faults;
} checker;

enum { MAX_MESSAGES = 8 };

static bool tell(checker *c)
{
    return ++c->n_faults <= MAX_MESSAGES;
}

static tdm_verify_text use_text(const checker *c, const use *u)
{
    return tdm_verify_tensor_text(c->plan, c->layout->rank, u->chunk, u->microbatch, u->position,
                                  u->slot);
}

static void fault(checker *c, uint32_t i, const char *what)
{
    if (!tell(c))
        return;
    const use *u = &c->uses->items[i];
    tdm_instance birth = tdm_verify_op_at(c->plan, c->layout->rank, u->birth - 1);
    tdm_error_add(c->err, TDM_E_INVALID,
                  "rank %u: %s, born by %s, of %" PRIu64 " bytes at offset %" PRIu64 ": %s",
                  c->layout->rank, use_text(c, u).s, tdm_verify_op_text(&birth).s,
                  c->places[i].bytes, c->places[i].offset, what);
}

/* ---- uses ---- */

static uint32_t layer_of(const tdm_chunk *chunk, uint32_t position)
{
    uint32_t b = 0;
    for (; position >= chunk->blocks[b].count; b++)
        position -= chunk->blocks[b].count;
    return chunk->blocks[b].first_layer + position;
}

static use *new_use(const tdm_plan *plan, role_uses *uses, const tdm_instance *in,
                    const tdm_ref *ref, uint64_t index)
{
    tdm_place at = tdm_plan_place(uses->role, in, ref);
    const tdm_chunk *chunk = &uses->role->chunks[at.chunk];
    const tdm_kind *kind = ref->next ? tdm_plan_kind_at(plan, chunk, at.position) : in->kind;
    use *u = &uses->items[uses->n++];
    *u = (use){.size = kind->slots[ref->slot].bytes,
               .index = index,
               .birth = in->index + 1,
               .chunk = at.chunk,
               .microbatch = in->pass.microbatch,
               .position = at.position,
               .slot = ref->slot,
               .layer = ref->next ? layer_of(chunk, at.position) : in->layer};
    memset(&u->before, 0xff, sizeof u->before);
    return u;
}

/* The numbering of tensors is that of the layout. */
static role_uses note_uses(tdm_arena *scratch, const tdm_plan *plan, const tdm_layout *layout)
{
    const tdm_program *program = tdm_program_of(scratch, plan, layout->rank);
    role_uses uses = {.role = program->role, .items = TDM_ALLOC(scratch, use, layout->n_offsets)};
    uint32_t *use_of = TDM_ALLOC(scratch, uint32_t, layout->n_offsets); /* + 1 */
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const tdm_instance *in = &program->ops[i];
        for (uint32_t r = 0; r < in->op->n_refs; r++) {
            const tdm_ref *ref = &in->op->refs[r];
            tdm_place at = tdm_plan_place(uses.role, in, ref);
            uint64_t t =
                tdm_layout_index(layout, at.chunk, in->pass.microbatch, at.position, ref->slot);
            use *u = use_of[t] ? &uses.items[use_of[t] - 1] : new_use(plan, &uses, in, ref, t);
            use_of[t] = (uint32_t)(u - uses.items) + 1;
            u->last.seen[in->op->stream] = program->number[i];
            for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
                if (program->before[i].seen[s] < u->before.seen[s])
                    u->before.seen[s] = program->before[i].seen[s];
        }
    }
    return uses;
}

/* Where the rank at hand has the tensors. */
static void find_places(checker *c)
{
    uint32_t layer = UINT32_MAX, microbatch = UINT32_MAX;
    tdm_routed routed = {0};
    for (uint32_t i = 0; i < c->uses->n; i++) {
        const use *u = &c->uses->items[i];
        bool varies = tdm_size_varies(u->size);
        if (varies && (u->layer != layer || u->microbatch != microbatch)) {
            layer = u->layer;
            microbatch = u->microbatch;
            routed = tdm_plan_routed(c->plan, c->layout->rank, layer, microbatch);
        }
        c->places[i] = (place){c->layout->offsets[u->index],
                               tdm_size_eval(u->size, varies ? routed : (tdm_routed){0})};
    }
}

/* ---- the map ---- */

/* From `offset` up to the next piece the bytes were last `owner`'s (use index + 1; 0: nobody's). */
typedef struct piece {
    uint64_t offset;
    uint32_t owner;
} piece;

typedef struct map {
    piece *pieces; /* by offset; the first is at 0 */
    uint32_t n;
} map;

/* The piece that holds the byte. */
static uint32_t map_find(const map *m, uint64_t offset)
{
    uint32_t low = 0, high = m->n;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (m->pieces[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Puts one piece (and what remains of the last one it covers) in the place of pieces first..last.
 */
static void map_replace(map *m, uint32_t first, uint32_t last, uint64_t from, uint64_t to,
                        uint64_t end, uint32_t owner)
{
    piece fresh[3];
    uint32_t n = 0;
    if (m->pieces[first].offset < from)
        fresh[n++] = m->pieces[first];
    fresh[n++] = (piece){from, owner};
    if (to < end)
        fresh[n++] = (piece){to, m->pieces[last].owner};
    uint32_t after = last + 1;
    if (first + n != after)
        memmove(m->pieces + first + n, m->pieces + after, sizeof *m->pieces * (m->n - after));
    memcpy(m->pieces + first, fresh, sizeof *fresh * n);
    m->n = first + n + (m->n - after);
}

/* ---- checks ---- */

/* A stream on which the tensor is still in use when the later one may already be written;
 * TDM_N_STREAMS: none. */
static uint32_t unordered(const use *earlier, const use *later)
{
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (earlier->last.seen[s] > later->before.seen[s])
            return s;
    return TDM_N_STREAMS;
}

static void check_overlap(checker *c, uint32_t i_earlier, uint32_t i_later)
{
    const use *earlier = &c->uses->items[i_earlier], *later = &c->uses->items[i_later];
    uint32_t stream = unordered(earlier, later);
    if (stream == TDM_N_STREAMS || !tell(c))
        return;
    uint32_t rank = c->layout->rank;
    tdm_instance user =
        tdm_verify_op_on(c->plan, rank, (tdm_stream)stream, earlier->last.seen[stream]);
    tdm_instance birth = tdm_verify_op_at(c->plan, rank, later->birth - 1);
    uint64_t a = c->places[i_earlier].offset, b = c->places[i_later].offset;
    tdm_error_add(c->err, TDM_E_INVALID,
                  "rank %u: %s, born by %s, overlaps %s at offset %" PRIu64
                  " while %s on stream %s may still use that",
                  rank, use_text(c, later).s, tdm_verify_op_text(&birth).s, use_text(c, earlier).s,
                  a > b ? a : b, tdm_verify_op_text(&user).s, tdm_stream_name((tdm_stream)stream));
}

static bool check_place(checker *c, uint32_t i)
{
    const tdm_layout *layout = c->layout;
    place p = c->places[i];
    uint32_t n = c->n_faults;
    if (p.offset == UINT64_MAX)
        fault(c, i, "has no place");
    else if (p.offset % TDM_ALIGNMENT != 0)
        fault(c, i, "is not aligned to 256 bytes");
    else if (p.offset > layout->arena_bytes || p.bytes > layout->arena_bytes - p.offset)
        fault(c, i, "reaches past the end of the arena");
    else if (p.bytes > 0 && p.offset < layout->static_bytes)
        fault(c, i, "overlaps the static tensors");
    return c->n_faults == n;
}

/* In order of birth: whoever had the bytes last must be over. By transitivity so are all who had
 * them before. `pieces` [2 n + 2]. */
static void check_places(checker *c, piece *pieces)
{
    map m = {.pieces = pieces, .n = 1};
    pieces[0] = (piece){0};
    for (uint32_t i = 0; i < c->uses->n; i++) {
        place p = c->places[i];
        if (!check_place(c, i) || p.bytes == 0)
            continue;
        uint64_t to = p.offset + p.bytes, end = UINT64_MAX;
        uint32_t first = map_find(&m, p.offset), last = first;
        for (;; last++) {
            if (m.pieces[last].owner != 0)
                check_overlap(c, m.pieces[last].owner - 1, i);
            end = last + 1 < m.n ? m.pieces[last + 1].offset : UINT64_MAX;
            if (end >= to)
                break;
        }
        map_replace(&m, first, last, p.offset, to, end, i + 1);
    }
}

/* The layout's numbering must be that of the plan: every position has its kind's slots. */
static tdm_code check_numbering(const tdm_plan *plan, const tdm_layout *layout, tdm_error *err)
{
    const tdm_role *role = &plan->roles[plan->role_of[layout->rank]];
    uint64_t n = 0;
    bool good = layout->offsets != NULL;
    for (uint32_t c = 0; c < role->n_chunks && good; c++) {
        uint32_t slots = 0;
        for (uint32_t p = 0; p < role->chunks[c].n_positions; p++) {
            good &= layout->slot_base[c][p] == slots;
            slots += tdm_plan_kind_at(plan, &role->chunks[c], p)->n_slots;
        }
        good &= layout->chunk_base[c] == n && layout->chunk_stride[c] == slots;
        n += (uint64_t)slots * plan->num_microbatches;
    }
    if (good && n == layout->n_offsets)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INVALID,
                         "rank %u: the layout has no offsets or numbers tensors unlike the plan",
                         layout->rank);
}

/* ---- all of it ---- */

/* What is used again for every rank of the role at hand. */
struct tdm_layout_proof {
    const tdm_plan *plan;
    tdm_arena scratch; /* goes with the role */
    role_uses uses;    /* .role is NULL before the first */
    place *places;
    piece *pieces;
};

tdm_layout_proof *tdm_layout_proof_new(tdm_arena *arena, const tdm_plan *plan)
{
    tdm_layout_proof *proof = TDM_ALLOC(arena, tdm_layout_proof, 1);
    proof->plan = plan;
    return proof;
}

void tdm_layout_proof_free(tdm_layout_proof *proof)
{
    tdm_arena_free(&proof->scratch);
}

static void begin_role(tdm_layout_proof *proof, const tdm_layout *layout)
{
    tdm_arena_reset(&proof->scratch);
    proof->uses = note_uses(&proof->scratch, proof->plan, layout);
    proof->places = TDM_ALLOC(&proof->scratch, place, proof->uses.n);
    proof->pieces = TDM_ALLOC(&proof->scratch, piece, 2 * (size_t)proof->uses.n + 2);
}

tdm_code tdm_layout_prove(void *context, const tdm_layout *layout, tdm_error *err)
{
    tdm_layout_proof *proof = context;
    const tdm_plan *plan = proof->plan;
    tdm_code code = check_numbering(plan, layout, err);
    if (code != TDM_OK)
        return code;
    if (proof->uses.role != &plan->roles[plan->role_of[layout->rank]])
        begin_role(proof, layout);
    checker c = {
        .plan = plan, .layout = layout, .err = err, .uses = &proof->uses, .places = proof->places};
    find_places(&c);
    check_places(&c, proof->pieces);
    if (c.n_faults > MAX_MESSAGES)
        tdm_error_add(err, TDM_E_INVALID, "rank %u: %u more faults in the placement of its tensors",
                      layout->rank, c.n_faults - MAX_MESSAGES);
    return c.n_faults > 0 ? TDM_E_INVALID : TDM_OK;
}

tdm_code tdm_verify_layout(const tdm_plan *plan, const tdm_layout *layout, tdm_error *err)
{
    tdm_layout_proof proof = {.plan = plan};
    tdm_code code = tdm_layout_prove(&proof, layout, err);
    tdm_layout_proof_free(&proof);
    return code;
}
