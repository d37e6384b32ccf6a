/* main.c: all tests of the kernels, on whatever carries out CUDA's runtime. */
#include "kernels.h"

#include <stdio.h>

static int open_stream(void **state)
{
    (void)state;
    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? 0 : -1;
}

static int close_stream(void **state)
{
    (void)state;
    return cudaStreamDestroy(stream) == cudaSuccess ? 0 : -1;
}

int main(void)
{
    enum { SKIPPED = 77 };
    const struct {
        const char *name;
        const struct CMUnitTest *tests;
        size_t n;
    } groups[] = {
        {"rows", row_tests, n_row_tests},
        {"norms", norm_tests, n_norm_tests},
        {"attention", attention_tests, n_attention_tests},
        {"experts", expert_tests, n_expert_tests},
        {"step", step_tests, n_step_tests},
    };
    int n = 0, n_failed = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess || n == 0) {
        printf("skipped: no GPU: %s\n", cudaGetErrorString(error));
        return SKIPPED;
    }
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        n_failed += _cmocka_run_group_tests(groups[i].name, groups[i].tests, groups[i].n,
                                            open_stream, close_stream);
    report_errors();
    return n_failed > 0;
}
