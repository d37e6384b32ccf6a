/* blas_api.c: opens OpenBLAS at run time. */
#include "blas_api.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The soname of every OpenBLAS with 32-bit indices since 0.2. */
static const char LIBRARY[] = "libopenblas.so.0";

/* POSIX lets a function's address travel in a void pointer; C does not let it be assigned. */
static bool find(void *library, const char *name, void *function, char *problem, size_t n_bytes)
{
    void *address = dlsym(library, name);
    if (address)
        memcpy(function, &address, sizeof address);
    else
        snprintf(problem, n_bytes, "%s has no function %s", LIBRARY, name);
    return address != NULL;
}

const host_blas *host_blas_open(char *problem, size_t n_bytes)
{
    /* One library per process: a mutable global, written once. */
    static host_blas api;
    if (api.sgemm)
        return &api;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(problem, n_bytes, "%s", dlerror());
        return NULL;
    }
    host_blas found = {0};
    if (!find(library, "cblas_sgemm", &found.sgemm, problem, n_bytes) ||
        !find(library, "openblas_set_num_threads", &found.set_num_threads, problem, n_bytes))
        return NULL;
    api = found;
    return &api;
}
