/* verify_life.c: tensors of one role over its program: each is born once before its uses, dies once
 * after them, is written before it is read, and every reader and next writer is ordered after the
 * writer by streams and waits. */
#include "verify_private.h"

/* What an op did last to a tensor; positions count ops of a stream from 1, op indices are + 1. */
typedef struct tensor {
    uint32_t birth, death;
    uint32_t written; /* position of the last writer on .writer */
    uint8_t writer;
    uint32_t read[TDM_N_STREAMS]; /* readers since */
} tensor;

typedef enum fault_kind {
    FAULT_UNBORN,
    FAULT_DEAD,
    FAULT_REBORN,
    FAULT_REDEAD,
    FAULT_LEAK,
    FAULT_UNWRITTEN,
    FAULT_READ_ORDER,
    FAULT_WRITE_ORDER,
    FAULT_OVERWRITE,
} fault_kind;

enum { MAX_KINDS_OF_FAULT = 8 };

/* A fault of a template shows in every layer and microbatch: the first is told, the rest are
 * counted. */
typedef struct told {
    const void *where; /* op; kind, for leaks */
    uint32_t slot;
    fault_kind fault;
} told;

typedef struct life {
    const tdm_plan *plan;
    const tdm_role *role;
    uint32_t rank;
    tdm_error *err;
    tensor *tensors;
    uint64_t *chunk_base, *chunk_stride; /* [n_chunks] */
    uint32_t **slot_base;                /* [n_chunks][n_positions + 1] */
    told told[MAX_KINDS_OF_FAULT];
    uint32_t n_told;
    uint64_t n_untold;
    /* the op at hand */
    tdm_instance in;
    tdm_clock before;
    uint32_t own; /* its number on its stream */
} life;

static void number_tensors(tdm_arena *scratch, life *l)
{
    uint64_t n = 0;
    l->chunk_base = TDM_ALLOC(scratch, uint64_t, l->role->n_chunks);
    l->chunk_stride = TDM_ALLOC(scratch, uint64_t, l->role->n_chunks);
    l->slot_base = TDM_ALLOC(scratch, uint32_t *, l->role->n_chunks);
    for (uint32_t c = 0; c < l->role->n_chunks; c++) {
        const tdm_chunk *chunk = &l->role->chunks[c];
        uint32_t *base = TDM_ALLOC(scratch, uint32_t, chunk->n_positions + 1), position = 0,
                 slots = 0;
        for (uint32_t b = 0; b < chunk->n_blocks; b++)
            for (uint32_t i = 0; i < chunk->blocks[b].count; i++) {
                base[position++] = slots;
                slots += l->plan->kinds[chunk->blocks[b].kind].n_slots;
            }
        base[position] = slots;
        l->slot_base[c] = base;
        l->chunk_base[c] = n;
        l->chunk_stride[c] = slots;
        n += (uint64_t)slots * l->plan->num_microbatches;
    }
    l->tensors = TDM_ALLOC(scratch, tensor, n);
}

/* ---- messages ---- */

static bool tell(life *l, const void *where, uint32_t slot, fault_kind fault)
{
    for (uint32_t i = 0; i < l->n_told; i++)
        if (l->told[i].where == where && l->told[i].slot == slot && l->told[i].fault == fault) {
            l->n_untold++;
            return false;
        }
    if (l->n_told == MAX_KINDS_OF_FAULT) {
        l->n_untold++;
        return false;
    }
    l->told[l->n_told++] = (told){where, slot, fault};
    return true;
}

static tdm_verify_text tensor_text(const life *l, const tdm_ref *ref)
{
    tdm_place at = tdm_plan_place(l->role, &l->in, ref);
    return tdm_verify_tensor_text(l->plan, l->rank, at.chunk, l->in.pass.microbatch, at.position,
                                  ref->slot);
}

/* A fault of the op at hand: op "b" frees tensor "y" again: op "a" freed it. other: index + 1 of
 * that op a, or 0. */
