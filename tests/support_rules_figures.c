/* support_rules_figures.c: figures recounted. */
#include "tests/support_rules.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const double ROUNDING = 1e-9;

static bool near(double a, double b)
{
    return fabs(a - b) <= ROUNDING * fmax(fabs(a), fabs(b));
}

static bool is_share(double value)
{
    return value >= -ROUNDING && value <= 1 + ROUNDING;
}

static void check_waterfall(const char *what, const tdm_waterfall *w, double step_s, uint32_t rank)
{
    const double parts_s[] = {w->compute_s, w->exposed_transfer_s, w->peer_wait_s,
                              w->bubble_s,  w->issue_gap_s,        w->optimizer_s};
    double sum_s = 0;
    for (size_t i = 0; i < TDM_COUNT(parts_s); i++) {
        RULE(what, parts_s[i] >= -ROUNDING * step_s, "rank %u part %zu: %g\n", rank, i, parts_s[i]);
        sum_s += parts_s[i];
    }
    RULE(what, near(sum_s, step_s), "rank %u: %.17g of %.17g\n", rank, sum_s, step_s);
    RULE(what,
         w->optimizer_transfer_s >= 0 && w->optimizer_wait_s >= 0 &&
             w->optimizer_transfer_s + w->optimizer_wait_s <= w->optimizer_s + ROUNDING * step_s,
         "rank %u: optimizer\n", rank);
}

static void check_shares(const char *what, const tdm_figures *f)
{
    const double shares[] = {f->bubble_fraction,       f->bubble_global,    f->comm_busy_fraction,
                             f->comm_exposed_fraction, f->gpu_utilization,  f->nvml_utilization,
                             f->min_compute_share,     f->expert_efficiency};
    for (size_t i = 0; i < TDM_COUNT(shares); i++)
        RULE(what, is_share(shares[i]), "share %zu: %.17g\n", i, shares[i]);
    RULE(what, f->nvml_utilization >= f->gpu_utilization - ROUNDING, "utilization\n");
    RULE(what, f->nvml_utilization >= f->comm_busy_fraction - ROUNDING, "utilization\n");
    RULE(what, f->comm_exposed_fraction <= f->comm_busy_fraction + ROUNDING, "exposed\n");
    RULE(what, f->bubble_global >= f->bubble_fraction - ROUNDING, "bubbles\n");
    RULE(what, f->hfu >= f->mfu && f->mfu >= 0, "mfu\n");
}

/* Passes of a role with ops of its stage, by F, B and W: those of chunks that only hand on have
 * none. */
static void count_passes(const tdm_plan *plan, const tdm_role *role, double n[3])
{
    n[0] = n[1] = n[2] = 0;
    for (uint32_t p = 0; p < role->n_passes; p++) {
        const tdm_pass *pass = &role->passes[p];
        bool any = false;
        if (pass->kind == TDM_PASS_O)
            continue;
        for (uint32_t b = 0; b < role->chunks[pass->chunk].n_blocks; b++) {
            const tdm_template *t = tdm_plan_template(plan, role, pass, b);
            for (uint32_t i = 0; i < t->n_ops; i++)
                any |= !tdm_op_is_p2p(t->ops[i].kind);
        }
        n[0] += any && pass->kind == TDM_PASS_F;
        n[1] += any && (pass->kind == TDM_PASS_B || pass->kind == TDM_PASS_BW);
        n[2] += any && (pass->kind == TDM_PASS_W || pass->kind == TDM_PASS_BW);
    }
}

/* Bubbles from pass times and spans, as their definition has it. */
static void check_bubbles(const char *what, const tdm_plan *plan, const tdm_figures *f)
{
    double longest_s = 0, sum = 0;
    for (uint32_t s = 0; s < f->n_stages; s++)
        longest_s = fmax(longest_s, f->stages[s].span_s);
    for (uint32_t s = 0; s < f->n_stages && longest_s > 0; s++) {
        const double *pass_s = f->stages[s].pass_s;
        double n[3];
        count_passes(plan, &plan->roles[s], n);
        double bubble = 1 - (n[0] * pass_s[0] + n[1] * pass_s[1] + n[2] * pass_s[2]) / longest_s;
        RULE(what, fabs(bubble - f->stages[s].bubble_fraction) <= ROUNDING,
             "stage %u: %.17g, not %.17g\n", s, f->stages[s].bubble_fraction, bubble);
        sum += bubble;
    }
    RULE(what, fabs(sum / f->n_stages - f->bubble_fraction) <= ROUNDING, "bubble %.17g\n",
         f->bubble_fraction);
    RULE(what, longest_s <= f->step_time_s * (1 + ROUNDING), "span %.17g\n", longest_s);
}

