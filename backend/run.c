/* run.c: puts device, transport and memory together, runs the steps, sums them up. */
#include "../core/stats.h"
#include "backend.h"
#include "host/host.h"
#include "mpi/transport.h"
#include "paced.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *tdm_host_missing(void)
{
    return tdm_host_absent();
}

static bool is_paced(const tdm_run_options *options)
{
    return strcmp(options->device, "paced") == 0;
}

tdm_code tdm_backend_check_world(uint32_t n_ranks, const tdm_run_options *options, tdm_error *err)
{
    if (!options->world)
        return TDM_OK;
    const tdm_world_shape *shape = tdm_world_shape_of(options->world);
    uint32_t n = shape->n_processes, less = n < n_ranks ? n : n_ranks;
    while (n_ranks % less != 0)
        less--;
    if (options->launch.name && options->launch.n_processes != n)
        return tdm_error_add(err, TDM_E_INVALID,
                             "%s started %u processes, and MPI connects %u of them (wanted is %s)",
                             options->launch.name, options->launch.n_processes, n,
                             options->launch.launcher == TDM_LAUNCHED_BY_SLURM
                                 ? "srun --mpi=pmix"
                                 : "the mpirun of Open MPI");
    if (n_ranks % n == 0)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INVALID,
                         "%u processes were started, and the scenario has %u ranks: each process "
                         "takes the same number of them (try %u)",
                         n, n_ranks, less);
}

tdm_code tdm_backend_check(const tdm_plan *plan, const tdm_run_options *options, tdm_error *err)
{
    tdm_code code = tdm_backend_check_world(plan->mesh.world, options, err);
    tdm_code other = is_paced(options) ? TDM_OK : tdm_host_check(plan, err);
    return code == TDM_OK ? other : code;
}

/* What is at hand while a plan runs. */
typedef struct session {
    tdm_arena *arena;
    const tdm_plan *plan;
    const tdm_trace *planned;
    const tdm_run_options *options;
    tdm_exec_device device;
    tdm_exec_transport transport;
    tdm_exec_job job;
    tdm_paced_times times;
    tdm_paced *paced;
    tdm_host *host;
    tdm_host_dump *dump;
    tdm_world *world;             /* NULL: this process is alone */
    uint32_t first_rank, n_ranks; /* carried out here */
} session;

/* Ops a second at which times are true to a few percent: waking up takes some 0.1 ms (measured on a
 * virtual machine of two cores), so that ops of several ms each are wanted on every rank. */
static const double OPS_PER_S = 4000;

/* The least whole factor at which the machine keeps up. */
static double pace_for(const tdm_paced_times *times)
{
    double ops_per_s = times->step_s > 0 ? (double)times->n_ops / times->step_s : 0;
    return fmax(1, ceil(ops_per_s / OPS_PER_S));
}

static tdm_code open_paced(session *s, tdm_error *err)
{
    tdm_code code = tdm_paced_plan(s->arena, s->plan, s->job.programs, s->planned, &s->times, err);
    if (code != TDM_OK)
        return code;
    s->job.launch_s = s->times.launch_s;
    s->job.pace = s->options->pace > 0 ? s->options->pace : pace_for(&s->times);
    s->paced = tdm_paced_open(s->arena, s->plan, &s->times, &s->device);
    return TDM_OK;
}

/* All ranks' arenas are in this machine's memory; with several processes those of the processes on
 * this host, which are taken to be like this one. */
static tdm_code check_room(const session *s, const tdm_layout *layouts, tdm_error *err)
{
    double needed = 0;
    uint32_t on_host = s->world ? tdm_world_shape_of(s->world)->n_on_host : 1;
    for (uint32_t r = s->first_rank; r < s->first_rank + s->n_ranks; r++)
        needed += (double)layouts[r].arena_bytes * on_host;
    double there = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (needed <= there || there <= 0)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INFEASIBLE,
                         "the %u ranks need %.3g GB together and this machine has %.3g GB (run a "
                         "smaller model, or --device paced)",
                         on_host * s->n_ranks, needed / 1e9, there / 1e9);
}

