/* executor_memory.c: the tensors of one rank: in an arena with planned addresses, or each on its
 * own.
 *
 * Checked: where nothing lives there is poison, a pattern that reads as not-a-number. A tensor must
 * find its bytes poisoned when it is born, and leaves them poisoned when it dies, its alignment's
 * tail and the guards around the arena included: so a write before birth, after death or past the
 * end is found by the next that looks, and a read of such bytes spoils the result.
 *
 * The op that gives bytes back in program order may end before another stream has read them: nobody
 * takes the bytes before both have ended. So a tensor is over with the last use to end. */
#include "executor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD_BYTES = 16 * (int)TDM_ALIGNMENT };

/* As a number: a quiet NaN. */
static const uint32_t POISON = 0x7FDEAD5Au;

typedef struct place {
    const tdm_kind *kind;
    uint32_t layer;
} place;

struct tdm_exec_memory {
    const tdm_plan *plan;
    const tdm_layout *layout;
    tdm_exec_placement placement;
    const tdm_exec_device *device;     /* with memory of its own; NULL: it is this process's */
    unsigned char *allocation, *arena; /* guards included; without them */
    void **apart;                      /* [n_offsets] tensors with allocations of their own */
    place *const *places;              /* [n_chunks][n_positions] */
    const uint32_t *uses;              /* [n_offsets] refs to the tensor in a step */
    atomic_uint *left;                 /* [n_offsets] of these, to come */
    uint64_t *born_bytes, *died_bytes; /* [n_ops] counted while it ran */
    uint64_t *end_bytes;               /* [n_ops] highest byte of what was born */
};

/* ---- poison ---- */

/* The byte of the pattern at an address: tensors begin at multiples of its four. */
static unsigned char poison_at(const unsigned char *at)
{
    return (unsigned char)(POISON >> 8 * ((uintptr_t)at % sizeof POISON));
}

static void poison(unsigned char *from, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        from[i] = poison_at(from + i);
}

static bool is_poison(const unsigned char *from, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++)
        if (from[i] != poison_at(from + i))
            return false;
    return true;
}

/* ---- setting up ---- */

static place *places_of(tdm_arena *arena, const tdm_plan *plan, const tdm_chunk *chunk)
{
    place *places = TDM_ALLOC(arena, place, chunk->n_positions);
    uint32_t n = 0;
    for (uint32_t b = 0; b < chunk->n_blocks; b++)
        for (uint32_t i = 0; i < chunk->blocks[b].count; i++)
            places[n++] =
                (place){&plan->kinds[chunk->blocks[b].kind], chunk->blocks[b].first_layer + i};
    return places;
}

/* The tensor that a ref means: its index, and how many bytes it has on this rank. */
static uint64_t find_tensor(const tdm_exec_memory *m, const tdm_instance *in, const tdm_ref *ref,
                            uint64_t *bytes)
{
    const tdm_role *role = &m->plan->roles[m->plan->role_of[m->layout->rank]];
    tdm_place in_chunk = tdm_plan_place(role, in, ref);
    uint32_t microbatch = in->pass.microbatch;
    const place *at = &m->places[in_chunk.chunk][in_chunk.position];
    tdm_size size = at->kind->slots[ref->slot].bytes;
    tdm_routed routed = {0};
    if (tdm_size_varies(size))
        routed = tdm_plan_routed(m->plan, m->layout->rank, at->layer, microbatch);
    *bytes = tdm_size_eval(size, routed);
    return tdm_layout_index(m->layout, in_chunk.chunk, microbatch, in_chunk.position, ref->slot);
}

/* Counts the uses of every tensor in a step. */
static void count_uses(tdm_arena *arena, tdm_exec_memory *m)
{
    uint32_t *uses = TDM_ALLOC(arena, uint32_t, m->layout->n_offsets);
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, m->plan, m->layout->rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);)
        for (uint32_t i = 0; i < in.op->n_refs; i++) {
            uint64_t bytes;
            uses[find_tensor(m, &in, &in.op->refs[i], &bytes)]++;
        }
    m->uses = uses;
    m->left = TDM_ALLOC(arena, atomic_uint, m->layout->n_offsets);
    for (uint64_t i = 0; i < m->layout->n_offsets; i++)
        atomic_init(&m->left[i], uses[i]);
}

