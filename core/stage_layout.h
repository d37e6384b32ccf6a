/* stage_layout.h: uneven layers per stage, in Megatron's string form: "Et*3|(tt|)*29tL" for E the
 * embedding, t one layer, L head and loss, | the border between two (virtual) stages; X*n and
 * (...)*n repeat; commas and blanks do not count. Stages without layers are allowed. Source:
 * Megatron-LM, --pipeline-model-parallel-layout. */
#ifndef TDM_STAGE_LAYOUT_H
#define TDM_STAGE_LAYOUT_H

#include "base.h"

/* Counts the layers of each of n_stages (virtual) stages into layers [n_stages]. Returns NULL, or
 * what is wrong with the text, in arena. */
const char *tdm_stage_layout_parse(tdm_arena *arena, const char *text, uint32_t n_stages,
                                   uint32_t n_layers, uint32_t *layers);

#endif
