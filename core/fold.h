/* fold.h: symmetric replicas as one. Data-parallel replicas that do the same at the same time need
 * not be simulated one by one: a folded plan holds the ranks of the smallest set of replicas that
 * repeats, each standing for `copies` ranks (mesh.h), and a folded topology holds their links.
 *
 * Ranks of a stage that are `unit` apart are taken for equal when moving every rank by `unit`,
 * round its stage, keeps every group inside a unit or whole, takes each GPU's ports to ports of the
 * same speed, nodes to nodes, and the flows of every collective over replicas to flows of the same
 * collective. Max-min fair rates are unique, so they are the same for equal flows; a link then
 * carries what the link that stands for it carries, and a collective over replicas is done when the
 * flows that start in one unit are. */
#ifndef TDM_FOLD_H
#define TDM_FOLD_H

#include "mesh.h"
#include "scenario.h"

typedef struct tdm_fold {
    uint32_t copies; /* ranks that each simulated one stands for; 1: folding is not possible */
    bool exact;      /* the folded run equals the unfolded one */
    const char *why; /* why not possible, or in what not exact; else NULL */
} tdm_fold;

/* How far the scenario's replicas can be folded. */
tdm_fold tdm_fold_find(tdm_arena *arena, const tdm_scenario *scenario);

/* The topology as a plan with this mesh uses it: a copy in which other links and GPUs stand for
 * those of the ranks that are not simulated; as it is for a mesh that is not folded. Fails when the
 * topology is not symmetric in that way. */
tdm_code tdm_topology_fold(tdm_arena *arena, const tdm_topology *topology, const tdm_mesh *mesh,
                           tdm_topology *folded, tdm_error *err);

#endif
