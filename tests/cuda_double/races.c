/* races.c: holds every access of an operation against what was done to the same bytes before. For
 * each two bytes of a device there is kept which operation wrote them last and which have read them
 * since, and for threads, which thread of that operation. The hooks at the end are those that
 * compilers call with -fsanitize=thread. */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GRAIN = 2, N_CACHED = 8 };

/* Operations by id; 0: none. Of readers those that a write must wait for, two at most. */
typedef struct mark {
    uint32_t written, read[2];
} mark;

typedef struct thread_mark {
    uint32_t written, read; /* operations */
    place_of_thread writer, reader;
    bool atomic; /* the write was */
} thread_mark;

static struct {
    pthread_mutex_t mutex;
    mark *marks; /* [heap / GRAIN] */
    thread_mark *thread_marks;
    bool threads;
} all = {.mutex = PTHREAD_MUTEX_INITIALIZER};

__attribute__((constructor)) static void begin(void)
{
    all.threads = getenv("CUDA_DOUBLE_THREADS") != NULL;
}

static _Thread_local operation *now;
static _Thread_local struct {
    allocation at[N_CACHED];
    uint64_t generation;
    unsigned n;
} cache;

operation *operation_now(void)
{
    return now;
}

void operation_set(operation *op)
{
    now = op;
}

void cuda_double_check_threads(bool on)
{
    all.threads = on;
}

static void *reserve(size_t bytes)
{
    void *room = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        fprintf(stderr, "cuda double: no addresses for %zu bytes\n", bytes);
        abort();
    }
    return room;
}

static void open_marks(void)
{
    pthread_mutex_lock(&all.mutex);
    if (!all.marks)
        all.marks = reserve(heap_bytes() / GRAIN * sizeof *all.marks);
    if (all.threads && !all.thread_marks)
        all.thread_marks = reserve(heap_bytes() / GRAIN * sizeof *all.thread_marks);
    pthread_mutex_unlock(&all.mutex);
}

void check_forget(const void *from, size_t bytes)
{
    uint64_t first = heap_place(from) / GRAIN, n = bytes / GRAIN + 1;
    if (all.marks)
        memset(all.marks + first, 0, n * sizeof *all.marks);
    if (all.thread_marks)
        memset(all.thread_marks + first, 0, n * sizeof *all.thread_marks);
}

size_t check_shared_bytes(size_t shared_bytes)
{
    return all.threads ? (shared_bytes / GRAIN + 1) * sizeof(thread_mark) : 0;
}

/* ---- faults ---- */

static const char *who(const operation *op, char *room, size_t size)
{
    if (!op->lane) {
        snprintf(room, size, "%s", op->name);
        return room;
    }
    place_of_thread p;
    lane_place(op->lane, &p);
    snprintf(room, size, "%s, block %u, thread %u", op->name, p.block, p.thread);
    return room;
}

/* An access that must not happen: the kernel ends with it. */
static void forbid(operation *op, const char *what, const void *from, size_t bytes, bool write)
{
    char room[128];
    cuda_double_fault("%s %s %zu bytes at %p %s", who(op, room, sizeof room),
                      write ? "writes" : "reads", bytes, from, what);
    op->failed = true;
    if (op->lane)
        lane_stop(op->lane);
}

static void complain(operation *op, const char *what, const void *from, bool write)
{
    char room[128];
    if (op->raced)
        return;
    op->raced = true;
    cuda_double_fault("%s %s %p %s", who(op, room, sizeof room), write ? "writes" : "reads", from,
                      what);
}

/* ---- operations ---- */

static bool ordered(const operation *op, uint32_t id)
{
    return op->clock->at[id >> NUMBER_BITS] >= (id & ((1u << NUMBER_BITS) - 1));
}

static void check_read(operation *op, mark *m, const void *from)
{
    if (m->written == 0)
        complain(op, "which nobody wrote", from, false);
    else if (!ordered(op, m->written))
        complain(op, "which another stream writes: nothing puts them in order", from, false);
    if (m->read[0] == op->id || m->read[1] == op->id)
        return;
    m->read[ordered(op, m->read[0]) ? 0 : 1] = op->id;
}

static void check_write(operation *op, mark *m, const void *from)
{
    if (!ordered(op, m->written))
        complain(op, "which another stream writes, too: nothing puts them in order", from, true);
    if (!ordered(op, m->read[0]) || !ordered(op, m->read[1]))
        complain(op, "which another stream reads: nothing puts them in order", from, true);
    *m = (mark){.written = op->id};
}

/* ---- threads of a kernel ---- */

static bool meets(const place_of_thread *a, const place_of_thread *b)
{
    enum { WARP = 32 };
    if (a->block != b->block)
        return true;
    if (a->thread == b->thread || a->block_epoch != b->block_epoch)
        return false;
    return a->thread / WARP != b->thread / WARP || a->warp_epoch == b->warp_epoch;
}

static void check_thread(operation *op, thread_mark *m, const void *from, bool write, bool atomic)
{
    place_of_thread here;
    lane_place(op->lane, &here);
    if (m->written == op->id && meets(&m->writer, &here) && !(atomic && m->atomic))
        complain(op, "which another thread writes: no barrier puts them in order", from, write);
    if (write && m->read == op->id && meets(&m->reader, &here) && !(atomic && m->atomic))
        complain(op, "which another thread reads: no barrier puts them in order", from, write);
    if (write)
        *m = (thread_mark){.written = op->id, .writer = here, .atomic = atomic};
    if (!write || atomic) {
        m->read = op->id;
        m->reader = here;
    }
}

