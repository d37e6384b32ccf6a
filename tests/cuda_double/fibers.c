/* fibers.c: a kernel's blocks, one after the other; the threads of a block are fibers of this
 * thread of the system. They run until they end, or wait at a barrier or for lanes of their warp.
 */
#include "parts.h"
#include "switch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { WARP = 32, GUARD_BYTES = 4096, N_EXECUTORS = 4, POISON = 0xFF };
enum { MOST_LATER = 256 };

typedef enum lane_state { RUNS, AT_BARRIER, AT_WARP, ENDED } lane_state;

/* A copy that arrives later. */
typedef struct later {
    void *to;
    const void *from;
    int there, group;
} later;

typedef struct executor executor;

struct lane {
    cuda_double_place place;
    executor *executor;
    lane_state state;
    void *stack_pointer, *argument;
    char *stack;
    void (*resolve)(void *const *arguments, uint32_t mask);
    uint32_t index, mask, warp_epoch;
    later later[MOST_LATER]; /* in order; those of a group one after the other */
    int n_later, group;
};

struct executor {
    pthread_mutex_t mutex;
    lane *lanes; /* [MOST_THREADS] */
    unsigned char *shared;
    void *marks; /* of who accessed it */
    size_t marks_bytes;
    bool marked;
    void *stack_pointer; /* of who runs the fibers */
    const cuda_double_kernel *kernel;
    operation *op;
    uint32_t n_lanes, n_alive, block_epoch, block_index;
    uint32_t order[MOST_THREADS];
};

static executor executors[N_EXECUTORS];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t order_seed;
static bool order_set;
static _Thread_local lane *current;
_Thread_local uintptr_t cuda_double_stack_now;

void cuda_double_order(uint64_t seed)
{
    order_seed = seed;
    order_set = true;
}

/* ---- room ---- */

