/* layout.h: where each tensor of a rank lives: offline placement and the memory figures.
 * Two tensors share bytes only when every op on the one happens before every op on the other by
 * stream order and waits, on this rank alone. */
#ifndef TDM_LAYOUT_H
#define TDM_LAYOUT_H

#include "program.h"

#define TDM_ALIGNMENT 256u /* of every tensor, as cudaMalloc gives */

typedef struct tdm_layout {
    uint32_t rank;
    uint64_t arena_bytes;     /* what a backend allocates: static tensors, then the rest */
    uint64_t static_bytes;    /* weights, gradients, optimizer: at the arena's start */
    uint64_t live_peak_bytes; /* most bytes alive at once in program order, static ones included */
    uint64_t class_at_peak[TDM_N_CLASSES]; /* split of live_peak_bytes */
    uint64_t class_peak[TDM_N_CLASSES];    /* each class's own peak */
    uint32_t peak_op;                      /* index of the op at which the peak is reached */
    /* Offset of the tensor (chunk, microbatch, position, slot): offsets[chunk_base[chunk] +
     * microbatch * chunk_stride[chunk] + slot_base[chunk][position] + slot]; UINT64_MAX where it is
     * never born. NULL when addresses were not asked for. */
    const uint64_t *offsets;
    uint64_t n_offsets;
    const uint64_t *chunk_base, *chunk_stride; /* [n_chunks] */
    const uint32_t *const *slot_base;          /* [n_chunks][n_positions + 1] */
    /* Live bytes by class after the last op of each pass, [n_passes][TDM_N_CLASSES]. */
    const uint64_t *timeline;
} tdm_layout;

/* Places the tensors of `rank`. */
tdm_code tdm_layout_build(tdm_arena *arena, const tdm_plan *plan, uint32_t rank, bool want_offsets,
                          tdm_layout *layout, tdm_error *err);

/* The same for every rank of the plan, layouts [world]: what ranks of a role share is worked out
 * once. */
tdm_code tdm_layout_build_all(tdm_arena *arena, const tdm_plan *plan, bool want_offsets,
                              tdm_layout *layouts, tdm_error *err);

/* The same; every layout is shown once, rank by rank of one role after the other, while its offsets
 * are at hand. They are gone afterwards: those of all ranks together may be large. Stops with the
 * first failure. */
typedef tdm_code tdm_layout_visit(void *context, const tdm_layout *layout, tdm_error *err);
tdm_code tdm_layout_build_each(tdm_arena *arena, const tdm_plan *plan, tdm_layout_visit *visit,
                               void *context, tdm_layout *layouts, tdm_error *err);

/* Index into layout->offsets. */
static inline uint64_t tdm_layout_index(const tdm_layout *layout, uint32_t chunk,
                                        uint32_t microbatch, uint32_t position, uint32_t slot)
{
    return layout->chunk_base[chunk] + (uint64_t)microbatch * layout->chunk_stride[chunk] +
           layout->slot_base[chunk][position] + slot;
}

/* Bytes of one parameter's weights, gradients and optimizer state on a rank, by class. */
void tdm_layout_param(const tdm_plan *plan, const tdm_param *param, uint64_t bytes[TDM_N_CLASSES]);

/* The same of all that a rank holds. */
void tdm_layout_static(const tdm_plan *plan, uint32_t rank, uint64_t bytes[TDM_N_CLASSES]);

#endif
