/* ramp_fit.c: coordinate descent over the rows of ramp.c. */
#include "core/nccl/ramp_fit.h"

#include "core/stats.h"

#include <math.h>
#include <stdlib.h>

enum { N_BANDS = 3, N_ROUNDS = 4, N_HALVINGS = 5, MOST_MOVES = 6, N_PARAMETERS = 5 };

typedef struct point {
    uint64_t bytes;
    double measured_s, latency_s, transfer_s, steps;
    uint32_t n_ranks, row;
    bool fitted; /* not held back */
} point;

typedef struct set {
    const point *points; /* [n] by size */
    uint32_t n;
} set;

typedef struct problem {
    uint32_t n_sets, n_rows;
    set *sets;
    tdm_nccl_ramp_row *rows; /* [n_rows] */
    double *scratch;         /* as long as the longest set */
} problem;

static int band_of(uint64_t bytes)
{
    return bytes <= 65536 ? 0 : bytes <= 16777216 ? 1 : 2;
}

tdm_nccl_ramp_row tdm_nccl_ramp_row_of(const tdm_nccl_ramp_key *key)
{
    tdm_nccl_ramp_row row = {.key = *key};
    row.any_generation = !key->one_node;
    row.any_function = !key->one_node || key->proto == TDM_NCCL_LL128;
    if (row.any_generation)
        row.key.generation = TDM_NCCL_VOLTA;
    if (row.any_function)
        row.key.all_reduce = false;
    return row;
}

bool tdm_nccl_ramp_row_same(const tdm_nccl_ramp_row *a, const tdm_nccl_ramp_row *b)
{
    return a->any_generation == b->any_generation && a->any_function == b->any_function &&
           a->key.generation == b->key.generation && a->key.algo == b->key.algo &&
           a->key.proto == b->key.proto && a->key.all_reduce == b->key.all_reduce &&
           a->key.one_node == b->key.one_node;
}

static bool has_own_steps(const tdm_nccl_ramp_row *row)
{
    return row->key.proto == TDM_NCCL_SIMPLE &&
           (row->key.algo == TDM_NCCL_RING || row->key.algo == TDM_NCCL_P2P);
}

/* ---- the sum that is made small ---- */

static double predict(const problem *it, const point *at)
{
    const tdm_nccl_ramp *ramp = &it->rows[at->row].ramp;
    double own = at->steps > 0 ? 1 + ramp->own_steps / at->steps : 1, growth = 1;
    if (ramp->half_bytes > 0)
        growth += pow(ramp->half_bytes * at->n_ranks / (double)at->bytes, ramp->power);
    return ramp->latency_share * at->latency_s + at->transfer_s / ramp->efficiency * own * growth;
}

static double launch_of(const problem *it, const set *of)
{
    uint32_t n = 0, n_small = 0;
    for (uint32_t i = 0; i < of->n; i++)
        n_small += of->points[i].fitted && band_of(of->points[i].bytes) == 0;
    for (uint32_t i = 0; i < of->n; i++) {
        const point *at = &of->points[i];
        if (at->fitted && (n_small > 0 ? band_of(at->bytes) == 0 : n < 3))
            it->scratch[n++] = at->measured_s - predict(it, at);
    }
    if (n == 0)
        return 0;
    tdm_stats_sort(it->scratch, n);
    return fmax(0, tdm_stats_quantile(it->scratch, n, 0.5));
}

static double loss(const problem *it, const set *of)
{
    static const double weights[N_BANDS] = {1, 1, 2};
    double launch_s = launch_of(it, of), sum[N_BANDS] = {0}, all = 0;
    uint32_t n[N_BANDS] = {0};
    for (uint32_t i = 0; i < of->n; i++) {
        const point *at = &of->points[i];
        if (!at->fitted)
            continue;
        int band = band_of(at->bytes);
        double apart = fmin(0.6, fabs(log((predict(it, at) + launch_s) / at->measured_s)));
        sum[band] += apart + 0.3 * apart * apart;
        n[band]++;
    }
    for (int b = 0; b < N_BANDS; b++)
        if (n[b] > 0)
            all += weights[b] * sum[b] / n[b];
    return all;
}

static bool has_row(const set *of, uint32_t row)
{
    for (uint32_t i = 0; i < of->n; i++)
        if (of->points[i].row == row)
            return true;
    return false;
}

