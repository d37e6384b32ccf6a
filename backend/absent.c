/* absent.c: stands in for the host device where OpenBLAS is not installed. */
#include "host/host.h"
#include "host/machine.h"

#include <math.h>

const char *tdm_host_absent(void)
{
    return "the host device needs OpenBLAS, which was not found at build time; install it "
           "(apt-get install libopenblas-dev), build again, or use --device paced";
}

tdm_code tdm_host_check(const tdm_plan *plan, tdm_error *err)
{
    (void)plan;
    return tdm_error_add(err, TDM_E_INVALID, "%s", tdm_host_absent());
}

tdm_code tdm_host_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                       uint32_t n_steps, tdm_watch *watch, void *context, tdm_host **host,
                       tdm_exec_device *device, tdm_error *err)
{
    (void)arena;
    (void)programs;
    (void)n_steps;
    (void)watch;
    (void)context;
    (void)host;
    (void)device;
    return tdm_host_check(plan, err);
}

double tdm_host_loss(const tdm_host *host, uint32_t step)
{
    (void)host;
    (void)step;
    return NAN;
}

double tdm_host_grad_norm(const tdm_host *host, uint32_t step)
{
    return tdm_host_loss(host, step);
}

double *tdm_host_losses(tdm_host *host, uint32_t rank)
{
    (void)host;
    (void)rank;
    return NULL;
}

double *tdm_host_grad_norms(tdm_host *host, uint32_t rank)
{
    return tdm_host_losses(host, rank);
}

tdm_host_dump *tdm_host_dump_new(tdm_arena *arena, const tdm_plan *plan, uint32_t n_steps)
{
    (void)arena;
    (void)plan;
    (void)n_steps;
    return NULL;
}

void tdm_host_dump_take(void *context, const tdm_piece *piece)
{
    (void)context;
    (void)piece;
}

tdm_code tdm_host_dump_write(tdm_host_dump *dump, const tdm_host *host, const char *folder,
                             tdm_error *err)
{
    (void)dump;
    (void)host;
    (void)folder;
    return tdm_host_check(NULL, err);
}

tdm_code tdm_host_measure(tdm_arena *arena, bool quick, tdm_host_machine *machine, tdm_error *err)
{
    (void)arena;
    (void)quick;
    (void)machine;
    return tdm_error_add(err, TDM_E_INVALID, "%s", tdm_host_absent());
}

uint32_t tdm_host_n_cores(void)
{
    return 1;
}

tdm_host_reading tdm_host_read_load(void)
{
    return (tdm_host_reading){0};
}

double tdm_host_other_load(const tdm_host_reading *before, const tdm_host_reading *after)
{
    (void)before;
    (void)after;
    return 0;
}
