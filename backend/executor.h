/* executor.h: carries out the programs of ranks. On devices that compute when they are told to
 * there is a thread per stream in use, and one that issues ops in program order, as a real rank's
 * host thread does; on devices whose work is queued there is that one alone. What an op does is the
 * device's business, what moves between ranks the transport's. Private to backend/. */
#ifndef TDM_EXECUTOR_H
#define TDM_EXECUTOR_H

#include "../core/layout.h"
#include "../core/trace.h"

#include <time.h>

enum { TDM_EXEC_MAX_REFS = 16 };

/* Time within a step, in seconds of the plan: real time since the origin over the pace. */
typedef struct tdm_exec_clock {
    struct timespec origin;
    double pace;
} tdm_exec_clock;

double tdm_exec_now(const tdm_exec_clock *clock);
void tdm_exec_sleep_until(const tdm_exec_clock *clock, double time_s);

typedef struct tdm_exec_tensor {
    void *data;
    uint64_t bytes;
} tdm_exec_tensor;

/* An op that is carried out. */
typedef struct tdm_exec_op {
    const tdm_exec_clock *clock;
    uint32_t rank, step;
    const tdm_instance *instance;
    double ready_s; /* when all it waits for was done, and it was issued */
    double done_s;  /* when it counts as done for those who wait for it: set by the device */
    void *stream;   /* queued: the device's handle of the stream that it goes on */
    bool rehearses; /* queued: what it computes is thrown away */
    tdm_exec_tensor tensors[TDM_EXEC_MAX_REFS]; /* of its refs */
} tdm_exec_op;

/* A stretch of numbers that a communication op moves. The shard of member i is the i-th run of
 * ceil(count / n) numbers of the whole, unless the transfer says how long the runs are. */
typedef struct tdm_exec_segment {
    const void *in; /* what this member gives: the whole, or its shard of an all-gather */
    void *out;      /* where it wants the result: the whole, or its shard of a reduce-scatter */
    uint64_t count; /* of the whole */
} tdm_exec_segment;

/* What a communication op moves on one rank. Every member has the same segments. All-to-all has
 * one, with rows of `row` numbers: sent[src * n + dst] of them, in order of the peers. */
typedef struct tdm_exec_transfer {
    const tdm_exec_segment *segments;
    uint32_t n_segments;
    tdm_dtype dtype;        /* of all numbers; threads and processes move fp32 alone */
    bool largest;           /* all-reduce: the largest instead of the sum */
    const uint64_t *shares; /* [n] length of every member's run in the one segment; NULL: even */
    const uint32_t *sent;
    bool back; /* all-to-all: along the transpose of `sent` */
    uint64_t row;
    tdm_exec_segment one; /* room for a single segment */
} tdm_exec_transfer;

/* Numbers [from, to) of a whole. */
typedef struct tdm_exec_range {
    uint64_t from, to;
} tdm_exec_range;

static inline tdm_exec_range tdm_exec_shard(const tdm_exec_transfer *transfer, uint32_t segment,
                                            uint32_t n, uint32_t member)
{
    uint64_t count = transfer->segments[segment].count, run = tdm_ceil_div(count, n),
             from = member * run, to = from + run;
    if (!transfer->shares)
        return (tdm_exec_range){from < count ? from : count, to < count ? to : count};
    from = 0;
    for (uint32_t i = 0; i < member; i++)
        from += transfer->shares[i];
    return (tdm_exec_range){from, from + transfer->shares[member]};
}

/* A device whose work is queued: an op is put on a stream of its rank, and carried out later. But
 * for `reached`, functions are called by the thread that issues for the rank. */
typedef struct tdm_exec_queue {
    void *(*stream)(void *self, uint32_t rank, tdm_stream stream);
    /* What is put on the stream from now on waits for the end of an op issued before. */
    tdm_code (*await)(void *self, uint32_t rank, tdm_stream stream, uint32_t op, tdm_error *err);
    /* The time at which the stream comes here is the op's start, or its end. */
    tdm_code (*mark)(void *self, uint32_t rank, tdm_stream stream, uint32_t op, bool end,
                     tdm_error *err);
    /* Whether the stream has come to a mark that was put in this step. From any thread. */
    bool (*reached)(void *self, uint32_t rank, uint32_t op, bool end);
    /* Nothing runs: gets ready, and ties the rank's device time to this machine's clock. */
    tdm_code (*begin_step)(void *self, uint32_t rank, uint32_t step, tdm_error *err);
    /* Whether all that was issued has ended. */
    tdm_code (*poll)(void *self, uint32_t rank, bool *done, tdm_error *err);
    /* All has ended: the marks of all ops as times of the step, and what it computed. */
    tdm_code (*end_step)(void *self, uint32_t rank, uint32_t step, const tdm_exec_clock *clock,
                         tdm_span *spans, tdm_error *err);
    /* Memory of the rank's device, aligned, with unknown contents. */
    tdm_code (*allocate)(void *self, uint32_t rank, uint64_t bytes, void **data, tdm_error *err);
    void (*release)(void *self, uint32_t rank, void *data);
} tdm_exec_queue;