static tdm_code open_host(session *s, tdm_error *err)
{
    tdm_code code = tdm_host_check(s->plan, err);
    if (code != TDM_OK)
        return code;
    tdm_layout *layouts = TDM_ALLOC(s->arena, tdm_layout, s->plan->mesh.world);
    code = tdm_layout_build_all(s->arena, s->plan, true, layouts, err);
    if (code == TDM_OK)
        code = check_room(s, layouts, err);
    if (s->options->dump && s->plan->train)
        s->dump = tdm_host_dump_new(s->arena, s->plan, s->job.n_steps);
    if (code == TDM_OK)
        code =
            tdm_host_open(s->arena, s->plan, s->job.programs, s->job.n_steps,
                          s->dump ? tdm_host_dump_take : NULL, s->dump, &s->host, &s->device, err);
    s->job.layouts = layouts;
    s->job.pace = 1;
    if (s->options->check_memory)
        s->job.placement = TDM_EXEC_CHECKED;
    return code;
}

/* Where the first op of this process's ranks starts, as a negative number, and where the last ends:
 * so that the larger of several are those of all. */
static void extent_of(const session *s, const tdm_trace *trace, double extent[2])
{
    extent[0] = -INFINITY;
    extent[1] = 0;
    for (uint32_t r = s->first_rank; r < s->first_rank + s->n_ranks; r++)
        for (uint32_t i = 0; i < trace->ranks[r].n_ops; i++) {
            extent[0] = fmax(extent[0], -trace->ranks[r].spans[i].start_s);
            extent[1] = fmax(extent[1], trace->ranks[r].spans[i].end_s);
        }
}

/* Losses and norms of ranks that other processes carried out. */
static tdm_code share_losses(session *s, tdm_error *err)
{
    uint64_t n_bytes = s->job.n_steps * sizeof(double);
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; s->world && s->host && r < s->plan->mesh.world && code == TDM_OK; r++) {
        code = tdm_world_share(s->world, r / s->n_ranks, tdm_host_losses(s->host, r), n_bytes, err);
        if (code == TDM_OK)
            code = tdm_world_share(s->world, r / s->n_ranks, tdm_host_grad_norms(s->host, r),
                                   n_bytes, err);
    }
    return code;
}

/* The spans of all ranks, on all processes. */
static tdm_code share_trace(session *s, const tdm_trace *trace, tdm_error *err)
{
    tdm_code code = TDM_OK;
    for (uint32_t r = 0; s->world && r < trace->n_ranks && code == TDM_OK; r++)
        code = tdm_world_share(s->world, r / s->n_ranks, trace->ranks[r].spans,
                               trace->ranks[r].n_ops * sizeof(tdm_span), err);
    return code;
}

/* Measures of all steps, over all processes: the extent of each, then lateness and uncertainty. */
static tdm_code measure(session *s, const tdm_trace *traces, double *values, tdm_error *err)
{
    uint32_t n = s->job.n_steps;
    for (uint32_t i = 0; i < n; i++)
        extent_of(s, &traces[i], values + 2 * i);
    values[2 * n] = s->paced ? tdm_paced_late_s(s->paced, s->plan->mesh.world) : 0;
    values[2 * n + 1] = s->world ? tdm_mpi_uncertainty_s(&s->transport) : 0;
    return s->world ? tdm_world_largest(s->world, values, 2 * n + 2, err) : TDM_OK;
}

static tdm_code sum_up(session *s, const tdm_trace *traces, tdm_trace *trace,
                       tdm_run_report *report, tdm_error *err)
{
    uint32_t n = s->job.n_steps;
    tdm_run_step *steps = TDM_ALLOC(s->arena, tdm_run_step, n);
    double *steps_s = TDM_ALLOC(s->arena, double, n);
    double *values = TDM_ALLOC(s->arena, double, 2 * (size_t)n + 2);
    tdm_code code = measure(s, traces, values, err);
    if (code == TDM_OK)
        code = share_losses(s, err);
    if (code != TDM_OK)
        return code;
    for (uint32_t i = 0; i < n; i++) {
        steps_s[i] = fmax(values[2 * i + 1] + values[2 * i], 0);
        steps[i] = (tdm_run_step){.step_s = steps_s[i],
                                  .loss = s->host ? tdm_host_loss(s->host, i) : NAN,
                                  .grad_norm = s->host ? tdm_host_grad_norm(s->host, i) : NAN};
    }
    *report = (tdm_run_report){.device = s->device.name,
                               .transport = s->transport.name,
                               .times_of = s->paced ? s->planned->engine : NULL,
                               .pace = s->job.pace,
                               .memory_checked = s->job.placement == TDM_EXEC_CHECKED,
                               .n_steps = n,
                               .steps = steps,
                               .traced_step = (uint32_t)tdm_stats_median_place(steps_s, n),
                               .late_s = values[2 * n],
                               .launch = s->options->launch,
                               .clock_uncertainty_s = values[2 * n + 1]};
    if (s->world)
        report->processes = *tdm_world_shape_of(s->world);
    *trace = traces[report->traced_step];
    return share_trace(s, trace, err);
}

