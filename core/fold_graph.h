/* fold_graph.h: the links of a wired machine when its GPUs move: for fold.c. */
#ifndef TDM_FOLD_GRAPH_H
#define TDM_FOLD_GRAPH_H

#include "topology.h"

/* Whether links follow from GPUs: every GPU is on an NVSwitch, so no traffic shares other inner
 * links. */
bool tdm_fold_graph_may_move(const tdm_graph *graph);

/* Finds the link [n_links] that each link goes to when GPU g goes to gpus[g] [n_gpus]. False when
 * one goes to two, or to one that differs in speed or latency. */
bool tdm_fold_graph_move(tdm_arena *scratch, const tdm_topology *topology, const uint32_t *gpus,
                         uint32_t *links);

#endif
