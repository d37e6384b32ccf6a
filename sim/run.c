/* run.c: one simulation: a platform file, a child process that simulates, and its spans copied into
 * the trace. */
#include "child.h"
#include "conductor.h"
#include "core/cores.h"
#include "core/fold.h"
#include "network.h"
#include "platform.h"
#include "sim.h"
#include "simgrid_api.h"

#include <string.h>

/* What child and parent share. */
typedef struct shared {
    bool finished;
    char problem[16 * 1024];
    tdm_span spans[]; /* of all ranks */
} shared;

typedef struct job {
    const tdm_plan *plan;
    const tdm_machine *machine;
    const tdm_costs *costs;
    const char *platform_path;
    tdm_net *net;
    const tdm_sites *sites;
    shared *shared;
    tdm_rank_trace *ranks; /* [world] with spans in shared memory */
    tdm_conductor *conductor;
} job;

const char *tdm_sim_missing(void)
{
    char problem[256];
    if (tdm_simgrid_open(problem, sizeof problem))
        return NULL;
    return "the sim engine was built with SimGrid, but its shared library does not open here; install it "
           "(apt-get install libsimgrid-dev), or use --engine analytic";
}

static void leave_when_finished(const job *j)
{
    if (!tdm_conductor_finished(j->conductor))
        return;
    /* The spans are written. Leaving from here spares taking apart SimGrid and its actors. */
    j->shared->finished = true;
    tdm_child_exit();
}

static void transfer_ended(void *context, void *transfer, double end_s)
{
    job *j = context;
    tdm_conductor_ended(j->conductor, transfer, end_s);
    leave_when_finished(j);
}

/* Runs in the child, which never comes back from here alive: memory and handles go with it. */
static void simulate(void *context)
{
    job *j = context;
    tdm_arena arena = {0};
    tdm_network *network = tdm_network_open(&arena, j->platform_path, j->sites);
    j->conductor =
        tdm_conductor_new(&arena, j->plan, j->net, j->sites, j->costs, j->ranks, network);
    tdm_conductor_start(j->conductor);
    leave_when_finished(j);
    tdm_network_run(network, transfer_ended, j);
    /* SimGrid takes a deadlock for a normal end. */
    tdm_conductor_explain(j->conductor, j->shared->problem, sizeof j->shared->problem);
}

/* One message per line. */
static tdm_code report_problem(char *problem, tdm_error *err)
{
    if (*problem == '\0')
        return tdm_error_add(err, TDM_E_INTERNAL, "simulation ended without result or reason");
    for (char *line = problem; *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end)
            *end = '\0';
        tdm_error_add(err, TDM_E_INTERNAL, "%s", line);
        line = end ? end + 1 : line + strlen(line);
    }
    return TDM_E_INTERNAL;
}

/* Gives every rank its part of the shared spans. */
static void place_spans(job *j, const tdm_trace *trace)
{
    tdm_span *next = j->shared->spans;
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++) {
        j->ranks[rank] = (tdm_rank_trace){.n_ops = trace->ranks[rank].n_ops, .spans = next};
        next += trace->ranks[rank].n_ops;
    }
}

static tdm_code run_child(job *j, tdm_trace *trace, tdm_error *err)
{
    tdm_code code = tdm_child_run(simulate, j, "the simulation process", err);
    if (code != TDM_OK)
        return code;
    if (!j->shared->finished)
        return report_problem(j->shared->problem, err);
    for (uint32_t rank = 0; rank < trace->n_ranks; rank++)
        memcpy(trace->ranks[rank].spans, j->ranks[rank].spans,
               sizeof(tdm_span) * trace->ranks[rank].n_ops);
    return TDM_OK;
}

static tdm_code run_on_platform(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                                const char *platform_path, tdm_net *net, const tdm_sites *sites,
                                tdm_trace *trace, tdm_error *err)
{
    tdm_trace made;
    const tdm_costs *costs = tdm_costs_new(arena, plan, machine);
    tdm_trace_init(arena, plan, "sim", costs->launch_s, &made);
    size_t n_bytes = sizeof(shared);
    for (uint32_t rank = 0; rank < made.n_ranks; rank++)
        n_bytes += sizeof(tdm_span) * made.ranks[rank].n_ops;
    shared *memory = tdm_child_memory_new(n_bytes);
    if (!memory)
        return tdm_error_add(err, TDM_E_INTERNAL,
                             "no %zu bytes of shared memory for the simulation", n_bytes);
    job j = {.plan = plan,
             .machine = machine,
             .costs = costs,
             .platform_path = platform_path,
             .net = net,
             .sites = sites,
             .shared = memory,
             .ranks = TDM_ALLOC(arena, tdm_rank_trace, made.n_ranks)};
    place_spans(&j, &made);
    tdm_code code = run_child(&j, &made, err);
    tdm_child_memory_free(memory, n_bytes);
    if (code == TDM_OK)
        *trace = made;
    return code;
}

tdm_code tdm_sim_run(tdm_arena *arena, const tdm_plan *plan, const tdm_machine *machine,
                     const char *platform_path, tdm_trace *trace, tdm_error *err)
{
    const char *missing = tdm_sim_missing();
    if (missing)
        return tdm_error_add(err, TDM_E_INVALID, "%s", missing);
    uint32_t world = tdm_mesh_whole(&plan->mesh).world;
    if (machine->topology->n_gpus < world)
        return tdm_error_add(err, TDM_E_INVALID, "topology %s has %u GPUs, the plan needs %u",
                             machine->topology->name, machine->topology->n_gpus, world);
    if (machine->topology->cores) /* no links to simulate: cores are what is shared */
        return tdm_cores_run(arena, plan, machine, "sim", trace, err);
    tdm_topology topology;
    tdm_sites sites;
    tdm_platform own;
    tdm_code code = tdm_topology_fold(arena, machine->topology, &plan->mesh, &topology, err);
    if (code != TDM_OK)
        return code;
    tdm_net *net = tdm_net_new(arena, &topology);
    code = tdm_sites_list(arena, plan, net, &sites, err);
    if (code == TDM_OK && sites.max_flows > TDM_NETWORK_MAX_FLOWS)
        code = tdm_error_add(
            err, TDM_E_INFEASIBLE,
            "one operation of the plan needs %u concurrent flows on topology %s, the sim engine "
            "carries %d; use --engine analytic",
            sites.max_flows, topology.name, TDM_NETWORK_MAX_FLOWS);
    if (code == TDM_OK)
        code = platform_path ? tdm_platform_write(&sites, platform_path, err)
                             : tdm_platform_open(&sites, &own, err);
    if (code != TDM_OK)
        return code;
    tdm_machine used = *machine;
    used.topology = &topology;
    code = run_on_platform(arena, plan, &used, platform_path ? platform_path : own.path, net,
                           &sites, trace, err);
    if (!platform_path)
        tdm_platform_close(&own);
    return code;
}
