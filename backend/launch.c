/* launch.c: the variables of launchers. Sources: mpirun(1) of Open MPI 4.1, "Environmental
 * Variables"; MPICH's hydra, proxy/pmip_cb.c (PMI_RANK, PMI_SIZE, MPI_LOCALRANKID); srun(1),
 * "OUTPUT ENVIRONMENT VARIABLES"; torchrun's documentation, "Environment Variables". */
#include "launch.h"

#include <errno.h>
#include <stdlib.h>

typedef struct source {
    tdm_launcher launcher;
    const char *name, *process, *n_processes, *local;
} source;

static const source sources[] = {
    {TDM_LAUNCHED_BY_OPEN_MPI, "mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK"},
    {TDM_LAUNCHED_BY_PMI, "mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {TDM_LAUNCHED_BY_SLURM, "srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
    {TDM_LAUNCHED_BY_TORCHRUN, "torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"},
};

static tdm_code read_number(const char *name, const char *text, uint32_t *number, tdm_error *err)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > INT32_MAX)
        return tdm_error_add(err, TDM_E_INVALID, "%s='%s' is not a whole number from 0 on", name,
                             text);
    *number = (uint32_t)value;
    return TDM_OK;
}

/* Slurm sets its variables for the batch script itself, too: as task 0, outside any step. */
static bool is_batch_script(const source *s)
{
    return s->launcher == TDM_LAUNCHED_BY_SLURM && !getenv("SLURM_STEP_ID");
}

static const source *find_source(void)
{
    for (size_t i = 0; i < TDM_COUNT(sources); i++)
        if (getenv(sources[i].process) && getenv(sources[i].n_processes) &&
            !is_batch_script(&sources[i]))
            return &sources[i];
    return NULL;
}

tdm_code tdm_launch_read(tdm_launch *launch, tdm_error *err)
{
    const source *s = find_source();
    tdm_launch found = {.n_processes = 1, .local = -1};
    if (!s) {
        *launch = found;
        return TDM_OK;
    }
    found.launcher = s->launcher;
    found.name = s->name;
    found.variable = s->process;
    uint32_t local = 0;
    const char *local_text = getenv(s->local);
    tdm_code code = read_number(s->process, getenv(s->process), &found.process, err);
    if (code == TDM_OK)
        code = read_number(s->n_processes, getenv(s->n_processes), &found.n_processes, err);
    if (code == TDM_OK && local_text)
        code = read_number(s->local, local_text, &local, err);
    if (code != TDM_OK)
        return code;
    if (found.process >= found.n_processes)
        return tdm_error_add(err, TDM_E_INVALID, "%s=%u is not below %s=%u", s->process,
                             found.process, s->n_processes, found.n_processes);
    found.local = local_text ? (int)local : -1;
    found.master = s->launcher == TDM_LAUNCHED_BY_TORCHRUN ? getenv("MASTER_ADDR") : NULL;
    *launch = found;
    return TDM_OK;
}