/* Kernel time, calls and bytes of all ranks by a plain count. */
typedef struct tally {
    uint64_t n_calls[TDM_N_OP_KINDS][TDM_N_GROUP_KINDS + 1];
    uint64_t bytes[TDM_N_OP_KINDS][TDM_N_GROUP_KINDS + 1];
    double first_s, last_s, kernels_s;
} tally;

static void count_rank(const char *what, const tdm_plan *plan, const tdm_trace *trace,
                       const tdm_figures *f, uint32_t rank, tally *t)
{
    double kernels_s = 0;
    tdm_cursor cursor;
    tdm_cursor_init(&cursor, plan, rank);
    for (tdm_instance in; tdm_cursor_next(&cursor, &in);) {
        tdm_span span = trace->ranks[rank].spans[in.index];
        t->first_s = fmin(t->first_s, span.start_s);
        t->last_s = fmax(t->last_s, span.end_s);
        if (in.op->stream == TDM_STREAM_COMPUTE) {
            kernels_s += span.end_s - span.start_s;
            continue;
        }
        uint32_t group =
            tdm_op_is_p2p(in.op->kind) ? TDM_N_GROUP_KINDS : (uint32_t)in.op->u.collective.group;
        t->n_calls[in.op->kind][group]++;
        t->bytes[in.op->kind][group] += tdm_figures_op_bytes(plan, rank, &in);
    }
    RULE(what, near(f->ranks[rank].compute_busy_s, kernels_s), "rank %u: kernels\n", rank);
    t->kernels_s += kernels_s;
}

static void check_counts(const char *what, const tdm_plan *plan, const tdm_trace *trace,
                         const tdm_figures *f)
{
    tally t = {.first_s = INFINITY};
    uint32_t n_kinds = 0;
    double exposed_s = 0;
    for (uint32_t rank = 0; rank < f->n_ranks; rank++)
        count_rank(what, plan, trace, f, rank, &t);
    for (uint32_t i = 0; i < f->n_comms; i++) {
        const tdm_comm_figures *comm = &f->comms[i];
        uint64_t n = t.n_calls[comm->kind][comm->group];
        double bytes = (double)t.bytes[comm->kind][comm->group] / f->n_ranks;
        RULE(what, n > 0 && n == comm->n_calls, "%s: calls\n", tdm_op_kind_name(comm->kind));
        RULE(what, fabs(bytes - (double)comm->bytes) <= 0.5, "%s: bytes\n",
             tdm_op_kind_name(comm->kind));
        RULE(what, comm->max_s >= comm->avg_s * (1 - ROUNDING), "%s\n",
             tdm_op_kind_name(comm->kind));
        RULE(what, comm->exposed_s <= comm->busy_s * (1 + ROUNDING), "%s\n",
             tdm_op_kind_name(comm->kind));
        exposed_s += comm->exposed_s;
    }
    for (uint32_t k = 0; k < TDM_N_OP_KINDS; k++)
        for (uint32_t g = 0; g <= TDM_N_GROUP_KINDS; g++)
            n_kinds += t.n_calls[k][g] > 0;
    RULE(what, n_kinds == f->n_comms, "%u kinds of communication, not %u\n", f->n_comms, n_kinds);
    RULE(what, fabs(exposed_s - f->comm_exposed_fraction * f->step_time_s) <= ROUNDING * t.last_s,
         "exposed %.17g\n", exposed_s);
    RULE(what,
         fabs(t.last_s - t.first_s - f->step_time_s) <= ROUNDING * t.last_s ||
             f->step_time_s < t.last_s - t.first_s,
         "step %.17g\n", f->step_time_s);
    RULE(what, near(t.kernels_s / f->n_ranks, f->gpu_utilization * f->step_time_s),
         "utilization\n");
}

void rules_figures(const char *what, const tdm_plan *plan, const tdm_trace *trace,
                   const tdm_figures *f)
{
    RULE(what, f->n_ranks == plan->mesh.world && f->n_stages == plan->mesh.pp, "sizes\n");
    for (uint32_t rank = 0; rank < f->n_ranks; rank++)
        check_waterfall(what, &f->ranks[rank].waterfall, f->step_time_s, rank);
    check_waterfall(what, &f->waterfall, f->step_time_s, f->n_ranks);
    double tokens = (double)plan->micro_batch_size * plan->seq_length * plan->num_microbatches *
                    plan->mesh.dp * !plan->pass_times;
    RULE(what, near(f->tokens_per_s * f->step_time_s, tokens), "%.17g tokens/s\n", f->tokens_per_s);
    check_shares(what, f);
    check_bubbles(what, plan, f);
    check_counts(what, plan, trace, f);
}
