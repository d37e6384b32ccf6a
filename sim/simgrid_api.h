/* simgrid_api.h: the few functions of SimGrid's C API that the engine calls, found when it first
 * needs them. Opening SimGrid at run time keeps its start-up (about 30 ms and 32 MB) out of every
 * command that does not simulate, and lets the program start where SimGrid is not installed. */
#ifndef TDM_SIM_SIMGRID_API_H
#define TDM_SIM_SIMGRID_API_H

#include <simgrid/actor.h>
#include <simgrid/barrier.h>
#include <simgrid/engine.h>
#include <simgrid/host.h>
#include <simgrid/link.h>
#include <simgrid/semaphore.h>

/* Member NAME is the function sg_NAME or simgrid_NAME; see SimGrid's headers. */
typedef struct tdm_simgrid {
    void (*init)(int *argc, char **argv);
    void (*load_platform)(const char *path);
    void (*run)(void);
    double (*get_clock)(void);
    sg_host_t (*host_by_name)(const char *name);
    void (*host_sendto)(sg_host_t from, sg_host_t to, double bytes);
    sg_link_t (*link_by_name)(const char *name);
    void (*link_set_bandwidth)(sg_link_t link, double bytes_per_s);
    sg_actor_t (*actor_init)(const char *name, sg_host_t host);
    void (*actor_start_)(sg_actor_t actor, xbt_main_func_t code, int argc, const char *const *argv);
    void (*actor_set_data)(sg_actor_t actor, void *data);
    void *(*actor_self_get_data)(void);
    void (*actor_sleep_until)(double wakeup_s);
    sg_bar_t (*barrier_init)(unsigned count);
    int (*barrier_wait)(sg_bar_t barrier);
    sg_sem_t (*sem_init)(int value);
    void (*sem_acquire)(sg_sem_t semaphore);
    void (*sem_release)(sg_sem_t semaphore);
} tdm_simgrid;

/* Opens the library on the first call. NULL when it is missing or lacks a function; `problem`
 * [n_bytes] then says what. */
const tdm_simgrid *tdm_simgrid_open(char *problem, size_t n_bytes);

#endif
