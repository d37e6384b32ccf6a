/* measured.c: figures of a trace, step by step. */
#include "measured.h"

#include "measured_parts.h"

#include <math.h>
#include <stdlib.h>

/* An event in order of step, rank, and the rank's program. */
typedef struct place {
    uint32_t step, rank;
    int64_t order;
    const tdm_kineto_event *event;
} place;

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->event < y->event ? -1 : x->event > y->event;
}

static place *sort_events(tdm_arena *scratch, const tdm_kineto *kineto,
                          const tdm_measured_split *split, size_t *n, uint64_t *n_outside)
{
    place *places = TDM_ALLOC(scratch, place, kineto->n_events);
    *n = 0;
    for (size_t i = 0; i < kineto->n_events; i++) {
        const tdm_kineto_event *event = &kineto->events[i];
        if (split->step_of[i] == UINT32_MAX)
            ++*n_outside;
        else
            places[(*n)++] = (place){split->step_of[i], event->rank,
                                     kineto->engine ? (int64_t)i : event->start_ns, event};
    }
    qsort(places, *n, sizeof *places, by_place);
    return places;
}

/* The end of the step as figures.c finds it: of the O pass and of compute, or of all where no rank
 * has an O pass. */
static double end_of(const tdm_measured_rank *ranks, uint32_t n_ranks)
{
    double optimizer_s = -INFINITY, compute_s = -INFINITY, all_s = 0;
    for (uint32_t r = 0; r < n_ranks; r++) {
        const tdm_program *program = &ranks[r].program;
        for (uint32_t op = 0; op < program->n_ops; op++) {
            double end_s = ranks[r].spans[op].end_s;
            all_s = fmax(all_s, end_s);
            if (program->stream[op] == TDM_STREAM_COMPUTE)
                compute_s = fmax(compute_s, end_s);
            if (program->phase[op] == TDM_PASS_O)
                optimizer_s = fmax(optimizer_s, end_s);
        }
    }
    return optimizer_s > -INFINITY ? fmax(optimizer_s, compute_s) : all_s;
}

static void forget_plan(tdm_figures *f)
{
    f->bubble_fraction = f->bubble_global = NAN;
    f->expert_efficiency = f->dropped_fraction = f->hot_rank_share = f->hot_expert_share = NAN;
    f->tokens_per_s = f->forward_latency_s = f->mfu = f->hfu = NAN;
}

static void add_bytes(const tdm_measured_rank *rank, tdm_comm_total *totals)
{
    for (uint32_t c = 0; c < rank->program.n_comms; c++)
        totals[rank->program.comm_key[c]].bytes += rank->events[rank->program.comm_op[c]]->bytes;
}

/* Figures of laid out ranks. */
static void compute_step(tdm_arena *arena, tdm_arena *scratch, const tdm_kineto *kineto,
                         const tdm_measured_rank *ranks, tdm_measured_step *step)
{
    tdm_figures *f = &step->figures;
    *f = (tdm_figures){.n_ranks = kineto->n_ranks};
    f->ranks = TDM_ALLOC(arena, tdm_rank_figures, f->n_ranks);
    step->class_s = tdm_arena_alloc(arena, sizeof *step->class_s * f->n_ranks);
    tdm_comm_total totals[TDM_N_COMM_KEYS] = {{0}};
    f->step_time_s = end_of(ranks, f->n_ranks);
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        const tdm_measured_rank *rank = &ranks[r];
        tdm_rank_scratch work = {.unissued =
                                     TDM_ALLOC(scratch, tdm_stretch, rank->program.n_comms + 1)};
        tdm_rank_run run = {&rank->program,   rank->spans, rank->call_of,  rank->arrived_s,
                            kineto->launch_s, 0,           f->step_time_s, rank->issued_s};
        f->ranks[r].rank = kineto->ranks[r];
        f->ranks[r].stage = UINT32_MAX;
        tdm_rank_times(&run, &work, &f->ranks[r]);
        tdm_rank_comms(NULL, r, &run, &work, totals); /* no op is routed: no plan is looked at */
        add_bytes(rank, totals);
        for (uint32_t op = 0; op < rank->program.n_ops; op++)
            step->class_s[r][rank->events[op]->class_] +=
                1e-9 * (double)(rank->events[op]->end_ns - rank->events[op]->start_ns);
    }
    tdm_figures_sum_ranks(scratch, f);
    tdm_figures_sum_comms(arena, totals, f);
    forget_plan(f);
}

