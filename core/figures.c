/* figures.c: the figures of a run, put together from those of its ranks. */
#include "figures_experts.h"
#include "figures_rank.h"
#include "stats.h"

#include <assert.h>
#include <math.h>

/* Work of one rank of a role that does not depend on routing. */
typedef struct role_flops {
    double model;    /* without recomputation */
    double hardware; /* with it */
} role_flops;

/* What the parts of the computation share. */
typedef struct work {
    tdm_arena scratch_arena;
    const tdm_plan *plan;
    const tdm_trace *trace;
    const tdm_program *programs; /* [n_roles] */
    role_flops *flops;           /* [n_roles] */
    tdm_calls calls;
    tdm_rank_scratch scratch;
    tdm_pass_total *passes; /* [n_ranks] */
    tdm_comm_total comms[TDM_N_COMM_KEYS];
    double start_s, end_s;              /* of the step */
    double model_flops, hardware_flops; /* of all ranks */
} work;

static role_flops flops_of(const tdm_plan *plan, const tdm_program *program)
{
    role_flops sum = {0};
    for (uint32_t i = 0; i < program->n_ops; i++) {
        const tdm_op *op = program->ops[i].op;
        if (tdm_op_is_routed(op))
            continue;
        double flops = tdm_op_flops(plan, program->rank, &program->ops[i]);
        sum.hardware += flops;
        sum.model += op->recompute ? 0 : flops;
    }
    return sum;
}

static void prepare(work *w)
{
    const tdm_plan *plan = w->plan;
    uint32_t most_comms = 0, most_passes = 0;
    w->programs = tdm_programs_of(&w->scratch_arena, plan);
    w->flops = TDM_ALLOC(&w->scratch_arena, role_flops, plan->n_roles);
    for (uint32_t r = 0; r < plan->n_roles; r++) {
        const tdm_program *program = &w->programs[r];
        if (!program->role)
            continue;
        w->flops[r] = flops_of(plan, program);
        most_comms = program->n_comms > most_comms ? program->n_comms : most_comms;
        most_passes = program->role->n_passes > most_passes ? program->role->n_passes : most_passes;
    }
    w->scratch.unissued = TDM_ALLOC(&w->scratch_arena, tdm_stretch, most_comms + 1);
    w->scratch.pass_start = TDM_ALLOC(&w->scratch_arena, double, most_passes);
    w->scratch.pass_end = TDM_ALLOC(&w->scratch_arena, double, most_passes);
    w->scratch.pass_w_s = TDM_ALLOC(&w->scratch_arena, double, most_passes);
    w->passes = TDM_ALLOC(&w->scratch_arena, tdm_pass_total, plan->mesh.world);
}

/* The step: from the first op's start to the end of the last op of the O pass, or of the last op
 * where no rank has an O pass. Streams run in order, so first and last are taken by stream. */
static void find_step(work *w)
{
    double optimizer_end_s = -INFINITY, compute_end_s = -INFINITY, end_s = -INFINITY;
    w->start_s = INFINITY;
    for (uint32_t rank = 0; rank < w->plan->mesh.world; rank++) {
        const tdm_program *program = &w->programs[w->plan->role_of[rank]];
        const tdm_span *spans = w->trace->ranks[rank].spans;
        for (uint32_t s = 0; s < TDM_N_STREAMS; s++) {
            if (program->n_on_stream[s] == 0)
                continue;
            w->start_s = fmin(w->start_s, spans[program->on_stream[s][0]].start_s);
            end_s = fmax(end_s, spans[program->on_stream[s][program->n_on_stream[s] - 1]].end_s);
        }
        if (program->n_on_stream[TDM_STREAM_COMPUTE]) {
            uint32_t n = program->n_on_stream[TDM_STREAM_COMPUTE];
            compute_end_s =
                fmax(compute_end_s, spans[program->on_stream[TDM_STREAM_COMPUTE][n - 1]].end_s);
        }
        for (uint32_t i = program->first_o; i < program->n_ops; i++)
            if (program->phase[i] == TDM_PASS_O)
                optimizer_end_s = fmax(optimizer_end_s, spans[i].end_s);
    }
    w->end_s = optimizer_end_s > -INFINITY ? fmax(optimizer_end_s, compute_end_s) : end_s;
    if (w->end_s < w->start_s)
        w->start_s = w->end_s = 0; /* no ops at all */
}

/* Of the rows that an op works on, those that are no padding. */
static double unpadded_share(const tdm_plan *plan, uint32_t rank, const tdm_instance *in)
{
    if (!plan->routing_spec.pad_to_capacity)
        return 1;
    double rows = (double)tdm_plan_tokens(plan, rank, in->layer, in->pass.microbatch);
    double pairs = (double)tdm_plan_pairs(plan, rank, in->layer, in->pass.microbatch);
    return rows > 0 ? pairs / rows : 1;
}

