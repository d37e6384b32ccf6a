/* compare.c: lays two sides side by side. */
#include "compare.h"

#include "core/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_DRAWS = 10000, SEED = 1 };

typedef struct maker {
    tdm_arena *arena;
    tdm_comparison *c;
    uint32_t capacity;
} maker;

double tdm_compare_error(double predicted, double measured)
{
    if (fabs(predicted - measured) <= TDM_COMPARE_ROUNDING)
        return 0;
    return measured != 0 ? (predicted - measured) / fabs(measured) : NAN;
}

static void add(maker *m, tdm_compare_row row)
{
    if (isnan(row.predicted) || isnan(row.measured))
        return;
    if (m->c->n_rows == m->capacity) {
        uint32_t capacity = m->capacity ? 2 * m->capacity : 256;
        tdm_compare_row *rows = TDM_ALLOC(m->arena, tdm_compare_row, capacity);
        if (m->c->n_rows)
            memcpy(rows, m->c->rows, sizeof *rows * m->c->n_rows);
        m->c->rows = rows;
        m->capacity = capacity;
    }
    m->c->rows[m->c->n_rows++] = row;
}

static void note(maker *m, const char *text)
{
    const char *before = m->c->notes ? m->c->notes : "";
    m->c->notes = tdm_arena_printf(m->arena, "%s%s\n", before, text);
}

static const tdm_side_rank *find_rank(const tdm_side *side, uint32_t rank)
{
    for (uint32_t i = 0; i < side->n_ranks; i++)
        if (side->ranks[i].rank == rank)
            return &side->ranks[i];
    return NULL;
}

static bool holds_all(const tdm_side *side, const tdm_side *of)
{
    for (uint32_t i = 0; i < of->n_ranks; i++)
        if (!find_rank(side, of->ranks[i].rank))
            return false;
    return true;
}

/* Which ranks the comparison is about: all of both when they are the same ranks; those of a trace
 * when it holds some of the other's; else none in particular, and means over all stand for both. */
static const tdm_side *common_ranks(maker *m)
{
    const tdm_side *a = m->c->a, *b = m->c->b;
    if (a->n_ranks == 0 || b->n_ranks == 0)
        return NULL;
    if (a->n_ranks == b->n_ranks && holds_all(a, b))
        return b;
    const tdm_side *some = a->n_ranks < b->n_ranks ? a : b, *all = some == a ? b : a;
    if (some->is_trace && holds_all(all, some)) {
        note(
            m,
            tdm_arena_printf(
                m->arena,
                "%s holds %lu of the %lu ranks of %s: these are compared, in the waterfall, the classes and the ranks",
                some->path, (unsigned long)some->n_ranks, (unsigned long)all->n_ranks, all->path));
        return some;
    }
    note(m, tdm_arena_printf(m->arena, "%lu ranks against %lu: ranks are not compared one by one",
                             (unsigned long)a->n_ranks, (unsigned long)b->n_ranks));
    return NULL;
}

/* Mean over the chosen ranks. */
static tdm_waterfall mean_waterfall(const tdm_side *side, const tdm_side *ranks)
{
    if (!ranks || ranks->n_ranks == side->n_ranks)
        return side->waterfall;
    tdm_waterfall sum = {0};
    double share = 1.0 / ranks->n_ranks;
    for (uint32_t i = 0; i < ranks->n_ranks; i++) {
        const tdm_waterfall *w = &find_rank(side, ranks->ranks[i].rank)->waterfall;
        sum.compute_s += share * w->compute_s;
        sum.exposed_transfer_s += share * w->exposed_transfer_s;
        sum.peer_wait_s += share * w->peer_wait_s;
        sum.bubble_s += share * w->bubble_s;
        sum.issue_gap_s += share * w->issue_gap_s;
        sum.optimizer_s += share * w->optimizer_s;
    }
    return sum;
}

static double step_of(const tdm_side *side)
{
    return side->figures[tdm_side_figure("step_time_s")];
}

static void add_waterfall(maker *m, const tdm_side *ranks)
{
    static const char *const names[] = {"compute", "communication", "waiting", "bubble", "issue"};
    tdm_waterfall a = mean_waterfall(m->c->a, ranks), b = mean_waterfall(m->c->b, ranks);
    const double parts[][2] = {{a.compute_s, b.compute_s},
                               {a.exposed_transfer_s, b.exposed_transfer_s},
                               {a.peer_wait_s, b.peer_wait_s},
                               {a.bubble_s, b.bubble_s},
                               {a.issue_gap_s, b.issue_gap_s}};
    double rest[2] = {m->c->step_predicted_s, m->c->step_measured_s};
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        add(m, (tdm_compare_row){TDM_COMPARE_WATERFALL, UINT32_MAX, names[i], "", "s", parts[i][0],
                                 parts[i][1]});
        rest[0] -= parts[i][0];
        rest[1] -= parts[i][1];
    }
    add(m, (tdm_compare_row){TDM_COMPARE_WATERFALL, UINT32_MAX, "optimizer and rest", "", "s",
                             rest[0], rest[1]});
}

