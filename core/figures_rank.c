/* figures_rank.c: one rank's step: its waterfall, its passes, its communication. */
#include "figures_rank.h"

#include <assert.h>
#include <math.h>

/* The O pass of a rank: from its first op's start, but not before the last kernel of F, B and W has
 * ended, to the end of its last op. Empty when the rank has none. */
typedef struct window {
    double start_s, end_s;
    uint32_t first; /* the op that starts first */
} window;

static window optimizer_window(const tdm_rank_run *run)
{
    const tdm_program *program = run->program;
    window o = {INFINITY, -INFINITY, TDM_NO_OP};
    for (uint32_t i = program->first_o; i < program->n_ops; i++) {
        if (program->phase[i] != TDM_PASS_O)
            continue;
        if (run->spans[i].start_s < o.start_s) {
            o.start_s = run->spans[i].start_s;
            o.first = i;
        }
        o.end_s = fmax(o.end_s, run->spans[i].end_s);
    }
    if (o.first == TDM_NO_OP)
        return (window){INFINITY, INFINITY, TDM_NO_OP};
    if (program->last_compute != TDM_NO_OP)
        o.start_s = fmax(o.start_s, run->spans[program->last_compute].end_s);
    o.end_s = fmax(o.start_s, fmin(o.end_s, run->end_s));
    return o;
}

/* Sums in long double: twenty thousand gaps must add up to the step to the last digits. */
typedef struct idle_sum {
    tdm_sweep sweep;
    tdm_cover outside, inside; /* of the O pass */
    long double issue_gap_s;
    window o;
    tdm_stretch *scratch;
} idle_sum;

/* Idle time before the O pass, in front of next_op, or after it (TDM_NO_OP). */
static void add_idle_outside(idle_sum *sum, double from_s, double to_s, uint32_t next_op)
{
    tdm_cover cover = {0};
    if (to_s <= sum->sweep.until_s && sum->sweep.activity == TDM_ACTIVITY_TRANSFER) {
        tdm_sweep_add(&sum->sweep, from_s, to_s,
                      &sum->outside); /* the common case: all of it in one transfer */
        return;
    }
    tdm_sweep before = sum->sweep;
    tdm_sweep_add(&sum->sweep, from_s, to_s, &cover);
    bool issue_known = before.run->launch_s > 0 || before.run->issued_s;
    if (next_op != TDM_NO_OP && issue_known && cover.p2p_wait_s + cover.nothing_s > 0)
        sum->issue_gap_s += tdm_idle_unissued_s(&before, from_s, to_s, next_op, sum->scratch);
    sum->outside.transfer_s += cover.transfer_s;
    sum->outside.wait_s += cover.wait_s;
    sum->outside.p2p_wait_s += cover.p2p_wait_s;
    sum->outside.nothing_s += cover.nothing_s;
}

/* The compute stream is idle from from_s to to_s, when next_op starts. */
static void add_idle(idle_sum *sum, double from_s, double to_s, uint32_t next_op)
{
    const window *o = &sum->o;
    if (to_s <= o->start_s)
        add_idle_outside(sum, from_s, to_s, next_op);
    else if (from_s < o->start_s)
        add_idle_outside(sum, from_s, o->start_s, o->first);
    if (to_s > o->start_s && from_s < o->end_s)
        tdm_sweep_add(&sum->sweep, fmax(from_s, o->start_s), fmin(to_s, o->end_s), &sum->inside);
    if (to_s > o->end_s)
        add_idle_outside(sum, fmax(from_s, o->end_s), to_s, TDM_NO_OP);
}

/* Kernels and the idle time between them; adds up what F, B and W, and what all passes compute. */
static void walk_compute(const tdm_rank_run *run, idle_sum *sum, long double *passes_s,
                         long double *all_s)
{
    const tdm_program *program = run->program;
    double time_s = run->start_s;
    for (uint32_t c = 0; c < program->n_on_stream[TDM_STREAM_COMPUTE]; c++) {
        uint32_t i = program->on_stream[TDM_STREAM_COMPUTE][c];
        const tdm_span *span = &run->spans[i];
        if (span->start_s > time_s) {
            add_idle(sum, time_s, span->start_s, i);
            time_s = span->start_s;
        }
        if (span->end_s <= time_s)
            continue;
        *all_s += span->end_s - time_s;
        *passes_s += program->phase[i] == TDM_PASS_O ? 0 : span->end_s - time_s;
        time_s = span->end_s;
    }
    if (run->end_s > time_s)
        add_idle(sum, time_s, run->end_s, TDM_NO_OP);
}