/* One step's events, sorted by rank. */
static void measure_step(tdm_arena *arena, const tdm_kineto *kineto,
                         const tdm_measured_split *split, const place *places, size_t n,
                         tdm_measured *measured, tdm_measured_step *step)
{
    tdm_arena scratch = {0};
    tdm_measured_rank *ranks = TDM_ALLOC(&scratch, tdm_measured_rank, kineto->n_ranks);
    const tdm_kineto_event **events = TDM_ALLOC(&scratch, const tdm_kineto_event *, n);
    int64_t start_ns = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        events[i] = places[i].event;
        start_ns = events[i]->start_ns < start_ns ? events[i]->start_ns : start_ns;
    }
    for (size_t i = 0, r = 0; i < n && r < kineto->n_ranks; r++) {
        size_t j = i;
        while (j < n && places[j].rank == places[i].rank)
            j++;
        tdm_measured_lay_out(&scratch, kineto, split, events + i, (uint32_t)(j - i), start_ns,
                             &ranks[r], &measured->n_squeezed);
        i = j;
    }
    tdm_measured_match(&scratch, kineto, ranks, kineto->n_ranks, measured);
    compute_step(arena, &scratch, kineto, ranks, step);
    tdm_arena_free(&scratch);
}

static tdm_code check(const tdm_kineto *kineto, tdm_error *err)
{
    if (kineto->n_events == 0)
        return tdm_error_add(err, TDM_E_INVALID,
                             "no kernels in the trace (profile with ProfilerActivity.CUDA)");
    if (kineto->n_events > UINT32_MAX / 2)
        return tdm_error_add(err, TDM_E_INVALID, "too many kernels (profile fewer steps)");
    for (size_t i = 0; i < kineto->n_events; i++) {
        uint32_t rank = kineto->events[i].rank, r = 0;
        if (i > 0 && rank == kineto->events[i - 1].rank)
            continue;
        while (r < kineto->n_ranks && kineto->ranks[r] != rank)
            r++;
        if (r == kineto->n_ranks)
            return tdm_error_add(err, TDM_E_INVALID, "a kernel of rank %lu, which no trace has",
                                 (unsigned long)rank);
    }
    return TDM_OK;
}

tdm_code tdm_measured_compute(tdm_arena *arena, const tdm_kineto *kineto, tdm_measured *measured,
                              tdm_error *err)
{
    *measured = (tdm_measured){0};
    tdm_code code = check(kineto, err);
    if (code != TDM_OK)
        return code;
    tdm_arena scratch = {0};
    tdm_measured_split split;
    tdm_measured_split_steps(&scratch, kineto, &split);
    size_t n;
    const place *places = sort_events(&scratch, kineto, &split, &n, &measured->n_outside);
    measured->knows_issue = split.knows_issue || kineto->launch_s > 0;
    measured->steps = TDM_ALLOC(arena, tdm_measured_step, split.n_steps);
    for (size_t i = 0; i < n;) {
        size_t j = i;
        while (j < n && places[j].step == places[i].step)
            j++;
        tdm_measured_step *step = &measured->steps[measured->n_steps];
        step->number = split.numbers[places[i].step];
        measure_step(arena, kineto, &split, places + i, j - i, measured, step);
        measured->n_steps += step->figures.step_time_s > 0;
        i = j;
    }
    tdm_arena_free(&scratch);
    if (measured->n_steps == 0)
        return tdm_error_add(
            err, TDM_E_INVALID,
            "no step in which every rank has kernels (are the traces of one profiling window?)");
    return TDM_OK;
}
