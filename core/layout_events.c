/* layout_events.c: births and deaths of a role's tensors in program order, with the clocks that say
 * which may follow which in the same bytes. */
#include "layout_place.h"

#include <string.h>

typedef struct tensor {
    tdm_clock last; /* last use on each stream */
    uint32_t birth; /* event + 1 */
    bool dead;
} tensor;

typedef struct collector {
    const tdm_plan *plan;
    tdm_layout_events *out;
    tensor *tensors;
    uint32_t rank;
    uint32_t n_compute; /* ops issued on the compute stream so far */
    tdm_error *err;
} collector;

static const tdm_kind *block_kind(const tdm_plan *plan, const tdm_block *block)
{
    return &plan->kinds[block->kind];
}

/* Numbers the slots of a chunk's positions; [n_positions + 1], the last is their sum. */
static uint32_t *number_slots(tdm_arena *arena, const tdm_plan *plan, const tdm_chunk *chunk)
{
    uint32_t *base = TDM_ALLOC(arena, uint32_t, chunk->n_positions + 1);
    uint32_t position = 0, n = 0;
    for (uint32_t b = 0; b < chunk->n_blocks; b++)
        for (uint32_t i = 0; i < chunk->blocks[b].count; i++) {
            base[position++] = n;
            n += block_kind(plan, &chunk->blocks[b])->n_slots;
        }
    base[position] = n;
    return base;
}

static void number_tensors(tdm_arena *arena, const tdm_plan *plan, tdm_layout_events *out)
{
    const tdm_role *role = out->role;
    uint64_t *base = TDM_ALLOC(arena, uint64_t, role->n_chunks);
    uint64_t *stride = TDM_ALLOC(arena, uint64_t, role->n_chunks);
    const uint32_t **slots = TDM_ALLOC(arena, const uint32_t *, role->n_chunks);
    uint64_t n = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++) {
        slots[c] = number_slots(arena, plan, &role->chunks[c]);
        base[c] = n;
        stride[c] = slots[c][role->chunks[c].n_positions];
        n += stride[c] * plan->num_microbatches;
    }
    out->chunk_base = base;
    out->chunk_stride = stride;
    out->slot_base = slots;
    out->n_tensors = n;
}

/* Births and deaths of one pass over a template. */
static uint32_t count_template(const tdm_template *template)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < template->n_ops; i++)
        for (uint32_t r = 0; r < template->ops[i].n_refs; r++)
            n += (uint32_t) template->ops[i].refs[r].birth +
                 (uint32_t) template->ops[i].refs[r].death;
    return n;
}

static uint32_t count_events(tdm_arena *scratch, const tdm_plan *plan, const tdm_role *role)
{
    uint32_t *of_kind = TDM_ALLOC(scratch, uint32_t, plan->n_kinds * (size_t)TDM_N_PASS_KINDS);
    for (uint32_t k = 0; k < plan->n_kinds; k++)
        for (uint32_t p = 0; p < TDM_N_PASS_KINDS; p++)
            of_kind[k * TDM_N_PASS_KINDS + p] = count_template(&plan->kinds[k].templates[p]);
    uint32_t n = 0;
    for (uint32_t p = 0; p < role->n_passes; p++) {
        const tdm_pass *pass = &role->passes[p];
        if (pass->kind == TDM_PASS_O)
            continue;
        const tdm_chunk *chunk = &role->chunks[pass->chunk];
        for (uint32_t b = 0; b < chunk->n_blocks; b++)
            n += chunk->blocks[b].count *
                 of_kind[chunk->blocks[b].kind * (uint32_t)TDM_N_PASS_KINDS + pass->kind];
    }
    return n;
}

static tdm_code lifetime_error(const collector *c, const tdm_instance *in, const tdm_slot *slot,
                               const char *fault)
{
    return tdm_error_add(
        c->err, TDM_E_INVALID,
        "rank %u: op %s (%s mb %u, layer %u): tensor %s %s, so memory cannot be laid out", c->rank,
        in->op->name, tdm_pass_kind_name(in->pass.kind), in->pass.microbatch, in->layer, slot->name,
        fault);
}

static tdm_code add_birth(collector *c, const tdm_instance *in, const tdm_clock *before,
                          uint32_t id, const tdm_slot *slot)
{
    if (c->tensors[id].birth != 0)
        return lifetime_error(c, in, slot, "is born twice");
    tdm_layout_events *out = c->out;
    out->events[out->n_events++] = (tdm_layout_event){.clock = *before,
                                                      .tensor = id,
                                                      .op = in->index,
                                                      .class_ = (uint8_t)slot->class_,
                                                      .birth = true};
    out->sizes_vary |= tdm_size_varies(slot->bytes);
    c->tensors[id].birth = out->n_events;
    bool ahead =
        in->op->stream != TDM_STREAM_COMPUTE && before->seen[TDM_STREAM_COMPUTE] < c->n_compute;
    /* A tensor that never dies outlives its pass; a death in the same pass corrects this. */
    out->events[out->n_events - 1].heap =
        (uint8_t)(ahead ? TDM_HEAP_AHEAD + (uint32_t)in->op->stream : (uint32_t)TDM_HEAP_LONG);
    return TDM_OK;
}

static tdm_code add_death(collector *c, const tdm_instance *in, uint32_t pass_start, uint32_t id,
                          const tdm_slot *slot)
{
    tensor *t = &c->tensors[id];
    if (t->birth == 0 || t->dead)
        return lifetime_error(c, in, slot, t->dead ? "dies twice" : "dies before it is born");
    t->dead = true;
    tdm_layout_events *out = c->out;
    tdm_layout_event *birth = &out->events[t->birth - 1];
    if (t->birth > pass_start && birth->heap == TDM_HEAP_LONG)
        birth->heap = TDM_HEAP_SHORT;
    out->events[out->n_events++] = (tdm_layout_event){.clock = t->last,
                                                      .tensor = id,
                                                      .op = in->index,
                                                      .class_ = (uint8_t)slot->class_,
                                                      .heap = birth->heap};
    return TDM_OK;
}