static inline double sum_of(const tdm_waterfall *w)
{
    return w->compute_s + w->exposed_transfer_s + w->peer_wait_s + w->bubble_s + w->issue_gap_s +
           w->optimizer_s;
}

void tdm_rank_times(const tdm_rank_run *run, tdm_rank_scratch *scratch, tdm_rank_figures *figures)
{
    for (uint32_t key = 0; key < TDM_N_COMM_KEYS; key++)
        scratch->exposed_by_key[key] = 0;
    idle_sum sum = {.sweep = tdm_sweep_begin(run, scratch->exposed_by_key),
                    .o = optimizer_window(run),
                    .scratch = scratch->unissued};
    long double passes_s = 0, all_s = 0;
    walk_compute(run, &sum, &passes_s, &all_s);
    tdm_cover busy = {0};
    tdm_sweep whole = tdm_sweep_begin(run, NULL);
    tdm_sweep_add(&whole, run->start_s, run->end_s, &busy);

    const tdm_cover *out = &sum.outside, *in = &sum.inside;
    figures->waterfall = (tdm_waterfall){
        .compute_s = (double)passes_s,
        .exposed_transfer_s = (double)out->transfer_s,
        .peer_wait_s = (double)out->wait_s,
        .bubble_s = (double)(out->p2p_wait_s + out->nothing_s - sum.issue_gap_s),
        .issue_gap_s = (double)sum.issue_gap_s,
        .optimizer_s = sum.o.first == TDM_NO_OP ? 0 : sum.o.end_s - sum.o.start_s,
        .optimizer_transfer_s = (double)in->transfer_s,
        .optimizer_wait_s = (double)in->wait_s,
    };
    figures->compute_busy_s = (double)all_s;
    figures->comm_busy_s = (double)(busy.transfer_s + busy.wait_s + busy.p2p_wait_s);
    figures->any_busy_s = (double)(all_s + out->transfer_s + out->wait_s + out->p2p_wait_s +
                                   in->transfer_s + in->wait_s + in->p2p_wait_s);
    double step_s = run->end_s - run->start_s;
    assert(fabs(sum_of(&figures->waterfall) - step_s) <= 1e-12 * step_s);
    (void)step_s;
}

/* A pass runs from the first start to the last end of its ops on the streams of one stage: compute
 * and the TP and EP communication. Transfers between stages are the pipeline's, not the pass's. */
static void find_passes(const tdm_rank_run *run, tdm_rank_scratch *scratch)
{
    const tdm_program *program = run->program;
    for (uint32_t p = 0; p < program->role->n_passes; p++) {
        scratch->pass_start[p] = INFINITY;
        scratch->pass_end[p] = -INFINITY;
        scratch->pass_w_s[p] = 0;
    }
    for (uint32_t s = TDM_STREAM_COMPUTE; s <= TDM_STREAM_EP; s++) {
        for (uint32_t c = 0; c < program->n_on_stream[s]; c++) {
            uint32_t i = program->on_stream[s][c], p = program->ops[i].pass_index;
            const tdm_span *span = &run->spans[i];
            if (span->start_s < scratch->pass_start[p])
                scratch->pass_start[p] = span->start_s;
            if (span->end_s > scratch->pass_end[p])
                scratch->pass_end[p] = span->end_s;
            if (s == TDM_STREAM_COMPUTE && program->phase[i] == TDM_PASS_W)
                scratch->pass_w_s[p] += span->end_s - span->start_s;
        }
    }
}

static void add_pass(tdm_pass_total *total, const tdm_pass *pass, double duration_s, double w_s)
{
    switch (pass->kind) {
    case TDM_PASS_F:
    case TDM_PASS_B:
    case TDM_PASS_W:
        total->sum_s[pass->kind] += duration_s;
        total->n[pass->kind]++;
        break;
    case TDM_PASS_BW: /* W: its kernels; B: the rest of the pass */
        total->sum_s[TDM_PASS_B] += (long double)duration_s - w_s;
        total->sum_s[TDM_PASS_W] += w_s;
        total->n[TDM_PASS_B]++;
        total->n[TDM_PASS_W]++;
        break;
    default:
        break;
    }
}

