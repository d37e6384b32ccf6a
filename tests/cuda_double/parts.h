/* parts.h: what the files of the double share. */
#ifndef CUDA_DOUBLE_PARTS_H
#define CUDA_DOUBLE_PARTS_H

#include "double.h"
#include "kernel.h"

#include <pthread.h>

enum { MAX_DEVICES = 16, MAX_SLOTS = 512 };

/* ---- clocks: clocks.c ----
 * A slot for each stream; of an operation's clock, element i is the newest operation of slot i that
 * is certain to have ended before it began. */

typedef struct vector_clock {
    uint32_t at[MAX_SLOTS];
} vector_clock;

/* Guards clocks, slots and faults. */
extern pthread_mutex_t cuda_double_lock;

void clock_join(vector_clock *clock, const vector_clock *other);
/* A slot for a new stream, and the number that its operations go on from. */
uint32_t slot_take(uint32_t *number);
void slot_give(uint32_t slot, uint32_t number);
/* What the host has waited for. */
void host_learns(const vector_clock *clock);
void host_knows(vector_clock *clock);

/* ---- operations ---- */

/* The operation that this thread of the system carries out; NULL: none. */
typedef struct operation {
    const char *name;
    uint32_t id; /* slot << 23 | number */
    int device;  /* -1: any */
    vector_clock *clock;
    struct lane *lane; /* the thread of a kernel that runs */
    bool failed, raced;
    char room[64]; /* for a name */
} operation;

enum { NUMBER_BITS = 23 };

operation *operation_now(void);
void operation_set(operation *op);

/* ---- memory: memory.c ---- */

typedef struct allocation {
    struct allocation *next;
    char *first;
    size_t bytes;
    int device;
} allocation;

/* The device's allocation that holds the bytes; NULL: none. */
const allocation *allocation_at(const void *from, size_t bytes);
bool is_device_address(const void *address);
/* Place of an address of the device's heap, of all devices. */
uint64_t heap_place(const void *address);
uint64_t heap_bytes(void);
bool is_pinned(const void *address);
int device_now(void);
bool device_reaches(int device, int peer);
/* Kept for cudaGetLastError. */
void error_note(cudaError_t error);
/* Changes whenever an allocation ends. */
uint64_t allocations_generation(void);

/* ---- checks: races.c ---- */

void check_access(const void *from, size_t bytes, bool write, bool atomic);
void check_forget(const void *from, size_t bytes); /* of an allocation that ends */
/* Room, zero for every block, to keep what threads did to its shared memory; 0: not kept. */
size_t check_shared_bytes(size_t shared_bytes);

bool fault_pending(void);

/* ---- blocks: fibers.c ---- */

enum { MOST_THREADS = 1024, MOST_SHARED = 227 * 1024, STACK_BYTES = 128 * 1024 };

/* The stack of the fiber that runs, for a first look at an address. */
extern _Thread_local uintptr_t cuda_double_stack_now;

/* Who accessed something in a kernel. */
typedef struct place_of_thread {
    uint32_t block, thread, block_epoch, warp_epoch;
} place_of_thread;

typedef struct lane lane;
void lane_place(const lane *l, place_of_thread *place);
/* Whether the address is the thread's own (its stack, its arguments), and of its block's shared
 * memory. */
bool lane_owns(const lane *l, const void *address);
bool lane_shares(const lane *l, const void *address, size_t *offset, size_t *bytes);
void *lane_marks(const lane *l); /* check_shared_bytes; NULL: none */
/* Ends the thread that runs. */
_Noreturn void lane_stop(lane *l);

void run_kernel(operation *op, const cuda_double_kernel *kernel);
/* Bytes that a launch of the function may ask for. */
size_t shared_limit(const void *function);

#endif
