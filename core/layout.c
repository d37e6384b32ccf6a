/* layout.c: offline placement of every tensor of a rank, and its memory figures.
 * The arena is the static tensors (all weights, then all gradients, then all optimizer state, each
 * in the order chunk, position, parameter), then one heap after another. */
#include "layout_place.h"

#include <string.h>

/* ---- static tensors ---- */

/* Bytes of a parameter's weight, gradient and optimizer state on one rank.
 * Adam keeps two fp32 moments, and an fp32 master copy unless the weights are fp32 themselves;
 * ZeRO-1 shards that over the parameter's replicas. Source: Rajbhandari et al. 2020, ZeRO,
 * section 3.1 and 5.1 (2 + 2 + 12 bytes, the 12 divided by the replicas); gradients have a dtype of
 * their own, as in Megatron-LM's distributed optimizer. */
void tdm_layout_param(const tdm_plan *plan, const tdm_param *param, uint64_t bytes[TDM_N_CLASSES])
{
    memset(bytes, 0, sizeof bytes[0] * TDM_N_CLASSES);
    bytes[TDM_CLASS_WEIGHTS] = param->count * tdm_dtype_bytes(plan->training.dtype);
    if (!plan->train)
        return;
    bytes[TDM_CLASS_GRADIENTS] = param->count * tdm_dtype_bytes(plan->training.grad_dtype);
    uint64_t replicas = 1;
    tdm_mesh whole = tdm_mesh_whole(&plan->mesh);
    if (plan->parallel.distributed_optimizer)
        replicas = param->expert ? whole.edp : (uint64_t)whole.dp * whole.cp;
    uint64_t state = plan->training.dtype == TDM_DTYPE_FP32 ? 8 : 12;
    bytes[TDM_CLASS_OPTIMIZER] = tdm_ceil_div(param->count, replicas) * state;
}

/* Adds up the static tensors; *aligned is what they take with every tensor on its own alignment. */
static void static_bytes(const tdm_plan *plan, uint32_t rank, uint64_t bytes[TDM_N_CLASSES],
                         uint64_t *aligned)
{
    const tdm_role *role = &plan->roles[plan->role_of[rank]];
    memset(bytes, 0, sizeof bytes[0] * TDM_N_CLASSES);
    *aligned = 0;
    for (uint32_t c = 0; c < role->n_chunks; c++)
        for (uint32_t b = 0; b < role->chunks[c].n_blocks; b++) {
            const tdm_block *block = &role->chunks[c].blocks[b];
            const tdm_kind *kind = &plan->kinds[block->kind];
            for (uint32_t p = 0; p < kind->n_params; p++) {
                uint64_t one[TDM_N_CLASSES];
                tdm_layout_param(plan, &kind->params[p], one);
                for (uint32_t k = 0; k < TDM_N_CLASSES; k++) {
                    bytes[k] += block->count * one[k];
                    *aligned += block->count * tdm_ceil_div(one[k], TDM_ALIGNMENT) * TDM_ALIGNMENT;
                }
            }
        }
}

void tdm_layout_static(const tdm_plan *plan, uint32_t rank, uint64_t bytes[TDM_N_CLASSES])
{
    uint64_t aligned;
    static_bytes(plan, rank, bytes, &aligned);
}

/* ---- the rest ---- */

/* What is used again for every rank. */
typedef struct placer {
    tdm_arena scratch, of_role;
    tdm_heap *heaps[TDM_N_HEAPS];
    uint64_t *sizes;   /* [n_tensors] of the rank at hand */
    uint32_t *blocks;  /* [n_tensors] */
    uint64_t capacity; /* of the two */
} placer;

static void placer_init(placer *p)
{
    *p = (placer){0};
    for (uint32_t h = 0; h < TDM_N_HEAPS; h++)
        p->heaps[h] = tdm_heap_new(&p->scratch);
}

static void placer_free(placer *p)
{
    tdm_arena_free(&p->scratch);
    tdm_arena_free(&p->of_role);
}

