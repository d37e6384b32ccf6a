/* ramp_fit.h: fits the ramps that all sites share (ramp.c) to many sets of measurements at once. */
#ifndef TDM_NCCL_RAMP_FIT_H
#define TDM_NCCL_RAMP_FIT_H

#include "core/nccl/site_fit.h"

/* A row of ramp.c: kinds of operation that share a ramp. */
typedef struct tdm_nccl_ramp_row {
    tdm_nccl_ramp_key key;
    bool any_generation, any_function; /* what of the key does not count */
    tdm_nccl_ramp ramp;
    uint32_t n_points, n_sets;
    double error; /* median absolute error of its points, as a share */
} tdm_nccl_ramp_row;

enum { TDM_NCCL_MOST_ROWS = 64 };

/* The row that a kind belongs to: several nodes share one per algorithm and protocol, LL128 on one
 * node one per generation. */
tdm_nccl_ramp_row tdm_nccl_ramp_row_of(const tdm_nccl_ramp_key *key);

/* Fits the rows that the sets [n_sets] have points of, each set with a launch floor of its own (the
 * median above the model up to 64 KiB; without such sizes at the three smallest). The sum over sets
 * of the mean of |ln(predicted / measured)| in each band of sizes (to 64 KiB, to 16 MiB, above,
 * which counts twice), by coordinate descent; differences count as 0.6 at most, large ones more
 * than in proportion. Bounds: latency share .2 to 2, efficiency .7 to 1.03 (NVLS 1.06), power .15
 * to 1. half: fitted to every other size. only: this row alone is fitted, the others stay as ramp.c
 * has them; NULL: all. rows has room for TDM_NCCL_MOST_ROWS. Errors are those of
 * tdm_nccl_time_parts. */
tdm_code tdm_nccl_ramp_fit(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                           bool half, const tdm_nccl_ramp_row *only, tdm_nccl_ramp_row *rows,
                           uint32_t *n_rows, tdm_error *err);

/* Median absolute error of each set in each band, in percent, with such rows: [n_sets][3], negative
 * where it has no point; half: on the sizes that were held back. launch_s [n_sets] may be NULL. */
tdm_code tdm_nccl_ramp_score(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                             bool half, const tdm_nccl_ramp_row *rows, uint32_t n_rows,
                             double (*percent)[3], double *launch_s, tdm_error *err);

/* Whether two rows are the same kinds. */
bool tdm_nccl_ramp_row_same(const tdm_nccl_ramp_row *a, const tdm_nccl_ramp_row *b);

#endif
