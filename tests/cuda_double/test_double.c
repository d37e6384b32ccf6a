/* test_double.c: the double carries out what CUDA would, and finds the faults that it promises to.
 */
#include "double.h"
#include "faulty.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = FAULTY_THREADS, BYTES = N * sizeof(int) };

static cudaStream_t streams[2];
static int *a, *b; /* [N] on the device; a is filled */

static void ok(cudaError_t error)
{
    assert_string_equal(cudaGetErrorName(error), "cudaSuccess");
}

/* The fault, if any, that all that was enqueued had. */
static void expect_fault(const char *words)
{
    char text[4096] = "";
    cudaError_t error = cudaDeviceSynchronize();
    unsigned n = cuda_double_faults(text, sizeof text);
    assert_int_equal(error, words ? cudaErrorLaunchFailure : cudaSuccess);
    assert_int_equal(n > 0, words != NULL);
    if (words && !strstr(text, words))
        fail_msg("'%s' is not in: %s", words, text);
}

static int set_up(void **state)
{
    (void)state;
    int from[N];
    for (int i = 0; i < N; i++)
        from[i] = i;
    for (int i = 0; i < 2; i++)
        ok(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
    ok(cudaMalloc((void **)&a, BYTES));
    ok(cudaMalloc((void **)&b, BYTES));
    ok(cudaMemcpy(a, from, BYTES, cudaMemcpyHostToDevice));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cuda_double_order(0);
    cuda_double_check_threads(false);
    for (int i = 0; i < 2; i++)
        ok(cudaStreamDestroy(streams[i]));
    ok(cudaFree(a));
    ok(cudaFree(b));
    return 0;
}

/* ---- what CUDA would do ---- */

static void expect_b(int first, int step)
{
    int to[N];
    ok(cudaMemcpy(to, b, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_int_equal(to[i], first + i * step);
}

static void test_order_by_event(void **state)
{
    (void)state;
    cudaEvent_t event, other;
    ok(cudaEventCreate(&event));
    ok(cudaEventCreate(&other));
    for (int round = 0; round < 50; round++) {
        ok(faulty_increment(streams[0], a, b, N));
        ok(cudaEventRecord(event, streams[0]));
        ok(cudaStreamWaitEvent(streams[1], event, 0));
        ok(faulty_increment(streams[1], b, b, N));
        ok(cudaEventRecord(other, streams[1]));
        ok(cudaStreamWaitEvent(streams[0], other, 0));
    }
    ok(cudaEventSynchronize(other));
    expect_b(2, 1);
    float ms = -1;
    ok(cudaEventElapsedTime(&ms, event, other));
    assert_true(ms >= 0);
    ok(cudaEventDestroy(event));
    ok(cudaEventDestroy(other));
    expect_fault(NULL);
}

static void test_order_by_host(void **state)
{
    (void)state;
    ok(faulty_increment(streams[0], a, b, N));
    ok(cudaStreamSynchronize(streams[0]));
    ok(faulty_increment(streams[1], b, b, N));
    ok(cudaStreamSynchronize(streams[1]));
    expect_b(2, 1);
    expect_fault(NULL);
}

static void test_copies(void **state)
{
    (void)state;
    int from[N], to[N];
    for (int i = 0; i < N; i++)
        from[i] = 3 * i;
    ok(cudaMemcpyAsync(a, from, BYTES, cudaMemcpyHostToDevice, streams[0]));
    memset(from, 0, sizeof from); /* pageable: was taken at once */
    ok(cudaMemcpyAsync(b, a, BYTES, cudaMemcpyDeviceToDevice, streams[0]));
    ok(cudaMemcpyAsync(to, b, BYTES, cudaMemcpyDeviceToHost, streams[0]));
    ok(cudaStreamSynchronize(streams[0]));
    for (int i = 0; i < N; i++)
        assert_int_equal(to[i], 3 * i);
    ok(cudaMemsetAsync(b, 1, BYTES, streams[0]));
    ok(cudaStreamSynchronize(streams[0]));
    expect_b(0x01010101, 0);
    assert_int_equal(cudaMemcpy(to, b, BYTES, cudaMemcpyHostToDevice),
                     cudaErrorInvalidMemcpyDirection);
    expect_fault(NULL);
}

static void test_memory(void **state)
{
    (void)state;
    size_t before, after, total;
    void *large = NULL;
    ok(cudaMemGetInfo(&before, &total));
    ok(cudaMalloc(&large, 1 << 20));
    ok(cudaMemGetInfo(&after, &total));
    assert_int_equal(before - after, 1 << 20);
    ok(cudaFree(large));
    assert_int_equal(cudaMalloc(&large, total + 1), cudaErrorMemoryAllocation);
    assert_null(large);
    assert_int_equal(cudaFree(&total), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

static void test_warp(void **state)
{
    (void)state;
    unsigned to[3 * N], *device;
    for (uint64_t order = 0; order < 3; order++) {
        cuda_double_order(order);
        ok(cudaMalloc((void **)&device, sizeof to));
        ok(faulty_warp(streams[0], device));
        ok(cudaStreamSynchronize(streams[0]));
        ok(cudaMemcpy(to, device, sizeof to, cudaMemcpyDeviceToHost));
        for (unsigned i = 0; i < N; i++) {
            assert_int_equal(to[i], i < 32 ? 496 : 496 + 1024);
            assert_int_equal(to[N + i], 0xAAAAAAAA);
            unsigned first = i % 32 / 3 * 3, n = first == 30 ? 2 : 3;
            assert_int_equal(to[2 * N + i], ((1u << n) - 1) << first);
        }
        ok(cudaFree(device));
    }
    expect_fault(NULL);
}

static void test_shared(void **state)
{
    (void)state;
    cuda_double_check_threads(true);
    for (uint64_t order = 0; order < 3; order++) {
        cuda_double_order(order);
        ok(faulty_reverse(streams[0], a, b, 1, BYTES));
        ok(cudaStreamSynchronize(streams[0]));
        expect_b(N - 1, -1);
    }
    ok(faulty_swap(streams[0], a, b, 1));
    expect_fault(NULL);
    assert_int_equal(faulty_reverse(streams[0], a, b, 1, 49 * 1024), cudaErrorInvalidValue);
}

static void test_later(void **state)
{
    (void)state;
    int to[N];
    ok(faulty_later(streams[0], a, b, 1));
    ok(cudaStreamSynchronize(streams[0]));
    ok(cudaMemcpy(to, b, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_int_equal(to[i], i < 4 ? 0 : i); /* the first was not there */
    ok(faulty_later(streams[0], a, b, 0));
    ok(cudaStreamSynchronize(streams[0]));
    ok(cudaMemcpy(to, b, BYTES, cudaMemcpyDeviceToHost));
    assert_int_equal(to[N - 1], -1); /* what shared memory starts with */
    expect_fault(NULL);
}

/* ---- faults ---- */

static void test_outside(void **state)
{
    (void)state;
    ok(faulty_increment(streams[0], a, b, N + 1));
    expect_fault("outside of any allocation");
    ok(faulty_reverse(streams[0], a, b, 1, BYTES - 1));
    expect_fault("behind the block's shared memory");
    static int host[N];
    int *heap = malloc(BYTES);
    ok(faulty_increment(streams[0], heap, b, N));
    expect_fault("of the host's memory");
    ok(faulty_increment(streams[0], a, host, N));
    expect_fault("of the host's memory");
    free(heap);
}

static void test_unwritten(void **state)
{
    (void)state;
    ok(faulty_increment(streams[0], b, a, N));
    expect_fault("which nobody wrote");
}

static void test_unaligned(void **state)
{
    (void)state;
    ok(faulty_wide(streams[0], a, b));
    expect_fault(NULL);
    ok(faulty_wide(streams[0], a + 1, b));
    expect_fault("not aligned");
}

/* Whatever the two threads' timing. */
static void test_missing_event(void **state)
{
    (void)state;
    ok(faulty_increment(streams[0], a, b, N));
    ok(faulty_increment(streams[1], b, a, N));
    expect_fault("nothing puts them in order");
    ok(faulty_increment(streams[0], a, b, N));
    ok(cudaMemsetAsync(b, 0, BYTES, streams[1]));
    expect_fault("another stream");
    /* An event of before is not enough. */
    cudaEvent_t event;
    ok(cudaEventCreate(&event));
    ok(cudaEventRecord(event, streams[0]));
    ok(faulty_increment(streams[0], a, b, N));
    ok(cudaStreamWaitEvent(streams[1], event, 0));
    ok(cudaMemsetAsync(a, 0, BYTES, streams[1]));
    expect_fault("which another stream reads");
    ok(cudaEventDestroy(event));
}

static void test_missing_barrier(void **state)
{
    (void)state;
    cuda_double_check_threads(true);
    ok(faulty_reverse(streams[0], a, b, 0, BYTES));
    expect_fault("no barrier puts them in order");
    ok(faulty_swap(streams[0], a, b, 0));
    expect_fault("no barrier puts them in order");
}

static void test_blocks(void **state)
{
    (void)state;
    cuda_double_check_threads(true);
    unsigned *sum = (unsigned *)(void *)a;
    ok(faulty_blocks(streams[0], sum, 1));
    expect_fault(NULL);
    ok(faulty_blocks(streams[0], sum, 0));
    expect_fault("no barrier puts them in order");
}

static void test_deadlock(void **state)
{
    (void)state;
    ok(faulty_diverge(streams[0]));
    expect_fault("cannot go on");
}

/* A fault ends all: what comes later is refused, until the test has taken note. */
static void test_sticky(void **state)
{
    (void)state;
    ok(faulty_increment(streams[0], a, b, N + 1));
    assert_int_equal(cudaStreamSynchronize(streams[0]), cudaErrorLaunchFailure);
    assert_int_equal(faulty_increment(streams[0], a, b, N), cudaErrorLaunchFailure);
    expect_fault("outside of any allocation");
    ok(faulty_increment(streams[0], a, b, N));
    ok(cudaStreamSynchronize(streams[0]));
    expect_b(1, 1);
}

/* ---- functions of other libraries ---- */

static void touch_b(void *data)
{
    cuda_double_touch(b, BYTES, data != NULL);
}

static void publish(void *clock)
{
    cuda_double_publish(clock);
}

static void learn(void *clock)
{
    cuda_double_learn(clock);
}

static void test_functions(void **state)
{
    (void)state;
    int writes = 1;
    ok(faulty_increment(streams[0], a, b, N));
    ok(cuda_double_enqueue(streams[0], touch_b, &writes, "a product"));
    expect_fault(NULL);
    ok(cuda_double_enqueue(streams[0], touch_b, NULL, "a product"));
    ok(cuda_double_enqueue(streams[1], touch_b, &writes, "another product"));
    expect_fault("product");
    cuda_double_clock *clock = cuda_double_clock_new();
    ok(cuda_double_enqueue(streams[0], touch_b, &writes, "a product"));
    ok(cuda_double_enqueue(streams[0], publish, clock, "a member"));
    ok(cudaStreamSynchronize(streams[0]));
    ok(cuda_double_enqueue(streams[1], learn, clock, "a member"));
    ok(cuda_double_enqueue(streams[1], touch_b, &writes, "another product"));
    expect_fault(NULL);
    cuda_double_clock_free(clock);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_order_by_event), TEST(test_order_by_host), TEST(test_copies),
        TEST(test_memory),         TEST(test_warp),          TEST(test_shared),
        TEST(test_later),          TEST(test_outside),       TEST(test_unwritten),
        TEST(test_unaligned),      TEST(test_missing_event), TEST(test_missing_barrier),
        TEST(test_blocks),         TEST(test_deadlock),      TEST(test_sticky),
        TEST(test_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