static void add_figures(maker *m)
{
    for (uint32_t i = 0; tdm_figure_infos[i].name; i++)
        add(m,
            (tdm_compare_row){TDM_COMPARE_FIGURES, UINT32_MAX, tdm_figure_infos[i].name, "",
                              tdm_figure_infos[i].unit, m->c->a->figures[i], m->c->b->figures[i]});
}

static double mean_class(const tdm_side *side, const tdm_side *ranks, uint32_t class_)
{
    const tdm_side *chosen = ranks ? ranks : side;
    double sum = 0;
    for (uint32_t i = 0; i < chosen->n_ranks; i++)
        sum += find_rank(side, chosen->ranks[i].rank)->class_s[class_];
    return chosen->n_ranks ? sum / chosen->n_ranks : 0;
}

static void add_classes(maker *m, const tdm_side *ranks)
{
    const tdm_side *sides[] = {m->c->a, m->c->b};
    for (int s = 0; s < 2; s++) {
        if (sides[s]->has_classes)
            continue;
        note(
            m,
            tdm_arena_printf(
                m->arena,
                "%s has no ops.csv: op classes and ops are not compared (name the result's folder)",
                sides[s]->path));
        return;
    }
    for (uint32_t k = 0; k < TDM_N_OP_CLASSES; k++) {
        double a = mean_class(m->c->a, ranks, k), b = mean_class(m->c->b, ranks, k);
        if (a > 0 || b > 0)
            add(m, (tdm_compare_row){TDM_COMPARE_CLASSES, UINT32_MAX,
                                     tdm_op_class_name((tdm_op_class)k), "busy_s", "s", a, b});
    }
}

static const tdm_side_comm *find_comm(const tdm_side *side, const tdm_side_comm *like)
{
    for (uint32_t i = 0; i < side->n_comms; i++)
        if (strcmp(side->comms[i].kind, like->kind) == 0 &&
            strcmp(side->comms[i].group, like->group) == 0)
            return &side->comms[i];
    return NULL;
}

/* Kinds that one side lacks took no time there. */
static void add_comm(maker *m, const tdm_side_comm *a, const tdm_side_comm *b)
{
    static const tdm_side_comm nothing = {.n_calls = 0};
    const char *name =
        tdm_arena_printf(m->arena, "%s %s", a ? a->kind : b->kind, a ? a->group : b->group);
    a = a ? a : &nothing;
    b = b ? b : &nothing;
    const struct {
        const char *what, *unit;
        double predicted, measured;
    } values[] = {{"n_calls", "", a->n_calls, b->n_calls},
                  {"bytes_per_rank", "bytes", a->bytes_per_rank, b->bytes_per_rank},
                  {"busy_s", "s", a->busy_s, b->busy_s},
                  {"exposed_s", "s", a->exposed_s, b->exposed_s},
                  {"avg_s", "s", a->avg_s, b->avg_s},
                  {"max_s", "s", a->max_s, b->max_s}};
    for (size_t i = 0; i < TDM_COUNT(values); i++)
        add(m, (tdm_compare_row){TDM_COMPARE_COMMS, UINT32_MAX, name, values[i].what,
                                 values[i].unit, values[i].predicted, values[i].measured});
}

static void add_comms(maker *m)
{
    const tdm_side *a = m->c->a, *b = m->c->b;
    for (uint32_t i = 0; i < a->n_comms; i++)
        add_comm(m, &a->comms[i], find_comm(b, &a->comms[i]));
    for (uint32_t i = 0; i < b->n_comms; i++)
        if (!find_comm(a, &b->comms[i]))
            add_comm(m, NULL, &b->comms[i]);
}

static void add_stages(maker *m)
{
    const tdm_side *a = m->c->a, *b = m->c->b;
    if (a->n_stages != b->n_stages) {
        if (a->n_stages && b->n_stages)
            note(m, tdm_arena_printf(m->arena, "%lu stages against %lu: stages are not compared",
                                     (unsigned long)a->n_stages, (unsigned long)b->n_stages));
        return;
    }
    for (uint32_t s = 0; s < a->n_stages; s++) {
        const tdm_side_stage *x = &a->stages[s], *y = &b->stages[s];
        const struct {
            const char *what, *unit;
            double predicted, measured;
        } values[] = {{"bubble_fraction", "", x->bubble_fraction, y->bubble_fraction},
                      {"span_s", "s", x->span_s, y->span_s},
                      {"forward_s", "s", x->forward_s, y->forward_s},
                      {"backward_input_s", "s", x->backward_input_s, y->backward_input_s},
                      {"backward_weight_s", "s", x->backward_weight_s, y->backward_weight_s},
                      {"peak_memory_bytes", "bytes", x->peak_memory_bytes, y->peak_memory_bytes}};
        for (size_t i = 0; i < TDM_COUNT(values); i++)
            add(m, (tdm_compare_row){TDM_COMPARE_STAGES, x->stage, "", values[i].what,
                                     values[i].unit, values[i].predicted, values[i].measured});
    }
}

