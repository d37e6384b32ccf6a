/* support.c: arrays, and how far they are from what is expected. */
#include "kernels.h"

#include <stdio.h>

cudaStream_t stream;

static struct {
    uint64_t shift, seed;
} all = {.seed = 1};

typedef struct worst {
    char what[64];
    double error[N_TYPES];
} worst;

enum { MOST_KINDS = 96 };
static worst worsts[MOST_KINDS];
static int n_worsts;

void check(cudaError_t error)
{
    if (error != cudaSuccess)
        print_error("%s: %s\n", cudaGetErrorName(error), cudaGetErrorString(error));
    assert_int_equal(error, cudaSuccess);
}

/* ---- numbers ---- */

void set_shift(uint64_t numbers)
{
    all.shift = numbers;
}

void set_seed(uint64_t seed)
{
    all.seed = seed;
}

/* Source: Steele, Lea, Flood 2014, SplitMix64. */
static uint64_t next(void)
{
    uint64_t z = all.seed += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

double draw(double low, double high)
{
    return low + (high - low) * (double)(next() >> 11) / 9007199254740992.0;
}

uint64_t draw_below(uint64_t n)
{
    return next() % n;
}

static size_t size_of(tdm_cuda_type type)
{
    return type == TDM_CUDA_FP32 ? 4 : 2;
}

/* To nearest, ties to even, with so many bits behind the first and no number below 2^least. */
static double round_to(double x, int bits, int least)
{
    int exponent;
    if (x == 0 || !isfinite(x))
        return x;
    frexp(x, &exponent);
    int unit = exponent - 1 - bits;
    if (unit < least)
        unit = least;
    return ldexp(rint(ldexp(x, -unit)), unit);
}

double rounded(tdm_cuda_type type, double x)
{
    if (type == TDM_CUDA_FP32)
        return (double)(float)x;
    return type == TDM_CUDA_BF16 ? round_to(x, 7, -133) : round_to(x, 10, -24);
}

static void encode(tdm_cuda_type type, double x, char *to)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if (type == TDM_CUDA_FP32) {
        memcpy(to, &u, sizeof u);
        return;
    }
    uint16_t half = (uint16_t)(u >> 16);
    if (type == TDM_CUDA_FP16) {
        int exponent;
        double fraction = frexp(fabs(x), &exponent);
        uint32_t bits = 0;
        if (x != 0 && exponent < -13)
            bits = (uint32_t)ldexp(fabs(x), 24);
        else if (x != 0)
            bits = (uint32_t)(exponent + 14) << 10 | ((uint32_t)(fraction * 2048) & 0x3FF);
        half = (uint16_t)(bits | (x < 0 ? 0x8000u : 0));
    }
    memcpy(to, &half, sizeof half);
}