/* ---- accesses ---- */

static const allocation *find(const void *from, size_t bytes)
{
    const char *at = from;
    if (cache.generation != allocations_generation()) {
        cache.n = 0;
        cache.generation = allocations_generation();
    }
    unsigned n = cache.n < N_CACHED ? cache.n : N_CACHED;
    for (unsigned i = 0; i < n; i++)
        if (at >= cache.at[i].first && at + bytes <= cache.at[i].first + cache.at[i].bytes)
            return &cache.at[i];
    const allocation *a = allocation_at(from, bytes);
    if (!a)
        return NULL;
    allocation *kept = &cache.at[cache.n++ % N_CACHED];
    *kept = *a;
    return kept;
}

extern const char __executable_start, end; /* of the linker */

static void check_host(operation *op, const void *from, size_t bytes, bool write)
{
    const char *at = from;
    bool in_image = at >= &__executable_start && at < &end;
    if (op->lane && !(in_image && !write) && !is_pinned(from))
        forbid(op, "of the host's memory", from, bytes, write);
}

static void check_device(operation *op, const void *from, size_t bytes, bool write, bool atomic)
{
    const allocation *a = find(from, bytes);
    if (!a) {
        forbid(op, "outside of any allocation", from, bytes, write);
        return;
    }
    if (op->lane && !device_reaches(op->device, a->device)) {
        forbid(op, "of a device without peer access", from, bytes, write);
        return;
    }
    if (!all.marks || (all.threads && !all.thread_marks))
        open_marks();
    uint64_t first = heap_place(from) / GRAIN, last = (heap_place(from) + bytes - 1) / GRAIN;
    for (uint64_t i = first; i <= last; i++) {
        if (!write || atomic)
            check_read(op, &all.marks[i], from);
        if (write)
            check_write(op, &all.marks[i], from);
        if (all.threads && op->lane && bytes >= GRAIN)
            check_thread(op, &all.thread_marks[i], from, write, atomic);
    }
}

void check_access(const void *from, size_t bytes, bool write, bool atomic)
{
    size_t offset, limit;
    if ((uintptr_t)from - cuda_double_stack_now < STACK_BYTES)
        return;
    operation *op = now;
    if (!op || bytes == 0 || (op->lane && lane_owns(op->lane, from)))
        return;
    if (is_device_address(from)) {
        check_device(op, from, bytes, write, atomic);
    } else if (op->lane && lane_shares(op->lane, from, &offset, &limit)) {
        if (offset + bytes > limit)
            forbid(op, "behind the block's shared memory", from, bytes, write);
        thread_mark *marks = lane_marks(op->lane);
        for (size_t i = offset / GRAIN; marks && i <= (offset + bytes - 1) / GRAIN; i++)
            check_thread(op, &marks[i], from, write, atomic);
    } else {
        check_host(op, from, bytes, write);
    }
}

void cuda_double_aligned(const void *at, size_t bytes)
{
    operation *op = now;
    size_t offset, limit;
    if ((uintptr_t)at % bytes == 0 || !op || !op->lane)
        return;
    if (is_device_address(at) || lane_shares(op->lane, at, &offset, &limit))
        forbid(op, "which is not aligned to that", at, bytes, false);
}

void cuda_double_touch(const void *from, size_t bytes, bool write)
{
    check_access(from, bytes, write, false);
}

uint64_t cuda_double_atomic(void *at, size_t bytes, uint64_t operand,
                            uint64_t (*change)(uint64_t old, uint64_t operand))
{
    check_access(at, bytes, true, true);
    uint32_t *narrow = at;
    uint64_t *wide = at;
    pthread_mutex_lock(&all.mutex);
    uint64_t old = bytes == sizeof *narrow ? *narrow : *wide;
    if (bytes == sizeof *narrow)
        *narrow = (uint32_t)change(old, operand);
    else
        *wide = change(old, operand);
    pthread_mutex_unlock(&all.mutex);
    return old;
}

/* ---- the compiler's hooks ---- */

#define HOOKS(n)                                                                                   \
    void __tsan_read##n(void *at);                                                                 \
    void __tsan_write##n(void *at);                                                                \
    void __tsan_unaligned_read##n(void *at);                                                       \
    void __tsan_unaligned_write##n(void *at);                                                      \
    void __tsan_read##n(void *at)                                                                  \
    {                                                                                              \
        cuda_double_aligned(at, n);                                                                \
        check_access(at, n, false, false);                                                         \
    }                                                                                              \
    void __tsan_write##n(void *at)                                                                 \
    {                                                                                              \
        cuda_double_aligned(at, n);                                                                \
        check_access(at, n, true, false);                                                          \
    }                                                                                              \
    void __tsan_unaligned_read##n(void *at)                                                        \
    {                                                                                              \
        check_access(at, n, false, false);                                                         \
    }                                                                                              \
    void __tsan_unaligned_write##n(void *at)                                                       \
    {                                                                                              \
        check_access(at, n, true, false);                                                          \
    }

HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_init(void);
void __tsan_func_entry(void *caller);
void __tsan_func_exit(void);
void __tsan_read_range(void *at, size_t bytes);
void __tsan_write_range(void *at, size_t bytes);

void __tsan_init(void)
{
}

void __tsan_func_entry(void *caller)
{
    (void)caller;
}

void __tsan_func_exit(void)
{
}

void __tsan_read_range(void *at, size_t bytes)
{
    check_access(at, bytes, false, false);
}

void __tsan_write_range(void *at, size_t bytes)
{
    check_access(at, bytes, true, false);
}