typedef struct tdm_exec_device {
    const char *name;
    void *self;
    bool has_memory;             /* works on tensors */
    const tdm_exec_queue *queue; /* NULL: carries an op out when it is told to */
    /* Once for every rank before the first step, and once more after a rehearsal, with its weights,
     * gradients and optimizer state in the layout's order, each tensor aligned (NULL without
     * memory). */
    tdm_code (*begin)(void *self, uint32_t rank, void *statics, tdm_error *err);
    /* Carries out an op that is no communication, and sets done_s; or puts it on its stream. */
    tdm_code (*compute)(void *self, tdm_exec_op *op, tdm_error *err);
    /* What the communication op moves; NULL: devices without memory. */
    tdm_code (*transfer)(void *self, const tdm_exec_op *op, tdm_exec_transfer *transfer,
                         tdm_error *err);
    /* All members have come, the last was ready at latest_s, and the data has moved: sets done_s.
     */
    void (*moved)(void *self, tdm_exec_op *op, double latest_s);
} tdm_exec_device;

typedef struct tdm_exec_transport {
    const char *name;
    void *self;
    /* Waits for all members of the op's communicator, moves the data (transfer NULL: none), and
     * says when the last member was ready. False when it was stopped, or failed with a message. */
    bool (*carry)(void *self, const tdm_exec_op *op, uint32_t user,
                  const tdm_exec_transfer *transfer, double *latest_s, tdm_error *err);
    /* For devices whose work is queued, instead: puts the transfer on the op's stream. *issued is
     * false when it has to wait until other members have come: then it is to be offered again. */
    tdm_code (*issue)(void *self, const tdm_exec_op *op, uint32_t user,
                      const tdm_exec_transfer *transfer, bool *issued, tdm_error *err);
    bool together; /* an op is issued for all members at once: one thread issues for all ranks */
    /* Says of an op that has begun and does not end who is missing. */
    void (*stuck)(void *self, const tdm_exec_op *op, uint32_t user, double waited_s,
                  tdm_error *err);
    /* What failed by itself since; from a thread of its own. NULL: nothing can. */
    tdm_code (*check)(void *self, tdm_error *err);
    /* Wakes all that wait; they give up. */
    void (*stop)(void *self);
    /* When the step begins that all threads are ready for, on this machine's monotonic clock: a
     * moment that all processes agree on. NULL: at once. */
    tdm_code (*begin_step)(void *self, struct timespec *origin, tdm_error *err);
} tdm_exec_transport;

/* Sum, or the largest, of n stretches of `count` numbers, in their order, into n_out others, which
 * may be the same ones. */
void tdm_exec_reduce(const float *const *in, uint32_t n, uint64_t count, bool largest,
                     float *const *out, uint32_t n_out);

/* Ranks as threads of this process. */
tdm_code tdm_threads_open(tdm_arena *arena, const tdm_plan *plan, const tdm_program *programs,
                          tdm_exec_transport *transport, tdm_error *err);
void tdm_threads_close(tdm_exec_transport *transport);

typedef enum tdm_exec_placement {
    TDM_EXEC_ARENA,   /* one allocation per rank, of the planned size, with planned addresses */
    TDM_EXEC_CHECKED, /* the same with guards, poison where nothing lives, and a count */
    TDM_EXEC_APART    /* an allocation of its own for every tensor, and a count */
} tdm_exec_placement;

typedef struct tdm_exec_job {
    const tdm_plan *plan;
    uint32_t first_rank, n_ranks; /* those carried out here; n_ranks 0: all */
    const tdm_program *programs;  /* [n_roles] */
    const tdm_layout *layouts;    /* [world] with offsets; NULL for devices without memory */
    const tdm_exec_device *device;
    const tdm_exec_transport *transport;
    tdm_exec_placement placement;
    uint32_t n_steps;
    double pace;
    double launch_s;   /* of issuing one op, in plan time; 0: as fast as it goes */
    double deadline_s; /* queued: an op that runs longer has failed; 0: none does */
    bool rehearse;     /* queued: first a step without communication, for what loads on first use */
} tdm_exec_job;

typedef struct tdm_exec_count {
    uint64_t live_peak_bytes; /* in program order, static tensors included */
    uint64_t arena_bytes;     /* highest byte used; 0 where tensors lie apart */
} tdm_exec_count;

/* Runs all steps. traces [n_steps] get spans of their own, of all ranks, and are filled for those
 * carried out here. counts [world] may be NULL; they are filled, for the same ranks, unless the
 * placement is ARENA. */
tdm_code tdm_execute(tdm_arena *arena, const tdm_exec_job *job, tdm_trace *traces,
                     tdm_exec_count *counts, tdm_error *err);

/* ---- memory of one rank: executor_memory.c ---- */

typedef struct tdm_exec_memory tdm_exec_memory;

/* Fails when memory is out. */
tdm_code tdm_exec_memory_open(tdm_arena *arena, const tdm_exec_job *job, uint32_t rank,
                              tdm_exec_memory **memory, tdm_error *err);
void tdm_exec_memory_close(tdm_exec_memory *memory);
void *tdm_exec_memory_statics(tdm_exec_memory *memory);
/* Before an op: its tensors are found, those born in it get their bytes. After it: those that die
 * in it give them back. Fail when a check finds a fault. */
tdm_code tdm_exec_memory_enter(tdm_exec_memory *memory, tdm_exec_op *op, tdm_error *err);
tdm_code tdm_exec_memory_leave(tdm_exec_memory *memory, const tdm_exec_op *op, tdm_error *err);
/* After a step, with no op running: nothing lives, nothing was written where nothing lives. Counts
 * what `program` used. */
tdm_code tdm_exec_memory_settle(tdm_exec_memory *memory, const tdm_program *program,
                                tdm_exec_count *count, tdm_error *err);

#endif
