/* launch.h: who started this process, and how many others beside it: the variables that mpirun,
 * srun and torchrun set. Reads the environment only. */
#ifndef TDM_LAUNCH_H
#define TDM_LAUNCH_H

#include "../core/base.h"

typedef enum tdm_launcher {
    TDM_LAUNCHED_ALONE,
    TDM_LAUNCHED_BY_OPEN_MPI, /* OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK: Open MPI's mpirun */
    TDM_LAUNCHED_BY_PMI,      /* PMI_RANK, PMI_SIZE, MPI_LOCALRANKID: mpirun of MPICH, Intel MPI */
    TDM_LAUNCHED_BY_SLURM,    /* SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID: srun */
    TDM_LAUNCHED_BY_TORCHRUN  /* RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR */
} tdm_launcher;

typedef struct tdm_launch {
    tdm_launcher launcher;
    const char *name;     /* "mpirun", "srun", "torchrun"; NULL: started alone */
    const char *variable; /* that gave it away: "OMPI_COMM_WORLD_RANK"; NULL */
    uint32_t process, n_processes;
    int local;          /* number on its host; -1: not said */
    const char *master; /* torchrun's MASTER_ADDR; NULL: not said */
} tdm_launch;

/* From the first launcher in the order above whose variables are there. A batch script of Slurm has
 * srun's variables too, but no step of its own: it counts as alone. Fails (INVALID) when a variable
 * is no number or the numbers do not fit each other; the message names variable and value. */
tdm_code tdm_launch_read(tdm_launch *launch, tdm_error *err);

#endif