static void add_flops(work *w, uint32_t rank, const tdm_program *program)
{
    w->model_flops += w->flops[w->plan->role_of[rank]].model;
    w->hardware_flops += w->flops[w->plan->role_of[rank]].hardware;
    for (uint32_t r = 0; r < program->n_routed; r++) {
        const tdm_instance *in = &program->ops[program->routed[r]];
        double flops = tdm_op_flops(w->plan, rank, in);
        w->hardware_flops += flops;
        w->model_flops += in->op->recompute ? 0 : flops * unpadded_share(w->plan, rank, in);
    }
}

static void add_waterfall(tdm_waterfall *sum, const tdm_waterfall *part, double share)
{
    sum->compute_s += part->compute_s * share;
    sum->exposed_transfer_s += part->exposed_transfer_s * share;
    sum->peer_wait_s += part->peer_wait_s * share;
    sum->bubble_s += part->bubble_s * share;
    sum->issue_gap_s += part->issue_gap_s * share;
    sum->optimizer_s += part->optimizer_s * share;
    sum->optimizer_transfer_s += part->optimizer_transfer_s * share;
    sum->optimizer_wait_s += part->optimizer_wait_s * share;
}

static void run_ranks(work *w, tdm_figures *f)
{
    for (uint32_t rank = 0; rank < f->n_ranks; rank++) {
        const tdm_program *program = &w->programs[w->plan->role_of[rank]];
        tdm_rank_run run = {program,
                            w->trace->ranks[rank].spans,
                            w->calls.of_rank[rank],
                            w->calls.arrived_s,
                            w->trace->launch_s,
                            w->start_s,
                            w->end_s,
                            NULL};
        tdm_rank_figures *figures = &f->ranks[rank];
        figures->rank = tdm_mesh_whole_rank(&w->plan->mesh, rank);
        figures->stage = program->role->stage;
        tdm_rank_times(&run, &w->scratch, figures);
        tdm_rank_passes(&run, &w->scratch, &w->passes[rank]);
        tdm_rank_comms(w->plan, rank, &run, &w->scratch, w->comms);
        add_flops(w, rank, program);
    }
}

void tdm_figures_sum_ranks(tdm_arena *scratch, tdm_figures *f)
{
    double *busy_s = TDM_ALLOC(scratch, double, f->n_ranks);
    double comm = 0, any = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        add_waterfall(&f->waterfall, &f->ranks[r].waterfall, 1.0 / f->n_ranks);
        busy_s[r] = f->ranks[r].compute_busy_s;
        comm += f->ranks[r].comm_busy_s;
        any += f->ranks[r].any_busy_s;
    }
    double mean = tdm_stats_mean(busy_s, f->n_ranks);
    f->load_imbalance = mean > 0 ? tdm_stats_sd(busy_s, f->n_ranks) / mean : 0;
    f->min_compute_share = mean > 0 ? tdm_stats_min(busy_s, f->n_ranks) / mean : 1;
    double rank_seconds = f->n_ranks * f->step_time_s;
    if (rank_seconds <= 0)
        return;
    f->gpu_utilization = mean / f->step_time_s;
    f->comm_busy_fraction = comm / rank_seconds;
    f->nvml_utilization = any / rank_seconds;
    f->comm_exposed_fraction =
        (f->waterfall.exposed_transfer_s + f->waterfall.optimizer_transfer_s) / f->step_time_s;
}

/* The span of the passes of all stages. */
typedef struct pass_span {
    double first_s, last_s;
} pass_span;

/* Puts a stage together from its ranks; returns the mean over them of the sum of their pass times.
 */
static double summarize_stage(const work *w, tdm_figures *f, uint32_t s, pass_span *all)
{
    tdm_stage_figures *stage = &f->stages[s];
    long double sum_s[3] = {0};
    uint64_t n[3] = {0}, n_ranks = 0;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        const tdm_pass_total *total = &w->passes[r];
        if (f->ranks[r].stage != s)
            continue;
        n_ranks++;
        for (int k = 0; k < 3; k++) {
            sum_s[k] += total->sum_s[k];
            n[k] += total->n[k];
        }
        if (total->last_s < total->first_s)
            continue;
        stage->span_s = fmax(stage->span_s, total->last_s - total->first_s);
        all->first_s = fmin(all->first_s, total->first_s);
        all->last_s = fmax(all->last_s, total->last_s);
    }
    for (int k = 0; k < 3; k++)
        stage->pass_s[k] = n[k] ? (double)(sum_s[k] / n[k]) : 0;
    return n_ranks ? (double)((sum_s[0] + sum_s[1] + sum_s[2]) / n_ranks) : 0;
}

/* The zero-bubble paper's rate: 1 - (a stage's pass times) / (the longest span of any stage).
 * Source: Qi et al., Zero Bubble Pipeline Parallelism, ICLR 2024, table 5:
 * bubble rate = (cost - m (TF + TB + TW)) / cost. */
