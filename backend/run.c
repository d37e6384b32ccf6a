/* run.c: puts device, transport and memory together, runs the steps, sums them up. */
#include "backend.h"
#include "host/host.h"
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

tdm_code tdm_backend_check(const tdm_plan *plan, const tdm_run_options *options, tdm_error *err)
{
    return is_paced(options) ? TDM_OK : tdm_host_check(plan, err);
}

/* What is at hand while a plan runs. */
typedef struct session {
    tdm_arena *arena;
    const tdm_plan *plan;
    const tdm_machine *machine;
    const tdm_run_options *options;
    tdm_exec_device device;
    tdm_exec_transport transport;
    tdm_exec_job job;
    tdm_paced_times times;
    tdm_paced *paced;
    tdm_host *host;
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
    tdm_code code = tdm_paced_plan(s->arena, s->plan, s->job.programs, s->machine, &s->times, err);
    if (code != TDM_OK)
        return code;
    s->job.launch_s = s->times.launch_s;
    s->job.pace = s->options->pace > 0 ? s->options->pace : pace_for(&s->times);
    s->paced = tdm_paced_open(s->arena, s->plan, &s->times, &s->device);
    return TDM_OK;
}

/* All ranks' arenas are in this machine's memory. */
static tdm_code check_room(const session *s, const tdm_layout *layouts, tdm_error *err)
{
    double needed = 0;
    for (uint32_t r = 0; r < s->plan->mesh.world; r++)
        needed += (double)layouts[r].arena_bytes;
    double there = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (needed <= there || there <= 0)
        return TDM_OK;
    return tdm_error_add(err, TDM_E_INFEASIBLE,
                         "the %u ranks need %.3g GB together and this machine has %.3g GB (run a "
                         "smaller model, or --device paced)",
                         s->plan->mesh.world, needed / 1e9, there / 1e9);
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
    if (code == TDM_OK)
        code = tdm_host_open(s->arena, s->plan, s->job.programs, s->job.n_steps, NULL, NULL,
                             &s->host, &s->device, err);
    s->job.layouts = layouts;
    s->job.pace = 1;
    if (s->options->check_memory)
        s->job.placement = TDM_EXEC_CHECKED;
    return code;
}

static double length_of(const tdm_trace *trace)
{
    double first_s = INFINITY, last_s = 0;
    for (uint32_t r = 0; r < trace->n_ranks; r++)
        for (uint32_t i = 0; i < trace->ranks[r].n_ops; i++) {
            first_s = fmin(first_s, trace->ranks[r].spans[i].start_s);
            last_s = fmax(last_s, trace->ranks[r].spans[i].end_s);
        }
    return last_s > first_s ? last_s - first_s : 0;
}

/* The step with so many others at most as long as half of all. */
static uint32_t median_of(const tdm_run_step *steps, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t before = 0;
        for (uint32_t k = 0; k < n; k++)
            before +=
                steps[k].step_s < steps[i].step_s || (steps[k].step_s <= steps[i].step_s && k < i);
        if (before == (n - 1) / 2)
            return i;
    }
    return n - 1;
}

static void sum_up(session *s, const tdm_trace *traces, tdm_trace *trace, tdm_run_report *report)
{
    uint32_t n = s->job.n_steps;
    tdm_run_step *steps = TDM_ALLOC(s->arena, tdm_run_step, n);
    for (uint32_t i = 0; i < n; i++)
        steps[i] = (tdm_run_step){.step_s = length_of(&traces[i]),
                                  .loss = s->host ? tdm_host_loss(s->host, i) : NAN,
                                  .grad_norm = s->host ? tdm_host_grad_norm(s->host, i) : NAN};
    *report = (tdm_run_report){.device = s->device.name,
                               .transport = s->transport.name,
                               .pace = s->job.pace,
                               .memory_checked = s->job.placement == TDM_EXEC_CHECKED,
                               .n_steps = n,
                               .steps = steps,
                               .traced_step = median_of(steps, n)};
    if (s->paced)
        report->late_s = tdm_paced_late_s(s->paced, s->plan->mesh.world);
    *trace = traces[report->traced_step];
}

/* What was used is what was planned. */
static tdm_code compare_counts(const session *s, const tdm_exec_count *counts, tdm_error *err)
{
    for (uint32_t r = 0; r < s->plan->mesh.world && s->job.placement == TDM_EXEC_CHECKED; r++) {
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

static tdm_code run_steps(session *s, tdm_trace *trace, tdm_run_report *report, tdm_error *err)
{
    tdm_trace *traces = TDM_ALLOC(s->arena, tdm_trace, s->job.n_steps);
    tdm_exec_count *counts = TDM_ALLOC(s->arena, tdm_exec_count, s->plan->mesh.world);
    tdm_code code = tdm_threads_open(s->arena, s->plan, s->job.programs, &s->transport, err);
    if (code != TDM_OK)
        return code;
    s->job.device = &s->device;
    s->job.transport = &s->transport;
    code = tdm_execute(s->arena, &s->job, traces, counts, err);
    tdm_threads_close(&s->transport);
    if (code == TDM_OK)
        code = compare_counts(s, counts, err);
    if (code == TDM_OK)
        sum_up(s, traces, trace, report);
    return code;
}

tdm_code tdm_backend_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                         const tdm_run_options *options, tdm_trace *trace, tdm_run_report *report,
                         tdm_error *err)
{
    session s = {.arena = arena, .plan = plan, .machine = machine, .options = options};
    s.job = (tdm_exec_job){
        .plan = plan, .programs = tdm_programs_of(arena, plan), .n_steps = options->n_steps};
    tdm_code code = is_paced(options) ? open_paced(&s, err) : open_host(&s, err);
    if (code == TDM_OK)
        code = run_steps(&s, trace, report, err);
    return code;
}