static tdm_code complain(life *l, const tdm_ref *ref, fault_kind fault, const char *does,
                         const char *when, uint32_t other, const char *other_did)
{
    if (!tell(l, l->in.op, ref->slot, fault))
        return TDM_E_INVALID;
    if (other == 0)
        return tdm_error_add(l->err, TDM_E_INVALID, "rank %u: %s %s %s%s", l->rank,
                             tdm_verify_op_text(&l->in).s, does, tensor_text(l, ref).s, when);
    tdm_instance earlier = tdm_verify_op_at(l->plan, l->rank, other - 1);
    return tdm_error_add(l->err, TDM_E_INVALID, "rank %u: %s %s %s%s: %s %s it", l->rank,
                         tdm_verify_op_text(&l->in).s, does, tensor_text(l, ref).s, when,
                         tdm_verify_op_text(&earlier).s, other_did);
}

/* The op at hand is not ordered after an op of another stream. */
static tdm_code complain_order(life *l, const tdm_ref *ref, fault_kind fault, const char *does,
                               tdm_stream stream, uint32_t position, const char *other_did)
{
    if (!tell(l, l->in.op, ref->slot, fault))
        return TDM_E_INVALID;
    tdm_instance earlier = tdm_verify_op_on(l->plan, l->rank, stream, position);
    return tdm_error_add(
        l->err, TDM_E_INVALID,
        "rank %u: %s on stream %s %s %s without waiting for %s on stream %s, which %s it", l->rank,
        tdm_verify_op_text(&l->in).s, tdm_stream_name(l->in.op->stream), does,
        tensor_text(l, ref).s, tdm_verify_op_text(&earlier).s, tdm_stream_name(stream), other_did);
}

/* ---- checks ---- */

static tensor *tensor_of(const life *l, const tdm_ref *ref)
{
    tdm_place at = tdm_plan_place(l->role, &l->in, ref);
    return &l->tensors[l->chunk_base[at.chunk] + l->in.pass.microbatch * l->chunk_stride[at.chunk] +
                       l->slot_base[at.chunk][at.position] + ref->slot];
}

static tdm_code check_birth(life *l, const tdm_ref *ref, tensor *t)
{
    tdm_code code = TDM_OK;
    if (t->birth != 0)
        code =
            complain(l, ref, FAULT_REBORN, "gives birth to", " again", t->birth, "gave birth to");
    t->birth = l->in.index + 1;
    t->death = 0;
    return code;
}

static tdm_code check_alive(life *l, const tdm_ref *ref, const tensor *t)
{
    if (t->birth == 0)
        return complain(l, ref, FAULT_UNBORN, "uses", " before its birth", 0, NULL);
    if (t->death != 0)
        return complain(l, ref, FAULT_DEAD, "uses", " after its death", t->death, "freed");
    return TDM_OK;
}

static tdm_code check_read(life *l, const tdm_ref *ref, const tensor *t)
{
    if (t->written == 0)
        return complain(l, ref, FAULT_UNWRITTEN, "reads", ", which nothing has written", 0, NULL);
    if (l->before.seen[t->writer] < t->written)
        return complain_order(l, ref, FAULT_READ_ORDER, "reads", (tdm_stream)t->writer, t->written,
                              "writes");
    return TDM_OK;
}

static bool by_this_op(const life *l, tdm_stream stream, uint32_t position)
{
    return stream == l->in.op->stream && position == l->own;
}

static tdm_code check_write(life *l, const tdm_ref *ref, const tensor *t)
{
    tdm_stream writer = (tdm_stream)t->writer;
    if (l->before.seen[writer] < t->written && !by_this_op(l, writer, t->written))
        return complain_order(l, ref, FAULT_WRITE_ORDER, "writes", writer, t->written, "writes");
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        if (l->before.seen[s] < t->read[s] && !by_this_op(l, (tdm_stream)s, t->read[s]))
            return complain_order(l, ref, FAULT_OVERWRITE, "overwrites", (tdm_stream)s, t->read[s],
                                  "reads");
    return TDM_OK;
}

static void note_write(const life *l, tensor *t)
{
    t->writer = (uint8_t)l->in.op->stream;
    t->written = l->own;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        t->read[s] = 0;
}