static tdm_code allocate(tdm_exec_memory *m, tdm_error *err)
{
    bool apart = m->placement == TDM_EXEC_APART;
    uint64_t guard = m->placement == TDM_EXEC_CHECKED ? GUARD_BYTES : 0;
    uint64_t bytes = apart ? m->layout->static_bytes : m->layout->arena_bytes;
    void *memory = NULL;
    if (m->device) {
        tdm_code code =
            m->device->queue->allocate(m->device->self, m->layout->rank, bytes, &memory, err);
        m->allocation = m->arena = memory;
        return code;
    }
    if (posix_memalign(&memory, TDM_ALIGNMENT, bytes + 2 * guard) != 0)
        return tdm_error_add(err, TDM_E_INFEASIBLE,
                             "rank %" PRIu32 ": no %" PRIu64 " bytes for its arena",
                             m->layout->rank, bytes);
    m->allocation = memory;
    m->arena = m->allocation + guard;
    if (guard > 0)
        poison(m->allocation, bytes + 2 * guard);
    memset(m->arena, 0, m->layout->static_bytes);
    return TDM_OK;
}

tdm_code tdm_exec_memory_open(tdm_arena *arena, const tdm_exec_job *job, uint32_t rank,
                              tdm_exec_memory **memory, tdm_error *err)
{
    tdm_exec_memory *m = TDM_ALLOC(arena, tdm_exec_memory, 1);
    const tdm_plan *plan = job->plan;
    const tdm_layout *layout = &job->layouts[rank];
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    tdm_exec_placement placement = job->placement;
    *m = (tdm_exec_memory){.plan = plan,
                           .layout = layout,
                           .placement = placement,
                           .device = job->device->queue ? job->device : NULL};
    assert(!m->device || placement == TDM_EXEC_ARENA);
    place **places = TDM_ALLOC(arena, place *, role->n_chunks);
    for (uint32_t c = 0; c < role->n_chunks; c++)
        places[c] = places_of(arena, plan, &role->chunks[c]);
    m->places = places;
    if (placement == TDM_EXEC_APART)
        m->apart = TDM_ALLOC(arena, void *, layout->n_offsets);
    if (placement != TDM_EXEC_ARENA) {
        uint32_t n_ops = tdm_plan_n_ops(plan, layout->rank);
        m->born_bytes = TDM_ALLOC(arena, uint64_t, n_ops);
        m->died_bytes = TDM_ALLOC(arena, uint64_t, n_ops);
        m->end_bytes = TDM_ALLOC(arena, uint64_t, n_ops);
        count_uses(arena, m);
    }
    tdm_code code = allocate(m, err);
    if (code == TDM_OK)
        *memory = m;
    return code;
}

void tdm_exec_memory_close(tdm_exec_memory *m)
{
    for (uint64_t i = 0; m->apart && i < m->layout->n_offsets; i++)
        free(m->apart[i]);
    if (m->device)
        m->device->queue->release(m->device->self, m->layout->rank, m->allocation);
    else
        free(m->allocation);
}

void *tdm_exec_memory_statics(tdm_exec_memory *m)
{
    return m->arena;
}

/* ---- ops ---- */

static uint64_t aligned(uint64_t bytes)
{
    return tdm_ceil_div(bytes, TDM_ALIGNMENT) * TDM_ALIGNMENT;
}

static tdm_code fault(const tdm_exec_memory *m, const tdm_exec_op *op, const tdm_ref *ref,
                      const char *what, tdm_error *err)
{
    const tdm_instance *in = op->instance;
    tdm_place in_chunk = tdm_plan_place(&m->plan->roles[m->plan->role_of[op->rank]], in, ref);
    const place *at = &m->places[in_chunk.chunk][in_chunk.position];
    return tdm_error_add(err, TDM_E_INTERNAL,
                         "rank %" PRIu32 ": op %s (%s mb %" PRIu32 ", layer %" PRIu32
                         "): tensor %s %s",
                         op->rank, in->op->name, tdm_pass_kind_name(in->pass.kind),
                         in->pass.microbatch, in->layer, at->kind->slots[ref->slot].name, what);
}

static tdm_code bear(tdm_exec_memory *m, const tdm_exec_op *op, const tdm_ref *ref, uint64_t tensor,
                     uint64_t bytes, tdm_error *err)
{
    uint32_t index = op->instance->index;
    uint64_t end = m->layout->offsets[tensor] + aligned(bytes);
    m->born_bytes[index] += bytes;
    if (bytes > 0 && end > m->end_bytes[index])
        m->end_bytes[index] = end;
    if (m->placement == TDM_EXEC_CHECKED) {
        if (bytes > 0 && !is_poison(m->arena + m->layout->offsets[tensor], aligned(bytes)))
            return fault(m, op, ref, "is born where something was written that nobody owns", err);
        return TDM_OK;
    }
    if (m->apart[tensor])
        return fault(m, op, ref, "is born twice", err);
    m->apart[tensor] = malloc(bytes > 0 ? bytes : 1);
    if (!m->apart[tensor])
        return fault(m, op, ref, "finds no memory", err);
    poison(m->apart[tensor], bytes);
    return TDM_OK;
}

