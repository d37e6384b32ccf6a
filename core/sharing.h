/* sharing.h: flows over links that they share max-min fairly, each at most at a rate of its own.
 * It is the one rule of sharing: SimGrid's CM02 model computes the same for links without latency.
 */
#ifndef TDM_SHARING_H
#define TDM_SHARING_H

#include "base.h"

typedef struct tdm_shared_flow {
    double start_s;
    double bytes;           /* on each of its links */
    double max_bytes_per_s; /* INFINITY: only the links limit it */
    uint32_t n_links;
    const uint32_t *links; /* [n_links] each once */
} tdm_shared_flow;

/* When each flow ends: end_s [n_flows]. capacity: bytes/s of every link, above 0. A flow without
 * bytes ends as it starts; so does one without links or limit. */
void tdm_share_links(tdm_arena *scratch, const double *capacity, const tdm_shared_flow *flows,
                     uint32_t n_flows, double *end_s);

#endif
