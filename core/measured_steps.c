/* measured_steps.c: which events make up a step, by ProfilerStep# marks. */
#include "measured_parts.h"

#include <stdlib.h>

static int by_rank_and_correlation(const void *a, const void *b)
{
    const tdm_kineto_launch *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->correlation < y->correlation ? -1 : x->correlation > y->correlation;
}

static const tdm_kineto_launch *find_launch(const tdm_kineto_launch *launches, size_t n,
                                            const tdm_kineto_event *event)
{
    tdm_kineto_launch key = {.correlation = event->correlation, .rank = event->rank};
    if (event->correlation < 0 || n == 0)
        return NULL;
    return bsearch(&key, launches, n, sizeof *launches, by_rank_and_correlation);
}

static int by_rank(const void *a, const void *b)
{
    const tdm_kineto_mark *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->on_gpu != y->on_gpu)
        return x->on_gpu ? -1 : 1;
    return x->start_ns < y->start_ns ? -1 : x->start_ns > y->start_ns;
}

/* The rank's marks within sorted marks [n]. */
static const tdm_kineto_mark *marks_of(const tdm_kineto_mark *marks, size_t n, uint32_t rank,
                                       size_t *n_found)
{
    size_t low = 0, high = n;
    *n_found = 0;
    if (n == 0)
        return NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks[middle].rank < rank)
            low = middle + 1;
        else
            high = middle;
    }
    while (low + *n_found < n && marks[low + *n_found].rank == rank)
        ++*n_found;
    return marks + low;
}

/* On the GPU a mark covers kernels; on the host it covers the calls that issue them, and the
 * kernels run later. Returns false when the event is in no step. */
static bool find_number(const tdm_kineto_mark *marks, size_t n, const tdm_kineto_event *event,
                        const tdm_kineto_launch *launch, uint32_t *number)
{
    bool gpu = n > 0 && marks[0].on_gpu;
    int64_t time_ns = gpu || !launch ? event->start_ns : launch->start_ns;
    for (size_t i = 0; i < n; i++) {
        if (marks[i].on_gpu == gpu && marks[i].start_ns <= time_ns && time_ns < marks[i].end_ns) {
            *number = marks[i].number;
            return true;
        }
    }
    return false;
}

typedef struct seen {
    uint32_t number, rank;
} seen;

static int by_number(const void *a, const void *b)
{
    const seen *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

/* Numbers that all ranks have. */
static void keep_common(tdm_arena *arena, seen *pairs, size_t n, uint32_t n_ranks,
                        tdm_measured_split *split)
{
    split->numbers = TDM_ALLOC(arena, uint32_t, n);
    qsort(pairs, n, sizeof *pairs, by_number);
    for (size_t i = 0; i < n;) {
        uint32_t ranks = 0;
        size_t j = i;
        for (; j < n && pairs[j].number == pairs[i].number; j++)
            ranks += j == i || pairs[j].rank != pairs[j - 1].rank;
        if (ranks == n_ranks)
            split->numbers[split->n_steps++] = pairs[i].number;
        i = j;
    }
}

static uint32_t place_of(const tdm_measured_split *split, uint32_t number)
{
    uint32_t low = 0, high = split->n_steps;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (split->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < split->n_steps && split->numbers[low] == number ? low : UINT32_MAX;
}

void tdm_measured_split_steps(tdm_arena *arena, const tdm_kineto *kineto, tdm_measured_split *split)
{
    size_t n = kineto->n_events, n_pairs = 0;
    if (kineto->n_launches)
        qsort(kineto->launches, kineto->n_launches, sizeof *kineto->launches,
              by_rank_and_correlation);
    if (kineto->n_marks)
        qsort(kineto->marks, kineto->n_marks, sizeof *kineto->marks, by_rank);
    *split = (tdm_measured_split){.step_of = TDM_ALLOC(arena, uint32_t, n),
                                  .issue_ns = TDM_ALLOC(arena, int64_t, n)};
    bool *inside = TDM_ALLOC(arena, bool, n);
    seen *pairs = TDM_ALLOC(arena, seen, n);
    const tdm_kineto_mark *marks = NULL;
    size_t n_marks = 0;
    for (size_t i = 0; i < n; i++) {
        const tdm_kineto_event *event = &kineto->events[i];
        const tdm_kineto_launch *launch = find_launch(kineto->launches, kineto->n_launches, event);
        if (i == 0 || event->rank != event[-1].rank)
            marks = marks_of(kineto->marks, kineto->n_marks, event->rank, &n_marks);
        split->issue_ns[i] = launch ? launch->end_ns : INT64_MIN;
        split->knows_issue = split->knows_issue || launch;
        inside[i] =
            kineto->n_marks == 0 || find_number(marks, n_marks, event, launch, &split->step_of[i]);
        if (inside[i])
            pairs[n_pairs++] = (seen){split->step_of[i], event->rank};
    }
    keep_common(arena, pairs, n_pairs, kineto->n_ranks, split);
    for (size_t i = 0; i < n; i++)
        split->step_of[i] = inside[i] ? place_of(split, split->step_of[i]) : UINT32_MAX;
}
