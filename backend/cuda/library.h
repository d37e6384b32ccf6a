/* library.h: shared libraries that are opened when a run first needs them, so that the program
 * starts, and says what is missing, where they are not installed. Private to backend/cuda/. */
#ifndef TDM_CUDA_LIBRARY_H
#define TDM_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cuda_symbol {
    const char *name;
    size_t offset; /* of the table's member that becomes its address */
    bool optional; /* NULL where the library has none */
} cuda_symbol;

/* Opens the library and fills the table's members. False, with a line in problem [n_bytes], when it
 * does not open or lacks a function. */
bool cuda_library_open(const char *soname, const cuda_symbol *symbols, size_t n_symbols,
                       void *table, char *problem, size_t n_bytes);

#endif