static double decode(tdm_cuda_type type, const char *from)
{
    uint16_t half;
    uint32_t u;
    float f;
    if (type == TDM_CUDA_FP16) {
        memcpy(&half, from, sizeof half);
        int exponent = half >> 10 & 0x1F, fraction = half & 0x3FF;
        double x = exponent == 31  ? (fraction ? (double)NAN : (double)INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(1024 + fraction, exponent - 25);
        return half & 0x8000 ? -x : x;
    }
    if (type == TDM_CUDA_BF16) {
        memcpy(&half, from, sizeof half);
        u = (uint32_t)half << 16;
    } else {
        memcpy(&u, from, sizeof u);
    }
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

/* ---- arrays ---- */

double *zeros(uint64_t count)
{
    double *x = calloc(count > 0 ? count : 1, sizeof *x);
    assert_non_null(x);
    return x;
}

array new_array(tdm_cuda_type type, uint64_t count)
{
    array a = {.count = count, .type = type, .x = zeros(count)};
    void *base = NULL;
    check(cudaMalloc(&base, (count + all.shift + 1) * size_of(type)));
    a.base = base;
    a.data = a.base + all.shift * size_of(type);
    return a;
}

static void write_array(array *a)
{
    char *bytes = malloc(a->count * size_of(a->type) + 1);
    assert_non_null(bytes);
    for (uint64_t i = 0; i < a->count; i++)
        encode(a->type, a->x[i], bytes + i * size_of(a->type));
    check(cudaMemcpyAsync(a->data, bytes, a->count * size_of(a->type), cudaMemcpyHostToDevice,
                          stream));
    check(cudaStreamSynchronize(stream));
    free(bytes);
}

array array_of(tdm_cuda_type type, uint64_t count, const double *x)
{
    array a = new_array(type, count);
    for (uint64_t i = 0; i < count; i++)
        a.x[i] = rounded(type, x[i]);
    write_array(&a);
    return a;
}

array random_array(tdm_cuda_type type, uint64_t count, double low, double high)
{
    array a = new_array(type, count);
    for (uint64_t i = 0; i < count; i++)
        a.x[i] = rounded(type, draw(low, high));
    write_array(&a);
    return a;
}

array zero_array(tdm_cuda_type type, uint64_t count)
{
    array a = new_array(type, count);
    write_array(&a);
    return a;
}

void drop_array(array *a)
{
    check(cudaFree(a->base));
    free(a->x);
}

void read_array(array *a)
{
    char *bytes = malloc(a->count * size_of(a->type) + 1);
    assert_non_null(bytes);
    check(cudaMemcpyAsync(bytes, a->data, a->count * size_of(a->type), cudaMemcpyDeviceToHost,
                          stream));
    check(cudaStreamSynchronize(stream));
    for (uint64_t i = 0; i < a->count; i++)
        a->x[i] = decode(a->type, bytes + i * size_of(a->type));
    free(bytes);
}

void *device_bytes(const void *from, uint64_t bytes)
{
    void *data = NULL;
    check(cudaMalloc(&data, bytes > 0 ? bytes : 1));
    if (from && bytes > 0)
        check(cudaMemcpyAsync(data, from, bytes, cudaMemcpyHostToDevice, stream));
    check(cudaStreamSynchronize(stream));
    return data;
}

void read_bytes(void *to, const void *device, uint64_t bytes)
{
    check(cudaMemcpyAsync(to, device, bytes, cudaMemcpyDeviceToHost, stream));
    check(cudaStreamSynchronize(stream));
}

void drop_bytes(void *device)
{
    check(cudaFree(device));
}

/* ---- comparisons ---- */

static void keep(const char *what, tdm_cuda_type type, double error)
{
    int i = 0;
    while (i < n_worsts && strcmp(worsts[i].what, what) != 0)
        i++;
    if (i == MOST_KINDS)
        return;
    if (i == n_worsts) {
        snprintf(worsts[i].what, sizeof worsts[i].what, "%s", what);
        n_worsts++;
    }
    if (error > worsts[i].error[type])
        worsts[i].error[type] = error;
}

void expect_within(const char *what, array *a, const double *expected, double tolerance)
{
    double difference = 0, norm = 0;
    read_array(a);
    for (uint64_t i = 0; i < a->count; i++) {
        double d = a->x[i] - expected[i];
        difference += d * d;
        norm += expected[i] * expected[i];
    }
    double error = norm > 0 ? sqrt(difference / norm) : sqrt(difference);
    if (!(error <= tolerance)) {
        uint64_t worst_place = 0;
        for (uint64_t i = 0; i < a->count; i++)
            if (!(fabs(a->x[i] - expected[i]) <= fabs(a->x[worst_place] - expected[worst_place])))
                worst_place = i;
        print_error("%s of type %d: error %g is above %g; worst of %llu at %llu: %g instead of "
                    "%g\n",
                    what, (int)a->type, error, tolerance, (unsigned long long)a->count,
                    (unsigned long long)worst_place, a->x[worst_place], expected[worst_place]);
        fail();
    }
    keep(what, a->type, error);
}

void expect_close(const char *what, array *a, const double *expected)
{
    static const double tolerances[N_TYPES] = {1e-2, 1.25e-3, 1e-5};
    expect_within(what, a, expected, tolerances[a->type]);
}

void report_errors(void)
{
    printf("largest relative errors          bf16     fp16     fp32\n");
    for (int i = 0; i < n_worsts; i++)
        printf("  %-28s %8.1e %8.1e %8.1e\n", worsts[i].what, worsts[i].error[TDM_CUDA_BF16],
               worsts[i].error[TDM_CUDA_FP16], worsts[i].error[TDM_CUDA_FP32]);
}
