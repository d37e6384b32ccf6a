/* simgrid_api.c: opens SimGrid at run time. */
#include "simgrid_api.h"

#include "core/base.h"

#include <dlfcn.h>
#include <simgrid/version.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
/* The version whose headers we were compiled with: Debian's shared object carries it in its name.
 */
#define LIBRARY "libsimgrid.so." TEXT(SIMGRID_VERSION_MAJOR) "." TEXT(SIMGRID_VERSION_MINOR)

typedef struct symbol {
    const char *name;
    size_t offset; /* of the pointer in tdm_simgrid */
} symbol;

#define SYMBOL(prefix, member)                                                                     \
    {                                                                                              \
        prefix #member, offsetof(tdm_simgrid, member)                                              \
    }

static const symbol symbols[] = {
    SYMBOL("simgrid_", init),         SYMBOL("simgrid_", load_platform),
    SYMBOL("simgrid_", run),          SYMBOL("simgrid_", get_clock),
    SYMBOL("sg_", host_by_name),      SYMBOL("sg_", host_sendto),
    SYMBOL("sg_", link_by_name),      SYMBOL("sg_", link_set_bandwidth),
    SYMBOL("sg_", actor_init),        SYMBOL("sg_", actor_start_),
    SYMBOL("sg_", actor_set_data),    SYMBOL("sg_", actor_self_get_data),
    SYMBOL("sg_", actor_sleep_until), SYMBOL("sg_", barrier_init),
    SYMBOL("sg_", barrier_wait),      SYMBOL("sg_", sem_init),
    SYMBOL("sg_", sem_acquire),       SYMBOL("sg_", sem_release),
};

/* POSIX lets a function's address travel in a void pointer; C does not let it be assigned. */
static bool fill(void *library, tdm_simgrid *api, char *problem, size_t n_bytes)
{
    for (size_t i = 0; i < TDM_COUNT(symbols); i++) {
        void *address = dlsym(library, symbols[i].name);
        if (!address) {
            snprintf(problem, n_bytes, "%s has no function %s", LIBRARY, symbols[i].name);
            return false;
        }
        memcpy((char *)api + symbols[i].offset, &address, sizeof address);
    }
    return true;
}

const tdm_simgrid *tdm_simgrid_open(char *problem, size_t n_bytes)
{
    /* One library per process, and actors get no argument through which to find its functions:
     * the one mutable global, written once. */
    static tdm_simgrid api;
    if (api.init)
        return &api;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(problem, n_bytes, "%s", dlerror());
        return NULL;
    }
    tdm_simgrid found = {0};
    if (!fill(library, &found, problem, n_bytes))
        return NULL;
    api = found;
    return &api;
}