void tdm_rank_passes(const tdm_rank_run *run, tdm_rank_scratch *scratch, tdm_pass_total *total)
{
    const tdm_role *role = run->program->role;
    *total = (tdm_pass_total){.first_s = INFINITY, .last_s = -INFINITY};
    find_passes(run, scratch);
    double before_s = -INFINITY, last_forward_s = -INFINITY;
    for (uint32_t p = 0; p < role->n_passes; p++) {
        const tdm_pass *pass = &role->passes[p];
        if (pass->kind == TDM_PASS_O || scratch->pass_end[p] < scratch->pass_start[p])
            continue;
        /* Where communication of a pass starts beside the pass before it, the time counts once. */
        double start_s = fmax(scratch->pass_start[p], before_s);
        double end_s = fmax(start_s, scratch->pass_end[p]);
        before_s = end_s;
        add_pass(total, pass, end_s - start_s, fmin(scratch->pass_w_s[p], end_s - start_s));
        if (pass->kind == TDM_PASS_F) {
            total->first_s = fmin(total->first_s, start_s);
            last_forward_s = fmax(last_forward_s, end_s);
        } else {
            total->last_s = fmax(total->last_s, end_s);
        }
    }
    if (total->last_s < total->first_s)
        total->last_s = last_forward_s;
}

uint64_t tdm_figures_op_bytes(const tdm_plan *plan, uint32_t rank, const tdm_instance *instance)
{
    const tdm_op *op = instance->op;
    uint32_t microbatch = instance->pass.microbatch;
    if (op->kind == TDM_OP_MEMORY)
        return tdm_size_eval(op->u.memory.bytes,
                             tdm_size_varies(op->u.memory.bytes)
                                 ? tdm_plan_routed(plan, rank, instance->layer, microbatch)
                                 : (tdm_routed){0});
    if (tdm_op_is_p2p(op->kind))
        return op->u.p2p.bytes;
    if (!tdm_op_is_collective(op->kind))
        return 0;
    if (op->kind != TDM_OP_ALL_TO_ALL)
        return tdm_plan_op_bytes(plan, rank, instance);
    if (plan->routing.n_layers == 0)
        return op->u.collective.bytes;
    const uint32_t *sent = tdm_plan_sent(plan, rank, instance->layer, microbatch);
    tdm_group group = tdm_mesh_group(&plan->mesh, TDM_GROUP_EP, rank);
    uint32_t own = tdm_group_index(&group, rank), ep = plan->routing.ep;
    uint64_t tokens = 0;
    for (uint32_t other = 0; other < ep; other++)
        tokens += op->u.collective.a2a == TDM_A2A_DISPATCH ? sent[own * ep + other]
                                                           : sent[other * ep + own];
    return tokens * op->u.collective.token_bytes;
}

void tdm_rank_comms(const tdm_plan *plan, uint32_t rank, const tdm_rank_run *run,
                    const tdm_rank_scratch *scratch, tdm_comm_total *totals)
{
    const tdm_program *program = run->program;
    for (uint32_t c = 0; c < program->n_comms; c++) {
        const tdm_op *op = program->ops[program->comm_op[c]].op;
        const tdm_span *span = &run->spans[program->comm_op[c]];
        tdm_comm_total *total = &totals[program->comm_key[c]];
        double transfer_s = fmax(0, span->end_s - run->arrived_s[run->call_of[c]]);
        total->n_calls++;
        total->busy_s += span->end_s - span->start_s;
        total->transfer_s += transfer_s;
        total->max_s = fmax(total->max_s, transfer_s);
        if (!tdm_op_is_routed(op))
            total->bytes += tdm_op_is_p2p(op->kind) ? op->u.p2p.bytes : op->u.collective.bytes;
    }
    for (uint32_t r = 0; r < program->n_routed; r++)
        if (tdm_op_is_comm(program->ops[program->routed[r]].op))
            totals[tdm_comm_key(program->ops[program->routed[r]].op)].bytes +=
                tdm_figures_op_bytes(plan, rank, &program->ops[program->routed[r]]);
    for (uint32_t key = 0; key < TDM_N_COMM_KEYS; key++)
        totals[key].exposed_s += scratch->exposed_by_key[key];
}
