/* launched.c: processes that were started together, see launched.h. */
#include "launched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One line for people, and for the logs of a cluster. */
static void introduce(const tdm_launched *l, const char *verb)
{
    const tdm_world_shape *shape = tdm_world_shape_of(l->world);
    fprintf(stderr, "%s: %u process%s on %u host%s", verb, shape->n_processes,
            shape->n_processes == 1 ? "" : "es", shape->n_hosts, shape->n_hosts == 1 ? "" : "s");
    if (l->launch.name)
        fprintf(stderr, ", started by %s (%s)", l->launch.name, l->launch.variable);
    fprintf(stderr, ", connected by %s\n", shape->library);
}

static int refuse_alone(const char *verb, const tdm_launch *launch)
{
    if (launch->launcher == TDM_LAUNCHED_BY_TORCHRUN)
        return tdm_cli_complain(
            TDM_E_INVALID,
            "%s: torchrun (RANK=%u, WORLD_SIZE=%u, MASTER_ADDR=%s) started several processes, "
            "which MPI does not connect: use mpirun or srun, or start one process",
            verb, launch->process, launch->n_processes, launch->master ? launch->master : "");
    return tdm_cli_complain(TDM_E_INVALID,
                            "%s: %s (%s) started %u processes, and --transport threads runs in "
                            "one: use --transport mpi, or start one",
                            verb, launch->name, launch->variable, launch->n_processes);
}

static int join(const char *verb, double deadline_s, bool silent, tdm_launched *l, tdm_error *err)
{
    if (tdm_world_open(deadline_s, &l->world, err) != TDM_OK)
        return l->launch.process == 0 ? tdm_cli_fail(err) : TDM_OK;
    l->quiet = tdm_world_shape_of(l->world)->process > 0;
    /* mpirun hands out a terminal of its own, whatever its output goes to. */
    setenv("NO_COLOR", "1", 1);
    if (!l->quiet && !silent)
        introduce(l, verb);
    return TDM_CLI_GO_ON;
}

/* What all refuse alike the first one says. The others end well: a launcher ends everybody as soon
 * as one does not, the one that is about to say why included. */
int tdm_launched_open(const char *verb, const char *transport, double deadline_s, bool silent,
                      tdm_launched *launched)
{
    tdm_launched l = {0};
    tdm_error *err = calloc(1, sizeof *err);
    int code = TDM_CLI_GO_ON;
    if (!err)
        return tdm_cli_complain(TDM_E_INTERNAL, "%s: out of memory", verb);
    bool several = false, by_mpi = false;
    if (tdm_launch_read(&l.launch, err) != TDM_OK)
        code = tdm_cli_fail(err);
    several = l.launch.n_processes > 1;
    by_mpi = l.launch.name && l.launch.launcher != TDM_LAUNCHED_BY_TORCHRUN;
    bool wants = strcmp(transport, "mpi") == 0 || (strcmp(transport, "auto") == 0 && by_mpi);
    if (code == TDM_CLI_GO_ON && several && (!wants || !by_mpi))
        code = l.launch.process == 0 ? refuse_alone(verb, &l.launch) : TDM_OK;
    if (code == TDM_CLI_GO_ON && wants)
        code = join(verb, deadline_s, silent, &l, err);
    free(err);
    if (code == TDM_CLI_GO_ON)
        *launched = l;
    return code;
}

int tdm_launched_fail(tdm_launched *l, const tdm_error *err)
{
    tdm_world_verdict verdict;
    tdm_code code = err->code != TDM_OK ? err->code : TDM_E_INTERNAL;
    if (!l->world)
        return tdm_cli_fail(err);
    if (err->n_messages == 0)
        return (int)code;
    const tdm_world_shape *shape = tdm_world_shape_of(l->world);
    bool counted = tdm_world_agree(l->world, code, err->text, &verdict);
    if (counted && verdict.alike)
        return l->quiet ? (int)code : tdm_cli_fail(err);
    fprintf(stderr, "tandem: process %u of %u on %s failed:\n", shape->process, shape->n_processes,
            shape->host);
    tdm_cli_fail(err);
    if (!counted) /* the others are under way: they would wait for this one */
        tdm_world_abort(l->world, (int)code);
    return (int)code;
}

int tdm_launched_ready(tdm_launched *l)
{
    tdm_world_verdict verdict;
    if (!l->world || !tdm_world_agree(l->world, TDM_OK, NULL, &verdict) || verdict.n_failed == 0)
        return TDM_CLI_GO_ON;
    return (int)verdict.code;
}

int tdm_launched_close(tdm_launched *l, int code)
{
    fflush(stdout);
    tdm_world_close(l->world);
    l->world = NULL;
    return code;
}
