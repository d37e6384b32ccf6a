/* layout_place.h: the two halves of layout. A role's births and deaths with their clocks are the
 * same for all its ranks and are worked out once; heaps then place each rank's sizes. Private to
 * layout. */
#ifndef TDM_LAYOUT_PLACE_H
#define TDM_LAYOUT_PLACE_H

#include "layout.h"

/* ---- what happens: layout_events.c ---- */

/* Tensors of one heap are alike in how long they live, so that the holes they leave fit the next
 * ones. An op that runs ahead of compute may not take what compute has just given back; for those
 * of each stream there is a heap that they do not share with others. */
typedef enum tdm_heap_kind {
    TDM_HEAP_LONG,  /* outlive the pass they are born in */
    TDM_HEAP_SHORT, /* die in it */
    TDM_HEAP_AHEAD, /* born ahead of compute on stream 0, 1 ... */
    TDM_N_HEAPS = TDM_HEAP_AHEAD + TDM_N_STREAMS
} tdm_heap_kind;

typedef struct tdm_layout_event {
    tdm_clock
        clock; /* birth: what has ended before the op starts; death: last use on each stream */
    uint32_t tensor; /* index into sizes and offsets */
    uint32_t op;     /* in program order */
    uint8_t class_, heap;
    bool birth;
} tdm_layout_event;

typedef struct tdm_layout_events {
    const tdm_plan *plan;
    const tdm_role *role;
    uint64_t n_tensors; /* slots of all positions, microbatches and chunks */
    const uint64_t *chunk_base, *chunk_stride;
    const uint32_t *const *slot_base;
    tdm_layout_event *events;
    uint32_t n_events;
    uint32_t *pass_end; /* [n_passes] events up to the end of the pass */
    bool sizes_vary;    /* with the tokens routed to the rank */
} tdm_layout_events;

/* For the role of `rank`. Index arrays live in `arena`, the rest in `scratch`. Fails when a tensor
 * is born twice or dies unborn. */
tdm_code tdm_layout_collect(tdm_arena *arena, tdm_arena *scratch, const tdm_plan *plan,
                            uint32_t rank, tdm_layout_events *out, tdm_error *err);
/* Bytes of every tensor of a rank, [n_tensors]. */
void tdm_layout_sizes(const tdm_layout_events *events, uint32_t rank, uint64_t *sizes);

/* ---- where it goes: layout_heap.c ---- */

typedef struct tdm_heap tdm_heap;
tdm_heap *tdm_heap_new(tdm_arena *arena);
void tdm_heap_reset(tdm_heap *heap);
/* Takes the smallest block that holds `bytes` (above 0) and whose earlier users are all within
 * `before`; the heap grows when there is none. Returns the block; *offset is where it starts. */
uint32_t tdm_heap_take(tdm_heap *heap, uint64_t bytes, const tdm_clock *before, uint64_t *offset);
/* Gives the block back; `last` holds its last user on each stream. */
void tdm_heap_give(tdm_heap *heap, uint32_t block, const tdm_clock *last);
/* Bytes the heap has grown to. */
uint64_t tdm_heap_bytes(const tdm_heap *heap);

#endif