tdm_code tdm_exec_memory_enter(tdm_exec_memory *m, tdm_exec_op *op, tdm_error *err)
{
    const tdm_op *what = op->instance->op;
    for (uint32_t i = 0; i < what->n_refs; i++) {
        uint64_t bytes, tensor = find_tensor(m, op->instance, &what->refs[i], &bytes);
        if (what->refs[i].birth && m->placement != TDM_EXEC_ARENA) {
            tdm_code code = bear(m, op, &what->refs[i], tensor, bytes, err);
            if (code != TDM_OK)
                return code;
        }
        bool born = m->layout->offsets[tensor] != UINT64_MAX;
        op->tensors[i].bytes = bytes;
        op->tensors[i].data = m->apart ? m->apart[tensor]
                              : born   ? m->arena + m->layout->offsets[tensor]
                                       : NULL;
        if (!op->tensors[i].data)
            return fault(m, op, &what->refs[i], "is used where it does not live", err);
    }
    return TDM_OK;
}

/* The last use of a tensor has ended. */
static tdm_code bury(tdm_exec_memory *m, const tdm_exec_op *op, uint32_t ref, uint64_t tensor,
                     uint64_t bytes, tdm_error *err)
{
    if (m->apart) {
        free(m->apart[tensor]);
        m->apart[tensor] = NULL;
        return TDM_OK;
    }
    unsigned char *data = op->tensors[ref].data;
    if (!is_poison(data + bytes, aligned(bytes) - bytes))
        return fault(m, op, &op->instance->op->refs[ref], "was written past its end", err);
    poison(data, bytes);
    return TDM_OK;
}

tdm_code tdm_exec_memory_leave(tdm_exec_memory *m, const tdm_exec_op *op, tdm_error *err)
{
    const tdm_op *what = op->instance->op;
    tdm_code code = TDM_OK;
    for (uint32_t i = 0; i < what->n_refs && m->placement != TDM_EXEC_ARENA; i++) {
        uint64_t bytes, tensor = find_tensor(m, op->instance, &what->refs[i], &bytes);
        m->died_bytes[op->instance->index] += what->refs[i].death ? bytes : 0;
        if (atomic_fetch_sub(&m->left[tensor], 1) == 1 && code == TDM_OK)
            code = bury(m, op, i, tensor, bytes, err);
    }
    return code;
}

/* ---- after a step ---- */

static tdm_code check_rest(const tdm_exec_memory *m, tdm_error *err)
{
    const tdm_layout *l = m->layout;
    if (m->placement == TDM_EXEC_CHECKED) {
        if (!is_poison(m->allocation, GUARD_BYTES) ||
            !is_poison(m->arena + l->arena_bytes, GUARD_BYTES))
            return tdm_error_add(err, TDM_E_INTERNAL,
                                 "rank %" PRIu32 ": something was written outside the arena",
                                 l->rank);
        if (!is_poison(m->arena + l->static_bytes, l->arena_bytes - l->static_bytes))
            return tdm_error_add(
                err, TDM_E_INTERNAL,
                "rank %" PRIu32
                ": after the step something lives or was written where nothing lives",
                l->rank);
    }
    for (uint64_t i = 0; m->apart && i < l->n_offsets; i++)
        if (m->apart[i])
            return tdm_error_add(err, TDM_E_INTERNAL,
                                 "rank %" PRIu32 ": a tensor outlives the step", l->rank);
    return TDM_OK;
}

tdm_code tdm_exec_memory_settle(tdm_exec_memory *m, const tdm_program *program,
                                tdm_exec_count *count, tdm_error *err)
{
    if (m->placement == TDM_EXEC_ARENA)
        return TDM_OK;
    uint64_t statics[TDM_N_CLASSES], live = 0;
    tdm_layout_static(m->plan, m->layout->rank, statics); /* without what alignment takes */
    for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
        live += statics[k];
    tdm_exec_count c = {.live_peak_bytes = live, .arena_bytes = m->layout->static_bytes};
    for (uint32_t op = 0; op < program->n_ops; op++) {
        live += m->born_bytes[op];
        c.live_peak_bytes = live > c.live_peak_bytes ? live : c.live_peak_bytes;
        live -= m->died_bytes[op];
        c.arena_bytes = m->end_bytes[op] > c.arena_bytes ? m->end_bytes[op] : c.arena_bytes;
        m->born_bytes[op] = m->died_bytes[op] = m->end_bytes[op] = 0;
    }
    for (uint64_t i = 0; i < m->layout->n_offsets; i++)
        atomic_store(&m->left[i], m->uses[i]);
    if (m->placement == TDM_EXEC_APART)
        c.arena_bytes = 0;
    if (count)
        *count = c;
    return check_rest(m, err);
}