static double total(const problem *it, const uint32_t *with_row, uint32_t n, uint32_t row)
{
    const tdm_nccl_ramp *ramp = &it->rows[row].ramp;
    double sum = 0.03 * fabs(log(ramp->latency_share)) + 0.3 * fabs(log(ramp->efficiency));
    for (uint32_t s = 0; s < n; s++)
        sum += loss(it, &it->sets[with_row[s]]);
    return sum;
}

/* ---- descent ---- */

static double *parameter(tdm_nccl_ramp *ramp, int i)
{
    double *const of[N_PARAMETERS] = {&ramp->latency_share, &ramp->efficiency, &ramp->own_steps,
                                      &ramp->half_bytes, &ramp->power};
    return of[i];
}

static double bounded(const tdm_nccl_ramp_row *row, int i, double value)
{
    static const double low[] = {0.2, 0.7, 0, 0, 0.15}, high[] = {2, 1.03, 1.5, 3e7, 1};
    bool in_switch = row->key.algo == TDM_NCCL_NVLS || row->key.algo == TDM_NCCL_NVLS_TREE;
    return fmin(i == 1 && in_switch ? 1.06 : high[i], fmax(low[i], value));
}

/* One step up or down that makes the sum less. */
static bool move(problem *it, const uint32_t *with_row, uint32_t n, uint32_t row, int i,
                 double step, double *best)
{
    double *value = parameter(&it->rows[row].ramp, i), old = *value;
    for (int sign = 1; sign >= -1; sign -= 2) {
        *value = bounded(&it->rows[row], i, i == 2 ? old + sign * step : old * exp(sign * step));
        double sum = *value != old ? total(it, with_row, n, row) : *best;
        if (sum < *best - 1e-6) {
            *best = sum;
            return true;
        }
        *value = old;
    }
    return false;
}

static void descend(problem *it, uint32_t *with_row, uint32_t row)
{
    double step[N_PARAMETERS] = {0.3, 0.06, 0.3, 1, 0.25};
    uint32_t n = 0;
    for (uint32_t s = 0; s < it->n_sets; s++)
        if (has_row(&it->sets[s], row))
            with_row[n++] = s;
    double best = total(it, with_row, n, row);
    for (int halving = 0; halving < N_HALVINGS; halving++)
        for (int i = 0; i < N_PARAMETERS; i++) {
            int moves = 0;
            while ((i != 2 || has_own_steps(&it->rows[row])) && moves < MOST_MOVES &&
                   move(it, with_row, n, row, i, step[i], &best))
                moves++;
            step[i] /= 2;
        }
}

/* ---- points ---- */

static uint32_t find_row(problem *it, const tdm_nccl_ramp_key *key)
{
    tdm_nccl_ramp_row row = tdm_nccl_ramp_row_of(key);
    uint32_t r = 0;
    while (r < it->n_rows && !tdm_nccl_ramp_row_same(&it->rows[r], &row))
        r++;
    if (r == it->n_rows && r < TDM_NCCL_MOST_ROWS) {
        row.ramp = *tdm_nccl_ramp_for(key);
        it->rows[it->n_rows++] = row;
    }
    return r;
}

static int by_size(const void *a, const void *b)
{
    const point *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return (x->measured_s > y->measured_s) - (x->measured_s < y->measured_s);
}

static tdm_code add_set(tdm_arena *arena, const tdm_nccl_measured *from, bool half, problem *it,
                        tdm_error *err)
{
    point *points = TDM_ALLOC(arena, point, from->n + 1);
    for (uint32_t i = 0; i < from->n; i++) {
        tdm_nccl_cost cost;
        tdm_nccl_ramp_key key;
        double steps = 0;
        tdm_code code =
            tdm_nccl_time_parts(from->comm, from->func, from->bytes[i], &cost, &key, &steps, err);
        if (code != TDM_OK)
            return code;
        points[i] = (point){.bytes = from->bytes[i],
                            .measured_s = from->time_s[i],
                            .latency_s = cost.latency_s,
                            .transfer_s = (double)from->bytes[i] / cost.bytes_per_s,
                            .steps = steps,
                            .n_ranks = from->comm->n_ranks,
                            .row = find_row(it, &key)};
        if (points[i].row == TDM_NCCL_MOST_ROWS)
            return tdm_error_add(err, TDM_E_INVALID, "more than %d kinds of operation",
                                 TDM_NCCL_MOST_ROWS);
    }
    qsort(points, from->n, sizeof *points, by_size);
    for (uint32_t i = 0; i < from->n; i++)
        points[i].fitted = !half || !tdm_nccl_is_held_back(i);
    it->sets[it->n_sets++] = (set){points, from->n};
    return TDM_OK;
}

