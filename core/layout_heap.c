/* layout_heap.c: a best-fit heap over addresses only. Every free block carries a vector clock of
 * its last users; an op may take it when they have all ended before it starts. */
#include "layout_place.h"

#include <assert.h>
#include <string.h>

enum { BIN_STEPS = 16, BIN_STEP_BITS = 4, N_BINS = 64 * BIN_STEPS, NONE = 0 };

typedef enum block_state { BLOCK_USED, BLOCK_WAITING, BLOCK_FREE } block_state;

/* Blocks tile the heap. Block 0 stands for none. */
typedef struct block {
    uint64_t offset, size;
    tdm_clock stamp;       /* last users, of what is not in use */
    uint32_t below, above; /* neighbours by address */
    uint32_t older, newer; /* in the bin */
    block_state state;
} block;

struct tdm_heap {
    tdm_arena *arena;
    block *blocks;
    uint32_t n_blocks, capacity;
    uint32_t spare; /* list of unused entries, through .above */
    uint32_t top;   /* block with the highest address */
    uint64_t bytes;
    uint32_t *waiting; /* given back, but not yet known to be past their users: not merged */
    uint32_t n_waiting, waiting_capacity;
    uint64_t bin_map[N_BINS / 64]; /* which bins hold blocks */
    uint32_t bins[N_BINS];
};

/* Bins of 16 steps per doubling of the size. Source: Masmano et al. 2004, TLSF. */
static uint32_t bin_of(uint64_t size)
{
    uint64_t units = size / TDM_ALIGNMENT;
    if (units < BIN_STEPS)
        return (uint32_t)units;
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(units);
    uint32_t step = (uint32_t)(units >> (octave - BIN_STEP_BITS)) & (BIN_STEPS - 1);
    return (octave - BIN_STEP_BITS + 1) * BIN_STEPS + step;
}

tdm_heap *tdm_heap_new(tdm_arena *arena)
{
    tdm_heap *heap = TDM_ALLOC(arena, tdm_heap, 1);
    heap->arena = arena;
    heap->capacity = 512;
    heap->blocks = TDM_ALLOC(arena, block, heap->capacity);
    heap->waiting_capacity = 64;
    heap->waiting = TDM_ALLOC(arena, uint32_t, heap->waiting_capacity);
    tdm_heap_reset(heap);
    return heap;
}

void tdm_heap_reset(tdm_heap *heap)
{
    heap->n_blocks = 1;
    heap->spare = heap->top = NONE;
    heap->bytes = 0;
    heap->n_waiting = 0;
    memset(heap->bin_map, 0, sizeof heap->bin_map);
    memset(heap->bins, 0, sizeof heap->bins);
}

uint64_t tdm_heap_bytes(const tdm_heap *heap)
{
    return heap->bytes;
}

static uint32_t new_block(tdm_heap *heap)
{
    if (heap->spare != NONE) {
        uint32_t id = heap->spare;
        heap->spare = heap->blocks[id].above;
        return id;
    }
    if (heap->n_blocks == heap->capacity) {
        block *larger = TDM_ALLOC(heap->arena, block, 2 * (size_t)heap->capacity);
        memcpy(larger, heap->blocks, sizeof *larger * heap->capacity);
        heap->blocks = larger;
        heap->capacity *= 2;
    }
    return heap->n_blocks++;
}

static void drop_block(tdm_heap *heap, uint32_t id)
{
    heap->blocks[id].above = heap->spare;
    heap->spare = id;
}

static void bin_add(tdm_heap *heap, uint32_t id)
{
    block *b = &heap->blocks[id];
    uint32_t bin = bin_of(b->size);
    b->state = BLOCK_FREE;
    b->newer = NONE;
    b->older = heap->bins[bin];
    if (b->older != NONE)
        heap->blocks[b->older].newer = id;
    heap->bins[bin] = id;
    heap->bin_map[bin / 64] |= 1ull << (bin % 64);
}

static void bin_remove(tdm_heap *heap, uint32_t id)
{
    const block *b = &heap->blocks[id];
    if (b->older != NONE)
        heap->blocks[b->older].newer = b->newer;
    if (b->newer != NONE) {
        heap->blocks[b->newer].older = b->older;
        return;
    }
    uint32_t bin = bin_of(b->size);
    heap->bins[bin] = b->older;
    if (b->older == NONE)
        heap->bin_map[bin / 64] &= ~(1ull << (bin % 64));
}

