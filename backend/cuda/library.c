/* library.c: opening shared libraries, see library.h. */
#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool cuda_library_open(const char *soname, const cuda_symbol *symbols, size_t n_symbols,
                       void *table, char *problem, size_t n_bytes)
{
    void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(problem, n_bytes, "%s", dlerror());
        return false;
    }
    for (size_t i = 0; i < n_symbols; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (!address && !symbols[i].optional) {
            snprintf(problem, n_bytes, "%s has no function %s", soname, symbols[i].name);
            return false;
        }
        /* POSIX lets a function's address travel in a void pointer; C does not let it be
         * assigned. */
        memcpy((char *)table + symbols[i].offset, &address, sizeof address);
    }
    return true;
}