static tdm_code gather(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets, bool half,
                       problem *it, tdm_error *err)
{
    uint32_t longest = 1;
    it->sets = TDM_ALLOC(arena, set, n_sets + 1);
    for (uint32_t s = 0; s < n_sets; s++) {
        tdm_code code = add_set(arena, &sets[s], half, it, err);
        if (code != TDM_OK)
            return code;
        longest = sets[s].n > longest ? sets[s].n : longest;
    }
    it->scratch = TDM_ALLOC(arena, double, longest);
    return TDM_OK;
}

/* Counts and errors of each row's points. */
static void describe(tdm_arena *arena, problem *it)
{
    uint32_t n_points = 0;
    for (uint32_t s = 0; s < it->n_sets; s++)
        n_points += it->sets[s].n;
    double *errors = TDM_ALLOC(arena, double, n_points + 1);
    for (uint32_t r = 0; r < it->n_rows; r++) {
        tdm_nccl_ramp_row *row = &it->rows[r];
        row->n_points = row->n_sets = 0;
        for (uint32_t s = 0; s < it->n_sets; s++) {
            const set *of = &it->sets[s];
            double launch_s = launch_of(it, of);
            row->n_sets += has_row(of, r);
            for (uint32_t i = 0; i < of->n; i++)
                if (of->points[i].row == r)
                    errors[row->n_points++] = fabs(
                        (predict(it, &of->points[i]) + launch_s) / of->points[i].measured_s - 1);
        }
        tdm_stats_sort(errors, row->n_points);
        row->error = tdm_stats_quantile(errors, row->n_points, 0.5);
    }
}

tdm_code tdm_nccl_ramp_fit(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                           bool half, const tdm_nccl_ramp_row *only, tdm_nccl_ramp_row *rows,
                           uint32_t *n_rows, tdm_error *err)
{
    problem it = {.rows = rows};
    tdm_code code = gather(arena, sets, n_sets, half, &it, err);
    if (code != TDM_OK)
        return code;
    uint32_t *with_row = TDM_ALLOC(arena, uint32_t, n_sets + 1);
    for (uint32_t r = 0; r < it.n_rows; r++)
        if (!only || tdm_nccl_ramp_row_same(only, &rows[r]))
            rows[r].ramp = (tdm_nccl_ramp){
                .latency_share = 1,
                .efficiency = 1,
                .own_steps = has_own_steps(&rows[r]) && rows[r].key.one_node ? 0.4 : 0,
                .half_bytes = 3e4,
                .power = 0.6};
    for (int round = 0; round < N_ROUNDS; round++)
        for (uint32_t r = 0; r < it.n_rows; r++)
            if (!only || tdm_nccl_ramp_row_same(only, &rows[r]))
                descend(&it, with_row, r);
    describe(arena, &it);
    *n_rows = it.n_rows;
    return TDM_OK;
}

tdm_code tdm_nccl_ramp_score(tdm_arena *arena, const tdm_nccl_measured *sets, uint32_t n_sets,
                             bool half, const tdm_nccl_ramp_row *rows, uint32_t n_rows,
                             double (*percent)[3], double *launch_s, tdm_error *err)
{
    problem it = {.rows = TDM_ALLOC(arena, tdm_nccl_ramp_row, TDM_NCCL_MOST_ROWS)};
    tdm_code code = gather(arena, sets, n_sets, half, &it, err);
    if (code != TDM_OK)
        return code;
    for (uint32_t r = 0; r < it.n_rows; r++)
        for (uint32_t given = 0; given < n_rows; given++)
            if (tdm_nccl_ramp_row_same(&it.rows[r], &rows[given]))
                it.rows[r].ramp = rows[given].ramp;
    for (uint32_t s = 0; s < n_sets; s++) {
        const set *of = &it.sets[s];
        double launch = launch_of(&it, of);
        if (launch_s)
            launch_s[s] = launch;
        for (int band = 0; band < N_BANDS; band++) {
            uint32_t n = 0;
            for (uint32_t i = 0; i < of->n; i++) {
                const point *at = &of->points[i];
                if (band_of(at->bytes) == band && !(half && at->fitted))
                    it.scratch[n++] = 100 * fabs((predict(&it, at) + launch) / at->measured_s - 1);
            }
            tdm_stats_sort(it.scratch, n);
            percent[s][band] = n ? tdm_stats_quantile(it.scratch, n, 0.5) : -1;
        }
    }
    return TDM_OK;
}