/* First bin from `bin` on that holds blocks; N_BINS when there is none. */
static uint32_t bin_from(const tdm_heap *heap, uint32_t bin)
{
    uint32_t word = bin / 64;
    uint64_t bits = heap->bin_map[word] & (~0ull << (bin % 64));
    while (bits == 0) {
        if (++word == N_BINS / 64)
            return N_BINS;
        bits = heap->bin_map[word];
    }
    return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

static bool within(const tdm_clock *a, const tdm_clock *b)
{
    uint32_t later = 0;
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        later |= a->seen[s] > b->seen[s];
    return later == 0;
}

static void join(tdm_clock *a, const tdm_clock *b)
{
    for (uint32_t s = 0; s < TDM_N_STREAMS; s++)
        a->seen[s] = a->seen[s] > b->seen[s] ? a->seen[s] : b->seen[s];
}

/* Makes `low` one with its neighbour above and forgets the latter. */
static void absorb_above(tdm_heap *heap, uint32_t low)
{
    block *b = &heap->blocks[low];
    uint32_t high = b->above;
    const block *a = &heap->blocks[high];
    b->size += a->size;
    join(&b->stamp, &a->stamp);
    b->above = a->above;
    if (b->above != NONE)
        heap->blocks[b->above].below = low;
    else
        heap->top = low;
    drop_block(heap, high);
}

/* Joins a block with its free neighbours and puts it up for taking. */
static void release(tdm_heap *heap, uint32_t id)
{
    uint32_t above = heap->blocks[id].above, below = heap->blocks[id].below;
    if (above != NONE && heap->blocks[above].state == BLOCK_FREE) {
        bin_remove(heap, above);
        absorb_above(heap, id);
    }
    if (below != NONE && heap->blocks[below].state == BLOCK_FREE) {
        bin_remove(heap, below);
        absorb_above(heap, below);
        id = below;
    }
    bin_add(heap, id);
}

/* Merging takes the later of two stamps, so a block still in use elsewhere would spoil its
 * neighbours: blocks wait until an op that takes memory is past their users. */
static void release_waiting(tdm_heap *heap, const tdm_clock *before)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < heap->n_waiting; i++) {
        uint32_t id = heap->waiting[i];
        if (within(&heap->blocks[id].stamp, before))
            release(heap, id);
        else
            heap->waiting[kept++] = id;
    }
    heap->n_waiting = kept;
}

/* The smallest block of the first bin that has one fit for the op; NONE when there is none. */
static uint32_t best_fit(const tdm_heap *heap, uint64_t size, const tdm_clock *before)
{
    for (uint32_t bin = bin_from(heap, bin_of(size)); bin < N_BINS; bin = bin_from(heap, bin + 1)) {
        uint32_t best = NONE;
        for (uint32_t id = heap->bins[bin]; id != NONE; id = heap->blocks[id].older) {
            const block *b = &heap->blocks[id];
            if (b->size >= size && (best == NONE || b->size < heap->blocks[best].size) &&
                within(&b->stamp, before))
                best = id;
        }
        if (best != NONE || bin + 1 == N_BINS)
            return best;
    }
    return NONE;
}

/* Splits what is beyond `size` off a block that is in no bin; the rest goes into one. */
static void trim(tdm_heap *heap, uint32_t id, uint64_t size)
{
    if (heap->blocks[id].size == size)
        return;
    uint32_t rest = new_block(heap);
    block *b = &heap->blocks[id];
    heap->blocks[rest] = (block){.offset = b->offset + size,
                                 .size = b->size - size,
                                 .stamp = b->stamp,
                                 .below = id,
                                 .above = b->above};
    if (b->above != NONE)
        heap->blocks[b->above].below = rest;
    else
        heap->top = rest;
    b->above = rest;
    b->size = size;
    bin_add(heap, rest);
}

/* Grows the heap by a block of `size`, using the free end where the op may. */
static uint32_t grow(tdm_heap *heap, uint64_t size, const tdm_clock *before)
{
    uint32_t top = heap->top;
    block *t = &heap->blocks[top];
    if (top != NONE && t->state == BLOCK_FREE && within(&t->stamp, before)) {
        bin_remove(heap, top);
        heap->bytes += size - t->size;
        t->size = size;
        return top;
    }
    uint32_t id = new_block(heap);
    heap->blocks[id] = (block){.offset = heap->bytes, .size = size, .below = top};
    if (top != NONE)
        heap->blocks[top].above = id;
    heap->top = id;
    heap->bytes += size;
    return id;
}

uint32_t tdm_heap_take(tdm_heap *heap, uint64_t bytes, const tdm_clock *before, uint64_t *offset)
{
    assert(bytes > 0);
    uint64_t size = tdm_ceil_div(bytes, TDM_ALIGNMENT) * TDM_ALIGNMENT;
    release_waiting(heap, before);
    uint32_t id = best_fit(heap, size, before);
    if (id != NONE) {
        bin_remove(heap, id);
        trim(heap, id, size);
    } else {
        id = grow(heap, size, before);
    }
    heap->blocks[id].state = BLOCK_USED;
    *offset = heap->blocks[id].offset;
    return id;
}

void tdm_heap_give(tdm_heap *heap, uint32_t id, const tdm_clock *last)
{
    block *b = &heap->blocks[id];
    assert(b->state == BLOCK_USED);
    b->state = BLOCK_WAITING;
    b->stamp = *last;
    if (heap->n_waiting == heap->waiting_capacity) {
        uint32_t *larger = TDM_ALLOC(heap->arena, uint32_t, 2 * (size_t)heap->waiting_capacity);
        memcpy(larger, heap->waiting, sizeof *larger * heap->waiting_capacity);
        heap->waiting = larger;
        heap->waiting_capacity *= 2;
    }
    heap->waiting[heap->n_waiting++] = id;
}
