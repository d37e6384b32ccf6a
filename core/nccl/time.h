/* time.h: how long one operation takes on an idle machine: NCCL's choice, its steps' latency, and
 * the bytes over a bandwidth that grows with the size. The parts are returned too, so that flows
 * over shared links can take the place of the bandwidth. */
#ifndef TDM_NCCL_TIME_H
#define TDM_NCCL_TIME_H

#include "core/nccl/p2p.h"
#include "core/nccl/site.h"

/* The ramp of a kind that all sites share; where it was not measured, that of the nearest kind that
 * was. */
const tdm_nccl_ramp *tdm_nccl_ramp_for(const tdm_nccl_ramp_key *key);

typedef struct tdm_nccl_cost {
    tdm_nccl_pick pick;
    double latency_s;   /* of the steps; the site's launch floor is not in it */
    double bytes_per_s; /* of the buffer, at full speed */
    double ramp;        /* share of it that is reached at this size */
    double efficiency;  /* bytes_per_s over what NCCL's tables say, as measured */
    double time_s;      /* latency_s + bytes / (bytes_per_s x ramp) */
} tdm_nccl_cost;

/* The cost of one operation. bytes as nccl-tests counts them: the whole buffer of a rank, for
 * all-gather and reduce-scatter that of all ranks, for all-to-all what one rank sends in all. Ramps
 * and network efficiency are those of comm->site, where it has any. Errors are those of
 * tdm_nccl_choose. */
tdm_code tdm_nccl_time(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                       tdm_nccl_cost *cost, tdm_error *err);

/* Applies a ramp to what tdm_nccl_time_parts returned. */
void tdm_nccl_time_ramp(const tdm_nccl_comm *comm, uint64_t bytes, double steps,
                        const tdm_nccl_ramp *ramp, tdm_nccl_cost *cost);

/* What so many bytes of payload come to on a link, as engines count its rate: with the protocol's
 * flags, and less where measurements found the operation faster than NCCL's tables (more where
 * slower), so that operations which alone fill a link take twice as long together. Source of the
 * flags: NCCL 2.28.9, src/include/device.h: LL has one for every 4 bytes, LL128 8 bytes of 128. */
double tdm_nccl_link_bytes(const tdm_nccl_cost *cost, double bytes);

/* What one operation takes on top: the site's launch floor, or the default of its GPUs. */
double tdm_nccl_launch_s(const tdm_nccl_comm *comm);

/* The same without a ramp: what the tables alone say, for fitting. *key and *steps (of a ring; 0:
 * no own part) say which ramp applies. */
tdm_code tdm_nccl_time_parts(const tdm_nccl_comm *comm, tdm_nccl_func func, uint64_t bytes,
                             tdm_nccl_cost *cost, tdm_nccl_ramp_key *key, double *steps,
                             tdm_error *err);

/* The launch floor that fits a site's measurements best, never below 0: the median of what is
 * measured above the model at the smaller sizes (up to 64 KiB; where there are none, the three
 * smallest). */
tdm_code tdm_nccl_fit_launch(tdm_arena *arena, const tdm_nccl_comm *comm, tdm_nccl_func func,
                             const uint64_t *bytes, const double *time_s, uint32_t n,
                             double *launch_s, tdm_error *err);

/* The floor of a machine that was not measured: the median over the sets of its generation. */
double tdm_nccl_default_launch_s(tdm_nccl_generation generation);

#endif
