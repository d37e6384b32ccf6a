/* site_fit.h: fits what a site's measurements say beyond its wiring: launch floor, network
 * efficiency, and ramps of the kinds of operation that there are enough points of. */
#ifndef TDM_NCCL_SITE_FIT_H
#define TDM_NCCL_SITE_FIT_H

#include "core/nccl/time.h"

/* One log. Its communicator has no site yet. */
typedef struct tdm_nccl_measured {
    const tdm_nccl_comm *comm;
    tdm_nccl_func func;
    uint32_t n;
    const uint64_t *bytes; /* [n], above 0 */
    const double *time_s;  /* [n], above 0 */
} tdm_nccl_measured;

/* Low and high: with 95 % confidence; infinite where there are too few points to say. */
typedef struct tdm_nccl_estimate {
    double value, low, high;
} tdm_nccl_estimate;

typedef struct tdm_nccl_site_fit {
    tdm_nccl_site site;  /* without source */
    uint32_t n_points;   /* fitted to */
    uint32_t n_left_out; /* took more than twice as long as a larger size */
    tdm_nccl_estimate launch_s, network_efficiency; /* efficiency 1 to 1: one node only */
    /* [site.n_ramps]: latency_share, efficiency, half_bytes, power; own_steps is the shared one */
    const tdm_nccl_estimate (*ramps)[4];
} tdm_nccl_site_fit;

enum { TDM_NCCL_RAMP_POINTS = 2 }; /* a ramp of its own takes so many points of its kind */

/* Whether the i-th smallest of a log's sizes is held back by `half`: every second one. */
static inline bool tdm_nccl_is_held_back(uint32_t i)
{
    return i % 2 == 1;
}

/* Fits one site to its logs [n_sets]; half: to every other size only. The residual is the logarithm
 * of predicted over measured. Numbers that the points say little about stay near the shared ramps,
 * and the network's efficiency near 1: each has a prior that weighs as one point with 1 % error.
 * Errors are those of tdm_nccl_time_parts, and fewer than two points. */
tdm_code tdm_nccl_site_fit_logs(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                                bool half, tdm_nccl_site_fit *fit, tdm_error *err);

/* Errors of a site's predictions on each point of one log, as shares, by size; [n] of them. */
tdm_code tdm_nccl_site_errors(tdm_arena *arena, const tdm_nccl_measured *set,
                              const tdm_nccl_site *site, uint64_t *bytes, double *errors,
                              tdm_error *err);

#endif
