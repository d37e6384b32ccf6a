/* mpi_api.c: opens Open MPI at run time. */
#include "mpi_api.h"

#include "../../core/base.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The soname of every Open MPI from 3 to 5. */
static const char LIBRARY[] = "libmpi.so.40";

typedef struct name {
    const char *symbol;
    size_t offset; /* of the member: a pointer, to a function or to an object */
} name;

#define FUNCTION(member)                                                                           \
    {                                                                                              \
        "MPI_" #member, offsetof(mpi_api, member)                                                  \
    }

static const name names[] = {
    FUNCTION(Init_thread),
    FUNCTION(Finalize),
    FUNCTION(Abort),
    FUNCTION(Comm_rank),
    FUNCTION(Comm_size),
    FUNCTION(Comm_dup),
    FUNCTION(Comm_free),
    FUNCTION(Comm_split_type),
    FUNCTION(Comm_get_attr),
    FUNCTION(Comm_set_errhandler),
    FUNCTION(Error_string),
    FUNCTION(Get_library_version),
    FUNCTION(Get_processor_name),
    FUNCTION(Isend),
    FUNCTION(Irecv),
    FUNCTION(Testall),
    FUNCTION(Iprobe),
    FUNCTION(Get_count),
    FUNCTION(Ibarrier),
    FUNCTION(Ibcast),
    FUNCTION(Iallreduce),
    FUNCTION(Iallgather),
    /* Source: mpi.h of Open MPI, OMPI_PREDEFINED_GLOBAL: the object's address is the handle. */
    {"ompi_mpi_comm_world", offsetof(mpi_api, comm_world)},
    {"ompi_mpi_byte", offsetof(mpi_api, type_byte)},
    {"ompi_mpi_float", offsetof(mpi_api, type_float)},
    {"ompi_mpi_double", offsetof(mpi_api, type_double)},
    {"ompi_mpi_op_max", offsetof(mpi_api, op_max)},
    {"ompi_mpi_info_null", offsetof(mpi_api, info_null)},
    {"ompi_mpi_errors_return", offsetof(mpi_api, errors_return)},
    {"ompi_request_null", offsetof(mpi_api, request_null)},
};

const mpi_api *mpi_api_open(char *problem, size_t n_bytes)
{
    /* One library per process: a mutable global, written once. */
    static mpi_api api;
    if (api.Init_thread)
        return &api;
    /* GLOBAL: Open MPI's own plug-ins look for its names. */
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        snprintf(problem, n_bytes, "%s", dlerror());
        return NULL;
    }
    mpi_api found;
    for (size_t i = 0; i < TDM_COUNT(names); i++) {
        void *address = dlsym(library, names[i].symbol);
        if (!address) {
            snprintf(problem, n_bytes, "%s has no %s", LIBRARY, names[i].symbol);
            return NULL;
        }
        /* POSIX lets a function's address travel in a void pointer; C does not let it be
         * assigned. */
        memcpy((char *)&found + names[i].offset, &address, sizeof address);
    }
    api = found;
    return &api;
}
