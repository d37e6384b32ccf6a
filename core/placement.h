/* placement.h: which pipeline stage holds which chunk of layers. Virtual stages are the chunks in
 * the order in which a microbatch passes them. */
#ifndef TDM_PLACEMENT_H
#define TDM_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tdm_placement {
    TDM_PLACEMENT_LOOP, /* every chunk runs from the first stage to the last */
    /* Odd chunks run back from the last stage to the first. Where two chunks meet, at the turn,
     * both are on one stage and hand over without a transfer. Source: Qi et al. 2024, Pipeline
     * Parallelism with Controllable Memory. */
    TDM_PLACEMENT_V,
    TDM_N_PLACEMENTS
} tdm_placement;

/* Virtual stage of a chunk of a stage, of p stages. */
static inline uint32_t tdm_placement_virtual(tdm_placement placement, uint32_t p, uint32_t stage,
                                             uint32_t chunk)
{
    bool back = placement == TDM_PLACEMENT_V && chunk % 2 == 1;
    return chunk * p + (back ? p - 1 - stage : stage);
}

/* Stage that holds a virtual stage, of p stages. */
static inline uint32_t tdm_placement_stage(tdm_placement placement, uint32_t p,
                                           uint32_t virtual_stage)
{
    bool back = placement == TDM_PLACEMENT_V && virtual_stage / p % 2 == 1;
    return back ? p - 1 - virtual_stage % p : virtual_stage % p;
}

#endif
