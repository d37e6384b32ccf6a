/* verify_layout.c: checks a placement on its own: walks the program again, notes for every tensor
 * when it is used, and keeps a map of the arena that says whose bytes they were last. */
#include "verify_private.h"

#include <inttypes.h>
#include <string.h>

/* Uses of one tensor. An earlier tensor must be over for the earliest that any of them can see. */
typedef struct use {
    tdm_clock before; /* what had ended before every op that uses it: least over the ops */
    tdm_clock last;   /* last use on each stream */
    uint64_t offset, bytes;
    uint32_t birth; /* op index + 1 */
    uint32_t chunk, microbatch, position, slot;
} use;

typedef struct checker {
    const tdm_plan *plan;
    const tdm_layout *layout;
    const tdm_role *role;
    tdm_error *err;
    use *uses; /* in order of birth */
    uint32_t n_uses;
    uint32_t *use_of; /* [n_offsets] + 1 */
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

static void fault(checker *c, const use *u, const char *what)
{
    if (!tell(c))
        return;
    tdm_instance birth = tdm_verify_op_at(c->plan, c->layout->rank, u->birth - 1);
    tdm_error_add(c->err, TDM_E_INVALID,
                  "rank %u: %s, born by %s, of %" PRIu64 " bytes at offset %" PRIu64 ": %s",
                  c->layout->rank, use_text(c, u).s, tdm_verify_op_text(&birth).s, u->bytes,
                  u->offset, what);
}

/* ---- uses ---- */

static uint32_t layer_of(const tdm_chunk *chunk, uint32_t position)
{
    uint32_t b = 0;
    for (; position >= chunk->blocks[b].count; b++)
        position -= chunk->blocks[b].count;
    return chunk->blocks[b].first_layer + position;
}

static use *new_use(checker *c, const tdm_instance *in, const tdm_ref *ref)
{
    const tdm_chunk *chunk = &c->role->chunks[in->pass.chunk];
    uint32_t position = in->position + ref->next;
    const tdm_kind *kind = tdm_plan_kind_at(c->plan, chunk, position);
    tdm_size size = kind->slots[ref->slot].bytes;
    uint64_t tokens = size.per_token == 0
                          ? 0
                          : tdm_plan_tokens(c->plan, c->layout->rank, layer_of(chunk, position),
                                            in->pass.microbatch);
    use *u = &c->uses[c->n_uses++];
    *u = (use){.bytes = tdm_size_eval(size, tokens),
               .birth = in->index + 1,
               .chunk = in->pass.chunk,
               .microbatch = in->pass.microbatch,
               .position = position,
               .slot = ref->slot};
    memset(&u->before, 0xff, sizeof u->before);
    return u;
}

static void note_op(checker *c, const tdm_instance *in, const tdm_clock *before, uint32_t own)
{
    for (uint32_t r = 0; r < in->op->n_refs; r++) {
        const tdm_ref *ref = &in->op->refs[r];
        uint64_t i = tdm_layout_index(c->layout, in->pass.chunk, in->pass.microbatch,
                                      in->position + ref->next, ref->slot);
        if (c->use_of[i] == 0) {
            use *u = new_use(c, in, ref);
            u->offset = c->layout->offsets[i];
            c->use_of[i] = c->n_uses;
        }
        use *u = &c->uses[c->use_of[i] - 1];
        u->last.seen[in->op->stream] = own;
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
            if (before->seen[s] < u->before.seen[s])
                u->before.seen[s] = before->seen[s];
    }
}

static void note_uses(tdm_arena *scratch, checker *c)
{
    tdm_hb *hb = tdm_hb_new(scratch, c->role->n_passes);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, c->plan, c->layout->rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        tdm_clock before;
        uint32_t own;
        tdm_hb_step(hb, &in, &before, &own);
        note_op(c, &in, &before, own);
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

static void check_overlap(checker *c, const use *earlier, const use *later)
{
    uint32_t stream = unordered(earlier, later);
    if (stream == TDM_N_STREAMS || !tell(c))
        return;
    uint32_t rank = c->layout->rank;
    tdm_instance user =
        tdm_verify_op_on(c->plan, rank, (tdm_stream)stream, earlier->last.seen[stream]);
    tdm_instance birth = tdm_verify_op_at(c->plan, rank, later->birth - 1);
    uint64_t from = earlier->offset > later->offset ? earlier->offset : later->offset;
    tdm_error_add(c->err, TDM_E_INVALID,
                  "rank %u: %s, born by %s, overlaps %s at offset %" PRIu64
                  " while %s on stream %s may still use that",
                  rank, use_text(c, later).s, tdm_verify_op_text(&birth).s, use_text(c, earlier).s,
                  from, tdm_verify_op_text(&user).s, tdm_stream_name((tdm_stream)stream));
}

static bool check_place(checker *c, const use *u)
{
    uint32_t n = c->n_faults;
    if (u->offset == UINT64_MAX)
        fault(c, u, "has no place");
    else if (u->offset % TDM_ALIGNMENT != 0)
        fault(c, u, "is not aligned to 256 bytes");
    else if (u->offset > c->layout->arena_bytes || u->bytes > c->layout->arena_bytes - u->offset)
        fault(c, u, "reaches past the end of the arena");
    else if (u->bytes > 0 && u->offset < c->layout->static_bytes)
        fault(c, u, "overlaps the static tensors");
    return c->n_faults == n;
}

/* In order of birth: whoever had the bytes last must be over. By transitivity so are all who had
 * them before. */
static void check_uses(tdm_arena *scratch, checker *c)
{
    map m = {.pieces = TDM_ALLOC(scratch, piece, 2 * (size_t)c->n_uses + 2), .n = 1};
    for (uint32_t i = 0; i < c->n_uses; i++) {
        const use *u = &c->uses[i];
        if (!check_place(c, u) || u->bytes == 0)
            continue;
        uint64_t to = u->offset + u->bytes, end = UINT64_MAX;
        uint32_t first = map_find(&m, u->offset), last = first;
        for (;; last++) {
            if (m.pieces[last].owner != 0)
                check_overlap(c, &c->uses[m.pieces[last].owner - 1], u);
            end = last + 1 < m.n ? m.pieces[last + 1].offset : UINT64_MAX;
            if (end >= to)
                break;
        }
        map_replace(&m, first, last, u->offset, to, end, i + 1);
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

tdm_code tdm_verify_layout(const tdm_plan *plan, const tdm_layout *layout, tdm_error *err)
{
    tdm_code code = check_numbering(plan, layout, err);
    if (code != TDM_OK)
        return code;
    tdm_arena scratch = {0};
    checker c = {.plan = plan,
                 .layout = layout,
                 .role = &plan->roles[plan->role_of[layout->rank]],
                 .err = err,
                 .uses = TDM_ALLOC(&scratch, use, layout->n_offsets),
                 .use_of = TDM_ALLOC(&scratch, uint32_t, layout->n_offsets)};
    note_uses(&scratch, &c);
    check_uses(&scratch, &c);
    if (c.n_faults > MAX_MESSAGES)
        tdm_error_add(err, TDM_E_INVALID, "rank %u: %u more faults in the placement of its tensors",
                      layout->rank, c.n_faults - MAX_MESSAGES);
    tdm_arena_free(&scratch);
    return c.n_faults > 0 ? TDM_E_INVALID : TDM_OK;
}