static void prepare(void)
{
    const char *seed = getenv("CUDA_DOUBLE_ORDER");
    if (seed && !order_set)
        cuda_double_order(strtoull(seed, NULL, 10));
    for (int i = 0; i < N_EXECUTORS; i++) {
        executor *e = &executors[i];
        pthread_mutex_init(&e->mutex, NULL);
        e->lanes = calloc(MOST_THREADS, sizeof *e->lanes);
        e->shared = malloc(MOST_SHARED);
        char *stacks = mmap(NULL, (size_t)MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (!e->lanes || !e->shared || stacks == MAP_FAILED) {
            fprintf(stderr, "cuda double: no memory for a block's threads\n");
            abort();
        }
        for (uint32_t l = 0; l < MOST_THREADS; l++) {
            e->lanes[l].stack = stacks + (size_t)l * STACK_BYTES;
            e->lanes[l].index = l;
            e->lanes[l].executor = e;
            mprotect(e->lanes[l].stack, GUARD_BYTES, PROT_NONE);
        }
    }
}

static executor *take_executor(void)
{
    pthread_once(&once, prepare);
    for (int i = 0; i < N_EXECUTORS; i++)
        if (pthread_mutex_trylock(&executors[i].mutex) == 0)
            return &executors[i];
    pthread_mutex_lock(&executors[0].mutex);
    return &executors[0];
}

/* ---- fibers ---- */

static void switch_to(lane *l)
{
    executor *e = l->executor;
    current = l;
    e->op->lane = l;
    cuda_double_stack_now = (uintptr_t)l->stack;
    cuda_double_switch(&e->stack_pointer, l->stack_pointer);
    e->op->lane = NULL;
    current = NULL;
}

static void switch_back(lane *l)
{
    cuda_double_switch(&l->stack_pointer, l->executor->stack_pointer);
}

static void body(void *argument)
{
    lane *l = argument;
    l->executor->kernel->thread(l->executor->kernel->closure);
    lane_stop(l);
}

void lane_stop(lane *l)
{
    l->state = ENDED;
    for (;;)
        switch_back(l);
}

void cuda_double_barrier(void)
{
    lane *l = current;
    l->state = AT_BARRIER;
    switch_back(l);
}

void cuda_double_warp(uint32_t mask, void *argument,
                      void (*resolve)(void *const *arguments, uint32_t mask))
{
    lane *l = current;
    l->state = AT_WARP;
    l->mask = mask;
    l->argument = argument;
    l->resolve = resolve;
    if (!(mask >> l->index % WARP & 1))
        cuda_double_fault("thread %u is not in its own mask %08x", l->index, mask);
    switch_back(l);
}

const cuda_double_place *cuda_double_here(void)
{
    return &current->place;
}

void lane_place(const lane *l, place_of_thread *place)
{
    const executor *e = l->executor;
    *place = (place_of_thread){e->block_index, l->index, e->block_epoch, l->warp_epoch};
}

bool lane_owns(const lane *l, const void *address)
{
    const char *at = address, *place = (const char *)&l->place;
    const cuda_double_kernel *k = l->executor->kernel;
    const char *closure = k->closure;
    return (at >= place && at < place + sizeof l->place) ||
           (at >= closure && at < closure + k->closure_bytes);
}

bool lane_shares(const lane *l, const void *address, size_t *offset, size_t *bytes)
{
    const unsigned char *at = address, *shared = l->executor->shared;
    *bytes = l->executor->kernel->shared_bytes;
    *offset = (size_t)(at - shared);
    return at >= shared && at < shared + MOST_SHARED;
}

void *lane_marks(const lane *l)
{
    return l->executor->marked ? l->executor->marks : NULL;
}

/* ---- copies that arrive later ---- */

void cuda_double_copy_later(void *to, const void *from, int there)
{
    lane *l = current;
    if (l->n_later == MOST_LATER)
        cuda_double_fault("more than %d copies of a thread on their way", MOST_LATER);
    else
        l->later[l->n_later++] = (later){to, from, there, l->group};
}

void cuda_double_commit(void)
{
    current->group++;
}

void cuda_double_arrive(int newest_that_may_miss)
{
    enum { BYTES = 16 };
    lane *l = current;
    int n = 0;
    for (int i = 0; i < l->n_later; i++) {
        later c = l->later[i];
        if (c.group >= l->group - newest_that_may_miss) {
            l->later[n++] = c;
            continue;
        }
        check_access(c.to, BYTES, true, false);
        if (c.there)
            check_access(c.from, BYTES, false, false);
        if (l->executor->op->failed)
            continue;
        if (c.there)
            memcpy(c.to, c.from, BYTES);
        else
            memset(c.to, 0, BYTES);
    }
    l->n_later = n;
}

/* ---- a block ---- */

static uint64_t scramble(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    return z ^ (z >> 27);
}

static void arrange(executor *e)
{
    for (uint32_t i = 0; i < e->n_lanes; i++)
        e->order[i] = order_seed == 1 ? e->n_lanes - 1 - i : i;
    for (uint32_t i = e->n_lanes - 1; order_seed > 1 && i > 0; i--) {
        uint32_t k = (uint32_t)(scramble(order_seed + i * 0x9E3779B97F4A7C15u + e->block_epoch) %
                                (i + 1)),
                 other = e->order[k];
        e->order[k] = e->order[i];
        e->order[i] = other;
    }
}

/* Lets go of the lanes of a warp that have all met; false: not all have. */
static bool meet(executor *e, lane *l)
{
    uint32_t first = l->index / WARP * WARP;
    void *arguments[WARP] = {0};
    for (uint32_t i = 0; i < WARP; i++) {
        if (!(l->mask >> i & 1))
            continue;
        const lane *other = &e->lanes[first + i];
        if (first + i >= e->n_lanes || other->state != AT_WARP || other->mask != l->mask ||
            other->resolve != l->resolve)
            return false;
        arguments[i] = other->argument;
    }
    if (l->resolve)
        l->resolve(arguments, l->mask);
    for (uint32_t i = 0; i < WARP; i++)
        if (l->mask >> i & 1) {
            e->lanes[first + i].state = RUNS;
            e->lanes[first + i].warp_epoch++;
        }
    return true;
}

/* One turn of all threads; false when none could go on. */
static bool turn(executor *e)
{
    bool went = false;
    uint32_t n_waiting = 0;
    for (uint32_t i = 0; i < e->n_lanes && !e->op->failed; i++) {
        lane *l = &e->lanes[e->order[i]];
        if (l->state == AT_WARP)
            went |= meet(e, l);
        if (l->state == RUNS) {
            switch_to(l);
            went = true;
            e->n_alive -= l->state == ENDED;
        }
        n_waiting += l->state == AT_BARRIER;
    }
    if (e->n_alive > 0 && n_waiting == e->n_alive) {
        e->block_epoch++;
        for (uint32_t i = 0; i < e->n_lanes; i++)
            if (e->lanes[i].state == AT_BARRIER)
                e->lanes[i].state = RUNS;
        arrange(e);
        went = true;
    }
    return went;
}

static void report_deadlock(const executor *e)
{
    uint32_t n_barrier = 0, n_warp = 0, first = UINT32_MAX;
    for (uint32_t i = 0; i < e->n_lanes; i++) {
        n_barrier += e->lanes[i].state == AT_BARRIER;
        n_warp += e->lanes[i].state == AT_WARP;
        if (first == UINT32_MAX && e->lanes[i].state == AT_WARP)
            first = i;
    }
    cuda_double_fault("%s: block %u cannot go on: of %u threads %u wait at a barrier, %u for lanes "
                      "of their warp (the first is thread %u, mask %08x)",
                      e->op->name, e->block_index, e->n_lanes, n_barrier, n_warp, first,
                      first == UINT32_MAX ? 0 : e->lanes[first].mask);
}

static void begin_lane(executor *e, uint32_t i, cuda_double_vector block)
{
    const cuda_double_kernel *k = e->kernel;
    lane *l = &e->lanes[i];
    l->place = (cuda_double_place){
        .thread = {i % k->block.x, i / k->block.x % k->block.y, i / k->block.x / k->block.y},
        .block = block,
        .block_size = k->block,
        .grid_size = k->grid,
        .shared = e->shared};
    l->state = RUNS;
    l->warp_epoch = 0;
    l->n_later = l->group = 0;
    l->stack_pointer = cuda_double_stack(l->stack, STACK_BYTES, body, l);
}

static void run_block(executor *e, cuda_double_vector block)
{
    const cuda_double_kernel *k = e->kernel;
    e->n_lanes = e->n_alive = k->block.x * k->block.y * k->block.z;
    e->block_epoch = 0;
    e->block_index = (block.z * k->grid.y + block.y) * k->grid.x + block.x;
    memset(e->shared, POISON, k->shared_bytes);
    size_t marks_bytes = check_shared_bytes(k->shared_bytes);
    if (marks_bytes > e->marks_bytes) {
        free(e->marks);
        e->marks = malloc(marks_bytes);
        e->marks_bytes = marks_bytes;
    }
    e->marked = marks_bytes > 0;
    if (e->marked)
        memset(e->marks, 0, marks_bytes);
    for (uint32_t i = 0; i < e->n_lanes; i++)
        begin_lane(e, i, block);
    arrange(e);
    while (e->n_alive > 0 && !e->op->failed)
        if (!turn(e)) {
            report_deadlock(e);
            e->op->failed = true;
        }
}

void run_kernel(operation *op, const cuda_double_kernel *kernel)
{
    executor *e = take_executor();
    e->kernel = kernel;
    e->op = op;
    uint32_t n = kernel->grid.x * kernel->grid.y * kernel->grid.z;
    for (uint32_t i = 0; i < n && !op->failed; i++) {
        uint32_t at = order_seed == 1 ? n - 1 - i : i;
        run_block(e, (cuda_double_vector){at % kernel->grid.x, at / kernel->grid.x % kernel->grid.y,
                                          at / kernel->grid.x / kernel->grid.y});
    }
    pthread_mutex_unlock(&e->mutex);
}

/* ---- shared memory beyond 48 KiB ---- */

enum { MOST_FUNCTIONS = 256, USUAL_SHARED = 48 * 1024 };

static struct {
    pthread_mutex_t mutex;
    const void *function[MOST_FUNCTIONS];
    size_t bytes[MOST_FUNCTIONS];
    int n;
} limits = {.mutex = PTHREAD_MUTEX_INITIALIZER};

cudaError_t cudaFuncSetAttribute(const void *func, enum cudaFuncAttribute attr, int value)
{
    if (attr != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > MOST_SHARED)
        return cudaErrorInvalidValue;
    pthread_mutex_lock(&limits.mutex);
    int i = 0;
    while (i < limits.n && limits.function[i] != func)
        i++;
    cudaError_t error = i < MOST_FUNCTIONS ? cudaSuccess : cudaErrorMemoryAllocation;
    if (error == cudaSuccess) {
        limits.function[i] = func;
        limits.bytes[i] = (size_t)value;
        limits.n = i == limits.n ? i + 1 : limits.n;
    }
    pthread_mutex_unlock(&limits.mutex);
    return error;
}

size_t shared_limit(const void *function)
{
    size_t bytes = USUAL_SHARED;
    pthread_mutex_lock(&limits.mutex);
    for (int i = 0; i < limits.n; i++)
        if (limits.function[i] == function)
            bytes = limits.bytes[i];
    pthread_mutex_unlock(&limits.mutex);
    return bytes;
}