static void summarize_stages(work *w, tdm_figures *f)
{
    pass_span all = {INFINITY, -INFINITY};
    double longest_s = 0, mean_s = 0;
    double *passes_s = TDM_ALLOC(&w->scratch_arena, double, f->n_stages);
    for (uint32_t s = 0; s < f->n_stages; s++) {
        passes_s[s] = summarize_stage(w, f, s, &all);
        mean_s += passes_s[s] / f->n_stages;
        longest_s = fmax(longest_s, f->stages[s].span_s);
    }
    for (uint32_t s = 0; s < f->n_stages && longest_s > 0; s++) {
        f->stages[s].bubble_fraction = 1 - passes_s[s] / longest_s;
        f->bubble_fraction += f->stages[s].bubble_fraction / f->n_stages;
    }
    f->bubble_global = all.last_s > all.first_s ? 1 - mean_s / (all.last_s - all.first_s) : 0;
}

void tdm_figures_sum_comms(tdm_arena *arena, const tdm_comm_total *totals, tdm_figures *f)
{
    f->comms = TDM_ALLOC(arena, tdm_comm_figures, TDM_N_COMM_KEYS);
    for (uint32_t key = 0; key < TDM_N_COMM_KEYS; key++) {
        const tdm_comm_total *total = &totals[key];
        if (total->n_calls == 0)
            continue;
        f->comms[f->n_comms++] = (tdm_comm_figures){
            .kind = (tdm_op_kind)(key / (TDM_N_GROUP_KINDS + 1)),
            .group = (tdm_group_kind)(key % (TDM_N_GROUP_KINDS + 1)),
            .n_calls = total->n_calls,
            .busy_s = total->busy_s / f->n_ranks,
            .exposed_s = total->exposed_s / f->n_ranks,
            .avg_s = total->transfer_s / (double)total->n_calls,
            .max_s = total->max_s,
            .bytes = (total->bytes + f->n_ranks / 2) / f->n_ranks,
        };
    }
}

static void add_memory(const tdm_layout *layouts, const tdm_machine *machine, tdm_figures *f)
{
    uint64_t context = machine ? (uint64_t)machine->device->context_bytes.value : 0;
    for (uint32_t r = 0; r < f->n_ranks; r++) {
        tdm_rank_figures *rank = &f->ranks[r];
        rank->peak_memory_bytes = layouts[r].arena_bytes + context;
        rank->live_peak_bytes = layouts[r].live_peak_bytes;
        for (uint32_t c = 0; c < TDM_N_CLASSES; c++)
            rank->class_at_peak[c] = layouts[r].class_at_peak[c];
        tdm_stage_figures *stage = &f->stages[rank->stage];
        if (rank->peak_memory_bytes > stage->peak_memory_bytes)
            stage->peak_memory_bytes = rank->peak_memory_bytes;
        if (rank->peak_memory_bytes > f->peak_memory_bytes) {
            f->peak_memory_bytes = rank->peak_memory_bytes;
            f->peak_memory_rank = r;
        }
    }
}

static void add_rates(const work *w, const tdm_machine *machine, tdm_figures *f)
{
    const tdm_plan *plan = w->plan;
    if (plan->pass_times || f->step_time_s <= 0)
        return;
    double tokens = (double)plan->micro_batch_size * plan->seq_length * plan->num_microbatches *
                    tdm_mesh_whole(&plan->mesh).dp;
    f->tokens_per_s = tokens / f->step_time_s;
    double peak = machine ? machine->device->peak_flops_per_s[plan->training.dtype].value : 0;
    if (peak <= 0)
        return;
    f->mfu = w->model_flops / (f->step_time_s * f->n_ranks * peak);
    f->hfu = w->hardware_flops / (f->step_time_s * f->n_ranks * peak);
}

tdm_code tdm_figures_compute(tdm_arena *arena, const tdm_plan *plan, const tdm_trace *trace,
                             const tdm_layout *layouts, const tdm_machine *machine,
                             tdm_figures *figures, tdm_error *err)
{
    assert(trace->n_ranks == plan->mesh.world && trace->n_ranks > 0);
    work w = {.plan = plan, .trace = trace};
    prepare(&w);
    tdm_code code = tdm_calls_match(&w.scratch_arena, plan, w.programs, trace, &w.calls, err);
    if (code == TDM_OK) {
        tdm_figures f = {.n_ranks = plan->mesh.world, .n_stages = plan->mesh.pp};
        f.ranks = TDM_ALLOC(arena, tdm_rank_figures, f.n_ranks);
        f.stages = TDM_ALLOC(arena, tdm_stage_figures, f.n_stages);
        find_step(&w);
        f.step_time_s = w.end_s - w.start_s;
        run_ranks(&w, &f);
        tdm_figures_sum_ranks(&w.scratch_arena, &f);
        summarize_stages(&w, &f);
        tdm_figures_sum_comms(arena, w.comms, &f);
        tdm_figures_experts(plan, &f);
        if (layouts)
            add_memory(layouts, machine, &f);
        add_rates(&w, machine, &f);
        *figures = f;
    }
    tdm_arena_free(&w.scratch_arena);
    return code;
}
