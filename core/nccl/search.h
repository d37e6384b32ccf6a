/* search.h: NCCL's search for channels on one node: how many, how fast, over which GPUs.
 * Source: NCCL 2.28.9, src/graph/search.cc. */
#ifndef TDM_NCCL_SEARCH_H
#define TDM_NCCL_SEARCH_H

#include "core/nccl/view.h"

/* Searches channels of one pattern. cross_nic: NCCL_CROSS_NIC (2 is the default). The number of
 * channels is between the limits where the search finds so many; a pattern of which there is none
 * (NVLS without NVSwitch) has 0. The graph's arrays live in arena. */
void tdm_nccl_search(tdm_arena *arena, const tdm_nccl_view *view, tdm_nccl_pattern pattern,
                     uint32_t min_channels, uint32_t max_channels, uint32_t cross_nic,
                     tdm_nccl_graph *found);

/* One attempt at one speed; the parts below are for search.c and search_try.c. */
enum { TDM_NCCL_GRAPH_CHANNELS = TDM_NCCL_MAX_CHANNELS / 2 };

typedef struct tdm_nccl_try {
    const tdm_nccl_view *view;
    double *link_bw; /* [n_links] what is left */
    double *port_bw; /* [ports] what is left */
    uint64_t *used;  /* [gpus] channels under construction that have passed the GPU, a bit each */
    tdm_nccl_graph now, best;
    uint32_t min_channels, max_channels;
    uint16_t *picked, *n_picked; /* [1 + gpus][ports] adapters to try, of all GPUs and of each */
    int steps_left;              /* -1: nothing better can be found */
    /* [TDM_NCCL_GRAPH_CHANNELS][n_gpus], [TDM_NCCL_GRAPH_CHANNELS][2] of now and best */
    uint16_t *now_order, *now_adapters, *best_order, *best_adapters;
} tdm_nccl_try;

/* Places channels of now.bw_intra and now.bw_inter until steps_left is used up; improves best. */
void tdm_nccl_try_speed(tdm_nccl_try *search);

#endif