/* What was used is what was planned. */
static tdm_code compare_counts(const session *s, const tdm_exec_count *counts, tdm_error *err)
{
    for (uint32_t i = 0; i < s->n_ranks && s->job.placement == TDM_EXEC_CHECKED; i++) {
        uint32_t r = s->first_rank + i;
        const tdm_layout *planned = &s->job.layouts[r];
        if (counts[r].live_peak_bytes != planned->live_peak_bytes ||
            counts[r].arena_bytes != planned->arena_bytes)
            return tdm_error_add(
                err, TDM_E_INTERNAL,
                "rank %u: %llu bytes were alive at once and %llu used, planned are "
                "%llu and %llu",
                r, (unsigned long long)counts[r].live_peak_bytes,
                (unsigned long long)counts[r].arena_bytes,
                (unsigned long long)planned->live_peak_bytes,
                (unsigned long long)planned->arena_bytes);
    }
    return TDM_OK;
}

static tdm_code open_transport(session *s, tdm_error *err)
{
    return s->world ? tdm_mpi_transport_open(s->arena, s->plan, s->job.programs, s->world,
                                             &s->transport, err)
                    : tdm_threads_open(s->arena, s->plan, s->job.programs, &s->transport, err);
}

static void close_transport(session *s)
{
    if (s->world)
        tdm_mpi_transport_close(&s->transport);
    else
        tdm_threads_close(&s->transport);
}

static tdm_code run_steps(session *s, tdm_trace *trace, tdm_run_report *report, tdm_error *err)
{
    tdm_trace *traces = TDM_ALLOC(s->arena, tdm_trace, s->job.n_steps);
    tdm_exec_count *counts = TDM_ALLOC(s->arena, tdm_exec_count, s->plan->mesh.world);
    tdm_code code = open_transport(s, err);
    if (code != TDM_OK)
        return code;
    s->job.device = &s->device;
    s->job.transport = &s->transport;
    code = tdm_execute(s->arena, &s->job, traces, counts, err);
    close_transport(s);
    if (code == TDM_OK)
        code = compare_counts(s, counts, err);
    if (code == TDM_OK)
        code = sum_up(s, traces, trace, report, err);
    if (code == TDM_OK && s->dump)
        code = tdm_host_dump_write(s->dump, s->host, s->options->dump, err);
    return code;
}

/* Nobody begins before all are prepared, and can: who waits in a collective for a process that
 * could not waits in vain. */
static tdm_code await_others(session *s, tdm_error *err)
{
    tdm_world_verdict verdict;
    if (!tdm_world_agree(s->world, TDM_OK, NULL, &verdict) || verdict.n_failed == 0)
        return TDM_OK;        /* of an earlier run of this process, too */
    err->code = verdict.code; /* without a message: that is the other's */
    return verdict.code;
}

tdm_code tdm_backend_run(tdm_arena *arena, const tdm_plan *plan, const tdm_trace *planned,
                         const tdm_run_options *options, tdm_trace *trace, tdm_run_report *report,
                         tdm_error *err)
{
    session s = {.arena = arena,
                 .plan = plan,
                 .planned = planned,
                 .options = options,
                 .world = options->world,
                 .n_ranks = plan->mesh.world};
    if (s.world) {
        const tdm_world_shape *shape = tdm_world_shape_of(s.world);
        s.n_ranks = plan->mesh.world / shape->n_processes;
        s.first_rank = shape->process * s.n_ranks;
    }
    s.job = (tdm_exec_job){.plan = plan,
                           .first_rank = s.first_rank,
                           .n_ranks = s.n_ranks,
                           .programs = tdm_programs_of(arena, plan),
                           .n_steps = options->n_steps};
    tdm_code code = is_paced(options) ? open_paced(&s, err) : open_host(&s, err);
    if (code == TDM_OK && s.world)
        code = await_others(&s, err);
    if (code == TDM_OK)
        code = run_steps(&s, trace, report, err);
    return code;
}