static void placer_room(placer *p, uint64_t n_tensors)
{
    if (n_tensors <= p->capacity)
        return;
    p->sizes = TDM_ALLOC(&p->scratch, uint64_t, n_tensors);
    p->blocks = TDM_ALLOC(&p->scratch, uint32_t, n_tensors);
    p->capacity = n_tensors;
}

/* Bytes alive while the program runs. */
typedef struct census {
    uint64_t live[TDM_N_CLASSES], total;
    tdm_layout *layout;
} census;

static void census_birth(census *c, const tdm_layout_event *event, uint64_t bytes)
{
    tdm_layout *layout = c->layout;
    c->live[event->class_] += bytes;
    c->total += bytes;
    if (c->live[event->class_] > layout->class_peak[event->class_])
        layout->class_peak[event->class_] = c->live[event->class_];
    if (c->total > layout->live_peak_bytes) {
        layout->live_peak_bytes = c->total;
        layout->peak_op = event->op;
        memcpy(layout->class_at_peak, c->live, sizeof c->live);
    }
}

static census census_new(const tdm_plan *plan, uint32_t rank, tdm_layout *layout)
{
    census c = {.layout = layout};
    static_bytes(plan, rank, c.live, &layout->static_bytes);
    for (uint32_t k = 0; k < TDM_N_CLASSES; k++)
        c.total += c.live[k];
    layout->live_peak_bytes = c.total;
    memcpy(layout->class_at_peak, c.live, sizeof c.live);
    memcpy(layout->class_peak, c.live, sizeof c.live);
    return c;
}

/* Takes and gives back what one event says; offsets are within the heap at first. */
static void place_event(placer *p, const tdm_layout_event *event, census *c, uint64_t *offsets)
{
    uint64_t bytes = p->sizes[event->tensor];
    if (event->birth) {
        uint64_t offset = 0;
        if (bytes > 0)
            p->blocks[event->tensor] =
                tdm_heap_take(p->heaps[event->heap], bytes, &event->clock, &offset);
        if (offsets)
            offsets[event->tensor] = offset;
        census_birth(c, event, bytes);
        return;
    }
    if (bytes > 0)
        tdm_heap_give(p->heaps[event->heap], p->blocks[event->tensor], &event->clock);
    c->live[event->class_] -= bytes;
    c->total -= bytes;
}

/* Puts the heaps one after another behind the static tensors. */
static void stack_heaps(const placer *p, const tdm_layout_events *events, tdm_layout *layout,
                        uint64_t *offsets)
{
    uint64_t base[TDM_N_HEAPS];
    layout->arena_bytes = layout->static_bytes;
    for (uint32_t h = 0; h < TDM_N_HEAPS; h++) {
        base[h] = layout->arena_bytes;
        layout->arena_bytes += tdm_heap_bytes(p->heaps[h]);
    }
    for (uint32_t e = 0; offsets && e < events->n_events; e++)
        if (events->events[e].birth)
            offsets[events->events[e].tensor] += base[events->events[e].heap];
}

/* Offsets go to `offsets` [n_tensors] unless that is NULL. */
static void place_rank(tdm_arena *arena, placer *p, const tdm_layout_events *events, uint32_t rank,
                       uint64_t *offsets, tdm_layout *layout)
{
    const tdm_role *role = events->role;
    placer_room(p, events->n_tensors);
    tdm_layout_sizes(events, rank, p->sizes);
    for (uint32_t h = 0; h < TDM_N_HEAPS; h++)
        tdm_heap_reset(p->heaps[h]);
    if (offsets)
        memset(offsets, 0xff, sizeof *offsets * events->n_tensors);
    uint64_t *timeline = TDM_ALLOC(arena, uint64_t, role->n_passes * (size_t)TDM_N_CLASSES);
    *layout = (tdm_layout){.rank = rank,
                           .offsets = offsets,
                           .n_offsets = offsets ? events->n_tensors : 0,
                           .chunk_base = events->chunk_base,
                           .chunk_stride = events->chunk_stride,
                           .slot_base = events->slot_base,
                           .timeline = timeline};
    census c = census_new(events->plan, rank, layout);
    for (uint32_t pass = 0, e = 0; pass < role->n_passes; pass++) {
        for (; e < events->pass_end[pass]; e++)
            place_event(p, &events->events[e], &c, offsets);
        memcpy(timeline + (size_t)pass * TDM_N_CLASSES, c.live, sizeof c.live);
    }
    stack_heaps(p, events, layout, offsets);
}

