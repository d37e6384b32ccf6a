/* absent.c: stands in for MPI where it was not found at build time. */
#include "transport.h"

const char *tdm_mpi_missing(void)
{
    return "the mpi transport needs Open MPI, which was not found at build time; install it "
           "(apt-get install libopenmpi-dev openmpi-bin), build again, or use --transport threads";
}

static tdm_code refuse(tdm_error *err)
{
    return tdm_error_add(err, TDM_E_INVALID, "%s", tdm_mpi_missing());
}

tdm_code tdm_world_open(double deadline_s, tdm_world **world, tdm_error *err)
{
    (void)deadline_s;
    (void)world;
    return refuse(err);
}

void tdm_world_close(tdm_world *world)
{
    (void)world;
}

void tdm_world_abort(tdm_world *world, int exit_code)
{
    (void)world;
    (void)exit_code;
}

const tdm_world_shape *tdm_world_shape_of(const tdm_world *world)
{
    (void)world;
    static const tdm_world_shape alone = {.n_processes = 1, .n_on_host = 1, .n_hosts = 1};
    return &alone;
}

bool tdm_world_agree(tdm_world *world, tdm_code own, const char *what, tdm_world_verdict *verdict)
{
    (void)world;
    (void)own;
    (void)what;
    (void)verdict;
    return false;
}

tdm_code tdm_world_largest(tdm_world *world, double *values, uint32_t n, tdm_error *err)
{
    (void)world;
    (void)values;
    (void)n;
    return refuse(err);
}

tdm_code tdm_world_share(tdm_world *world, uint32_t from, void *data, uint64_t n_bytes,
                         tdm_error *err)
{
    (void)world;
    (void)from;
    (void)data;
    (void)n_bytes;
    return refuse(err);
}

tdm_code tdm_world_send(tdm_world *world, uint32_t to, const void *data, uint64_t n_bytes,
                        tdm_error *err)
{
    (void)world;
    (void)to;
    (void)data;
    (void)n_bytes;
    return refuse(err);
}

tdm_code tdm_world_take(tdm_arena *arena, tdm_world *world, uint32_t *from, char **data,
                        uint64_t *n_bytes, tdm_error *err)
{
    (void)arena;
    (void)world;
    (void)from;
    (void)data;
    (void)n_bytes;
    return refuse(err);
}

tdm_code tdm_mpi_transport_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                                tdm_world *world, tdm_exec_transport *transport, tdm_error *err)
{
    (void)arena;
    (void)plan;
    (void)programs;
    (void)world;
    (void)transport;
    return refuse(err);
}

void tdm_mpi_transport_close(tdm_exec_transport *transport)
{
    (void)transport;
}

double tdm_mpi_uncertainty_s(const tdm_exec_transport *transport)
{
    (void)transport;
    return 0;
}