static void add_rank(maker *m, const tdm_side_rank *x, const tdm_side_rank *y)
{
    const tdm_waterfall *v = &x->waterfall, *w = &y->waterfall;
    const struct {
        const char *what, *unit;
        double predicted, measured;
    } values[] = {{"compute_busy_s", "s", x->compute_busy_s, y->compute_busy_s},
                  {"comm_busy_s", "s", x->comm_busy_s, y->comm_busy_s},
                  {"compute_s", "s", v->compute_s, w->compute_s},
                  {"exposed_transfer_s", "s", v->exposed_transfer_s, w->exposed_transfer_s},
                  {"peer_wait_s", "s", v->peer_wait_s, w->peer_wait_s},
                  {"bubble_s", "s", v->bubble_s, w->bubble_s},
                  {"issue_gap_s", "s", v->issue_gap_s, w->issue_gap_s},
                  {"optimizer_s", "s", v->optimizer_s, w->optimizer_s},
                  {"peak_memory_bytes", "bytes", x->peak_memory_bytes, y->peak_memory_bytes}};
    for (size_t i = 0; i < TDM_COUNT(values); i++)
        add(m, (tdm_compare_row){TDM_COMPARE_RANKS, x->rank, "", values[i].what, values[i].unit,
                                 values[i].predicted, values[i].measured});
}

/* Both lists are in the same order. */
static void add_ops(maker *m)
{
    const tdm_side *a = m->c->a, *b = m->c->b;
    double *errors = TDM_ALLOC(m->arena, double, a->n_ops + 1);
    for (uint32_t i = 0, j = 0; i < a->n_ops && j < b->n_ops;) {
        const tdm_side_op *x = &a->ops[i], *y = &b->ops[j];
        int order = x->stage < y->stage ? -1 : x->stage > y->stage ? 1 : strcmp(x->phase, y->phase);
        order = order ? order : strcmp(x->name, y->name);
        order = order ? order : strcmp(x->kind, y->kind);
        i += order <= 0;
        j += order >= 0;
        if (order != 0)
            continue;
        double mean_a = x->total_s / (double)x->n, mean_b = y->total_s / (double)y->n;
        const char *name = tdm_arena_printf(m->arena, "%s %s", x->phase, x->name);
        add(m, (tdm_compare_row){TDM_COMPARE_OPS, x->stage, name, "mean_s", "s", mean_a, mean_b});
        add(m, (tdm_compare_row){TDM_COMPARE_OPS, x->stage, name, "total_s", "s", x->total_s,
                                 y->total_s});
        if (mean_a > 0 && mean_b > 0)
            errors[m->c->n_op_errors++] = fabs(tdm_compare_error(mean_a, mean_b));
    }
    if (m->c->n_op_errors > 0) {
        tdm_stats_sort(errors, m->c->n_op_errors);
        m->c->op_error_median = tdm_stats_quantile(errors, m->c->n_op_errors, 0.5);
        m->c->op_error_p95 = tdm_stats_quantile(errors, m->c->n_op_errors, 0.95);
    }
}

static void judge_plans(maker *m)
{
    tdm_comparison *c = m->c;
    c->plans_known = c->a->plan_hash && c->b->plan_hash;
    c->same_plan = c->plans_known && strcmp(c->a->plan_hash, c->b->plan_hash) == 0;
    if (c->plans_known && !c->same_plan)
        note(
            m,
            tdm_arena_printf(
                m->arena,
                "different plans (%s and %s): figures, waterfall and classes are compared, ops are not",
                c->a->plan_hash, c->b->plan_hash));
    else if (!c->plans_known)
        note(m, "the plan of one side is unknown: ops are not compared one by one");
}

static void add_interval(tdm_comparison *c)
{
    if (c->a->n_steps < 2 && c->b->n_steps < 2)
        return;
    c->has_interval = true;
    tdm_stats_bootstrap_medians(SEED, c->a->steps_s, c->a->n_steps, c->b->steps_s, c->b->n_steps,
                                N_DRAWS, TDM_COMPARE_CONFIDENCE, &c->interval_low,
                                &c->interval_high);
}

static void add_side_notes(maker *m, const tdm_side *side)
{
    for (const char *line = side->notes; line && *line;) {
        size_t n = strcspn(line, "\n");
        note(m, tdm_arena_printf(m->arena, "%s: %.*s", side->path, (int)n, line));
        line += n + (line[n] == '\n');
    }
}

void tdm_compare(tdm_arena *arena, const tdm_side *a, const tdm_side *b, tdm_comparison *c)
{
    *c = (tdm_comparison){
        .a = a, .b = b, .step_predicted_s = step_of(a), .step_measured_s = step_of(b)};
    maker m = {arena, c, 0};
    add_side_notes(&m, a);
    add_side_notes(&m, b);
    judge_plans(&m);
    const tdm_side *ranks = common_ranks(&m);
    add_waterfall(&m, ranks);
    add_figures(&m);
    add_classes(&m, ranks);
    add_comms(&m);
    add_stages(&m);
    for (uint32_t i = 0; ranks && i < ranks->n_ranks; i++)
        add_rank(&m, find_rank(a, ranks->ranks[i].rank), find_rank(b, ranks->ranks[i].rank));
    if (c->same_plan && a->has_ops && b->has_ops)
        add_ops(&m);
    add_interval(c);
}