tdm_code tdm_layout_build(tdm_arena *arena, const tdm_plan *plan, uint32_t rank, bool want_offsets,
                          tdm_layout *layout, tdm_error *err)
{
    placer p;
    placer_init(&p);
    tdm_layout_events events;
    tdm_code code = tdm_layout_collect(arena, &p.scratch, plan, rank, &events, err);
    if (code == TDM_OK) {
        uint64_t *offsets = want_offsets ? TDM_ALLOC(arena, uint64_t, events.n_tensors) : NULL;
        place_rank(arena, &p, &events, rank, offsets, layout);
    }
    placer_free(&p);
    return code;
}

/* What to do with the offsets of all ranks. */
typedef struct offset_use {
    bool keep;
    tdm_layout_visit *visit; /* NULL: nobody looks */
    void *context;
} offset_use;

/* Lays out all ranks of a role. Where sizes do not depend on the rank, one placement serves all. */
static tdm_code build_role(tdm_arena *arena, placer *p, const tdm_plan *plan, uint32_t first,
                           const offset_use *use, tdm_layout *layouts, tdm_error *err)
{
    tdm_layout_events events;
    tdm_arena_reset(&p->of_role);
    tdm_code code = tdm_layout_collect(arena, &p->of_role, plan, first, &events, err);
    uint64_t *shown =
        code == TDM_OK && use->visit ? TDM_ALLOC(&p->of_role, uint64_t, events.n_tensors) : NULL;
    for (uint32_t rank = first; rank < plan->mesh.world && code == TDM_OK; rank++) {
        if (plan->role_of[rank] != plan->role_of[first])
            continue;
        if (rank == first || events.sizes_vary) {
            uint64_t *kept = use->keep ? TDM_ALLOC(arena, uint64_t, events.n_tensors) : NULL;
            place_rank(arena, p, &events, rank, use->keep ? kept : shown, &layouts[rank]);
        } else {
            layouts[rank] = layouts[first];
            layouts[rank].rank = rank;
        }
        if (use->visit)
            code = use->visit(use->context, &layouts[rank], err);
    }
    for (uint32_t rank = first; rank < plan->mesh.world && !use->keep; rank++)
        if (plan->role_of[rank] == plan->role_of[first]) {
            layouts[rank].offsets = NULL;
            layouts[rank].n_offsets = 0;
        }
    return code;
}

static tdm_code build_ranks(tdm_arena *arena, const tdm_plan *plan, const offset_use *use,
                            tdm_layout *layouts, tdm_error *err)
{
    tdm_code code = TDM_OK;
    placer p;
    placer_init(&p);
    bool *done = TDM_ALLOC(&p.scratch, bool, plan->n_roles);
    tdm_layout *built = TDM_ALLOC(&p.scratch, tdm_layout, plan->mesh.world);
    for (uint32_t rank = 0; rank < plan->mesh.world && code == TDM_OK; rank++) {
        if (done[plan->role_of[rank]])
            continue;
        done[plan->role_of[rank]] = true;
        code = build_role(arena, &p, plan, rank, use, built, err);
    }
    if (code == TDM_OK)
        memcpy(layouts, built, sizeof *layouts * plan->mesh.world);
    placer_free(&p);
    return code;
}

tdm_code tdm_layout_build_all(tdm_arena *arena, const tdm_plan *plan, bool want_offsets,
                              tdm_layout *layouts, tdm_error *err)
{
    return build_ranks(arena, plan, &(offset_use){.keep = want_offsets}, layouts, err);
}

tdm_code tdm_layout_build_each(tdm_arena *arena, const tdm_plan *plan, tdm_layout_visit *visit,
                               void *context, tdm_layout *layouts, tdm_error *err)
{
    return build_ranks(arena, plan, &(offset_use){.visit = visit, .context = context}, layouts,
                       err);
}
