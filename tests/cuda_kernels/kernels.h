/* kernels.h: what the tests of the kernels share: arrays on both sides, and comparisons. References
 * are computed in double precision from the numbers that the device holds, rounded as they are. */
#ifndef TEST_CUDA_KERNELS_H
#define TEST_CUDA_KERNELS_H

#include "../../backend/cuda/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_TYPES = 3 };

/* Numbers on the device, `shift` numbers behind an aligned address, and what they are. */
typedef struct array {
    char *base, *data;
    double *x; /* [count] */
    uint64_t count;
    tdm_cuda_type type;
} array;

/* Of all arrays made from now on. */
void set_shift(uint64_t numbers);
void set_seed(uint64_t seed);
/* Even in [low, high). */
double draw(double low, double high);
uint64_t draw_below(uint64_t n);

array random_array(tdm_cuda_type type, uint64_t count, double low, double high);
array array_of(tdm_cuda_type type, uint64_t count, const double *x);
/* Without contents, or with zeros. */
array new_array(tdm_cuda_type type, uint64_t count);
array zero_array(tdm_cuda_type type, uint64_t count);
void drop_array(array *a);
/* Waits for the stream and reads the device's numbers into x. */
void read_array(array *a);
double rounded(tdm_cuda_type type, double x);

/* Bytes of other kinds. */
void *device_bytes(const void *from, uint64_t bytes); /* from NULL: without contents */
void read_bytes(void *to, const void *device, uint64_t bytes);
void drop_bytes(void *device);

extern cudaStream_t stream;
void check(cudaError_t error);

/* The array holds what is expected to the type's precision, as a norm of the difference relative to
 * that of what is expected; the largest of each kernel is kept for the end. */
void expect_close(const char *what, array *a, const double *expected);
/* The same with a tolerance of the caller's. */
void expect_within(const char *what, array *a, const double *expected, double tolerance);
void report_errors(void);

double *zeros(uint64_t count);

extern const struct CMUnitTest row_tests[], norm_tests[], attention_tests[], expert_tests[],
    step_tests[];
extern const size_t n_row_tests, n_norm_tests, n_attention_tests, n_expert_tests, n_step_tests;

#endif