/* Notes a use. Who had the bytes before must be over for every use, not only for the birth: that
 * matters only where a use is not ordered after the birth, which verify refuses. */
static void note_use(collector *c, const tdm_clock *before, uint32_t id, tdm_stream stream,
                     uint32_t own)
{
    tensor *t = &c->tensors[id];
    t->last.seen[stream] = own;
    if (t->birth == 0)
        return;
    tdm_clock *birth = &c->out->events[t->birth - 1].clock;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        birth->seen[s] = before->seen[s] < birth->seen[s] ? before->seen[s] : birth->seen[s];
}

/* Uses and births of an op first, then its deaths: bytes are taken when it starts and given back
 * when it ends. */
static tdm_code collect_op(collector *c, const tdm_instance *in, const tdm_clock *before,
                           uint32_t own, uint32_t pass_start)
{
    const tdm_layout_events *out = c->out;
    const tdm_op *op = in->op;
    tdm_code code = TDM_OK;
    for (uint32_t deaths = 0; deaths < 2; deaths++)
        for (uint32_t r = 0; r < op->n_refs && code == TDM_OK; r++) {
            const tdm_ref *ref = &op->refs[r];
            if (deaths && !ref->death)
                continue;
            tdm_place at = tdm_plan_place(out->role, in, ref);
            uint32_t id = (uint32_t)(out->chunk_base[at.chunk] +
                                     in->pass.microbatch * out->chunk_stride[at.chunk] +
                                     out->slot_base[at.chunk][at.position] + ref->slot);
            if (!deaths)
                note_use(c, before, id, op->stream, own);
            if (!deaths && !ref->birth)
                continue;
            const tdm_kind *kind =
                ref->next ? tdm_plan_kind_at(c->plan, &out->role->chunks[at.chunk], at.position)
                          : in->kind;
            const tdm_slot *slot = &kind->slots[ref->slot];
            code = deaths ? add_death(c, in, pass_start, id, slot)
                          : add_birth(c, in, before, id, slot);
        }
    return code;
}

static tdm_code walk(tdm_arena *scratch, collector *c)
{
    tdm_layout_events *out = c->out;
    const tdm_program *program = tdm_program_of(scratch, c->plan, c->rank);
    uint32_t pass = 0, pass_start = 0;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < program->n_ops && code == TDM_OK; i++) {
        const tdm_instance *in = &program->ops[i];
        for (; pass < in->pass_index; pass++)
            out->pass_end[pass] = pass_start = out->n_events;
        if (in->op->n_refs > 0)
            code = collect_op(c, in, &program->before[i], program->number[i], pass_start);
        c->n_compute += in->op->stream == TDM_STREAM_COMPUTE;
    }
    for (; pass < out->role->n_passes; pass++)
        out->pass_end[pass] = out->n_events;
    return code;
}

tdm_code tdm_layout_collect(tdm_arena *arena, tdm_arena *scratch, const tdm_plan *plan,
                            uint32_t rank, tdm_layout_events *out, tdm_error *err)
{
    *out = (tdm_layout_events){.plan = plan, .role = &plan->roles[plan->role_of[rank]]};
    number_tensors(arena, plan, out);
    if (out->n_tensors > UINT32_MAX)
        return tdm_error_add(err, TDM_E_INFEASIBLE,
                             "rank %u: %llu tensors are more than can be laid out", rank,
                             (unsigned long long)out->n_tensors);
    out->events = TDM_ALLOC(scratch, tdm_layout_event, count_events(scratch, plan, out->role));
    out->pass_end = TDM_ALLOC(scratch, uint32_t, out->role->n_passes);
    collector c = {.plan = plan,
                   .out = out,
                   .tensors = TDM_ALLOC(scratch, tensor, out->n_tensors),
                   .rank = rank,
                   .err = err};
    return walk(scratch, &c);
}

/* Sizes of one position's slots, for every microbatch. */
static void position_sizes(const tdm_layout_events *events, const tdm_kind *kind, uint32_t rank,
                           uint32_t layer, uint64_t stride, uint64_t *sizes)
{
    bool varies = false;
    for (uint32_t s = 0; s < kind->n_slots; s++)
        varies |= tdm_size_varies(kind->slots[s].bytes);
    for (uint32_t m = 0; m < events->plan->num_microbatches; m++) {
        tdm_routed routed = {0};
        if (varies)
            routed = tdm_plan_routed(events->plan, rank, layer, m);
        for (uint32_t s = 0; s < kind->n_slots; s++)
            sizes[m * stride + s] = tdm_size_eval(kind->slots[s].bytes, routed);
    }
}

void tdm_layout_sizes(const tdm_layout_events *events, uint32_t rank, uint64_t *sizes)
{
    for (uint32_t c = 0; c < events->role->n_chunks; c++) {
        const tdm_chunk *chunk = &events->role->chunks[c];
        uint32_t position = 0;
        for (uint32_t b = 0; b < chunk->n_blocks; b++)
            for (uint32_t i = 0; i < chunk->blocks[b].count; i++, position++)
                position_sizes(events, block_kind(events->plan, &chunk->blocks[b]), rank,
                               chunk->blocks[b].first_layer + i, events->chunk_stride[c],
                               sizes + events->chunk_base[c] + events->slot_base[c][position]);
    }
}
