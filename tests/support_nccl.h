/* support_nccl.h: the sets of measurements of TANDEM_DATA that predictions are held against, and
 * the machine of each. */
#ifndef TDM_SUPPORT_NCCL_H
#define TDM_SUPPORT_NCCL_H

#include "core/nccl/site_fit.h"

typedef struct support_nccl_set {
    const char *name;
    tdm_nccl_func func;
    tdm_nccl_comm comm;
    uint32_t n;
    uint64_t *bytes; /* [n] */
    double *time_s;  /* [n] */
} support_nccl_set;

/* Every set whose fabric is known and healthy, in a fixed order; the number of them, 0 when folder
 * lacks the files. Fails the test when one does not read. */
uint32_t support_nccl_sets(tdm_arena *arena, const char *folder, support_nccl_set **sets);

/* Every set limited by what the wiring does not tell, the same way. */
uint32_t support_nccl_sites(tdm_arena *arena, const char *folder, support_nccl_set **sets);

/* The same for the fits. */
tdm_nccl_measured *support_nccl_measured(tdm_arena *arena, const support_nccl_set *sets,
                                         uint32_t n);

/* Communicator of the first n ranks of a graph with NCCL's defaults. */
tdm_nccl_comm support_nccl_comm(tdm_arena *arena, tdm_graph graph, uint32_t n);

#endif