static tdm_code check_death(life *l, const tdm_ref *ref, tensor *t)
{
    tdm_code code = TDM_OK;
    if (t->death != 0 && t->death != l->in.index + 1)
        code = complain(l, ref, FAULT_REDEAD, "frees", " again", t->death, "freed");
    else if (t->death != 0)
        code = complain(l, ref, FAULT_REDEAD, "frees", " twice", 0, NULL);
    t->death = l->in.index + 1;
    return code;
}

/* Reads see what was there before the op, writes come after them, deaths last. */
static tdm_code check_op(life *l)
{
    const tdm_op *op = l->in.op;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < op->n_refs; i++) {
        const tdm_ref *ref = &op->refs[i];
        tensor *t = tensor_of(l, ref);
        tdm_code one = ref->birth ? check_birth(l, ref, t) : check_alive(l, ref, t);
        if (one == TDM_OK && ref->read)
            one = check_read(l, ref, t);
        if (ref->read)
            t->read[op->stream] = l->own;
        code = tdm_verify_worst(code, one);
    }
    for (uint32_t i = 0; i < op->n_refs; i++) {
        tensor *t = tensor_of(l, &op->refs[i]);
        if (!op->refs[i].write)
            continue;
        code = tdm_verify_worst(code, check_write(l, &op->refs[i], t));
        note_write(l, t);
    }
    for (uint32_t i = 0; i < op->n_refs; i++)
        if (op->refs[i].death)
            code = tdm_verify_worst(code, check_death(l, &op->refs[i], tensor_of(l, &op->refs[i])));
    return code;
}

/* Tensors that were born and never died. */
static tdm_code check_leaks_at(life *l, uint32_t chunk, uint32_t microbatch, uint32_t position)
{
    tdm_code code = TDM_OK;
    uint32_t base = l->slot_base[chunk][position],
             n_slots = l->slot_base[chunk][position + 1] - base;
    const tensor *t =
        &l->tensors[l->chunk_base[chunk] + microbatch * l->chunk_stride[chunk] + base];
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        if (t[slot].birth == 0 || t[slot].death != 0)
            continue;
        code = TDM_E_INVALID;
        if (!tell(l, tdm_plan_kind_at(l->plan, &l->role->chunks[chunk], position), slot,
                  FAULT_LEAK))
            continue;
        tdm_instance born = tdm_verify_op_at(l->plan, l->rank, t[slot].birth - 1);
        tdm_error_add(
            l->err, TDM_E_INVALID, "rank %u: %s gives birth to %s, which is never freed", l->rank,
            tdm_verify_op_text(&born).s,
            tdm_verify_tensor_text(l->plan, l->rank, chunk, microbatch, position, slot).s);
    }
    return code;
}

static tdm_code check_leaks(life *l)
{
    tdm_code code = TDM_OK;
    for (uint32_t c = 0; c < l->role->n_chunks; c++)
        for (uint32_t m = 0; m < l->plan->num_microbatches; m++)
            for (uint32_t p = 0; p < l->role->chunks[c].n_positions; p++)
                code = tdm_verify_worst(code, check_leaks_at(l, c, m, p));
    return code;
}

tdm_code tdm_verify_life(const tdm_plan *plan, const tdm_program *program, tdm_error *err)
{
    tdm_arena scratch = {0};
    uint32_t rank = program->rank;
    life l = {.plan = plan, .role = program->role, .rank = rank, .err = err};
    number_tensors(&scratch, &l);
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < program->n_ops; i++) {
        l.in = program->ops[i];
        l.before = program->before[i];
        l.own = program->number[i];
        code = tdm_verify_worst(code, check_op(&l));
    }
    code = tdm_verify_worst(code, check_leaks(&l));
    if (l.n_untold > 0)
        tdm_error_add(
            err, TDM_E_INVALID,
            "rank %u: %llu more faults in the lifetimes of tensors, most of them the same in other layers and microbatches",
            rank, (unsigned long long)l.n_untold);
    tdm_arena_free(&scratch);
    return code;
}
