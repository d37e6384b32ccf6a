/* calibrate_kernels.c: what a trace shows of its kernels, and lines through it. */
#include "calibrate.h"
#include "core/rates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One op as it ran. */
typedef struct seen {
    tdm_kernel_sample what; /* seconds of this op alone */
} seen;

static seen see(tdm_arena *arena, const tdm_plan *plan, uint32_t rank, const tdm_instance *in,
                double seconds)
{
    const tdm_op *op = in->op;
    uint64_t tokens =
        tdm_op_is_routed(op) ? tdm_plan_tokens(plan, rank, in->layer, in->pass.microbatch) : 0;
    char name[TDM_KERNEL_NAME_SIZE];
    tdm_kernel_name(&plan->model, op, name);
    seen s = {.what = {.name = tdm_arena_printf(arena, "%s", name),
                       .optimizer = op->pass == TDM_PASS_O,
                       .way = tdm_product_way_of(op),
                       .seconds = seconds}};
    tdm_kernel_sample *k = &s.what;
    if (op->kind == TDM_OP_GEMM && op->u.gemm.batch <= 1) {
        k->is_product = true;
        k->m = (uint32_t)op->u.gemm.m;
        k->n = (uint32_t)op->u.gemm.n;
        k->k = (uint32_t)op->u.gemm.k;
    } else if (op->kind == TDM_OP_GROUPED_GEMM) {
        double rows = (double)tokens * plan->mesh.ep / plan->model.num_experts;
        uint32_t whole = rows < 1 ? 1 : (uint32_t)(rows + 0.5);
        k->is_product = k->grouped = true;
        k->m = op->u.grouped.rows_inner ? (uint32_t)op->u.grouped.k : whole;
        k->n = (uint32_t)op->u.grouped.n;
        k->k = op->u.grouped.rows_inner ? whole : (uint32_t)op->u.grouped.k;
    }
    k->by_flops = op->kind != TDM_OP_MEMORY;
    k->work = k->by_flops
                  ? tdm_op_flops(plan, rank, in)
                  : (double)tdm_size_eval(op->u.memory.bytes, (tdm_routed){.tokens = tokens});
    return s;
}

/* Ops of one kind and, but for rows by which experts differ, of one shape are together. */
static int by_kind(const void *a, const void *b)
{
    const tdm_kernel_sample *x = &((const seen *)a)->what, *y = &((const seen *)b)->what;
    const double keys[][2] = {
        {x->is_product, y->is_product},
        {x->grouped, y->grouped},
        {x->optimizer, y->optimizer},
        {x->is_product ? x->way : 0, y->is_product ? y->way : 0},
        {x->n, y->n},
        {x->grouped && x->way != TDM_WGRAD ? 0 : x->m,
         y->grouped && y->way != TDM_WGRAD ? 0 : y->m},
        {x->grouped && x->way == TDM_WGRAD ? 0 : x->k,
         y->grouped && y->way == TDM_WGRAD ? 0 : y->k},
    };
    for (size_t i = 0; i < TDM_COUNT(keys); i++)
        if (keys[i][0] < keys[i][1] || keys[i][0] > keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return x->is_product ? 0 : strcmp(x->name, y->name);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_size);
    return n > 0 ? values[n / 2] : 0;
}

/* Kernels of one name whose work differs much are different samples (the norms of two widths). */
static bool is_alike(const seen *a, const seen *b)
{
    static const double MUCH = 1.5;
    return by_kind(a, b) == 0 && a->what.work <= MUCH * b->what.work &&
           b->what.work <= MUCH * a->what.work;
}

static tdm_kernel_sample sum_up(const seen *ops, uint32_t n, double *room)
{
    tdm_kernel_sample sample = ops[0].what;
    double work = 0, m = 0, k = 0;
    for (uint32_t i = 0; i < n; i++) {
        room[i] = ops[i].what.seconds;
        work += ops[i].what.work / n;
        m += (double)ops[i].what.m / n;
        k += (double)ops[i].what.k / n;
    }
    sample.work = work;
    sample.m = (uint32_t)(m + 0.5);
    sample.k = (uint32_t)(k + 0.5);
    sample.seconds = median(room, n);
    return sample;
}

