/* double.h: a double of CUDA's runtime for tests: the same .cu files, compiled by a C++ compiler,
 * run on the CPU. Only tests link it.
 *
 * Streams are queues with a thread each, and what is enqueued runs there, later, in order; an event
 * is the only order between two streams. A block's threads are fibers of one thread of the system,
 * which meet at barriers and exchange numbers in warps. Instructions of tensor cores have plain
 * bodies (include/primitives.cuh), after the PTX manual.
 *
 * Kernels are compiled with the compiler's hooks for memory accesses (-fsanitize=thread), which end
 * here and not in a sanitizer. They find, on any run and whatever the timing:
 *   - accesses outside of the device's allocations or of the block's shared memory, and of the
 *     host's memory from a kernel;
 *   - reads of what nobody wrote;
 *   - two operations on the same bytes, one of them a write, that no event, stream or
 *     synchronisation puts in order;
 *   - inside a kernel, the same between threads that no barrier puts in order (where switched on).
 * A block's threads run in an order that a seed chooses, and shared memory starts as NaN.
 *
 * What is found is a fault: printed on stderr, kept for cuda_double_faults, and an error of every
 * later synchronisation, as a failed kernel would be. */
#ifndef CUDA_DOUBLE_H
#define CUDA_DOUBLE_H

#include "include/cuda_runtime_api.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- for tests ---- */

/* Before the first call of the runtime: so many devices (default 1, at most 16; 0: as without a
 * GPU), with so much memory each (default and at most 4 GiB). */
void cuda_double_devices(int count, size_t memory_bytes);
/* Order of a block's threads: 0 ascending, 1 descending, otherwise shuffled by it. Default: that of
 * the environment's CUDA_DOUBLE_ORDER, or 0. */
void cuda_double_order(uint64_t seed);
/* Looks for races between the threads of a kernel, too; slower. Default: whether there is
 * CUDA_DOUBLE_THREADS in the environment. */
void cuda_double_check_threads(bool on);
/* Faults since the last call, whose text goes to text (may be NULL); forgets them, and the error.
 */
unsigned cuda_double_faults(char *text, size_t size);
/* Kernels run since the start. */
uint64_t cuda_double_n_kernels(void);

/* ---- for doubles of other libraries ---- */

/* Enqueues fn(data) as a kernel would be. Its accesses to device memory count where it is compiled
 * with the hooks, or says so by cuda_double_touch. */
cudaError_t cuda_double_enqueue(cudaStream_t stream, void (*fn)(void *data), void *data,
                                const char *name);
/* Inside of an operation: it reads or writes these bytes. */
void cuda_double_touch(const void *from, size_t bytes, bool write);
/* Inside of an operation: what one of its streams knows, others learn: between publish and learn of
 * the same clock the order holds. For collectives, whose members wait for each other. */
typedef struct cuda_double_clock cuda_double_clock;
cuda_double_clock *cuda_double_clock_new(void);
void cuda_double_clock_free(cuda_double_clock *clock);
void cuda_double_publish(cuda_double_clock *clock);
void cuda_double_learn(const cuda_double_clock *clock);
/* Reports a fault of one's own, printf style. */
void cuda_double_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

#ifdef __cplusplus
}
#endif

#endif
