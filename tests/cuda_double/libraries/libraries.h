/* libraries.h: doubles of the libraries beside CUDA's runtime, for tests alone: each stands in for
 * the file of backend/cuda/ that opens the library. */
#ifndef CUDA_DOUBLE_LIBRARIES_H
#define CUDA_DOUBLE_LIBRARIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Number i of an array of cuBLAS's type (blas_api.h). */
float double_number(int type, const void *data, size_t i);
void double_set_number(int type, void *data, size_t i, float value);

#endif