/* How long a stream takes from op to op where it waits for no other. */
static double turn_of(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                      const tdm_trace *trace)
{
    uint32_t most = 0, n = 0;
    for (uint32_t r = 0; r < trace->n_ranks; r++)
        most += trace->ranks[r].n_ops;
    double *gaps = TDM_ALLOC(arena, double, most);
    for (uint32_t r = 0; r < trace->n_ranks; r++) {
        const tdm_program *p = &programs[plan->role_of[r]];
        const uint32_t *ops = p->on_stream[TDM_STREAM_COMPUTE];
        const tdm_span *spans = trace->ranks[r].spans;
        for (uint32_t i = 1; i < p->n_on_stream[TDM_STREAM_COMPUTE]; i++)
            if (p->first_wait[ops[i]] == p->first_wait[ops[i] + 1])
                gaps[n++] = spans[ops[i]].start_s - spans[ops[i - 1]].end_s;
    }
    return fmax(median(gaps, n), 0);
}

tdm_kernel_samples tdm_kernel_samples_of(tdm_arena *arena, const tdm_plan *plan,
                                         const tdm_trace *trace)
{
    const tdm_program *programs = tdm_programs_of(arena, plan);
    uint32_t most = 0, n = 0;
    for (uint32_t r = 0; r < trace->n_ranks; r++)
        most += trace->ranks[r].n_ops;
    seen *ops = TDM_ALLOC(arena, seen, most);
    double *room = TDM_ALLOC(arena, double, most);
    for (uint32_t r = 0; r < trace->n_ranks; r++) {
        const tdm_program *p = &programs[plan->role_of[r]];
        for (uint32_t i = 0; i < p->n_ops; i++) {
            tdm_span span = trace->ranks[r].spans[i];
            if (!tdm_op_is_comm(p->ops[i].op) && span.end_s > span.start_s)
                ops[n++] = see(arena, plan, r, &p->ops[i], span.end_s - span.start_s);
        }
    }
    qsort(ops, n, sizeof *ops, by_kind);
    tdm_kernel_samples out = {.items = TDM_ALLOC(arena, tdm_kernel_sample, n),
                              .turn_s = turn_of(arena, plan, programs, trace)};
    for (uint32_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && is_alike(&ops[first], &ops[end]);)
            end++;
        out.items[out.n++] = sum_up(ops + first, end - first, room);
    }
    return out;
}

/* ---- lines ---- */

/* Least squares of (floor + work / rate) / seconds - 1; where that gives a floor or a rate below 0,
 * the other alone. */
static tdm_kernel_rate fit_line(const tdm_kernel_sample *const *samples, uint32_t n)
{
    double one = 0, w = 0, ww = 0, t = 0, wt = 0;
    for (uint32_t i = 0; i < n; i++) {
        double weight = 1 / (samples[i]->seconds * samples[i]->seconds), x = samples[i]->work;
        one += weight;
        w += weight * x;
        ww += weight * x * x;
        t += weight * samples[i]->seconds;
        wt += weight * x * samples[i]->seconds;
    }
    double determinant = one * ww - w * w;
    double slope = determinant > 1e-9 * one * ww ? (one * wt - w * t) / determinant : -1;
    double floor_s = (t - slope * w) / one;
    if (!(slope > 0) || floor_s < 0) {
        floor_s = 0;
        slope = wt / ww;
    }
    tdm_kernel_rate rate = {
        .name = samples[0]->name, .optimizer = samples[0]->optimizer, .floor_s = floor_s};
    if (samples[0]->by_flops)
        rate.flops_per_s = 1 / slope;
    else
        rate.bytes_per_s = 1 / slope;
    return rate;
}

tdm_kernel_rate *tdm_kernel_fit(tdm_arena *arena, const tdm_kernel_samples *samples, uint32_t n,
                                uint32_t *n_kernels)
{
    uint32_t most = 0;
    for (uint32_t s = 0; s < n; s++)
        most += samples[s].n;
    const tdm_kernel_sample **all = TDM_ALLOC(arena, const tdm_kernel_sample *, most);
    const tdm_kernel_sample **one = TDM_ALLOC(arena, const tdm_kernel_sample *, most);
    tdm_kernel_rate *rates = TDM_ALLOC(arena, tdm_kernel_rate, most);
    uint32_t n_all = 0;
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t i = 0; i < samples[s].n; i++)
            if (!samples[s].items[i].is_product && samples[s].items[i].work > 0)
                all[n_all++] = &samples[s].items[i];
    *n_kernels = 0;
    for (uint32_t i = 0; i < n_all; i++) {
        uint32_t n_one = 0;
        bool known = false;
        for (uint32_t k = 0; k < n_all && !known; k++) {
            bool same =
                all[k]->optimizer == all[i]->optimizer && strcmp(all[k]->name, all[i]->name) == 0;
            known = same && k < i;
            if (same)
                one[n_one++] = all[k];
        }
        if (!known)
            rates[(*n_kernels)++] = fit_line(one, n_one);
    }
    return rates;
}
