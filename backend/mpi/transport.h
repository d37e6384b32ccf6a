/* transport.h: ranks in several processes, connected by MPI: each process has the same number of
 * consecutive ranks. */
#ifndef TDM_MPI_TRANSPORT_H
#define TDM_MPI_TRANSPORT_H

#include "../executor.h"
#include "../world.h"

/* The number of processes must divide that of ranks. Fails on all processes alike, also when they
 * have different plans. */
tdm_code tdm_mpi_transport_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                                tdm_world *world, tdm_exec_transport *transport, tdm_error *err);
void tdm_mpi_transport_close(tdm_exec_transport *transport);

/* Most by which this process's clock may differ from that of process 0 once its offset is taken
 * off, over the steps so far: half the shortest round trip of a message. 0 on process 0's host. */
double tdm_mpi_uncertainty_s(const tdm_exec_transport *transport);

#endif
